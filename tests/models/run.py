# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Have spin try all interleavings of the models, as they are and broken on purpose.

usage: run.py MODEL.pml CC...

The head of a model says what it proves, and which definitions break it. Here is what must
come of each: nothing, or an error. Without SHEAF_FULL nothing is run (exit code 77); with it
spin has to be there.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Definitions; must an error be found?
CASES = {
    "slot": [
        ("", False), ("WEAK", False), ("REFUSED", False), ("REFUSED WEAK", False),
        ("NO_MEMBARRIER", True), ("STOP_LATE", True), ("LOOK_FIRST", True), ("NOT_AWAITED", True),
        ("NOT_LOCKED", True), ("BUSY_LEFT", True), ("NOT_BUSY_BY_LOCK", True),
        ("HANDLER_LOCKS", True),
        ("LEAVE_RELAXED", False), ("LEAVE_RELAXED WEAK", True),
        ("GO_RELAXED", False), ("GO_RELAXED WEAK", True),
        ("SEIZE_RELAXED", False), ("SEIZE_RELAXED WEAK", True),
        ("ENTER_RELAXED", False), ("ENTER_RELAXED WEAK", True),
    ],
    "ticket": [
        ("", False), ("WEAK", False), ("WAKING", False), ("WAKING WEAK", False),
        ("TICKET_RUNNING", True), ("TICKET_FIRST", True), ("PUBLISH_EARLY", True),
        ("BEGIN_LATE", True),
        ("WAKING WANTED_LOST", True), ("WAKING SLEEP_BY_STORE", True),
        ("WAKING WAKE_READ_LATE", True), ("WAKING NOT_WOKEN", True),
        ("WAKING DONE_READ_LATE", True), ("WAKING DONE_FIRST", True),
        ("FENCED", False), ("FENCED WEAK", False),
        ("FENCED TICKET_RELAXED", False), ("FENCED TICKET_RELAXED WEAK", True),
        ("WAKING DONE_RELAXED", False), ("WAKING DONE_RELAXED WEAK", True),
    ],
}
LIMIT_S = 300


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S,
                          check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def search(compiler, model, defines):
    """Errors found, states seen, and what the first error is."""
    with tempfile.TemporaryDirectory() as folder:
        run(["spin", "-a", *[f"-D{d}" for d in defines], str(model)], folder)
        run([*compiler, "-O1", "-w", "-DSAFETY", "-DVECTORSZ=2048", "-o", "pan", "pan.c"], folder)
        said = run(["./pan", "-m1000000"], folder)
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    if not errors or not states or "max search depth too small" in said or "out of memory" in said:
        sys.exit(f"the search did not come to its end:\n{said}")
    first = re.search(r"pan:1: (.*) \(at depth", said)
    return int(errors[1]), int(states[1]), first[1] if first else ""


def main(model, *compiler):
    if not os.environ.get("SHEAF_FULL"):
        print("minutes of searching: only with SHEAF_FULL=1")
        return 77
    if not shutil.which("spin"):
        print("spin is not there")
        return 1
    model = pathlib.Path(model).resolve()
    cases = CASES[model.stem]
    wrong = 0
    print(f"1..{len(cases)}")
    for number, (defines, broken) in enumerate(cases, 1):
        errors, states, first = search(compiler, model, defines.split())
        right = bool(errors) == broken
        wrong += not right
        print(f"{'ok' if right else 'not ok'} {number} - {model.stem} {defines or 'as it is'}: "
              f"{states} states, {first or 'no error'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
