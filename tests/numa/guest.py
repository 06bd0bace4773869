#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""The files of the machine that tools/check-numa emulates, and what it told.

usage: guest.py targets BUILD          what ninja is to build
       guest.py pack BUILD ROOT        the files of the machine but for /init and busybox
       guest.py log BUILD SERIAL       writes the log that Meson would have; prints a line for
                                       each test; exit code 1 if the machine did not reach its end
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

SUITES = r"(numa|barn|gp|recycler|backend|slab|cache|tree)-"

# Nothing in these depends on the machine, or it takes more than the test programs:
LEFT_OUT = (
    r".*-interleave.*"  # one thread at a time, by a scheduler of its own
    r"|tree-(unit|model|prepare|oom)-[34]"  # the same as with 15 but for the height
    r"|cache-fastpath.*"  # objdump
    r"|gp-(sources|call_rcu|fork|fork-call_rcu)-(mb|bp|qsbr)"  # as with the memb flavour
    r"|gp-fork-pools|gp-poll"  # of liburcu's pools, and of a double
    r"|gp-driver|tree-step"  # times, and steps, which are the emulator's
    r"|tree-shrink"  # has no compiler there
)
LIMIT = 90
# Rounds as for a checker.
ENVIRONMENT = {"SHEAF_SLOW": "1", "SHEAF_NUMA": "1"}
if "SHEAF_SEED" in os.environ:
    ENVIRONMENT["SHEAF_SEED"] = os.environ["SHEAF_SEED"]


def tests(build):
    """Name and entry of each test to run, those of this folder first."""
    text = subprocess.run(["meson", "introspect", "--tests", build], check=True,
                          capture_output=True, text=True).stdout
    chosen = [t for t in json.loads(text)
              if re.match(SUITES, t["name"]) and not re.fullmatch(LEFT_OUT, t["name"])]
    return sorted(chosen, key=lambda t: "numa" not in t["name"])


def files(test, build):
    """The program of a test, and the modules that it opens."""
    here = pathlib.Path(build).resolve()
    found = [pathlib.Path(test["cmd"][0])]
    if test["name"].startswith("cache-lifetime"):
        found += [here / "tests/cache" / f"libcache-plugin{whole}.so" for whole in ("", "-whole")]
    return found


def copy(source, root, strip):
    """To the same absolute path: run paths and paths compiled in stay right."""
    target = root / source.relative_to("/")
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    if strip:
        subprocess.run(["strip", "--strip-debug", target], check=True)


def pack(build, root):
    lines = []
    for test in tests(build):
        for file in files(test, build):
            copy(file, root, True)
            told = subprocess.run(["ldd", file], check=True, capture_output=True, text=True).stdout
            for library in re.findall(r"(/\S+) \(0x", told):
                copy(pathlib.Path(library), root, False)
                # libc opens this one when a thread is cancelled or exits.
                unwinder = pathlib.Path(library).with_name("libgcc_s.so.1")
                if unwinder.exists():
                    copy(unwinder, root, False)
        environment = [f"{k}={v}" for k, v in {**test["env"], **ENVIRONMENT}.items()]
        lines.append(shlex.join(["run", test["name"], str(LIMIT), *environment, *test["cmd"]]))
    (root / "tests").write_text("\n".join(lines) + "\n")


def entry(name, stdout, code, seconds, limit):
    if code == 0 and not re.search(r"^not ok \d|^Bail out", stdout, re.M):
        result = "OK"
    else:
        # Exit code 77 included: here every test has what it needs.
        result = "TIMEOUT" if seconds >= limit else "FAIL"
    return {"name": name, "stdout": stdout, "result": result, "returncode": code,
            "duration": seconds}


def log(build, serial):
    text = pathlib.Path(serial).read_text(errors="replace").replace("\r", "")
    logged = {}
    for m in re.finditer(r"^@test (\S+)\n(.*?)^@end \1 (\d+) (\d+) (\d+)$", text, re.M | re.S):
        logged[m[1]] = entry(m[1], m[2], int(m[3]), int(m[4]), int(m[5]))
    ended = re.search(r"^@done$", text, re.M) is not None
    for test in tests(build):
        if test["name"] not in logged:
            said = text.rpartition(f"@test {test['name']}\n")
            logged[test["name"]] = entry(test["name"], (said[2] if said[1] else "")
                                         + "Bail out! the machine ended before this test had\n", 1, 0, LIMIT)
    folder = pathlib.Path(build) / "meson-logs"
    folder.mkdir(exist_ok=True)
    with open(folder / "testlog-numa.json", "w", encoding="utf-8") as file:
        for one in logged.values():
            file.write(json.dumps(one) + "\n")
            cases = len(re.findall(r"^ok \d", one["stdout"], re.M))
            print(f"{one['name']:<32}{one['result']:<8}{one['duration']:>4} s {cases:>4} cases")
    return 0 if ended else 1


def main(arguments):
    match arguments:
        case ["targets", build]:
            here = pathlib.Path(build).resolve()
            print(*sorted({str(f.relative_to(here)) for t in tests(build) for f in files(t, build)}))
        case ["pack", build, root]:
            pack(build, pathlib.Path(root))
        case ["log", build, serial]:
            return log(build, serial)
        case _:
            sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
