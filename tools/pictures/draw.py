# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Little SVG drawings that follow the reader's choice of light or dark."""
import html
import math

STYLE = """
	svg { color: #1d2125; --soft: #eef1f5; --line: #8a94a0; --a: #1f6fc4; --b: #c2541b; --c: #2c8a45; --fill: #cfe2f7; }
	@media (prefers-color-scheme: dark) {
		svg { color: #dde2e7; --soft: #252b32; --line: #7c8691; --a: #7db7ff; --b: #f2a271; --c: #7fce8e; --fill: #27405c; }
	}
	text { fill: currentColor; font: 14px system-ui, "DejaVu Sans", "Liberation Sans", sans-serif; }
	.small { font-size: 12px; }
	.bold { font-weight: 600; }
	.mid { text-anchor: middle; }
	.end { text-anchor: end; }
	.box { fill: var(--soft); stroke: var(--line); }
	.cell { fill: none; stroke: var(--line); }
	.full { fill: var(--fill); stroke: var(--line); }
	.line { fill: none; stroke: var(--line); stroke-width: 1.5; }
	.grid { stroke: var(--line); stroke-width: 0.5; stroke-dasharray: 2 3; }
	.a { fill: none; stroke: var(--a); stroke-width: 2; }
	.b { fill: none; stroke: var(--b); stroke-width: 2; }
	.c { fill: none; stroke: var(--c); stroke-width: 2; }
	.fa { fill: var(--a); } .fb { fill: var(--b); } .fc { fill: var(--c); } .fl { fill: var(--line); }
"""
MARK = ('<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        '<path d="M0 0 8 4 0 8z" class="fl"/></marker>')


def number(value):
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Drawing:
    def __init__(self, width, height, title):
        self.width, self.height, self.title = width, height, title
        self.parts = []

    def add(self, text):
        self.parts.append("\t" + text)

    def text(self, x, y, words, kind=""):
        self.add(f'<text x="{number(x)}" y="{number(y)}" class="{kind}">{html.escape(words)}</text>')

    def box(self, x, y, width, height, kind="box"):
        self.add(f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}" rx="4" '
                 f'class="{kind}"/>')

    def line(self, points, kind="line", arrow=False):
        path = "M" + " ".join(f"{number(x)} {number(y)}" for x, y in points)
        self.add(f'<path d="{path}" class="{kind}"' + (' marker-end="url(#arrow)"' if arrow else "") + "/>")

    def both(self, points):
        path = "M" + " ".join(f"{number(x)} {number(y)}" for x, y in points)
        self.add(f'<path d="{path}" class="line" marker-start="url(#arrow)" marker-end="url(#arrow)"/>')

    def dot(self, x, y, kind, shape="circle"):
        if shape == "circle":
            self.add(f'<circle cx="{number(x)}" cy="{number(y)}" r="4.5" class="{kind}"/>')
        elif shape == "square":
            self.add(f'<rect x="{number(x - 4)}" y="{number(y - 4)}" width="8" height="8" class="{kind}"/>')
        elif shape == "triangle":
            self.add(f'<path d="M{number(x)} {number(y - 5)} l5 9 h-10z" class="{kind}"/>')
        else:
            self.add(f'<path d="M{number(x)} {number(y - 5.5)} l5.5 5.5 l-5.5 5.5 l-5.5 -5.5z" class="{kind}"/>')

    def sheaf(self, x, y, places, held, size=12):
        """Places in a row, the first of them held."""
        for i in range(places):
            self.add(f'<rect x="{number(x + i * size)}" y="{number(y)}" width="{size}" height="{size}" '
                     f'class="{"full" if i < held else "cell"}"/>')

    def __str__(self):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" role="img" aria-label="{html.escape(self.title)}">\n<style>{STYLE}</style>\n<defs>{MARK}</defs>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def steps(limit, count=5):
    """Round numbers from 0 to above a limit."""
    raw = limit / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw)
    return [step * i for i in range(math.ceil(limit / step) + 1)]
