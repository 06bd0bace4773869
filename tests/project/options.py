#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""The table of options in doc/packaging.md is meson_options.txt's.

usage: options.py SOURCE_ROOT            compare
       options.py SOURCE_ROOT --write    make the table anew
"""
import pathlib
import re
import sys

BEGIN, END = "<!-- options: meson_options.txt -->\n", "<!-- end of options -->\n"


def table(text):
    rows = []
    for name, rest in re.findall(r"^option\('([\w-]+)', (.*)\)$", text, re.M):
        found = dict(re.findall(r"(\w+): ('[^']*'|\w+)", rest))
        if found.get("deprecated"):
            continue
        rows.append(f"| `{name}` | {found['type']} | {found['value']} | {found['description']} |".replace("'", ""))
    if len(rows) + text.count("deprecated:") != len(re.findall(r"^option\(", text, re.M)):
        sys.exit("meson_options.txt: an option that is not understood: one a line")
    return "| option | type | default | what |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def main(root, write=None):
    root = pathlib.Path(root)
    path = root / "doc/packaging.md"
    text = path.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    wanted = table((root / "meson_options.txt").read_text())
    if write:
        path.write_text(text[:begin] + wanted + text[end:])
        return 0
    if text[begin:end] != wanted:
        print(f"not the table of meson_options.txt; run: tests/project/options.py . --write\n\n{wanted}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
