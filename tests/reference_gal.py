#!/usr/bin/python3
"""Algorithm 1 of docs/ALGORITHM.md with linear local models, in numpy, as an oracle for the C programs.

Written from the mathematics, not from the C: every step that has more than one method uses another one here. Weights: accelerated
projected gradient, then the linear equations of the support it found. Rate: bisection on the derivative, for the absolute loss a
look at every breakpoint. Local models: a direct solve in each round. Rows: fit-on = train, no validation, no early stop.

    reference_gal.py DATA.csv SPLIT.json LOSS [ROUNDS]
"""
import csv
import json
import sys

import numpy as np


# losses: mean value, residual, constant, derivative along g; F and g are N×K, y are labels


def sigma(x):
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


def softmax(F):
    e = np.exp(F - F.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def onehot(y, K):
    return (y[:, None] == np.arange(K)).astype(float)


class Squared:
    @staticmethod
    def outputs(y):
        return 1

    @staticmethod
    def constant(y, K):
        return np.array([y.mean()])

    @staticmethod
    def value(y, F):
        return np.mean(0.5 * (y - F[:, 0]) ** 2)

    @staticmethod
    def residual(y, F):
        return y[:, None] - F


class Absolute(Squared):
    @staticmethod
    def constant(y, K):
        return np.array([np.median(y)])

    @staticmethod
    def value(y, F):
        return np.mean(np.abs(y - F[:, 0]))

    @staticmethod
    def residual(y, F):
        d = y[:, None] - F
        return np.where(np.abs(d) <= 1e-9 * np.maximum(1, np.abs(y))[:, None], 0, np.sign(d))


class Logistic(Squared):
    @staticmethod
    def constant(y, K):
        p = (np.sum(y == 1) + 0.5) / (len(y) + 1)
        return np.array([np.log(p / (1 - p))])

    @staticmethod
    def value(y, F):
        return np.mean(np.logaddexp(0, np.where(y == 1, -F[:, 0], F[:, 0])))

    @staticmethod
    def residual(y, F):
        return np.where(y[:, None] == 1, sigma(-F), -sigma(F))


class Softmax:
    @staticmethod
    def outputs(y):
        return int(y.max()) + 1

    @staticmethod
    def constant(y, K):
        return np.log((onehot(y, K).sum(axis=0) + 0.5) / (len(y) + K / 2))

    @staticmethod
    def value(y, F):
        m = F.max(axis=1)
        return np.mean(m + np.log(np.exp(F - m[:, None]).sum(axis=1)) - F[np.arange(len(y)), y.astype(int)])

    @staticmethod
    def residual(y, F):
        p = softmax(F)
        r = onehot(y, F.shape[1]) - p
        own = (np.arange(len(y)), y.astype(int))
        p[own] = 0
        r[own] = p.sum(axis=1)
        return r


LOSSES = {"squared": Squared, "absolute": Absolute, "logistic": Logistic, "softmax": Softmax}


# weights


def project(x):
    """The nearest point of the simplex: x minus the threshold at which the positive parts sum to 1."""
    s = np.sort(x)[::-1]
    c = np.cumsum(s) - 1
    k = np.nonzero(s - c / np.arange(1, len(x) + 1) > 0)[0][-1]
    return np.maximum(x - c[k] / (k + 1), 0)


def weights(fits, r, steps=20000):
    """argmin ‖r − Σ w_m f_m‖² over the simplex; unique on the data of the tests, where no column is a copy."""
    A = np.column_stack([f.ravel() for f in fits])
    scale = np.linalg.norm(A, 2)
    A, r = A / scale, r.ravel() / scale
    w = v = np.full(A.shape[1], 1 / A.shape[1])
    t = 1.0
    for _ in range(steps):
        new = project(v - A.T @ (A @ v - r))
        if (v - new) @ (new - w) > 0:  # restart where momentum points uphill (O'Donoghue and Candès 2015)
            t, v = 1.0, new
        else:
            tn = (1 + np.sqrt(1 + 4 * t * t)) / 2
            v, t = new + (t - 1) / tn * (new - w), tn
        done, w = np.abs(new - w).max() < 1e-15, new
        if done and t > 1:
            break
    return polish(A, r, w)


def polish(A, r, w):
    """The support, then its equations [AᵀA 1; 1ᵀ 0] by QR on differences of columns; kept when they are the optimum."""
    for cut in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4):
        S = np.nonzero(w > cut)[0]
        D = A[:, S[1:]] - A[:, S[:1]]
        x = np.linalg.lstsq(D, r - A[:, S[0]], rcond=None)[0] if len(S) > 1 else np.zeros(0)
        exact = np.zeros_like(w)
        exact[S] = np.concatenate([[1 - x.sum()], x])
        if exact.min() >= 0 and kkt(A, r, exact) < 1e-12:
            return exact
    raise ArithmeticError("weights: no support is optimal")


def kkt(A, r, w):
    g = A.T @ (A @ w - r)
    slack = g - g @ w
    return max(np.abs(slack[w > 0]).max(), -slack.min()) / max(np.abs(A.T @ A).max(), np.abs(A.T @ r).max())


# rate


def rate(loss, y, F, g):
    if loss is Absolute:
        return breakpoint_search(y, F[:, 0], g[:, 0])

    def slope(eta):
        return -np.sum(loss.residual(y, F + eta * g) * g)

    at0 = slope(0.0)
    if at0 >= 0:
        return 0.0
    lo, hi = 0.0, 1.0
    while slope(hi) < 0 and slope(hi) < 1e-10 * at0:  # at0 < 0: still more than 1e−10 of it
        lo, hi = hi, 2 * hi
    goal = 0.0 if slope(hi) >= 0 or slope(2 * hi) > 0 else 1e-10 * at0
    while goal == 0 and slope(hi) < 0:
        hi *= 2
    for _ in range(200):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if slope(mid) < goal else (lo, mid)
    return (lo + hi) / 2


def breakpoint_search(y, F, g):
    """The smallest of the best among 0 and the breakpoints, by the one-sided slopes at each of them."""
    d = (y - F)[g != 0] / g[g != 0]
    a = np.abs(g[g != 0])
    for eta in np.concatenate([[0.0], np.sort(d[d > 0])]):
        if np.sum(a[d <= eta]) >= np.sum(a[d > eta]):
            return eta
    return 0.0


# local model


class Linear:
    """Ridge (1/N)‖r − Xβ − b‖² + λ‖β‖² on standardised features; constant columns dropped."""

    def __init__(self, X, lam):
        self.mean, self.std = X.mean(axis=0), X.std(axis=0)
        self.keep = X.max(axis=0) > X.min(axis=0)
        self.lam = lam
        self.X = self.features(X)

    def features(self, X):
        return ((X - self.mean) / np.where(self.keep, self.std, 1))[:, self.keep]

    def fit(self, r):
        n, d = self.X.shape
        left = np.vstack([np.column_stack([np.ones(n), self.X]) / np.sqrt(n),
                          np.column_stack([np.zeros(d), np.sqrt(self.lam) * np.eye(d)])])
        right = np.vstack([r / np.sqrt(n), np.zeros((d, r.shape[1]))])
        return np.linalg.lstsq(left, right, rcond=None)[0]

    @staticmethod
    def predict(Z, coef):
        return coef[0] + Z @ coef[1:]


# Algorithm 1


def auroc(score, positive):
    p, q = score[positive], score[~positive]
    if not len(p) or not len(q):
        return float("nan")
    return float(np.mean((p[:, None] > q) + 0.5 * (p[:, None] == q)))


def metrics(loss, y, F):
    if loss in (Squared, Absolute):
        e = y - F[:, 0]
        return {"mad": float(np.mean(np.abs(e))), "rmse": float(np.sqrt(np.mean(e * e))),
                "r2": float(1 - np.sum(e * e) / np.sum((y - y.mean()) ** 2))}
    if loss is Logistic:
        return {"accuracy": float(np.mean((F[:, 0] > 0) == (y == 1))), "auroc": auroc(F[:, 0], y == 1),
                "log_loss": float(loss.value(y, F))}
    p = softmax(F)
    areas = [auroc(p[:, k], y == k) for k in range(F.shape[1])]
    return {"accuracy": float(np.mean(F.argmax(axis=1) == y)), "auroc": float(np.nanmean(areas)),
            "log_loss": float(loss.value(y, F))}


def load(csv_path, split_json_path):
    with open(csv_path, newline="", encoding="utf-8") as f:
        data = np.array([[float(v) for v in row] for row in list(csv.reader(f))[1:]])
    with open(split_json_path, encoding="utf-8") as f:
        split = json.load(f)
    return data[:, :-1], data[:, -1], split


def reference_run(csv_path, split_json_path, loss, rounds=10, lam=1e-3):
    """One dictionary per round, from round 0 (F^0 alone): round, objective on the train rows, rate, weights, test metrics."""
    L = LOSSES[loss]
    X, y, split = load(csv_path, split_json_path)
    train, test = np.array(split["train"]), np.array(split["test"])
    K = L.outputs(y)
    models = [Linear(X[np.ix_(train, columns)], lam) for columns in split["features"]]
    unseen = [m.features(X[np.ix_(test, columns)]) for m, columns in zip(models, split["features"])]

    F0 = L.constant(y[train], K)
    F, Ftest = np.tile(F0, (len(train), 1)), np.tile(F0, (len(test), 1))
    history = [{"round": 0, "objective": float(L.value(y[train], F)), "rate": 0.0, "weights": [],
                "test": metrics(L, y[test], Ftest)}]
    for t in range(1, rounds + 1):
        r = L.residual(y[train], F)
        coefs = [m.fit(r) for m in models]
        fits = [m.predict(m.X, c) for m, c in zip(models, coefs)]
        w = weights(fits, r)
        step = sum(wm * f for wm, f in zip(w, fits))
        eta = rate(L, y[train], F, step)
        F = F + eta * step
        Ftest = Ftest + eta * sum(wm * m.predict(Z, c) for wm, m, Z, c in zip(w, models, unseen, coefs))
        history.append({"round": t, "objective": float(L.value(y[train], F)), "rate": float(eta),
                        "weights": [float(v) for v in w], "test": metrics(L, y[test], Ftest)})
    return history


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    for h in reference_run(*sys.argv[1:4], rounds=int(sys.argv[4]) if len(sys.argv) == 5 else 10):
        print(json.dumps(h))


if __name__ == "__main__":
    main()
