#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Draws the pictures of the guides, into doc/pictures/, and the table of figures of README.md.

usage: python3 tools/pictures SOURCE_ROOT               those that show how things are, and those of
                                                        the tables in doc/performance.md
       python3 tools/pictures SOURCE_ROOT BUILD_ROOT    those of runs as well
       python3 tools/pictures SOURCE_ROOT --check       are the former in the tree as they would be
                                                        drawn now? Exit code 1 if not

A picture of a run has its figures in a comment; the programs are examples/in_flight.c and
examples/trips.c.
"""
import csv
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import plots
import still


def same_each_time(root):
    page = (root / "doc/performance.md").read_text(encoding="utf-8")
    return {"overview": still.overview(), "trade": still.trade(), "ticket": still.ticket(),
            "ratios": plots.ratios(page), "retire": plots.retire(page)}


def of_runs(build):
    drawn = {}
    for name, draw in (("in_flight", plots.in_flight), ("trips", plots.trips)):
        out = subprocess.run([build / f"examples/example-{name}"], stdout=subprocess.PIPE, check=True, text=True).stdout
        drawing = draw(list(csv.DictReader(out.splitlines())))
        drawing.add("<!--\n" + out + "-->")
        drawn[name] = drawing
    return drawn


def readme(root):
    """What is in it, and what should be."""
    text = (root / "README.md").read_text(encoding="utf-8")
    table = plots.figures((root / "doc/performance.md").read_text(encoding="utf-8"))
    return text, re.sub(r"(<!-- figures of doc/performance.md -->\n).*?(<!-- end -->)", lambda m: m[1] + table + m[2], text,
                        flags=re.S)


def main(root, option=None):
    root = pathlib.Path(root)
    there, wanted = readme(root)
    folder = root / "doc/pictures"
    drawn = same_each_time(root)
    if option == "--check":
        wrong = [n for n, d in drawn.items() if (folder / f"{n}.svg").read_text(encoding="utf-8") != str(d)]
        for name in wrong:
            print(f"doc/pictures/{name}.svg is not what would be drawn now: python3 tools/pictures . draws it")
        if there != wanted:
            print("README.md: other figures than in doc/performance.md: python3 tools/pictures . writes them")
        return 1 if wrong or there != wanted else 0
    (root / "README.md").write_text(wanted, encoding="utf-8")
    if option:
        drawn.update(of_runs(pathlib.Path(option)))
    for name, drawing in drawn.items():
        (folder / f"{name}.svg").write_text(str(drawing), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
