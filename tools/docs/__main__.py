#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
The reference manual and the guides: a site of HTML pages, and manual pages.

usage: python3 tools/docs SOURCE_ROOT [--out FOLDER] [--version TEXT]
                          [--depfile FILE --target NAME]

Without --out it only looks for what is wrong. Exit code 1, and a line for each: public names
without a comment, contracts without Context, Ordering, Progress or Return, links that lead nowhere,
names that nothing has. Makes FOLDER/html, FOLDER/man3 and FOLDER/man7.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import manual
import website


def date_of(root):
    """The day that manual pages carry: of the release, of the last commit, or today."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch and (root / ".git").exists():
        done = subprocess.run(["git", "-C", str(root), "log", "-1", "--format=%ct"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=False)
        epoch = done.stdout.strip()
    return time.strftime("%Y-%m-%d", time.gmtime(int(epoch or time.time())))


def first_words(root):
    """The first two paragraphs of the README, for libsheaf(7)."""
    parts = (root / "README.md").read_text(encoding="utf-8").split("\n\n")
    text = [p for p in parts[1:] if not p.startswith(("!", "`", "<", "#", "|"))]
    return [" ".join(p.replace("*", "").split()) for p in text[:2]]


def read_files(root, site):
    names = {root / path for path in [*site.guides, *site.copies, *site.library, *site.examples]}
    names |= {root / path for path in site.sources if (root / path).is_file()}
    names |= set((root / "include/sheaf").glob("*.h*"))
    names |= {p for p in pathlib.Path(__file__).resolve().parent.iterdir() if p.is_file()}
    return sorted(str(n) for n in names)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--version", default="")
    parser.add_argument("--depfile", type=pathlib.Path)
    parser.add_argument("--target")
    options = parser.parse_args()
    root = options.root.resolve()
    site = website.Site(root)
    # Half a page is no use: comments first, then what is built of them.
    if not site.problems:
        site.build()
    for problem in sorted(set(site.problems)):
        print(problem, file=sys.stderr)
    if site.problems:
        print(f"{len(set(site.problems))} problems", file=sys.stderr)
        return 1
    pages = manual.Manual(site.reference, options.version, date_of(root))
    pages.build(first_words(root), [(page[:-5], site.pages[page][1]) for path, page in site.guides.items()
                                    if path.startswith("doc/") and "/" not in page and page != "contents.html"])
    if options.out:
        for folder in "html", "man3", "man7":
            shutil.rmtree(options.out / folder, ignore_errors=True)
        site.write(options.out / "html")
        pages.write(options.out)
    if options.depfile:
        needs = " \\\n ".join(name.replace(" ", "\\ ") for name in read_files(root, site))
        options.depfile.write_text(f"{options.target}: {needs}\n", encoding="utf-8")
    print(f"{len(site.pages)} pages, {len(pages.pages)} manual pages, {len(site.reference.public())} names")
    return 0


if __name__ == "__main__":
    sys.exit(main())
