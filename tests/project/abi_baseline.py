#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""The library has all that abi/libsheaf.abi says: names, versions, parameters, layouts of public
structs. More may come; what is there does not change.

usage: abi_baseline.py SOURCE_ROOT LIBRARY            compare; skips (77) without abidiff
       abi_baseline.py SOURCE_ROOT LIBRARY --write    today's is the baseline from now on
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WRITE = ["--drop-private-types", "--exported-interfaces-only", "--no-show-locs", "--type-id-style", "hash", "--no-corpus-path",
         "--no-comp-dir-path", "--no-elf-needed"]
CHANGED = """
That is another interface than programs were built with. If it is on purpose, and doc/packaging.md agrees:
  ninja -C BUILD abi-baseline
"""


def describe(root, library, path):
    """Writes what the library has, without what headers do not show."""
    subprocess.run(["abidw", *WRITE, "--headers-dir", root / "include/sheaf", "--out-file", path, library],
                   check=True)


def differences(baseline, today):
    """What abidiff says, and if anything but additions is in it."""
    done = subprocess.run(["abidiff", "--no-added-syms", baseline, today], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode & 3:
        sys.exit(f"abidiff: {done.stdout}")
    return done.stdout, done.returncode != 0


def self_test(baseline, today, work):
    """A baseline with a function more, a field elsewhere or another parameter is not met."""
    text = baseline.read_text()
    planted = {
        "a function more": re.sub(r"(.*<elf-symbol name=')sheaf_cache_trim('.*\n)", r"\1sheaf_cache_trin\2\g<0>", text),
        "a field elsewhere": re.sub(r"(<data-member access='public' layout-offset-in-bits=')64('[^>]*>\s*"
                                    r"<var-decl name='object_size')", r"\g<1>96\2", text),
        "another result": re.sub(r"(<function-decl name='sheaf_cache_destroy'(?:(?!</function-decl>).)*<return type-id=')"
                                 r"\w+", lambda m: m[1] + void(text), text, flags=re.S),
    }
    missed = []
    for what, other in planted.items():
        path = work / "planted.abi"
        path.write_text(other)
        if other == text or not differences(path, today)[1]:
            missed.append(what)
    return missed


def void(text):
    return re.search(r"<type-decl name='void' id='(\w+)'", text)[1]


def main(root, library, write=None):
    root = pathlib.Path(root)
    baseline = root / "abi/libsheaf.abi"
    if not shutil.which("abidiff"):
        print("no abidiff here (Debian: abigail-tools)")
        return 77
    if write:
        describe(root, library, baseline)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        today = pathlib.Path(folder, "today.abi")
        describe(root, library, today)
        text, changed = differences(baseline, today)
        if changed:
            print(text + CHANGED)
            return 1
        missed = self_test(baseline, today, pathlib.Path(folder))
    for what in missed:
        print(f"not found: {what}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
