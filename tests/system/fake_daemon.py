#!/usr/bin/python3
"""A daemon that answers on STATE/control.sock and computes nothing, so that `gal` can be tested against every answer,
the bad ones too. Copied beside gal as gal-sponsor and gal-assistor; GAL_FAKE in the environment picks what goes wrong."""
import configparser
import json
import os
import signal
import socket
import sys
import time

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
program = os.path.basename(sys.argv[0])
mode = os.environ.get("GAL_FAKE", "")
conf = configparser.ConfigParser(interpolation=None, delimiters=("=",))
conf.read(sys.argv[1])
folder = os.path.dirname(os.path.abspath(sys.argv[1]))
state = os.path.join(folder, conf["organization"]["state"])
name = conf["organization"]["name"]
sponsor = program == "gal-sponsor"
print(f"{program} {name}: threads {os.environ['OMP_NUM_THREADS']} {os.environ['OPENBLAS_NUM_THREADS']}", file=sys.stderr)
if mode == "bad-config" or (mode == "bad-assistor" and not sponsor):
    print(f"{program}: {name}.conf:3: unknown key", file=sys.stderr)
    sys.exit(2)
with open(os.path.join(folder, "data.csv")) as f:
    rows = sum(1 for _ in f) - 1

os.chdir(state)
listener = socket.socket(socket.AF_UNIX)
listener.bind("control.sock")
listener.listen(8)
peers = [s.split()[1] for s in conf.sections() if s.startswith("peer ")]
asked = 0


def status():
    global asked
    asked += 1
    early = asked < 4
    return {"name": name, "role": "sponsor" if sponsor else "assistor", "version": "0.1.0", "pid": os.getpid(),
            "children": [{"program": "gal-link", "pid": 1, "restarts": 0, "rss_kb": 1000, "rss_peak_kb": 1500},
                         {"program": "gal-core", "pid": 2, "restarts": 1, "rss_kb": 2000, "rss_peak_kb": 2500},
                         {"program": "gal-worker", "pid": 3, "restarts": 0, "rss_kb": 9000, "rss_peak_kb": 9000}],
            "link": None if early or not peers else {"listening": conf["listen"]["address"],
                                                     "peers": [{"name": p, "up": True, "since": 1} for p in peers]},
            "core": None if early else {"state": "idle", "text": "waits for gal train", "waiting_for": []},
            "worker": None}


def train():
    task = conf["task main"]
    rounds = int(task["rounds"])
    orgs = ["sponsor", *peers]
    if mode == "refused":
        yield {"error": "a run is going on"}
        return
    yield {"event": "waiting", "for": peers, "text": "waits for " + ", ".join(peers)}
    if mode == "bad-assistor":
        time.sleep(5)  # gal finds out meanwhile
    outputs = 3 if task["kind"] == "multiclass" else 1
    yield {"event": "start", "run": "ab" * 16, "task": "main", "orgs": orgs, "outputs": outputs, "loss": "squared",
           "solver": task["solver"], "rounds": rounds, "rows": {"fit": rows, "answer": 0}, "objective": 2.0}
    for t in range(1, rounds + 1):
        if mode == "die" and t == 2:
            print(f"{program} {name}: terrible", file=sys.stderr)
            os._exit(1)
        if mode == "fail" and t == 2:
            yield {"event": "failed", "error": "org2 sent a residual of its own: see its log"}
            return
        yield {"event": "round", "round": t, "objective": 2.0 ** (1 - t), "validation": None, "rate": 1.5,
               "weights": [1 / len(orgs)] * len(orgs), "seconds": 0.01, "bytes_out": 1000 * (len(orgs) - 1),
               "bytes_in": 1000 * (len(orgs) - 1)}
    yield {"event": "done", "run": "ab" * 16, "rounds": rounds, "best_round": rounds, "seconds": 0.1, "stopped": "rounds"}


def predict(question):
    ids, truth = question["ids"], question.get("truth")
    if mode == "no-predict":
        return {"error": f"id {ids[0]} is in nobody's data"}
    kind = conf["task main"]["kind"]
    # a row's score is the number in its id, so that a test knows it
    scores = {"regression": [[float(i.split()[-1])] for i in ids], "count": [[0.5]] * len(ids), "binary": [[2.0]] * len(ids),
              "multiclass": [[0.0, 1.0, 2.0]] * len(ids)}[kind]
    classes = {"binary": ["no", "yes, sure"], "multiclass": ["0", "1", "2"]}.get(kind)
    metrics = {"mad": 0.5, "rmse": 0.75, "r2": None} if truth else None
    if truth and len(truth) != len(ids):
        return {"error": "truth and ids differ in length"}
    return {"run": "ab" * 16, "task_kind": kind, "classes": classes, "outputs": len(scores[0]), "scores": scores,
            "metrics": metrics}


def answers(question):
    if question["cmd"] == "status":
        yield status()
    elif question["cmd"] == "train":
        yield from train()
    elif question["cmd"] == "predict":
        yield predict(question)
    elif question["cmd"] == "runs":
        yield {"runs": [{"run": "ab" * 16, "task": "main", "state": "done", "rounds": 3, "best_round": 3,
                         "started": 1700000000}]}


while True:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw") as stream:
        for line in stream:
            if mode == "garbage":
                stream.write("not json\n")
                stream.flush()
                continue
            for answer in answers(json.loads(line)):
                stream.write(json.dumps(answer) + "\n")
                stream.flush()
