# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Samples in the documents are files of the tree: the C block after a line
"<!-- sample: PATH -->" equals that file, less its licence lines; after
"<!-- sample: PATH#NAME,NAME -->" the functions, types and variables of these names, with
the comments above them. There is no other C block, and each file is compiled.

usage: samples.py SOURCE_ROOT [--write | BUILD_ROOT]
"""
import json
import pathlib
import re
import sys

SAMPLE = re.compile(r"<!-- sample: (\S+) -->\n```(c|cpp)\n(.*?)```", re.S)
BLOCK = re.compile(r"^```(?:c|cpp)$", re.M)


def part_of(text, name):
    """A definition at the beginning of a line, to its end, which is at the beginning of a line, too."""
    lines = text.splitlines(keepends=True)
    called = re.compile(rf"^(?![\s/*#}}]).*\b{re.escape(name)}\b\s*(\(|\{{|=|;|\[)")
    starts = [i for i, line in enumerate(lines) if called.match(line) and not line.rstrip().endswith(");")]
    if not starts:
        raise LookupError(name)
    first = last = starts[0]
    if not lines[first].rstrip().endswith(";"):
        while not lines[last].startswith("}"):
            last += 1
    while first and re.match(r"(/\*| \*|//)", lines[first - 1]):
        first -= 1
    return "".join(lines[first:last + 1])


def sample_of(root, reference):
    path, _, names = reference.partition("#")
    text = "".join(line for line in (root / path).read_text().splitlines(keepends=True) if "SPDX-" not in line)
    if names:
        return "\n".join(part_of(text, name) for name in names.split(","))
    return text.lstrip("\n")


def main(root, option=None):
    root = pathlib.Path(root)
    seen, wrong = set(), 0
    for page in [root / "README.md", *sorted((root / "doc").rglob("*.md"))]:
        text = page.read_text()
        name = page.relative_to(root)
        try:
            new = SAMPLE.sub(lambda m: f"<!-- sample: {m[1]} -->\n```{m[2]}\n{sample_of(root, m[1])}```", text)
        except (LookupError, OSError) as fault:
            wrong += 1
            print(f"{name}: no such sample: {fault}")
            continue
        samples = [m[1] for m in SAMPLE.finditer(text)]
        seen |= {sample.partition("#")[0] for sample in samples}
        if len(BLOCK.findall(text)) != len(samples):
            wrong += 1
            print(f"{name}: a C block that is no sample")
        if new != text and option == "--write":
            page.write_text(new)
        elif new != text:
            wrong += 1
            print(f"{name}: a sample differs from its file (samples.py --write mends it)")
    if option and option != "--write":
        commands = json.loads(pathlib.Path(option, "compile_commands.json").read_text())
        compiled = {pathlib.Path(c["directory"], c["file"]).resolve() for c in commands}
        for path in sorted(seen):
            if (root / path).resolve() not in compiled:
                wrong += 1
                print(f"{path}: a sample that is not compiled")
    print(f"{len(seen)} files with samples, {wrong} wrong")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
