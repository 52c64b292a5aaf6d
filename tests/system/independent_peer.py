"""An assistor that shares no code with ours: pyzmq, protobuf for Python, hashlib. It speaks as much of docs/PROTOCOL.md as a test
needs: Hello, Accept, Fitted with values it is told."""
import hashlib
import importlib
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np
import zmq

from federation import ROOT

_place = tempfile.TemporaryDirectory(prefix="galpb")
subprocess.run(["protoc", f"--python_out={_place.name}", f"-I{ROOT / 'proto'}", "gal.proto"], check=True)
sys.path.insert(0, _place.name)
gal_pb2 = importlib.import_module("gal_pb2")
TYPES = {1: "<f4", 2: "<f8", 3: "<u4"}


class Peer:
    """A connection with the key of that daemon (which is not running)."""

    def __init__(self, context, address, server, public, secret, routing_id=None):
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.curve_serverkey, self.socket.curve_publickey, self.socket.curve_secretkey = (
            k.encode() for k in (server, public, secret))
        if routing_id:
            self.socket.routing_id = routing_id
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH |
                                                      zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED)
        self.socket.connect(address)
        self.task = None
        self.current, self.raw = None, b""  # the transfer that is coming
        self.seen = []  # kinds of all messages

    def close(self):
        self.socket.disable_monitor()
        self.socket.close()

    def send(self, kind, run=b"", round_=0, payload=None, **fields):
        h = gal_pb2.Header(run=run, round=round_)
        getattr(h, kind).SetInParent()
        for k, v in fields.items():
            setattr(getattr(h, kind), k, v)
        self.socket.send_multipart([h.SerializeToString(), *([payload] if payload is not None else [])])

    def receive(self, seconds):
        """The next message: (kind, header, payload), or None."""
        if not self.socket.poll(1000 * seconds):
            return None
        frames = self.socket.recv_multipart()
        h = gal_pb2.Header.FromString(frames[0])
        kind = h.WhichOneof("body")
        self.seen.append(kind)
        return kind, h, b"".join(frames[1:])

    def hello(self):
        self.send("hello", version=1, program="independent", instance=7)

    def answer(self, kind, h, values):
        """A transfer of an array in chunks, digested as the protocol says."""
        key, run = self.task.task.trace_key, h.run
        raw = values.tobytes()
        size = self.task.task.rows.chunk
        chunks = [raw[i:i + size] for i in range(0, len(raw), size)]
        dtype = self.task.task.dtype
        self.send(kind, run, h.round, rows=values.shape[0], cols=values.shape[1], dtype=dtype, chunk=size)
        digests = [hashlib.blake2b(c, digest_size=32, key=key).digest() for c in chunks]
        for i, c in enumerate(chunks):
            self.send("chunk", run, h.round, c, index=i, digest=digests[i])
        number = gal_pb2.Header.DESCRIPTOR.fields_by_name[kind].number
        end = struct.pack("<5I", number, h.round, *values.shape, dtype)
        self.send("close", run, h.round, chunks=len(chunks), rows=values.shape[0], cols=values.shape[1],
                  digest=hashlib.blake2b(b"".join(digests) + end, digest_size=32, key=key).digest())

    def serve(self, seconds, until=lambda: False):
        """Takes part in a run for that long: its answers are its residuals, doubled, with zeros for answer rows."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            got = self.receive(0.02)
            if got:
                self.take(*got)

    def take(self, kind, h, payload):
        if kind in ("task", "fit"):
            self.current, self.raw = h, b""
            if kind == "task":
                self.task = h
        elif kind == "chunk":
            assert hashlib.blake2b(payload, digest_size=32, key=self.task.task.trace_key).digest() == h.chunk.digest
            self.raw += payload
        elif kind == "close" and self.current is self.task:
            assert len(np.frombuffer(self.raw, "<u4")) == self.task.task.rows.rows
            self.send("accept", h.run, deterministic=True, linear=True)
        elif kind == "close":
            task = self.task.task
            r = np.frombuffer(self.raw, TYPES[task.dtype]).reshape(-1, task.outputs)
            f = np.zeros((task.fit_rows + task.answer_rows, task.outputs), TYPES[task.dtype])
            f[:len(r)] = 2 * r
            self.answer("fitted", h, f)
