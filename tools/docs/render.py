# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Text of comments and code as HTML: names become links, tables of lines and signs become tables.
"""
import html
import os
import re

KEYWORDS = set("""auto bool break case char const continue default do double else enum extern float for
goto if inline int int64_t long register restrict return short signed size_t sizeof static struct
switch typedef uint16_t uint32_t uint64_t uint8_t uintptr_t union unsigned void volatile while true
false NULL""".split())
TOKEN = re.compile(r"(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
                   r"|(?P<include>#include <sheaf/\w+\.h(?:pp)?>)|(?P<macro>^[ \t]*#[ \t]*\w+)|(?P<word>\b[A-Za-z_]\w*\b)|(?P<number>\b\d[\w.]*)", re.S | re.M)
INLINE = re.compile(
    r"`(?P<quoted>[^`]+)`|@p (?P<param>\w+)|<(?P<header>sheaf/\w+\.h(?:pp)?)>"
    r"|(?P<path>\b(?:lib|doc|tests|tools|examples|include)/[\w/.-]*\w)"
    r"|(?P<name>\bsheaf_\w+(?:\.\w+)?(?:\(\))?|\bSHEAF_\w+)|(?P<man>\b[a-z_]\w*\([1-8]?\))")


def escape(text):
    return html.escape(text, quote=False)


class Renderer:
    """
    Renders what stands on one page. `site` knows where everything is:
    site.target(page, key) gives a link, or None if there is no such thing.
    """

    def __init__(self, site, page):
        self.site, self.page = site, page

    def link(self, target, text, **attributes):
        more = "".join(f' {k.rstrip("_")}="{html.escape(v)}"' for k, v in attributes.items())
        return f'<a href="{html.escape(self.to(target))}"{more}>{text}</a>'

    def to(self, target):
        """The way from this page to PAGE#ANCHOR."""
        page, _, anchor = target.partition("#")
        where = os.path.relpath(page, os.path.dirname(self.page) or ".") if page != self.page else ""
        return where + ("#" + anchor if anchor else "")

    def name(self, word):
        """A word of code, as a link if it is a name of ours."""
        found = self.site.reference.resolve(word)
        if not found or found.hidden:
            return escape(word)
        return self.link(self.site.page_of(found), escape(word))

    def inline(self, text):
        out, last = [], 0
        for match in INLINE.finditer(text):
            out.append(escape(text[last:match.start()]))
            last = match.end()
            kind, word = match.lastgroup, match[match.lastgroup]
            if kind == "quoted":
                out.append(f"<code>{self.code_words(word)}</code>")
            elif kind == "param":
                out.append(f"<code>{word}</code>")
            elif kind == "header":
                out.append(f"<code>{self.header(word)}</code>")
            elif kind == "path":
                target = self.site.file(word)
                out.append(self.link(target, word) if target else escape(word))
            elif kind == "name":
                out.append(f"<code>{self.name(word)}</code>")
            else:
                out.append(f"<code>{word}</code>")
        return "".join(out) + escape(text[last:])

    def header(self, path):
        """<sheaf/cache.h> as a link."""
        page = f"ref/{os.path.basename(path).rpartition('.')[0]}.html"
        text = escape(f"<{path}>")
        return self.link(page, text) if path[6:] in self.site.header_names else text

    def code_words(self, text):
        """Names and headers in a piece of code that is part of a sentence."""
        whole = re.fullmatch(r"<(sheaf/\w+\.h(?:pp)?)>", text)
        if whole:
            return self.header(whole[1])
        return re.sub(r"\b(?:sheaf_\w+(?:\.\w+)?(?:\(\))?|SHEAF_\w+)|[&<>]",
                      lambda m: self.name(m[0]) if m[0][0] in "sS" else escape(m[0]), text)

    def code(self, text):
        """C with colours and links."""
        out, last = [], 0
        for match in TOKEN.finditer(text):
            out.append(escape(text[last:match.start()]))
            last = match.end()
            kind, word = match.lastgroup, match[0]
            if kind == "include":
                out.append(f'<span class="m">#include</span> {self.header(word[10:-1])}')
            elif kind == "word":
                if word in KEYWORDS:
                    out.append(f'<span class="k">{word}</span>')
                elif re.match(r"(?i)sheaf", word):
                    call = self.site.reference.functions.get(word)
                    tag = re.search(r"\b(?:struct|enum)\s+$", text[max(0, match.start() - 20):match.start()])
                    found = call if call and not tag else self.site.reference.resolve(word)
                    linked = found and not found.hidden
                    out.append(self.link(self.site.page_of(found), word) if linked else word)
                else:
                    out.append(word)
            else:
                out.append(f'<span class="{kind[0]}">{escape(word)}</span>')
        return "".join(out) + escape(text[last:])

    def body(self, groups):
        out = []
        for kind, what in groups:
            out.append(f"<p>{self.inline(what)}</p>" if kind == "text" else self.literal(what))
        return "\n".join(out)

    def literal(self, lines):
        if any(re.fullmatch(r"\s*-+(\+-+)+\s*", line) for line in lines):
            return self.table(lines)
        terms = definitions(lines)
        if terms:
            rows = "".join(f"<dt>{self.inline(t)}</dt><dd>{self.inline(d)}</dd>" for t, d in terms)
            return f'<dl class="terms">{rows}</dl>'
        text = "\n".join(lines)
        drawing = re.search(r"\+--", text)
        return f'<pre{" class=drawing" if drawing else ""}><code>{escape(text) if drawing else self.code(text)}</code></pre>'

    def table(self, lines):
        """The table of operations that may overlap."""
        head, rows = overlap_table(lines)
        cells = "".join(f"<th>{self.inline(c)}</th>" for c in head)
        body = ""
        for row in rows:
            body += f"<tr><th>{self.inline(row[0])}</th>"
            for cell in row[1:]:
                word = cell.split()[0] if cell else ""
                kind = f' class="{word}"' if word in ("yes", "no") else ""
                body += f"<td{kind}>{self.inline(cell)}</td>"
            body += "</tr>"
        return (f'<div class="scroll"><table class="overlap"><thead><tr>{cells}</tr></thead>'
                f"<tbody>{body}</tbody></table></div>")


def overlap_table(lines):
    """Head and rows of a table of lines and signs."""
    at = next(i for i, line in enumerate(lines) if re.fullmatch(r"\s*-+(\+-+)+\s*", line))
    split = [[c.strip() for c in line.split("|")] for line in lines]
    head = [" ".join(column).strip() for column in zip(*split[:at])]
    return head, split[at + 1:]


def definitions(lines):
    """
    Terms and what they mean, of lines like "term    meaning" that go on indented; None if the
    lines are something else.
    """
    found, deeper = [], False
    column = min((len(l) - len(l.lstrip()) for l in lines if l.startswith(" ")), default=0)
    for line in lines:
        if line.startswith(" "):
            if not found:
                return None
            deeper = True
            found[-1][1] = (found[-1][1] + " " + line.strip()).strip()
            continue
        parts = re.split(r"\s{2,}", line, maxsplit=1)
        # A term that fills its column has a single space behind it.
        if len(parts) == 1 and len(line) > 40 and column and line[column - 1] == " ":
            parts = [line[:column].strip(), line[column:]]
        if re.search(r"[;{}|+]", parts[0]):
            return None
        found.append([parts[0], parts[1] if len(parts) > 1 else ""])
    return found if deeper and all(m for _, m in found) else None
