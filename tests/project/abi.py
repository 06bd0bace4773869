# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Three lists agree: functions declared in public headers, names in lib/libsheaf.map,
and dynamic symbols of the shared library. Nothing unprefixed is exported.

usage: abi.py SOURCE_ROOT LIBRARY
"""
import pathlib
import re
import subprocess
import sys


def declared(root):
    names = set()
    for header in (root / "include/sheaf").glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        # Bodies of inline functions and structs go; what is left at depth 0 is declared.
        depth, flat = 0, []
        for char in text.replace('extern "C" {', ""):
            depth += (char == "{") - (char == "}")
            flat.append(char if depth <= 0 or char == "{" else " ")
        for match in re.finditer(r"^[a-z][\w \n*]*?\b(sheaf_\w+)\([^;{]*\)\s*;", "".join(flat), re.M):
            if not match.group(0).startswith(("typedef", "static")):
                names.add(match.group(1))
    return names


def listed(root):
    text = (root / "lib/libsheaf.map").read_text()
    return set(re.findall(r"^\t(\w+);$", text, re.M)) - {"local", "global"}


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, text=True,
                         capture_output=True).stdout
    names = {line.split()[2].split("@")[0] for line in out.splitlines() if line.split()[1] != "A"}
    # Sanitizer runtimes add their own.
    return {name for name in names if not name.startswith(("__", "_fini", "_init"))}


def main(root, library):
    lists = {"headers": declared(pathlib.Path(root)), "libsheaf.map": listed(pathlib.Path(root)),
             "library": exported(library)}
    every = set.union(*lists.values())
    wrong = 0
    for name in sorted(every):
        missing = [where for where, names in lists.items() if name not in names]
        if missing or not name.startswith("sheaf_"):
            wrong += 1
            print(f"{name}: not in {', '.join(missing) or 'the namespace sheaf_'}")
    print(f"{len(every)} names, {wrong} wrong")
    return 1 if wrong or len(every) < 50 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
