# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""Have spin try all interleavings of the models, as they are and broken on purpose.

usage: run.py MODEL.pml CC...

The head of a model says what it proves, and which definitions break it. Here is what must
come of each: nothing, or an error of a kind. Without SHEAF_FULL nothing is run (exit code 77);
with it spin has to be there.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# What spin says first where it finds an error. Two that are inside are seen at once, or by what is lost.
TWO = r"assertion violated \((inside==1|mem\[3\]==added)\)"
LOST = r"assertion violated \(mem\[3\]==added\)"
REUSED = r"assertion violated \(p==0\)"
STUCK = r"invalid end state"

# Definitions; which error must be found, if any?
CASES = {
    "slot": [
        ("", None), ("WEAK", None), ("REFUSED", None), ("REFUSED WEAK", None),
        ("NO_MEMBARRIER", TWO), ("STOP_LATE", TWO), ("LOOK_FIRST", TWO), ("NOT_AWAITED", TWO),
        ("NOT_LOCKED", TWO), ("BUSY_LEFT", STUCK), ("NOT_BUSY_BY_LOCK", TWO),
        ("HANDLER_LOCKS", STUCK),
        ("FREEZE", None), ("FREEZE WEAK", None), ("FREEZE REFUSED", None),
        ("FREEZE REFUSED WEAK", None),
        ("FREEZE MARK_IGNORED", TWO), ("FREEZE MARK_UNLOCKED", TWO), ("FREEZE LOCK_KEPT", STUCK),
        ("LEAVE_RELAXED", None), ("LEAVE_RELAXED WEAK", LOST),
        ("GO_RELAXED", None), ("GO_RELAXED WEAK", LOST),
        ("SEIZE_RELAXED", None), ("SEIZE_RELAXED WEAK", LOST),
        ("ENTER_RELAXED", None), ("ENTER_RELAXED WEAK", LOST),
    ],
    "ticket": [
        ("", None), ("WEAK", None), ("WAKING", None), ("WAKING WEAK", None),
        ("TICKET_RUNNING", REUSED), ("TICKET_FIRST", REUSED), ("PUBLISH_EARLY", REUSED),
        ("BEGIN_LATE", REUSED),
        ("WAKING WANTED_LOST", STUCK), ("WAKING SLEEP_BY_STORE", STUCK),
        ("WAKING WAKE_READ_LATE", STUCK), ("WAKING NOT_WOKEN", STUCK),
        ("WAKING DONE_READ_LATE", STUCK), ("WAKING DONE_FIRST", STUCK),
        ("FENCED", None), ("FENCED WEAK", None),
        ("FENCED TICKET_RELAXED", None), ("FENCED TICKET_RELAXED WEAK", REUSED),
        ("WAKING DONE_RELAXED", None), ("WAKING DONE_RELAXED WEAK", STUCK),
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
    for number, (defines, error) in enumerate(cases, 1):
        errors, states, first = search(compiler, model, defines.split())
        right = bool(re.fullmatch(error, first)) if error else errors == 0
        wrong += not right
        print(f"{'ok' if right else 'not ok'} {number} - {model.stem} {defines or 'as it is'}: "
              f"{states} states, {first or 'no error'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
