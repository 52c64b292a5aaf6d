"""A peer that was written from docs/PROTOCOL.md alone takes part in a federation of daemons, and nobody can tell the difference."""
import csv

import numpy as np
import pytest

from federation import ROOT, synthetic
from peer import KIND, Cut, Peer

MOTOR = ROOT / "tests" / "data" / "motor"


def motor(name):
    with open(MOTOR / f"{name}.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return [r["idx"] for r in rows], {k: np.array([float(r[k]) for r in rows]) for k in rows[0] if k != "idx"}


def python_peer(f, name="org3", ids=None):
    """In place of that assistor's daemon."""
    d = f[name]
    columns = np.genfromtxt(d.home / "data.csv", delimiter=",", skip_header=1)[:, 0 if ids is None else 1:]
    return Peer(f"tcp://127.0.0.1:{f.port}", f.sponsor.public, d.public, d.secret, columns, ids)


def consent(f):
    for a in f.assistors:
        a.sections["policy"] = {"allow_reconstruction": "yes"}


def start_with(f, peer, name="org3"):
    for d in f.daemons.values():
        if d.name != name:
            d.start()
    f.ready(name)
    peer.until(lambda: all(p["up"] for p in f.sponsor.status()["link"]["peers"]))


def train_with(f, peer, task="main", seconds=40):
    f.begin(task)
    peer.until(lambda: f.state() in ("done", "failed"), seconds)
    assert f.state() == "done", f.logs() + str(peer.errors)


def heads(f, name, dirs):
    """The last head of each run."""
    return {e["run"]: e["head"] for e in f.sponsor.events() if e["peer"] == name and e["run"] and e["head"] and e["dir"] in dirs}


def predicted(f, peer, rows):
    """The sponsor's control socket in a thread, since the peer must answer meanwhile."""
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(f.sponsor.ask, {"cmd": "predict", "rows": rows})
        peer.until(answer.done)
    return np.array(answer.result()["scores"])


def weights(f):
    return np.array([np.frombuffer(bytes.fromhex(w)) for _, _, _, w in f.rounds()])


def compare(make, slices, y, ids=None, link=(), cuts=None, **task):
    """An all-C federation and one with the peer: the same run."""
    rows = list(range(0, len(y), 7))
    one = make(slices, y, ids, **task)
    one.set("link", **dict(link))
    consent(one)
    one.start().train()
    expected = np.array(one.sponsor.ask({"cmd": "predict", "rows": rows})["scores"])

    two = make(slices, y, ids, **task)
    two.set("link", **dict(link))
    consent(two)
    peer = python_peer(two, ids=ids)
    if cuts:
        peer.hook = cuts(peer)
    start_with(two, peer)
    train_with(two, peer)
    assert len(one.rounds()) == len(two.rounds()) == task["rounds"]
    assert [r[1] for r in two.rounds()] == pytest.approx([r[1] for r in one.rounds()], rel=1e-5)
    assert [r[2] for r in two.rounds()] == pytest.approx([r[2] for r in one.rounds()], rel=1e-4)
    assert np.abs(weights(two) - weights(one)).max() <= 1e-5
    assert predicted(two, peer, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert peer.complaints == [] and peer.errors == []
    own = {run.hex(): r.head.hex() for run, r in peer.runs.items()}
    assert heads(two, "org3", ("in", "out")) == own
    return one, two, peer


@pytest.mark.parametrize("dtype, predict", [("f32", "sum"), ("f64", "per-round")])
def test_motor(federation, dtype, predict):
    (ids, bench), (_, climate), (_, inverter) = (motor(n) for n in ("bench", "climate", "inverter"))
    y = bench.pop("motor_speed")
    _, _, peer = compare(federation, [bench, climate, inverter], y, ids, {"dtype": dtype}, rounds=10, validation=0.2,
                         patience=100, predict=predict)
    assert peer.received["settle"] == 10 and peer.dials == 1
