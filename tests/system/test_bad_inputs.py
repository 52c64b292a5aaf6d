"""The canonical bad inputs: each is refused with exactly one line, that says where and what to do, and its exit status. Key files have
their own (test_keys), ids and rows that differ between organizations too (test_ids), and so have refusals of a policy (test_policy)."""
import subprocess

import pytest

from federation import BUILD, Federation, gal, synthetic

ROWS = 12


@pytest.fixture(scope="module")
def federation_at_rest():
    slices, y = synthetic(ROWS, [2, 2])
    f = Federation(slices, y, ids=[f"r{i}" for i in range(ROWS)])
    yield f
    f.close()


@pytest.fixture
def at_rest(federation_at_rest):
    """Files and configurations as they were made, put back afterwards."""
    f = federation_at_rest
    before = {d.name: ({s: dict(k) for s, k in d.sections.items()}, {n: (d.home / n).read_bytes() for n in ("data.csv", "labels.csv")
               if (d.home / n).exists()}) for d in f.daemons.values()}
    for d in f.daemons.values():
        d.log.unlink(missing_ok=True)
    yield f
    for d in f.daemons.values():
        d.sections, kept = before[d.name]
        for name, data in kept.items():
            (d.home / name).write_bytes(data)


def refused(d, want, status=2, text=None):
    """The only line is that one; CONF, DATA, LABELS and LINE:n stand for what they are."""
    if text is None:
        d.write()
    else:
        d.conf.write_text(text)
    write, d.write = d.write, lambda: None
    try:
        got, lines = d.run_to_end()
    except Exception:
        d.process.kill()
        raise
    finally:
        d.process = None
        d.write = write
    lines = [l for l in lines if "can REBUILD them" not in l]
    want = want.replace("CONF", str(d.conf)).replace("DATA", str(d.home / "data.csv")).replace("LABELS", str(d.home / "labels.csv"))
    assert len(lines) == 1, lines
    assert lines[0].split(": ", 1)[1] == want
    assert len(lines[0]) < 400 and got == status
    assert d.secret not in d.text()


# ---- configurations: (whose, section, key, value, the line after "FILE:n: ") ----

VALUES = [
    ("sponsor", "organization", "name", "", "name = : a name has 1 to 40 letters, digits, _ . or -"),
    ("sponsor", "organization", "name", "a b", "name = a b: a name has 1 to 40 letters, digits, _ . or -"),
    ("sponsor", "organization", "name", ".a", "name = .a: a name has 1 to 40 letters, digits, _ . or -"),
    ("org2", "organization", "name", "x" * 41, f"name = {'x' * 41}: a name has 1 to 40 letters, digits, _ . or -"),
    ("sponsor", "organization", "nmae", "x", 'unknown key "nmae" in [organization] (did you mean "name"?)'),
    ("sponsor", "organization", "key", "", "key: no value"),
    ("sponsor", "organization", "state", "", "state: no value"),
    ("sponsor", "sandbox", "mode", "on", "mode = on: expected one of require|prefer|off"),
    ("org2", "sandbox", "mod", "off", 'unknown key "mod" in [sandbox] (did you mean "mode"?)'),
    ("sponsor", "link", "chunk", "4095", "chunk = 4095: must be from 4096 to 1048576"),
    ("sponsor", "link", "chunk", "1048577", "chunk = 1048577: must be from 4096 to 1048576"),
    ("sponsor", "link", "chunk", "many", "chunk = many: expected a whole number"),
    ("sponsor", "link", "chunk", "8192.5", "chunk = 8192.5: expected a whole number"),
    ("sponsor", "link", "dtype", "f16", "dtype = f16: expected one of f32|f64"),
    ("sponsor", "link", "dtype", "bf16", "dtype = bf16 is not built yet: use one of f32|f64"),
    ("org2", "link", "heartbeat", "99", "heartbeat = 99: must be from 100 to 60000"),
    ("org2", "link", "heartbeat", "60001", "heartbeat = 60001: must be from 100 to 60000"),
    ("org2", "data", "path", "", "path: no value"),
    ("org2", "data", "table", "t", "data: not built yet; remove the line"),
    ("org2", "data", "query", "select 1", "data: not built yet; remove the line"),
    ("org2", "data", "colums", "x", 'unknown key "colums" in [data] (did you mean "columns"?)'),
    ("sponsor", "listen", "address", "localhost:5570", "address = localhost:5570: expected tcp://HOST:PORT"),
    ("sponsor", "listen", "address", "tcp://nowhere", "address = tcp://nowhere: expected tcp://HOST:PORT"),
    ("sponsor", "listen", "address", "ipc:///tmp/x", "address = ipc:///tmp/x: expected tcp://HOST:PORT"),
    ("sponsor", "peer org2", "key", "x" * 39, "key: 39 characters, a public key has 40 (the line of NAME.pub)"),
    ("sponsor", "peer org2", "key2", "x" * 41, "key2: 41 characters, a public key has 40 (the line of NAME.pub)"),
    ("sponsor", "peer org2", "address", "tcp://h:1", 'unknown key "address" in [peer] (did you mean "key"?)'),
    ("sponsor", "labels", "target", "", "target: no value"),
    ("sponsor", "labels", "taget", "y", 'unknown key "taget" in [labels] (did you mean "target"?)'),
    ("sponsor", "task main", "kind", "ranking", "kind = ranking: expected one of regression|count|binary|multiclass"),
    ("sponsor", "task main", "loss", "cubic", "loss = cubic: expected one of squared|absolute|poisson|logistic|softmax"),
    ("sponsor", "task main", "loss", "logistic", "loss = logistic is not one for kind = regression"),
    ("sponsor", "task main", "declare_loss", "maybe", "declare_loss = maybe: expected one of yes|no"),
    ("sponsor", "task main", "rounds", "0", "rounds = 0: must be from 1 to 4096"),
    ("sponsor", "task main", "rounds", "-3", "rounds = -3: must be from 1 to 4096"),
    ("sponsor", "task main", "rounds", "4097", "rounds = 4097: must be from 1 to 4096"),
    ("sponsor", "task main", "rounds", "ten", "rounds = ten: expected a whole number"),
    ("sponsor", "task main", "rounds", "nan", "rounds = nan: expected a whole number"),
    ("sponsor", "task main", "solver", "newton", "solver = newton: expected one of paper"),
    ("sponsor", "task main", "weights", "best", "weights = best: expected one of exact|uniform"),
    ("sponsor", "task main", "weights", "cone", "weights = cone is not built yet: use one of exact|uniform"),
    ("sponsor", "task main", "rate", "fixed:0", "rate = fixed:0: expected search, or fixed:X with X > 0"),
    ("sponsor", "task main", "rate", "fixed:-1", "rate = fixed:-1: expected search, or fixed:X with X > 0"),
    ("sponsor", "task main", "rate", "fixed:inf", "rate = fixed:inf: expected search, or fixed:X with X > 0"),
    ("sponsor", "task main", "rate", "0.1", "rate = 0.1: expected search, or fixed:X with X > 0"),
    ("sponsor", "task main", "fit_on", "test", "fit_on = test: expected one of auto|train"),
    ("sponsor", "task main", "fit_on", "rotate", "fit_on = rotate is not built yet: use one of auto|train"),
    ("sponsor", "task main", "validation", "0.6", "validation = 0.6: must be from 0 to 0.5"),
    ("sponsor", "task main", "validation", "-0.1", "validation = -0.1: must be from 0 to 0.5"),
    ("sponsor", "task main", "validation", "half", "validation = half: expected a number"),
    ("sponsor", "task main", "patience", "0", "patience = 0: must be from 1 to 10000"),
    ("sponsor", "task main", "align", "psi", "align = psi is not built yet: use one of position"),
    ("sponsor", "task main", "predict", "mean", "predict = mean: expected one of sum|per-round"),
    ("sponsor", "task main", "privacy", "label-dp", "privacy = label-dp is not built yet: use one of none"),
    ("sponsor", "task main", "rows", "all", "rows = all: expected one of all-have-it"),
    ("sponsor", "task main", "absent", "skip", "absent = skip is not built yet: use one of wait"),
    ("sponsor", "task main", "seed", "-1", "seed = -1: must be from 0 to 9007199254740991"),
    ("sponsor", "task main", "start", "now", "start = now: expected one of auto|manual"),
    ("sponsor", "task main", "deadline", "5", "task: not built yet; remove the line"),
    ("sponsor", "task main", "quorum", "2", "task: not built yet; remove the line"),
    ("sponsor", "task main", "held_out", "0.2", "task: not built yet; remove the line"),
    ("sponsor", "http", "address", "x", "http: not built yet; remove the line"),
    ("org2", "sponsor sponsor", "address", "http://h:1", "address = http://h:1: expected tcp://HOST:PORT"),
    ("org2", "sponsor sponsor", "key", "short", "key: 5 characters, a public key has 40 (the line of NAME.pub)"),
    ("org2", "sponsor sponsor", "kex", "short", 'unknown key "kex" in [sponsor] (did you mean "key"?)'),
    ("org2", "policy", "allow_reconstruction", "perhaps", "allow_reconstruction = perhaps: expected one of yes|no"),
    ("org2", "policy", "tasks", "", "tasks: no value"),
    ("org2", "policy", "min_rows", "0", "min_rows = 0: must be from 1 to 2147483647"),
    ("org2", "policy", "max_outputs", "0", "max_outputs = 0: must be from 1 to 65536"),
    ("org2", "policy", "max_rounds", "0", "max_rounds = 0: must be from 1 to 4096"),
    ("org2", "policy", "max_rounds_total", "0", "max_rounds_total = 0: must be from 1 to 1000000000"),
    ("org2", "policy", "max_predictions_per_day", "-1", "max_predictions_per_day = -1: must be from 0 to 1000000000000000"),
    ("org2", "policy", "round_to", "0", "round_to = 0: must be from 1e-12 to 1000000000000"),
    ("org2", "policy", "require_loss", "1", "require_loss = 1: expected one of yes|no"),
    ("org2", "policy", "max_round", "1", 'unknown key "max_round" in [policy] (did you mean "max_rounds"?)'),
    ("org2", "task main", "kind", "regression", None),
    ("org2", "labels", "path", "x", None),
    ("sponsor", "policy", "max_rounds", "1", None),
    ("org2", "model", "name", "magic", "model magic is not known: one of linear"),
    ("org2", "data", "id", "nothing", "id = nothing: no such column in DATA"),
]


@pytest.mark.parametrize("name, section, key, value, line", VALUES, ids=[f"{n}-{s}-{k}-{v[:12]}" for n, s, k, v, _ in VALUES])
def test_a_value(at_rest, name, section, key, value, line):
    d = at_rest[name]
    d.sections.setdefault(section, {})[key] = value
    d.write()
    text = d.conf.read_text().splitlines()
    number = text.index(f"{key} = {value}", text.index(f"[{section}]")) + 1
    if line is None:
        role = "a sponsor" if name == "sponsor" else "an assistor"
        nearest = {"task": "link", "labels": "model", "policy": "link"}[section.split()[0]]
        line = f"unknown section [{section.split()[0]}] for {role} (did you mean [{nearest}]?)"
    refused(d, f"CONF:{number}: {line}")


MISSING = [
    ("sponsor", "organization", "name", 'CONF: no "name" in [organization]'),
    ("sponsor", "organization", "key", 'CONF: no "key" in [organization]'),
    ("org2", "organization", "state", 'CONF: no "state" in [organization]'),
    ("sponsor", "labels", "path", "CONF: a sponsor needs [labels] with path and target"),
    ("sponsor", "labels", "target", "CONF: a sponsor needs [labels] with path and target"),
    ("sponsor", "task main", None, "CONF: a sponsor needs a section [task NAME]"),
    ("sponsor", "task main", "kind", "CONF: [task main] has no kind: regression, count, binary or multiclass"),
    ("sponsor", "listen", None, "CONF: a sponsor with peers needs [listen] with an address"),
    ("org2", "sponsor sponsor", None, "CONF: an assistor needs a section [sponsor NAME] with address and key"),
    ("org2", "sponsor sponsor", "key", "CONF: [sponsor sponsor] needs an address and a key"),
    ("org2", "sponsor sponsor", "address", "CONF: [sponsor sponsor] needs an address and a key"),
    ("org2", "data", None, "CONF: an assistor needs [data] with a path"),
]


@pytest.mark.parametrize("name, section, key, line", MISSING, ids=[f"{n}-{s}-{k}" for n, s, k, _ in MISSING])
def test_what_is_missing(at_rest, name, section, key, line):
    d = at_rest[name]
    if key:
        del d.sections[section][key]
    else:
        del d.sections[section]
    refused(d, line)


LAYOUT = [
    ("name = x\n", 'CONF:1: "name" stands before the first [section]'),
    ("[organization]\nname = x\nnothing here\n", "CONF:3: neither [section] nor key = value"),
    ("[organization\nname = x\n", 'CONF:2: "name" stands before the first [section]'),
    ("[organization]\nname = x\nname = y\n", "CONF:3: name is given twice in [organization] (first on line 2)"),
    ("[organization x]\nname = x\n", "CONF:2: [organization] takes no name"),
    ("[peer]\nkey = " + "x" * 40 + "\n", "CONF:2: [peer] needs a name: [peer NAME]"),
    ("[peer a/b]\nkey = " + "x" * 40 + "\n", "CONF:2: [peer] needs a name: [peer NAME]"),
    ("[task]\nkind = binary\n", "CONF:2: [task] needs a name: [task NAME]"),
    ("[orgnization]\nname = x\n", "CONF:2: unknown section [orgnization] for a sponsor (did you mean [organization]?)"),
    ("[" + "s" * 60 + "]\nname = x\n", "CONF:1: a section's name has at most 47 characters"),
    ("[organization]\nname = " + "x" * 300 + "\n", "CONF:2: longer than 198 characters: continue the value on a next line that begins with a blank"),
    ("", 'CONF: no "name" in [organization]'),
]


@pytest.mark.parametrize("text, line", LAYOUT, ids=[str(i) for i in range(len(LAYOUT))])
def test_a_layout(at_rest, text, line):
    refused(at_rest.sponsor, line, text=text)


@pytest.mark.parametrize("case", ["not Z85", "the same key twice", "policy for nobody"])
def test_keys_and_names_that_do_not_fit(at_rest, case):
    d = at_rest.sponsor
    if case == "not Z85":
        d.sections["peer org2"]["key"] = "~" * 40
        d.write()
        n = d.conf.read_text().splitlines().index("key = " + "~" * 40) + 1
        refused(d, f"CONF:{n}: key is not a public key: paste the line of NAME.pub")
    elif case == "the same key twice":
        d.sections["peer org9"] = {"key": at_rest["org2"].public}
        refused(d, "CONF: org2 and org9 have the same key")
    else:
        at_rest["org2"].sections["policy stranger"] = {"max_rounds": 3}
        refused(at_rest["org2"], "CONF: [policy stranger]: there is no [sponsor stranger]")


# ---- tables: (the file's bytes, the line) ----

DATA = [
    (b"", "DATA:1: the file is empty; a table needs a header and rows"),
    (b"\n\n\n", "DATA:1: the file is empty; a table needs a header and rows"),
    (b"id,a\n", "DATA:2: a header and no rows"),
    (b"id,a,a\nr0,1,2\n", 'DATA:1: two columns are named "a"; rename one, or write a header if this is a row'),
    (b"id,a\nr0,1\nr1,2,3\n", "DATA:3: 3 fields, the header has 2: quote the fields that contain ',', or mend the line"),
    (b"id,a\nr0,1\nr1\n", "DATA:3: 1 field, the header has 2: quote the fields that contain ',', or mend the line"),
    (b"id;a\nr0;1\nr1;2;3\n", "DATA:3: 3 fields, the header has 2: quote the fields that contain ';', or mend the line"),
    (b"id\ta\nr0\t1\nr1\n", "DATA:3: 1 field, the header has 2: quote the fields that contain 'TAB', or mend the line"),
    (b"id,a\nr0,1\0\n", "DATA:2: a NUL byte: this is not CSV text (UTF-16 is to be saved as UTF-8)"),
    ("id,a\nr0,1\n".encode("utf-16"), "DATA:1: a NUL byte: this is not CSV text (UTF-16 is to be saved as UTF-8)"),
    (b"1 2 3\n4 5 6\n", "DATA:1: numbers separated by blanks; separate them by commas"),
    (b"id\nr0\n\nr1\n", "DATA:3: a blank line between rows; write NA for a missing value"),
]


@pytest.mark.parametrize("data, line", DATA, ids=[str(i) for i in range(len(DATA))])
def test_a_table(at_rest, data, line):
    (at_rest["org2"].home / "data.csv").write_bytes(data)
    refused(at_rest["org2"], line)


@pytest.mark.parametrize("case", ["not there", "a directory"])
def test_no_table(at_rest, case):
    d = at_rest["org2"]
    d.sections["data"]["path"] = "." if case == "a directory" else "nothing.csv"
    what = {"not there": f"{d.home}/nothing.csv: No such file or directory; check the path",
            "a directory": f"{d.home}/.: not a file; give the path of a CSV file"}[case]
    refused(d, what)


LABELS = [
    ("id,target\n", {}, "LABELS:2: a header and no rows"),
    ("id,target\nr0,1\n", {}, "LABELS: 1 labelled rows: at least 2 are needed"),
    ("id,label\nr0,1\nr1,2\n", {}, 'LABELS: no column "target" (the target)'),
    ("name,target\nr0,1\nr1,2\n", {}, 'LABELS: no column "id" (the id)'),
    ("id,target\nr0,1\nr1,many\n", {}, 'LABELS:3: the target is "many": expected a number'),
    ("id,target\nr0,1\nr1,\n", {}, 'LABELS:3: the target is "": expected a number'),
    ("id,target\nr0,1\nr1,1e999\n", {}, 'LABELS:3: the target is "1e999": expected a number'),
    ("id,target\nr0,1\nr1,-2\n", {"kind": "count"}, 'LABELS:3: the target is "-2": expected a count, 0 or more'),
    ("id,target\nr0,1\nstranger,2\n", {}, 'LABELS:3: id "stranger" is not in [data]'),
    ("id,target\nr0,1\nr0,2\n", {}, "LABELS:3: the same id as on line 2: one label per row"),
    ("id,target\nr0,a\nr1,a\n", {"kind": "binary"}, "LABELS: the target has 1 classes, all a, the task needs 2"),
    ("id,target\nr0,a\nr1,b\nr2,c\n", {"kind": "binary"}, "LABELS: the target has 3 classes, the task needs 2"),
    ("id,target\nr0,a\nr1,a\n", {"kind": "multiclass"}, "LABELS: the target has 1 classes, all a, the task needs at least 2"),
    ("id,target\nr0,a\nr1,b\nr2,\n", {"kind": "binary"}, 'LABELS:4: the target is "": expected a class'),
]


@pytest.mark.parametrize("text, task, line", LABELS, ids=[str(i) for i in range(len(LABELS))])
def test_labels(at_rest, text, task, line):
    (at_rest.sponsor.home / "labels.csv").write_text(text)
    at_rest.sponsor.sections["task main"].update(task)
    refused(at_rest.sponsor, line)


IDS = [
    ("r0,1\nr0,2\n", 'DATA: id "r0" stands in rows 1 and 2: ids must be unique'),
    (",1\nr1,2\n", "DATA:2: an id must have 1 to 256 bytes"),
    ("x" * 257 + ",1\nr1,2\n", "DATA:2: an id must have 1 to 256 bytes"),
]


@pytest.mark.parametrize("rows, line", IDS, ids=[str(i) for i in range(len(IDS))])
def test_ids(at_rest, rows, line):
    (at_rest.sponsor.home / "data.csv").write_text("id,a\n" + rows)
    refused(at_rest.sponsor, line)


def test_other_numbers_of_rows(at_rest):
    """Without ids on both sides there must be as many labels as rows."""
    del at_rest.sponsor.sections["labels"]["id"]
    (at_rest.sponsor.home / "labels.csv").write_text("target\n1\n2\n3\n")
    refused(at_rest.sponsor, f"LABELS: 3 labels for {ROWS} rows of [data]: name an id column in [labels] and [data]")


# ---- command lines ----

USAGE = "usage: PROGRAM CONFIG    (an INI file; see docs/TUTORIAL.md)\n"


@pytest.mark.parametrize("program", ["gal-sponsor", "gal-assistor"])
@pytest.mark.parametrize("words", [[], ["a", "b"], ["--help-me"], ["-c"]], ids=str)
def test_a_daemons_command_line(program, words):
    done = subprocess.run([BUILD / program, *words], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", USAGE.replace("PROGRAM", program))


@pytest.mark.parametrize("program", ["gal-sponsor", "gal-assistor"])
def test_no_configuration(program):
    done = subprocess.run([BUILD / program, "/nowhere/x.conf"], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (2, f"{program}: /nowhere/x.conf: No such file or directory\n")


@pytest.mark.parametrize("program", ["gal-link", "gal-core", "gal-worker"])
def test_a_child_is_not_started_by_hand(program):
    done = subprocess.run([BUILD / program], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (2, f"{program}: is started by gal-sponsor or gal-assistor, not by hand\n")


@pytest.mark.parametrize("words", [["frobnicate"], ["keygen"], ["keygen", "a/b"], ["keygen", "."], ["trace"], ["trace", "/nowhere"],
                                   ["status", "-c", "/nowhere.conf"], ["simulate", "/nowhere.csv", "--target", "y"],
                                   ["simulate"], ["train", "--nothing"]], ids=str)
def test_the_operators_command_line(words):
    """Other words (test_gal_command has their text): status 1 or 2, one to a few lines, never a crash."""
    done = gal(*words)
    assert done.returncode in (1, 2) and done.stdout == "" and 1 <= len(done.stderr.splitlines()) <= 4, done
    assert done.stderr.startswith(("gal: ", "gal ", "usage: "))
