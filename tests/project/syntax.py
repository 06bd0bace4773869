#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
What has not been built is compiled without making code, each file once: the warnings of this compiler
are as many as if all had been built.

usage: syntax.py SOURCE_ROOT BUILD_ROOT
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys


def newest(root):
    """When a header was changed last."""
    return max(path.stat().st_mtime for folder in ("include", "lib", "tests", "tools", "examples")
               for path in (root / folder).glob("**/*.h*"))


def missing(root, build):
    """The first command of each source that has no object, or an old one."""
    built, first, headers = set(), {}, newest(root)
    for entry in json.loads((build / "compile_commands.json").read_text()):
        folder = pathlib.Path(entry["directory"])
        file = (folder / entry["file"]).resolve()
        made = folder / entry["output"]
        if made.exists() and made.stat().st_mtime >= max(headers, file.stat().st_mtime):
            built.add(file)
        first.setdefault(file, entry)
    if not first:
        sys.exit("syntax.py: compile_commands.json is empty")
    return {file: entry for file, entry in first.items() if file not in built}, len(first)


def check(entry):
    """Text of what is wrong, or nothing."""
    words = shlex.split(entry["command"])
    for option in ("-o", "-MF", "-MQ"):
        if option in words:
            at = words.index(option)
            del words[at:at + 2]
    words = [w for w in words if w not in ("-c", "-MD")]
    done = subprocess.run([*words, "-fsyntax-only"], cwd=entry["directory"], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return "" if done.returncode == 0 else f"{entry['file']}: {done.returncode}\n{done.stdout}"


def main(root, build):
    rest, files = missing(pathlib.Path(root), pathlib.Path(build))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [text for text in pool.map(check, rest.values()) if text]
    print("\n".join(wrong))
    print(f"{files} files, {len(rest)} not built, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
