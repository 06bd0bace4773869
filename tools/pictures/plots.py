# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Plots of figures: of runs of examples, and of the tables in doc/performance.md."""
import math
import re

from draw import Drawing, steps


def frame(d, left, top, width, height, xs, ys, x_words, y_words):
    """Axes with marks at (place, text); places are from 0 to 1."""
    d.line([(left, top), (left, top + height), (left + width, top + height)])
    for at, words in xs:
        d.text(left + at * width, top + height + 18, words, "small mid")
    for at, words in ys:
        y = top + height - at * height
        d.line([(left, y), (left + width, y)], "grid")
        d.text(left - 8, y + 4, words, "small end")
    d.text(left + width / 2, top + height + 38, x_words, "small mid")
    d.text(left, top - 12, y_words, "small")


def in_flight(rows):
    """Of examples/in_flight.c."""
    d = Drawing(720, 320, "Objects in flight over 60 milliseconds, with tickets and with call_rcu()")
    data = [(int(r["ms"]), int(r["tickets"]), int(r["call_rcu"])) for r in rows]
    marks = steps(max(max(r[1:]) for r in data))
    top = marks[-1]
    frame(d, 70, 40, 620, 220, [(ms / 60, str(ms)) for ms in range(0, 61, 10)],
          [(v / top, f"{v:,.0f}") for v in marks], "milliseconds", "objects in flight")
    for column, kind in ((2, "b"), (1, "a")):
        d.line([(70, 260)] + [(70 + r[0] / 60 * 620, 260 - r[column] / top * 220) for r in data], kind)
    d.line([(470, 24), (500, 24)], "a")
    d.text(506, 28, "tickets", "small")
    d.line([(580, 24), (610, 24)], "b")
    d.text(616, 28, "call_rcu()", "small")
    return d


def trips(rows):
    """Of examples/trips.c."""
    d = Drawing(720, 320, "Trips to the barn per operation, by capacity of a sheaf")
    data = [(int(r["capacity"]), float(r["barn_trips"])) for r in rows]
    low, high = -5, 0
    places = {c: i / (len(data) - 1) for i, (c, _) in enumerate(data)}
    frame(d, 90, 40, 600, 220, [(places[c], str(c)) for c, _ in data],
          [((e - low) / (high - low), f"{10 ** e:g}") for e in range(low + 1, high + 1)] + [(0, "none")],
          "objects in a sheaf", "barn trips per operation (logarithmic)")
    points = [(90 + places[c] * 600, 260 - (max(math.log10(t), low) - low if t else 0) / (high - low) * 220) for c, t in data]
    d.line(points, "a")
    for x, y in points:
        d.dot(x, y, "fa")
    return d


# Rows of the plot of ratios: table, column, words.
RATIOS = (("pair", "size 256, batch 32, threads 1", "pair, 1 thread"),
          ("pair", "size 256, batch 32, threads 4", "pair, 4 threads"),
          ("larson", "threads 4", "larson, 4 threads"), ("pipe", "threads 2", "pipe, 2 threads"),
          ("crowd", "size 256, batch 128, threads 64", "crowd, 64 threads"), ("bulk", "batch 32", "bulk of 32"))
PEERS = (("glibc", "fb", "circle"), ("jemalloc", "fb", "square"), ("mimalloc", "fc", "triangle"), ("tcmalloc", "fc", "diamond"),
         ("ck_stack", "fl", "circle"), ("rte_mempool", "fl", "square"), ("limit", "fl", "diamond"))


def table(page, name):
    """Columns and rows of a table of the page."""
    lines = re.search(rf"<!-- table {name} -->\n(.*?)<!-- end -->", page, re.S)[1].strip().split("\n")
    split = [[c.strip().strip("*") for c in line.strip("|").split("|")] for line in lines]
    return split[0][1:], {row[0]: row[1:] for row in split[2:]}


def ratio(cell):
    found = re.search(r"\(([\d.]+)\)", cell)
    return float(found[1]) if found else None


def ratios(page):
    d = Drawing(720, 130 + 40 * len(RATIOS), "How many times what libsheaf takes, by scenario and competitor")
    low, high = math.log10(0.5), math.log10(60)
    left, width, top = 150, 540, 80
    height = 40 * len(RATIOS)

    def place(value):
        return left + (math.log10(min(max(value, 0.5), 60)) - low) / (high - low) * width

    for i, (name, kind, shape) in enumerate(PEERS):
        x = 16 + i * 102
        d.dot(x, 22, kind, shape)
        d.text(x + 10, 26, name, "small")
    for value in (0.5, 1, 2, 5, 10, 20, 50):
        d.line([(place(value), top - 14), (place(value), top + height)], "line" if value == 1 else "grid")
        d.text(place(value), top + height + 18, f"{value:g}", "small mid")
    d.text(place(1), top - 22, "libsheaf", "small mid")
    d.text(left + width / 2, top + height + 40, "times what libsheaf takes, wall time per operation (logarithmic; right is slower)",
           "small mid")
    for i, (name, column, words) in enumerate(RATIOS):
        y = top + 20 + 40 * i
        d.text(left - 12, y + 4, words, "small end")
        columns, rows = table(page, name)
        for peer, kind, shape in PEERS:
            value = ratio(rows[peer][columns.index(column)]) if peer in rows else None
            if value:
                d.dot(place(value), y, kind, shape)
    return d


def retire(page):
    columns, rows = table(page, "retire")
    names = list(rows)
    d = Drawing(720, 70 + 30 * len(names), "Nanoseconds for an object allocated and retired, one thread")
    at = columns.index("threads 1, readers 0")
    values = [float(rows[n][at].split()[0]) for n in names]
    top = max(values)
    for i, (name, value) in enumerate(zip(names, values)):
        y = 30 + 30 * i
        d.text(180, y + 15, name, "small end")
        d.box(190, y, value / top * 440, 20, "fa" if name == "libsheaf" else "box")
        d.text(198 + value / top * 440, y + 15, f"{value:g}", "small")
    d.text(190, 46 + 30 * len(names), "ns per object, wall time, one thread, no reader", "small")
    return d


# Rows of the table in the README: table, column, words.
FIGURES = (("pair", "size 256, batch 32, threads 1", "allocate and free, batches of 32"),
           ("larson", "threads 4", "freed by other threads (larson), 4 threads"),
           ("pipe", "threads 2", "one thread allocates, one frees"),
           ("prefill", "used 3", "set aside 32, use 3, give back 29"))
BESIDE = ("glibc", "jemalloc", "mimalloc", "tcmalloc")


def figures(page):
    """A table of what matters most, in Markdown."""
    def row(words, name, column, peers):
        columns, rows = table(page, name)
        cells = [rows[peer][columns.index(column)] for peer in ("libsheaf", *peers)]
        return f"| {words} | " + " | ".join(cells) + " |"

    out = ["| | libsheaf | " + " | ".join(BESIDE) + " |", "|---|--:|" + "--:|" * len(BESIDE)]
    out += [row(words, name, column, BESIDE) for name, column, words in FIGURES]
    out += [row("allocate, free after a grace period, by `call_rcu()` for the others", "retire", "threads 1, readers 0",
                [f"call_rcu+{peer}" for peer in BESIDE])]
    trees = ("absl::btree_map", "std::map", "JudyL", "rbtree")
    out += ["", "| | libsheaf | " + " | ".join(trees) + " |", "|---|--:|" + "--:|" * len(trees)]
    out += [row("an address space of 1,000 ranges, 1 thread", "tree-vma", "threads 1, ranges 1000", trees),
            row("the same, 2 threads", "tree-vma", "threads 2, ranges 1000", trees)]
    return "\n".join(out) + "\n"
