"""The rules that a compiler does not check: `make check-source`. Prints each breach as FILE:LINE: what; exit status 1 if any."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
GAL_LINES = 150  # of sponsor/gal.c as a whole
STEPS = ("r^t ", "broadcast ", "f_m^t ", "gather ", "w^t ", "η^t ", "F^t ")
INCLUDES = {"common": {"common"}, "sponsor": {"common", "sponsor"}, "assistor": {"common", "assistor"}, "deploy": {"common", "deploy"}}
ONLY_IN = {"zmq.h": "common/net.c", "proto/gal.pb-c.h": "common/msg.c"}
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
breaches = []


def breach(path, line, text):
    breaches.append(f"{path.relative_to(ROOT)}:{line}: {text}")


def files(*suffixes):
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.suffix in suffixes and not parts[0].startswith(("build", ".")):
            yield path


def squeeze(text):
    return " ".join(text.split())


def check_algorithm():
    """gal.c quotes Algorithm 1 of docs/ALGORITHM.md, every step, in its order."""
    source, page = ROOT / "sponsor/gal.c", ROOT / "docs/ALGORITHM.md"
    lines = source.read_text().splitlines()
    if len(lines) > GAL_LINES:
        breach(source, len(lines), f"more than {GAL_LINES} lines")
    quotes = []
    for n, line in enumerate(lines, 1):
        comment = re.fullmatch(r"\s*/\* (.*) \*/", line)
        if comment and comment[1].startswith(STEPS):
            quotes.append((n, squeeze(comment[1])))
    if [q.split()[0] for _, q in quotes] != [s.strip() for s in STEPS]:
        breach(source, 1, "the comments are not the seven steps of Algorithm 1 in their order: " + ", ".join(STEPS))
    block = page.read_text().split("## Algorithm 1", 1)[-1].split("\n## ", 1)[0]
    said, at = [squeeze(line) for line in block.splitlines()], 0
    for n, quote in quotes:
        found = [i for i in range(at, len(said)) if re.fullmatch(re.escape(quote) + r"( (sponsor|wire|each organization, privately))?", said[i])]
        if not found:
            breach(source, n, f"not a line of Algorithm 1 in docs/ALGORITHM.md, or out of order: {quote}")
        else:
            at = found[0] + 1


def check_includes():
    """One folder, one layer; one room for each foreign library that matters."""
    for path in files(".c", ".h"):
        name, room = str(path.relative_to(ROOT)), path.relative_to(ROOT).parts[0]
        for n, line in enumerate(path.read_text().splitlines(), 1):
            include = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not include:
                continue
            what, folder = include[1], include[1].split("/")[0]
            if room in INCLUDES and folder in INCLUDES and folder not in INCLUDES[room]:
                breach(path, n, f"{room}/ does not include {folder}/")
            if what in ONLY_IN and name != ONLY_IN[what] and room != "tests":
                breach(path, n, f"{what} belongs to {ONLY_IN[what]} alone")


def check_rooms():
    """A reader learns at the top of a .c, or of its .h, what the room is for."""
    for path in files(".c"):
        if path.relative_to(ROOT).parts[0] not in ("common", "sponsor", "assistor"):
            continue
        tops = [p.read_text().split("\n", 1)[0] for p in (path, path.with_suffix(".h")) if p.exists()]
        if not any(re.match(r"/\* \S.{30,}", top) for top in tops):
            breach(path, 1, "neither it nor its header begins with a comment that says what this room is for")


def check_text():
    for path in files(".c", ".h", ".py", ".md", ".proto", ".1", ".5", ".8"):
        for n, line in enumerate(path.read_text().split("\n"), 1):
            if "\t" in line:
                breach(path, n, "a tab")
            if line != line.rstrip():
                breach(path, n, "blanks at the end")
            if UNFINISHED.search(line):
                breach(path, n, "something is not finished")


def check_pages():
    """What a peer or an operator can meet has a place where it is explained."""
    protocol, manual = (ROOT / "docs/PROTOCOL.md").read_text(), (ROOT / "docs/man/gal.conf.5").read_text()
    proto = ROOT / "proto/gal.proto"
    for n, line in enumerate(proto.read_text().splitlines(), 1):
        word = re.match(r"\s*(?:message (\w+)|(?:repeated )?\w+ (\w+) = \d+;)", line)
        if word and word[2] not in ("bytes_out", "bytes_in") and not re.search(rf"\b{word[1] or word[2]}\b", protocol, re.I):
            breach(proto, n, f"{word[1] or word[2]} is not in docs/PROTOCOL.md")
    codes = set()
    for path in files(".c"):
        if path.relative_to(ROOT).parts[0] in ("common", "sponsor", "assistor"):
            codes |= set(re.findall(r'"(E_[A-Z]+)"', path.read_text()))
    for code in sorted(codes ^ set(re.findall(r"\bE_[A-Z]+\b", protocol))):
        breach(ROOT / "docs/PROTOCOL.md", 1, f"{code} is in the sources or here, not in both")
    rules = ROOT / "common/conf_read.c"
    for n, line in enumerate(rules.read_text().splitlines(), 1):
        rule = re.match(r'\s*\{"(\w+)", "(\w+)", (?!LATER)', line)
        if rule and not re.search(rf"^\.It Cm {rule[2]}\b", manual.split(f".Ss [{rule[1]}", 1)[-1].split("\n.S", 1)[0], re.M):
            breach(rules, n, f"[{rule[1]}] {rule[2]} is not in docs/man/gal.conf.5")


for check in (check_algorithm, check_includes, check_rooms, check_text, check_pages):
    check()
print("\n".join(breaches) or "check-source: all as it should be")
sys.exit(bool(breaches))
