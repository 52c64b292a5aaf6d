"""Strangers by the hundred at the sponsor's port: honest rounds go on, and the link's memory stays what it was. Short by default; GAL_FULL=1
has the figures of the bar: 1,000 idle and 1,000 garbage connections for 60 s."""
import contextlib
import os
import resource
import selectors
import socket
import threading
import time

import pytest

from federation import synthetic, wait_for

FULL = os.environ.get("GAL_FULL") == "1"
EACH, SECONDS = (1000, 60) if FULL else (300, 8)


class Flood:
    """`idle` connections that say nothing and `garbage` ones that send what is no ZeroMQ; each is made again when it is closed."""

    def __init__(self, port, idle, garbage):
        self.port, self.running, self.opened, self.closed = port, True, 0, 0
        self.want = {False: idle, True: garbage}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def dial(self, s, garbage):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(("127.0.0.1", self.port))
        s.register(c, selectors.EVENT_READ | (selectors.EVENT_WRITE if garbage else 0), garbage)
        self.opened += 1

    def drop(self, s, c, garbage):
        s.unregister(c)
        c.close()
        self.closed += 1
        self.dial(s, garbage)

    def run(self):
        with selectors.DefaultSelector() as s:
            for garbage, n in self.want.items():
                for _ in range(n):
                    self.dial(s, garbage)
            while self.running:
                for key, events in s.select(0.1):
                    c = key.fileobj
                    try:
                        if events & selectors.EVENT_WRITE:
                            c.send(os.urandom(512))
                            s.modify(c, selectors.EVENT_READ, key.data)
                        if events & selectors.EVENT_READ and not c.recv(4096):
                            self.drop(s, c, key.data)
                    except BlockingIOError:
                        pass
                    except OSError:
                        self.drop(s, c, key.data)
                time.sleep(0.005)
            for key in list(s.get_map().values()):
                key.fileobj.close()

    def stop(self):
        self.running = False
        self.thread.join()


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8192:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rss(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("VmRSS")) / 1024


def test_honest_rounds_under_a_flood(federation, many_files, figures):
    slices, y = synthetic(20000, [2, 2, 2])
    f = federation(slices, y, rounds=4096, patience=10000, rate="fixed:0.001")
    f.start()
    f.begin()
    f.reach(20)
    link = f.sponsor.pid("gal-link")
    before, peak, longest = rss(link), 0.0, 0.0
    flood = Flood(f.port, EACH, EACH)
    begun = last = time.monotonic()
    stood = first = len(f.rounds())
    disturbed = False
    while time.monotonic() < begun + SECONDS:
        time.sleep(0.02)
        (n,), = f.query("SELECT count(*) FROM rounds")
        now = time.monotonic()
        longest = max(longest, now - last)
        if n > stood:
            stood, last = n, now
        peak = max(peak, rss(link))
        if not disturbed and now > begun + SECONDS / 2:  # one who comes while the port is flooded gets in
            disturbed = True
            f["org3"].kill("gal-link", 15)
            f.crashes = True
    flood.stop()
    assert flood.opened >= 2 * EACH and flood.closed >= EACH, "the flood did not flood"
    assert stood > first + 5 and stood < 4096 and f.state() == "running"
    assert f.sponsor.status()["restarts"] == 0
    figures(f"{EACH} idle and {EACH} garbage connections for {SECONDS} s ({flood.opened} in all): {stood - first} rounds, the longest pause "
            f"{longest:.2f} s (bar 3), the link's memory {before:.1f} to at most {peak:.1f} MiB (bar + 64)")
    assert longest < 3 and peak - before < 64
    assert f.sponsor.count("closed a connection from 127.0.0.1") <= 2 + SECONDS / 10  # said, not once each
    with contextlib.suppress(AssertionError):
        wait_for("the descriptors to be given back", lambda: len(os.listdir(f"/proc/{link}/fd")) < 40, 10)
    assert len(os.listdir(f"/proc/{link}/fd")) < 40
