# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Reads a C++ header: the classes of its namespace, and their public and protected members. Copies,
moves and what is deleted or defaulted need no comment.
"""
import re

from comments import Comment
from headers import Field, Header, Name, clean, closing, blank, one_side, pieces

CLASS = re.compile(r"(template\s*<[^>]*>\s*)?(?:class|struct)\s+(\w+)")


def signature(code):
    """The declaration of a member, without its body and what it initializes."""
    text = clean(code)
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        # Two colons are a name's.
        if depth == 0 and (char == "{" or char == ":" and ":" not in (text[at - 1], text[at + 1:at + 2])):
            return text[:at].strip()
    return text


def special(name, text):
    """A copy, a move, or what the compiler makes."""
    return bool(re.search(r"= (delete|default)$", text) or "operator=" in text.replace("operator==", "") or
                re.match(rf"(template\s*<[^>]*> )?{name}\((const )?{name}(<\w+>)? &&?\w*\)", text))


def members(name, body, base):
    found, shown, contract = [], False, True
    for line, comment, _, code in pieces(body, base, ";", cxx=True):
        access = re.fullmatch(r"(public|protected|private):", code.strip())
        if access:
            shown, contract = access[1] != "private", access[1] == "public"
            continue
        text = signature(code)
        if not shown or not text or text.startswith(("using ", "friend ")):
            continue
        called = re.search(r"(~?\w+|operator\s*\S+?)\s*\(", text)
        hidden = special(name, text) and not comment
        found.append(Field(called[1] if called else text.split()[-1], text, line, comment, hidden,
                           contract and not special(name, text)))
    return found


def read(path):
    text = one_side(path.read_text(encoding="utf-8"))
    first = re.search(r"/\*\*.*?\*/", text, re.S)
    comment = Comment(first[0], text.count("\n", 0, first.start()) + 1) if first else None
    space = re.search(r"^namespace (\w+)\s*\{", text, re.M)
    names = []
    if space:
        end = closing(blank(text), space.end() - 1)
        base = text.count("\n", 0, space.end()) + 1
        for line, said, _, code in pieces(text[space.end():end], base, ";", cxx=True):
            found = CLASS.match(code)
            if not found or "{" not in code:
                continue
            start = blank(code).index("{") + 1
            inner = members(found[2], code[start:closing(blank(code), start - 1)], line + code.count("\n", 0, start))
            name = Name(f"{space[1]}::{found[2]}", "class", path.name, line, clean(code[:start - 1]) + ";", said, fields=inner)
            names.append(name)
    return Header(path.name, comment if comment and comment.file else None, names)
