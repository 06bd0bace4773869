# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
All names of all headers: what a word in a text refers to, and what is wrong with the comments.
"""
import re

from comments import CONTRACT
import cxx
import headers

# Of the environment and of compilers' command lines, as texts name them.
OUTSIDE = re.compile(r"SHEAF_(DEBUG|BUDGET|SLOTS|STATS|SEED|FULL|VALGRIND|EDGES_TSAN)$")
WORD = re.compile(r"\b(?:sheaf_\w+(?:\.\w+)?(?:\(\))?|SHEAF_\w+)")


class Reference:
    def __init__(self, folder):
        self.headers = [(cxx if path.suffix == ".hpp" else headers).read(path)
                        for path in sorted(folder.glob("*.h*")) if path.suffix in (".h", ".hpp")]
        self.functions, self.others, self.values = {}, {}, {}
        for header in self.headers:
            for name in header.names:
                (self.functions if name.kind == "function" else self.others)[name.name] = name
                if name.kind == "enum":
                    self.values.update((field.name, name) for field in name.fields)

    def all(self):
        for header in self.headers:
            yield from header.names

    def public(self):
        return [name for name in self.all() if not name.hidden]

    def anchor(self, name):
        """Where a name stands: page and anchor."""
        both = name.kind != "function" and name.name in self.functions
        return name.header.rpartition(".")[0], f"{name.kind}-{name.name}" if both else name.name

    def resolve(self, word):
        """The Name that a word of a text means; None if there is none."""
        plain, _, field = word.partition(".")
        if word.endswith("()"):
            return self.functions.get(word[:-2]) or self.macro(word[:-2])
        if field:
            name = self.others.get(plain)
            return name if name and any(f.name == field for f in name.fields) else None
        return self.others.get(word) or self.values.get(word) or self.functions.get(word)

    def macro(self, word):
        name = self.others.get(word)
        return name if name and name.kind == "macro" else None

    def known(self, word):
        """Does a word that looks like one of our names mean anything?"""
        if self.resolve(word) or OUTSIDE.match(word):
            return True
        if self.resolve(word.split(".")[0]) and word.split(".")[0] in self.functions:
            return True  # the end of a sentence without a space, or the like
        if word.endswith("_"):
            return any(n.startswith(word) for n in [*self.others, *self.functions])
        # Files: sheaf_notes.c and so on are not names.
        return bool(re.search(r"\.(c|h|py)$", word))

    def problems(self):
        """What is undocumented, and what a contract lacks."""
        for header in self.headers:
            if not header.comment:
                yield f"{header.name}:1: no comment with @file"
            else:
                yield from self.unknown(header.name, header.comment)
        for name in self.all():
            where = f"{name.header}:{name.line}: {name.name}"
            if not name.comment or not name.comment.brief:
                yield f"{where} is not documented"
                continue
            yield from self.unknown(name.header, name.comment)
            if name.hidden:
                continue
            yield from self.of_parameters(where, name)
            if name.kind == "function":
                yield from self.of_contract(where, name)
            for field in name.fields:
                if not self.has_text(name, field):
                    yield f"{name.header}:{field.line}: {name.name}.{field.name} is not documented"
                if field.comment:
                    yield from self.unknown(name.header, field.comment)
                    if name.kind == "class":
                        yield from self.of_member(name, field)

    @staticmethod
    def private(name):
        return "ields are private" in " ".join(name.comment.words())

    def has_text(self, name, field):
        if field.hidden or self.private(name) or (field.comment and (field.comment.brief or field.comment.contract)):
            return True
        return any(re.search(rf"\b{field.name}\b", text) for text in name.comment.words())

    def of_parameters(self, where, name):
        declared = [headers.declared(p) for p in name.params] if name.kind == "function" else name.params
        told = [p for names, _ in name.comment.params for p in names]
        for param in told:
            if param not in declared:
                yield f"{where}: @param {param} is no parameter"
        if told:
            for param in declared:
                if param not in told:
                    yield f"{where}: parameter {param} is not documented"

    @staticmethod
    def of_member(name, field):
        """A member of a class; what it throws and returns is its comment's to say."""
        for label in CONTRACT[:3]:
            if field.called and not field.comment.contract.get(label):
                yield f"{name.header}:{field.line}: {name.name}::{field.name}: the contract has no {label}"

    def of_contract(self, where, name):
        for label in CONTRACT[:4]:
            if not name.comment.contract.get(label) and (label != "Return" or name.returns != "void"):
                yield f"{where}: the contract has no {label}"
        if "Return" in name.comment.contract and name.returns == "void":
            line = name.comment.contract["Return"]
            if not " ".join(line).startswith("as "):
                yield f"{where}: returns nothing, but has a Return"

    def unknown(self, header, comment):
        for text in comment.words():
            for word in WORD.findall(re.sub(r"<[^>]*>", "", text)):
                if not self.known(word):
                    yield f"{header}:{comment.line}: there is no {word}"
