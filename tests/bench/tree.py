#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
What the scenarios of trees tell beside their times is there and makes sense: nodes for each
write, which do not depend on the machine and are pinned; prepared writes take as many; and in
tree-mixed what readers do alone and beside a writer.
"""
import json
import subprocess
import sys

# Nodes made for each write, at most, with trees of 16384 keys.
MOST = {"tree-fill": 0.32, "tree-append": 0.15, "tree-erase": 0.24, "tree-vma": 0.40}
PREPARED = {"tree-fill", "tree-erase", "tree-vma"}
LOCKED = {"tree-fill", "tree-append", "tree-erase"}

failures = []


def expect(truth, what):
    if not truth:
        failures.append(what)


def check_own(result):
    name = result["scenario"]
    if name == "tree-vma-load":
        expect("nodes_write" not in result, f"{name} does not write")
        return
    nodes, objects = result["nodes_write"], result["objects_write"]
    expect(0 < nodes <= MOST.get(name, 1), f"{result['params']}: {nodes} nodes a write in {name}")
    expect(nodes <= objects <= 2 * nodes, f"{name}: {objects} objects for {nodes} nodes")
    if name != "tree-vma":
        expect(objects == nodes, f"{name}: no gap index, and yet {objects} objects")


def check_mixed(result):
    both = 1 / (1 / result["ns_op"]["median"] + 1 / result["side_ns_op"])
    expect(result["alone_ns_op"] > 0 and result["kept_percent"] > 0, f"alone: {result}")
    expect(abs(result["both_ns_op"] / both - 1) < 0.01, f"both: {result['both_ns_op']}, {both}")


def main():
    scenarios = ["tree-fill", "tree-append", "tree-erase", "tree-mixed", "tree-vma",
                 "tree-vma-load"]
    run = subprocess.run([sys.argv[1], *scenarios, "--rounds", "1", "--seconds", "0.01",
                          "--peers", "rbtree", "--json", "-"],
                         stdout=subprocess.PIPE, check=True, text=True)
    results = json.loads(run.stdout[run.stdout.index('{"machine"'):])["results"]
    for name in scenarios:
        who = {r["competitor"] for r in results if r["scenario"] == name}
        want = {"libsheaf", "rbtree"} | ({"libsheaf-prepared"} if name in PREPARED else set())
        want |= {"libsheaf-locked"} if name in LOCKED else set()
        expect(who == want, f"{name}: {who} took part")
    for result in results:
        if result["competitor"] != "rbtree":
            check_own(result)
        if result["scenario"] == "tree-mixed":
            check_mixed(result)
    # In one thread the way to the objects makes no difference to what is done with them.
    for name in ("tree-fill", "tree-erase"):
        for params in [r["params"] for r in results if r["scenario"] == name]:
            nodes = {r["nodes_write"] for r in results
                     if r["scenario"] == name and r["params"] == params and "nodes_write" in r}
            expect(len(nodes) <= 1, f"{name} {params}: {nodes} nodes a write")
    for failure in failures:
        print(failure)
    print(f"{len(results)} results, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
