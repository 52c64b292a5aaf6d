"""[policy]: what an assistor agrees to. A refusal ends the run at the sponsor with its reason; what is used up is kept."""
import numpy as np
import pytest

from federation import gal, synthetic, wait_for

ROWS = 120


def agreed(federation, policy, kind="regression", **task):
    slices, y = synthetic(ROWS, [2, 4])
    if kind != "regression":
        y = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3])).astype(int).astype(str) if kind == "multiclass" else y
    f = federation(slices, y, kind=kind, **{"rounds": 3, **task})
    f["org2"].sections["policy"] = policy
    return f.start()


def refusal(f, said=1):
    result = gal("train", "-c", f.sponsor.conf)
    assert result.returncode == 1 and f.state() == "failed", f.logs()
    line, = [l for l in result.stderr.splitlines() if "org2" in l]
    assert f.sponsor.count("gal-core", line.split(": ", 1)[1]) == 1
    why = line.split("org2 refuses task main: ", 1)[1]
    assert f["org2"].count("refused Task of round 0: ", why.rsplit(" (E_TASK)", 1)[0]) == said
    return why


YES = {"allow_reconstruction": "yes"}
REFUSED = [
    ({"tasks": "risk, churn"}, {}, 'task "main" is not among the tasks = that we agreed to (E_TASK)'),
    ({"max_outputs": 2}, {"kind": "multiclass"}, "3 outputs, at most 2 are agreed to (max_outputs) (E_TASK)"),
    ({"min_rows": ROWS + 1}, {}, f"{ROWS} rows to fit on, at least {ROWS + 1} are needed (min_rows) (E_TASK)"),
    ({"max_rounds": 2}, {}, "3 rounds, at most 2 are agreed to (max_rounds) (E_TASK)"),
    ({"max_rounds_total": 2}, {}, "3 rounds after 0 before, at most 2 in all are agreed to (max_rounds_total) (E_TASK)"),
    ({"require_loss": "yes"}, {},
     "the loss is not declared: set declare_loss = yes in the sponsor's [task] (require_loss) (E_TASK)"),
]
REFUSED_ALONE = [
    ({}, {"rounds": 4}, 4), ({"allow_reconstruction": "no"}, {"rounds": 4}, 4), ({}, {"rounds": 10}, 10)]
ACCEPTED = [
    {"tasks": "risk, main"}, {"max_outputs": 1}, {"min_rows": ROWS}, {"max_rounds": 3}, {"max_rounds_total": 3},
    {"max_predictions_per_day": 0}, {"round_to": 0.5}, {"require_loss": "no"},
]


@pytest.mark.parametrize("policy, task, why", REFUSED, ids=[next(iter(p)) for p, _, _ in REFUSED])
def test_refused_with_its_reason(federation, policy, task, why):
    assert refusal(agreed(federation, {**YES, **policy}, **task)) == why


@pytest.mark.parametrize("policy, task, rounds", REFUSED_ALONE)
def test_reconstruction_is_refused_unless_allowed(federation, policy, task, rounds):
    """allow_reconstruction is no where nothing is said; the start says what it means."""
    f = agreed(federation, policy, **task)
    assert refusal(f) == (f"with a linear model {rounds} rounds can rebuild our 4 columns: fewer rounds, another model, or "
                          "allow_reconstruction = yes here (E_TASK)")
    assert f["org2"].count("REBUILD", "refused unless a policy says allow_reconstruction = yes") == 1


@pytest.mark.parametrize("policy", ACCEPTED, ids=[next(iter(p)) for p in ACCEPTED])
def test_accepted_within(federation, policy):
    """Three rounds rebuild less than four columns: nothing else needs to be said."""
    f = agreed(federation, policy)
    assert len([e for e in f.train() if e["event"] == "round"]) == 3
    assert "consent     sponsor: 3 rounds used, 0 predictions today" in gal("status", "-c", f["org2"].conf).stdout


def test_a_declared_loss_is_accepted(federation):
    f = agreed(federation, {"require_loss": "yes"}, declare_loss="yes")
    assert len([e for e in f.train() if e["event"] == "round"]) == 3


def test_the_sponsors_own_section_counts(federation):
    f = agreed(federation, {**YES, "max_rounds": 1})
    f["org2"].stop()
    f["org2"].sections["policy sponsor"] = {"max_rounds": 3}
    f["org2"].start()
    f.ready().train()


def test_answers_are_rounded(federation):
    f = agreed(federation, {**YES, "round_to": 0.25})
    f.set("link", dtype="f64")
    f["org2"].stop()
    f["org2"].start()
    f.ready().train()
    with f["org2"].database("worker") as db:
        (answer,), = db.execute("SELECT answer FROM answers").fetchall()
    whole = np.frombuffer(answer, np.float32 if len(answer) == 4 * ROWS else np.float64) * 4
    assert len(whole) == ROWS and np.array_equal(whole, np.round(whole)) and np.any(whole)


def test_use_survives_a_restart_and_is_shown(federation):
    f = agreed(federation, {**YES, "max_rounds_total": 7, "max_predictions_per_day": 5})
    f.train()

    def shown():
        return gal("status", "-c", f["org2"].conf).stdout

    assert ("consent     sponsor: 3 rounds used, 0 predictions today; max_rounds_total = 7; max_predictions_per_day = 5; "
            "allow_reconstruction = yes") in shown()
    assert len(f.sponsor.ask({"cmd": "predict", "rows": [0, 1, 2]})["scores"]) == 3
    f["org2"].stop()
    f["org2"].start()
    f.ready()
    wait_for("the use to be shown", lambda: "3 rounds used, 3 predictions today" in shown(), 5)
    answer = f.sponsor.ask({"cmd": "predict", "rows": [0, 1, 2]})
    assert "3 predictions after 3 today, at most 5 a day are agreed to (max_predictions_per_day)" in answer["error"]
    assert len(f.sponsor.ask({"cmd": "predict", "rows": [0, 1]})["scores"]) == 2  # a refused request used nothing
    f.train()  # the second run of three rounds
    assert "3 rounds after 6 before, at most 7 in all are agreed to (max_rounds_total)" in refusal(f, 0)  # a line of that kind was logged within 10 s
    consent, = f["org2"].status()["worker"]["consent"]
    assert consent["rounds_used"] == 6 and consent["predicted_today"] == 5


def test_another_key_is_another_sponsor(federation):
    """What was used up is counted by key: a renamed sponsor does not begin again."""
    f = agreed(federation, {**YES, "max_rounds_total": 3})
    f.train()
    f["org2"].stop()
    f["org2"].sections["sponsor other"] = f["org2"].sections.pop("sponsor sponsor")
    f["org2"].start()
    f.ready()
    assert "3 rounds after 3 before" in refusal(f)
