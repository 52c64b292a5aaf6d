"""An organization that is in the configuration and does not keep to the protocol: it harms nobody but itself. Each attack is made in
the middle of a run, and then the honest answer is given: the run ends as if nothing had happened, in the same processes."""
import collections
import contextlib
import itertools
import math
import os
import pathlib
import re
import time

import numpy as np
import pytest
import zmq
import zmq.auth.thread

from federation import Federation, synthetic, wait_for
from peer import DTYPE, F32, F64, KIND, U32, Array, Cut, Header, Outgoing, Peer, Ridge, blake, id_digest, le32

ROWS, CHUNK = 3000, 4096
MEMORY = 64 << 10  # kB


def memory(pid):
    return int(re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


class Watch:
    """A daemon's processes: the same at the end as at the beginning, about as large, and not talkative."""

    def __init__(self, daemon):
        self.daemon, self.begun = daemon, time.monotonic()
        self.pids = {c["program"]: c["pid"] for c in daemon.status()["children"]}
        self.memory = {program: memory(pid) for program, pid in self.pids.items()}
        self.lines = len(daemon.lines())
        self.grown = 0

    def look(self):
        self.grown = max(self.grown, *(memory(pid) - self.memory[p] for p, pid in self.pids.items()))

    def unharmed(self):
        """A kind of line comes once in 10 seconds; there are about a dozen, and a dozen lines for who comes and goes."""
        self.look()
        status = self.daemon.status()
        assert {c["program"]: c["pid"] for c in status["children"]} == self.pids and status["restarts"] == 0
        assert self.grown < MEMORY, f"{self.daemon.name}: {self.grown} kB more"
        lines = self.daemon.lines()[self.lines:]
        assert all(re.match(r"gal-\w+ \w+: ", line) for line in lines), lines  # nobody writes a line in another's name
        assert not any(re.search(r"[\x00-\x1f\x7f-\x9f]", line) for line in lines), lines
        kinds = collections.Counter(re.sub(r"\d+|\(.*", "", line) for line in lines if "ropped" in line or "efused" in line)
        often = 1 + (time.monotonic() - self.begun) / 10
        groups = collections.Counter(("what is no message" in k, "may not send now" in k, "not known" in k,
                                      "chunk" in k or "transfer" in k, k.split(":")[0] if "ropped" not in k else "")
                                     for k in kinds.elements())
        assert not groups or max(groups.values()) <= often, (often, kinds)
        assert len(lines) <= 24 * often, "\n".join(lines)


# ---- an assistor ----

class Hostile(Peer):
    """Before it answers a Fit honestly it makes the next attacks, as many as fit into one round."""

    def __init__(self, *words, attacks=(), at="fit"):
        super().__init__(*words)
        self.attacks, self.at, self.done, self.silent, self.blocked = collections.deque(attacks), at, [], False, 0

    def attack(self, i):
        if self.attacks:
            one = self.attacks.popleft()
            self.done.append(one.__name__)
            one(self, i.opening)

    def fit_asked(self, i, run):
        if self.at == "fit":
            self.attack(i)
        super().fit_asked(i, run)

    def task(self, i):
        if self.at == "task":
            self.attack(i)
        super().task(i)

    def ack(self):
        if not self.silent:
            super().ack()

    # the tools of an attack

    def raw(self, *frames):
        try:
            self.socket.send_multipart(frames)
        except zmq.Again:  # the connection is gone, or nobody reads
            self.blocked += 1
            raise Cut from None

    def put(self, opening, *frames, run=None, round_=None, **body):
        header = Header(run=opening.run if run is None else run, round=opening.round if round_ is None else round_, **body)
        self.raw(header.SerializeToString(), *frames)
        return header

    def key(self, opening):
        return opening.task.trace_key or self.runs[opening.run].key

    def shape(self, **other):
        return {"rows": ROWS, "cols": 1, "dtype": F64, "chunk": CHUNK, **other}

    def whole(self, opening, kind="fitted", values=None, round_=None, spoil=None, **shape):
        """A whole transfer, whatever the sponsor says to it. spoil(position, header, bytes) may change a chunk or the Close."""
        values = np.zeros((ROWS, 1)) if values is None else values
        data, shape = values.tobytes(), self.shape(**shape)
        round_ = opening.round if round_ is None else round_
        key, n = self.key(opening), -(-len(data) // CHUNK)
        out = Outgoing(Header(run=opening.run, round=round_, **{kind: {**shape, "chunk": CHUNK}}), data, key)
        self.put(opening, round_=round_, **{kind: shape})
        messages = [[Header(run=opening.run, round=round_, chunk={"index": j, "digest": blake(key, out.chunk(j))}), out.chunk(j)]
                    for j in range(n)]
        messages.append([Header(run=opening.run, round=round_, close={
            "digest": out.digest(), "chunks": n, "rows": shape["rows"], "cols": shape["cols"]})])
        for j, m in enumerate(messages):
            if spoil:
                spoil(-1 if j == n else j, m)
            self.raw(m[0].SerializeToString(), *m[1:])


BODIES = {  # one of each kind that is well formed
    "hello": {"version": 1, "program": "x", "instance": 1}, "welcome": {"version": 1, "program": "x"},
    "task": {"rows": {"rows": 5, "cols": 1, "dtype": U32, "chunk": CHUNK}, "name": "x", "outputs": 1, "rounds": 1, "fit_rows": 5,
             "dtype": F64, "common_rows": 5, "trace_key": bytes(32), "predict": "sum"},
    "accept": {"deterministic": True, "linear": True}, "refuse": {"code": "E_IDS", "text": "x", "rows": 7},
    "align": {"prefix": 3, "ids": bytes(32)}, "aligned": {"equal": True, "rows": 3},
    "fit": {"rows": ROWS, "cols": 1, "dtype": F64, "chunk": CHUNK}, "fitted": {"rows": 7, "cols": 1, "dtype": F64, "chunk": CHUNK},
    "settle": {"settled": True, "commitment": bytes(32), "head": bytes(32)},
    "predict": {"rows": {"rows": 1, "cols": 1, "dtype": U32, "chunk": CHUNK}, "rounds": 1, "coefficients": [1.0]},
    "predicted": {"rows": 1, "cols": 1, "dtype": F64, "chunk": CHUNK}, "error": {"code": "E_X", "text": "x"},
    "chunk": {"index": 0, "digest": bytes(32)}, "close": {"digest": bytes(32), "chunks": 1, "rows": 1, "cols": 1},
    "ack": {"kind": 17, "next": 1}, "peer": {"state": 1, "bytes_out": 1}}
STATELESS = [k for k in BODIES if k not in ("hello", "bye")]


def every_kind(h, o):
    """Out of state, for this run and round (but Error, which would rightly end the run), for others, for none."""
    assert set(BODIES) | {"bye"} == set(KIND)
    for round_ in (o.round, o.round + 1, 0, 2**32 - 1):
        for kind in STATELESS:
            if (kind, round_) != ("error", o.round):
                h.put(o, *([bytes(CHUNK)] if kind == "chunk" else []), round_=round_, **{kind: BODIES[kind]})


def every_kind_of_an_unknown_run(h, o):
    for run in (bytes(16), os.urandom(16), b"", b"x", bytes(17), bytes(1000)):
        for kind in STATELESS:
            h.put(o, *([bytes(CHUNK)] if kind == "chunk" else []), run=run, **{kind: BODIES[kind]})


def no_body(h, o):
    h.put(o)
    h.raw(b"")
    h.raw(b"", b"")


def oversized_headers(h, o):
    h.put(o, bye={"text": "x" * 70000})
    h.put(o, round_=999, error={"code": "x" * 64, "text": "y"})
    h.put(o, round_=999, error={"code": "x", "text": "y" * 256})
    h.put(o, accept={}, run=bytes(66000))
    h.put(o, aligned={}, round_=1)
    h.raw(os.urandom(1 << 20))


def a_frame_beyond_the_limit(h, o):
    h.raw(os.urandom(2 << 20))
    h.raw(os.urandom(1 << 20))
    time.sleep(0.05)
    raise Cut


def chunks_too_long(h, o):
    for size in (CHUNK + 8, CHUNK - 8, 0, 1, 2 * CHUNK, 1 << 20):
        data = bytes(size)
        h.put(o, fitted=h.shape())
        h.put(o, data, chunk={"index": 0, "digest": blake(h.key(o), data)})


def misshapen(h, o):
    for other in ({"rows": ROWS + 1}, {"rows": ROWS - 1}, {"cols": 2}, {"cols": 0}, {"rows": 0}, {"dtype": F32}, {"dtype": U32},
                  {"dtype": 0}, {"dtype": 77}, {"chunk": 0}, {"chunk": 8}, {"chunk": 4097}, {"chunk": 2**31}, {"chunk": 1 << 20},
                  {"rows": 2**31 - 1, "cols": 64}, {"rows": 2**32 - 1, "cols": 2**32 - 1}, {"rows": 2**31 - 1, "cols": 1}):
        h.whole(o, **other)
    for rows in (ROWS - 1, ROWS + 1, 0):
        h.whole(o, values=np.zeros((rows, 1)), rows=rows)
    h.whole(o, values=np.zeros((ROWS, 1), "f4"), dtype=F32)
    h.whole(o, values=np.zeros((ROWS, 2)), cols=2)
    h.whole(o, kind="predicted")


def wrong_digests(h, o):
    def chunk(j, m):
        if j == 1:
            m[0].chunk.digest = bytes(32)

    def close(j, m):
        if j < 0:
            m[0].close.digest = bytes(32)

    def value(j, m):
        if j == 2:
            m[1] = b"\xff" + m[1][1:]

    def count(j, m):
        if j < 0:
            m[0].close.chunks += 1

    def rows(j, m):
        if j < 0:
            m[0].close.rows += 1

    def digest_of_31(j, m):
        if j == 0:
            m[0].chunk.digest = bytes(31)

    for spoil in (chunk, close, value, count, rows, digest_of_31):
        h.whole(o, spoil=spoil)


def chunks_out_of_order(h, o):
    def gap(j, m):
        if j >= 1:
            m[0].chunk.index = j + 1

    def twice(j, m):
        if j == 1:
            h.raw(m[0].SerializeToString(), m[1])
        if j < 0:  # the second one is dropped, and the rest would be an answer
            m[0].close.digest = bytes(32)

    def back(j, m):
        if j == 2:
            m[0].chunk.index = 0

    def far(j, m):
        if j == 1:
            m[0].chunk.index = 2**32 - 1

    def other_round(j, m):
        m[0].round += 1

    for spoil in (gap, twice, back, far, other_round):
        h.whole(o, spoil=spoil)


def early_close(h, o):
    for kind in ("fitted", "predicted"):
        h.put(o, **{kind: h.shape()})
        for _ in range(3):
            h.put(o, close={"digest": bytes(32), "chunks": 6, "rows": ROWS, "cols": 1})
    h.put(o, fitted=h.shape())
    h.put(o, fitted=h.shape())
    h.put(o, predicted=h.shape(rows=1))


def unasked(h, o):
    """Whole and well formed, of rounds that are over or to come."""
    for round_ in (o.round + 1, (o.round - 1) % 2**32, 0, 4096, 2**32 - 1):
        h.whole(o, round_=round_)
        h.whole(o, kind="predicted", round_=round_)


def replayed(h, o):
    for frames in list(h.recorded):
        h.raw(*frames)
    time.sleep(0.05)
    raise Cut


def unknown_fields(h, o):
    for kind in STATELESS:
        packed = Header(run=o.run, round=o.round, **{kind: BODIES[kind]}).SerializeToString()
        for extra in (b"\xfa\x07\x01x", b"\xf8\x3f\x01", b"\xf9\x3f12345678"):
            h.raw(packed + extra)
    h.raw(Header(run=o.run).SerializeToString() + b"\x6a\x05\x08\x01\x98\x06\x01")  # in an Accept


def truncated(h, o):
    for kind in STATELESS:
        packed = Header(run=o.run, round=o.round, **{kind: BODIES[kind]}).SerializeToString()
        for n in range(len(packed)):
            if not (kind == "error" and n == 0):
                h.raw(packed[:n])


def garbage(h, o):
    draw = np.random.RandomState(5)
    for n in range(300):
        h.raw(draw.bytes(n))
    packed = bytearray(Header(run=o.run, round=o.round, fitted=h.shape()).SerializeToString())
    for at in range(len(packed)):
        for bit in range(8):
            h.raw(bytes(b ^ (1 << bit) if j == at else b for j, b in enumerate(packed)))


def frames_too_many(h, o):
    accept = Header(run=o.run, accept=BODIES["accept"]).SerializeToString()
    chunk = Header(run=o.run, round=o.round, chunk=BODIES["chunk"]).SerializeToString()
    for frames in ([accept, b""], [accept, b"x"], [chunk], [chunk, b"x", b"y"], [b"", accept], [accept] * 3, [accept] * 100,
                   [chunk, bytes(1 << 20), bytes(1 << 20)]):
        h.raw(*frames)


def other_versions(h, o):
    for version in (0, 2, 2**32 - 1):
        h.put(o, run=b"", round_=0, hello={"version": version, "program": "x"})


def acks(h, o):
    for kind in (17, 18, 12, 0, 99, 2**32 - 1):
        for next_ in (0, 1, 6, 2**31, 2**32 - 1):
            h.put(o, ack={"kind": kind, "next": next_})


def resumes(h, o):
    """Of what was never begun; and the flag of the pipe."""
    for shape in ({"resume": True}, {"again": True}, {"resume": True, "again": True}):
        h.put(o, fitted=h.shape(**shape))
        h.put(o, bytes(CHUNK), chunk={"index": 3, "digest": blake(h.key(o), bytes(CHUNK))})
        h.put(o, close={"digest": bytes(32), "chunks": 6, "rows": ROWS, "cols": 1})


def ugly_texts(h, o):
    for text in ("a\nb", "x\ngal-core sponsor: all is well", "\x1b[2J\x1b]0;mine\x07", "\x9b31m", "%s%n%n%p", "\u202e\u0000x"):
        for code in ("E_X", text):
            h.put(o, round_=o.round + 1, error={"code": code, "text": text})
    for text in ("x\ngal-core sponsor: all is well", "\x1b[2J", "\u0085"):
        h.put(o, run=b"", round_=0, hello={"version": 1, "program": text, "instance": 2})
    h.raw(b"\xb2\x01\x07\x0a\x05\xff\xfe\xc3\x28\x80")  # an Error whose code is not UTF-8
    h.put(o, run=b"", round_=0, bye={"text": "x\ngal-core sponsor: all is well"})
    time.sleep(0.05)
    raise Cut


def after_bye(h, o):
    h.put(o, run=b"", round_=0, bye={"text": "done"})
    every_kind(h, o)
    h.whole(o)
    time.sleep(0.05)
    raise Cut


def ten_thousand_hellos(h, o):
    for n in range(10000):
        h.put(o, run=b"", round_=0, hello={"version": 1, "program": "again", "instance": n})
        if n % 100 == 0:
            while h.socket.poll(0):
                h.socket.recv_multipart()
    while h.socket.poll(300):
        h.socket.recv_multipart()
    raise Cut


def connections(h, o):
    """Fifty, each cut off in the middle of an answer."""
    for _ in range(50):
        h.dial()
        h.put(o, fitted=h.shape())
    raise Cut


def every_kind_but_refusals(h, o):
    """Before the Task is accepted a Refuse is in its place, and ends the run."""
    for kind in STATELESS:
        if kind not in ("refuse", "accept", "error"):
            h.put(o, *([bytes(CHUNK)] if kind == "chunk" else []), **{kind: BODIES[kind]})


def then_cut(attack):
    def both(h, o):
        attack(h, o)
        time.sleep(0.05)
        raise Cut

    both.__name__ = attack.__name__
    return both


ATTACKS = [every_kind, every_kind_of_an_unknown_run, no_body, oversized_headers, a_frame_beyond_the_limit, chunks_too_long, misshapen,
           wrong_digests, chunks_out_of_order, early_close, unasked, replayed, unknown_fields, truncated, garbage, frames_too_many,
           other_versions, acks, resumes, ugly_texts, after_bye, ten_thousand_hellos, connections]


def f_slices():
    """The third has the most to say: what is wrong with it shows."""
    (three, two, one), y = synthetic(ROWS, [2, 3, 2])
    return one, two, three, y


def make_federation(federation, rounds, attacks=None, data=None, **options):
    *slices, y = f_slices()
    slices, y = data or (slices, y)
    f = federation(slices, y, rounds=rounds, validation=0, patience=1000, rate="fixed:0.2")
    f.set("link", chunk=CHUNK, dtype="f64")
    for a in f.assistors:
        a.sections["policy"] = {"allow_reconstruction": "yes"}
    if attacks is None:
        return f.start(), None
    d = f["org3"]
    columns = np.genfromtxt(d.home / "data.csv", delimiter=",", skip_header=1)
    h = Hostile(f"tcp://127.0.0.1:{f.port}", f.sponsor.public, d.public, d.secret, columns, attacks=attacks, **options)
    for other in f.daemons.values():
        if other is not d:
            other.start()
    f.ready("org3")
    h.until(lambda: all(p["up"] for p in f.sponsor.status()["link"]["peers"]))
    return f, h


class Quiet:
    objectives = {}


@pytest.fixture
def objectives(federation):
    """Of a run in which all are daemons."""
    def get(rounds):
        if rounds not in Quiet.objectives:
            f, _ = make_federation(federation, rounds)
            f.train()
            Quiet.objectives[rounds] = [r[1] for r in f.rounds()]
            f.close()
            f.daemons.clear()
        return Quiet.objectives[rounds]
    return get


ROUNDS = len(ATTACKS) + 8


@pytest.mark.parametrize("at", ["fit", "task"])
def test_an_assistor_without_manners(federation, objectives, at, figures):
    """All of it, one after the other; at a Task too, which comes again after every cut."""
    expected = objectives(ROUNDS)
    attacks = ATTACKS if at == "fit" else [connections, replayed, after_bye, ugly_texts, a_frame_beyond_the_limit, *map(then_cut, (
        every_kind_but_refusals, misshapen, unasked, garbage, resumes, early_close))]
    f, h = make_federation(federation, ROUNDS, attacks, at=at)
    watch = Watch(f.sponsor)
    f.begin()
    h.until(lambda: watch.look() or f.state() in ("done", "failed"), 60)
    assert f.state() == "done", f.logs()
    assert not h.attacks, (h.done, h.attacks)
    watch.unharmed()
    assert [r[1] for r in f.rounds()] == pytest.approx(expected, rel=1e-9)
    figures(f"{len(h.done)} attacks: {watch.grown} kB, {len(f.sponsor.lines()) - watch.lines} lines, "
            f"{time.monotonic() - watch.begun:.1f} s")


def test_who_never_acks_holds_up_nobody_else(federation, objectives, figures):
    """The sponsor keeps six chunks under way and waits; org2 has its Fit at once."""
    slices, y = synthetic(60000, [2, 3, 2])
    f, h = make_federation(federation, 3, [], data=(slices, y))
    h.silent = True
    watch = Watch(f.sponsor)
    f.begin()
    wait_for("org2's answer", lambda: h.step() or f.sponsor.trace.exists() and any(
        (e["peer"], e["dir"], e["kind"]) == ("org2", "in", "Accept") for e in f.sponsor.events()))
    end = time.monotonic() + 1
    while time.monotonic() < end:
        h.step()
    assert len(h.into.parts) == 6 and h.into.kind == KIND["task"]
    h.silent = False
    h.ack()
    h.until(lambda: f.state() in ("done", "failed"), 20)
    assert f.state() == "done", f.logs()
    watch.unharmed()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, 1e154, 1e101])
def test_values_that_are_no_numbers(federation, value):
    """They count as absent: weight 0, and the run is that of the others."""
    f, h = make_federation(federation, 5, [])
    fit, t = Hostile.fit_asked, []

    def lie(i, run):
        if i.opening.round not in t:
            t.append(i.opening.round)
        fit(h, i, run)

    transfer = h.transfer

    def spoiled(cause, kind, values, chunk):
        values = np.array(values)
        values[::7] = value
        transfer(cause, kind, values, chunk)

    h.fit_asked, h.transfer = lie, spoiled
    watch = Watch(f.sponsor)
    f.begin()
    h.until(lambda: f.state() in ("done", "failed"), 20)
    watch.unharmed()
    assert f.state() == "done" and len(f.rounds()) == 5, f.logs()
    for _, objective, rate, w in f.rounds():
        w = np.frombuffer(bytes.fromhex(w))
        assert math.isfinite(objective) and math.isfinite(rate) and w[2] == 0 and abs(w.sum() - 1) < 1e-12
    one, two, _, y = f_slices()
    both = Federation([one, two], y, rounds=5, validation=0, patience=1000, rate="fixed:0.2")
    try:
        both.set("link", chunk=CHUNK, dtype="f64")
        for a in both.assistors:
            a.sections["policy"] = {"allow_reconstruction": "yes"}
        both.start().train()
        assert [r[1] for r in f.rounds()] == pytest.approx([r[1] for r in both.rounds()], rel=1e-9)
    finally:
        both.close()


# ---- a sponsor ----

class HostileSponsor:
    """The listening side of the connection, by hand. Its transfers fit into the window, so Acks are not waited for."""

    put, shape = Hostile.put, Hostile.shape

    def __init__(self, f, name="org2"):
        self.context, self.ids, self.recorded = zmq.Context(), None, []
        self.f, self.runs, self.counts, self.hellos = f, {}, collections.Counter(), 0
        self.auth = zmq.auth.thread.ThreadAuthenticator(self.context)
        self.auth.start()
        self.auth.configure_curve(domain="gal", location=zmq.auth.CURVE_ALLOW_ANY)
        s = self.socket = self.context.socket(zmq.ROUTER)
        s.curve_server, s.curve_secretkey, s.zap_domain = 1, f.sponsor.secret.encode(), b"gal"
        s.router_mandatory, s.linger, s.sndtimeo = 1, 0, 3000
        s.bind(f"tcp://127.0.0.1:{f.port}")

    def close(self):
        self.socket.close(0)
        self.auth.stop()
        self.context.term()

    def raw(self, *frames):
        self.recorded.append(frames)
        try:
            self.socket.send_multipart([self.id, *frames])
        except zmq.ZMQError:  # it is gone, or does not read
            raise Cut from None

    def next(self, seconds=5.0):
        """The next message that is no Ack, or None; a transfer's values come with its Close."""
        while self.socket.poll(int(1000 * seconds)):
            who, packed, *payload = self.socket.recv_multipart()
            header = Header.FromString(packed)
            kind = header.WhichOneof("body")
            self.counts[kind] += 1
            if kind == "hello":
                self.id, self.hellos, self.array = who, self.hellos + 1, None
                self.put(header, run=b"", round_=0, welcome={"version": 1, "program": "python sponsor"})
                return header, None
            if who != self.id or kind == "ack":
                continue
            if kind in ("fitted", "predicted"):
                self.array, self.opening, self.bytes = getattr(header, kind), header, b""
                if self.array.resume:
                    self.put(header, ack={"kind": KIND[kind], "next": 0})
            elif kind == "chunk":
                self.bytes += payload[0]
                if header.chunk.index % 3 == 2:
                    self.put(header, ack={"kind": KIND[self.opening.WhichOneof("body")], "next": header.chunk.index + 1})
            elif kind == "close":
                return self.opening, np.frombuffer(self.bytes, DTYPE[self.array.dtype]).reshape(self.array.rows, self.array.cols)
            else:
                return header, None
        return None

    def greet(self):
        before = self.hellos
        while self.hellos == before:
            assert self.next(), "no Hello"

    def drain(self):
        """What it says until it says nothing for a while."""
        said = []
        while got := self.next(0.1):
            said.append(got)
        return said

    def answer(self, *codes):
        """It refuses, with one of these codes; or says nothing, where None is among them."""
        got = self.next(0.5 if None in codes else 5)
        if got is None and None in codes:
            return None
        assert got, f"no answer; expected {codes}; {self.f['org2'].text()}"
        header = got[0]
        body = getattr(header, header.WhichOneof("body"))
        assert header.WhichOneof("body") in ("refuse", "error") and body.code in codes, header
        return header

    def values(self, kind="fitted"):
        header, values = self.next()
        assert header.WhichOneof("body") == kind, header
        return values

    def send(self, opening, data, key):
        out = Outgoing(opening, data, key)
        self.raw(opening.SerializeToString())
        for j in range(out.n):
            self.put(opening, out.chunk(j), chunk={"index": j, "digest": blake(key, out.chunk(j))})
        self.put(opening, close={"digest": out.digest(), "chunks": out.n, "rows": out.array.rows, "cols": out.array.cols})

    def task(self, rows=None, run=None, announced=None, **other):
        """A whole Task; announced: what its Array says, if not the truth. Gives its opening."""
        rows = np.arange(ROWS) if rows is None else np.asarray(rows)
        data = rows.astype("<u4").tobytes()
        array = {"rows": len(rows), "cols": 1, "dtype": U32, "chunk": CHUNK, **(announced or {})}
        fields = {"name": "main", "outputs": 1, "rounds": 50, "fit_rows": ROWS, "dtype": F64, "common_rows": ROWS,
                  "trace_key": b"k" * 32, "predict": "sum", **other}
        opening = Header(run=run or os.urandom(16), task={"rows": array, **fields})
        self.send(opening, data, fields["trace_key"][:64])
        return opening

    def accepted(self, **other):
        opening = self.task(**other)
        got = self.next()
        assert got and got[0].WhichOneof("body") == "accept", got
        return opening

    def fit(self, task, round_, residual, **shape):
        residual = np.asarray(residual, "<f8")
        residual = residual if residual.ndim == 2 else residual[:, None]
        self.send(Header(run=task.run, round=round_, fit={**self.shape(rows=len(residual), cols=residual.shape[1]), **shape}),
                  residual.tobytes(), self.key(task))

    def predict(self, task, number, which, rounds=1, coefficients=(1.0,), **shape):
        which = np.asarray(which, "<u4")
        self.send(Header(run=task.run, round=number, predict={
            "rows": {"rows": len(which), "cols": 1, "dtype": U32, "chunk": CHUNK, **shape}, "rounds": rounds,
            "coefficients": coefficients}), which.tobytes(), self.key(task))

    def key(self, opening):
        return opening.task.trace_key or b"k" * 32


@pytest.fixture
def sponsor(federation):
    """A hostile sponsor and an assistor that has dialled it."""
    one, two, _, y = f_slices()
    f = federation([one, two], y, ids=[f"row {i}" for i in range(ROWS)])
    f["org2"].sections["policy"] = {"allow_reconstruction": "yes"}
    s = HostileSponsor(f)
    f["org2"].start()
    s.greet()
    wait_for("org2's worker", lambda: (f["org2"].status().get("worker") or {}).get("state") == "ready")
    s.X, s.watch = np.column_stack(list(two.values())), Watch(f["org2"])
    yield s
    s.close()


def honest(s, task, first, n=3):
    """Rounds from the first on, as they must be."""
    ridge, draw = Ridge(s.X, ROWS, 0.001), np.random.RandomState(first)
    for t in range(first, first + n):
        r = draw.standard_normal((ROWS, 1))
        s.fit(task, t, r)
        assert s.values() == pytest.approx(ridge.fit(r)[1], rel=1e-9, abs=1e-12)


def test_a_sponsor_with_absurd_tasks(sponsor, figures):
    s = sponsor
    big = 2**31 - 1
    absurd = [
        dict(announced={"rows": big}, common_rows=big, fit_rows=big), dict(announced={"rows": 2**32 - 1}, common_rows=2**32 - 1),
        dict(outputs=65535, rounds=4096), dict(outputs=65537), dict(outputs=0), dict(outputs=2**32 - 1), dict(rounds=0),
        dict(rounds=4097), dict(rounds=2**32 - 1), dict(fit_rows=0), dict(fit_rows=2**32 - 1, answer_rows=ROWS + 1),
        dict(fit_rows=ROWS - 1), dict(fit_rows=ROWS, answer_rows=1), dict(dtype=0), dict(dtype=U32), dict(dtype=99), dict(trace_key=b""),
        dict(trace_key=b"k" * 31), dict(trace_key=b"k" * 33), dict(name="x" * 64), dict(name="x" * 60000), dict(loss="y" * 300),
        dict(predict=""), dict(predict="all"), dict(ids=b"x"), dict(common_rows=0), dict(common_rows=ROWS + 1),
        dict(common_rows=ROWS - 1), dict(rows=[]), dict(announced={"cols": 2}), dict(announced={"dtype": F64}),
        dict(announced={"dtype": F32}), dict(announced={"cols": 1 << 20, "rows": 1 << 18}), dict(announced={"chunk": 1 << 20}),
        dict(rows=[*range(ROWS - 1), ROWS]), dict(rows=[*range(ROWS - 1), 2**32 - 1]), dict(rows=[*range(ROWS - 1), 0]),
        dict(rows=np.zeros(ROWS))]
    accepted = []
    for one in absurd:
        opening = s.task(**one)
        for header, _ in s.drain():
            if header.WhichOneof("body") == "accept":
                accepted.append(one)
                s.fit(opening, 1, np.zeros((4, 1)), rows=ROWS, cols=one.get("outputs", 1))  # no more than begun
        s.watch.look()
    harmless = [dict(outputs=65535, rounds=4096), dict(predict=""), dict(predict="all"), dict(announced={"chunk": 1 << 20})]
    assert all(one in harmless for one in accepted), accepted
    honest(s, s.accepted(), 1)
    s.watch.unharmed()
    figures(f"{len(absurd)} tasks, {len(accepted)} accepted: {s.watch.grown} kB more, answers {dict(s.counts)}")


def test_a_sponsor_out_of_order(sponsor, figures):
    s = sponsor
    r = np.random.RandomState(1).standard_normal((ROWS, 1))
    ghost = Header(run=os.urandom(16), task={"trace_key": b"k" * 32})
    s.fit(ghost, 1, r)
    assert {h.error.code for h, _ in s.drain()} <= {"E_RUN", "E_CHUNK", "E_CLOSE"}
    task = s.accepted()
    s.predict(task, 1, [0, 1])  # nothing is fitted
    s.answer("E_SHAPE")
    for round_ in (0, 2, 3, 50, 51, 2**32 - 1):
        s.fit(task, round_, r)
        s.answer("E_ROUND", "E_SHAPE")
    for spoiled in (np.nan, np.inf, -np.inf):
        s.fit(task, 1, np.where(np.arange(ROWS) == 7, spoiled, r[:, 0]))
        s.answer("E_FIT")
    s.fit(task, 1, r[:-1])
    s.answer("E_SHAPE")
    s.fit(task, 1, np.zeros((ROWS // 2, 2)))
    s.answer("E_SHAPE")
    s.fit(task, 1, np.zeros(0))
    s.answer("E_SHAPE")
    for shape in ({"rows": ROWS + 1}, {"cols": 2}, {"dtype": F32}, {"dtype": U32}, {"rows": 2**31 - 1, "cols": 64},
                  {"chunk": 4097}):
        s.fit(task, 1, r, **shape)
        got = s.drain()
        assert {h.error.code for h, _ in got} <= {"E_SHAPE", "E_CHUNK", "E_CLOSE", "E_MEMORY"}, (shape, got)
    s.fit(task, 1, r)
    first = s.values()
    s.fit(task, 1, r)
    assert s.values().tobytes() == first.tobytes()
    for other in (-r, r + 1e-12, np.zeros_like(r), np.full_like(r, np.nan)):
        s.fit(task, 1, other)
        s.answer("E_EQUIVOCATION")
    s.fit(task, 3, r)
    s.answer("E_ROUND")
    for head in (bytes(32), os.urandom(32)):  # another record of what crossed; of a round that is to come
        s.put(task, round_=1, settle={"settled": True, "commitment": os.urandom(32), "head": head})
        s.put(task, round_=9, settle={"settled": False, "commitment": os.urandom(32), "head": head})
    other = np.arange(ROWS)[::-1]
    s.task(rows=other, run=task.run)
    s.answer("E_EQUIVOCATION")
    s.task(run=task.run, outputs=2)
    s.answer("E_EQUIVOCATION", "E_TASK")
    s.accepted(run=task.run)
    honest(s, task, 2)
    number = itertools.count(2)
    for rows, rounds, coefficients, codes in (
            ([ROWS], 1, [1.0], ("E_ROWS",)), ([2**32 - 1], 1, [1.0], ("E_ROWS",)), ([0], 5, [1.0] * 5, ("E_SHAPE",)),
            ([0], 4096, [], ("E_PREDICT", "E_ROUND", "E_SHAPE")), ([0], 2**32 - 1, [], ("E_PREDICT", "E_ROUND", "E_SHAPE", None)),
            ([0], 2, [1.0], ("E_PREDICT", "E_SHAPE", None)),
            ([0], 1, [1.0] * 4, ("E_PREDICT", "E_SHAPE", None)), ([0], 2, [1.0, np.nan], ("E_PREDICT", None)),
            ([0], 2, [np.inf, 1.0], ("E_PREDICT", None)), ([0], 1, [1e308], ("E_PREDICT", None)),
            (range(ROWS), 4, [1e308] * 4, ("E_PREDICT",))):
        n = next(number)
        s.predict(task, n, rows, rounds, coefficients)
        got = s.drain()
        finite = 1e308 in coefficients and all(np.all(np.isfinite(v)) for _, v in got)
        assert finite or {h.error.code for h, _ in got} <= {*codes, "E_CHUNK", "E_CLOSE"}, (rounds, coefficients, got)
        assert got or None in codes, (rounds, coefficients)
    s.predict(task, next(number), [0], 0, [])  # no round is a number of rounds
    assert s.values("predicted").shape == (1, 0)
    for shape in ({"rows": 2**31 - 1}, {"cols": 2}, {"dtype": F64}, {"rows": 1 << 28, "cols": 4}):
        s.predict(task, next(number), [0, 1], **shape)
        assert not any(isinstance(v, np.ndarray) for _, v in s.drain())
    s.predict(task, next(number), [5, 5, 6])
    assert s.values("predicted") == pytest.approx(Ridge(s.X, ROWS, 0.001).fit(r)[1][[5, 5, 6]], rel=1e-9)
    honest(s, task, 5)
    s.watch.unharmed()
    figures(f"{s.watch.grown} kB more, {len(s.f['org2'].lines()) - s.watch.lines} lines, answers {dict(s.counts)}")


def test_a_sponsor_that_asks_for_ids(sponsor):
    """To a Task, questions that are answered are few, however many are asked."""
    s = sponsor
    key, ids = b"k" * 32, [f"row {i}" for i in range(ROWS)]
    bound = 2 * math.ceil(math.log2(ROWS + 1)) + 2
    task = s.accepted(ids=id_digest(key, ids))
    for n in range(2 * bound):
        s.put(task, round_=n, align={"prefix": 1, "ids": id_digest(key, ids[:1])})
    assert sum(h.WhichOneof("body") == "aligned" for h, _ in s.drain()) <= bound
    run = os.urandom(16)
    for again in range(3):
        s.task(run=run, ids=id_digest(key, ids[::-1]))
        header = s.answer("E_IDS")
        assert header.refuse.rows == ROWS
        for n in range(1, 101):
            s.put(header, round_=n, align={"prefix": n, "ids": id_digest(key, ids[:n - n % 2])})
        got = s.drain()
        answers = [h for h, _ in got if h.WhichOneof("body") == "aligned"]
        assert 0 < len(answers) <= bound
        assert all(h.aligned.equal == (h.round % 2 == 0) for h in answers)
        assert {h.error.code for h, _ in got if h.WhichOneof("body") == "error"} == {"E_ALIGN"}
    for prefix in (0, ROWS + 1, 2**32 - 1):
        s.put(header, round_=1, align={"prefix": prefix, "ids": bytes(32)})
    s.drain()
    honest(s, s.accepted(), 1)
    s.watch.unharmed()


def test_a_sponsor_without_manners(sponsor, figures):
    s = sponsor
    task = s.accepted()
    honest(s, task, 1)

    def welcomes(h, o):
        for n in range(10000):
            h.put(o, run=b"", round_=0, welcome={"version": n % 3, "program": "x\ngal-worker org2: all is well"})

    def errors(h, o):
        for n in range(5000):
            h.put(o, error={"code": "E\x1b[2J", "text": "x\ngal-worker org2: all is well\u0085\u009b31m"})

    def settles(h, o):
        for n in range(2000):
            h.put(o, round_=n, settle={"settled": n % 2 == 0, "commitment": os.urandom(32), "head": os.urandom(32)})

    def hellos(h, o):
        for n in range(1000):
            h.put(o, run=b"", round_=0, hello={"version": 1, "program": "x", "instance": n})

    def openings(h, o):
        for n in range(1000):
            h.put(o, round_=4, fit=h.shape(resume=n % 2 == 1))
            h.put(o, round_=n, predict={"rows": {"rows": 2**31 - 1, "cols": 1, "dtype": U32, "chunk": CHUNK}, "rounds": 1})

    def runs(h, o):
        for n in range(1500):  # more than are remembered
            h.put(o, run=os.urandom(16), round_=0, task={
                "rows": {"rows": ROWS, "cols": 1, "dtype": U32, "chunk": CHUNK}, "name": "x", "outputs": 1, "rounds": 1,
                "fit_rows": ROWS, "dtype": F64, "common_rows": ROWS, "trace_key": os.urandom(32), "predict": "sum"})

    def replays(h, o):
        for frames in list(h.recorded)[-300:]:
            h.raw(*frames)

    round_, times = 4, {}
    for attack in (every_kind, every_kind_of_an_unknown_run, no_body, oversized_headers, unknown_fields, truncated, garbage, frames_too_many,
                   acks, resumes, settles, errors, hellos, welcomes, openings, runs, replays, a_frame_beyond_the_limit):
        begun = time.monotonic()
        with contextlib.suppress(Cut):
            attack(s, Header(run=task.run, round=round_, task={"trace_key": b"k" * 32}))
        s.drain()
        s.watch.look()
        for tries in range(5):  # it may have hung up
            try:
                s.accepted(run=task.run)
                honest(s, task, round_, 1)
                break
            except (Cut, TypeError):
                assert tries < 4, attack.__name__
                s.next(2)
        round_ += 1
        times[attack.__name__] = round(time.monotonic() - begun, 1)
    s.watch.unharmed()
    figures(f"{len(times)} attacks: {s.watch.grown} kB more, {len(s.f['org2'].lines()) - s.watch.lines} lines, {times}")
