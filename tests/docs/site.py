# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
The site and the manual are whole: each link and anchor of each page leads somewhere, also those of
the search; each exported function has its place on a page and a manual page of section 3, each
header one of section 7; nothing is fetched from elsewhere; mandoc finds nothing to say; two runs
make the same files.

usage: site.py SOURCE_ROOT
"""
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse


class Page(html.parser.HTMLParser):
    VOID = {"meta", "link", "input", "img", "br", "hr"}

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.headings, self.open, self.wrong = [], [], 0, [], []
        self.feed(text)
        self.wrong += [f"<{tag}> is not closed" for tag in self.open if tag not in ("p", "li")]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.headings += tag == "h1"
        self.ids += [attrs["id"]] if attrs.get("id") else []
        self.links += [attrs[key] for key in ("href", "src") if key in attrs]
        if tag == "img" and not attrs.get("alt"):
            self.wrong.append("a picture without a text")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.open:
            self.wrong.append(f"</{tag}> closes nothing")
            return
        while self.open.pop() != tag:
            pass


def generate(root, out):
    done = subprocess.run([sys.executable, "-B", root / "tools/docs", root, "--out", out, "--version", "1.2.3"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout)


def links(folder):
    wrong, count = [], 0
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.html"))}
    text = (folder / "search-index.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("["):text.rindex(";")])
    if len(index) < 500:
        wrong.append(f"search: {len(index)} entries")
    for path, page in [*pages.items(), (folder / "search-index.js", None)]:
        where = path.relative_to(folder)
        if page:
            wrong += [f"{where}: {w}" for w in page.wrong]
            wrong += [f"{where}: two things are called {i}" for i in set(page.ids) if page.ids.count(i) > 1]
            if page.headings != 1:
                wrong.append(f"{where}: {page.headings} headings of the page")
        for link in page.links if page else [entry[2] for entry in index]:
            count += 1
            if re.match("[a-z]+:", link):
                if not link.startswith("https://"):
                    wrong.append(f"{where}: {link}")
                continue
            file, _, anchor = urllib.parse.unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.is_file():
                wrong.append(f"{where}: {link} leads nowhere")
            elif anchor and anchor not in pages[target].ids:
                wrong.append(f"{where}: there is no anchor {link}")
    for path in folder.rglob("*.html"):
        if re.search(r'<(script|link|img)[^>]*(src|href)="(https?:)?//', path.read_text(encoding="utf-8")):
            wrong.append(f"{path.name}: something is fetched from elsewhere")
    return wrong, len(pages), count


def complete(root, out):
    """Names of the list of exports and of the folder of headers, none of which the generator reads."""
    wrong = []
    exported = re.findall(r"^\t(\w+);$", (root / "lib/libsheaf.map").read_text(), re.M)
    reference = "".join(p.read_text(encoding="utf-8") for p in (out / "html/ref").glob("*.html"))
    for name in exported:
        if f'<h3 id="{name}">' not in reference:
            wrong.append(f"{name} is not in the reference")
        page = out / f"man3/{name}.3"
        if not page.is_file() or f".TH {name.upper()} 3" not in page.read_text(encoding="utf-8"):
            wrong.append(f"{name} has no manual page")
    headers = list((root / "include/sheaf").glob("*.h")) + list((root / "include/sheaf").glob("*.hpp"))
    for header in headers:
        name = header.stem if header.stem == "sheaf" else f"sheaf_{header.stem}"
        if not (out / f"man7/{name}.7").is_file():
            wrong.append(f"{header.name} has no manual page")
    if len(exported) < 100 or len(headers) < 10:
        wrong.append("too few names or headers")
    return wrong


def lint(out):
    if not shutil.which("mandoc"):
        print("mandoc is not there: manual pages are not checked")
        return ["with SHEAF_FULL they have to be"] if os.environ.get("SHEAF_FULL") else []
    pages = sorted(out.glob("man?/*"))
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", *pages], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    # It also looks for the pages that are referred to in the system's manual.
    return [line for line in done.stdout.splitlines() if "referenced manual not found" not in line][:20]


def main(root):
    root = pathlib.Path(root).resolve()
    with tempfile.TemporaryDirectory() as folder:
        first, second = pathlib.Path(folder, "first"), pathlib.Path(folder, "second")
        generate(root, first)
        generate(root, second)
        wrong, pages, count = links(first / "html")
        wrong += complete(root, first) + lint(first)
        wrong += [f"{p.relative_to(first)} differs from run to run" for p in first.rglob("*")
                  if p.is_file() and p.read_bytes() != (second / p.relative_to(first)).read_bytes()]
    for line in wrong:
        print(line)
    print(f"{pages} pages, {count} links, {len(wrong)} wrong")
    return 1 if wrong or pages < 50 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
