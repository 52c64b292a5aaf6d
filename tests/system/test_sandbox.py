"""What the system forbids each process, tried from inside real daemons in the middle of a run: gdb makes system calls in them, as code
that has taken one over would. The table of docs/SECURITY.md, "What each process may do", is the expectation; it is read from there."""
import ctypes
import errno
import json
import os
import pathlib
import platform
import signal
import socket
import struct
import subprocess

import pytest

from federation import BUILD, ROOT, synthetic, wait_for

HERE = pathlib.Path(__file__).resolve().parent
ROLES = {"sponsor link": ("sponsor", "gal-link"), "sponsor core": ("sponsor", "gal-core"),
         "sponsor worker": ("sponsor", "gal-worker"), "assistor link": ("org2", "gal-link"),
         "assistor worker": ("org2", "gal-worker")}
SIBLING = {"sponsor link": "sponsor core", "sponsor core": "sponsor worker", "sponsor worker": "sponsor link",
           "assistor link": "assistor worker", "assistor worker": "assistor link"}
O_RDWR, O_CREAT, AT_FDCWD = os.O_RDWR, os.O_CREAT, -100  # the numbers of x86-64 follow
(OPENAT, SOCKET, CONNECT, EXECVE, EXECVEAT, MEMFD, IO_URING, PTRACE, READV, WRITEV, PIDFD_OPEN, PIDFD_GETFD, KILL, SOCKETPAIR,
 CHMOD, FCHMOD, FCHMODAT2, TRUNCATE, UNSHARE, KCMP, BPF, PERF, USERFAULTFD, KEYCTL, OPEN_BY_HANDLE, MOUNT, SETNS, LINK, SYMLINK,
 UNLINK, CHOWN) = (257, 41, 42, 59, 322, 319, 425, 101, 310, 311, 434, 438, 62, 53, 90, 91, 452, 76, 272, 312, 321, 298, 323, 250, 304,
                   165, 308, 86, 88, 87, 92)


def text(path):
    return {"hex": (str(path).encode() + b"\0").hex()}


def raw(data):
    return {"hex": data.hex()}


def permitted():
    """None, or why this system lets nobody look into a process."""
    sleeper = subprocess.Popen(["sleep", "20"])
    try:
        tried = subprocess.run(["gdb", "-batch", "-nx", "-p", str(sleeper.pid), "-ex", "print 6 * 7"], capture_output=True, text=True,
                               timeout=30)
        return None if "= 42" in tried.stdout else tried.stderr.strip() or "gdb cannot attach"
    except FileNotFoundError:
        return "gdb is not installed: deploy/install-deps"
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.fixture(scope="module", autouse=True)
def debugger():
    why = None if platform.machine() == "x86_64" else "system calls are named for x86-64 here"
    why = why or permitted()
    if why:
        pytest.skip(f"nothing can be tried from inside: {why}")


def busy(federation, mode=None):
    """In the middle of a run that does not end by itself."""
    slices, y = synthetic(2000, [3, 3])
    f = federation(slices, y, rounds=4096, patience=10000, rate="fixed:0.001")
    if mode:
        f.set("sandbox", mode=mode)
    f.start()
    f.begin()
    f.reach(5)
    return f


def inject(f, role, calls):
    """{attempt: result or −errno}, made in the process of that role."""
    name, program = ROLES[role]
    path = f.home / "calls"
    path.write_text(json.dumps(calls))
    done = subprocess.run(["gdb", "-batch", "-nx", "-p", str(f[name].pid(program)), "-x", HERE / "inject.py"], capture_output=True,
                          text=True, timeout=60, env={**os.environ, "GAL_CALLS": str(path), "DEBUGINFOD_URLS": ""})
    out = pathlib.Path(f"{path}.out")
    assert out.exists(), done.stdout + done.stderr
    results = json.loads(out.read_text())
    out.unlink()
    return results


def said(result):
    return "yes" if result >= 0 else errno.errorcode[-result]


def opened(name, path, flags=0):
    return [name, OPENAT, [AT_FDCWD, text(path), flags, 0o600], True]


def attempts(f, role):
    """What is tried: (name as in the table, system call, arguments, whether the result is a descriptor to close)."""
    name, _ = ROLES[role]
    own, other = f[name], f["org2" if name == "sponsor" else "sponsor"]
    sibling = f[ROLES[SIBLING[role]][0]].pid(ROLES[SIBLING[role]][1])
    victim = bytearray(16)
    there = struct.pack("QQ", ctypes.addressof(ctypes.c_char.from_buffer(victim)), 8)
    inet = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", f.port, socket.inet_aton("127.0.0.1"))
    state = own.state / role.split()[1]
    return [
        opened("read the own data file", own.home / "data.csv"),
        opened("read the labels", f.sponsor.home / "labels.csv"),
        opened("write the own data file", own.home / "data.csv", O_RDWR),
        opened("read another organization's data file", other.home / "data.csv"),
        opened("open the key file", own.home / f"{own.name}.key"),
        opened("open the configuration file", own.conf),
        opened("open trace.jsonl", own.trace),
        opened("open the core's database", f.sponsor.state / "core" / "core.db", O_RDWR),
        opened("open the worker's database", own.state / "worker" / "worker.db", O_RDWR),
        opened("make a file in its own state directory", state / "probe", O_RDWR | O_CREAT),
        opened("make a file in /tmp", "/tmp/gal-probe", O_RDWR | O_CREAT),
        opened("read /etc/passwd", "/etc/passwd"),
        opened("write /etc/passwd", "/etc/passwd", O_RDWR),
        opened("read a system library", "/usr/lib/os-release"),
        opened("list the directory of the organization", own.home, os.O_DIRECTORY),
        opened("open /proc/SIBLING/mem", f"/proc/{sibling}/mem"),
        opened("open /proc/SIBLING/fd/0", f"/proc/{sibling}/fd/0"),
        opened("open /proc/self/mem", "/proc/self/mem", O_RDWR),
        ["truncate the own data file", TRUNCATE, [text(own.home / "data.csv"), 0], False],
        ["chmod the own data file", CHMOD, [text(own.home / "data.csv"), 0o600], False],
        ["chown the own data file", CHOWN, [text(own.home / "data.csv"), -1, -1], False],
        ["chmod by a descriptor", FCHMOD, [1, 0o600], False],
        ["chmod by fchmodat2", FCHMODAT2, [AT_FDCWD, text(own.home / "data.csv"), 0o600, 0], False],
        ["hard-link the data file into its state", LINK, [text(own.home / "data.csv"), text(state / "linked")], False],
        ["symlink in its state", SYMLINK, [text("/etc/passwd"), text(state / "symbolic")], False],
        ["remove the own data file", UNLINK, [text(own.home / "data.csv")], False],
        ["socket(AF_INET)", SOCKET, [socket.AF_INET, socket.SOCK_STREAM, 0], True],
        ["socket(AF_INET6)", SOCKET, [socket.AF_INET6, socket.SOCK_DGRAM, 0], True],
        ["socket(AF_UNIX)", SOCKET, [socket.AF_UNIX, socket.SOCK_STREAM, 0], True],
        ["socket(AF_PACKET)", SOCKET, [socket.AF_PACKET, socket.SOCK_RAW, 0], True],
        ["socket(AF_VSOCK)", SOCKET, [socket.AF_VSOCK, socket.SOCK_STREAM, 0], True],
        ["socketpair", SOCKETPAIR, [socket.AF_UNIX, socket.SOCK_STREAM, 0, raw(bytes(8))], False],
        ["TCP for connect", SOCKET, [socket.AF_INET, socket.SOCK_STREAM, 0], False],
        ["connect to a TCP port", CONNECT, [{"result": "TCP for connect"}, raw(inet), 16], False],
        ["execve", EXECVE, [text("/usr/bin/true"), 0, 0], False],
        ["memfd_create", MEMFD, [text("probe"), 0], False],
        ["execveat of a memfd", EXECVEAT, [{"result": "memfd_create"}, text(""), 0, 0, 0x1000], False],
        ["io_uring_setup", IO_URING, [8, raw(bytes(120))], True],
        ["ptrace of the sibling", PTRACE, [0x4206, sibling, 0, 0], False],
        ["process_vm_readv of the sibling", READV, [sibling, raw(bytes(16)), 1, raw(there), 1, 0], False],
        ["process_vm_writev of the sibling", WRITEV, [sibling, raw(bytes(16)), 1, raw(there), 1, 0], False],
        ["pidfd_open of the sibling", PIDFD_OPEN, [sibling, 0], True],
        ["pidfd_getfd", PIDFD_GETFD, [0, 0, 0], False],
        ["kcmp with the sibling", KCMP, [sibling, sibling, 0, 0, 0], False],
        ["a signal to the sibling", KILL, [sibling, signal.SIGCONT], False],
        ["a signal to the supervisor", KILL, [own.process.pid, 0], False],
        ["a signal to another organization", KILL, [other.process.pid, 0], False],
        ["unshare", UNSHARE, [0x10000000], False],
        ["setns", SETNS, [0, 0], False],
        ["mount", MOUNT, [text("none"), text("/tmp"), text("tmpfs"), 0, 0], False],
        ["bpf", BPF, [0, raw(bytes(128)), 72], True],
        ["perf_event_open", PERF, [raw(bytes(128)), 0, -1, -1, 0], True],
        ["userfaultfd", USERFAULTFD, [1], True],
        ["keyctl", KEYCTL, [0, -3, 0], False],
        ["open_by_handle_at", OPEN_BY_HANDLE, [AT_FDCWD, raw(bytes(64)), 0], True],
    ]


HIDDEN = {"TCP for connect", "memfd_create"}  # made for the next attempt


def documented():
    """{attempt: {role: outcome}} as docs/SECURITY.md says."""
    rows, columns = {}, None
    for line in (ROOT / "docs" / "SECURITY.md").read_text().split("## What each process may do", 1)[1].split("\n## ")[0].splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if line.startswith("| attempt"):
            columns = cells[1:]
        elif line.startswith("| ") and columns:
            rows[cells[0]] = dict(zip(columns, cells[1:]))
    return rows


def abi():
    return ctypes.CDLL(None).syscall(444, None, 0, 1)


def test_what_each_process_may_do(federation, figures):
    f = busy(federation)
    table, wrong, made = documented(), [], {}
    for role in ROLES:
        tried = attempts(f, role)
        results = inject(f, role, tried)
        for name, *_ in tried:
            if name in HIDDEN:
                continue
            got, want = said(results[name]), table.get(name, {}).get(role)
            made.setdefault(name, []).append(got)
            if name.startswith("a signal") and abi() < 6:
                want = "yes"
            if got != want:
                wrong.append(f"{role}: {name}: {got}, docs/SECURITY.md says {want}")
    if wrong:  # what the table would be
        print("\n".join(f"| {name} | {' | '.join(got)} |" for name, got in made.items()))
    assert not wrong, "\n".join(wrong)
    assert set(table) == set(made)
    stood = len(f.rounds())
    f.reach(stood + 3)  # and the run goes on
    for d in f.daemons.values():
        assert d.status()["restarts"] == 0
    figures(f"{sum(map(len, made.values()))} attempts from inside {len(ROLES)} processes: each as docs/SECURITY.md says (Landlock "
            f"ABI {abi()})")


DESCRIPTORS = {
    "gal-link": {0: "/dev/null", 1: "LOG", 2: "LOG", 3: "socket", 4: "socket", 5: "socket or eventfd", 6: "KEY", 7: "TRACE"},
    "gal-core": {0: "/dev/null", 1: "LOG", 2: "LOG", 3: "socket", 4: "socket"},
    "gal-worker": {0: "/dev/null", 1: "LOG", 2: "LOG", 3: "socket", 4: "socket"},
}


@pytest.mark.parametrize("role", ROLES)
def test_descriptors(federation, role):
    """Only what the role needs is open: no data file, no other process's database, no socket but the two pipes of a private one."""
    f = busy(federation)
    name, program = ROLES[role]
    d, part = f[name], role.split()[1]
    known = {str(d.log): "LOG", str(d.home / f"{name}.key"): "KEY", str(d.trace): "TRACE"}
    later = {"link": ("socket", "anon_inode:[eventfd]", "anon_inode:[eventpoll]"),
             **{p: tuple(str(d.state / p / f"{p}.db{end}") for end in ("", "-wal", "-shm")) for p in ("core", "worker")}}[part]
    found = {}
    directory = pathlib.Path(f"/proc/{d.pid(program)}/fd")
    for fd in directory.iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:
            continue
        found[int(fd.name)] = "socket" if target.startswith("socket:") else known.get(target, target)
    for fd, kind in found.items():
        want = DESCRIPTORS[program].get(fd)
        assert kind in later if want is None else kind in want or kind == "anon_inode:[eventfd]" and "eventfd" in want, (fd, kind, found)
    if part != "link":
        assert sum(k == "socket" for k in found.values()) == 2, found


def confined(pid):
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("victim", ["gal-link", "gal-worker"])
def test_restarts_keep_the_sandbox(federation, victim):
    f = busy(federation)
    f.crashes = True
    before = {r: f[n].pid(p) for r, (n, p) in ROLES.items()}
    f["org2"].kill(victim)
    f.sponsor.kill(victim)
    stood = len(f.rounds())
    f.reach(stood + 3)
    for role, (name, program) in ROLES.items():
        pid = f[name].pid(program)
        assert pid != before[role] and confined(pid)
    for role in ("sponsor link", "assistor worker"):
        own = f[ROLES[role][0]]
        got = inject(f, role, [opened("key", own.home / f"{own.name}.key"), ["execve", EXECVE, [text("/usr/bin/true"), 0, 0], False],
                               ["socket", SOCKET, [socket.AF_INET, socket.SOCK_STREAM, 0], True]])
        assert [said(got[k]) for k in ("key", "execve")] == ["EACCES", "EPERM"]
        assert said(got["socket"]) == ("yes" if role.endswith("link") else "EPERM")


# ---- the modes, on systems that lack a mechanism ----

SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
ABSENT = {"Landlock": 444, "seccomp": 317}  # the system call that is not there


def without(number):
    """For preexec_fn: from here on that system call fails with ENOSYS, as on a kernel that lacks it."""
    def install():
        libc = ctypes.CDLL(None, use_errno=True)
        program = b"".join(struct.pack("HBBI", *i) for i in (
            (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, SECCOMP_RET_ERRNO | errno.ENOSYS), (0x06, 0, 0, SECCOMP_RET_ALLOW)))
        buffer = ctypes.create_string_buffer(program)
        header = struct.pack("H6xQ", 4, ctypes.addressof(buffer))
        libc.prctl(38, 1, 0, 0, 0)
        if libc.prctl(22, 2, ctypes.c_char_p(header), 0, 0):
            os._exit(99)
    return install


def start_without(d, number):
    d.write()
    with open(d.log, "ab") as log:
        d.process = subprocess.Popen([BUILD / f"gal-{d.role}", d.conf], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     preexec_fn=without(number), env={**os.environ, "GAL_TEST": d.token})


MISSING = {"Landlock": "Landlock (Linux 5.13 or later, with landlock among the active security modules)",
           "seccomp": "seccomp filters (CONFIG_SECCOMP_FILTER)"}


@pytest.mark.parametrize("mechanism", ABSENT)
@pytest.mark.parametrize("name", ["sponsor", "org2"])
def test_require_refuses_to_start(federation, name, mechanism):
    slices, y = synthetic(50, [2, 2])
    d = federation(slices, y)[name]
    start_without(d, ABSENT[mechanism])
    assert d.process.wait(10) == 2
    d.process = None
    line = f"{name}: refusing to start unprotected: this system lacks {MISSING[mechanism]}; [sandbox] mode = prefer goes on without it"
    assert d.lines() and all(l.startswith("gal-") and l.endswith(line) for l in d.lines()), d.text()
    assert len(d.lines()) <= (3 if name == "sponsor" else 2)


@pytest.mark.parametrize("mechanism", ABSENT)
def test_prefer_goes_on_and_says_what_is_missing(federation, mechanism):
    slices, y = synthetic(200, [2, 2])
    f = federation(slices, y, rounds=3)
    f.set("sandbox", mode="prefer")
    for d in f.daemons.values():
        start_without(d, ABSENT[mechanism])
    f.ready()
    assert len([e for e in f.train() if e["event"] == "round"]) == 3
    for d, children in ((f.sponsor, 3), (f["org2"], 2)):
        assert d.count(f"[sandbox] mode = prefer: going on without {MISSING[mechanism]}") == children
    if mechanism == "Landlock":  # what is there is used
        got = inject(f, "assistor worker", [["socket", SOCKET, [socket.AF_INET, socket.SOCK_STREAM, 0], True]])
        assert said(got["socket"]) == "EPERM"
    else:
        assert said(inject(f, "assistor link", [opened("data", f["org2"].home / "data.csv")])["data"]) == "EACCES"


def test_prefer_is_whole_where_nothing_is_missing(federation):
    f = busy(federation, "prefer")
    assert not any(d.count("going on without") for d in f.daemons.values())
    assert all(confined(f[n].pid(p)) for n, p in ROLES.values())


def test_off_says_so(federation):
    f = busy(federation, "off")
    for d, children in ((f.sponsor, 3), (f["org2"], 2)):
        assert d.count("[sandbox] mode = off: this process could open any file and socket of its user") == children
    got = inject(f, "sponsor link", [opened("data", f.sponsor.home / "data.csv")])
    assert said(got["data"]) == "yes"  # so the attempts above can succeed


# ---- data or state where a link can read ----

@pytest.mark.parametrize("name, section, key, value, below", [
    ("sponsor", "data", "path", "/etc/passwd", "/etc/"),
    ("sponsor", "labels", "path", "/etc/passwd", "/etc/"),
    ("org2", "data", "path", "/usr/lib/os-release", "/usr/lib/"),
    ("org2", "data", "path", "/etc/there/is/no.csv", "/etc/"),
    ("org2", "organization", "state", "/etc/gal-test-state", "/etc/"),
    ("org2", "organization", "state", "LINK", "/etc/"),
])
def test_data_or_state_that_a_link_could_read(federation, name, section, key, value, below):
    slices, y = synthetic(50, [2, 2])
    d = federation(slices, y)[name]
    if value == "LINK":
        value = d.home / "state"
        value.symlink_to("/etc")
    d.sections[section][key] = value
    d.write()
    status, lines = d.run_to_end()
    d.process = None
    number = next(i for i, l in enumerate(d.conf.read_text().splitlines(), 1) if l == f"{key} = {value}")
    assert status == 2
    assert lines == [f"gal-{d.role} {name}: {d.conf}:{number}: {key} = {value} lies below {below}, which gal-link can read: move it"]
    for made in ("/etc/gal-test-state", "/etc/link", "/etc/core", "/etc/worker"):
        assert not pathlib.Path(made).exists()
