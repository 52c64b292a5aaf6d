#!/usr/bin/python3
"""Compiler and linker hardening, read off the built programs: check_hardening.py BUILD. Exit status 1 names what is missing."""
import os
import subprocess
import sys

PROGRAMS = ("gal-sponsor", "gal-assistor", "gal-link", "gal-core", "gal-worker", "gal")


def readelf(path, *options):
    return subprocess.run(["readelf", "-W", *options, path], check=True, capture_output=True, text=True).stdout


def missing(path):
    header, segments, dynamic, symbols = (readelf(path, o) for o in ("-h", "-l", "-d", "--dyn-syms"))
    stack = next(line for line in segments.splitlines() if "GNU_STACK" in line)
    checks = {
        "position independent (-pie)": "DYN (" in header,
        "read-only relocations (-z relro)": "GNU_RELRO" in segments,
        "all symbols bound at start (-z now)": "BIND_NOW" in dynamic or "Flags: NOW" in dynamic,
        "no executable stack (-z noexecstack)": "E" not in stack.split()[-2],
        "stack protector": "__stack_chk_fail" in symbols,
        "fortified calls": any(name in symbols for name in ("__snprintf_chk", "__memcpy_chk", "__vsnprintf_chk", "__fprintf_chk")),
        "no segment both writable and executable": not any(" RWE " in line for line in segments.splitlines() if "LOAD" in line),
        "no search path of its own": "RPATH" not in dynamic and "RUNPATH" not in dynamic,
    }
    return [what for what, good in checks.items() if not good]


def main():
    bad = [f"{program}: {what}" for program in PROGRAMS for what in missing(os.path.join(sys.argv[1], program))]
    print("\n".join(bad) if bad else f"check-hardening: {len(PROGRAMS)} programs, nothing missing")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
