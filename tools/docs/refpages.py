# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Pages of the reference: one for each header, and a list of all names."""
import re

from comments import CONTRACT
from render import Renderer, escape

PARTS = (("class", "Classes"), ("function", "Functions"), ("struct", "Structures"), ("enum", "Enumerations"), ("type", "Types of callbacks"),
         ("macro", "Macros"))


def signature(name):
    """A declaration, with a line for each parameter if it is long."""
    text = re.sub(r"\s+", " ", name.text)
    if name.kind not in ("function", "type") or len(text) < 72:
        return text
    start = text.index("(" if name.kind == "function" else name.name + "(")
    start = text.index("(", start) + 1
    return text[:start] + "\n\t" + ",\n\t".join(name.params) + ");"


def contract(render, comment):
    rows, said = "", [(label, comment.contract[label]) for label in CONTRACT if comment.contract.get(label)]
    while said:
        # What is said of several at once stands in one row.
        labels = [label for label, text in said if text == said[0][1]]
        what = "".join(f"<p>{render.inline(p)}</p>" for p in said[0][1])
        rows += f"<tr><th>{'<br>'.join(labels)}</th><td>{what}</td></tr>"
        said = [s for s in said if s[0] not in labels]
    return f'<table class="contract"><tbody>{rows}</tbody></table>' if rows else ""


def parameters(render, comment):
    rows = "".join(f"<dt>{', '.join(f'<code>{n}</code>' for n in names)}</dt><dd>{render.inline(what)}</dd>"
                   for names, what in comment.params)
    return f'<dl class="params">{rows}</dl>' if rows else ""


def fields(render, name):
    """Fields in groups that share a comment; those of no interest to users are left out."""
    shown = [f for f in name.fields if not f.hidden and not render.site.reference.private(name)]
    if not shown:
        return ""
    rows, at = "", 0
    while at < len(shown):
        end = at + 1
        while end < len(shown) and shown[end].comment is shown[at].comment and shown[at].comment:
            end += 1
        # Members of a class may share a name.
        names = "".join((f'<div>' if name.kind == "class" else f'<div id="{name.name}.{f.name}">') + f'<code>{render.code(f.text)}</code></div>'
                        for f in shown[at:end])
        comment = shown[at].comment
        what = render.body(comment.body) + parameters(render, comment) + contract(render, comment) if comment else ""
        rows += f"<dt>{names}</dt><dd>{what}</dd>"
        at = end
    return f'<dl class="fields">{rows}</dl>'


def entry(render, names):
    """One entry for names that share a comment."""
    site, first = render.site, names[0]
    out = "<section class=entry>"
    for name in names:
        anchor = site.reference.anchor(name)[1]
        title = f"{name.kind} {name.name}" if name.kind in ("struct", "enum", "class") else name.name
        out += f'<h3 id="{anchor}"><a href="#{anchor}">{title}</a></h3>'
    lines = "\n".join(signature(name) for name in names)
    if first.kind in ("function", "macro", "type", "class") or first.opaque:
        out += f'<pre class="signature"><code>{render.code(lines)}</code></pre>'
    out += render.body(first.comment.body) + parameters(render, first.comment)
    out += fields(render, first) + contract(render, first.comment)
    places = [render.link(f"src/include/sheaf/{first.header}.html#L{first.line}", f"include/sheaf/{first.header}")]
    places += [render.link(f"src/{path}.html#L{line}", path) for path, line in site.definitions(first)]
    used = [render.link(f"src/{path}.html#L{line}", path) for path, line in site.uses(first)]
    note = "Source: " + ", ".join(places) + (". In examples: " + ", ".join(used) if used else "")
    return out + f'<p class="source">{note}.</p></section>'


def groups(names):
    """Lists of names that share a comment."""
    out = []
    for name in names:
        if out and out[-1][0].comment is name.comment:
            out[-1].append(name)
        else:
            out.append([name])
    return out


def page_of_header(site, header):
    page = f"ref/{header.stem}.html"
    render = Renderer(site, page)
    names = [n for n in header.names if not n.hidden]
    out = f"<h1>&lt;sheaf/{header.name}&gt;</h1>" + render.body(header.comment.body)
    contents = []
    for kind, title in PARTS:
        mine = [n for n in names if n.kind == kind]
        if not mine:
            continue
        anchor = title.split()[0].lower()
        contents.append((anchor, title, 2))
        out += f'<h2 id="{anchor}">{title}</h2>'
        if len(mine) > 3:
            rows = "".join(f'<tr><td><code><a href="#{site.reference.anchor(n)[1]}">{n.name}</a></code></td>'
                           f"<td>{render.inline(n.comment.brief)}</td></tr>" for n in mine)
            out += f'<table class="names"><tbody>{rows}</tbody></table>'
        for group in groups(mine):
            contents += [(site.reference.anchor(n)[1], n.name, 3) for n in group]
            out += entry(render, group)
    return page, f"<sheaf/{header.name}>", out, contents


def page_of_names(site):
    page = "ref/index.html"
    render = Renderer(site, page)
    out = "<h1>Reference</h1><p>One page for each header. The text is that of the headers: each declaration carries its " \
        "contract.</p>"
    rows = "".join(f"<tr><td><code>{render.header('sheaf/' + h.name)}</code></td><td>{render.inline(h.comment.brief)}</td></tr>"
                   for h in site.reference.headers)
    out += f'<h2 id="headers">Headers</h2><table class="names"><tbody>{rows}</tbody></table>'
    out += '<h2 id="contract">How to read a contract</h2><table class="contract"><tbody>' \
        "<tr><th>Context</th><td>From which threads and places it may be called, what locks, read sections and signal " \
        "handlers have to do with it, and whether it may block.</td></tr>" \
        "<tr><th>Ordering</th><td>Which writes it makes visible to whom (releases), and whose it sees " \
        "(acquires).</td></tr>" \
        "<tr><th>Progress</th><td>Wait-free: done in a bounded number of steps. Lock-free: somebody gets done, whatever " \
        "others do. Blocking: it may wait for others.</td></tr>" \
        "<tr><th>Return</th><td>What comes back, who owns it and how long it is good. Errors are negative errno " \
        "values.</td></tr></tbody></table>"
    out += '<h2 id="names">All names</h2><ul class="all">'
    for name in sorted(site.reference.public(), key=lambda n: (n.name.lower(), n.kind)):
        word = "()" if name.kind == "function" else f" <small>{name.kind}</small>"
        out += f"<li><code>{render.link(site.page_of(name), escape(name.name))}</code>{word}</li>"
    return page, "Reference", out + "</ul>", [("headers", "Headers", 2), ("contract", "How to read a contract", 2),
                                              ("names", "All names", 2)]
