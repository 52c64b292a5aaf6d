"""The daemons compute Algorithm 1: round for round what tests/reference_gal.py, which shares no code with them, computes."""
import json
import sys

import numpy as np
import pytest

from federation import REFERENCE, ROOT, simulate

sys.path.insert(0, str(ROOT / "tests"))
import reference_gal  # noqa: E402

SETS = {"diabetes": ("squared", "absolute"), "boston": ("squared", "absolute"), "breast_cancer": ("logistic", "softmax"),
        "qsar": ("logistic", "softmax"), "blob": ("softmax",), "wine": ("softmax",)}
TASK = {"squared": "regression", "absolute": "regression", "logistic": "binary", "softmax": "multiclass"}


def files(name, seed):
    return REFERENCE / f"{name}.csv", REFERENCE / "splits" / f"{name}_{seed}.json"


def run(data, split, loss, *words):
    document = simulate(data, "--split", split, "--loss", loss, "--task", TASK[loss], "--lambda", 0.001, *words)
    return document, document["runs"][0]


def patience_ended(objectives, rounds):
    """Three rounds in a row that each improved by less than 1e-4 relative, and not before the last."""
    def still(t):
        return t >= 3 and all(a - b < 1e-4 * abs(a) for a, b in zip(objectives[t - 4:t - 1], objectives[t - 3:t]))
    return len(objectives) == rounds or (still(len(objectives)) and not any(still(t) for t in range(1, len(objectives))))


def compare(name, seed, loss, rounds, tolerance, *words):
    data, split = files(name, seed)
    expected = reference_gal.reference_run(str(data), str(split), loss, rounds)[1:]
    document, got = run(data, split, loss, "--rounds", rounds, *words)
    objectives = [r["objective"] for r in got["rounds"]]
    assert document["orgs"] == 8 and got["loss"] == loss
    assert patience_ended(objectives, rounds), objectives
    assert got["best_round"] == len(objectives)
    for r in got["rounds"]:
        w = np.array(r["weights"])
        assert len(w) == 8 and w.min() >= 0 and abs(w.sum() - 1) <= 1e-12 and r["rate"] >= 0
    worst = max(abs(a / b["objective"] - 1) for a, b in zip(objectives, expected))
    assert worst <= tolerance, (worst, objectives, [e["objective"] for e in expected])
    return worst


@pytest.mark.parametrize("dtype, tolerance", [("f64", 1e-6), ("f32", 1e-4)])
@pytest.mark.parametrize("name", ["diabetes", "boston"])
def test_squared_loss_ten_rounds(name, dtype, tolerance, figures):
    worst = max(compare(name, seed, "squared", 10, tolerance, "--dtype", dtype) for seed in range(4))
    figures(f"{name}, squared, {dtype}: objective within {worst:.1e} of the reference (bar {tolerance:g})")


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("name, loss", [(n, l) for n, losses in SETS.items() for l in losses if l != "squared"])
def test_other_losses_four_rounds(name, loss, dtype, figures):
    tolerance = 1e-2 if loss == "absolute" else 3e-3
    worst = max(compare(name, seed, loss, 4, tolerance, "--dtype", dtype) for seed in range(4))
    figures(f"{name}, {loss}, {dtype}: objective within {worst:.1e} of the reference (bar {tolerance:g})")


def test_rates_and_weights_of_the_first_round():
    data, split = files("diabetes", 0)
    _, got = run(data, split, "squared", "--rounds", 2, "--dtype", "f64")
    for r, e in zip(got["rounds"], reference_gal.reference_run(str(data), str(split), "squared", 2)[1:]):
        assert r["rate"] == pytest.approx(e["rate"], rel=1e-9)
        assert r["weights"] == pytest.approx(e["weights"], abs=1e-9)


def boosting(X, y, loss, rounds, lam=1e-3):
    """Gradient boosting with one ridge learner a round: no organizations, no weights. Normal equations."""
    L = reference_gal.LOSSES[loss]
    K = L.outputs(y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    n, d = Z.shape
    F, out = np.tile(L.constant(y, K), (n, 1)), []
    for _ in range(rounds):
        r = L.residual(y, F)
        beta = np.linalg.solve(Z.T @ Z / n + lam * np.eye(d), Z.T @ (r - r.mean(axis=0)) / n)
        f = r.mean(axis=0) + Z @ beta
        eta = np.sum(r * f) / np.sum(f * f) if loss == "squared" else reference_gal.rate(L, y, F, f)
        F = F + eta * f
        out.append((value(L, y, F), eta))
    return np.array(out)


def value(L, y, F):
    """The loss; softmax without the cancellation that shows where the loss is 1e-10."""
    if L is not reference_gal.Softmax:
        return L.value(y, F)
    own = np.arange(len(y)), y.astype(int)
    others = np.exp(F - F[own][:, None])
    others[own] = 0
    return np.mean(np.log1p(others.sum(axis=1)))


@pytest.mark.parametrize("name, loss", [("diabetes", "squared"), ("boston", "squared"), ("diabetes", "absolute"),
                                        ("boston", "absolute"), ("qsar", "logistic"), ("breast_cancer", "logistic"),
                                        ("wine", "softmax"), ("blob", "softmax")])
def test_one_organization_is_gradient_boosting(name, loss, tmp_path, figures):
    data, _ = files(name, 0)
    X, y, split = reference_gal.load(data, files(name, 0)[1])
    path = tmp_path / "split.json"
    path.write_text(json.dumps({**split, "features": [sorted(sum(split["features"], []))]}))
    document, got = run(data, path, loss, "--rounds", 5, "--dtype", "f64")
    keep = [c for c in range(X.shape[1]) if np.ptp(X[split["train"], c]) > 0]
    expected = boosting(X[np.ix_(split["train"], keep)], y[split["train"]], loss, len(got["rounds"]))
    assert document["orgs"] == 1 and all(r["weights"] == [1] for r in got["rounds"])
    worst = max(np.abs([r["objective"] for r in got["rounds"]] / expected[:, 0] - 1))
    figures(f"{name}, {loss}, M = 1: objective within {worst:.1e} of a boosting loop (bar 1e-09)")
    assert worst <= 1e-9
    assert [r["rate"] for r in got["rounds"]] == pytest.approx(expected[:, 1], rel=1e-6)


def test_joint_is_the_same_run_as_all_columns_at_one_organization(tmp_path):
    data, path = files("diabetes", 1)
    split = json.loads(path.read_text())
    document = simulate(data, "--split", path, "--loss", "squared", "--baselines", "alone,joint", "--dtype", "f64")
    runs = {r["name"]: r for r in document["runs"]}
    for name, features in (("alone", [split["features"][0]]), ("joint", [sum(split["features"], [])])):
        one = tmp_path / f"{name}.json"
        one.write_text(json.dumps({**split, "features": features}))
        _, got = run(data, one, "squared", "--dtype", "f64")
        assert [r["objective"] for r in runs[name]["rounds"]] == pytest.approx([r["objective"] for r in got["rounds"]], rel=1e-9)
        assert runs[name]["test"] == pytest.approx(got["test"], rel=1e-9)
    assert runs["gal"]["test"]["mad"] < runs["alone"]["test"]["mad"]
