#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Renews the tables of doc/performance.md from a run of sheaf-bench:

  tools/bench-peers all --json FILE && tools/bench/tables.py FILE [PAGE]

In the page a table stands between <!-- table SCENARIO [FIGURE] --> and <!-- end -->; FIGURE is
"ns" (the default), "peak" (MiB), "cpu" (ns), or a key of the results. Everything else is prose,
written by hand: read it again when the figures have changed.
"""
import json
import pathlib
import re
import sys

PAGE = pathlib.Path(__file__).resolve().parents[2] / "doc" / "performance.md"
MARKED = re.compile(r"(<!-- table ([a-z-]+) ?([a-z_]*) -->\n).*?(<!-- end -->)", re.S)
TRIPS = ("barn_alloc", "barn_free", "backend_alloc", "backend_free", "home")
# The rows of the trips table; the run has more.
TRIPS_THREADS, TRIPS_NODES = (2, 64, 256), (1, 8)


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def parameters(result):
    """What makes a column; the slot mode is a matter of our own side only."""
    return {key: value for key, value in result["params"].items() if key != "slots"}


def cell(result, figure):
    if figure == "peak":
        return number(result["peak_kib"] / 1024)
    if figure == "cpu":
        return number(result["cpu_ns_op"]["median"])
    if figure:
        return number(result[figure]) if figure in result else "-"
    median = number(result["ns_op"]["median"])
    if result["competitor"] == "libsheaf":
        return f"**{median}**"
    return f"{median} ({result['ratio']:.2f})"


def rows(head, lines):
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "".join("| " + " | ".join(line) + " |\n" for line in [head, rule] + lines)


def comparison(results, figure):
    columns, competitors = [], []
    for result in results:
        if parameters(result) not in columns:
            columns.append(parameters(result))
        if result["competitor"] not in competitors:
            competitors.append(result["competitor"])
    differing = [key for key in columns[0] if len({str(c[key]) for c in columns}) > 1]
    shown = differing or [key for key in columns[0] if key != "size"]
    lines = []
    for competitor in competitors:
        line = [competitor]
        for column in columns:
            found = [r for r in results
                     if r["competitor"] == competitor and parameters(r) == column]
            line.append(cell(found[0], figure) if found else "-")
        lines.append(line)
    return rows([""] + [", ".join(f"{key} {c[key]}" for key in shown) for c in columns], lines)


def pace(results):
    lines = []
    for result in results:
        params = result["params"]
        lines.append([str(params["readers"]), str(params["spacing"] or "by cost"),
                      "none" if params["limit"] > 1024 else str(params["limit"]),
                      number(result["ns_op"]["median"]), number(result["cpu_ns_op"]["median"]),
                      number(result["peak_kib"] / 1024)])
    return rows(["readers", "spacing, us", "soft limit, MiB", "ns", "CPU ns", "peak, MiB"], lines)


def trips(results):
    lines = []
    for result in results:
        params, counts = result["params"], result["trips"]
        if params["threads"] in TRIPS_THREADS and params["nodes"] in TRIPS_NODES:
            lines.append([params["pattern"], str(params["threads"]), str(params["nodes"])]
                         + [f"{counts[key]:.5f}" for key in TRIPS]
                         + [f"{counts[key]:.0f}" for key in ("held_slots", "held_barns")])
    return rows(["pattern", "threads", "nodes", "barn, alloc", "barn, free", "backend, alloc",
                 "backend, free", "home", "held in slots", "held in barns"], lines)


# Scenarios without peers have rows where others have columns.
OWN = {"pace": pace, "trips": trips}


def machine(about):
    return (f"{about['cpu']}, {about['cores']} cores, {about['nodes']} node, "
            f"{about['memory_gib']:.0f} GiB; {about['kernel']}; {about['libc']}; "
            f"{about['compiler']}, {about['build']}; {about['peers']}.\n")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    run = json.load(open(sys.argv[1], encoding="utf-8"))
    page = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else PAGE
    missing = []

    def renew(match):
        scenario, figure = match[2], match[3] if match[3] != "ns" else ""
        results = [r for r in run["results"] if r["scenario"] == scenario]
        if scenario == "machine":
            table = machine(run["machine"])
        elif not results:
            missing.append(scenario)
            return match[0]
        else:
            table = OWN[scenario](results) if scenario in OWN else comparison(results, figure)
        return match[1] + table + match[4]

    text = MARKED.sub(renew, page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    if missing:
        sys.exit(f"not in {sys.argv[1]}, left as they were: {', '.join(missing)}")


if __name__ == "__main__":
    main()
