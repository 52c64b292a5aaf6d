"""Who is not in the configuration gets nothing, is logged in few words, and harms nobody; who is in it gets what is its own."""
import collections
import contextlib
import re
import socket
import time

import pytest

zmq = pytest.importorskip("zmq")

from zmq.utils.monitor import recv_monitor_message  # noqa: E402

from federation import gal, synthetic, wait_for  # noqa: E402
from independent_peer import Peer  # noqa: E402

UNKNOWN, FOREIGN = "its key", "did not speak ZeroMQ with CURVE"


@pytest.fixture
def context():
    c = zmq.Context()
    yield c
    c.destroy(linger=0)  # also what a failed test left open


@pytest.fixture
def run(federation):
    """A run that lasts some seconds, and what it gives undisturbed."""
    slices, y = synthetic(20000, [3, 3, 3])

    def make():
        f = federation(slices, y, rounds=400, patience=10000, rate="fixed:0.02")
        return f.start()
    return make


def poke(port, first, wait=1.0):
    """Sends bytes, and waits to be cut off: what came back."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 5) as s, contextlib.suppress(OSError):
        s.settimeout(wait)
        s.sendall(first)
        while part := s.recv(4096):
            got += part
    return got


def first_event(peer):
    assert peer.monitor.poll(10000), "neither let in nor refused"
    return recv_monitor_message(peer.monitor)["event"]


HTTP = b"GET / HTTP/1.1\r\nHost: sponsor\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n" + b"x" * 64
TLS = bytes.fromhex("16030100c4010000c00303") + bytes(range(32)) + bytes(160)
NULL = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)  # a ZMTP 3.0 greeting


def test_strangers_in_the_middle_of_a_run(run, context, figures):
    quiet = run()
    quiet.train()
    expected = quiet.rounds()
    quiet.close()
    quiet.daemons.clear()

    f = run()
    f.begin()
    f.reach(20)
    begun = time.monotonic()
    sent = collections.Counter()
    for kind, first in (("http", HTTP), ("tls", TLS), ("null", NULL)):
        for _ in range(5):
            got = poke(f.port, first)
            sent[FOREIGN] += 1
            assert len(got) <= 64 and b"HTTP" not in got and not got.startswith(b"\x16"), kind  # our greeting, and nothing after it
    public, secret = (k.decode() for k in zmq.curve_keypair())
    for _ in range(4):
        p = Peer(context, f"tcp://127.0.0.1:{f.port}", f.sponsor.public, public, secret)
        with contextlib.suppress(zmq.Again):
            p.socket.send(b"hello?", zmq.DONTWAIT)
        assert first_event(p) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        assert p.receive(0.05) is None
        sent[UNKNOWN] += 1
        p.close()
    null = context.socket(zmq.DEALER)
    null.linger, null.reconnect_ivl = 0, -1
    null.connect(f"tcp://127.0.0.1:{f.port}")
    with contextlib.suppress(zmq.Again):
        null.send(b"hello?", zmq.DONTWAIT)  # it may have been cut off by now
    sent[FOREIGN] += 1
    assert not null.poll(300)
    null.close()
    half = [socket.create_connection(("127.0.0.1", f.port)) for _ in range(20)]  # say nothing at all
    sent[FOREIGN] += len(half)
    stood = len(f.rounds())
    f.reach(min(stood + 5, len(expected)))
    assert f.finish() == expected
    assert f.sponsor.status()["restarts"] == 0
    assert f.sponsor.count("is gone") == 0  # nobody else was cut off
    assert public in f.sponsor.text()  # so that the operator can add it

    # one line per kind and 10 s: the first at once, the others counted in the next
    wait_for("silent ones to be cut off", lambda: all(closed(s) for s in half), 10)
    lines = {k: f.sponsor.count(k) for k in (UNKNOWN, FOREIGN)}
    spell = 1 + int((time.monotonic() - begun) // 10)
    assert all(1 <= n <= spell for n in lines.values()), (lines, f.sponsor.text())
    time.sleep(max(0, 10.5 - (time.monotonic() - begun)))
    for kind in (UNKNOWN, FOREIGN):
        if kind == FOREIGN:
            poke(f.port, HTTP)
        else:
            p = Peer(context, f"tcp://127.0.0.1:{f.port}", f.sponsor.public, public, secret)
            assert first_event(p) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            p.close()
        sent[kind] += 1

    def counted(kind):
        shown = [re.search(r"\(and (\d+) more like it before\)", l) for l in f.sponsor.lines() if kind in l]
        return sum(1 + (int(m[1]) if m else 0) for m in shown)
    for kind in (UNKNOWN, FOREIGN):
        with contextlib.suppress(AssertionError):
            wait_for("the count", lambda kind=kind: counted(kind) == sent[kind], 3)
        figures(f"strangers ({kind}): {sent[kind]} came, {f.sponsor.count(kind)} lines, {counted(kind)} counted")
        assert counted(kind) == sent[kind], f.sponsor.text()
        assert f.sponsor.count(kind) <= 3


def closed(s):
    s.setblocking(False)
    try:
        while s.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def connect(context, f, daemon, routing_id=None):
    return Peer(context, f"tcp://127.0.0.1:{f.port}", f.sponsor.public, daemon.public, daemon.secret, routing_id)


def messages_to(f, name):
    """How many messages the sponsor sent to it, by its trace (transfers once, greetings not at all)."""
    return collections.Counter(e["kind"].lower() for e in f.sponsor.events() if e["dir"] == "out" and e["peer"] == name)


def test_an_organization_that_claims_anothers_routing_id(federation, context):
    """org2 calls itself "org2"; org3, which has a key of its own, claims that id too. org2 keeps all that is its own."""
    slices, y = synthetic(3000, [2, 2, 2])
    f = federation(slices, y, rounds=3)
    f.sponsor.start()
    wait_for("the link", lambda: f.sponsor.status().get("link"))
    honest = connect(context, f, f["org2"], b"org2")
    honest.hello()
    assert honest.receive(5)[0] == "welcome"
    claims = connect(context, f, f["org3"], b"org2")
    claims.hello()
    claims.send("accept", bytes(16), deterministic=True)
    f.begin()
    honest.serve(5, lambda: honest.task is not None)
    honest.serve(0.5)
    assert honest.task and honest.task.task.name == "main"
    assert claims.receive(0.5) is None  # not one message, its own included: the id is taken
    claims.close()
    f["org3"].start()  # the owner of that key comes, well-behaved
    honest.serve(20, lambda: f.state() == "done")
    rounds = f.finish()
    assert len(rounds) == 3
    assert collections.Counter(honest.seen)["fit"] == 3
    result = gal("trace", f.sponsor.trace, f["org3"].trace, "--verify")
    assert result.returncode == 0, result.stderr
    honest.close()


def test_an_organization_that_was_first_with_anothers_name(federation, context):
    """org3 claims the routing id "org2" before org2's daemon comes, and sends in the other's name what it can."""
    slices, y = synthetic(3000, [2, 2, 2])
    f = federation(slices, y, rounds=3)
    f.sponsor.start()
    wait_for("the link", lambda: f.sponsor.status().get("link"))
    claims = connect(context, f, f["org3"], b"org2")
    claims.hello()
    assert claims.receive(5)[0] == "welcome"
    f["org2"].start()
    wait_for("org2", lambda: f.sponsor.count("org2 is there"))
    f.begin()
    wait_for("org2 to accept", lambda: f["org2"].count("accepted"))
    claims.serve(2, lambda: claims.task is not None)  # its own Task
    run = claims.task.run
    for kind, fields in (("accept", {}), ("aligned", {"equal": True}), ("refuse", {"code": "E_IDS", "text": "no"}), ("fit", {}),
                         ("task", {}), ("settle", {}), ("welcome", {}), ("peer", {"state": 1}), ("error", {"code": "x"})):
        if kind not in ("refuse", "accept"):
            claims.send(kind, run, 1, **fields)
    claims.serve(0.5)
    status = {p["name"]: p["up"] for p in f.sponsor.status()["link"]["peers"]}
    assert status["org2"]
    assert set(claims.seen) <= {"welcome", "task", "chunk", "close", "ack", "fit", "error", "settle"}
    assert claims.seen.count("task") == messages_to(f, "org3")["task"] == 1
    assert f.sponsor.count("org2 is gone") == 0 and f.sponsor.status()["restarts"] == 0
    claims.serve(20, lambda: f.state() == "done")
    assert len(f.finish()) == 3
    seen = collections.Counter(claims.seen)
    to_org3 = messages_to(f, "org3")
    assert seen["fit"] == to_org3["fit"] == 3 and seen["settle"] == to_org3["settle"]
    assert messages_to(f, "org2")["fit"] == 3 and sum(e["kind"] == "Fit" for e in f["org2"].events()) == 3
    result = gal("trace", f.sponsor.trace, f["org2"].trace, "--verify")
    assert result.returncode == 0, result.stderr
    claims.close()


def test_a_known_key_that_sends_rubbish(run, context):
    """Messages that are none, before any Hello and after: dropped, logged once, and the daemon lives."""
    f = run()
    f["org3"].stop()
    peer = connect(context, f, f["org3"])
    for rubbish in ([b""], [b"\xff" * 100], [b"a", b"b", b"c"], [bytes(60000)]):
        peer.socket.send_multipart(rubbish)
    peer.send("accept", b"r" * 16, deterministic=True)  # before any Hello
    wait_for("the line", lambda: f.sponsor.count("org3 sent Accept, which it may not send now"))
    peer.hello()
    assert peer.receive(5)[0] == "welcome"
    for _ in range(50):
        peer.socket.send(b"\x00\x01\x02")
        peer.send("fitted", b"r" * 16, 1, rows=4000000000, cols=4000000000, dtype=1, chunk=1 << 20)
        peer.send("chunk", b"r" * 16, 1, b"x" * 1000, index=3)
        peer.send("close", b"r" * 16, 1, chunks=7)
    peer.send("hello", version=99, program="future")
    wait_for("the version's line", lambda: f.sponsor.count("org3 speaks version 99"), 12)
    peer.serve(0.5)
    peer.close()
    assert f.sponsor.count("org3 sent") <= 8, f.sponsor.text()
    assert f.sponsor.status()["restarts"] == 0
    f["org3"].start()
    f.ready()
    f.begin()
    assert len(f.finish()) == 400


def test_a_frame_too_long_is_cut_off(federation, context):
    slices, y = synthetic(500, [2, 2])
    f = federation(slices, y, rounds=2)
    f.sponsor.start()
    wait_for("the link", lambda: f.sponsor.status().get("link"))
    peer = connect(context, f, f["org2"])
    peer.hello()
    assert peer.receive(5)[0] == "welcome"
    peer.socket.send(bytes(3 << 20))
    wait_for("the cut", lambda: f.sponsor.count("org2 is gone"))
    peer.close()
    f["org2"].start()
    assert len([e for e in f.ready().train() if e["event"] == "round"]) == 2


@pytest.mark.parametrize("wrong", ["the sponsor's key", "its own key"])
def test_keys_are_pinned_on_both_sides(federation, wrong):
    """An assistor speaks to no other sponsor than its own; and one whose key is not there yet is told what to do, and let in later."""
    slices, y = synthetic(200, [2, 2])
    f = federation(slices, y, rounds=2)
    if wrong == "its own key":
        other = zmq.curve_keypair()[0].decode()
        f.sponsor.sections["peer org2"]["key"] = other
    else:
        f["org2"].sections["sponsor sponsor"]["key"] = zmq.curve_keypair()[0].decode()
    f.sponsor.start()
    f["org2"].start()
    if wrong == "its own key":
        wait_for("the refusal", lambda: f["org2"].count("refuses this organization's key", "ask its operator"))
        wait_for("the other end's line", lambda: f.sponsor.count("refused a connection", f["org2"].public))
        f.sponsor.stop()
        f.sponsor.sections["peer org2"]["key"] = f["org2"].public
        f.sponsor.start()
    else:
        wait_for("the line", lambda: f["org2"].count("no valid handshake with sponsor"))
        f["org2"].stop()
        f["org2"].sections["sponsor sponsor"]["key"] = f.sponsor.public
        f["org2"].start()
    f.ready()
    assert len([e for e in f.train() if e["event"] == "round"]) == 2
