"""A captured run is computed again from what its organizations answered; the commitments open; a changed record is found."""
import json
import sqlite3

import pytest

import federation as fed


@pytest.fixture
def captured(federation):
    f = federation(*fed.synthetic(200, [2, 2, 2], seed=3), rounds=5, capture="yes", patience=1000)
    f.start()
    f.ready()
    f.train()
    return f


def replay(f, run):
    return fed.gal("trace", "--replay", run, "--state", f.sponsor.state, "--json")


def test_bit_for_bit(captured):
    run = captured.sponsor.ask({"cmd": "runs"})["runs"][0]["run"]
    result = replay(captured, run)
    assert result.returncode == 0, result.stderr
    rounds = json.loads(result.stdout)["rounds"]
    assert len(rounds) == 5 and all(r["same"] and r["opened"] for r in rounds)
    for name in ("org2", "org3"):  # what the sponsor opens is what it told them then
        with sqlite3.connect(captured[name].state / "worker" / "worker.db") as db:
            told = [row[0] for row in db.execute("SELECT commitment FROM commitments ORDER BY round")]
        with sqlite3.connect(captured.sponsor.state / "core" / "core.db") as db:
            assert told == [row[0] for row in db.execute("SELECT commitment FROM rounds ORDER BY round")]


@pytest.mark.parametrize("change", ["UPDATE captures SET answer = zeroblob(length(answer)) WHERE round = 3 AND organization = 1",
                                    "UPDATE rounds SET rate = rate * (1 + 1e-15) WHERE round = 2",
                                    "UPDATE rounds SET salt = zeroblob(32) WHERE round = 4"])
def test_a_changed_record_is_found(captured, change):
    run = captured.sponsor.ask({"cmd": "runs"})["runs"][0]["run"]
    with sqlite3.connect(captured.sponsor.state / "core" / "core.db") as db:
        db.execute(change)
    result = replay(captured, run)
    assert result.returncode == 1 and "not what was recorded" in result.stderr


def test_off_unless_asked_for(federation):
    f = federation(*fed.synthetic(200, [2, 2, 2], seed=3), rounds=3)
    f.start()
    f.ready()
    f.train()
    result = replay(f, f.sponsor.ask({"cmd": "runs"})["runs"][0]["run"])
    assert result.returncode == 1 and "was not captured" in result.stderr
