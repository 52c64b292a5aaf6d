"""Whatever is killed in the middle of a run, the run ends as if nothing had happened: the same w, η and objective to the last bit,
and no model fitted twice."""
import os
import signal
import socket
import time

import numpy as np
import pytest

from federation import synthetic, wait_for, write_csv

ROUNDS = 150
PROCESSES = [("sponsor", "gal-link"), ("sponsor", "gal-core"), ("sponsor", "gal-worker"), ("sponsor", "gal-sponsor"),
             ("org2", "gal-link"), ("org2", "gal-worker"), ("org2", "gal-assistor")]


def long_run(federation, rounds=ROUNDS, rows=20000):
    """A second or so: the rate is fixed and small, so every round has something left to do."""
    slices, y = synthetic(rows, [3, 3, 3])
    f = federation(slices, y, rounds=rounds, patience=10000, rate="fixed:0.05")
    f.set("link", dtype="f64", chunk=65536)
    return f.start()


def models(f):
    """Every organization's models, in the order in which they were fitted: (rowid, round, bytes)."""
    found = {}
    for d in f.daemons.values():
        with d.database("worker") as db:
            found[d.name] = db.execute("SELECT rowid, round, hex(model) FROM models ORDER BY rowid").fetchall()
    return found


class Undisturbed:
    rounds = models = None


@pytest.fixture
def expected(federation):
    if not Undisturbed.rounds:
        f = long_run(federation)
        f.train()
        Undisturbed.rounds, Undisturbed.models = f.rounds(), models(f)
        f.close()
        f.daemons.clear()
    assert len(Undisturbed.rounds) == ROUNDS
    return Undisturbed


def unharmed(f, expected):
    assert f.finish() == expected.rounds
    got = models(f)
    for name, fitted in got.items():
        assert [(i, i) for i in range(1, ROUNDS + 1)] == [(rowid, round_) for rowid, round_, _ in fitted]  # one each, none again
        assert fitted == expected.models[name]


@pytest.mark.parametrize("name, program", PROCESSES)
def test_killed_in_the_middle(federation, expected, name, program, figures):
    f = long_run(federation)
    f.crashes = True
    d = f[name]
    f.begin()
    f.reach(40)
    before = {pid for pid, words in f.processes().items() if words.endswith(f" {name}")}
    supervisor = d.process.pid
    d.kill(program)
    killed = time.monotonic()
    wait_for("its processes to be gone", lambda: not before & set(f.processes()), 2)
    by_hand = program == f"gal-{d.role}"
    if by_hand:
        assert not d.count("starting")
        d.start()
    stood = len(f.rounds())
    assert stood < ROUNDS, "killed too late to mean anything"
    f.reach(stood + 1)
    figures(f"{program} of {name} killed after round {stood}: the next round {time.monotonic() - killed:.2f} s later")
    unharmed(f, expected)
    if not by_hand:
        assert d.process.pid == supervisor and d.status()["restarts"] == 1
        assert d.count("was killed by signal") == d.count(program, "was killed by signal 9", "starting", "restart 1") == 1
    for other in f.daemons.values():
        assert other is d or other.status()["restarts"] == 0
    assert len(f.sponsor.ask({"cmd": "predict", "rows": [0, 1]})["scores"]) == 2


def test_killed_again_and_again(federation, expected):
    f = long_run(federation)
    f.crashes = True
    f.begin()
    draw = np.random.RandomState(7)
    victims = [("org2", "gal-worker"), ("sponsor", "gal-core"), ("org3", "gal-link"), ("sponsor", "gal-link"),
               ("org3", "gal-worker"), ("org2", "gal-link")]
    for name, program in victims:
        stood = len(f.rounds())
        f.reach(min(stood + 3, ROUNDS))
        time.sleep(0.02 * draw.uniform())
        f[name].kill(program)
    assert len(f.rounds()) < ROUNDS
    unharmed(f, expected)


def test_a_core_killed_between_its_rounds(federation, expected):
    """Stopped first, so that answers wait for it, then killed."""
    f = long_run(federation)
    f.crashes = True
    f.begin()
    f.reach(20)
    f.sponsor.kill("gal-core", signal.SIGSTOP)
    time.sleep(0.3)
    stood = len(f.rounds())
    f.sponsor.kill("gal-core")
    f.reach(stood + 1)
    unharmed(f, expected)


def test_a_peer_stopped_and_started_by_hand(federation, expected):
    f = long_run(federation)
    f.begin()
    f.reach(30)
    f["org3"].stop()
    time.sleep(0.2)
    stood = len(f.rounds())
    assert 30 <= stood < ROUNDS
    time.sleep(0.5)
    assert len(f.rounds()) == stood  # waits
    wait_for("the status to say so", lambda: f.sponsor.status()["core"]["waiting_for"] == ["org3"])
    assert f.sponsor.count("org3 is gone") == 1
    f["org3"].start()
    unharmed(f, expected)


def test_a_frozen_peer(federation, expected):
    """No answer and no goodbye: heartbeats tell, and when it wakes the run goes on."""
    f = long_run(federation)
    f.begin()
    f.reach(30)
    pid = f["org2"].kill("gal-link", signal.SIGSTOP)
    try:
        wait_for("the heartbeat", lambda: f.sponsor.count("org2 is gone"), 8)
    finally:
        os.kill(pid, signal.SIGCONT)
    unharmed(f, expected)


def test_the_sponsor_stopped_and_started_by_hand(federation, expected):
    f = long_run(federation)
    f.begin()
    f.reach(30)
    f.sponsor.stop()
    f.sponsor.start()
    unharmed(f, expected)
    assert f.sponsor.count("going on with run") == 1


def test_sigterm_ends_everything_within_two_seconds(federation, expected, figures):
    f = long_run(federation)
    f.begin()
    f.reach(10)
    begun = time.monotonic()
    for d in f.daemons.values():
        d.process.send_signal(signal.SIGTERM)
    statuses = [d.process.wait(5) for d in f.daemons.values()]
    wait_for("all processes to be gone", lambda: not f.processes(), 5)
    took = time.monotonic() - begun
    figures(f"SIGTERM in the middle of a run: {took:.2f} s to the last process (bar 2)")
    assert took <= 2 and statuses == [0, 0, 0]
    assert 10 <= len(f.rounds()) < ROUNDS and f.state() == "running"
    for d in f.daemons.values():
        assert not (d.state / "control.sock").exists()
        d.start()
    unharmed(f, expected)


def test_a_stopped_process_does_not_hold_up_the_end(federation):
    f = long_run(federation, rows=500)
    f["org2"].kill("gal-worker", signal.SIGSTOP)
    f.sponsor.kill("gal-link", signal.SIGSTOP)
    begun = time.monotonic()
    for d in f.daemons.values():
        d.stop()
    assert time.monotonic() - begun <= 2 * len(f.daemons) and not f.processes()


def test_children_never_outlive_their_supervisor(federation):
    """Not even those that cannot notice by themselves."""
    f = long_run(federation, rows=500)
    f.crashes = True
    for d, program in ((f.sponsor, "gal-core"), (f["org2"], "gal-worker")):
        d.kill(program, signal.SIGSTOP)
        d.kill(f"gal-{d.role}")
    wait_for("their children to be gone", lambda: all(w.endswith(("org3", "org3.conf")) for w in f.processes().values()), 2)


# ---- what cannot start says why, in one line ----

@pytest.fixture
def stopped(federation):
    slices, y = synthetic(50, [2, 2])
    return federation(slices, y, ids=[f"r{i}" for i in range(50)])


def ends(daemon, status, *parts):
    got, lines = daemon.run_to_end()
    daemon.process = None
    assert got == status, lines
    assert len(lines) == 1 and all(p in lines[0] for p in parts), lines


def test_port_in_use(stopped):
    with socket.socket() as s:
        s.bind(("127.0.0.1", stopped.port))
        s.listen()
        ends(stopped.sponsor, 1, f"127.0.0.1:{stopped.port}", "in use", "[listen]")


@pytest.mark.parametrize("text, parts", [
    (None, ["labels.csv", "No such file"]),
    ("id,target\n", ["labels.csv:2", "no rows"]),
    ("id,label\nr1,2\nr2,3\n", ["labels.csv", '"target"']),
    ("id,target\nr1,2\nr2,many\n", ["labels.csv:3", "many", "a number"]),
    ("id,target\nr1,2\nstranger,3\n", ["labels.csv:3", "stranger", "not in [data]"]),
    ("id,target\nr1,2\nr1,3\n", ["labels.csv:", "same id"]),
    ("name,target\nr1,2\nr2,3\n", ["labels.csv", '"id"']),
])
def test_bad_labels(stopped, text, parts):
    path = stopped.sponsor.home / "labels.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    ends(stopped.sponsor, 2, *parts)


def test_twice_the_same_id(stopped):
    path = stopped.sponsor.home / "data.csv"
    path.write_text(path.read_text().replace("\nr7,", "\nr3,"))
    ends(stopped.sponsor, 2, "data.csv", "r3", "unique")


@pytest.mark.parametrize("name, section, key, value, status, parts", [
    ("sponsor", "task main", "ruonds", "3", 2, ["sponsor.conf:", "ruonds", "rounds"]),
    ("sponsor", "task main", "loss", "logistic", 2, ["sponsor.conf:", "logistic"]),
    ("sponsor", "task main", "rounds", "0", 2, ["sponsor.conf:", "rounds", "from 1"]),
    ("sponsor", "task main", "solver", "corrective", 2, ["sponsor.conf:", "not built yet"]),
    ("sponsor", "peer org2", "key", "short", 2, ["sponsor.conf:", "40"]),
    ("sponsor", "organization", "key", "nobody.key", 1, ["nobody.key", "gal keygen"]),
    ("org2", "data", "path", "nothing.csv", 2, ["nothing.csv", "No such file"]),
    ("org2", "data", "id", "nothing", 2, ["org2.conf:", "nothing"]),
    ("org2", "model", "name", "magic", 2, ["org2.conf:", "magic", "linear"]),
    ("org2", "sponsor sponsor", "address", "localhost", 2, ["org2.conf:", "tcp://"]),
    ("org2", "listen", "address", "tcp://*:1", 2, ["org2.conf:", "[listen]"]),
])
def test_bad_configuration(stopped, name, section, key, value, status, parts):
    stopped[name].sections.setdefault(section, {})[key] = value
    ends(stopped[name], status, *parts)


def test_the_state_is_another_daemons(federation):
    slices, y = synthetic(50, [2, 2])
    f, g = federation(slices, y), federation(slices, y)
    f["org2"].start()
    wait_for("its socket", lambda: f["org2"].status())
    g["org2"].sections["organization"]["state"] = str(f["org2"].state)
    ends(g["org2"], 2, str(f["org2"].state), str(f["org2"].process.pid))


def test_a_run_that_cannot_go_on_says_so(federation):
    """Labels that changed under a half-done run: it is closed as failed, never continued on other labels."""
    f = long_run(federation, rows=2000)
    f.begin()
    f.reach(5)
    f.sponsor.stop()
    assert f.state() == "running"
    slices, y = synthetic(2000, [3, 3, 3])
    write_csv(f.sponsor.home / "labels.csv", {"target": np.round(y, 1)})
    f.sponsor.start()
    wait_for("the verdict", lambda: f.sponsor.count("cannot go on", "labels"))
    assert f.query("SELECT state FROM runs ORDER BY id")[0] == ("failed",)
