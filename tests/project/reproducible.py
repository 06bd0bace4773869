#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Same source, same bytes: the library is built from a copy in another place, at another
time, by one job instead of all, and both libraries are compared; so is one with another
option, which must differ.

usage: reproducible.py SOURCE_ROOT        skips (77) unless SHEAF_FULL is set
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

PARTS = ["-Dtests=disabled", "-Dtools=disabled", "-Dexamples=disabled", "--buildtype=release"]


def built(source, build, jobs, *options):
    """Digests of what a build makes of the library."""
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["meson", "setup", *PARTS, *options, str(build), str(source)], **quiet)
    subprocess.run(["ninja", "-C", str(build), *jobs], **quiet)
    made = [f for f in (build / "lib").iterdir() if f.is_file() and ".so." in f.name or f.suffix == ".a"]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in made if not f.is_symlink()}


def main(root):
    if not os.environ.get("SHEAF_FULL"):
        print("builds the library three times: only with SHEAF_FULL=1")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        there = pathlib.Path(folder, "a", "deeper", "place")
        shutil.copytree(root, there, ignore=shutil.ignore_patterns("build*", ".git"))
        first = built(pathlib.Path(root), pathlib.Path(folder, "one"), [])
        second = built(there, there / "two", ["-j1"])
        other = built(there, pathlib.Path(folder, "three"), [], "-Dc_args=-DHAVE_NOTHING -O1")
    for name in first:
        print(f"{first[name]}  {name}")
    if len(first) != 2 or first != second:
        print(f"not the same: {second}")
        return 1
    if any(other[name] == first[name] for name in first):
        print("another build is taken for the same")
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
