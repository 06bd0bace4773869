# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Guides: Markdown files as pages. Links to files of the tree become links to pages, and words that
name what is in the headers become links to the reference; what leads nowhere is a problem.
"""
import html
import os
import re

import markdown

from reference import WORD
from render import Renderer, escape

# What GitHub makes of a heading.
def slug(text, separator="-"):
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)


def text_of(fragment):
    return html.unescape(re.sub(r"<[^>]+>", "", fragment)).strip()


class Guide:
    def __init__(self, site, path, page):
        self.site, self.path, self.page = site, path, page
        self.render = Renderer(site, page)
        self.contents, self.sections = [], []
        self.line = 1

    def problem(self, what):
        self.site.problems.append(f"{self.path}: {what}")

    def build(self):
        source = (self.site.root / self.path).read_text(encoding="utf-8")
        text = re.sub(r"<!-- sample: (\S+?)(?:#(\S+))? -->\n", self.note, source)
        # Markdown would make four spaces of a tab.
        text = re.sub(r"^```c.*?^```", lambda m: m[0].expandtabs(8), text, flags=re.S | re.M)
        out = markdown.Markdown(extensions=["tables", "fenced_code", "toc", "sane_lists"], output_format="html5",
                                extension_configs={"toc": {"slugify": slug}}).convert(text)
        out = re.sub(r"<!--.*?-->", "", out, flags=re.S)
        # Code first: what is in it must not be taken for text.
        parts = re.split(r"(<pre>.*?</pre>)", out, flags=re.S)
        out = "".join(self.block(p) if p.startswith("<pre>") else self.text(p) for p in parts)
        headings = re.findall(r'<h([123]) id="([^"]*)">(.*?)</h\1>', out, re.S)
        title = text_of(headings[0][2]) if headings else ""
        if not title:
            self.problem("has no heading")
        self.contents = [(anchor, text_of(words), int(level)) for level, anchor, words in headings if level in "23"]
        self.cut_up(out, title)
        self.site.add(self.page, title, out, self.contents, self.sections, self.path)

    def note(self, match):
        """Where a sample is from, under it."""
        return f"<!-- sample: {match[1]} -->\n\n"

    def block(self, block):
        found = re.match(r'<pre><code(?: class="language-(\w+)")?>(.*?)</code></pre>$', block, re.S)
        language, text = found[1], html.unescape(found[2]).rstrip("\n")
        if language in ("c", "cpp"):
            return f'<pre class="code"><code>{self.render.code(text)}</code></pre>'
        if language == "sh":
            lines = re.sub(r"(^|\s)(#[^\n]*)", r'\1<span class="c">\2</span>', escape(text))
            return f'<pre class="code sh"><code>{lines}</code></pre>'
        kind = "drawing" if re.search(r"[─│┌└├]|\+--", text) else "plain"
        return f'<pre class="{kind}"><code>{escape(text)}</code></pre>'

    def text(self, part):
        # The links of the text first: words that become links have theirs already.
        part = re.sub(r'<a href="([^"]*)">', self.anchor, part)
        part = re.sub(r"(<a [^>]*>)?<code>(.*?)</code>", self.words, part, flags=re.S)
        part = re.sub(r"<img [^>]*>", self.picture, part)
        part = re.sub(r"<table>(.*?)</table>", r'<div class="scroll"><table>\1</table></div>', part, flags=re.S)
        return part

    def words(self, match):
        text = html.unescape(match[2])
        for word in WORD.findall(re.sub(r"<[^>]*>", "", text)):
            if not self.site.reference.known(word) and not self.site.word_of_tree(word):
                self.problem(f"there is no {word}")
        header = re.fullmatch(r"<(sheaf/(\w+\.h(?:pp)?))>", text)
        if header and header[2] not in self.site.header_names:
            self.problem(f"there is no {text}")
        if match[1]:  # a link already
            return f"{match[1]}<code>{escape(text)}</code>"
        if re.fullmatch(r"(lib|doc|tests|tools|examples)/[\w/.-]+", text) and self.site.file(text):
            return f"<code>{self.render.link(self.site.file(text), escape(text))}</code>"
        return f"<code>{self.render.code_words(text)}</code>"

    def resolve(self, href):
        """The target of a link that stands in this file."""
        path, _, anchor = href.partition("#")
        if not path:
            return f"{self.page}#{anchor}"
        path = os.path.normpath(os.path.join(os.path.dirname(self.path), path))
        target = self.site.file(path)
        if not target:
            self.problem(f"a link to {href}, which is not there")
            return None
        return target + ("#" + anchor if anchor else "")

    def anchor(self, match):
        href = html.unescape(match[1])
        if re.match(r"[a-z]+:", href):
            return match[0]
        target = self.resolve(href)
        if not target:
            return match[0]
        if "#" in target:
            self.site.wanted.append((self.path, target))
        return f'<a href="{html.escape(self.render.to(target))}">'

    def picture(self, match):
        src, alt = re.search(r'src="([^"]*)"', match[0])[1], re.search(r'alt="([^"]*)"', match[0])[1]
        path = os.path.normpath(os.path.join(os.path.dirname(self.path), src))
        if not (self.site.root / path).is_file():
            self.problem(f"a picture {src}, which is not there")
            return match[0]
        if not alt:
            self.problem(f"picture {src} has no text")
        self.site.copies.add(path)
        to = self.render.to(f"pictures/{os.path.basename(path)}")
        # A drawing that does not know dark mode gets white paper.
        text = (self.site.root / path).read_text(encoding="utf-8", errors="replace")
        plain = "" if "prefers-color-scheme" in text else ' class="paper"'
        return f'<a class="figure" href="{html.escape(to)}"><img{plain} src="{html.escape(to)}" alt="{alt}"></a>'

    def cut_up(self, out, title):
        """Sections for the search: heading and text."""
        parts = re.split(r'<h[123] id="([^"]*)">(.*?)</h[123]>', out, flags=re.S)
        for anchor, words, body in zip(parts[1::3], parts[2::3], parts[3::3]):
            text = re.sub(r"\s+", " ", text_of(body))
            self.sections.append((text_of(words), title, f"{self.page}#{anchor}", text[:1500]))
