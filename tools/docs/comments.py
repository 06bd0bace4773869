# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Takes a comment of a header apart: purpose, parameters, text, and the contract, that is Context,
Ordering, Progress and Return, of which several may be said at once ("Context, Ordering: as there").
"""
import re

# The last one is for C++.
CONTRACT = ("Context", "Ordering", "Progress", "Return", "Throws")
ONE = "(?:" + "|".join(CONTRACT) + ")"
LABEL = re.compile(rf"(?:^|(?<=\s))({ONE}(?:, {ONE})*):(?=\s)")


def strip(text):
    """The lines of a comment without its stars."""
    lines = text[3:-2].split("\n")
    return [re.sub(r"^\s*\* ?", "", line) if i else line.lstrip(" ") for i, line in enumerate(lines)]


def paragraphs(lines):
    """Groups of lines: ("text", words) and ("literal", lines), which are those that begin with a tab."""
    groups = []
    for line in lines + [""]:
        kind = "literal" if line.startswith("\t") else "text"
        if not line.strip():
            groups.append(None)
        elif groups and groups[-1] and groups[-1][0] == kind:
            groups[-1][1].append(line)
        else:
            groups.append((kind, [line]))
    joined = []
    for group in groups:
        if group and group[0] == "text":
            joined.append(("text", " ".join(line.strip() for line in group[1])))
        elif group:
            joined.append(("literal", [line[1:].expandtabs(8).rstrip() for line in group[1]]))
    return joined


class Comment:
    def __init__(self, raw, line):
        self.line = line
        self.params = []
        self.contract = {}
        lines = [l.rstrip() for l in strip(raw)]
        self.file = None
        while lines and not lines[0]:
            lines.pop(0)
        if lines and lines[0].startswith("@file"):
            self.file = lines.pop(0).split()[1]
        body, param, rest = [], None, None
        # A contract may begin behind a sentence.
        lines = [part for line in lines for part in re.split(rf"(?<=\.) (?={ONE}(?:, {ONE})*:\s)", line, maxsplit=1)] \
            if not any(re.match(rf"{ONE}(?:, {ONE})*:\s", line + " ") for line in lines) else lines
        for text in lines:
            if rest is not None:
                rest.append(text)
            elif re.match(rf"{ONE}(?:, {ONE})*:\s", text + " "):
                rest = [text]
            elif text.startswith("@param "):
                # Names, each but the last with a comma, then what they are.
                found = re.match(r"@param\s+((?:\w+,\s*)*\w+)\s+(.*)", text)
                param = [re.split(r",\s*", found[1]), [found[2]]] if found else [[text[7:]], [""]]
                self.params.append(param)
                body.append("")
            elif not text:
                param = None
                body.append("")
            elif param:
                param[1].append(text.strip())
            else:
                body.append(text)
        self.params = [(names, " ".join(words)) for names, words in self.params]
        if rest:
            self.read_contract(rest)
        self.body = paragraphs(body)
        first = self.body[0][1] if self.body and self.body[0][0] == "text" else ""
        self.brief = re.split(r"(?<=[.?])\s", first)[0]

    def read_contract(self, lines):
        text = "\n".join(line.strip() for line in lines)
        parts = LABEL.split(text)
        for labels, what in zip(parts[1::2], parts[2::2]):
            words = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", what)]
            for label in labels.split(", "):
                self.contract[label] = [w for w in words if w]

    def words(self):
        """All of its text, for checks of what it names."""
        for kind, what in self.body:
            yield from ([what] if kind == "text" else what)
        for _, what in self.params:
            yield what
        for what in self.contract.values():
            yield from what
