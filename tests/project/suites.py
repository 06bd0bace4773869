#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Each suite that tools/check, its like and tools/coverage ask for, or leave out, is one that tests have: meson says nothing of others.

usage: suites.py SOURCE_ROOT BUILD_ROOT
"""

import json
import pathlib
import re
import subprocess
import sys


FOLDERS = ("tests", "examples", "doc", "tools")


def known(root, build):
    """Of the tests of this build, and, for what this one has not, after the word in a meson.build."""
    tests = json.loads(subprocess.check_output(["meson", "introspect", "--tests", build]))
    names = {name.split(":")[-1] for test in tests for name in test["suite"]}
    for path in (path for folder in FOLDERS for path in (root / folder).glob("**/meson.build")):
        for rest in re.findall(r"\bsuite: (.*?)(?:, (?:protocol|args|env|timeout|depends)\b|$)", path.read_text(), re.M):
            names.update(re.findall(r"'(\w+)'", rest))
    return names


def main(root, build):
    root, asked = pathlib.Path(root), {}
    for script in sorted(root.glob("tools/check*")) + [root / "tools/coverage"]:
        for name in re.findall(r"--(?:no-)?suite[ =](\w+)", script.read_text()):
            asked.setdefault(name, script.name)
    names = known(root, build)
    wrong = [name for name in asked if name not in names]
    for name in wrong:
        print(f"tools/{asked[name]}: no test has the suite {name}")
    print(f"{len(asked)} suites, {len(wrong)} wrong")
    return 1 if wrong or not asked else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
