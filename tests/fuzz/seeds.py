"""Writes the seed corpora of tests/fuzz. Files whose names begin with "found-" are failures that were mended: they stay as they are.

usage: seeds.py DIRECTORY"""

import gzip
import hashlib
import os
import struct
import sys

CHUNK = 4096
HELLO, WELCOME, TASK, ACCEPT, REFUSE, ALIGN, ALIGNED, FIT, FITTED, SETTLE, PREDICT, PREDICTED, ERROR, BYE, CHUNK_MSG, CLOSE, ACK = range(10, 27)
PEER = 30

# ---- protobuf, as far as gal.proto needs it ----


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def num(field, n):
    return varint(field << 3) + varint(n)


def raw(field, b):
    b = b.encode() if isinstance(b, str) else b
    return varint(field << 3 | 2) + varint(len(b)) + b


def header(kind, body, run=b"r" * 16, rnd=1):
    return (raw(1, run) if run else b"") + num(2, rnd) + raw(kind, body)


def array(rows=3, cols=2, dtype=1, chunk=CHUNK, resume=0, again=0):
    return num(1, rows) + num(2, cols) + num(3, dtype) + num(4, chunk) + num(5, resume) + num(6, again)


def task(**change):
    f = dict(rows=array(6, 1, 3), name="main", outputs=2, rounds=10, fit=4, answer=2, dtype=1, loss="squared", common=6, ids=b"i" * 32,
             key=b"k" * 32, predict="sum")
    f.update(change)
    return (raw(1, f["rows"]) + raw(2, f["name"]) + num(3, f["outputs"]) + num(4, f["rounds"]) + num(5, f["fit"]) + num(6, f["answer"]) +
            num(7, f["dtype"]) + raw(8, f["loss"]) + num(9, f["common"]) + raw(10, f["ids"]) + raw(11, f["key"]) + raw(12, f["predict"]))


def predict(coefficients, rounds=2, rows=array(3, 1, 3)):
    return raw(1, rows) + num(2, rounds) + raw(3, b"".join(struct.pack("<d", c) for c in coefficients))


D = b"d" * 32


def messages():
    yield "hello", header(HELLO, num(1, 1) + raw(2, "gal-link 0.1.0") + varint(3 << 3 | 1) + b"instance", b"", 0)
    yield "welcome", header(WELCOME, num(1, 1) + raw(2, "gal\n\x7f"), b"", 0)
    yield "task", header(TASK, task())
    yield "accept", header(ACCEPT, num(1, 1) + num(2, 1))
    yield "refuse", header(REFUSE, raw(1, "E_IDS") + raw(2, "other ids") + num(3, 7))
    yield "align", header(ALIGN, num(1, 3) + raw(2, D)) + header(ALIGNED, num(1, 1) + num(2, 6))
    yield "settle", header(SETTLE, num(1, 1) + raw(2, D)) + header(FIT, array())
    yield "predict", header(PREDICT, predict([0.5, -2]))
    yield "error", header(ERROR, raw(1, "E") + raw(2, "t" * 255))
    yield "bye", header(BYE, raw(1, "stopping"))
    yield "chunk", header(CHUNK_MSG, num(1, 2) + raw(2, D))
    yield "close", header(CLOSE, raw(1, D) + num(2, 1) + num(3, 3) + num(4, 2))
    yield "ack", header(ACK, num(1, FIT) + num(2, 3)) + header(PEER, num(1, 1) + num(2, 1 << 60) + num(3, 5))
    yield "fitted", header(FITTED, array(1 << 20, 65536, 2, 1 << 20))
    yield "bad-run", header(FIT, array(), b"short")
    yield "bad-long", header(BYE, raw(1, "x" * 300))
    yield "bad-digest", header(CHUNK_MSG, raw(2, b"d"))
    yield "bad-unknown", header(PREDICTED, array() + num(9, 1))
    yield "bad-memory", header(PREDICT, predict([0.0] * 500, 500))
    yield "bad-rows", header(TASK, task(fit=5))


# ---- scripts ----


def op(code, *parts):
    b = b"".join(bytes([p]) if isinstance(p, int) else p for p in parts)
    return bytes([code]) + struct.pack("<H", len(b)) + b


def transfers():
    def opening(how=8, rows=200, cols=10, chunk=0):
        return op(0, how, rows, cols, chunk)

    whole = opening() + op(1) * 2 + op(2)
    yield "whole", whole
    yield "own", opening() + op(1, 8) * 2 + op(2, 16) + op(2)
    yield "resume", opening() + op(1) + opening(8 | 32) + op(1) + op(2) + opening(8 | 32) + op(2)
    yield "refused", op(1) + op(2) + opening() + op(1, 1, 5, 0, 0, 0) + op(1, 2, 3) + op(1, 4) + op(2) + op(1) * 3 + op(2, 8) + op(2, 1)
    yield "out", (op(3, 8, 200, 10, 0) + op(4, 1, 7) + op(5) + op(4) * 3 + op(5) + op(5) + op(6, 0) + op(6, 4) + op(6, 1))
    yield "empty", opening(8, 0, 0) + op(2) + op(3, 8, 0, 0, 0) + op(4) + op(5) + op(6)
    yield "again", whole + opening(8 | 32 | 64) + op(2)


def pipes():
    def frame(kind, peers, head, payload):
        b = struct.pack("<4I", kind, len(peers), len(head), len(payload)) + struct.pack("<%dI" % len(peers), *peers) + head + payload
        return b + b"\0" * (-len(b) % 8)

    two = frame(1, [1, 2], b"header", b"payload") + frame(2, [], b"", b"")
    for how in (0, 2):
        yield "whole-%d" % how, bytes([how, 9]) + two
        yield "cut-%d" % how, bytes([how, 30]) + two[:-9]
    yield "empty", b"\0\0"
    yield "payload", bytes([0, 200]) + frame(1, [0], b"", b"p" * 600) * 3
    yield "peers", b"\0\0" + struct.pack("<4I", 1, 1 << 20, 0, 0)
    yield "header", b"\0\x10" + struct.pack("<4I", 1, 0, 1 << 20, 0)
    yield "long", b"\2\x40" + struct.pack("<4I", 1, 0, 0, 1 << 16) + b"x" * 99
    yield "exchange", bytes([1]) + bytes([0, 1, 8, 255, 20, 254, 252, 2, 3])
    yield "queue-gone", bytes([1]) + bytes([254] * 9)
    yield "queue", bytes([1]) + bytes([254] * 12 + [1, 7, 250, 250, 250, 251] + [252] * 9)


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def z85(b):
    out = ""
    for i in range(0, len(b), 4):
        n, word = int.from_bytes(b[i:i + 4], "big"), ""
        for _ in range(5):
            n, word = n // 85, Z85[n % 85] + word
        out += word
    return out


def z85s():
    yield "hello", b"HelloWorld"
    yield "most", b"%nSc0"
    yield "beyond", b"%nSc1#####"
    yield "key", z85(bytes(range(32))).encode()
    yield "other", b"Hello Worl"
    yield "short", b"abc"


def keys():
    text = z85(bytes(range(1, 33)))
    good = "gal-key-v1\nclinic\n%s\n" % text
    yield "good", b"\0" + good.encode()
    for name, body in (("magic", good.replace("v1", "v2")), ("name", good.replace("clinic", "../clinic")),
                       ("dots", good.replace("clinic", "..")), ("short", good.replace(text, text[1:])),
                       ("digits", good.replace(text, "~" + text[1:])), ("above", good.replace(text, "#" * 40)),
                       ("two", good[:20]), ("four", good + "x\n"), ("nul", good.replace("clinic", "cli\0nic")), ("long", good + "x" * 300),
                       ("empty", "")):
        yield name, b"\0" + body.encode()
    yield "mode", b"\x24" + good.encode()
    yield "pipe", b"\x80" + good.encode()


KEY = z85(bytes(range(32)))
SPONSOR = """[organization]
name = clinic
key = clinic.key
state = /var/lib/gal
[sandbox]
mode = require
[link]
chunk = 65536
dtype = f64
[data]
path = data.csv
id = id
exclude = a,
 b
[model]
name = linear
lambda = 0.1
[listen]
address = tcp://0.0.0.0:5570
[peer lab]
key = %s
[labels]
path = labels.csv
target = y
[task main]
kind = regression
rounds = 20
rate = fixed:0.5
validation = 0.1
seed = 9007199254740991
""" % KEY
ASSISTOR = """; comment
[organization]
name = lab
key = lab.key
state = state
[data]
path = data.csv
[sponsor clinic]
address = tcp://host:5570
key = %s
[policy]
allow_reconstruction = yes
""" % KEY


def confs():
    yield "sponsor", b"\0" + SPONSOR.encode()
    yield "assistor", b"\1" + ASSISTOR.encode()
    yield "packed", b"\2a.conf\0" + b"peer\0lab\0key\0k\0\1\0\0\0" + b"data\0\0path\0/d\0\2\0\0\0"
    yield "packed-cut", b"\2a.conf\0" + b"peer\0lab\0key\0k\0\1\0"
    yield "packed-none", b"\2a.conf"
    bad = {
        "key": ("chunk", "chunks"), "section": ("[link]", "[lonk]"), "number": ("65536", "x"), "range": ("65536", "3"),
        "choice": ("require", "maybe"), "later": ("f64", "int8"), "address": ("tcp://0.0.0.0:5570", "host"), "named": ("[peer lab]", "[peer]"),
        "rate": ("fixed:0.5", "fixed:-1"), "missing": ("kind = regression\n", ""), "keylen": ("key = " + KEY, "key = abc"),
    }
    yield "bad-values", b"\xff".join(b"\0" + SPONSOR.replace(a, b).encode() for a, b in bad.values())
    yield "bad-lines", b"\xff".join(b"\0" + s.encode() for s in (
        "[organization]\nname = " + "n" * 300 + "\n", "[organization]\nname = a\nname = b\n", "[data]\nquery = x\n", "a = b\n", "[data]\n = x\n",
        "[organization]\nname = .x\n", "[%s]\na = b\n" % ("s" * 60), "word\n", "[organization x]\nname = a\n", "[task main]\nrounds = 1.5\n",
        "[data]\nid = a\n" + (" " + "b" * 190 + "\n") * 50, "[data]\npath = a\n" + (" " + "b" * 190 + "\n") * 30,
        "[task main]\nvalidation = auto\nrate = fixed:x\n", "[model]\nname =\n"))
    less = [("[organization]\nname = clinic\n", "[organization]\n"), ("target = y\n", ""), ("[task main]\nkind = regression\nrounds = 20\nrate = fixed:0.5\nvalidation = 0.1\nseed = 9007199254740991\n", ""),
            ("[listen]\naddress = tcp://0.0.0.0:5570\n", ""), ("key = %s\n" % KEY, "key2 = %s\n" % KEY),
            ("[peer lab]\nkey = %s\n" % KEY, "")]
    yield "less-sponsor", b"\xff".join(b"\0" + SPONSOR.replace(a, b).encode() for a, b in less) + b"\xff\0" + SPONSOR.replace(
        less[-1][0], "").replace("path = data.csv\n", "").encode()
    less = [("path = data.csv\n", ""), ("address = tcp://host:5570\n", ""), ("[sponsor clinic]\naddress = tcp://host:5570\nkey = %s\n" % KEY, "")]
    yield "less-assistor", b"\xff".join(b"\1" + ASSISTOR.replace(a, b).encode() for a, b in less)


def tables():
    yield "numbers", b"a,b,c\n1,2.5,-3e10\n4,,NA\n1e400,0.1234567890123456789,+5\n"
    yield "text", b"id;town;x\n1;\" Ulm; alt \";2\n2;\"a \"\"b\"\"\";?\r\n3;Bonn;inf\n"
    yield "late", b"a\tb\n" + b"1\t2\n" * 70 + b"x\ty\n3\t4\n"
    yield "no-header", b"1,2\n3,4\n\n5,6\r7,8"
    yield "gzip", gzip.compress(b"a,b\n1,x\n2,y\n", mtime=0)
    yield "gzip-cut", gzip.compress(b"a,b\n1,x\n2,y\n" * 9, mtime=0)[:-12]
    yield "gzip-long", gzip.compress(b"a,b\n" + b"1,x\n2,y\n" * 1000, mtime=0)
    yield "gzip-bad", gzip.compress(b"a,b\n1,x\n2,y\n" * 9, mtime=0)[:10] + b"\xff" * 20
    for name, body in (("ragged", b"a,b\n1,2,3\n"), ("short", b"a,b\n1\n"), ("open-header", b"a,\"b\n1,2\n"), ("open", b"a,b\n1,\"x\n"), ("after", b"a,b\n\"1\"x,2\n"), ("nul", b"a\0b\n1\n"), ("empty", b"\n\n"),
                       ("header", b"a,b\n"), ("twice", b"a\1,a\1\n1,2\n"), ("blanks", b"1 2 3\n4 5 6\n"), ("blank-line", b"a\n1\n\n2\n"),
                       ("bom", b"\xef\xbb\xbf a , ,\"c\"\n 1 ,-inf, \"2\" \n"), ("numbers-wide", b"1 x\n123456789012345678\n0.000012345678901234567\n9e-300\n12345678901234567890123\n1.5e-19\n")):
        yield name, body
    yield "rows", b"n,t\n" + b"".join(b"%d,%s\n" % (i, b"w" * (i % 5)) for i in range(150))


def trace_lines(n, task_dtype="u32", digest="ab" * 32):
    chain, out = b"\0" * 32, b""
    for i in range(n):
        kind = ("Hello", "Task", "Accept", "Fit", "Fitted", "Settle")[i % 6]
        dtype = "f32" if kind in ("Fit", "Fitted") else task_dtype if kind == "Task" else ""
        run = "" if kind == "Hello" else "72" * 16
        line = ('{"time":"2026-01-01T00:00:00.000Z","n":%d,"dir":"%s","peer":"lab","kind":"%s","run":"%s","round":%d,"rows":4,"cols":1,'
                '"dtype":"%s","bytes":16,"wire":90,"digest":"%s","repeat":false,"head":"%s"') % (
                    i + 1, "in" if i % 2 else "out", kind, run, i // 6, dtype, digest if run else "", "cd" * 32 if run else "")
        chain = hashlib.blake2b(chain + line.encode(), digest_size=32).digest()
        out += line.encode() + b',"chain":"%s"}\n' % chain.hex().encode()
    return out


def msg(kind, run=1, rnd=0, *rest):
    return op(kind, run, rnd, *rest)


def arr(rows, cols, flags=1, chunk=0):
    return bytes([rows, cols, flags, chunk])


def traces():
    lines = trace_lines(8)
    for how in (0, 1):
        yield "lines-%d" % how, bytes([how]) + lines
        yield "cut-%d" % how, bytes([how]) + lines[:-20]
        yield "empty-%d" % how, bytes([how])
        if how == 0:
            continue
        yield "other-%d" % how, bytes([how]) + b'{"dir":"in","kind":"Fit","n":1}\n' + lines
        yield "nul-%d" % how, bytes([how]) + lines + b"\0\0\0\0"
        yield "head-%d" % how, bytes([how]) + lines.replace(b'"head":"cd', b'"head":"c')
    yield "json", b"\1{\n"
    yield "dtype", b"\1" + trace_lines(2, "f16")
    yield "digest", b"\1" + trace_lines(2, digest="xy")
    yield "cut-hello", b"\1" + trace_lines(1) + b'{"time"'
    exchange = msg(HELLO, 0) + b"".join(
        msg(k, 1, r, b) + op(2 * (r % 2), 9, 9, 0, 0)
        for r in range(3) for k, b in ((TASK, bytes([4, 2, 1, 9, 6, 0])), (ACCEPT, b"\1\1"), (FIT, arr(4, 1)), (FITTED, arr(6, 1)), (SETTLE, b"\1")))
    yield "written", b"\2" + exchange
    yield "two", b"\3" + exchange
    yield "two-differ", b"\3" + exchange[:60] + op(2) + exchange[60:]
    for change in (1, 3):
        yield "two-%d" % change, b"\3" + msg(TASK, 1, 0, bytes([4, 2, 1, 9, 6, 0])) + op(change) + msg(FIT, 1, 1, arr(4, 1))
    yield "repeats", b"\2" + msg(FIT, 1, 1, arr(4, 1), 5) * 3 + op(1) + msg(FIT, 0x11, 1, arr(4, 1), 5) + msg(FIT, 0x91, 2, arr(4, 1))


def text(s):
    return struct.pack("<I", len(s)) + s.encode()


def number(name, mean=3.0, deviation=2.0, kind=1):
    return struct.pack("<I", kind) + text(name) + struct.pack("<2d", mean, deviation)


def word(name, categories, pooled=0, n=None):
    return (struct.pack("<I", 2) + text(name) + struct.pack("<2I", pooled, len(categories) if n is None else n) +
            b"".join(text(c) for c in categories))


def features():
    magic = b"GALfea\0\1"

    def of(*sources, n=None):
        return magic + struct.pack("<I", len(sources) if n is None else n) + b"".join(sources)

    yield "both", of(number("age", 40, 9), word("town", ["Ulm", "Bonn"]))
    yield "pooled", of(word("town", ["Ulm"], 1))
    yield "none", of()
    yield "far", of(number("x", 0, 1e-300))
    yield "unknown", of(number("agee"))
    yield "text-as-number", of(number("town"))
    yield "kind", of(number("age", kind=3))
    yield "deviation", of(number("age", 1, 0))
    yield "not-a-number", of(number("age", float("nan")))
    yield "count", of(number("age"), n=9)
    yield "many", of(n=1 << 30)
    yield "categories", of(word("town", ["a"], n=1 << 20))
    yield "cut-category", of(word("town", ["Ulm", "Bonn"]))[:-3]
    yield "cut", of(number("age"))[:-3]
    yield "nul", of(number("a\0e"))
    yield "longer", of(number("age")) + b"x"
    yield "magic", b"GALfea\0\2" + of(number("age"))[8:]


def models():
    def of(d, k, lam=0.001, values=None):
        values = [0.5 * i for i in range((d + 1) * k)] if values is None else values
        return b"GALlin\0\1" + struct.pack("<2Id", d, k, lam) + struct.pack("<%dd" % len(values), *values)

    yield "two", of(2, 1)
    yield "classes", of(3, 3)
    yield "constant", of(0, 2)
    yield "wide", of(60, 2)
    yield "lambda", of(1, 1, -1.0)
    yield "infinite", of(1, 1, 0.1, [1.0, float("inf")])
    yield "cut", of(2, 2)[:-8]
    yield "odd", of(2, 2)[:-3]
    yield "none", of(2, 0, 0.1, [])
    yield "large", of(0xFFFFFFFF, 0xFFFFFFFF, 0.1, [1.0])
    yield "empty", b""
    yield "magic", b"GALlin\0\2" + of(1, 1)[8:]


def workers():
    def rows(peer=0, what=0, first=0):
        return op(1, peer, what, first)

    def a_task(run=1, fit=4, answer=2, outputs=1, rounds=3, common=6, flags=0):
        return msg(TASK, run, 0, bytes([fit, answer, outputs, rounds, common, flags])) + rows() + msg(CLOSE, run, 0, 1)

    def fit(rnd, run=1, n=4, k=1, digest=2, what=1, dtype=1):
        return msg(FIT, run, rnd, arr(n, k, dtype)) + op(1, run >> 4, what, 8, *range(1, 40)) + msg(CLOSE, run, rnd, digest)

    def ask(rnd, run=1, n=3, flags=0, rounds=1, coefficients=b"", first=0):
        return (msg(PREDICT, run, rnd, bytes([n, flags, rounds]), coefficients) + rows(run >> 4, 0, first) + msg(CLOSE, run, rnd, 3))

    whole = a_task() + fit(1) + msg(SETTLE, 1, 1, 1) + fit(2, digest=5) + fit(2, digest=5)
    yield "run", whole + ask(1, rounds=2) + ask(2, flags=1, rounds=2, coefficients=b"\x10\0")
    yield "f64", a_task(flags=1, outputs=2) + fit(1, k=2, what=2, dtype=2) + ask(1)
    yield "two-runs", a_task(1) + a_task(0x12) + fit(1) + fit(1, 0x12) + a_task(1) + fit(2) + ask(1)
    yield "again", a_task() + msg(TASK, 1, 0, bytes([4, 2, 1, 3, 6, 32])) + msg(CLOSE, 1, 0) + fit(1) + msg(FIT, 1, 1, arr(4, 1, 9)) + msg(
        CLOSE, 1, 1, 2) + msg(FIT, 1, 2, arr(4, 1, 9)) + msg(CLOSE, 1, 2, 2) + msg(PREDICT, 1, 1, bytes([1, 8, 0])) + msg(CLOSE, 1, 1)
    yield "other-residuals", a_task() + fit(1) + fit(1, digest=9) + fit(4)
    yield "not-finite", a_task() + msg(FIT, 1, 1, arr(4, 1)) + msg(CHUNK_MSG, 1, 1, b"\xff" * 16) + msg(CLOSE, 1, 1, 2)
    yield "shape", a_task() + fit(1, n=5) + fit(9) + fit(1, 2) + fit(1, 0) + ask(1, rounds=3)
    yield "beyond", a_task() + fit(1) + ask(1, n=9)
    yield "other-rows", a_task() + msg(TASK, 1, 0, bytes([4, 2, 1, 3, 6, 0])) + rows() + msg(CLOSE, 1, 0, 7) + fit(1)
    yield "twice", msg(TASK, 1, 0, bytes([4, 2, 1, 3, 6, 0])) + msg(CHUNK_MSG, 1, 0, b"\1\0\0\0" * 6) + msg(CLOSE, 1)
    yield "out-of-range", msg(TASK, 1, 0, bytes([4, 2, 1, 3, 6, 0])) + rows(0, 0, 3) + msg(CLOSE, 1)
    yield "rows", a_task(fit=3, answer=2, common=5)
    yield "ids", a_task(flags=2) + fit(1)
    yield "align", a_task(flags=6) + msg(ALIGN, 1, 1, 3) + msg(ALIGN, 1, 2, 6) + msg(ALIGN, 1, 3, 9) * 9
    yield "half", msg(TASK, 1, 0, bytes([4, 2, 1, 3, 6, 0])) + op(1, 0, 4, 0) + msg(CLOSE, 1) + op(1, 0, 4, 0) + msg(CLOSE, 1)
    yield "error", msg(ERROR, 1, 1, b"E\0text\0") + msg(PEER, 1, 0, 1) + msg(WELCOME, 1)
    yield "no-message", op(0, 0, b"\xff\xff")
    yield "no-peer", op(0, 0xff) + op(0, 0, header(SETTLE, num(1, 1) + raw(2, D)))
    yield "large", msg(TASK, 1, 0, bytes([100, 100, 1, 3, 6, 0])) + msg(TASK, 0, 0, bytes([4, 2, 1, 3, 6, 0])) + msg(CLOSE, 1)


def cores():
    up = b"".join(msg(PEER, i << 4, 0, 1) for i in range(3))

    def answers(kind, rnd, rows=6, cols=2, dtype=1, byte=0):
        return b"".join(msg(kind, 1 | i << 4, rnd, arr(rows, cols, dtype)) + op(5, i, byte) + msg(CLOSE, 1 | i << 4, rnd) for i in range(3))

    accept = b"".join(msg(ACCEPT, 1 | i << 4, 0, 1, 1) for i in range(3))
    begun = up + op(1, 0) + accept
    yield "run", begun + op(2, 2) + answers(FITTED, 1) + op(4, 1) + op(2, 5) + answers(FITTED, 2, dtype=2)
    yield "predict", begun + op(3, 0x1c) + answers(PREDICTED, 1, 4, 6) + op(3, 0x1d) + answers(PREDICTED, 1, 4, 2)
    yield "not-finite", begun + op(2, 2) + answers(FITTED, 1, byte=255)
    yield "gone", begun + op(2, 2) + msg(PEER, 0x10, 0, 0) + msg(PEER, 0x10, 0, 1) + msg(ACCEPT, 0x11, 0) + answers(FITTED, 1)
    yield "shape", begun + op(2, 2) + answers(FITTED, 1, 7) + answers(FITTED, 2) + answers(PREDICTED, 1) + msg(FITTED, 2, 1, arr(6, 2))
    yield "half", begun + op(2, 2) + msg(FITTED, 1, 1, arr(6, 2)) + op(5, 0, 1, 1) + msg(CLOSE, 1, 1) + op(5, 0, 1) + msg(CLOSE, 1, 1)
    yield "refuse", begun + msg(REFUSE, 1, 0, 3, b"E_TASK\0no\0") + msg(REFUSE, 2, 0, 3, b"E_TASK\0no\0") + msg(ERROR, 1, 1, b"E\0t\0")
    yield "error", begun + op(2, 2) + msg(ERROR, 0x11, 1, b"E_FIT\0t\0")
    yield "ids", up + op(1, 1) + msg(REFUSE, 0x11, 0, 6, b"E_IDS\0\0") + msg(ALIGNED, 0x11, 1, 0, 6) * 5
    yield "more-rows", up + op(1, 1) + msg(REFUSE, 0x11, 0, 9, b"E_IDS\0\0") + msg(ALIGNED, 0x11, 1, 1, 9) + msg(ALIGNED, 0x21, 1, 1, 9)
    yield "ids-late", up + op(1, 1) + msg(REFUSE, 0x11, 0, 6, b"E_IDS\0\0") + msg(ALIGNED, 0x11, 1, 0, 6) + msg(ALIGNED, 0x11, 2, 1, 6) * 4
    yield "traffic", msg(PEER, 0, 0, 2, 9, 9) + up + op(2, 2) + answers(FITTED, 1)
    yield "unknown", up + msg(HELLO, 1)
    yield "no-message", op(0, 0, b"\xff")
    yield "no-peer", op(0, 9, header(SETTLE, num(1, 1) + raw(2, D)))


def links():
    hello = b"".join(msg(HELLO, i << 4, 0, 1, 7, b"gal\0") for i in range(2))
    welcome = op(1, 0) + op(1, 1) + b"".join(msg(WELCOME, i << 4, 0, 1, 0, b"gal\0") for i in range(2))
    a_task = bytes([4, 2, 1, 3, 6, 0])
    their_task = b"".join(msg(TASK, 1 | i << 4, 0, a_task) + msg(CHUNK_MSG, 1 | i << 4) + msg(CLOSE, 1 | i << 4) for i in range(2))
    own_task = op(3, 7, 255, TASK, 1, 0, a_task)

    def theirs(kind, rnd, rows, flags=1, n=1, how=0, cols=4, end=0):
        return (msg(kind, 1, rnd, arr(rows, cols, flags)) + msg(CHUNK_MSG, 1, rnd, how) * n + msg(CLOSE, 1, rnd, end))

    yield "assistor", (b"\0" + welcome + their_task + op(4, 2, ACCEPT, 1, 0, 1, 1) + theirs(FIT, 1, 4) +
                       op(3, 2, 255, FITTED, 1, 1, arr(6, 4)) + msg(SETTLE, 1, 1, 1) + theirs(FIT, 2, 200, 17, 4) + msg(BYE, 0, 0, b"x\0"))
    yield "sponsor", (b"\1" + hello + own_task + msg(ACCEPT, 1) + op(3, 6, 255, FIT, 1, 1, arr(200, 2, 17)) + msg(ACK, 1, 1, FIT, 3) +
                      msg(ACK, 0x11, 1, FIT, 3) + theirs(FITTED, 1, 6) + msg(REFUSE, 0x11, 0, 1, b"E\0") + msg(ERROR, 2, 1, b"E\0"))
    yield "local", (b"\3" + hello + own_task + op(6, ACCEPT, 1, 0, 1) + op(3, 7, 255, FIT, 1, 1, arr(4, 1)) +
                    op(6, FITTED, 1, 1, arr(6, 1)) + op(4, 7, SETTLE, 1, 1, 1) + op(6, ERROR, 2, 1))
    yield "resume", (b"\0" + welcome + their_task + msg(FIT, 1, 1, arr(40, 4, 17)) + msg(CHUNK_MSG, 1, 1) * 4 + op(2, 0) +
                     msg(WELCOME, 0, 0, 1) + msg(FIT, 1, 1, arr(40, 4, 21)) + msg(CHUNK_MSG, 1, 1) * 200 + msg(CLOSE, 1, 1))
    yield "asked-again", b"\0" + welcome + their_task + theirs(FIT, 1, 4) + msg(FIT, 1, 1, arr(4, 4, 5)) + msg(CLOSE, 1, 1)
    yield "own-resume", (b"\1" + hello + own_task + op(3, 2, 1, FIT, 1, 1, arr(40, 4, 17)) + op(2, 0) + msg(HELLO, 0, 0, 1) +
                         op(3, 2, 255, FIT, 1, 1, arr(40, 4, 17)) + msg(ACK, 1, 1, FIT, 2) + msg(ACK, 1, 1, FIT, 9) + msg(ACK, 1, 2, FIT, 9))
    yield "order", b"\0" + welcome + their_task + theirs(FIT, 1, 40, 17, 1, 1) + theirs(FIT, 2, 4, 1, 1, 2) + theirs(FIT, 3, 4, 1, 1, 4)
    yield "digest", b"\0" + welcome + their_task + theirs(FIT, 1, 4, end=4) + theirs(FIT, 2, 4, end=1) + theirs(FIT, 3, 4, how=8)
    yield "no-run", b"\0" + welcome + theirs(FIT, 1, 4) + msg(SETTLE, 1) + msg(TASK, 0, 0, a_task) + msg(CLOSE, 1)
    yield "before-hello", b"\1" + msg(ACCEPT, 1) + msg(FITTED, 1, 1, arr(6, 1)) + msg(HELLO, 0, 0, 2) + op(4, 6, SETTLE, 1, 1)
    yield "wrong-side", b"\1" + hello + msg(TASK, 1, 0, a_task) + msg(WELCOME, 0) + msg(PEER, 0, 0, 1) + op(0, 0, b"\xff") + op(0, 16)
    yield "version", b"\0" + op(1, 0) + msg(WELCOME, 0, 0, 2) + msg(WELCOME, 0, 0, 1) * 2
    yield "not-adopted", b"\1" + hello + op(5, 5) + msg(ACCEPT, 1)
    yield "blocked", b"\1" + hello + op(5, 2) + own_task + op(4, 6, SETTLE, 1, 1) + op(5, 1) + op(5, 2) + op(4, 6, SETTLE, 1, 2) + op(5, 0) * 2
    yield "disconnect", b"\1" + hello + own_task + op(5, 0) + op(4, 6, SETTLE, 1, 1) + op(5, 1) + hello + op(3, 6, 255, FIT, 1, 1, arr(4, 1))
    yield "trace", b"\0" + welcome + their_task + op(7) + theirs(FIT, 1, 4) + op(7) + theirs(FIT, 1, 4)
    yield "tasks", b"\0" + welcome + their_task + op(8, 255, TASK, 0, 0, a_task) + op(3, 2, 255, FITTED, 1, 1, arr(6, 4))
    yield "garbage", b"\0" + welcome + op(5, 2) + op(8, 255, CHUNK_MSG, 0, 0) * 3


CORPORA = {"msg": messages, "transfer": transfers, "pipe": pipes, "key": keys, "z85": z85s, "conf": confs, "table": tables, "trace": traces,
           "features": features, "model": models, "worker": workers, "link": links, "peers": cores}


def main(directory):
    for name, seeds in CORPORA.items():
        folder = os.path.join(directory, name)
        os.makedirs(folder, exist_ok=True)
        for old in os.listdir(folder):
            if not old.startswith("found-"):
                os.remove(os.path.join(folder, old))
        for seed, content in seeds():
            with open(os.path.join(folder, seed), "wb") as out:
                out.write(content)


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
