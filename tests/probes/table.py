# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""The table of doc/probes.md, the notes in the library, and the scripts agree: names of probes, how
many arguments each has, which ones a script uses. bpftrace, where it is there and may, reads each
script.

usage: table.py SOURCE_ROOT LIBRARY     skips (77) if the library has no probes
"""
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys


def documented(text):
    """Name -> its arguments."""
    part = text.split("## All probes", 1)[1]
    return {name: args.split() for name, args in re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", part, re.M)}


def listed(text):
    return set(re.findall(r"^\| `([\w-]+\.bt)` \|", text, re.M))


def noted(library):
    """Name -> the numbers of arguments of its places in the library."""
    out = subprocess.run(["readelf", "-n", "-W", library], check=True, text=True, stdout=subprocess.PIPE).stdout
    found = collections.defaultdict(set)
    for provider, name, args in re.findall(r"Provider: (\S+)\s+Name: (\S+)\s.*?Arguments:(.*?)$", out, re.S | re.M):
        if provider == "libsheaf":
            found[name].add(len(re.findall(r"-?\d+@", args)))
    return found


def compare(table, notes, scripts):
    """All that does not agree, in words."""
    wrong = [f"{name}: not in the table" for name in sorted(notes.keys() - table.keys())]
    wrong += [f"{name}: not in the library" for name in sorted(table.keys() - notes.keys())]
    for name in sorted(table.keys() & notes.keys()):
        if notes[name] != {len(table[name])}:
            wrong.append(f"{name}: {len(table[name])} arguments in the table, {sorted(notes[name])} in the library")
    for script, text in sorted(scripts.items()):
        probes = re.findall(r"^usdt:(\S+):libsheaf:(\w+)\s*((?:/[^/\n]+/)?\s*\{.*?^\})", text, re.M | re.S)
        if not probes or len(probes) != text.count("usdt:"):
            wrong.append(f"{script}: {len(probes)} probes understood of {text.count('usdt:')}")
        for library, name, body in probes:
            most = max([int(n) for n in re.findall(r"\barg(\d+)\b", body)], default=-1)
            if library != "$1":
                wrong.append(f"{script}: {name}: of {library}, not of $1")
            if name not in table:
                wrong.append(f"{script}: there is no probe {name}")
            elif most >= len(table[name]):
                wrong.append(f"{script}: {name} has no arg{most}")
            for n in re.findall(r"\bu?str\(arg(\d+)\)", body):
                if name in table and table[name][int(n):][:1] != ["name"]:
                    wrong.append(f"{script}: {name}: arg{n} is no string")
    return wrong


def self_test(table, notes, scripts):
    """Each kind of disagreement is found."""
    name = next(n for n in table if len(table[n]) > 2)
    script = 'usdt:$1:libsheaf:%s\n{\n\t@ = arg%d;\n}\n'
    planted = [
        ({**table, "other": ["cache"]}, notes, scripts),
        ({n: a for n, a in table.items() if n != name}, notes, {}),
        ({**table, name: table[name][:-1]}, notes, {}),
        (table, notes, {"a": script % (name, len(table[name]))}),
        (table, notes, {"a": script % ("other", 0)}),
        (table, notes, {"a": (script % (name, 0)).replace("arg0", "str(arg0)")}),
        (table, notes, {"a": "usdt:$1:libsheaf:" + name}),
    ]
    return [f"not found: planted disagreement {i}" for i, p in enumerate(planted) if not compare(*p)]


def read_by_bpftrace(paths, library):
    """What bpftrace says against the scripts; None if it cannot be asked."""
    tool = shutil.which("bpftrace")
    if not tool and os.environ.get("SHEAF_FULL"):
        return ["bpftrace is not there: with SHEAF_FULL it has to be"]
    if not tool or os.geteuid():
        return None
    wrong = []
    for path in paths:
        done = subprocess.run([tool, "-d", path, os.path.realpath(library)], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode:
            wrong.append(f"{path.name}: {done.stdout}")
    return wrong


def main(root, library):
    root = pathlib.Path(root)
    text = (root / "doc/probes.md").read_text()
    paths = sorted((root / "tools/bpftrace").glob("*.bt"))
    scripts = {p.name: p.read_text() for p in paths}
    table, notes = documented(text), noted(library)
    if not notes:
        print("a library without probes")
        return 77
    wrong = compare(table, notes, scripts) + self_test(table, notes, scripts)
    wrong += [f"{name}: in one of folder and doc/probes.md only" for name in sorted(listed(text) ^ scripts.keys())]
    read = read_by_bpftrace(paths, library)
    print("\n".join(wrong + (read or [])))
    print(f"{len(table)} probes, {len(scripts)} scripts" + ("" if read is not None else ", not read by bpftrace"))
    return 1 if wrong or read or len(table) < 40 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
