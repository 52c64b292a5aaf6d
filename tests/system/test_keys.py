"""Key files that are refused, keys read again on SIGHUP, every key changed in the middle of a run, a key taken away."""
import os
import signal
import time

import pytest

from federation import gal, synthetic, wait_for

ROUNDS = 200


def long_run(federation, rows=25000):
    slices, y = synthetic(rows, [2, 2, 2])
    f = federation(slices, y, rounds=ROUNDS, patience=10000, rate="fixed:0.05")
    f.set("link", dtype="f64", chunk=65536)
    return f.start()


class Undisturbed:
    rounds = None


@pytest.fixture
def expected(federation):
    if not Undisturbed.rounds:
        f = long_run(federation)
        f.train()
        Undisturbed.rounds = f.rounds()
        f.close()
        f.daemons.clear()
    assert len(Undisturbed.rounds) == ROUNDS
    return Undisturbed.rounds


def once_each(f):
    for d in f.daemons.values():
        with d.database("worker") as db:
            assert db.execute("SELECT round FROM models ORDER BY rowid").fetchall() == [(i,) for i in range(1, ROUNDS + 1)]


def reload(d, seconds=10):
    """SIGHUP, until the keys are in force."""
    d.write()
    before = d.count("keys are in force")
    d.process.send_signal(signal.SIGHUP)
    wait_for(f"{d.name}'s keys", lambda: d.count("keys are in force") == before + 1, seconds)


def another_key(d):
    made = gal("keygen", f"{d.name}-new", "-o", d.home)
    assert made.returncode == 0, made.stderr
    return f"{d.name}-new.key", (d.home / f"{d.name}-new.pub").read_text().strip()


def go_on(f):
    stood = len(f.rounds())
    assert stood < ROUNDS, "the run is over too early to mean anything"
    f.reach(min(stood + 1, ROUNDS))


# ---- rotation ----

def test_every_key_is_changed_within_a_run(federation, expected, figures):
    f = long_run(federation)
    f.begin()
    f.reach(5)
    begun, first = time.monotonic(), len(f.rounds())
    old = {}
    for a in f.assistors:  # the sponsor learns the new key, the assistor changes to it, the sponsor forgets the old one
        file, public = another_key(a)
        old[a.name] = a.public
        f.sponsor.sections[f"peer {a.name}"]["key2"] = public
        reload(f.sponsor)
        a.sections["organization"]["key"] = file
        reload(a)
        go_on(f)
        f.sponsor.sections[f"peer {a.name}"] = {"key": public}
        reload(f.sponsor)
        go_on(f)
    file, public = another_key(f.sponsor)
    for a in f.assistors:
        a.sections["sponsor sponsor"]["key2"] = public
        reload(a)
    f.sponsor.sections["organization"]["key"] = file
    reload(f.sponsor)
    go_on(f)
    for a in f.assistors:
        a.sections["sponsor sponsor"].update(key=public)
        del a.sections["sponsor sponsor"]["key2"]
        reload(a)
    stood = len(f.rounds())
    go_on(f)
    took = time.monotonic() - begun
    assert f.finish() == expected
    once_each(f)
    for d in f.daemons.values():
        assert d.status()["restarts"] == 0
        d.stop()
    figures(f"3 keys changed by 8 SIGHUPs and more from round {first} to {stood}, in {took:.1f} s: 0 rounds lost, results equal")
    f["org2"].sections["organization"]["key"] = "org2.key"  # the old key opens nothing any more
    f.sponsor.start()
    f["org2"].start()
    wait_for("the refusal", lambda: f.sponsor.count("refused a connection", old["org2"]))
    assert not f.sponsor.count("org2 is there", "gal-link 9")


# ---- a key that is taken away ----

def lines_of(d, name):
    return sum(e["peer"] == name for e in d.events())


def test_a_removed_key(federation, expected, figures):
    f = long_run(federation)
    f.begin()
    f.reach(5)
    held = f.sponsor.sections.pop("peer org3")
    reload(f.sponsor)
    since = time.monotonic()
    wait_for("org2 to come back", lambda: [p["up"] for p in f.sponsor.status()["link"]["peers"]] == [True, False], 5)
    back = time.monotonic() - since
    time.sleep(max(0.0, 0.5 - back))
    lines, theirs = lines_of(f.sponsor, "org3"), lines_of(f["org3"], "sponsor")
    stood = len(f.rounds())
    time.sleep(5)
    assert f.sponsor.count("org3 has no key any more: nothing of it is read or sent to it") == 1
    assert lines_of(f.sponsor, "org3") == lines and lines_of(f["org3"], "sponsor") == theirs
    assert f.sponsor.count("refused a connection", f["org3"].public) >= 1
    assert f["org3"].count("refuses this organization's key") >= 1
    assert len(f.rounds()) == stood and f.state() == "running"  # waits, as absent = wait says
    assert [p["up"] for p in f.sponsor.status()["link"]["peers"]] == [True, False]
    assert f.sponsor.status()["core"]["waiting_for"] == ["org3"]
    f.sponsor.sections["peer org3"] = held
    reload(f.sponsor)
    assert f.finish(90) == expected
    once_each(f)
    figures(f"a key removed in round {stood + 1}: the other organization back after {back:.2f} s; for 5 s no line of the removed one")


def test_a_removed_key_in_the_middle_of_a_transfer(federation):
    """What was queued for it is gone with it."""
    slices, y = synthetic(200000, [1, 1, 1])
    f = federation(slices, y, rounds=50, patience=10000, rate="fixed:0.05")
    f.set("link", dtype="f64", chunk=4096)
    f.start()
    f.begin()
    f.reach(1, 30)
    frozen = f["org3"].kill("gal-link", signal.SIGSTOP)
    try:
        time.sleep(0.5)
        del f.sponsor.sections["peer org3"]
        reload(f.sponsor)
        lines = lines_of(f.sponsor, "org3")
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_for("the refusal", lambda: f["org3"].count("refuses this organization's key"), 15)
    assert lines_of(f.sponsor, "org3") == lines
    sent = sum(e["peer"] == "org3" and e["dir"] == "out" for e in f.sponsor.events())
    assert sum(e["dir"] == "in" for e in f["org3"].events()) <= sent  # no more than what was sent before


# ---- a reload that cannot be used changes nothing ----

@pytest.fixture(scope="module")
def standing():
    from federation import Federation
    slices, y = synthetic(50, [2, 2])
    f = Federation(slices, y)
    f.start()
    yield f
    f.close()


def spoil_conf(text):
    return lambda d: d.conf.write_text(text(d.conf.read_text()))


def mode(bits):
    def change(d):
        (d.home / f"{d.name}.key").chmod(bits)
    return change


def link_key(d):
    (d.home / f"{d.name}.key").rename(d.home / "real.key")
    (d.home / f"{d.name}.key").symlink_to("real.key")


def cut_key(d):
    path = d.home / f"{d.name}.key"
    path.write_text(path.read_text()[:40])


RELOADS = [
    ("unknown key", spoil_conf(lambda t: t + "[link]\nchnuk = 5\n"), 'unknown key "chnuk" in [link] (did you mean "chunk"?): nothing is changed'),
    ("no section", spoil_conf(lambda t: "name = x\n" + t), '"name" stands before the first [section]: nothing is changed'),
    ("empty", spoil_conf(lambda t: ""), 'no "name" in [organization]: nothing is changed'),
    ("bad Z85", spoil_conf(lambda t: t.replace("key = ", "key = ~", 2).replace("key = ~", "key = ", 1)), "nothing is changed"),
    ("gone", lambda d: d.conf.unlink(), "No such file or directory: nothing is changed"),
    ("key file gone", lambda d: (d.home / f"{d.name}.key").unlink(), "No such file or directory: nothing is changed"),
    ("key file 0644", mode(0o644), "mode 0644, need 0600: chmod 600 KEY: nothing is changed"),
    ("key file 0620", mode(0o620), "mode 0620, need 0600: chmod 600 KEY: nothing is changed"),
    ("key file linked", link_key, "KEY: is a symbolic link: nothing is changed"),
    ("key file cut", cut_key, "KEY:3: the file ends here, need 3 lines that each end with a newline: nothing is changed"),
]


@pytest.mark.parametrize("name", ["sponsor", "org2"])
@pytest.mark.parametrize("case", RELOADS, ids=[c[0] for c in RELOADS])
def test_a_broken_reload_keeps_the_old(standing, name, case):
    d = standing[name]
    d.write()
    key = d.home / f"{d.name}.key"
    whole, said = key.read_text(), d.count("nothing is changed")
    try:
        case[1](d)
        d.process.send_signal(signal.SIGHUP)
        wait_for("the line", lambda: d.count("nothing is changed") == said + 1, 5)
    finally:
        key.unlink(missing_ok=True)
        (d.home / "real.key").unlink(missing_ok=True)
        key.write_text(whole)
        key.chmod(0o600)
        d.write()
    line = [l for l in d.lines() if "nothing is changed" in l][-1]
    assert line.endswith(case[2].replace("KEY", str(key))), line
    assert not d.count("keys are in force") and d.process.poll() is None
    assert [p["up"] for p in standing.sponsor.status()["link"]["peers"]] == [True]
    assert d.secret not in d.text()


# ---- key files that are refused at the start ----

def lines(*three, end="\n"):
    def change(path):
        old = path.read_text().split("\n")
        path.write_text("\n".join(old[i] if t is None else t(old[i]) if callable(t) else t for i, t in enumerate(three)) + end)
    return change


def replaced(make):
    def change(path):
        path.unlink()
        make(path)
    return change


def moved_link(path):
    path.rename(path.with_name("real"))
    path.symlink_to("real")


FILES = [
    ("0644", lambda p: p.chmod(0o644), 2, "KEY: mode 0644, need 0600: chmod 600 KEY"),
    ("0640", lambda p: p.chmod(0o640), 2, "KEY: mode 0640, need 0600: chmod 600 KEY"),
    ("0604", lambda p: p.chmod(0o604), 2, "KEY: mode 0604, need 0600: chmod 600 KEY"),
    ("0610", lambda p: p.chmod(0o610), 2, "KEY: mode 0610, need 0600: chmod 600 KEY"),
    ("04666", lambda p: p.chmod(0o4666), 2, "KEY: mode 4666, need 0600: chmod 600 KEY"),
    ("0777", lambda p: p.chmod(0o777), 2, "KEY: mode 0777, need 0600: chmod 600 KEY"),
    ("somebody else's", lambda p: os.chown(p, 12345, 12345), 2, "KEY: belongs to user 12345, need 0: chown it"),
    ("symlink", moved_link, 1, "KEY: is a symbolic link: make a key with gal keygen"),
    ("not there", lambda p: p.unlink(), 1, "KEY: No such file or directory: make a key with gal keygen"),
    ("a directory", replaced(lambda p: p.mkdir(0o700)), 2, "KEY: is not a regular file"),
    ("a fifo", replaced(lambda p: os.mkfifo(p, 0o600)), 2, "KEY: is not a regular file"),
    ("empty", lambda p: p.write_text(""), 2, "KEY:1: the file ends here, need 3 lines that each end with a newline"),
    ("one line", lines(None), 2, "KEY:2: the file ends here, need 3 lines that each end with a newline"),
    ("two lines", lines(None, None), 2, "KEY:3: the file ends here, need 3 lines that each end with a newline"),
    ("no last newline", lines(None, None, None, end=""), 2, "KEY:3: the file ends here, need 3 lines that each end with a newline"),
    ("four lines", lines(None, None, None, end="\nmore\n"), 2, "KEY:4: unexpected line, need 3"),
    ("another version", lines("gal-key-v2", None, None), 2, 'KEY:1: need "gal-key-v1": not a key file of this version'),
    ("CRLF", lines(lambda t: t + "\r", None, None), 2, 'KEY:1: need "gal-key-v1": not a key file of this version'),
    ("bad name", lines(None, "a/b", None), 2, "KEY:2: no name: letters, digits, '_', '.' and '-', at most 40"),
    ("no name", lines(None, "", None), 2, "KEY:2: no name: letters, digits, '_', '.' and '-', at most 40"),
    ("truncated", lines(None, None, lambda t: t[:39]), 2, "KEY:3: 39 characters, need 40"),
    ("too long", lines(None, None, lambda t: t + "0"), 2, "KEY:3: 41 characters, need 40"),
    ("bad Z85", lines(None, None, lambda t: "~" + t[1:]), 2, "KEY:3: not a key in Z85"),
    ("Z85 overflow", lines(None, None, lambda t: "#####" + t[5:]), 2, "KEY:3: not a key in Z85"),
    ("a zero byte", lines(None, None, lambda t: t[:5] + "\0" + t[6:]), 2, "KEY: byte 22 is 0: not a key file"),
    ("large", lambda p: p.write_text("x" * 300), 2, "KEY: 300 bytes: not a key file"),
    ("the public part", lambda p: p.write_text(p.with_suffix(".pub").read_text()), 2,
     "KEY:2: the file ends here, need 3 lines that each end with a newline"),
]


@pytest.fixture(scope="module")
def idle():
    from federation import Federation
    slices, y = synthetic(50, [2, 2])
    f = Federation(slices, y)
    yield f
    f.close()


@pytest.mark.parametrize("case", FILES, ids=[c[0] for c in FILES])
def test_a_key_file_that_is_refused(idle, case):
    if os.geteuid() and case[0] == "somebody else's":
        pytest.skip("only root can give a file away")
    d = idle["org2"]
    path = d.home / "org2.key"
    whole = path.read_text()
    d.log.unlink(missing_ok=True)
    try:
        case[1](path)
        status, said = d.run_to_end()
    finally:
        if d.process and d.process.poll() is None:
            d.process.kill()
        d.process = None
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_text(whole)
        path.chmod(0o600)
    said = [l for l in said if "can REBUILD them" not in l]
    assert status == case[2] and len(said) == 1, said
    assert said[0].split(": ", 1)[1] == case[3].replace("KEY", str(path))
    assert d.secret not in d.text()


def test_a_public_file_that_is_not_of_the_secret(idle):
    """The public part is always derived from the secret; a NAME.pub beside it is for people, and `gal keygen` writes both or none."""
    again = gal("keygen", "org2", "-o", idle["org2"].home)
    assert again.returncode != 0 and "is there already and is not overwritten" in again.stderr
    assert (idle["org2"].home / "org2.pub").read_text().strip() == idle["org2"].public
