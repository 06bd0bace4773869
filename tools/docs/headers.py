# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Reads the public headers: which names there are, and the comment that documents each.

A comment /** */ documents what follows it without an empty line in between, be it one name or
several. What begins with "Private to the library", and the fields that stand after a comment
"private" or in a structure whose comment says that its fields are private, are not part of the
interface; nor is what stands inside an #if, but for __cplusplus, of which the C side is read.
"""
import dataclasses
import re

from comments import Comment

GUARD = re.compile(r"#(ifndef|define) SHEAF_\w+_H(PP)?$")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
CLASS = re.compile(r"(template\s*<[^>]*>\s*)?(class|struct|enum|union|namespace)\b")
# Stands for a line that is left out, which is not an empty one.
GONE = "\x01"


@dataclasses.dataclass
class Field:
    """A field of a structure or a value of an enumeration."""
    name: str
    text: str
    line: int
    comment: Comment | None
    hidden: bool = False
    # Of a class: is it called by users, so that it needs a contract?
    called: bool = False


@dataclasses.dataclass
class Name:
    """A function, structure, enumeration, macro or type."""
    name: str
    kind: str
    header: str
    line: int
    text: str
    comment: Comment | None
    params: list = dataclasses.field(default_factory=list)
    returns: str = ""
    fields: list = dataclasses.field(default_factory=list)
    opaque: bool = False

    @property
    def hidden(self):
        return bool(self.comment) and self.comment.brief.startswith("Private to the library")


@dataclasses.dataclass
class Header:
    name: str
    comment: Comment | None
    names: list

    @property
    def stem(self):
        return self.name.rpartition(".")[0]


def one_side(text):
    """The text without what preprocessor conditions leave out, line for line."""
    lines, stack = [], []
    for line in text.split("\n"):
        word = re.match(r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b", line)
        if not word:
            lines.append(line if all(stack) else GONE)
            continue
        lines.append(GONE)
        if word[1] in ("if", "ifdef", "ifndef"):
            stack.append(bool(GUARD.match(line)))
            if "__cplusplus" in line:
                stack[-1] = None
        elif word[1] == "endif":
            stack.pop()
        elif stack[-1] is None:
            stack[-1] = True
    return "\n".join(lines)


def blank(text):
    """The same text with spaces for its comments."""
    return COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text).replace(GONE, " ")


def closing(text, start):
    """Where the brace at start is closed."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return at
    raise ValueError("a brace is not closed")


def pieces(text, base, separator, cxx=False):
    """
    Yields (line, comment or None, plain comment or None, code) of each declaration. The comment
    holds until an empty line or the next comment. In C++ what is no class ends with its body.
    """
    code = blank(text)
    at, comment, plain = 0, None, None
    while at < len(text):
        space = re.compile(rf"[\s{GONE}]*").match(text, at)
        if re.search(r"\n[ \t]*\n", space[0]):
            comment = plain = None
        at = space.end()
        if at == len(text):
            break
        line = base + text.count("\n", 0, at)
        found = COMMENT.match(text, at)
        if found:
            comment = Comment(found[0], line) if found[0].startswith("/**") else None
            plain = None if comment else found[0].strip("/* \n")
            at = found.end()
            continue
        access = re.compile(r"(public|protected|private):").match(text, at) if cxx else None
        if access:
            end = access.end()
        elif text[at] == "#":
            end = re.compile(r"(?:[^\n]*\\\n)*[^\n]*").match(text, at).end()
        else:
            end = at
            while end < len(code) and code[end] != separator:
                if code[end] == "{":
                    head = code[at:end].rstrip()
                    end = closing(code, end)
                    # The body of a function. What initializes a member goes on behind it.
                    if not (CLASS.match(head) or re.match(r"\s*[,{]", code[end + 1:])) if cxx else head.endswith(")"):
                        break
                elif code[end] == "(":
                    depth = 0
                    while True:
                        depth += (code[end] == "(") - (code[end] == ")")
                        if not depth:
                            break
                        end += 1
                end += 1
            end += 1
        yield line, comment, plain, text[at:end]
        at = end


def clean(code):
    return re.sub(r"\s+", " ", blank(code)).strip().rstrip(";,").strip()


def declared(text):
    """The name that a declaration of a variable or parameter gives."""
    pointer = re.search(r"\(\*\s*(\w+)\)", text)
    if pointer:
        return pointer[1]
    text = re.sub(r"__attribute__\(\(.*?\)\)\)?|\[.*?\]", "", text).strip()
    return re.search(r"(\w+)$", text)[1]


def parameters(text):
    """Splits "int a, void (*f)(int, int)" at its outer commas."""
    parts, depth, last = [], 0, 0
    for at, char in enumerate(text + ","):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            parts.append(text[last:at].strip())
            last = at + 1
    return [p for p in parts if p and p != "void"]


def fields_of(body, base, kind):
    found, hidden = [], False
    for line, comment, plain, code in pieces(body, base, "," if kind == "enum" else ";"):
        hidden = hidden or plain == "private"
        code = clean(code)
        if not code:
            continue
        if code.startswith(("union {", "struct {")):
            inner = code[code.index("{") + 1:code.rindex("}")]
            for part in inner.split(";"):
                if part.strip():
                    found.append(Field(declared(part), part.strip(), line, comment, hidden))
            continue
        name = code.split()[0] if kind == "enum" else declared(code)
        found.append(Field(name, code, line, comment, hidden))
    return found


def name_of(header, line, comment, code):
    """The Name that a piece of code declares, or None."""
    macro = re.match(r"#\s*define\s+(SHEAF_\w+)(\([^)]*\))?", code)
    if macro:
        if macro[1].endswith("_H"):
            return None
        value = "" if macro[2] else clean(code[macro.end():].replace("\\\n", " "))
        return Name(macro[1], "macro", header, line, f"#define {macro[1]}{macro[2] or ''} {value}".strip(),
                    comment, params=parameters((macro[2] or "")[1:-1]))
    if code.startswith("#"):
        return None
    aggregate = re.match(r"(struct|enum|union)\s+(sheaf\w*)\s*(\{|;)", code)
    if aggregate:
        kind, name, mark = aggregate.groups()
        if mark == ";":
            return Name(name, kind, header, line, f"{kind} {name};", comment, opaque=True)
        start = aggregate.end()
        body = code[start:closing(blank(code), start - 1)]
        fields = fields_of(body, line + code.count("\n", 0, start), kind)
        return Name(name, kind, header, line, f"{kind} {name}", comment, fields=fields)
    text = clean(code.split("{")[0])
    function = re.match(r"(typedef )?(?:static inline )?(.*?)(\bsheaf\w*)\s*\((.*)\)$", text)
    if not function:
        return None
    typedef, returns, name, inside = function.groups()
    return Name(name, "type" if typedef else "function", header, line,
                re.sub("^static inline ", "", text) + ";", comment, params=parameters(inside),
                returns=returns.strip())


def read(path):
    text = one_side(path.read_text(encoding="utf-8"))
    first, names = None, {}
    for line, comment, _, code in pieces(text, 1, ";"):
        if first is None and comment and comment.file:
            first = comment
        if comment and comment.file:
            comment = None
        name = name_of(path.name, line, comment, code)
        if name and not (name.opaque and not name.comment):
            # A structure and the function that fills it may share a name.
            names.setdefault((name.name, name.kind == "function"), name)
    # The comment of the file stands before the guard, with nothing of its own behind it.
    if first is None:
        found = re.search(r"/\*\*.*?\*/", text, re.S)
        comment = Comment(found[0], 1) if found else None
        first = comment if comment and comment.file else None
    return Header(path.name, first, list(names.values()))
