#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Static checks: nothing to say of the library, and in a planted fault they find it.

usage: lint.py tidy SOURCE_ROOT BUILD_ROOT      clang-tidy, checks chosen in .clang-tidy
       lint.py cppcheck SOURCE_ROOT BUILD_ROOT  cppcheck, but for cppcheck.txt beside this
       lint.py analyzer SOURCE_ROOT BUILD_ROOT  gcc -fanalyzer

BUILD_ROOT has a compile_commands.json. Exit code 0: clean; 1: findings, or the planted
fault was not found; 77: the tool is not there.
"""
import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOOL = {"tidy": "clang-tidy", "cppcheck": "cppcheck", "analyzer": "gcc"}
FAULT = """
#include <stdio.h>
#include <stdlib.h>
int planted(const char *text);
int planted(const char *text)
{
	int *number = malloc(sizeof(*number));
	int array[4] = {0};

	if (!number)
		return array[4];
	if (sscanf(text, "%d", number) != 1)
		free(number);
	return *number + array[0];
}
"""


def run(command, cwd):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    # Compilers count what they do not show.
    text = "\n".join(l for l in done.stdout.splitlines() if not l.endswith(" generated."))
    return done.returncode != 0 or bool(text.strip()), text


def includes(command):
    """What of a compiler's command line says how its file is read."""
    kept, words = [], shlex.split(command)
    for word, after in zip(words, words[1:] + [""]):
        if word in ("-isystem", "-include"):
            kept += [word, after]
        elif word.startswith(("-I", "-D", "-std=")):
            kept.append(word)
    return kept


CPPCHECK = [
    "cppcheck", "--quiet", "--inline-suppr", "--std=c11", "--enable=warning,performance,portability",
    f"--suppressions-list={HERE}/cppcheck.txt", "--error-exitcode=1",
    # What makes statements of atomics; it loses its way in those.
    "-USHEAF_VALGRIND", "-USHEAF_ATOMIC_HOOK", "-Iinclude", "-Ilib",
    # Sets of macros; with all of them it takes five times as long.
    *([] if "SHEAF_FULL" in os.environ else ["--max-configs=2"])]


def commands(kind, root, build):
    """The command for each group of files of the library."""
    database = json.loads((build / "compile_commands.json").read_text())
    library = {}
    for entry in database:
        file = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if root / "lib" in file.parents and "libsheaf.so" in entry.get("output", ""):
            library[file] = entry
    if not library:
        sys.exit("lint.py: no file of the library in compile_commands.json")
    files = sorted(library)
    if kind == "tidy":
        groups = [files[i::12] for i in range(12)]
        return [(["clang-tidy", "--quiet", "-p", str(build)] + [str(f) for f in g], root)
                for g in groups if g]
    if kind == "cppcheck":
        return [(CPPCHECK + [folder], root) for folder in ("lib", "tools", "examples")]
    return [(["gcc", *includes(library[f]["command"]), "-O1", "-fanalyzer", "-c", "-o", os.devnull,
              str(f)], library[f]["directory"]) for f in files]


def finds_fault(kind, root):
    """Does the tool find what is planted, as it is called here?"""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "planted.c")
        file.write_text(FAULT)
        command = {
            "tidy": ["clang-tidy", "--quiet", f"--config-file={root}/.clang-tidy", str(file), "--",
                     "-std=c11"],
            "cppcheck": CPPCHECK + [str(file)],
            "analyzer": ["gcc", "-O1", "-fanalyzer", "-c", "-o", os.devnull, str(file)],
        }[kind]
        return run(command, folder)[0]


def main(kind, root, build):
    root, build = pathlib.Path(root).resolve(), pathlib.Path(build).resolve()
    if not shutil.which(TOOL[kind]):
        print(f"{TOOL[kind]} is not there")
        return 77
    if not finds_fault(kind, root):
        print(f"{TOOL[kind]} does not find a planted fault")
        return 1
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(run, *c) for c in commands(kind, root, build)]
        for job in jobs:
            wrong, text = job.result()
            if wrong:
                bad = 1
                print(text)
    return bad


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in TOOL:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
