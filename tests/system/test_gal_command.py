"""The operator's command by itself: usage, keys, traces, and `gal simulate` against daemons that only pretend."""
import csv
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GAL = pathlib.Path(os.environ.get("GAL_BUILD", ROOT / "build")).resolve() / "gal"
KINDS = {"Task": 12, "Accept": 13, "Refuse": 14, "Align": 15, "Aligned": 16, "Fit": 17, "Fitted": 18, "Settle": 19,
         "Predict": 20, "Predicted": 21}
DTYPES = {"": 0, "f32": 1, "f64": 2, "u32": 3}


def gal(*words, program=GAL, env=None, **options):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {})}, **options)


def refused(result, *parts, status=2):
    """One clear line, and the status that says whose fault it is."""
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("gal")
    for part in parts:
        assert part in result.stderr


# ---- usage ----

def test_help_names_every_command():
    text = gal("help").stdout
    for name in ("simulate", "keygen", "train", "status", "predict", "runs", "trace"):
        assert f"\n  {name} " in text
        assert gal("help", name).stdout.startswith(f"gal {name} ")
        assert gal(name, "--help").stdout == gal("help", name).stdout
    for absent in ("doctor", "plan", "report ", "forget"):
        assert f"\n  {absent}" not in text
    assert gal("--version").stdout.startswith("gal ")
    assert gal().returncode == 2


@pytest.mark.parametrize("words, parts", [
    (["frobnicate"], ["frobnicate", "gal help"]),
    (["help", "frobnicate"], ["frobnicate"]),
    (["keygen"], ["gal keygen NAME"]),
    (["keygen", "a", "b"], ["gal keygen NAME"]),
    (["keygen", "a/b"], ["a/b", "letters"]),
    (["keygen", "x" * 41], ["40"]),
    (["keygen", "a", "--frob"], ["--frob"]),
    (["keygen", "a", "-o", "/nonexistent"], ["/nonexistent/a.key", "No such file"]),
    (["status"], ["-c CONFIG", "--state DIR"]),
    (["status", "-c", "/nonexistent.conf"], ["/nonexistent.conf", "No such file"]),
    (["status", "--state", "/nonexistent"], ["/nonexistent"]),
    (["trace"], ["gal trace FILE"]),
    (["trace", "/nonexistent"], ["/nonexistent", "No such file"]),
    (["trace", "--verify", "/nonexistent"], ["/nonexistent", "No such file"]),
    (["trace", "a", "--verify", "--follow"], ["choose one"]),
    (["trace", "a", "--round", "1"], ["--diagram"]),
    (["trace", "a", "--diagram", "--round", "0"], ["--round 0"]),
    (["predict", "a.csv"], ["-c CONFIG"]),
])
def test_bad_usage_is_one_line(words, parts):
    refused(gal(*words), *parts)


# ---- keys ----

def test_keygen_modes_and_no_overwriting(tmp_path):
    result = gal("keygen", "clinic", "-o", tmp_path)
    assert result.returncode == 0
    key, public = tmp_path / "clinic.key", tmp_path / "clinic.pub"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    magic, name, secret = key.read_text().split("\n")[:3]
    assert (magic, name, len(secret)) == ("gal-key-v1", "clinic", 40)
    assert public.read_text() == result.stdout and len(result.stdout) == 41
    assert secret not in result.stdout + result.stderr
    refused(gal("keygen", "clinic", "-o", tmp_path), "clinic.key", "not overwritten")
    key.unlink()
    refused(gal("keygen", "clinic", "-o", tmp_path), "clinic.pub", "not overwritten")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clinic.pub"]


def test_keys_are_zeromq_keys(tmp_path):
    zmq = pytest.importorskip("zmq")
    public = gal("keygen", "clinic", "-o", tmp_path).stdout.strip()
    secret = (tmp_path / "clinic.key").read_text().split("\n")[2]
    assert zmq.curve_public(secret.encode()).decode() == public


# ---- traces ----

class Trace:
    """Writes a trace as docs/PROTOCOL.md describes it, independently of gal-link."""

    def __init__(self, path):
        self.path, self.chain, self.heads, self.lines = path, bytes(32), {}, []

    def add(self, way, peer, kind, run="", round_=0, rows=0, cols=0, dtype="", values=b"", repeat=False):
        digest = hashlib.blake2b(values or kind.encode(), digest_size=32).digest()
        head = ""
        if run:
            before = self.heads.get((run, peer), bytes(32))
            if not repeat and kind in KINDS and kind != "Settle":  # a Settle carries the head
                block = struct.pack("<5I", KINDS[kind], round_, rows, cols, DTYPES[dtype])
                before = hashlib.blake2b(before + block + digest, digest_size=32).digest()
            self.heads[run, peer] = before
            head = before.hex()
        line = {"time": f"2026-11-21T07:25:33.{len(self.lines):03d}Z", "n": len(self.lines) + 1, "dir": way, "peer": peer,
                "kind": kind, "run": run, "round": round_, "rows": rows, "cols": cols, "dtype": dtype,
                "bytes": len(values), "wire": len(values) + 90, "digest": digest.hex(), "repeat": repeat, "head": head}
        text = json.dumps(line, separators=(",", ":"))[:-1]
        self.chain = hashlib.blake2b(self.chain + text.encode(), digest_size=32).digest()
        self.lines.append(f'{text},"chain":"{self.chain.hex()}"}}\n')

    def write(self):
        self.path.write_text("".join(self.lines))
        return self.path


def exchange(tmp_path, rounds=2, orgs=3, run="ab" * 16, change=None):
    """The traces of one run: the sponsor's and each assistor's. `change` alters what org2 says it answered in a round."""
    names = [f"org{m}" for m in range(2, orgs + 1)]
    sponsor = Trace(tmp_path / "sponsor.jsonl")
    others = {name: Trace(tmp_path / f"{name}.jsonl") for name in names}

    def both(outward, name, kind, values=b"", said=None, **shape):
        sponsor.add("out" if outward else "in", name, kind, run, values=values, **shape)
        others[name].add("in" if outward else "out", "sponsor", kind, run, values=values if said is None else said, **shape)

    for name in names:
        sponsor.add("in", name, "Hello")
        others[name].add("out", "sponsor", "Hello")
        both(True, name, "Task", b"rows" * 10, rows=10, cols=1, dtype="u32")
        both(False, name, "Accept")
    for t in range(1, rounds + 1):
        sponsor.add("local-out", "sponsor", "Fit", run, t, 10, 1, "f32", bytes([t]) * 40)
        for name in names:
            both(True, name, "Fit", bytes([t]) * 40, round_=t, rows=10, cols=1, dtype="f32")
        for name in reversed(names):
            answer = f"{name} {t} ".encode() * 5
            both(False, name, "Fitted", answer, b"other" if change == t and name == "org2" else None, round_=t, rows=10,
                 cols=1, dtype="f32")
        for name in names:
            both(True, name, "Settle", round_=t)
    return sponsor, others


def test_trace_table_json_and_totals(tmp_path):
    sponsor, others = exchange(tmp_path)
    path = others["org2"].write()
    lines = gal("trace", path).stdout.splitlines()
    assert len(lines) == len(others["org2"].lines) + 2
    assert lines[0].split()[:3] == ["time", "peer", "kind"]
    fit = next(l for l in lines if " Fit " in l)
    assert "<--" in fit and "10 x 1" in fit and "f32" in fit and "40 B" in fit
    assert lines[-1].startswith("left this host: 4 messages, 70 B of values")
    assert gal("trace", "--json", path).stdout == path.read_text()


def test_trace_diagram(tmp_path):
    sponsor, _ = exchange(tmp_path)
    path = sponsor.write()
    text = gal("trace", "--diagram", path).stdout
    assert text.startswith("round 1 of run abababab")
    assert len([l for l in text.splitlines() if "-- Fit 10x1" in l and ">" in l]) == 3
    assert len([l for l in text.splitlines() if "|<-- Fitted 10x1" in l]) == 2
    assert text.isascii()
    assert gal("trace", "--diagram", "--round", 2, path).stdout.startswith("round 2 of")
    refused(gal("trace", "--diagram", "--round", 9, path), "no round 9")


def test_trace_follow_sees_what_is_appended(tmp_path):
    sponsor, _ = exchange(tmp_path)
    path = tmp_path / "t.jsonl"
    path.write_text(sponsor.lines[0] + sponsor.lines[1][:50])
    with subprocess.Popen([GAL, "trace", "--follow", "--json", path], stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == sponsor.lines[0]
        with path.open("a") as out:
            out.write(sponsor.lines[1][50:])
        assert reader.stdout.readline() == sponsor.lines[1]
        reader.terminate()


def test_verify_accepts_what_a_link_wrote(tmp_path):
    sponsor, others = exchange(tmp_path)
    sponsor.add("out", "org2", "Fit", "ab" * 16, 2, 10, 1, "f32", b"x" * 40, repeat=True)
    sponsor.add("out", "org2", "Error", "ab" * 16)
    a, b, c = sponsor.write(), others["org2"].write(), others["org3"].write()
    for path in (a, b, c):
        result = gal("trace", "--verify", path)
        assert result.returncode == 0 and "the chain is whole" in result.stdout, result.stderr
    for pair in ((a, b), (b, a), (a, c)):
        result = gal("trace", "--verify", *pair)
        assert result.returncode == 0 and "1 exchange they share" in result.stdout, result.stderr
    refused(gal("trace", "--verify", b, c), "no run in which the two spoke", status=1)
    assert json.loads(gal("trace", "--verify", "--json", a, b).stdout)["ok"] is True


def test_verify_finds_every_flipped_byte(tmp_path):
    sponsor, _ = exchange(tmp_path, rounds=1, orgs=2)
    good = "".join(sponsor.lines[:4]).encode()
    path = tmp_path / "flipped.jsonl"
    path.write_bytes(good)
    assert gal("trace", "--verify", path).returncode == 0
    for at in range(0, len(good), 1 if os.environ.get("GAL_FULL") else 3):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        assert gal("trace", "--verify", path).returncode == 1, f"byte {at} of {len(good)}"


def test_verify_finds_lines_that_are_gone_or_moved(tmp_path):
    sponsor, _ = exchange(tmp_path)
    path = tmp_path / "t.jsonl"
    lines = sponsor.lines
    for bad in (lines[1:], lines[:3] + lines[4:], [lines[1], lines[0], *lines[2:]], lines[:3] + lines[2:]):
        path.write_text("".join(bad))
        refused(gal("trace", "--verify", path), "t.jsonl:", "chain", status=1)
    path.write_text("".join(lines)[:-1])
    refused(gal("trace", "--verify", path), f"t.jsonl:{len(lines)}: ", "cut short", status=1)


def test_verify_recomputes_heads(tmp_path):
    """A writer who lies about a digest and makes a fresh chain over the lie."""
    lying = Trace(tmp_path / "lie.jsonl")
    lying.add("out", "org2", "Task", "ab" * 16, rows=1, cols=1, dtype="u32", values=b"rows")
    lying.heads["ab" * 16, "org2"] = bytes(32)
    lying.add("in", "org2", "Accept", "ab" * 16)
    refused(gal("trace", "--verify", lying.write()), "lie.jsonl:2: the head does not follow", status=1)


def test_compare_names_the_first_difference(tmp_path):
    sponsor, others = exchange(tmp_path, rounds=3, change=2)
    a, b, c = sponsor.write(), others["org2"].write(), others["org3"].write()
    result = gal("trace", "--verify", a, b)
    refused(result, "Fitted, round 2", "differ in digest", "sponsor.jsonl:", "org2.jsonl:", status=1)
    line = int(result.stderr.split("org2.jsonl:")[1].split()[0])
    assert json.loads(others["org2"].lines[line - 1])["kind"] == "Fitted"
    assert gal("trace", "--verify", a, c).returncode == 0
    verdict = json.loads(gal("trace", "--verify", "--json", a, b).stdout)
    assert verdict["ok"] is False and "round 2" in verdict["error"]


def test_compare_names_what_only_one_has(tmp_path):
    sponsor, others = exchange(tmp_path, rounds=2, orgs=2)
    others["org2"].lines.pop()  # the Settle, which no head includes
    assert gal("trace", "--verify", sponsor.write(), others["org2"].write()).returncode == 0
    others["org2"].lines.pop()
    refused(gal("trace", "--verify", sponsor.write(), others["org2"].write()), "goes on at line", "Fitted, round 2", status=1)


# ---- simulate ----

@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """A directory with gal and daemons that pretend."""
    place = tmp_path_factory.mktemp("bin")
    shutil.copy(GAL, place / "gal")
    for name in ("gal-sponsor", "gal-assistor"):
        shutil.copy(ROOT / "tests" / "system" / "fake_daemon.py", place / name)
        (place / name).chmod(0o755)
    return place / "gal"


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as out:
        write = csv.writer(out)
        write.writerow(["name", "a", 'b "quoted", odd', "c", "d", "y"])
        for i in range(50):
            write.writerow([f"row {i}", f"{i}.10", 'x,"y"' if i % 2 else "z", f"1e-{i}", 0.1 * i, i % 3 + 0.5])
    return path


def rows_of(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def test_simulate_keeps_the_contract(fake, data, tmp_path):
    out = tmp_path / "out"
    result = gal("simulate", data, "--target", "y", "--id", "name", "--orgs", 3, "--rounds", 2, "--baselines",
                 "alone,joint", "--out", out, "--keep", "--json", "--threads", 2, program=fake)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert set(document) == {"version", "data", "task", "orgs", "runs"}
    assert document["data"] == {"rows": 50, "train": 40, "test": 10, "outputs": 1}
    assert (document["task"], document["orgs"]) == ("regression", 3)
    assert [r["name"] for r in document["runs"]] == ["gal", "alone", "joint"]
    for run in document["runs"]:
        assert set(run) == {"name", "model", "solver", "loss", "rounds", "best_round", "test", "seconds", "peak_rss_kb"}
        assert [r["round"] for r in run["rounds"]] == [1, 2] and run["peak_rss_kb"] == 4000
        assert set(run["rounds"][0]) == {"round", "objective", "validation", "rate", "weights", "seconds", "bytes_out",
                                         "bytes_in"}
    assert "allow_reconstruction" in result.stderr and "regression" in result.stderr
    assert "threads 2 2" in (out / "sponsor" / "log").read_text()

    source = {r["name"]: r for r in rows_of(data)}
    slices = [rows_of(out / name / "data.csv") for name in ("sponsor", "org2", "org3")]
    columns = [set(s[0]) - {"id"} for s in slices]
    assert sorted(sum(map(sorted, columns), [])) == ["a", 'b "quoted", odd', "c", "d"]
    for part in slices:
        assert [r["id"] for r in part] == list(source)  # the file's order tells nothing about test rows
        for row in part:
            assert all(row[c] == source[row["id"]][c] for c in row if c != "id")
    labels, test = rows_of(out / "sponsor" / "labels.csv"), rows_of(out / "sponsor" / "test.csv")
    assert (len(labels), len(test)) == (40, 10)
    assert {r["id"] for r in labels} | {r["id"] for r in test} == set(source)
    for row in labels + test:
        assert row["target"] == source[row["id"]]["y"]
    joint = rows_of(out / "joint" / "sponsor" / "data.csv")
    assert set(joint[0]) == {"id", "a", 'b "quoted", odd', "c", "d"}
    assert set(rows_of(out / "alone" / "sponsor" / "data.csv")[0]) - {"id"} == columns[0]
    assert stat.S_IMODE((out / "org3" / "org3.key").stat().st_mode) == 0o600
    assert "[policy]\nallow_reconstruction = yes" in (out / "org2" / "org2.conf").read_text()
    assert (out / "org2" / "org2.pub").read_text().strip() in (out / "sponsor" / "sponsor.conf").read_text()


def test_simulate_is_repeatable(fake, data, tmp_path):
    files = []
    for n, seed in enumerate((7, 7, 8)):
        out = tmp_path / f"out{n}"
        assert gal("simulate", data, "--target", "y", "--id", "name", "--rounds", 1, "--seed", seed, "--out", out,
                   program=fake).returncode == 0
        files.append([(out / f).read_text() for f in ("sponsor/data.csv", "org2/data.csv", "sponsor/labels.csv")])
    assert files[0] == files[1] != files[2]


def test_simulate_split_file(fake, data, tmp_path):
    split, out = tmp_path / "split.json", tmp_path / "out"
    split.write_text(json.dumps({"train": [5, 1, 9, 11], "test": [2, 3], "features": [[4], [3, 1]]}))
    result = gal("simulate", data, "--target", "y", "--split", split, "--out", out, program=fake)
    assert result.returncode == 0, result.stderr
    assert [list(r) for r in rows_of(out / "org2" / "data.csv")][0] == ["id", "c", "a"]
    assert [r["id"] for r in rows_of(out / "sponsor" / "data.csv")] == ["1", "2", "3", "5", "9", "11"]
    assert [r["id"] for r in rows_of(out / "sponsor" / "labels.csv")] == ["1", "5", "9", "11"]
    assert [r["id"] for r in rows_of(out / "sponsor" / "test.csv")] == ["2", "3"]


@pytest.mark.parametrize("text, part", [
    ("{", "split.json:1"),
    ("[]", '"train"'),
    ('{"train": [0, 50], "test": [], "features": [[1]]}', "train[1]: need a whole number from 0 to 49"),
    ('{"train": [0, 1, 0], "test": [], "features": [[1]]}', "train[2]: row 0 is listed twice"),
    ('{"train": [0, 1], "test": [1], "features": [[1]]}', "test[0]: row 1 is listed twice"),
    ('{"train": [0, 1], "test": [2], "features": []}', '"features"'),
    ('{"train": [0, 1], "test": [2], "features": [[1], []]}', "features[1]"),
    ('{"train": [0, 1], "test": [2], "features": [[1], [5]]}', 'features[1][0]: column 5 ("y") is the target'),
    ('{"train": [0, 1], "test": [2], "features": [[1], [1]]}', "is listed twice"),
    ('{"train": [0, 1], "test": [2], "features": [[1], [6]]}', "from 0 to 5"),
    ('{"train": [0], "test": [2], "features": [[1]]}', "need 2 at least"),
])
def test_bad_split_files(fake, data, tmp_path, text, part):
    (tmp_path / "split.json").write_text(text)
    refused(gal("simulate", data, "--target", "y", "--task", "regression", "--split", tmp_path / "split.json", program=fake),
            part)


@pytest.mark.parametrize("words, part", [
    ([], "--target"),
    (["--target", "nope"], 'no column "nope"'),
    (["--target", "y", "--id", "y"], "same column"),
    (["--target", "y", "--id", "b \"quoted\", odd"], "is there already in line"),
    (["--target", "y", "--orgs", "6"], "fewer --orgs"),
    (["--target", "y", "--orgs", "0"], "--orgs 0"),
    (["--target", "y", "--rounds", "1.5"], "--rounds 1.5"),
    (["--target", "y", "--test", "1"], "--test 1"),
    (["--target", "y", "--rate", "fast"], "--rate fast"),
    (["--target", "y", "--rate", "fixed:0"], "--rate"),
    (["--target", "y", "--task", "sorting"], "--task sorting"),
    (["--target", "name", "--task", "regression"], "not numbers"),
    (["--target", "y", "--task", "binary"], "more than two values"),
    (["--target", "y", "--solver", "corrective"], "not built yet"),
    (["--target", "y", "--weights", "cone"], "not built yet"),
    (["--target", "y", "--fit-on", "rotate"], "not built yet"),
    (["--target", "y", "--fit-on", "cross"], "not built yet"),
    (["--target", "y", "--fit-on", "held-out:0.2"], "not built yet"),
    (["--target", "y", "--baselines", "alone,late"], "--baselines late: not built yet"),
    (["--target", "y", "--baselines", "alone,"], "--baselines"),
    (["--target", "y", "--model", "linear,gb"], "--model gb: not built yet"),
    (["--target", "y", "--model", "magic"], "--model magic"),
    (["--target", "y", "--report", "x.html"], "not built yet"),
    (["--target", "y", "--set", "rounds=3"], "section.key=value"),
    (["--target", "y", "--set", "org9.model.lambda=3"], "no organization"),
    (["--target", "y", "--set", "cake.x=3"], "section"),
])
def test_simulate_refuses(fake, data, words, part):
    words = ["--task", "regression", *words] if "--task" not in words else words
    refused(gal("simulate", data, *words, program=fake), part)


def test_simulate_refuses_names_that_would_clash(fake, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,x,y\n" + "".join(f"{i},{i},{i}.5\n" for i in range(10)))
    refused(gal("simulate", path, "--target", "y", "--task", "regression", program=fake), '"id"', "--id id")
    path.write_text("target,x,y\n" + "".join(f"{i},{i},{i}.5\n" for i in range(10)))
    refused(gal("simulate", path, "--target", "y", "--task", "regression", program=fake), '"target"', "rename it")


@pytest.mark.parametrize("values, task", [
    (["1", "0"], "binary"), (["no", "yes"], "binary"), (["1", "2", "3"], "multiclass"), (["a", "b", "c"], "multiclass"),
    (["1.5", "2", "3"], "regression"), ([str(i) for i in range(21)], "regression"),
    ([str(i) for i in range(20)], "multiclass"),
])
def test_simulate_guesses_the_task_and_says_so(fake, tmp_path, values, task):
    path = tmp_path / "d.csv"
    path.write_text("x,z,y\n" + "".join(f"{i},{i},{values[i % len(values)]}\n" for i in range(100)))
    result = gal("simulate", path, "--target", "y", "--rounds", 1, "--json", program=fake)
    assert json.loads(result.stdout)["task"] == task
    assert f"{task} task" in result.stderr.splitlines()[0]


def test_simulate_set_reaches_the_right_files(fake, data, tmp_path):
    out = tmp_path / "out"
    words = ["task.patience=5", "policy.round_to=3", "model.lambda=0.5", "org3.model.lambda=7", "sandbox.mode=off"]
    assert gal("simulate", data, "--target", "y", "--orgs", 3, "--out", out, *sum((["--set", w] for w in words), []),
               program=fake).returncode == 0
    conf = {n: (out / n / f"{n}.conf").read_text() for n in ("sponsor", "org2", "org3")}
    assert "patience = 5" in conf["sponsor"] and "patience" not in conf["org2"]
    assert "round_to = 3" in conf["org2"] and "round_to" not in conf["sponsor"]
    assert "lambda = 0.5" in conf["sponsor"] and "lambda = 0.5" in conf["org2"] and "lambda = 7" in conf["org3"]
    assert all("[sandbox]\nmode = off" in text for text in conf.values())


@pytest.mark.parametrize("mode, status, parts", [
    ("bad-config", 2, ["sponsor ended", "unknown key"]),
    ("bad-assistor", 2, ["org2 ended", "unknown key"]),
    ("die", 1, ["terrible"]),
    ("fail", 1, ["org2 sent a residual of its own"]),
    ("refused", 1, ["a run is going on"]),
    ("no-predict", 1, ["prediction", "nobody's data"]),
    ("garbage", 1, ["not JSON"]),
])
def test_simulate_says_what_went_wrong_and_cleans_up(fake, data, tmp_path, mode, status, parts):
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    result = gal("simulate", data, "--target", "y", "--rounds", 3, "--json", program=fake,
                 env={"GAL_FAKE": mode, "TMPDIR": str(tmp)})
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr
    assert list(tmp.iterdir()) == []


def test_simulate_without_daemons(data, tmp_path):
    shutil.copy(GAL, tmp_path / "gal")
    result = gal("simulate", data, "--target", "y", "--task", "regression", program=tmp_path / "gal")
    assert result.returncode == 1 and "gal-sponsor: is neither in" in result.stderr


def test_interrupt_leaves_nothing_behind(fake, data, tmp_path):
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    shutil.copy(fake, tmp_path / "gal")
    (tmp_path / "gal-sponsor").write_text('#!/bin/sh\necho $$ >"$TMPDIR/../pid"\nexec sleep 100\n')
    (tmp_path / "gal-sponsor").chmod(0o755)
    with subprocess.Popen([tmp_path / "gal", "simulate", data, "--target", "y"], env={**os.environ, "TMPDIR": str(tmp)},
                          stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 1
        assert "interrupted" in process.stderr.read()
    assert list(tmp.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# ---- a running daemon ----

@pytest.fixture(params=["regression", "binary", "multiclass", "count"])
def daemon(request, fake, tmp_path):
    home = tmp_path / ("long" * 30)  # longer than a socket address holds
    (home / "state").mkdir(parents=True)
    (home / "data.csv").write_text("id,x\n1,2\n")
    (home / "sponsor.conf").write_text(
        "; a comment\n[data]\nstate = wrong\n[organization]\nname = sponsor\nstate = state\n"
        f"[task main]\nkind = {request.param}\nrounds = 2\nsolver = paper\n")
    process = subprocess.Popen([fake.parent / "gal-sponsor", home / "sponsor.conf"], stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    while not (home / "state" / "control.sock").exists():
        time.sleep(0.01)
    time.sleep(0.05)
    yield request.param, home
    process.terminate()
    process.wait()


def test_talks_to_a_running_daemon(daemon, tmp_path):
    kind, home = daemon
    conf, ids = home / "sponsor.conf", tmp_path / "ids.csv"
    for words in (["-c", conf], ["--state", home / "state"], [conf], [home / "state"]):
        assert gal("status", *words).stdout.startswith("sponsor (sponsor, version 0.1.0")
    assert json.loads(gal("status", "--json", conf).stdout)["name"] == "sponsor"
    assert "ab" * 16 in gal("runs", conf).stdout
    assert json.loads(gal("runs", conf, "--json").stdout)["runs"][0]["task"] == "main"
    trained = gal("train", conf)
    assert trained.returncode == 0 and "round 2" in trained.stderr
    events = [json.loads(l) for l in gal("train", "--json", conf).stdout.splitlines()]
    assert [e["event"] for e in events] == ["waiting", "start", "round", "round", "done"]
    ids.write_text("id,target\n7,1\n11,0\n")
    out = tmp_path / "out.csv"
    result = gal("predict", ids, "-c", conf, "-o", out, "--truth")
    assert result.returncode == 0 and result.stdout.split()[:2] == ["mad", "0.5"], result.stderr
    rows = rows_of(out)
    assert [r["id"] for r in rows] == ["7", "11"]
    if kind == "regression":
        assert [float(r["score"]) for r in rows] == [7, 11]
    elif kind == "count":
        assert float(rows[0]["expected"]) == pytest.approx(1.6487212707)
    elif kind == "binary":
        assert rows[0]["class"] == "yes, sure" and float(rows[0]["p_yes, sure"]) == pytest.approx(0.880797, abs=1e-6)
        assert float(rows[0]["p_no"]) == pytest.approx(0.119203, abs=1e-6)
    else:
        assert rows[0]["class"] == "2" and float(rows[0]["p_0"]) == pytest.approx(0.0900306, abs=1e-6)
    assert gal("predict", ids, "-c", conf).stdout.splitlines()[0].startswith("id,")
    assert json.loads(gal("predict", ids, "-c", conf, "--json").stdout)["ids"] == ["7", "11"]
    refused(gal("predict", ids, "-c", conf, "--truth=cake"), 'no column "cake"')
    refused(gal("predict", ids, "-c", conf, "--id", "cake"), 'no column "cake"')


def test_no_daemon_there(tmp_path):
    refused(gal("status", "--state", tmp_path), "no daemon is running there", status=1)
    (tmp_path / "a.conf").write_text("[organization]\nname = a\n")
    refused(gal("status", tmp_path / "a.conf"), "no state= in [organization]")
