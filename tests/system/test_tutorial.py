"""docs/TUTORIAL.md, run as printed: a shell per terminal, in a copy of the tree, and what is shown compared with the page."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GAL_BUILD", ROOT / "build")).resolve()
PAGE = ROOT / "docs/TUTORIAL.md"
END = "-- end of block --"


def blocks():
    """(terminal, commands, what is shown after them or None), in the page's order."""
    found = re.findall(r"^```(\S+)([^\n]*)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    for i, (language, info, text) in enumerate(found):
        if language == "sh":
            shown = found[i + 1][2] if i + 1 < len(found) and found[i + 1][0] == "text" else None
            yield int(re.fullmatch(r" terminal=(\d)", info)[1]), text, shown


def as_pattern(shown):
    """… stands for anything: in a line for the rest of a word or line, alone for any number of lines."""
    lines = []
    for line in shown.splitlines():
        lines.append(r"(?:[^\n]*\n)*?" if line == "…" else r"[^\n]*?".join(map(re.escape, line.split("…"))) + r"[ ]*\n")
    return "".join(lines)


class Terminal:
    def __init__(self, tree):
        self.shell = subprocess.Popen(["bash", "--norc"], cwd=tree, text=True, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    def run(self, commands):
        """What is shown; a block that takes longer than a minute has failed."""
        limit = threading.Timer(60, os.killpg, (self.shell.pid, signal.SIGKILL))
        limit.start()
        try:
            return self.talk(commands)
        finally:
            limit.cancel()

    def talk(self, commands):
        self.shell.stdin.write("set -e\n" + commands + f"set +e\necho '{END}'\n")
        self.shell.stdin.flush()
        said = []
        for line in self.shell.stdout:
            if line == END + "\n":
                return "".join(said)
            said.append(line)
        pytest.fail(f"failed: {commands}\n{''.join(said)}")

    def close(self):
        self.shell.stdin.close()
        self.shell.wait(10)
        self.shell.stdout.close()


def daemon_pids(tree):
    """Of the daemons that were started here: a running daemon holds its state directory's lock."""
    return [int(lock.read_text()) for lock in tree.glob("motor/*/state/lock") if lock.read_text().strip()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def tree(tmp_path):
    """A copy in which nothing is left to be built."""
    where = tmp_path / "gal"
    hidden = shutil.ignore_patterns(".*", "build*", "__pycache__")
    shutil.copytree(ROOT, where, ignore=hidden)
    shutil.copytree(BUILD, where / "build", ignore=shutil.ignore_patterns("demo", "tests", "venv"))
    yield where
    for pid in filter(alive, daemon_pids(where)):
        os.kill(pid, signal.SIGKILL)


def test_tutorial(tree):
    terminals = {n: Terminal(tree) for n in (1, 2, 3)}
    seen = ""
    try:
        for number, commands, shown in blocks():
            said = terminals[number].run(commands)
            seen += said
            if shown is not None:
                assert re.fullmatch(as_pattern(shown), said), f"{commands}\nshows\n{said}\nand not\n{shown}"
        assert float(re.search(r"^r2 +(\S+)", seen, re.M)[1]) > 0.5
        predictions = (tree / "motor/bench/predictions.csv").read_text().splitlines()
        assert len(predictions) == 161
        end = time.monotonic() + 3
        while any(map(alive, daemon_pids(tree))) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(alive, daemon_pids(tree))), "a daemon outlived SIGTERM"
    finally:
        for terminal in terminals.values():
            terminal.close()
