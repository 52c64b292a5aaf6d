"""VALIDATION rows: they choose the best round and end the run, and enter nothing else."""
import json
import sqlite3

import numpy as np
import pytest

from federation import REFERENCE, read_csv, simulate

CASES = [("qsar", "logistic", 50, 3), ("diabetes", "absolute", 50, 3), ("wine", "softmax", 50, 3), ("qsar", "logistic", 6, 20)]


def loss_of(name, y, F):
    if name == "absolute":
        return np.mean(np.abs(y - F[:, 0]))
    if name == "logistic":
        return np.mean(np.logaddexp(0, np.where(y == 1, -F[:, 0], F[:, 0])))
    top = F.max(axis=1)
    return np.mean(top + np.log(np.exp(F - top[:, None]).sum(axis=1)) - F[np.arange(len(y)), y.astype(int)])


@pytest.mark.parametrize("name, loss, rounds, patience", CASES)
def test_best_round_and_patience(name, loss, rounds, patience, tmp_path, figures):
    out = tmp_path / "o"
    document = simulate(REFERENCE / f"{name}.csv", "--split", REFERENCE / "splits" / f"{name}_1.json", "--loss", loss,
                        *(("--task", "regression") if loss == "absolute" else ()), "--validation", 0.2, "--dtype", "f64",
                        "--set", f"task.rounds={rounds}", "--set", f"task.patience={patience}", "--out", out)
    run = document["runs"][0]
    y = {r["id"]: float(r["target"]) for r in read_csv(out / "sponsor" / "labels.csv")}
    ids = [r["id"] for r in read_csv(out / "sponsor" / "data.csv")]
    db = sqlite3.connect(f"file:{out}/sponsor/state/core/core.db?mode=ro", uri=True)
    (rows, n_fit, K, F0, F, stopped), = db.execute("SELECT rows, n_fit, K, F0, F, stopped FROM runs JOIN scores "
                                                      "ON scores.run = runs.id")
    rows, F0 = np.frombuffer(rows, np.uint32), np.frombuffer(F0)
    F = np.frombuffer(F).reshape(len(rows), K)
    labels = np.array([y[ids[r]] for r in rows])

    assert len(set(rows)) == len(rows) == len(y) and {ids[r] for r in rows} == set(y)  # disjoint, and together all
    held = len(rows) - n_fit
    assert abs(held - 0.2 * len(rows)) <= max(1, K)
    if loss != "absolute":  # stratified
        for c in set(labels):
            assert abs(np.sum(labels[n_fit:] == c) - 0.2 * np.sum(labels == c)) <= 1

    last = run["rounds"][-1]
    assert last["objective"] == pytest.approx(loss_of(loss, labels[:n_fit], F[:n_fit]), rel=1e-9)
    assert last["validation"] == pytest.approx(loss_of(loss, labels[n_fit:], F[n_fit:]), rel=1e-9)
    losses = [loss_of(loss, labels[n_fit:], np.tile(F0, (held, 1))), *(r["validation"] for r in run["rounds"])]
    assert run["best_round"] == int(np.argmin(losses))
    best = [int(np.argmin(losses[:t + 1])) for t in range(len(losses))]
    assert not any(t - best[t] >= patience for t in range(1, len(losses) - 1))  # not a round too many
    ended = len(losses) - 1
    assert stopped == ("rounds" if ended == rounds else "patience")
    assert ended == rounds or ended - best[-1] == patience
    figures(f"{name}, {loss}: {ended} of {rounds} rounds, best {run['best_round']}, stopped by {stopped}")


def test_the_constant_can_be_best(tmp_path):
    """Nothing to learn: a run whose every round is worse on VALIDATION rows predicts F^0."""
    draw = np.random.RandomState(3)
    X, y = draw.standard_normal((60, 20)), draw.standard_normal(60)
    path = tmp_path / "noise.csv"
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", comments="", fmt="%.17g",
               header=",".join([*(f"x{j}" for j in range(20)), "target"]))
    for seed in range(5):
        run = simulate(path, "--orgs", 2, "--task", "regression", "--validation", 0.5, "--seed", seed)["runs"][0]
        if run["best_round"] == 0:
            assert len(run["rounds"]) == 3 and run["test"]["r2"] <= 0
            return
    raise AssertionError("none of five seeds")


@pytest.mark.parametrize("words", [(), ("--validation", 0.2)])
def test_the_same_seed_gives_the_same_bits(words):
    def run(seed):
        document = simulate(REFERENCE / "breast_cancer.csv", "--orgs", 4, "--rounds", 5, "--seed", seed, *words)
        return json.dumps([[r["objective"], r["validation"], r["rate"], r["weights"]] for r in document["runs"][0]["rounds"]])
    assert run(5) == run(5)
    assert run(5) != run(6)
