"""What crosses the wire, and which program may hold what."""
import json
import pathlib
import re
import subprocess
import time

import numpy as np
import pytest

from federation import BUILD, PROGRAMS, REFERENCE, gal, simulate, synthetic, wait_for, write_csv

# DESIGN.md, Programs; libm and libz come with OpenBLAS and with reading tables
MAY_LINK = {
    "gal-sponsor": {"inih", "seccomp", "jansson"},
    "gal-assistor": {"inih", "seccomp", "jansson"},
    "gal-link": {"zmq", "sodium", "protobuf-c"},
    "gal-core": {"openblas", "sqlite3", "protobuf-c", "sodium", "m", "z"},
    "gal-worker": {"openblas", "sqlite3", "protobuf-c", "sodium", "m", "z"},
    "gal": {"sodium", "jansson", "m", "z"},
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_links_what_its_role_needs(program):
    text = subprocess.run(["readelf", "-d", BUILD / program], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[lib([^\]]*?)\.so", text))
    assert needed - {"c"} <= MAY_LINK[program]
    if program == "gal-link":
        assert needed == {"c", "zmq", "sodium", "protobuf-c"}


@pytest.mark.parametrize("rows, outputs, validation, dtype", [(100000, 1, 0, "f32"), (100000, 1, 0.2, "f32"),
                                                              (40000, 3, 0.1, "f32"), (100000, 1, 0, "f64")])
def test_bytes_of_a_round(rows, outputs, validation, dtype, tmp_path, figures):
    slices, y = synthetic(rows, [2, 2, 2])
    y = y if outputs == 1 else np.digitize(y, [-2, 2])
    write_csv(tmp_path / "data.csv", {**slices[0], **slices[1], **slices[2], "target": y})
    document = simulate(tmp_path / "data.csv", "--orgs", 3, "--rounds", 3, "--test", 0, "--validation", validation,
                        "--dtype", dtype, "--task", "regression" if outputs == 1 else "multiclass")
    assert document["data"]["train"] == rows and document["data"]["outputs"] == outputs
    n_answer = round(validation * rows)
    bar = 1.01 * (4 if dtype == "f32" else 8) * outputs * 2 * (2 * (rows - n_answer) + n_answer)
    used = [r["bytes_out"] + r["bytes_in"] for r in document["runs"][0]["rounds"]]
    figures(f"N = {rows}, K = {outputs}, validation {validation}, {dtype}: {max(used)} bytes a round, "
            f"{1.01 * max(used) / bar:.5f} of the payload (bar 1.01)")
    assert len(used) == 3 and min(used) > bar / 1.02
    assert max(used) <= bar


@pytest.fixture
def trained(federation):
    slices, y = synthetic(30000, [2, 3, 2])
    f = federation(slices, y, ids=list(range(30000)), rounds=4, validation=0.1)
    f.set("link", chunk=16384)
    f.start().train()
    assert len(f.sponsor.ask({"cmd": "predict", "rows": [1, 2, 3]})["scores"]) == 3
    return f


def test_every_pair_of_traces_agrees(trained):
    assert [a.name for a in trained.assistors] == ["org2", "org3"]
    for a in trained.assistors:
        for pair in ((trained.sponsor, a), (a, trained.sponsor)):
            result = gal("trace", pair[0].trace, pair[1].trace, "--verify")
            assert result.returncode == 0, result.stderr
    other = gal("trace", trained["org2"].trace, trained["org3"].trace, "--verify")
    assert other.returncode != 0 or "nothing" in other.stdout + other.stderr
    # a value of the middle of one file is changed
    lines = trained["org2"].trace.read_text().splitlines(keepends=True)
    at = next(i for i, l in enumerate(lines) if '"kind":"Fitted"' in l)
    lines[at] = lines[at].replace('"rows":30000', '"rows":30001')
    trained["org2"].trace.write_text("".join(lines))
    result = gal("trace", trained.sponsor.trace, trained["org2"].trace, "--verify")
    assert result.returncode == 1 and f":{at + 1}" in result.stderr, result.stderr


def test_a_trace_names_every_transfer_and_no_value(trained):
    fit, n = 27000, 30000
    for name, way in (("org2", "in"), ("org3", "in"), ("sponsor", "out")):
        events = trained[name].events()
        assert [e["n"] for e in events] == list(range(1, len(events) + 1))
        fits = [e for e in events if e["kind"] == "Fit" and e["dir"] == way]
        answers = [e for e in events if e["kind"] == "Fitted" and e["dir"] == {"in": "out", "out": "in"}[way]]
        peers = 2 if name == "sponsor" else 1
        assert sorted(e["round"] for e in fits) == sorted(e["round"] for e in answers) == sorted([1, 2, 3, 4] * peers)
        assert {(e["rows"], e["cols"], e["dtype"], e["bytes"]) for e in fits} == {(fit, 1, "f32", 4 * fit)}
        assert {(e["rows"], e["cols"], e["dtype"], e["bytes"]) for e in answers} == {(n, 1, "f32", 4 * n)}
        assert not any(e["repeat"] for e in events)
        kinds = {e["kind"] for e in events}
        assert {"Task", "Accept", "Fit", "Fitted", "Settle", "Predict", "Predicted"} <= kinds
        for e in events:
            assert set(e) == {"time", "n", "dir", "peer", "kind", "run", "round", "rows", "cols", "dtype", "bytes", "wire",
                              "digest", "repeat", "head", "chain"}
    local = [e for e in trained.sponsor.events() if e["dir"].startswith("local")]
    assert {e["peer"] for e in local} == {"sponsor"} and sum(e["kind"] == "Fitted" for e in local) == 4


def test_one_broadcast_serves_all(trained):
    """The same residuals, bit for bit: the digests of a round's Fit are one."""
    for round_ in (1, 2, 3, 4):
        digests = {e["digest"] for d in trained.daemons.values() for e in d.events() if (e["kind"], e["round"]) == ("Fit", round_)}
        assert len(digests) == 1


def test_ps_shows_roles(trained):
    words = {" ".join(p.rsplit("/", 1)[-1] if i == 0 else p for i, p in enumerate(line.split()[:2]))
             for line in trained.processes().values()}
    names = {re.sub(r" .*/(\w+)\.conf$", r" \1", w) for w in words}
    expected = {"gal-sponsor sponsor", "gal-link sponsor", "gal-core sponsor", "gal-worker sponsor"}
    for a in trained.assistors:
        expected |= {f"gal-assistor {a.name}", f"gal-link {a.name}", f"gal-worker {a.name}"}
    assert names == expected and len(trained.processes()) == len(expected)
    status = trained.sponsor.status()
    assert {c["pid"] for c in status["children"]} == {p for p, w in trained.processes().items() if w.endswith("sponsor")
                                                      or "sponsor.conf" in w}
    for pid, words in trained.processes().items():
        shown = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout.strip()
        assert shown == words.split()[0].rsplit("/", 1)[-1]


def test_nothing_secret_in_arguments_or_environment(trained):
    secrets = [d.secret.encode() for d in trained.daemons.values()]
    for pid in trained.processes():
        for file in ("cmdline", "environ"):
            content = pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
            assert not any(s in content for s in secrets)
    for d in trained.daemons.values():
        for path in [d.log, d.trace, *d.state.rglob("*")]:
            if path.is_file():
                assert not any(s in path.read_bytes() for s in secrets), path


def test_several_tasks(federation):
    slices, y = synthetic(200, [2, 2])
    f = federation(slices, y, rounds=3)
    f.sponsor.sections["task again"] = {"kind": "regression", "loss": "absolute", "rounds": 2, "validation": 0, "start": "manual"}
    f.start()
    assert "name one" in json.loads(gal("train", "-c", f.sponsor.conf, "--json").stdout.splitlines()[0])["error"]
    for task, rounds in (("main", 3), ("again", 2), ("main", 3)):
        assert len([e for e in f.train(task) if e["event"] == "round"]) == rounds
    runs = json.loads(gal("runs", f.sponsor.conf, "--json").stdout)["runs"]
    assert [(r["task"], r["state"], r["rounds"]) for r in runs] == [("main", "done", 3), ("again", "done", 2), ("main", "done", 3)]
    scores = [f.sponsor.ask({"cmd": "predict", "rows": [5, 6], "run": r["run"]})["scores"] for r in runs]
    assert scores[0] == scores[2] != scores[1]


def test_one_assistor_of_two_sponsors(federation):
    """Both train at the same time; it serves each from its own runs."""
    slices, y = synthetic(2000, [2, 2])
    one, two = (federation(slices, sign * y, rounds=40, patience=100, rate="fixed:0.2", seed=i) for i, sign in enumerate((1, -1)))
    shared = one["org2"]
    shared.sections["sponsor second"] = {"address": f"tcp://127.0.0.1:{two.port}", "key": two.sponsor.public}
    two.sponsor.sections["peer org2"]["key"] = shared.public
    two.sponsor.start()
    one.start()
    wait_for("the second sponsor's peer", lambda: [p["up"] for p in two.sponsor.status()["link"]["peers"]] == [True])
    one.begin()
    two.begin()
    first, second = one.finish(), two.finish()
    assert len(first) == len(second) == 40
    assert [r[1] for r in first] == pytest.approx([r[1] for r in second], rel=1e-6)
    with shared.database("worker") as db:
        assert sorted(db.execute("SELECT count(*) FROM models GROUP BY run").fetchall()) == [(40,), (40,)]
    assert {e["peer"] for e in shared.events()} == {"sponsor", "second"}
    for f, name in ((one, "sponsor"), (two, "second")):
        assert len(f.sponsor.ask({"cmd": "predict", "rows": [0]})["scores"]) == 1


def test_start_and_simulation_times_are_shown(federation, figures):
    """Not asserted here: a busy machine is slow."""
    slices, y = synthetic(300, [2] * 8)
    f = federation(slices, y, rounds=2)
    begun = time.monotonic()
    f.start()
    figures(f"start to all peers ready, M = 8: {1000 * (time.monotonic() - begun):.0f} ms (including this test's polling)")
    begun = time.monotonic()
    document = simulate(REFERENCE / "diabetes.csv", "--split", REFERENCE / "splits" / "diabetes_0.json")
    figures(f"a whole simulation of Diabetes: {time.monotonic() - begun:.2f} s, its run {document['runs'][0]['seconds']:.3f} s")
