#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Lists the lines that no test ran, by file, with the reason; and how many branches of those that were.

usage: uncovered.py COVERAGE.JSON REASONS

REASONS has a line "FILE N: reason" for each file with such lines: the reason is
for up to N of them. Exit code 1: a file has no reason, or more lines than it is for; or a reason
is there for a file that is none.
"""
import json
import sys


def runs(numbers):
    """[1, 2, 3, 7] -> "1-3 7"."""
    text, first, last = [], None, None
    for n in sorted(numbers) + [None]:
        if first is not None and n == last + 1:
            last = n
            continue
        if first is not None:
            text.append(str(first) if first == last else f"{first}-{last}")
        first = last = n
    return " ".join(text)


def main(coverage, list_of_reasons):
    reasons = {}
    for line in open(list_of_reasons, encoding="utf-8"):
        if line.strip() and not line.startswith("#"):
            file, reason = line.split(":", 1)
            file, most = file.rsplit(" ", 1)
            reasons[file] = int(most), reason.strip()
    bad = 0
    for file in sorted(json.load(open(coverage, encoding="utf-8"))["files"], key=lambda f: f["file"]):
        name = file["file"]
        missed = [l["line_number"] for l in file["lines"] if not l["gcovr/noncode"] and not l["count"]]
        ways = sum(not b["count"] for l in file["lines"] if l["count"] for b in l["branches"])
        ways = f"; {ways} branches of other lines" if ways else ""
        most, reason = reasons.pop(name, (0, None))
        if len(missed) > most:
            bad = 1
            print(f"{name}: {len(missed)} lines are not run, a reason is given for {most if reason else 0}: {runs(missed)}"
                  + (f"  ({reason})" if reason else ""))
        elif missed or ways:
            print(f"{name}: {runs(missed)}{ways}" + (f"  ({reason})" if reason else ""))
    for name in reasons:
        bad = 1
        print(f"{name}: has a reason but is no file that is measured")
    return bad


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
