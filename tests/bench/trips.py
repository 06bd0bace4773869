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

    if pattern in ("pair", "larson"):
        # A batch that fits in a slot, and a free for each alloc, never leave the slot.
        for name in ("barn_alloc", "barn_free", "backend_alloc", "backend_free"):
            expect(result, name, trips[name], 0)
        return
    expect(result, "barn_alloc", trips["barn_alloc"], by_sheaf)
    expect(result, "barn_free", trips["barn_free"], by_sheaf)
    # Slots hold two sheaves each, a barn 32: what the threads of one node take and give
    # in a fit, beyond that, goes to the backend.
    within = threads / nodes <= 8
    expect(result, "backend_alloc", trips["backend_alloc"], first if within else by_sheaf / 2)
    expect(result, "backend_free", trips["backend_free"], 0 if within else by_sheaf / 2)
    # Limits are soft: each thread may overshoot by one sheaf.
    expect(result, "objects in barns", trips["held_barns"],
           (nodes * 32 + threads) * trips["capacity"])


def main():
    run = subprocess.run([sys.argv[1], "trips", "--rounds", "3", "--json", "-"],
                         stdout=subprocess.PIPE, check=True, text=True)
    results = json.loads(run.stdout[run.stdout.index('{"machine"'):])["results"]
    seen = {(r["params"]["pattern"], r["params"]["threads"], r["params"]["nodes"])
            for r in results}
    if len(seen) != 4 * 4 * 4:
        failures.append(f"{len(seen)} combinations instead of 64")
    for result in results:
        check(result)
    for failure in failures:
        print(failure)
    print(f"{len(results)} results, {len(failures)} failures")
    return 1 if failures else 0


sys.exit(main())
