# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Probes cost nothing on fast paths: the library is built with and without them, and the
instructions of its fast paths are compared, without addresses.

usage: cost.py SOURCE_ROOT CC [CC_ARG...]     skips (77) unless SHEAF_FULL is set
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FAST = ["sheaf_cache_alloc", "sheaf_cache_free", "sheaf_cache_free_rcu", "sheaf_cache_alloc_from",
        "sheaf_tree_load", "sheaf_tree_load_rcu"]
PARTS = ["-Dtests=disabled", "-Dtools=disabled", "-Dexamples=disabled"]


def built(root, build, cc, probes):
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["meson", "setup", *PARTS, "-Dprobes=" + probes, str(build), root],
                   env=dict(os.environ, CC=" ".join(cc)), **quiet)
    subprocess.run(["ninja", "-C", str(build)], **quiet)
    return next(f for f in (build / "lib").glob("libsheaf.so.*") if f.is_file() and not f.is_symlink())


def instructions(library):
    """Name -> instructions of its function, what it jumps to by name."""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "--no-addresses", library], check=True,
                             text=True, stdout=subprocess.PIPE).stdout
    found = {}
    for name, body in re.findall(r"^<([^>]+)>:\n((?:.+\n)*)", listing, re.M):
        if name in FAST:
            # Offsets of data from the instruction, and of targets outside.
            found[name] = [re.sub(r"0x[0-9a-f]+\(%rip\).*|(<\w+)[.+\w]*>", r"\1", line.strip())
                           for line in body.splitlines()]
    return found


def main(root, *cc):
    if not os.environ.get("SHEAF_FULL"):
        print("builds the library twice: only with SHEAF_FULL=1")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        libraries = [built(root, work / p, cc, p) for p in ("enabled", "disabled")]
        notes = [subprocess.run(["readelf", "-n", f], check=True, text=True,
                                stdout=subprocess.PIPE).stdout.count("stapsdt") for f in libraries]
        with_them, without = map(instructions, libraries)
    wrong = [n for n in FAST if not without.get(n) or with_them.get(n) != without[n]]
    for name in FAST:
        print(f"{name}: {len(with_them.get(name, []))} instructions, {len(without.get(name, []))} without probes")
    print(f"{notes[0]} notes, {notes[1]} without probes")
    return 1 if wrong or not notes[0] or notes[1] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
