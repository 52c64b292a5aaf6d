"""Rows are the same on both sides: where both name an id column, their ids decide, else their number."""
import math

import pytest

from federation import gal, synthetic, write_csv

N = 300
IDS = [f"patient {i:04d}" for i in range(N)]


def start(federation, theirs, rows=N, name_them=True):
    slices, y = synthetic(N, [2, 2, 2])
    f = federation(slices, y, ids=IDS, rounds=3)
    other = f["org2"]
    columns = {k: list(v)[:rows] + [0.0] * (rows - N) for k, v in slices[1].items()}
    write_csv(other.home / "data.csv", {"id": theirs, **columns})
    if not name_them:
        del other.sections["data"]["id"]
        other.sections["data"]["exclude"] = "id"
    return f.start()


def refusal(f):
    result = gal("train", "-c", f.sponsor.conf)
    assert result.returncode == 1
    lines = [l for l in result.stderr.splitlines() if "org2" in l]
    assert len(lines) == 1, result.stderr
    assert f.state() == "failed" and f.sponsor.count("gal-core", lines[0].split(": ", 1)[1]) == 1
    assert f["org2"].count("refused Task") == 1
    return lines[0]


def questions(f):
    asked = sum(e["kind"] == "Align" and e["dir"] == "out" for e in f.sponsor.events())
    assert asked == sum(e["kind"] == "Align" and e["dir"] == "in" for e in f["org2"].events())
    assert asked == sum(e["kind"] == "Aligned" for e in f.sponsor.events())
    return asked


def test_equal_ids(federation):
    f = start(federation, IDS)
    f.train()
    assert questions(f) == 0


@pytest.mark.parametrize("first", [0, 1, 137, N - 2])
def test_a_swapped_pair(federation, first):
    theirs = list(IDS)
    theirs[first], theirs[first + 1] = theirs[first + 1], theirs[first]
    f = start(federation, theirs)
    assert f"org2 has {N} rows, this organization {N}; their ids differ first in row {first + 1}:" in refusal(f)
    assert 1 <= questions(f) <= 2 * math.log2(N) + 2


@pytest.mark.parametrize("missing", [0, 200, N - 1])
def test_a_missing_row(federation, missing):
    f = start(federation, IDS[:missing] + IDS[missing + 1:], N - 1)
    assert f"org2 has {N - 1} rows, this organization {N}; their ids differ first in row {missing + 1}:" in refusal(f)
    assert 1 <= questions(f) <= 2 * math.log2(N) + 2


def test_an_appended_row(federation):
    f = start(federation, [*IDS, "one more"], N + 1)
    assert f"org2 has {N + 1} rows, this organization {N}; their ids differ first in row {N + 1}:" in refusal(f)
    assert 1 <= questions(f) <= 2 * math.log2(N) + 2


def test_entirely_other_ids(federation):
    f = start(federation, [i.upper() for i in IDS])
    assert "differ first in row 1:" in refusal(f)
    assert 1 <= questions(f) <= 2 * math.log2(N) + 2


def test_only_one_side_names_ids(federation):
    """Then the number of rows is all there is to compare."""
    f = start(federation, IDS[::-1], name_them=False)
    f.train()
    assert questions(f) == 0


def test_only_one_side_names_ids_and_rows_are_missing(federation):
    f = start(federation, IDS[:-1], N - 1, name_them=False)
    line = refusal(f)
    assert f"{N - 1} rows" in line and f"{N}:" in line and questions(f) == 0


def test_mended_and_tried_again(federation):
    """A refusal does not wedge anybody: the file is put right, its daemon restarted, and the same sponsor trains."""
    f = start(federation, [IDS[1], IDS[0], *IDS[2:]])
    refusal(f)
    f["org2"].stop()
    rows = (f["org2"].home / "data.csv").read_text().splitlines()
    rows[1], rows[2] = rows[2], rows[1]
    (f["org2"].home / "data.csv").write_text("\n".join(rows) + "\n")
    f["org2"].start()
    f.ready()
    assert len([e for e in f.train() if e["event"] == "round"]) == 3


def test_labels_are_joined_by_id(federation):
    """The order of labels.csv means nothing, and rows without a label are fitted by nobody."""
    slices, y = synthetic(N, [2, 2])
    runs = []
    for order in (range(N), range(N - 1, -1, -1)):
        f = federation(slices, y, ids=IDS, rounds=3)
        keep = [i for i in order if i % 3]
        write_csv(f.sponsor.home / "labels.csv", {"id": [IDS[i] for i in keep], "target": [y[i] for i in keep]})
        f.start().train()
        runs.append(f.rounds())
        assert f.scores()[1].tolist() == [i for i in range(N) if i % 3]
    assert runs[0] == runs[1]
