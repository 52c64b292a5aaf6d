"""A peer that was written from docs/PROTOCOL.md alone takes part in a federation of daemons, and nobody can tell the difference."""
import collections
import csv
import time

import numpy as np
import pytest

from federation import ROOT, synthetic
from peer import KIND, Cut, Peer, array_of

MOTOR = ROOT / "tests" / "data" / "motor"


def motor(name):
    with open(MOTOR / f"{name}.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    return [r["idx"] for r in rows], {k: np.array([float(r[k]) for r in rows]) for k in rows[0] if k != "idx"}


def python_peer(f, name="org3", ids=None):
    """In place of that assistor's daemon."""
    d = f[name]
    columns = np.genfromtxt(d.home / "data.csv", delimiter=",", skip_header=1)[:, 0 if ids is None else 1:]
    return Peer(f"tcp://127.0.0.1:{f.port}", f.sponsor.public, d.public, d.secret, columns, ids)


def consent(f):
    for a in f.assistors:
        a.sections["policy"] = {"allow_reconstruction": "yes"}


def start_with(f, peer, name="org3"):
    for d in f.daemons.values():
        if d.name != name:
            d.start()
    f.ready(name)
    peer.until(lambda: all(p["up"] for p in f.sponsor.status()["link"]["peers"]))


def train_with(f, peer, task="main", seconds=40):
    f.begin(task)
    peer.until(lambda: f.state() in ("done", "failed"), seconds)
    assert f.state() == "done", f.logs() + str(peer.errors)


def heads(f, name, dirs):
    """The last head of each run."""
    return {e["run"]: e["head"] for e in f.sponsor.events() if e["peer"] == name and e["run"] and e["head"] and e["dir"] in dirs}


def predicted(f, peer, rows):
    """The sponsor's control socket in a thread, since the peer must answer meanwhile."""
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(f.sponsor.ask, {"cmd": "predict", "rows": rows})
        peer.until(answer.done)
    return np.array(answer.result()["scores"])


def weights(f):
    return np.array([np.frombuffer(bytes.fromhex(w)) for _, _, _, w in f.rounds()])


def compare(make, slices, y, ids=None, link=(), cuts=None, **task):
    """An all-C federation and one with the peer: the same run."""
    rows = list(range(0, len(y), 7))
    one = make(slices, y, ids, **task)
    one.set("link", **dict(link))
    consent(one)
    one.start().train()
    expected = np.array(one.sponsor.ask({"cmd": "predict", "rows": rows})["scores"])

    two = make(slices, y, ids, **task)
    two.set("link", **dict(link))
    consent(two)
    peer = python_peer(two, ids=ids)
    if cuts:
        peer.hook = cuts(peer)
    start_with(two, peer)
    train_with(two, peer)
    assert len(one.rounds()) == len(two.rounds()) == task["rounds"]
    assert [r[1] for r in two.rounds()] == pytest.approx([r[1] for r in one.rounds()], rel=1e-5)
    assert [r[2] for r in two.rounds()] == pytest.approx([r[2] for r in one.rounds()], rel=1e-4)
    assert np.abs(weights(two) - weights(one)).max() <= 1e-5
    assert predicted(two, peer, rows) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert peer.complaints == [] and peer.errors == []
    own = {run.hex(): r.head.hex() for run, r in peer.runs.items()}
    assert heads(two, "org3", ("in", "out")) == own
    return one, two, peer


@pytest.mark.parametrize("dtype, predict", [("f32", "sum"), ("f64", "per-round")])
def test_motor(federation, dtype, predict):
    (ids, bench), (_, climate), (_, inverter) = (motor(n) for n in ("bench", "climate", "inverter"))
    y = bench.pop("motor_speed")
    _, _, peer = compare(federation, [bench, climate, inverter], y, ids, {"dtype": dtype}, rounds=10, validation=0.2,
                         patience=100, predict=predict)
    assert peer.received["settle"] == 10 and peer.dials == 1


class Cuts:
    """Ends the connection once in the middle of each of those transfers: (way, kind of the transfer, round, chunk)."""

    def __init__(self, peer, *places):
        self.peer, self.places, self.seen, self.resumed = peer, list(places), collections.Counter(), []
        self.first = {}

    def __call__(self, way, kind, header):
        if kind in ("fit", "fitted", "task", "predict", "predicted"):
            if array_of(header).resume:
                self.resumed.append((way, kind, header.round))
        transfer = self.peer.out if way == "out" else self.peer.into
        if kind != "chunk" or not transfer:
            return
        name = transfer.opening.WhichOneof("body")
        self.seen[way, name, header.round, header.chunk.index] += 1
        place = way, name, header.round, header.chunk.index
        if place in self.places:
            self.places.remove(place)
            time.sleep(0.1)  # what was sent is on its way
            raise Cut

    def twice(self, *place):
        """How many chunks of that transfer crossed more than once."""
        return sum(n - 1 for key, n in self.seen.items() if key[:3] == place)


@pytest.fixture
def big():
    return synthetic(6000, [2, 3, 2])


def test_connections_cut_in_the_middle(federation, big, figures):
    """Twelve chunks of 4096 bytes each way; after a cut, what has arrived is not sent again."""
    slices, y = big
    places = [("in", "task", 0, 4), ("out", "fitted", 3, 4), ("in", "fit", 6, 5), ("out", "fitted", 8, 11), ("in", "fit", 9, 0)]
    _, two, peer = compare(federation, slices, y, link={"chunk": 4096, "dtype": "f64"}, rounds=10, validation=0, patience=100,
                           rate="fixed:0.3", cuts=lambda peer: Cuts(peer, *places))
    cuts = peer.hook
    assert cuts.places == [] and peer.dials == 6
    twice = {p[:3]: cuts.twice(*p[:3]) for p in places}
    figures(f"chunks sent twice after {len(places)} cuts: {twice}")
    assert {("out", "fitted", 3), ("out", "fitted", 8)} <= set(cuts.resumed)
    assert max(n for (way, *_), n in twice.items() if way == "out") <= 1, (twice, cuts.resumed)
    assert peer.received["settle"] == 10
    run, = peer.runs.values()
    assert len(run.fits) == 10
