# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Guides as manual pages of section 7: the HTML of a page as roff."""
import html.parser
import re


class Roff(html.parser.HTMLParser):
    """Headings, paragraphs, lists, tables and code; links are their text, pictures their words."""

    def __init__(self, quote):
        super().__init__()
        self.quote = quote
        self.out, self.words, self.fonts = [], "", []
        self.verbatim, self.rows, self.title, self.skip, self.heads = False, None, "", False, 0

    def flush(self, before=None):
        text = re.sub(r"\s+", " ", self.words).strip()
        self.words = ""
        if text:
            self.out += ([before] if before else []) + [text]
        return text

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("h1", "h2", "h3", "p", "ul", "ol", "li", "pre", "table"):
            self.flush()
        if tag in ("strong", "code", "em") and not self.verbatim:
            self.words += "\\fI" if tag == "em" else "\\fB"
        elif tag == "p":
            self.out += [".PP"]
        elif tag == "ul" or tag == "ol":
            self.out += [".RS 2"] if self.out and self.out[-1].startswith(".IP") else []
        elif tag == "li":
            self.out += [".IP \\(bu 3"]
        elif tag == "pre":
            self.out += [".PP", ".nf", ".RS 2"]
            self.verbatim = True
        elif tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag == "img":
            self.words += f" [{self.quote(attrs.get('alt', ''))}] "

    def handle_endtag(self, tag):
        if tag in ("strong", "code", "em") and not self.verbatim:
            self.words += "\\fP"
        elif tag == "h1":
            self.title = re.sub(r"\\f.", "", re.sub(r"\s+", " ", self.words).strip())
            self.words = ""
            self.out += [".SH DESCRIPTION"]
        elif tag in ("h2", "h3"):
            self.flush(None)
            text = self.out.pop()
            self.out += [f".S{'H' if tag == 'h2' else 'S'} {text}"]
        elif tag in ("p", "li"):
            if not self.flush() and self.out[-1] == ".PP":
                self.out.pop()
        elif tag == "pre":
            lines = self.words.rstrip("\n").split("\n")
            self.words = ""
            self.out += ["\\&" + self.quote(line) for line in lines] + [".RE", ".fi"]
            self.verbatim = False
        elif tag in ("td", "th"):
            self.rows[-1].append(re.sub(r"\s+", " ", self.words).strip())
            self.words = ""
        elif tag == "table":
            self.table()

    def handle_data(self, data):
        if self.rows is not None and not self.rows and not data.strip():
            return
        self.words += data if self.verbatim else self.quote(data)

    def table(self):
        """Two columns as terms, more as a table of tbl."""
        rows, self.rows = self.rows, None
        if max(len(row) for row in rows) == 2:
            for term, what in rows[1:]:
                self.out += [".TP", term or "\\&", what or "\\&"]
            return
        # Columns of text share the line, those of figures take what they need.
        long = [max(len(re.sub(r"\\f.|\\", "", row[i])) for row in rows if i < len(row)) > 16 for i in range(len(rows[0]))]
        self.out += [".PP", ".na", ".TS", "allbox;", " ".join("lx" if wide else "l" for wide in long) + "."]
        for row in rows:
            self.out += ["\t".join(f"T{{\n{cell or chr(92) + '&'}\nT}}" for cell in row)]
        self.out += [".TE", ".ad"]


def page(body, quote):
    """Title and lines of a guide."""
    roff = Roff(quote)
    roff.feed(re.sub(r"<!--.*?-->", "", body, flags=re.S))
    roff.flush()
    return roff.title, roff.out
