# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Manual pages: section 3 has one for each function, section 7 one for each header, which stands for a
concept, one for each guide, as libsheaf-ideas(7), and libsheaf(7) over all.
"""
import re
import textwrap

from comments import CONTRACT
import guide_manual
from refpages import PARTS, groups, signature
from render import definitions


def quote(text):
    """Text for roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    text = text.replace("`", "\\(ga").replace("'", "\\(aq")
    text = "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in text)
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.split("\n"))


def plain(text):
    """Text with names in bold and parameters in italics."""
    parts = re.split(r"(`[^`]+`|@p \w+|\bsheaf_\w+\(\)|<sheaf/\w+\.h(?:pp)?>)", text)
    out = ""
    for part in parts:
        if part.startswith("`"):
            out += f"\\fB{quote(part[1:-1])}\\fP"
        elif part.startswith("@p "):
            out += f"\\fI{quote(part[3:])}\\fP"
        elif part.endswith("()") and part.startswith("sheaf_"):
            out += f"\\fB{quote(part[:-2])}\\fP(3)"
        elif part.startswith("<sheaf/"):
            out += f"\\fI{quote(part)}\\fP"
        else:
            out += quote(part)
    return out.strip()


def tidy(lines):
    """No paragraph right behind a heading, no lines longer than 80 characters."""
    filled, lines = True, "\n".join(lines).split("\n")
    for line, before in zip(lines, ["", *lines]):
        if not line or line == ".PP" and before.startswith(".SH"):
            continue
        if line in (".nf", ".fi"):
            filled = line == ".fi"
        if not filled or line.startswith(".") or len(line) < 80:
            yield line
            continue
        for part in textwrap.wrap(line, 78, break_long_words=False, break_on_hyphens=False):
            yield "\\&" + part if part.startswith((".", "'")) else part


def concept(header):
    """The page of a header in section 7: sheaf.h is sheaf(7), barn.h sheaf_barn(7)."""
    return header.stem if header.stem == "sheaf" else f"sheaf_{header.stem}"


class Manual:
    def __init__(self, reference, version, date):
        self.reference, self.version, self.date = reference, version, date
        self.pages, self.guides = {}, []

    def start(self, name, section, brief):
        return [f'.TH {name.upper()} {section} "{self.date}" "libsheaf {self.version}" "libsheaf manual"', ".SH NAME",
                f"{quote(name)} \\- {plain(brief.rstrip('.'))}"]

    def paragraphs(self, groups_of_lines, first=True):
        out = []
        for kind, what in groups_of_lines:
            if kind == "text":
                out += ([] if first else [".PP"]) + [plain(what)]
            else:
                out += self.literal(what)
            first = False
        return out

    @staticmethod
    def literal(lines):
        terms = definitions(lines)
        if terms and not any("+-" in line for line in lines):
            return [line for term, what in terms for line in (".TP", f"\\fB{quote(term)}\\fP", plain(what))]
        return [".PP", ".nf", ".RS 2", *["\\&" + quote(line.replace("@p ", "")) if line else "\\&" for line in lines], ".RE", ".fi"]

    def contract(self, comment):
        out = []
        for label in CONTRACT[:3]:
            if comment.contract.get(label):
                out += [".TP", f".B {label}"]
                for i, text in enumerate(comment.contract[label]):
                    out += ([".IP"] if i else []) + [plain(text)]
        return [".SH CONTRACT", *out] if out else []

    def function(self, group, header):
        first = group[0]
        comment = first.comment
        names = ", ".join(name.name for name in group)
        out = self.start(first.name, 3, comment.brief)
        out[-1] = f"{quote(names)} \\- {plain(comment.brief.rstrip('.'))}"
        out += [".SH SYNOPSIS", ".nf", f".B #include <sheaf/{header.name}>", ".PP"]
        for name in group:
            out += [f"\\fB{quote(line)}\\fP" for line in signature(name).expandtabs(8).split("\n")]
        out += [".fi", ".SH DESCRIPTION", *self.paragraphs(comment.body)]
        for params, what in comment.params:
            out += [".TP", ", ".join(f"\\fI{quote(p)}\\fP" for p in params), plain(what)]
        out += self.contract(comment)
        if comment.contract.get("Return") and first.returns != "void":
            out += [".SH RETURN VALUE"]
            for i, text in enumerate(comment.contract["Return"]):
                out += ([".PP"] if i else []) + [plain(text)]
        others = groups([n for n in header.names if n.kind == "function" and not n.hidden])
        at = next(i for i, g in enumerate(others) if g[0] is first)
        near = [g[0].name for g in others[max(0, at - 3):at + 4] if g[0] is not first]
        out += [".SH SEE ALSO", ",\n".join([f".BR {concept(header)} (7)".replace(".BR ", "\\fB").replace(" (7)", "\\fP(7)")] +
                                           [f"\\fB{quote(n)}\\fP(3)" for n in near])]
        for name in group:
            self.pages[f"man3/{name.name}.3"] = [out[0].replace(first.name.upper(), name.name.upper()), *out[1:]]

    def fields(self, name):
        shown = [f for f in name.fields if not f.hidden and not self.reference.private(name)]
        out, last = [], None
        for at, field in enumerate(shown):
            out += [".TP" if not (last and field.comment is last) else ".TQ", f"\\fB{quote(field.text)}\\fP"]
            last = field.comment
            following = shown[at + 1] if at + 1 < len(shown) else None
            if not (following and following.comment is last and last):
                text = self.paragraphs(last.body) if last else []
                out += text or ["\\&"]
        return [".RS", *out, ".RE"] if out else []

    def header(self, header):
        name = concept(header)
        names = [n for n in header.names if not n.hidden]
        out = self.start(name, 7, header.comment.brief)
        out += [".SH SYNOPSIS", f".B #include <sheaf/{header.name}>", ".SH DESCRIPTION"]
        out += self.paragraphs(header.comment.body)
        for kind, title in PARTS:
            mine = groups([n for n in names if n.kind == kind])
            if not mine:
                continue
            out += [f".SH {title.upper()}"]
            for group in mine:
                if kind == "function":
                    out += [".TP", ",\n".join(f"\\fB{quote(n.name)}\\fP(3)" for n in group), plain(group[0].comment.brief)]
                    continue
                out += [".PP", ".nf", *[f"\\fB{quote(line)}\\fP" for n in group
                                        for line in signature(n).expandtabs(8).split("\n")], ".fi", ".RS"]
                out += self.paragraphs(group[0].comment.body)
                out += [line for names_of, what in group[0].comment.params
                        for line in (".TP", ", ".join(f"\\fI{quote(p)}\\fP" for p in names_of), plain(what))]
                out += [".RE", *self.fields(group[0])]
        out += [".SH SEE ALSO", "\\fBlibsheaf\\fP(7)"]
        self.pages[f"man7/{name}.7"] = out

    def guide(self, name, body):
        title, lines = guide_manual.page(body, quote)
        page = f"libsheaf-{name}"
        out = [f'.TH {page.upper()} 7 "{self.date}" "libsheaf {self.version}" "libsheaf manual"', ".SH NAME",
               f"{quote(page)} \\- {title}", *lines, ".SH SEE ALSO", "\\fBlibsheaf\\fP(7)"]
        self.guides.append((page, title))
        self.pages[f"man7/{page}.7"] = out if ".TS" not in out else ["'\\\" t", *out]

    def overview(self, text):
        out = self.start("libsheaf", 7, "concurrent memory primitives: sheaves, barns, recyclers, caches, a range tree")
        out += [".SH DESCRIPTION", *[line for i, p in enumerate(text) for line in ([".PP"] if i else []) + [plain(p)]]]
        out += [".SH HEADERS"]
        for header in self.reference.headers:
            out += [".TP", f"\\fB{quote(concept(header))}\\fP(7), \\fI<sheaf/{quote(header.name)}>\\fP", plain(header.comment.brief)]
        out += [".SH GUIDES", *[line for page, title in self.guides for line in (".TP", f"\\fB{quote(page)}\\fP(7)", title)]]
        out += [".SH FILES", "The guides, and this manual with links and search, are HTML pages in",
                ".IR share/doc/libsheaf/html ."]
        self.pages["man7/libsheaf.7"] = out

    def build(self, overview, guides):
        for name, body in guides:
            self.guide(name, body)
        for header in self.reference.headers:
            for group in groups([n for n in header.names if n.kind == "function" and not n.hidden]):
                self.function(group, header)
            self.header(header)
        self.overview(overview)

    def write(self, folder):
        for page, lines in self.pages.items():
            to = folder / page
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text("\n".join(tidy(lines)) + "\n", encoding="utf-8")
