# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Bugs in programs that use the library are found by the checkers that doc/checking.md says, with
the messages it says; and the same programs without the bug pass without a report.

The table there is the list: a row per program, a column per checker, a cell with the expected
message as a regular expression in backticks, or a dash where nothing is promised. Words for
SHEAF_DEBUG may stand in the head of a column, in backticks. Corrected programs run where something is
promised of the one with the bug; with such words, or SHEAF_FULL set, everywhere.

usage: planted.py CHECKER SOURCE_ROOT PROGRAM_FOLDER      skips (77) where Valgrind is needed and not there
       planted.py --self-test SOURCE_ROOT
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

VALGRIND = ["valgrind", "-q", "--error-exitcode=99", "--fair-sched=try"]
TIMEOUT = 300


def commands(root):
    supp = f"--suppressions={root / 'tools/valgrind.supp'}"
    return {
        "plain": [],
        "debugmode": [],
        "sampled": [],
        "memcheck": [*VALGRIND, "--leak-check=full", "--errors-for-leak-kinds=definite",
                     "--show-leak-kinds=definite"],
        "atruntime": [*VALGRIND],
        "helgrind": [*VALGRIND, "--tool=helgrind", supp],
        "drd": [*VALGRIND, "--tool=drd", supp],
        "asan": [],
        "tsan": [],
    }


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(root):
    """Of the first table whose first column is `program`: {program: {checker: regex or None}} of its
    rows, and {checker: words for SHEAF_DEBUG} of its heads."""
    rows, words, head = {}, {}, None
    for line in (root / "doc/checking.md").read_text().splitlines():
        if head is None:
            if line.startswith("| program |"):
                heads = [cell.partition("`") for cell in cells(line)]
                head = [re.sub(r"\W", "", name).lower() for name, _, _ in heads]
                words = {name: text.rstrip("`") for name, (_, tick, text) in zip(head, heads) if tick}
            continue
        if not line.startswith("|"):
            break
        row = cells(line)
        if set(row[0]) <= set("-:"):
            continue
        if len(row) != len(head):
            sys.exit(f"{row[0]}: {len(row)} cells under {len(head)} heads")
        found = {}
        for name, cell in zip(head[2:], row[2:]):
            match = re.fullmatch(r"`(.+)`", cell)
            if not match and cell != "-":
                sys.exit(f"{row[0]}, {name}: neither a message nor a dash: {cell}")
            found[name] = match and match[1]
        rows[row[0].strip("`")] = found
    return rows, words


def run(command, words, program, *args):
    """(exit code, output); a signal that ended it is named at the end, as by a shell."""
    env = dict(os.environ)
    env.pop("SHEAF_DEBUG", None)
    if words:
        env["SHEAF_DEBUG"] = words
    env.setdefault("TSAN_OPTIONS", "exitcode=66")
    env.setdefault("ASAN_OPTIONS", "exitcode=66:detect_leaks=1")
    done = subprocess.run([*command, str(program), *args], capture_output=True, text=True,
                          errors="replace", timeout=TIMEOUT, env=env)
    ended = signal.Signals(-done.returncode).name if done.returncode < 0 else ""
    return done.returncode, done.stdout + done.stderr + ended


FREED = ("use-after-free", "write-after-free", "use-after-retire", "write-after-retire", "double-free")
# About sheaves, which have no history; found at the end, by no call of the program; before the object was allocated.
SHEAVES = ("beyond-prefill", "prefill-at-once", "prefill-of-another", "return-twice")
AT_THE_END = ("leak", "destroy-live", "write-after-free")
UNUSED = ("overflow-in-constructor",)
CHECKERS = ("atruntime", "memcheck", "helgrind", "drd", "asan", "tsan")


def also(name, checker, expected, output):
    """What else a report has to say: where it was found, and who made and freed the object."""
    found = [line for line in output.splitlines() if re.search(expected, line)]
    if checker in CHECKERS and all(re.match("(libsheaf|planted): ", line) for line in found):
        return []  # Found by the library, which knows the cache alone.
    if checker in CHECKERS:
        history = ["inside a block of size", "free'd", "alloc'd"]
        known = checker in ("atruntime", "memcheck") and name in FREED
        return [rf"{re.escape(name)}\.c:\d+", *(history if known else [])]
    if checker != "debugmode":
        return []
    return [r"libsheaf: cache \w+: ",
            *([] if name in AT_THE_END else ["found by thread"]),
            *(["prefilled sheaf .*: 0x"] if name in SHEAVES else [] if name in UNUSED else ["allocated by thread"]),
            *(["freed by thread"] if name in FREED else [])]


def judge(name, checker, expected, buggy, corrected):
    """What is wrong with the two runs, each (exit code, output) or None."""
    wrong = []
    if expected and re.search(expected, buggy[1]):
        wrong += [f"{name}: not told: /{more}/ in\n{buggy[1]}" for more in also(name, checker, expected, buggy[1])
                  if not re.search(more, buggy[1])]
    if expected and not re.search(expected, buggy[1]):
        wrong.append(f"{name}: not found: /{expected}/ in\n{buggy[1]}")
    if expected and buggy[0] == 0:
        wrong.append(f"{name}: a report, and exit code 0")
    if corrected and corrected[0]:
        wrong.append(f"{name} fixed: exit code {corrected[0]}\n{corrected[1]}")
    if corrected and re.search(r"==\d+==|WARNING: ThreadSanitizer|libsheaf: ", corrected[1]):
        wrong.append(f"{name} fixed: a report\n{corrected[1]}")
    return wrong


def main(checker, root, folder):
    root, folder = pathlib.Path(root), pathlib.Path(folder)
    rows, words = table(root)
    words = words.get(checker)
    sources = {path.stem for path in (root / "tests/planted").glob("*.c")}
    wrong = [f"{name}: a row or a program is missing" for name in sorted(sources ^ set(rows))]
    command, bugs, silent = commands(root)[checker], 0, 0
    if command and not shutil.which(command[0]):
        print(f"{command[0]} is not there")
        return 77
    for name in sorted(sources & set(rows)):
        expected = rows[name][checker]
        if not expected and not words and not os.environ.get("SHEAF_FULL"):
            continue
        program = folder / f"planted-{name}"
        buggy = run(command, words, program) if expected else None
        corrected = run(command, words, program, "fixed")
        bugs += buggy is not None
        silent += 1
        wrong += judge(name, checker, expected, buggy, corrected)
    print("\n".join(wrong))
    print(f"{checker}: {bugs} bugs, {silent} corrected programs, {len(wrong)} wrong")
    return 1 if wrong or not bugs else 0


def self_test(root):
    rows, words = table(pathlib.Path(root))
    checkers = set(commands(pathlib.Path(root)))
    cases = [
        (("x", "plain", "bad", (1, "a bad thing"), (0, "")), 0),
        (("x", "plain", "bad", (1, "a good thing"), (0, "")), 1),
        (("x", "plain", "bad", (0, "a bad thing"), (0, "")), 1),
        (("x", "plain", "bad", (1, "bad"), (3, "")), 1),
        (("x", "plain", "bad", (1, "bad"), (0, "==12== Invalid read")), 1),
        (("x", "plain", "bad", (1, "bad"), (0, "libsheaf: cache items: double free")), 1),
        (("x", "tsan", "bad", (1, "bad\n#0 main x.c:12"), (0, "")), 0),
        (("x", "tsan", "bad", (1, "bad\n#0 main y.c:12"), (0, "")), 1),
        (("x", "tsan", "bad", (1, "libsheaf: cache x: bad"), (0, "")), 0),
        (("double-free", "memcheck", "bad", (1, "bad double-free.c:3 inside a block of size 4 free'd alloc'd"),
          (0, "")), 0),
        (("double-free", "memcheck", "bad", (1, "bad double-free.c:3"), (0, "")), 3),
        (("double-free", "memcheck", "bad", (1, "bad double-free.c:3\nlibsheaf: double free"), (0, "")), 3),
        (("double-free", "debugmode", "bad", (1, "libsheaf: cache x: bad, found by thread 1, allocated by thread 1"),
          (0, "")), 1),
        (("leak", "debugmode", "bad", (1, "libsheaf: bad"), (0, "")), 2),
        (("return-twice", "debugmode", "bad", (1, "libsheaf: cache x: bad prefilled sheaf, found by thread 1"), (0, "")), 1),
        (("x", "plain", None, None, (0, "")), 0),
        (("x", "plain", None, None, (66, "")), 1),
    ]
    wrong = [case for case, count in cases if len(judge(*case)) != count]
    # Every bug is found by something, and every checker finds something.
    wrong += [name for name, row in rows.items() if not any(row.values())]
    wrong += [checker for checker in checkers if not any(row[checker] for row in rows.values())]
    # Words are for debug mode, and nobody else.
    wrong += sorted(set(words) ^ {"debugmode", "sampled"})
    end = run(["sh", "-c", "echo $SHEAF_DEBUG; kill -SEGV $$"], "words", "sh")
    wrong += [] if end == (-11, "words\nSIGSEGV") else [end]
    print(f"{len(cases)} cases, {len(rows)} rows, wrong: {wrong}")
    return 1 if wrong or len(rows) < 13 else 0


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        sys.exit(self_test(sys.argv[2]))
    sys.exit(main(*sys.argv[1:]))
