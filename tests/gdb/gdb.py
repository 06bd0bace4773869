# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""gdb, in a process that is stopped and on a core file of it, finds what the program says of its caches, objects
and tree; by the script that it loads by itself with the library.

usage: gdb.py SCRIPT PROGRAM LIBRARY     skips (77) where there is no gdb, or it may not trace
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# What "sheaf find" says of an object in each state.
STATES = {"use": r"cache stopped\n  in use$", "barn": r"cache stopped\n  barn 0, full side", "lent": r"in the lent sheaf 0x",
          "ripening": r"cache stopped\n  recycler 0, ripening,", "ripe": r"cache stopped\n  recycler 0, ripe,",
          "rcu": r"cache stopped\n  slot of .*, rcu sheaf", "slot": r"cache stopped\n  slot of .*, (main|spare) sheaf",
          "quarantine": r"cache watched\n  quarantine of debug mode", "none": r"in no slab, and in no sheaf"}
EXPRESSIONS = {"use": "objects[150]", "barn": "objects[0]", "lent": "lent->objects[0]", "ripening": "objects[60]",
               "rcu": "objects[99]", "slot": "objects[59]", "quarantine": "quarantined", "none": "&attr"}
LOOK = ["sheaf caches", "sheaf tree tree", "up"] + [
    line for state, what in EXPRESSIONS.items() for line in (f"echo <{state}>\\n", f"sheaf find {what}", "echo </>\\n")] + [
    "echo <inside>\\n", "sheaf find (char *)objects[150] + 17", "echo </>\\n",
    "echo <printed>\\n", "print *cache", "print *lent", "print cache->node[0].barn", "print cache->node[0].recycler",
    "print *tree", "print *tree->root", "print *((struct tree_inner *)tree->root)->child[0]", "echo </>\\n"]


class Gdb:
    """Runs gdb, which loads the script by itself from a folder as it would from its own."""

    def __init__(self, script, library, work):
        self.folder = work / "auto-load"
        beside = pathlib.Path(str(self.folder) + os.path.realpath(library) + "-gdb.py")
        beside.parent.mkdir(parents=True)
        shutil.copy(script, beside)

    def run(self, commands, *args):
        first = ["set confirm off", "set pagination off", "set width 0", f"set auto-load scripts-directory {self.folder}",
                 f"add-auto-load-safe-path {self.folder}", "set print elements 0", "set debuginfod enabled off"]
        flat = [x for c in first for x in ("-iex", c)] + [x for c in commands for x in ("-ex", c)]
        return subprocess.run(["gdb", "--batch", "-nx", "-q", *flat, *map(str, args)], text=True, timeout=100,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def part(text, name):
    found = re.search(rf"^<{name}>\n(.*?)^</>$", text, re.M | re.S)
    return found[1].strip() if found else ""


def wrong_in(text, said):
    """What gdb shows, and the program does not say."""
    told = re.search(r"^cache stopped (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", said, re.M)
    if not told:
        return ["the program did not run"]
    cache = told.groups()
    row = re.search(r"^0x\w+ +stopped +(.*)$", text, re.M)
    wrong = []
    if not row or row[1].split() != [*cache, "0"]:
        wrong.append(f"caches: {row and row[1].split()}, not {cache}")
    if not re.search(r"^0x\w+ +watched +80 +\d+ +0 +\d+ +0 +0 +0 +1$", text, re.M):
        wrong.append("caches: the watched one")
    addresses = dict(re.findall(r"^find (\w+) (0x\w+)$", said, re.M))
    for state in EXPRESSIONS:
        lines = part(text, state)
        if not lines.startswith(addresses[state] + ":") or not re.search(STATES[state], lines):
            wrong.append(f"{state}, {addresses[state]}: {lines}")
    if f"byte 17 of object {addresses['use']} " not in part(text, "inside"):
        wrong.append(f"inside: {part(text, 'inside')}")
    keys = [f"{i * 100:#x}" + (f"-{i * 100 + 9:#x}" if i & 1 else "") for i in range(40) if i != 3]
    if re.findall(r"^  (0x[\w-]+): 0x", text, re.M) != keys or "39 ranges, height 2" not in text:
        wrong.append("tree")
    printed = part(text, "printed")
    for pattern in (f"cache stopped: objects of 100, capacity 12, {cache[2]} in use, {cache[3]} slot, {cache[4]} barn",
                    r"sheaf, (\d+) of 12 lent = \{0x", r"barn of node 0: \d+ full and 0 chained", f"recycler: {cache[5]} objects in 3 sheaves",
                    "tree of 39 ranges, height 2", r"inner node of level 1, \d children, pivots 0x", r"leaf of ranges: 0x0 0x64-0x6d 0xc8 "):
        if not re.search(pattern, printed):
            wrong.append(f"printed: no {pattern} in:\n{printed}")
    return wrong


def main(script, program, library):
    if not shutil.which("gdb"):
        print("no gdb here")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        gdb, wrong = Gdb(script, library, work), []
        for slots in ("thread", "cpu"):
            core = work / f"core-{slots}"
            live = gdb.run([f"set environment SHEAF_SLOTS {slots}", "break stop_here", "run", *LOOK, f"gcore {core}",
                            "continue", "up", "echo <ripe>\\n", "sheaf find objects[60]", "echo </>\\n", "continue"], program)
            if "ptrace: Operation not permitted" in live or "Couldn't get" in live:
                print("gdb may not trace programs here")
                return 77
            here = wrong_in(live, live)
            if not re.search(STATES["ripe"], part(live, "ripe")):
                here.append(f"ripe: {part(live, 'ripe')}")
            if "exited normally" not in live:
                here.append("the program did not end well after that")
            dead = gdb.run(LOOK, program, core)
            here += [f"core: {line}" for line in wrong_in(dead, live)]
            if here:
                print(live, dead)
            wrong += [f"{slots}: {line}" for line in here]
    print("\n".join(wrong) or f"{len(EXPRESSIONS) + 1} states, alive and dead, by CPU and by thread")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
