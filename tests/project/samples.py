# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Samples in the documents are files of the tree: the C block after a line
"<!-- sample: PATH -->" equals that file, less its licence lines.

usage: samples.py SOURCE_ROOT [--write]
"""
import pathlib
import re
import sys

SAMPLE = re.compile(r"<!-- sample: (\S+) -->\n```c\n(.*?)```", re.S)


def sample_of(path):
    lines = path.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if "SPDX-" not in line).lstrip("\n")


def main(root, write=None):
    root = pathlib.Path(root)
    seen = wrong = 0
    for page in [root / "README.md", *sorted((root / "doc").rglob("*.md"))]:
        text = page.read_text()
        new = SAMPLE.sub(lambda m: f"<!-- sample: {m[1]} -->\n```c\n{sample_of(root / m[1])}```", text)
        seen += len(SAMPLE.findall(text))
        if new != text and write:
            page.write_text(new)
        elif new != text:
            wrong += 1
            print(f"{page.relative_to(root)}: a sample differs from its file (samples.py --write mends it)")
    print(f"{seen} samples, {wrong} pages wrong")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
