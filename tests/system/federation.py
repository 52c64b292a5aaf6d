"""A federation of real daemons, set up the way a user would: keys by `gal keygen`, a configuration file each, one process per
organization. What a test learns, it learns as a user could: through control.sock, the logs, the traces and the state files."""
import contextlib
import csv
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import uuid

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GAL_BUILD", ROOT / "build")).resolve()
REFERENCE = ROOT / "tests" / "data" / "reference"
GAL = BUILD / "gal"
PROGRAMS = ("gal-sponsor", "gal-assistor", "gal-link", "gal-core", "gal-worker", "gal")


def gal(*words, timeout=120, env=None):
    return subprocess.run([GAL, *map(str, words)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def simulate(data, *words):
    """The document of `gal simulate --json`; the target is the last column; --fit-on train --validation 0 unless said otherwise."""
    with open(data, newline="", encoding="utf-8") as f:
        words = [data, "--target", next(csv.reader(f))[-1], "--json", *words]
    for option, value in (("--fit-on", "train"), ("--validation", 0)):
        if option not in words:
            words += [option, value]
    result = gal("simulate", *words)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def free_ports():
    """Never the same one twice, and never one that the kernel hands out by itself; others may be testing here too."""
    used = set()
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        with socket.socket() as s:
            if port in used or s.connect_ex(("127.0.0.1", port)) == 0:
                continue
        used.add(port)
        yield port


PORTS = free_ports()


def wait_for(what, condition, seconds=20, every=0.005):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(every)


def write_csv(path, columns):
    """columns: {name: values}; floats so that they round-trip."""
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(columns)
        out.writerows(zip(*([repr(float(v)) if isinstance(v, (float, np.floating)) else v for v in c] for c in columns.values())))


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


class Daemon:
    """One organization: its directory, configuration, keys, and the process while it runs."""

    def __init__(self, home, name, role, token):
        self.home, self.name, self.role, self.token = home / name, name, role, token
        self.home.mkdir()
        self.conf, self.log, self.state = self.home / f"{name}.conf", self.home / "log", self.home / "state"
        self.trace = self.home / "trace.jsonl"
        self.process = None
        made = gal("keygen", name, "-o", self.home)
        assert made.returncode == 0, made.stderr
        self.public = (self.home / f"{name}.pub").read_text().strip()
        self.secret = (self.home / f"{name}.key").read_text().split("\n")[2]
        self.sections = {"organization": {"name": name, "key": f"{name}.key", "state": "state"}}

    def write(self):
        self.conf.write_text("".join(f"[{s}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) + "\n"
                                     for s, keys in self.sections.items()))

    def start(self):
        self.write()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BUILD / f"gal-{self.role}", self.conf], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env={**os.environ, "GAL_TEST": self.token})
        return self

    def run_to_end(self, seconds=20):
        """For a start that fails: the exit status and what was said."""
        self.start()
        return self.process.wait(seconds), self.lines()

    def stop(self, seconds=2):
        """SIGTERM; everything is gone within 2 s, the status is 0."""
        if not self.process:
            return
        self.process.terminate()
        status = self.process.wait(seconds)
        self.process = None
        assert status == 0, f"{self.name} ended with {status}: {self.text()}"

    def lines(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def text(self):
        return "\n".join(self.lines())

    def count(self, *parts):
        return sum(all(p in line for p in parts) for line in self.lines())

    def ask(self, request, seconds=60):
        """One request to control.sock, one answer."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(seconds)
            s.connect(str(self.state / "control.sock"))
            s.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = s.recv(1 << 20)
                assert part, "the daemon closed the connection"
                answer += part
        return json.loads(answer)

    def status(self):
        try:
            return self.ask({"cmd": "status"}, 5)
        except (OSError, AssertionError):
            return {}

    def pid(self, program):
        """Of one of its processes; of the supervisor too."""
        return wait_for(f"{self.name}'s {program}", lambda: next(
            (c["pid"] for c in self.status().get("children", []) if c["program"] == program), 0))

    def kill(self, program, number=signal.SIGKILL):
        pid = self.process.pid if program == f"gal-{self.role}" else self.pid(program)
        os.kill(pid, number)
        if pid == self.process.pid and number == signal.SIGKILL:
            self.process.wait()
            self.process = None
        return pid

    def database(self, name):
        """STATE/core/core.db or STATE/worker/worker.db, to read."""
        return contextlib.closing(sqlite3.connect(f"file:{self.state}/{name}/{name}.db?mode=ro", uri=True, timeout=10))

    def events(self):
        """The lines of the trace."""
        return [json.loads(line) for line in self.trace.read_text().splitlines()]


class Federation:
    """A sponsor and its assistors. `slices`: the columns of each organization, the sponsor's first; `y`: the target of every row.
    Rows are numbered by position unless `ids` is given (then for all)."""

    def __init__(self, slices, y, ids=None, **task):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="gal", dir="/tmp"))  # short: a socket's address is
        self.token = uuid.uuid4().hex
        self.crashes = False  # True where a test kills
        names = ["sponsor", *(f"org{m}" for m in range(2, len(slices) + 1))]
        self.daemons = {n: Daemon(self.home, n, "assistor" if m else "sponsor", self.token) for m, n in enumerate(names)}
        self.sponsor, self.assistors = self.daemons["sponsor"], list(self.daemons.values())[1:]
        self.port = next(PORTS)
        for d, columns in zip(self.daemons.values(), slices):
            write_csv(d.home / "data.csv", {**({"id": ids} if ids is not None else {}), **columns})
            d.sections["data"] = {"path": "data.csv", **({"id": "id"} if ids is not None else {})}
        write_csv(self.sponsor.home / "labels.csv", {**({"id": ids} if ids is not None else {}), "target": y})
        self.sponsor.sections |= {
            "listen": {"address": f"tcp://127.0.0.1:{self.port}"},
            "labels": {"path": "labels.csv", "target": "target", **({"id": "id"} if ids is not None else {})},
            "task main": {"kind": "regression", "validation": 0, "start": "manual", **task},
            **{f"peer {a.name}": {"key": a.public} for a in self.assistors}}
        for a in self.assistors:
            a.sections["sponsor sponsor"] = {"address": f"tcp://127.0.0.1:{self.port}", "key": self.sponsor.public}
            a.sections["policy"] = {"allow_reconstruction": "yes"}

    def __getitem__(self, name):
        return self.daemons[name]

    def set(self, section, **keys):
        """In every organization's configuration."""
        for d in self.daemons.values():
            d.sections.setdefault(section, {}).update(keys)

    def start(self):
        for d in self.daemons.values():
            d.start()
        return self.ready()

    def ready(self, *missing):
        """All have loaded their data, and all assistors but the missing are connected."""
        def up():
            for d in self.daemons.values():
                assert not d.process or d.process.poll() is None, f"{d.name} ended: {d.text()}"
            return sorted(p["name"] for p in (self.sponsor.status().get("link") or {}).get("peers", [])
                          if p["up"]) == sorted(a.name for a in self.assistors if a.name not in missing)

        wait_for("the peers", up)
        for d in self.daemons.values():
            if d.name not in missing:
                wait_for(f"{d.name}'s worker", lambda d=d: (d.status().get("worker") or {}).get("state") == "ready")
        wait_for("the core", lambda: (self.sponsor.status().get("core") or {}).get("state"))
        return self

    def train(self, task="main", seconds=60):
        """`gal train` to its end: its events."""
        result = gal("train", "-c", self.sponsor.conf, "--task", task, "--json", timeout=seconds)
        assert result.returncode == 0, result.stderr + self.logs()
        return [json.loads(line) for line in result.stdout.splitlines()]

    def begin(self, task="main"):
        """Says train and does not wait."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.sponsor.state / "control.sock"))
            s.sendall(json.dumps({"cmd": "train", "task": task}).encode() + b"\n")
            s.settimeout(10)
            first = json.loads(s.makefile().readline())
            assert "error" not in first, first

    def query(self, text, *values):
        if not (self.sponsor.state / "core" / "core.db").exists():
            return []
        with self.sponsor.database("core") as db, contextlib.suppress(sqlite3.OperationalError):
            return db.execute(text, values).fetchall()
        return []

    def reach(self, round_, seconds=30):
        """Until that many rounds of the last run are committed."""
        try:
            wait_for(f"round {round_}", lambda: len(self.rounds()) >= round_, seconds, 0.001)
        except AssertionError as e:
            raise AssertionError(f"{e}; {len(self.rounds())} are there; {self.sponsor.status()}{self.logs()}") from e

    def state(self):
        return (self.query("SELECT state FROM runs ORDER BY id DESC LIMIT 1") or [("none",)])[0][0]

    def finish(self, seconds=60):
        wait_for("the end of the run", lambda: self.state() in ("done", "failed"), seconds)
        assert self.state() == "done", self.logs()
        return self.rounds()

    def rounds(self):
        """What the last run computed: objective, rate and weights, to the last bit."""
        return self.query("SELECT round, objective, rate, hex(weights) FROM rounds WHERE run = (SELECT max(id) FROM runs) "
                          "ORDER BY round")

    def scores(self):
        """F and the positions of its rows, as the core stores them."""
        (F, rows, n_fit, K), = self.query("SELECT F, rows, n_fit, K FROM runs JOIN scores ON scores.run = runs.id "
                                          "ORDER BY id DESC LIMIT 1")
        rows = np.frombuffer(rows, np.uint32)
        return np.frombuffer(F).reshape(len(rows), K)[:n_fit], rows[:n_fit]

    def processes(self):
        """Every process that descends from one of ours, {pid: command line}."""
        mark, found = f"GAL_TEST={self.token}".encode(), {}
        for p in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if p.name.isdigit() and mark in (p / "environ").read_bytes().split(b"\0"):
                    words = (p / "cmdline").read_bytes().split(b"\0")
                    if words != [b""]:  # not a zombie
                        found[int(p.name)] = b" ".join(words).decode().strip()
        return found

    def logs(self):
        return "".join(f"\n--- {d.name}\n{d.text()}" for d in self.daemons.values())

    def close(self):
        """Stops all, and asserts that nothing crashed and nothing is left."""
        wrong = []
        for d in self.daemons.values():
            try:
                d.stop()
            except (AssertionError, subprocess.TimeoutExpired) as e:
                wrong.append(str(e))
            if not self.crashes and d.count("was killed by signal"):
                wrong.append(f"{d.name} crashed: {d.text()}")
            if d.count("sanitizer") or d.count("ssertion"):
                wrong.append(f"{d.name}: {d.text()}")
        end = time.monotonic() + 2
        while self.processes() and time.monotonic() < end:
            time.sleep(0.01)
        left = self.processes()
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for d in self.daemons.values():
            if d.process:
                d.process.wait()
        if left:
            wrong.append(f"left over: {left}")
        shutil.rmtree(self.home, ignore_errors=True)
        assert not wrong, "\n".join(wrong)


def synthetic(rows, widths, seed=1, noise=0.5):
    """Standard normal columns in slices of those widths, and a target that depends on all of them, not linearly."""
    draw = np.random.RandomState(seed)
    slices, y, n = [], noise * draw.standard_normal(rows), itertools.count()
    for m, width in enumerate(widths):
        X = draw.standard_normal((rows, width))
        slices.append({f"x{m}_{j}": X[:, j] for j in range(width)})
        y = y + X @ (1 + np.arange(width)) / (next(n) + 1) + 0.3 * np.abs(X[:, 0])
    return slices, y
