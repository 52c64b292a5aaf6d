#!/usr/bin/python3
"""What the whole costs, by real daemons on this host: start, a small simulation, a small round, a large run.

    python3 tests/bench/bench.py BUILD [--large] [--json]

--large makes 1e6 rows x 128 columns (1.2 GB under TMPDIR, removed at the end) and runs 8 organizations on it.
"""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
REFERENCE = os.path.join(HERE, "..", "data", "reference")


def ask(path, request):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(s.makefile().readline())


def simulate(build, *args):
    begun = time.monotonic()
    out = subprocess.run([f"{build}/gal", "simulate", *args, "--json"], check=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, timeout=900)
    return time.monotonic() - begun, json.loads(out.stdout)


def start_once(build, folder, names):
    """Seconds from the first fork to all peers up, daemons of a kept simulation, sponsor first, the others when it listens."""
    begun = time.monotonic()
    control = os.path.join(folder, "sponsor", "state", "control.sock")
    daemons = []

    def run(program, name):
        daemons.append(subprocess.Popen([f"{build}/{program}", os.path.join(folder, name, name + ".conf")],
                                        stderr=subprocess.DEVNULL))

    def wait(good):
        while time.monotonic() - begun < 20:
            try:
                status = ask(control, {"cmd": "status"})
                if status.get("link") and good(status["link"]):
                    return
            except OSError:
                pass
            time.sleep(0.001)
        raise SystemExit("the daemons did not start within 20 s")

    run("gal-sponsor", "sponsor")
    wait(lambda link: link["listening"])
    for name in names:
        run("gal-assistor", name)
    wait(lambda link: all(p["up"] for p in link["peers"]))
    seconds = time.monotonic() - begun
    for d in daemons:
        d.terminate()
    for d in daemons:
        d.wait(timeout=5)
    return seconds


def small(build, folder):
    data = os.path.join(REFERENCE, "diabetes.csv")
    common = ["--target", "target", "--orgs", "8", "--validation", "0"]
    kept = os.path.join(folder, "kept")
    simulate(build, data, *common, "--out", kept)
    names = sorted(n for n in os.listdir(kept) if n.startswith("org"))
    starts = [start_once(build, kept, names) for _ in range(20)]
    runs = [simulate(build, data, *common) for _ in range(5)]
    rounds = [r["seconds"] for _, d in runs for r in d["runs"][0]["rounds"][1:]]
    return {"start to all peers ready, M = 8, median of 20 (s)": statistics.median(starts),
            "Diabetes, 8 organizations, 10 rounds, whole, median of 5 (s)": statistics.median(t for t, _ in runs),
            "a round of it, median (s)": statistics.median(rounds)}


def large(build, folder):
    table = os.path.join(folder, "table.csv")
    with open(table, "wb") as f:
        subprocess.run([f"{build}/tests/bench/make_table", "1000000", "128", "1"], stdout=f, check=True)
    _, d = simulate(build, table, "--target", "y", "--task", "regression", "--orgs", "8", "--rounds", "5", "--validation", "0",
                    "--test", "0.001")
    run = d["runs"][0]
    n, m = d["data"]["train"], d["orgs"]
    limit = 4 * m * n * 4 / 1024 + 200e3
    payload = 4 * (m - 1) * 2 * n
    last = run["rounds"][-1]
    return {"N = 999,000, M = 8, d = 16: a round, median (s)": statistics.median(r["seconds"] for r in run["rounds"][1:]),
            "core + link of the sponsor, peak (MB)": run["peak_rss_kb"] / 1e3,
            "… its limit 4·M·N·K·4 B + 200 MB (MB)": limit / 1e3,
            "bytes of a round / 4·K·M'·(2·N_fit + N_answer)": (last["bytes_out"] + last["bytes_in"]) / payload}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--large", action="store_true")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    folder = tempfile.mkdtemp(prefix="galbench")
    try:
        figures = small(os.path.abspath(a.build), folder)
        if a.large:
            figures.update(large(os.path.abspath(a.build), folder))
    finally:
        shutil.rmtree(folder)
    if a.json:
        json.dump(figures, sys.stdout, ensure_ascii=False, indent=1)
        return
    for name, value in figures.items():
        print(f"{name:66} {value:.4g}")


if __name__ == "__main__":
    main()
