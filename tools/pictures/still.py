# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Drawings of how things are put together."""
from draw import Drawing


def overview():
    d = Drawing(720, 330, "Slots of CPUs, a barn and a recycler for each node, a backend")
    d.text(130, 24, "one slot per CPU", "mid bold")
    d.text(380, 24, "one per NUMA node", "mid bold")
    d.text(630, 24, "one", "mid bold")
    for i, y in enumerate((40, 190)):
        d.box(20, y, 220, 120)
        d.text(32, y + 20, f"CPU {i}", "bold")
        for j, (word, held) in enumerate((("main", 5), ("spare", 0), ("rcu", 3))):
            d.text(32, y + 46 + 26 * j, word, "small")
            d.sheaf(78, y + 35 + 26 * j, 7, held)
            d.text(170, y + 46 + 26 * j, ("pop, push", "", "retire")[j], "small")
    d.box(300, 40, 160, 120)
    d.text(380, 60, "barn", "mid bold")
    d.text(316, 84, "full", "small")
    d.text(396, 84, "empty", "small")
    for i in range(3):
        d.sheaf(316, 92 + 18 * i, 6, 6, 10)
        d.sheaf(390, 92 + 18 * i, 6, 0, 10)
    d.box(300, 210, 160, 100)
    d.text(380, 230, "recycler", "mid bold")
    for i in range(2):
        d.sheaf(330, 244 + 20 * i, 8, 8)
    d.text(380, 298, "ripe after a grace period", "mid small")
    d.box(552, 40, 156, 120)
    d.text(630, 60, "backend", "mid bold")
    d.text(630, 88, "slabs in 2 MiB regions,", "mid small")
    d.text(630, 106, "malloc, or your own", "mid small")
    d.both([(243, 80), (297, 80)])
    d.text(270, 72, "trade", "mid small")
    d.both([(243, 215), (268, 215), (268, 120), (297, 120)])
    d.both([(463, 95), (549, 95)])
    d.text(506, 87, "in bulk", "mid small")
    d.line([(243, 130), (280, 130), (280, 240), (297, 240)], arrow=True)
    d.line([(243, 280), (297, 280)], arrow=True)
    d.text(270, 297, "sealed", "mid small")
    d.line([(380, 207), (380, 165)], arrow=True)
    d.text(390, 190, "allocated from again", "small")
    return d


def trade():
    d = Drawing(720, 250, "Three pops: from main, after a swap with the spare, after a trade at the barn")
    columns = ((20, "1. main has objects: pop", (4, 6), None), (265, "2. main is empty: swap", (0, 6), "swap"),
               (510, "3. both are empty: trade", (0, 0), "trade"))
    for x, title, (main, spare), what in columns:
        d.text(x, 24, title, "bold small")
        d.box(x, 40, 190, 84)
        d.text(x + 12, 67, "main", "small")
        d.sheaf(x + 56, 56, 6, main)
        d.text(x + 12, 103, "spare", "small")
        d.sheaf(x + 56, 92, 6, spare)
        if what == "swap":
            d.both([(x + 142, 64), (x + 160, 64), (x + 160, 98), (x + 142, 98)])
    x = 510
    d.box(x, 165, 190, 74)
    d.text(x + 12, 158, "barn", "small bold")
    d.sheaf(x + 56, 176, 6, 6)
    d.sheaf(x + 56, 196, 6, 6)
    d.sheaf(x + 56, 216, 6, 0)
    d.line([(x + 62, 106), (x + 62, 140), (x + 46, 140), (x + 46, 222), (x + 53, 222)], arrow=True)
    d.line([(x + 132, 182), (x + 160, 182), (x + 160, 62), (x + 134, 62)], arrow=True)
    d.text(20, 150, "no atomics, no lock:", "small")
    d.text(20, 168, "a restartable sequence", "small")
    d.text(265, 150, "one store", "small")
    d.text(265, 190, "one visit for a whole sheaf:", "small")
    d.text(265, 208, "lock-free", "small")
    d.line([(450, 200), (502, 200)], arrow=True)
    return d


def ticket():
    d = Drawing(720, 250, "Read sections, a ticket, and the moment when it has elapsed")
    d.line([(90, 215), (700, 215)], arrow=True)
    d.text(640, 235, "time", "small")
    rows = (("reader 1", ((110, 300, "a"), (330, 430, "fl"), (470, 640, "fl"))),
            ("reader 2", ((150, 235, "fl"), (255, 400, "a"), (520, 600, "fl"))))
    for i, (name, sections) in enumerate(rows):
        y = 100 + 40 * i
        d.text(10, y + 14, name, "small")
        for start, end, kind in sections:
            d.box(start, y, end - start, 20, "full" if kind == "a" else "box")
    d.text(10, 62, "writer", "small")
    for x, words in ((270, "seal: take ticket t"), (400, "elapsed(t)"), (560, "take: used again")):
        d.line([(x, 70), (x, 212)], "grid")
        d.text(x, 46, words, "small mid")
        d.dot(x, 60, "fa" if x != 560 else "fc")
    for x in (180, 200, 220, 240):
        d.dot(x, 60, "fb")
    d.text(205, 24, "unlink and retire", "small mid")
    d.line([(270, 193), (400, 193)], "b")
    d.text(335, 206, "the sheaf ripens", "small mid")
    d.text(10, 245, "Shaded: sections that ran when t was taken. Others, begun later, are not waited for.", "small")
    return d
