"""The prediction stage over the same daemons: what was fitted is predicted again, now and after everybody was restarted."""
import json

import numpy as np
import pytest

from federation import gal, read_csv, synthetic, write_csv

KINDS = {"squared": "regression", "absolute": "regression", "poisson": "count", "logistic": "binary", "softmax": "multiclass"}


def targets(loss, y):
    if loss == "poisson":
        return np.random.RandomState(0).poisson(np.exp(y / 8))
    if loss == "logistic":
        return np.where(y > 0.3, "sick", "well")
    if loss == "softmax":
        return np.digitize(y, [-2, 1])
    return y


def predict(f, ids, *words):
    path = f.home / "ids.csv"
    write_csv(path, {"id": ids})
    return gal("predict", path, "-c", f.sponsor.conf, *words)


@pytest.fixture(params=list(KINDS))
def trained(request, federation):
    def make(predict, rows=300, **link):
        slices, y = synthetic(rows, [2, 3, 2])
        f = federation(slices, targets(request.param, y), ids=[f"r{7 * i % 1000}" for i in range(rows)],
                       kind=KINDS[request.param], loss=request.param, rounds=6, predict=predict)
        f.set("link", **{"dtype": "f32", **link})
        f.start().train()
        return f
    return make


@pytest.mark.parametrize("how", ["sum", "per-round"])
def test_fitted_rows_predicted_again(trained, how, figures):
    f = trained(how)
    F, rows = f.scores()
    ids = [r["id"] for r in read_csv(f.sponsor.home / "data.csv")]
    worst = []
    for restart in (False, True):
        if restart:
            for d in f.daemons.values():
                d.stop()
            f.start()
        order = np.random.RandomState(restart).permutation(len(rows))
        result = predict(f, [ids[rows[i]] for i in order], "--json")
        assert result.returncode == 0, result.stderr + f.logs()
        again = np.array(json.loads(result.stdout)["scores"])
        worst.append(np.abs(again - F[order]).max() / np.abs(F).max())
    figures(f"max|ΔF| = {worst[0]:.1e}·max|F|, after restarts {worst[1]:.1e} (bar 1e-05)")
    assert max(worst) <= 1e-5
    kinds = [e["kind"] for e in f["org2"].events()]
    assert kinds.count("Predicted") == 2 and kinds.count("Fitted") == len(f.rounds())
    sent = next(e for e in f["org2"].events() if e["kind"] == "Predicted")
    K = F.shape[1]
    assert (sent["rows"], sent["cols"]) == (len(rows), K if how == "sum" else K * len(f.rounds()))


def test_rows_never_fitted(federation):
    """Rows without a label are in no task and can be asked for: the three slices' ridge models, done here by hand, agree."""
    slices, y = synthetic(200, [2, 3])
    f = federation(slices, y, ids=list(range(200)), loss="squared", rounds=4)
    f.set("link", dtype="f64")
    write_csv(f.sponsor.home / "labels.csv", {"id": np.arange(0, 200, 2), "target": y[::2]})
    f.start().train()
    X = [np.column_stack(list(s.values())) for s in slices]
    Z = [(x - x[::2].mean(axis=0)) / x[::2].std(axis=0) for x in X]
    F = np.full(200, y[::2].mean())
    for (_, _, rate, weights) in f.rounds():
        r, w = y[::2] - F[::2], np.frombuffer(bytes.fromhex(weights))
        for m, z in enumerate(Z):
            beta = np.linalg.solve(z[::2].T @ z[::2] / 100 + 1e-3 * np.eye(z.shape[1]), z[::2].T @ (r - r.mean()) / 100)
            F = F + rate * w[m] * (r.mean() + z @ beta)
    result = predict(f, list(range(1, 200, 2)), "--json")
    assert result.returncode == 0, result.stderr
    assert np.array(json.loads(result.stdout)["scores"])[:, 0] == pytest.approx(F[1::2], rel=1e-9, abs=1e-9)


def one_line(result, *parts):
    assert result.returncode == 1 and not result.stdout, result
    assert len(result.stderr.splitlines()) == 1
    assert all(p in result.stderr for p in parts), result.stderr


def test_what_cannot_be_predicted_is_one_clear_line(federation):
    slices, y = synthetic(60, [2, 2])
    f = federation(slices, y, ids=[f"r{i}" for i in range(60)], rounds=2)
    f.start()
    one_line(predict(f, ["r1"]), "no run is done yet")
    f.train()
    assert predict(f, ["r1", "r59"]).returncode == 0
    one_line(predict(f, ["r1", "nobody"]), "nobody", "not in [data]")
    assert "row 60 is not in [data]" in f.sponsor.ask({"cmd": "predict", "rows": [0, 60]})["error"]
    assert "not in [data]" in f.sponsor.ask({"cmd": "predict", "rows": [-1]})["error"]
    assert len(f.sponsor.ask({"cmd": "predict", "rows": [0, 59]})["scores"]) == 2
    one_line(predict(f, ["r1"], "--run", "00" * 16), "no run")
    f["org2"].stop()
    one_line(predict(f, ["r1"]), "org2")
    f["org2"].start()
    f.ready()
    assert predict(f, ["r1", "r59"]).returncode == 0


def test_positions_when_no_ids_are_named(federation):
    slices, y = synthetic(60, [2, 2])
    f = federation(slices, y, rounds=2)
    f.start().train()
    F, rows = f.scores()
    assert np.array(f.sponsor.ask({"cmd": "predict", "rows": rows.tolist()})["scores"]) == pytest.approx(F, rel=1e-5)
    one_line(predict(f, ["r1"]), "id")
