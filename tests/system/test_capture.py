"""Somebody on the path: keeps every byte of a run and finds nothing in it; changes bytes and is never believed."""
import os
import random
import struct

import numpy as np
import pytest

from federation import PORTS, gal, synthetic, wait_for
from relay import Relay

FULL = os.environ.get("GAL_FULL") == "1"
GREETING, HANDSHAKE = 64, 700  # bytes: flips before these may hit what nobody reads (padding)


def through_relays(federation, slices, y, flips=None, **options):
    f = federation(slices, y, **options)
    relays = []
    for i, a in enumerate(f.assistors):
        port = next(PORTS)
        relays.append(Relay(f.port, port, flips[i] if flips else (), seed=i))
        a.sections["sponsor sponsor"]["address"] = f"tcp://127.0.0.1:{port}"
    return f, relays


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_nothing_in_clear(federation, dtype, figures):
    """Residuals of round 1 are y − F⁰, and F⁰ is the mean of y: known here, so looked for."""
    rows = 1000
    slices, y = synthetic(rows, [2, 2, 2])
    ids = [f"patient {i:04d} ward {i % 7}" for i in range(rows)]
    f, relays = through_relays(federation, slices, y, ids=ids, rounds=5)
    f.set("link", dtype=dtype)
    f.start()
    f.train()
    wire = [bytes(b) for r in relays for c in r.connections for b in c.bytes if b]  # none: the sponsor was not there yet
    for r in relays:
        r.close()
    carried = sum(map(len, wire))
    assert carried > 2 * 2 * 5 * rows * (4 if dtype == "f32" else 8)  # both ways, two assistors
    residual = y - np.mean(y)
    some = random.Random(1).sample(range(rows), 50)
    own = [(struct.pack("<d", residual[i]), struct.pack("<f", residual[i]), ids[i].encode()) for i in some]
    assert not any(d in w for d, _, _ in own for w in wire)
    assert not any(i in w for _, _, i in own for w in wire)
    # four bytes may be met by chance (0.01 expected in so many bytes); all 50 would be there were they in clear
    assert sum(any(s in w for w in wire) for _, s, _ in own) <= 1
    assert not any(name in w for name in (b"patient", b"main", b"org2", b"gal-link", b"x1_0") for w in wire)
    # they are the residuals: the first objective is that of what remains of them
    assert f.rounds()[0][1] < np.mean(residual ** 2) * 0.5 + 1e-9
    assert all(w[:10] == b"\xff\0\0\0\0\0\0\0\x01\x7f" and w[12:17] == b"CURVE" for w in wire)
    figures(f"{dtype}: {carried} bytes of a run kept: 0 of 50 residuals, 0 of 50 ids")


def flips_for(n, seed):
    """(direction, offset): a quarter within the handshake, the rest wherever."""
    draw = random.Random(seed)
    return [(draw.randrange(2), draw.randrange(HANDSHAKE) if i % 4 == 0 else draw.randrange(HANDSHAKE, 30000)) for i in range(n)]


def test_changed_bytes_are_never_believed(federation, figures):
    """One in each connection. The run takes as long as it takes, and is the undisturbed one to the last bit."""
    n = 100 if FULL else 20  # for each of two assistors
    slices, y = synthetic(2000, [2, 2, 2])
    options = {"rounds": 6 * n, "patience": 10000, "rate": "fixed:0.05"}
    quiet = federation(slices, y, **options)
    quiet.set("link", dtype="f64", chunk=4096)
    quiet.start()
    quiet.train()
    expected = quiet.rounds()
    quiet.close()
    quiet.daemons.clear()
    f, relays = through_relays(federation, slices, y, [flips_for(n, 11), flips_for(n, 12)], **options)
    f.set("link", dtype="f64", chunk=4096, heartbeat=100)
    for d in f.daemons.values():
        d.start()
    wait_for("the control socket", lambda: f.sponsor.status().get("core"))
    f.begin()
    assert f.finish(300 if FULL else 100) == expected
    for r in relays:
        r.close()
    done = [c for r in relays for c in r.connections if c.flip]
    assert len(done) == 2 * n and not any(r.flips for r in relays), "the run ended before all was tried"
    reached = [c for c in done if c.flipped]
    late = [c for c in reached if c.flip[1] >= HANDSHAKE]
    assert len(reached) >= 0.8 * len(done) and len(late) >= n
    kept = [c.flip for c in late if c.cut or not c.ended]
    assert not kept, f"connections that lived on after a changed byte: {kept}"
    for d in f.daemons.values():
        assert d.status()["restarts"] == 0
        with d.database("worker") as db:
            assert db.execute("SELECT round FROM models ORDER BY rowid").fetchall() == [(i,) for i in range(1, 6 * n + 1)]
    for a in f.assistors:
        seen = gal("trace", f.sponsor.trace, a.trace, "--verify")
        assert seen.returncode == 0, seen.stdout + seen.stderr
    longest = max((c.ended - c.flipped for c in late), default=0)
    figures(f"{len(reached)} changed bytes in {len(done)} connections ({len(late)} in sessions): 0 believed; results equal; longest "
            f"until the connection was closed {longest:.2f} s")
