#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Pins the trips per operation of our own side, with 2 to 256 threads and 1 to 8 injected
nodes. They are counted over a fixed number of operations after a warm-up, so they depend
on no machine: a change here is a change of the design.
"""
import json
import subprocess
import sys

# Counts are kept with six digits.
ROUNDING = 1e-6
RING = 256
OPERATIONS = 3 * 12000

failures = []


def expect(result, what, value, most):
    if value > most + ROUNDING:
        failures.append(f"{result['params']}: {what} is {value}, more than {most:.6f}")


def check(result):
    trips = result["trips"]
    pattern, threads = result["params"]["pattern"], result["params"]["threads"]
    nodes = result["params"]["nodes"]
    # One sheaf a trip, in each direction.
    by_sheaf = 1 / trips["capacity"]
    # Trips that bring an object to every place it can rest in for the first time.
    first = (RING / trips["capacity"] + 2) / OPERATIONS

    if pattern == "larson" and nodes > 1 and threads > 2:
        # What was allocated on another node goes home, there it is allocated again.
        expect(result, "home", trips["home"], nodes * by_sheaf)
        expect(result, "barn_alloc", trips["barn_alloc"], 2 * by_sheaf)
        expect(result, "barn_free", trips["barn_free"], by_sheaf)
        return
    if pattern in ("pair", "larson"):
        # A batch that fits in a slot, and a free for each alloc, never leave the slot.
        for name in ("barn_alloc", "barn_free", "backend_alloc", "backend_free"):
            expect(result, name, trips[name], 0)
        return
    expect(result, "barn_free", trips["barn_free"], by_sheaf)
    if pattern == "remote" and nodes > 1:
        # Remote objects are collected, and go home by the sheaf; a few of those are not full. All
        # threads of one node may free for another one whose barn is full then.
        expect(result, "home", trips["home"], by_sheaf)
        expect(result, "barn_alloc", trips["barn_alloc"], 1.02 * by_sheaf)
        expect(result, "backend_alloc", trips["backend_alloc"], first + by_sheaf / 20)
        expect(result, "backend_free", trips["backend_free"], by_sheaf / 20)
    else:
        # What comes from the backend is there to stay.
        expect(result, "home", trips["home"], 0)
        expect(result, "barn_alloc", trips["barn_alloc"], by_sheaf)
        expect(result, "backend_alloc", trips["backend_alloc"], first)
        expect(result, "backend_free", trips["backend_free"], 0)
    # Limits are soft: each thread may overshoot by one sheaf.
    expect(result, "objects in barns", trips["held_barns"],
           (nodes * max(32, 4 * (threads / nodes + 1)) + threads) * trips["capacity"])


def main():
    run = subprocess.run([sys.argv[1], "trips", "--rounds", "3", "--json", "-"],
                         stdout=subprocess.PIPE, check=True, text=True)
    results = json.loads(run.stdout[run.stdout.index('{"machine"'):])["results"]
    seen = {(r["params"]["pattern"], r["params"]["threads"], r["params"]["nodes"])
            for r in results}
    if len(seen) != 5 * 4 * 4:
        failures.append(f"{len(seen)} combinations instead of 80")
    for result in results:
        check(result)
    for failure in failures:
        print(failure)
    print(f"{len(results)} results, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
