# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""The site: which pages there are, what is around them, where files of the tree are to be found."""
import html
import json
import os
import pathlib
import re
import shutil

from guides import Guide
from reference import Reference
import refpages
from render import Renderer, escape

HERE = pathlib.Path(__file__).resolve().parent
TOP = {"README.md": "index.html", "NEWS.md": "news.html", "CONTRIBUTING.md": "contributing.html",
       "SECURITY.md": "security.html", "doc/README.md": "contents.html"}


class Site:
    def __init__(self, root):
        self.root = root
        self.reference = Reference(root / "include/sheaf")
        self.header_names = {h.name for h in self.reference.headers}
        self.problems = [f"include/sheaf/{p}" for p in self.reference.problems()]
        self.pages, self.copies, self.sources, self.wanted = {}, set(), set(), []
        self.guides = self.find_guides()
        self.names_of_tree = None
        self.library = self.texts("lib/**/*.c")
        self.examples = self.texts("examples/*.c")

    def texts(self, pattern):
        return {str(p.relative_to(self.root)): p.read_text(encoding="utf-8").split("\n")
                for p in sorted(self.root.glob(pattern))}

    def find_guides(self):
        found = {path: page for path, page in TOP.items() if (self.root / path).is_file()}
        for path in sorted((self.root / "doc").rglob("*.md")):
            name = str(path.relative_to(self.root))
            found.setdefault(name, name[4:-3] + ".html")
        return found

    # Where things are

    def page_of(self, name):
        page, anchor = self.reference.anchor(name)
        return f"ref/{page}.html#{anchor}"

    def file(self, path):
        """The page that shows a file or folder of the tree; None if it is not there."""
        if path in self.guides:
            return self.guides[path]
        where = self.root / path
        header = re.fullmatch(r"include/sheaf/(\w+)\.h(?:pp)?", path)
        if header and where.is_file():
            return f"ref/{header[1]}.html"
        if not where.exists() or path.split("/")[0] in ("build", ".git", ".."):
            return None
        if where.suffix == ".svg":
            self.copies.add(path)
            return f"pictures/{where.name}"
        self.sources.add(path)
        return f"src/{path}/index.html" if where.is_dir() else f"src/{path}.html"

    def definitions(self, name):
        """Where the library defines a function."""
        if name.kind != "function":
            return []
        wanted = re.compile(rf"^\w[\w *]*\b{name.name}\((?!.*;)")
        for path, lines in self.library.items():
            for at, line in enumerate(lines, 1):
                if wanted.match(line):
                    self.sources.add(path)
                    return [(path, at)]
        return []

    def uses(self, name):
        """Examples that use a name."""
        wanted = re.compile(rf"\b{name.name}\b" + (r"\(" if name.kind == "function" else ""))
        found = []
        for path, lines in self.examples.items():
            at = next((i for i, line in enumerate(lines, 1) if wanted.search(line)), None)
            if at and name.kind != "struct":
                self.sources.add(path)
                found.append((path, at))
        return found[:4]

    def word_of_tree(self, word):
        """Is a word like sheaf_x a name in the sources, though not a public one?"""
        if self.names_of_tree is None:
            text = "\n".join(p.read_text(encoding="utf-8", errors="replace") for folder in ("lib", "tests", "tools", "examples")
                             for p in self.root.glob(f"{folder}/**/*") if p.suffix in (".c", ".h", ".build", ".py", ".cc", ".hpp"))
            self.names_of_tree = set(re.findall(r"\b(?:sheaf_\w+|SHEAF_\w+)", text))
        return word.rstrip("()").split(".")[0] in self.names_of_tree

    # Pages

    def add(self, page, title, body, contents, sections, source=None):
        self.pages[page] = (title, body, contents, sections, source)

    def add_source(self, path):
        where, page = self.root / path, f"src/{path}.html"
        if where.is_dir():
            page = f"src/{path}/index.html"
            render = Renderer(self, page)
            items = ""
            for name in sorted(p.name for p in where.iterdir() if p.is_file() and not p.name.startswith(".")):
                items += f"<li>{render.link(self.file(f'{path}/{name}'), escape(name))}</li>"
            self.add(page, path, f"<h1>{path}</h1><ul>{items}</ul>", [], [])
            return
        try:
            text = where.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            text = "(not a text)"
        render = Renderer(self, page)
        lines = render.code(text) if where.suffix in (".c", ".h", ".cc", ".hpp") else escape(text)
        # A comment of several lines is one element: close it and open it again on each line.
        lines = re.sub(r'<span class="(\w)">([^<]*\n[^<]*)</span>',
                       lambda m: "\n".join(f'<span class="{m[1]}">{l}</span>' for l in m[2].split("\n")), lines)
        rows = "".join(f'<span class="line" id="L{i}">{line}\n</span>'
                       for i, line in enumerate(lines.rstrip("\n").split("\n"), 1))
        self.add(page, path, f'<h1>{path}</h1><pre class="listing"><code>{rows}</code></pre>', [], [])

    def build(self):
        for path, page in self.guides.items():
            Guide(self, path, page).build()
        for header in self.reference.headers:
            self.check_paths(header)
            self.add(*refpages.page_of_header(self, header), [])
        self.add(*refpages.page_of_names(self), [])
        for header in self.reference.headers:
            self.sources.add(f"include/sheaf/{header.name}")
        done = set()
        while self.sources - done:
            for path in sorted(self.sources - done):
                self.add_source(path)
                done.add(path)
        self.check_anchors()

    def check_paths(self, header):
        """Files that comments name."""
        for name in [header, *header.names]:
            comments = [name.comment] + [f.comment for f in getattr(name, "fields", [])]
            for text in (t for c in comments if c for t in c.words()):
                for path in re.findall(r"\b(?:lib|doc|tests|tools|examples)/[\w/.-]*\w", text):
                    if not (self.root / path).exists():
                        self.problems.append(f"include/sheaf/{header.name}: there is no {path}")

    def check_anchors(self):
        for path, target in self.wanted:
            page, anchor = target.split("#", 1)
            if page in self.pages and f'id="{anchor}"' not in self.pages[page][1]:
                self.problems.append(f"{path}: there is no #{anchor} in {page}")

    # What is around a page

    def navigation(self, page):
        """The contents page, as a list, with the others at its end."""
        render = Renderer(self, page)
        out, listed = "", set()
        contents = self.root / "doc/README.md"
        text = contents.read_text(encoding="utf-8") if contents.is_file() else ""

        def items(pairs):
            rows = ""
            for title, target in pairs:
                listed.add(target)
                here = ' aria-current="page"' if target == page else ""
                rows += f'<li><a href="{render.to(target) or "#"}"{here}>{escape(title)}</a></li>'
            return f"<ul>{rows}</ul>"

        for part in re.split(r"^## ", text, flags=re.M)[1:]:
            links = re.findall(r"\[([^\]]+)\]\(([^)#]+\.md)\)", part)
            pairs = [(title, self.guides[os.path.normpath(f"doc/{href}")]) for title, href in links
                     if os.path.normpath(f"doc/{href}") in self.guides]
            if pairs:
                out += f"<h2>{escape(part.splitlines()[0])}</h2>{items(pairs)}"
        rest = [(self.pages[p][0], p) for p in self.guides.values()
                if p not in listed and p not in ("index.html", "contents.html") and p in self.pages]
        for title, mine in (("Examples", [r for r in rest if r[1].startswith("examples/")]),
                            ("More", [r for r in rest if not r[1].startswith("examples/")])):
            if mine:
                out += f"<h2>{title}</h2>{items(mine)}"
        out += "<h2>Reference</h2>" + items([("All names", "ref/index.html")] + [
            (f"<sheaf/{h.name}>", f"ref/{h.stem}.html") for h in self.reference.headers])
        return out

    def whole(self, page):
        title, body, contents, _, _ = self.pages[page]
        # Not broken at a hyphen, as -Dname=true would be.
        body = re.sub(r"<code>([^<\s]{1,26})</code>", r'<code class="whole">\1</code>', body)
        render = Renderer(self, page)
        toc = "".join(f'<li class="l{level}"><a href="#{anchor}">{escape(words)}</a></li>' for anchor, words, level in contents)
        aside = f'<aside><h2>On this page</h2><ul>{toc}</ul></aside>' if len(contents) > 2 else ""
        name = "libsheaf" if page == "index.html" else f"{title} - libsheaf"
        up = render.to("x")[:-1]
        return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
                f'<meta name="viewport" content="width=device-width, initial-scale=1">'
                f'<meta name="color-scheme" content="light dark"><title>{escape(name)}</title>'
                f'<link rel="stylesheet" href="{up}style.css">'
                f'<script defer src="{up}search-index.js"></script><script defer src="{up}search.js" data-up="{up}"></script>'
                f'</head>\n<body><a class="skip" href="#main">To the text</a>'
                f'<header><a class="home" href="{render.to("index.html") or "#"}">libsheaf</a>'
                f'<input type="search" id="search" placeholder="Search ( / )" aria-label="Search" autocomplete="off">'
                f'<label class="menu" for="menu">Menu</label></header><div id="found" hidden></div>'
                f'<input type="checkbox" id="menu" aria-label="Menu"><div class="page{"" if aside else " wide"}">'
                f'<nav>{self.navigation(page)}</nav>\n<main id="main">{body}</main>\n{aside}</div></body></html>\n')

    def index(self):
        entries = []
        for name in self.reference.public():
            text = " ".join(what if kind == "text" else " ".join(what) for kind, what in name.comment.body)
            entries.append([name.name + ("()" if name.kind == "function" else ""), f"<sheaf/{name.header}>",
                            self.page_of(name), re.sub(r"@p |`", "", text)[:300]])
            entries += [[f.name if name.kind in ("enum", "class") else f"{name.name}.{f.name}", f"<sheaf/{name.header}>",
                         self.page_of(name) if name.kind in ("enum", "class") else self.page_of(name).partition("#")[0] + f"#{name.name}.{f.name}",
                         re.sub(r"@p |`", "", " ".join(f.comment.words()))[:200] if f.comment else ""]
                        for f in name.fields if not f.hidden and name.comment and not self.reference.private(name)]
        for _, _, _, sections, _ in self.pages.values():
            entries += [list(s) for s in sections]
        return "window.sheafIndex = " + json.dumps(entries, ensure_ascii=False, separators=(",", ":")) + ";\n"

    def write(self, folder):
        for page in self.pages:
            to = folder / page
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(self.whole(page), encoding="utf-8")
        (folder / "search-index.js").write_text(self.index(), encoding="utf-8")
        for name in ("style.css", "search.js"):
            shutil.copyfile(HERE / name, folder / name)
        for path in sorted(self.copies):
            (folder / "pictures").mkdir(exist_ok=True)
            shutil.copyfile(self.root / path, folder / "pictures" / os.path.basename(path))
