#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
What goes wrong is said, ends with a non-zero exit code, and costs no other result.
"""
import json
import os
import subprocess
import sys
import tempfile

BENCH = sys.argv[1]
QUICK = ["pair", "--rounds", "1", "--seconds", "0.005", "--peers", "limit,glibc"]
failures = 0


def run(*args, **env):
    return subprocess.run([BENCH, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env={**os.environ, **env})


def expect(truth, what, done):
    global failures
    if not truth:
        failures += 1
        print(f"FAILED: {what}\n{done.returncode}\n{done.stdout}\n{done.stderr}")


def refused(args, message):
    done = run(*args)
    expect(done.returncode == 2 and message in done.stderr, f"{args} is refused", done)


def competitors(path):
    with open(path) as file:
        return {r["competitor"] for r in json.load(file)["results"]}


def main():
    refused(["nonsense"], "unknown scenario: nonsense")
    refused(["pair", "--peers", "nobody"], "unknown peer: nobody")
    refused(["--rounds", "0"], "--rounds")
    refused(["--seconds", "x"], "--seconds")
    refused(["--threads", "1000"], "--threads")
    refused(["--size", "1"], "--size")

    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "out.json")

        # A peer that will not start, and one that dies at work.
        for where in ("setup", "round"):
            done = run(*QUICK, "--json", path, SHEAF_BENCH_BREAK=f"{where}:glibc")
            expect(done.returncode == 1 and "glibc: died of signal 9" in done.stderr and
                   "told to die" in done.stderr, f"death in {where} is told", done)
            expect(competitors(path) == {"libsheaf", "limit"}, "the others are kept", done)

        # No place for the output: the tables are printed all the same.
        for option, target in (("--json", "/dev/full"), ("--json", place),
                               ("--report", "/dev/null/x"), ("--report", "/proc/nothing")):
            done = run(*QUICK, option, target)
            expect(done.returncode == 1 and target in done.stderr and "glibc" in done.stdout,
                   f"{option} {target} fails", done)
        done = run(*QUICK, "--json", "/dev/full", "--report", place)
        expect(done.returncode == 1 and os.path.exists(os.path.join(place, "index.html")),
               "the report is written though the JSON is not", done)

        with open("/dev/full", "w") as full:
            done = subprocess.run([BENCH, *QUICK], stdout=full, stderr=subprocess.PIPE, text=True)
        expect(done.returncode == 1 and "standard output" in done.stderr, "full stdout", done)
    print(f"{failures} failures")
    return 1 if failures else 0


sys.exit(main())
