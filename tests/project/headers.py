# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Every public header compiles alone and twice, as C11 and as C++17, without a warning.
Headers over Concurrency Kit's, which are not C++, as C11 only; those for C++ (.hpp) as C++17 and
C++20, and no other header includes them.

usage: headers.py INCLUDE_FOLDER CXX CC [CC_ARG...]
"""
import pathlib
import subprocess
import sys

WARNINGS = ["-Wall", "-Wextra", "-Wundef", "-Werror", "-pedantic-errors", "-fsyntax-only"]
# A struct and the function that fills it share a name, as stat(2) has it; g++ calls that shadowing.
ONLY_C = ["-Wshadow", "-Wstrict-prototypes"]
ONLY_C_HEADERS = {"gp_ck.h"}


def main(include, cxx, *cc):
    headers = sorted(pathlib.Path(include).glob("sheaf/*.h*"))
    failed = 0
    if not headers:
        sys.exit(f"no headers in {include}/sheaf")
    for header in headers:
        text = f"#include <sheaf/{header.name}>\n" * 2
        languages = [("c", [*cc, "-std=c11", *ONLY_C]), ("c++", [cxx, "-std=c++17"])]
        if header.suffix == ".hpp":
            languages = [("c++", [cxx, "-std=c++17"]), ("c++", [cxx, "-std=c++20"])]
        elif ".hpp" in header.read_text():
            failed += 1
            print(f"{header.name} names a header for C++")
        for language, compiler in languages:
            if language == "c++" and header.name in ONLY_C_HEADERS:
                continue
            command = [*compiler, "-x", language, *WARNINGS, "-I", include, "-"]
            run = subprocess.run(command, input=text, text=True, capture_output=True)
            if run.returncode:
                failed += 1
                print(f"{header.name} as {language}:\n{run.stderr}")
    print(f"{len(headers)} headers, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
