# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Includes point downwards only: base < sheaf < barn < gp < recycler < backend < slab <
cache < tree < ck < tools. The layer of a file is told by its name.

usage: layers.py SOURCE_ROOT
"""
import pathlib
import re
import sys

LAYERS = ["base", "sheaf", "barn", "gp", "recycler", "backend", "slab", "cache", "tree", "ck", "tools"]
# Files named after a part of a layer.
PART_OF = {"slot": "cache", "pressure": "cache", "watch": "cache", "debug": "cache", "cxx": "cache", "stats": "cache", "edges": "base", "rcu": "gp"}


def layer(path):
    """The layer of a path as it stands in an include or in the tree; None: not ours."""
    parts = pathlib.PurePath(path).parts
    if "base" in parts:
        return "base"
    if "tools" in parts:
        return "tools"
    if "rseq" in parts:
        return "cache"
    stem = re.split(r"[_.]", parts[-1])[0]
    stem = PART_OF.get(stem, stem)
    return stem if stem in LAYERS else None


def main(root):
    root = pathlib.Path(root)
    files = [f for folder in ("include", "lib", "tools") for ending in ("*.[ch]", "*.hpp")
             for f in (root / folder).rglob(ending)]
    wrong = seen = 0
    for file in sorted(files):
        mine = layer(file.relative_to(root))
        if mine is None:
            print(f"{file.relative_to(root)}: belongs to no layer")
            wrong += 1
            continue
        for target in re.findall(r'^#include [<"]((?:sheaf/|base/)?[\w/]+\.h(?:pp)?)[">]', file.read_text(), re.M):
            local = (root / "lib" / target).exists() or target.startswith("sheaf/")
            theirs = layer(target) if local else None
            if theirs is None:
                continue
            seen += 1
            if LAYERS.index(theirs) > LAYERS.index(mine):
                print(f"{file.relative_to(root)}: {mine} includes {target} of {theirs}")
                wrong += 1
    print(f"{len(files)} files, {seen} includes, {wrong} wrong")
    return 1 if wrong or seen < 20 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
