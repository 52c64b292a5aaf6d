"""An assistor in Python, written from docs/PROTOCOL.md and proto/gal.proto alone: it shares no code with the daemons.

Peer is honest. It notes in `complaints` whatever its sponsor does against the page. It runs where it is called: step() waits a little
for one message and answers it, until() steps until a condition holds."""
import collections
import hashlib
import itertools
import pathlib
import struct
import subprocess
import sys
import time

import numpy as np
import zmq
import zmq.utils.monitor

from federation import BUILD, ROOT

if not (BUILD / "tests" / "gal_pb2.py").exists():
    subprocess.run(["make", "-s", f"B={BUILD}", f"{BUILD}/tests/gal_pb2.py"], cwd=ROOT, check=True)
sys.path.insert(0, str(BUILD / "tests"))
from gal_pb2 import Array, Header  # noqa: E402

NUMBERS = itertools.count()
VERSION, WINDOW, PATIENCE = 1, 6, 2
F32, F64, U32 = 1, 2, 3
DTYPE = {F32: np.dtype("<f4"), F64: np.dtype("<f8"), U32: np.dtype("<u4")}
KIND = {f.name: f.number for f in Header.DESCRIPTOR.oneofs_by_name["body"].fields}
GONE = {zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED, zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL}


def blake(key, *parts):
    h = hashlib.blake2b(digest_size=32, key=key)
    for part in parts:
        h.update(part)
    return h.digest()


def le32(*numbers):
    return struct.pack(f"<{len(numbers)}I", *numbers)


def array_of(header):
    """The Array of an opening."""
    body = getattr(header, header.WhichOneof("body"))
    return body if isinstance(body, Array) else body.rows


def id_digest(key, ids):
    return blake(key, *(part for i in ids for part in (le32(len(i.encode())), i.encode())))


class Ridge:
    """(1/N)‖r − Xβ − b‖² + λ‖β‖² on columns standardised by the FIT rows, which are the first of X."""

    def __init__(self, X, n_fit, lam):
        self.mean, deviation = X[:n_fit].mean(axis=0), X[:n_fit].std(axis=0)
        self.keep = deviation > 0
        self.deviation = deviation[self.keep]
        self.Z, self.n = self.standard(X), n_fit
        self.A = self.Z[:n_fit].T @ self.Z[:n_fit] / n_fit + lam * np.eye(len(self.deviation))

    def standard(self, X):
        return (X - self.mean)[:, self.keep] / self.deviation

    def fit(self, r):
        """The model, and its values on all rows."""
        b = r.mean(axis=0)
        beta = np.linalg.solve(self.A, self.Z[:self.n].T @ (r - b) / self.n)
        return (b, beta), b + self.Z @ beta

    def predict(self, model, X):
        return model[0] + self.standard(X) @ model[1]


class Run:
    def __init__(self, task, digest, rows):
        self.task, self.digest, self.rows = task, digest, rows
        self.key, self.dtype, self.K = task.trace_key, DTYPE[task.dtype], task.outputs
        self.fits, self.answers, self.models, self.settled = [], [], [], 0
        self.head, self.last = bytes(32), {}

    def enter(self, kind, round_, rows, cols, dtype, digest):
        """Into the head, but for a repeat."""
        if kind != KIND["settle"] and self.last.get(kind) != (round_, digest):
            self.last[kind] = round_, digest
            self.head = blake(b"", self.head, le32(kind, round_, rows, cols, dtype), digest)


class Outgoing:
    """A transfer that this side sends."""

    def __init__(self, opening, data, key):
        self.opening, self.data, self.key, self.array = opening, data, key, array_of(opening)
        self.kind = KIND[opening.WhichOneof("body")]
        self.name = opening.run, opening.round, self.kind
        self.n = -(-len(data) // self.array.chunk)
        self.next, self.acked = 0, 0
        self.waits = self.array.resume

    def chunk(self, j):
        return self.data[j * self.array.chunk:(j + 1) * self.array.chunk]

    def digest(self):
        a = self.array
        return blake(self.key, *(blake(self.key, self.chunk(j)) for j in range(self.n)),
                     le32(self.kind, self.opening.round, a.rows, a.cols, a.dtype))


class Incoming:
    """A transfer that this side receives; also the beginning of one, kept over connections."""

    def __init__(self, opening, key):
        self.opening, self.key, self.array = opening, key, array_of(opening)
        self.kind = KIND[opening.WhichOneof("body")]
        self.name = opening.run, opening.round, self.kind
        self.size = self.array.rows * self.array.cols * DTYPE[self.array.dtype].itemsize
        self.n = -(-self.size // self.array.chunk)
        self.parts, self.digests, self.acked = [], [], 0

    def same(self, other):
        """The very same transfer: name, shape, chunk size and key."""
        return (self.name, self.key) == (other.name, other.key) and all(
            getattr(self.array, f) == getattr(other.array, f) for f in ("rows", "cols", "dtype", "chunk"))

    def digest(self):
        a = self.array
        return blake(self.key, *self.digests, le32(self.kind, self.opening.round, a.rows, a.cols, a.dtype))

    def values(self):
        return np.frombuffer(b"".join(self.parts), DTYPE[self.array.dtype]).reshape(self.array.rows, self.array.cols)


class Cut(Exception):
    """Raised by a hook: the connection ends here."""


class Wire:
    """The connection to a sponsor: what crosses it, in both directions, frame by frame."""

    def __init__(self, address, server, public, secret, program="python peer"):
        self.address, self.program = address, program
        self.keys = [k.encode() for k in (server, public, secret)]
        self.context, self.socket, self.monitor = zmq.Context.instance(), None, None
        self.instance, self.dials, self.dial_at = int.from_bytes(np.random.bytes(8), "little"), 0, 0
        self.recorded = []  # every message sent, as frames
        self.received = collections.Counter()
        self.hook = lambda way, kind, header: None  # may raise Cut

    def dial(self):
        self.hang_up()
        s = self.socket = self.context.socket(zmq.DEALER)
        s.curve_serverkey, s.curve_publickey, s.curve_secretkey = self.keys
        s.sndtimeo, s.linger, s.reconnect_ivl, s.maxmsgsize, s.heartbeat_ivl = 3000, 0, -1, (1 << 20) + (1 << 16), 1000
        self.monitor = s.get_monitor_socket(addr=f"inproc://monitor-{next(NUMBERS)}")
        s.connect(self.address)
        self.dials += 1
        self.dialled = time.monotonic()
        self.greeted = False
        self.send(Header(hello={"version": VERSION, "program": self.program, "instance": self.instance}))

    def hang_up(self):
        if self.socket:
            self.socket.disable_monitor()
            self.socket.close(0)
        self.socket = self.monitor = None

    def send(self, header, *frames):
        self.send_frames([header.SerializeToString(), *frames])
        self.hook("out", header.WhichOneof("body"), header)

    def send_frames(self, frames):
        self.recorded.append(frames)
        self.socket.send_multipart(frames)

    def receive(self, seconds):
        """The frames of one message, or None. Dials where there is no connection."""
        if not self.socket:
            time.sleep(max(0, min(seconds, self.dial_at - time.monotonic())))
            if time.monotonic() < self.dial_at:
                return None
            self.dial()
        ready = dict((s, 1) for s in zmq.select([self.socket, self.monitor], [], [], seconds)[0])
        if self.socket in ready:
            return self.socket.recv_multipart()
        if not self.greeted and time.monotonic() - self.dialled > PATIENCE:
            self.hang_up()
            return None
        if self.monitor in ready and zmq.utils.monitor.recv_monitor_message(self.monitor)["event"] in GONE:
            self.hang_up()
            self.dial_at = time.monotonic() + 0.2
        return None


class Peer(Wire):
    """An honest assistor that keeps nothing on disk."""

    def __init__(self, address, server, public, secret, X, ids=None, lam=0.001):
        super().__init__(address, server, public, secret)
        self.X, self.ids, self.lam = np.asarray(X, float), ids, lam
        self.runs, self.asked, self.complaints, self.errors = {}, collections.Counter(), [], []
        self.out = self.into = self.opened = None
        self.queue = collections.deque()
        self.kept = {}  # the beginnings of transfers, and the last whole ones
        self.sent_chunks, self.received_chunks = collections.Counter(), collections.Counter()

    # the connection

    def dial(self):
        self.out = self.into = None
        self.queue.clear()
        self.accepted = set()
        super().dial()

    def cut(self, wait=0.0):
        self.hang_up()
        self.dial_at = time.monotonic() + wait

    def step(self, seconds=0.02):
        """One message; whether there was one."""
        frames = self.receive(seconds)
        if frames:
            try:
                self.on_message(frames)
                self.flush()
            except Cut as c:
                self.cut(*c.args)
        return bool(frames)

    def until(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s; {self.complaints} {self.errors}"
            for _ in range(100):
                if not self.step():
                    break

    def complain(self, text):
        self.complaints.append(text)

    # sending

    def say(self, cause, **body):
        """A message without payload, about the run and round of its cause."""
        self.queue.append(Header(run=cause.run, round=cause.round, **body))

    def error(self, cause, code, text):
        self.say(cause, error={"code": code, "text": text})

    def flush(self):
        """What may be sent now: one transfer at a time, others wait for its Close."""
        while True:
            if self.out and not self.push():
                return
            if not self.queue:
                return
            first = self.queue.popleft()
            if isinstance(first, Outgoing):
                self.out = first
                self.opened = first.name
                self.send(first.opening)
            else:
                self.send_message(first)

    def send_message(self, header):
        packed = header.SerializeToString()
        self.enter(header, packed)
        self.send(header)

    def enter(self, header, packed):
        run, kind = self.runs.get(header.run), KIND[header.WhichOneof("body")]
        if run and 12 <= kind <= 21:
            run.enter(kind, header.round, 0, 0, 0, blake(run.key, packed))

    def push(self):
        """As many chunks as the window allows; whether the transfer is over."""
        o = self.out
        while not o.waits and o.next < o.n and o.next < o.acked + WINDOW:
            data = o.chunk(o.next)
            header = Header(run=o.opening.run, round=o.opening.round,
                            chunk={"index": o.next, "digest": blake(o.key, data)})
            o.next += 1
            self.sent_chunks[(*o.name, header.chunk.index)] += 1
            self.send(header, data)
        if o.waits or o.next < o.n:
            return False
        a, digest = o.array, o.digest()
        self.runs[o.opening.run].enter(o.kind, o.opening.round, a.rows, a.cols, a.dtype, digest)
        self.out = None
        self.send(Header(run=o.opening.run, round=o.opening.round,
                         close={"digest": digest, "chunks": o.n, "rows": a.rows, "cols": a.cols}))
        return True

    def transfer(self, cause, kind, values, chunk):
        run = self.runs[cause.run]
        values = np.ascontiguousarray(values, run.dtype)
        self.queue.append(Outgoing(Header(run=cause.run, round=cause.round, **{kind: {
            "rows": values.shape[0], "cols": values.shape[1], "dtype": run.task.dtype, "chunk": chunk,
            "resume": self.opened == (cause.run, cause.round, KIND[kind])}}), values.tobytes(), run.key))

    # receiving

    def on_message(self, frames):
        header = Header.FromString(frames[0])
        kind = header.WhichOneof("body")
        self.received[kind] += 1
        if len(frames) != (2 if kind == "chunk" else 1):
            self.complain(f"{kind} of {len(frames)} frames")
        if len(frames[0]) > 65536 or header.UnknownFields():
            self.complain(f"{kind}: too long, or fields unknown")
        if not self.greeted and kind not in ("welcome", "bye"):
            self.complain(f"{kind} before Welcome")
        if self.into and kind not in ("chunk", "close", "ack", "welcome", "bye"):
            self.complain(f"{kind} inside a transfer")
        if kind not in ("task", "fit", "predict", "chunk", "close", "ack"):
            self.enter(header, frames[0])
        self.hook("in", kind, header)
        on = getattr(self, f"on_{kind}", None)
        if not on:
            self.complain(f"{kind} to an assistor")
        elif kind == "chunk":
            on(header, frames[1])
        else:
            on(header)

    def on_welcome(self, header):
        self.greeted = True
        if header.welcome.version != VERSION or header.run or header.round:
            self.complain("Welcome is odd")

    def on_bye(self, header):
        self.cut(1)

    def on_error(self, header):
        self.errors.append((header.error.code, header.error.text))
        if header.error.code == "E_REPLACED":
            self.cut(0.5)

    def on_task(self, header):
        self.open(header, header.task.trace_key)

    def on_fit(self, header):
        run = self.runs.get(header.run)
        if not run or header.run not in self.accepted:
            return self.error(header, "E_RUN", "no Task of this run was accepted")
        if (header.fit.rows, header.fit.cols, header.fit.dtype) != (run.task.fit_rows, run.K, run.task.dtype):
            return self.error(header, "E_SHAPE", "not the Task's shape")
        self.open(header, run.key)

    def on_predict(self, header):
        run = self.runs.get(header.run)
        if not run or header.run not in self.accepted:
            return self.error(header, "E_RUN", "no Task of this run was accepted")
        if (header.predict.rows.cols, header.predict.rows.dtype) != (1, U32):
            return self.error(header, "E_SHAPE", "row numbers are one column of u32")
        self.open(header, run.key)

    def open(self, header, key):
        a = array_of(header)
        if a.again or a.chunk % 8 or not 4096 <= a.chunk <= 1048576:
            self.complain("an opening is odd")
        self.into = Incoming(header, key)
        if a.resume:
            kept = self.kept.get(self.into.name)
            if kept and kept.same(self.into):
                self.into.parts, self.into.digests = kept.parts, kept.digests
            self.ack()
        self.kept[self.into.name] = self.into

    def ack(self):
        i = self.into
        i.acked = len(i.parts)
        self.send(Header(run=i.opening.run, round=i.opening.round, ack={"kind": i.kind, "next": i.acked}))

    def on_chunk(self, header, data):
        i = self.into
        if not i:
            return self.complain("a chunk outside a transfer")
        j = header.chunk.index
        expected = min(i.array.chunk, i.size - j * i.array.chunk)
        if ((header.run, header.round, j, len(data), header.chunk.digest)
                != (i.opening.run, i.opening.round, len(i.parts), expected, blake(i.key, data))):
            self.into = None
            self.complain("a chunk is wrong")
            return self.error(header, "E_CHUNK", "not the chunk expected")
        if j >= i.acked + WINDOW:
            self.complain("a chunk beyond the window")
        self.received_chunks[(*i.name, j)] += 1
        i.parts.append(data)
        i.digests.append(header.chunk.digest)
        if len(i.parts) % 3 == 0:
            self.ack()

    def on_close(self, header):
        i, self.into = self.into, None
        c = header.close
        if not i or (header.run, header.round, c.digest, c.chunks, c.rows, c.cols, len(i.parts)) != (
                i.opening.run, i.opening.round, i.digest(), i.n, i.array.rows, i.array.cols, i.n):
            self.complain("Close does not fit")
            return self.error(header, "E_CLOSE", "Close does not fit")
        run = self.runs.get(header.run)
        if i.kind == KIND["task"]:
            return self.task(i)
        run.enter(i.kind, header.round, i.array.rows, i.array.cols, i.array.dtype, i.digest())
        return self.fit_asked(i, run) if i.kind == KIND["fit"] else self.predict_asked(i, run)

    def on_ack(self, header):
        o = self.out
        if not o or (header.run, header.round, header.ack.kind) != o.name:
            return
        if o.waits:
            o.next, o.waits = header.ack.next, False
        if header.ack.next < o.acked or header.ack.next > o.next:
            self.complain("an Ack of what was not sent")
        o.acked = header.ack.next

    # answering

    def task(self, i):
        opening, task = i.opening, i.opening.task
        rows, n = i.values()[:, 0], len(self.X)
        run = self.runs.get(opening.run)
        if run and run.digest != i.digest():
            return self.say(opening, refuse={"code": "E_EQUIVOCATION", "text": "this run was begun with other rows"})
        if task.common_rows != n:
            return self.say(opening, refuse={"code": "E_ROWS", "text": f"{n} rows here", "rows": n})
        if len(rows) != task.fit_rows + task.answer_rows or len(set(rows)) != len(rows) or max(rows) >= n:
            return self.say(opening, refuse={"code": "E_TASK", "text": "the row list cannot be used"})
        if not run:
            run = self.runs[opening.run] = Run(task, i.digest(), rows)
            run.ridge = Ridge(self.X[rows], task.fit_rows, self.lam)
        run.enter(i.kind, opening.round, i.array.rows, i.array.cols, i.array.dtype, i.digest())
        if task.ids and self.ids is not None and task.ids != id_digest(task.trace_key, self.ids):
            return self.say(opening, refuse={"code": "E_IDS", "text": "the ids differ", "rows": n})
        self.accepted.add(opening.run)
        run.chunk = i.array.chunk
        return self.say(opening, accept={"deterministic": True, "linear": True})

    def on_align(self, header):
        run, prefix = self.runs[header.run], header.align.prefix
        self.asked[header.run] += 1
        equal = prefix <= len(self.ids) and id_digest(run.key, self.ids[:prefix]) == header.align.ids
        self.say(header, aligned={"equal": equal, "rows": len(self.ids)})

    def fit_asked(self, i, run):
        t, s = i.opening.round, len(run.fits)
        if t <= s and run.fits[t - 1] != i.digest():
            return self.error(i.opening, "E_EQUIVOCATION", "this round was fitted with other residuals")
        if t not in (s, s + 1) or t == 0:
            return self.error(i.opening, "E_ROUND", f"the last round is {s}")
        if t == s + 1:
            model, values = run.ridge.fit(i.values().astype(float))
            run.fits.append(i.digest())
            run.models.append(model)
            run.answers.append(values.astype(run.dtype))
        return self.transfer(i.opening, "fitted", run.answers[t - 1], run.chunk)

    def on_settle(self, header):
        run = self.runs[header.run]
        if not header.settle.settled or len(header.settle.commitment) != 32 or header.round != len(run.fits):
            self.complain("Settle is odd")
        if header.settle.head != run.head:
            self.complain("the sponsor's head is another")
        run.settled = header.round

    def predict_asked(self, i, run):
        p, rows = i.opening.predict, i.values()[:, 0]
        if len(rows) and max(rows) >= len(self.X):
            return self.error(i.opening, "E_ROWS", "a row is beyond the table")
        if p.rounds > len(run.models) or len(p.coefficients) not in (0, p.rounds) or not np.all(np.isfinite(p.coefficients)):
            return self.error(i.opening, "E_PREDICT", "not so many rounds")
        each = [run.ridge.predict(m, self.X[rows]) for m in run.models[:p.rounds]]
        if p.coefficients:
            values = sum(c * f for c, f in zip(p.coefficients, each))
        else:
            values = np.concatenate([np.empty((len(rows), 0)), *each], axis=1)
        return self.transfer(i.opening, "predicted", values, run.chunk)
