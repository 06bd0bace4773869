# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Arguments of probes are what doc/probes.md says: gdb stops a program at them and prints each, and
what the program does is known.

usage: values.py PROGRAM LIBRARY     skips (77) without gdb, or if the library has no probes
PROGRAM is the example "cache".
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


def printed(gdb, program):
    commands = ["set confirm off", "set pagination off", "set breakpoint pending on",
                "set environment SHEAF_SLOTS thread", "break main", "run"]
    for number, (name, (text, args)) in enumerate(ASKED.items(), 2):
        commands += [f"tbreak -probe-stap libsheaf:{name}",
                     f'commands {number}\nsilent\nprintf "PROBE {name} %d {text}\\n", $_probe_argc, {args}\ncontinue\nend']
    commands.append("continue")
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
        script.write("\n".join(commands) + "\n")
        script.flush()
        return subprocess.run([gdb, "--batch", "-nx", "-q", "-x", script.name, program], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100).stdout


def main(program, library):
    gdb = shutil.which("gdb")
    notes = subprocess.run(["readelf", "-n", library], check=True, text=True, stdout=subprocess.PIPE).stdout
    if not gdb or "libsheaf" not in notes:
        print("no gdb, or a library without probes")
        return 77
    out = printed(gdb, program)
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
    for line in wrong or [f"{name}: {' '.join(args)}" for name, args in seen.items()]:
        print(line)
    if wrong:
        print(out)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
