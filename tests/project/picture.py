#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
The picture of a tree in doc/ is that of the program which it is said to show: each node and
each line of the dump is in it, and nothing else. tools/tree-picture draws it.
"""
import re
import subprocess
import sys
import xml.dom.minidom


def main(program, picture):
    dump = subprocess.run([program], stdout=subprocess.PIPE, check=True, text=True).stdout
    wanted, nodes, edges = [], 0, 0
    for line in dump.splitlines():
        label = re.search(r'label="(.*)"', line)
        if label:
            nodes += 1
            for cell in re.sub(r"<s\d+> ", "", label[1]).split("|"):
                wanted += cell.split(r"\n")
        edges += "->" in line
    drawn = xml.dom.minidom.parse(picture)
    groups = [g.getAttribute("class") for g in drawn.getElementsByTagName("g")]
    texts = [t.firstChild.data for t in drawn.getElementsByTagName("text")]
    if sorted(texts) != sorted(wanted) or groups.count("node") != nodes or groups.count("edge") != edges:
        print(f"{picture} shows another tree: {len(texts)} texts for {len(wanted)}, "
              f"{groups.count('node')} nodes for {nodes}; tools/tree-picture draws it anew")
        return 1
    print(f"{nodes} nodes, {len(texts)} texts")
    return 0 if nodes > 1 and texts else 1


sys.exit(main(*sys.argv[1:]))
