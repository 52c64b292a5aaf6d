"""Run by gdb, attached to a process of ours: makes system calls in it, as code that has taken the process over would.
GAL_CALLS names a JSON file, [[name, number, [argument…], close?]…]; an argument is a number, {"hex": bytes} (passed by address) or
{"result": name} (what that call returned). The results, −errno for a failure, go to the file with .out added."""
import json
import os

import gdb

SYSCALL = b"\x0f\x05"
ORDER = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
SAVED = (*ORDER, "rax", "rcx", "r11", "rip", "orig_rax")
process = gdb.selected_inferior()


def read(register):
    return int(gdb.parse_and_eval(f"(long)${register}"))


def write(register, value):
    gdb.execute(f"set ${register} = {value}")


def call(number, *arguments):
    write("orig_rax", -1)  # no interrupted call is started again in place of ours
    write("rip", instruction)
    write("rax", number)
    for register, value in zip(ORDER, arguments):
        write(register, value)
    gdb.execute("stepi", to_string=True)
    return read("rax")


gdb.execute("set scheduler-locking on")
min((t for t in process.threads()), key=lambda t: t.ptid[1]).switch()
gdb.execute("frame 0", to_string=True)
saved = {r: read(r) for r in SAVED}
start = int(gdb.parse_and_eval("(long)&syscall"))
instruction = start + bytes(process.read_memory(start, 64)).index(SYSCALL)
memory = call(9, 0, 1 << 16, 3, 0x22, -1, 0)  # mmap
results = {}
with open(os.environ["GAL_CALLS"], encoding="utf-8") as f:
    calls = json.load(f)
for name, number, arguments, close in calls:
    at, values = memory, []
    for a in arguments:
        if isinstance(a, dict) and "hex" in a:
            data = bytes.fromhex(a["hex"])
            process.write_memory(at, data)
            values.append(at)
            at += (len(data) + 63) // 64 * 64
        else:
            values.append(results[a["result"]] if isinstance(a, dict) else a)
    results[name] = call(number, *values)
    if close and results[name] >= 0:
        call(3, results[name])
call(11, memory, 1 << 16)
for r in SAVED:
    write(r, saved[r])
with open(os.environ["GAL_CALLS"] + ".out", "w", encoding="utf-8") as f:
    json.dump(results, f)
gdb.execute("detach", to_string=True)
