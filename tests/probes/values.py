# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Arguments of probes are what doc/probes.md says: gdb stops a program at them and prints each, and
what the program does is known. And they fire as often as the counters of the cache say.

usage: values.py EXAMPLE PROGRAM LIBRARY     skips (77) without gdb, or if the library has no probes
EXAMPLE is the one named "cache", PROGRAM that of the tests of gdb.
"""
import re
import shutil
import subprocess
import sys
import tempfile

# Probe -> how its arguments are printed.
ASKED = {
    "cache_create": ("%s %lu %u", "(char *)$_probe_arg1, $_probe_arg2, $_probe_arg3"),
    "backend_alloc": ("%s %u %lu %lu", "(char *)$_probe_arg1, $_probe_arg2, $_probe_arg3, $_probe_arg4"),
    "seal": ("%s %lu %u", "(char *)$_probe_arg1, $_probe_arg2, $_probe_arg3"),
    "prefill": ("%s %u %d", "(char *)$_probe_arg1, $_probe_arg2, $_probe_arg3 != 0"),
    "prefill_return": ("%s %u %u", "(char *)$_probe_arg1, $_probe_arg2, $_probe_arg3"),
    "cache_destroy": ("%s %lu", "(char *)$_probe_arg1, $_probe_arg2"),
}

# In the order in which the program prints its counters.
COUNTED = ["alloc_trip", "free_trip", "backend_alloc", "backend_free", "seal"]


def run_gdb(gdb, commands, program):
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        script.write("\n".join(commands) + "\n")
        script.flush()
        return subprocess.run([gdb, "--batch", "-nx", "-q", "-x", script.name, program], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100).stdout


def miscounted(gdb, program, slots):
    """Probes that did not fire as often as the counter says."""
    commands = ["set pagination off", f"set environment SHEAF_SLOTS {slots}", "break main", "run"]
    for number, name in enumerate(COUNTED, 2):
        # A condition that counts, and never holds. It cannot stand on the line of the probe.
        commands += [f"set $n_{name} = 0", f"break -probe-stap libsheaf:{name}",
                     f"condition {number} ($n_{name} = $n_{name} + ($_probe_arg0 == (unsigned long)counted)) < 0"]
    commands += ["break stop_here", "continue"] + [f'printf "FIRED {name} %d\\n", $n_{name}' for name in COUNTED]
    out = run_gdb(gdb, commands, program)
    counts = re.search(r"^trips (.*)$", out, re.M)
    if not counts:
        return ["the program did not run:\n" + out]
    fired = {name: int(n) for name, n in re.findall(r"^FIRED (\w+) (\d+)$", out, re.M)}
    wrong = [f"{slots}: {name}: fired {fired.get(name)} times, counted {n}"
             for name, n in zip(COUNTED, counts[1].split()) if fired.get(name) != int(n)]
    print(f"{slots}: {fired}")
    return wrong


def printed(gdb, program):
    commands = ["set confirm off", "set pagination off", "set breakpoint pending on",
                "set environment SHEAF_SLOTS thread", "break main", "run"]
    for number, (name, (text, args)) in enumerate(ASKED.items(), 2):
        commands += [f"tbreak -probe-stap libsheaf:{name}",
                     f'commands {number}\nsilent\nprintf "PROBE {name} %d {text}\\n", $_probe_argc, {args}\ncontinue\nend']
    commands.append("continue")
    return run_gdb(gdb, commands, program)


def main(example, program, library):
    gdb = shutil.which("gdb")
    notes = subprocess.run(["readelf", "-n", library], check=True, text=True, stdout=subprocess.PIPE).stdout
    if not gdb or "libsheaf" not in notes:
        print("no gdb, or a library without probes")
        return 77
    out = printed(gdb, example)
    if "Couldn't get" in out or "ptrace: Operation not permitted" in out:
        print("gdb may not trace programs here")
        return 77
    seen = {m[0]: m[1].split() for m in re.findall(r"^PROBE (\w+) (.*)$", out, re.M)}
    wrong = [f"{name}: not seen" for name in ASKED if name not in seen]
    if not wrong:
        capacity = int(seen["cache_create"][3])
        # Objects are of 8 bytes; one of 32 prefilled is used; 100,000 were retired.
        known = {
            "cache_create": ["4", "sheaf", "8", str(capacity)],
            "backend_alloc": ["5", "sheaf", "0", str(capacity), str(capacity)],
            "seal": ["4", "sheaf", "0", str(capacity)],
            "prefill": ["4", "sheaf", "32", "1"],
            "prefill_return": ["4", "sheaf", "32", "1"],
            "cache_destroy": ["3", "sheaf", "0"],
        }
        wrong = [f"{name}: {' '.join(seen[name])}, not {' '.join(known[name])}"
                 for name in ASKED if seen[name] != known[name]]
    if wrong:
        print(out)
    for slots in ("thread", "cpu"):
        wrong += miscounted(gdb, program, slots)
    for line in wrong or [f"{name}: {' '.join(args)}" for name, args in seen.items()]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
