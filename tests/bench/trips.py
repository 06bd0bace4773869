#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
"""
Pins the trips per operation of our own side, with 2 to 256 threads and 1 to 8 injected
nodes. They are counted over a fixed number of operations after a warm-up, so they depend
on no machine: a change here is a change of the design. Where threads wait for each other, who
is kept off its CPU for long can make a few trips more: what is said in each of three runs counts.
"""
import json
import subprocess
import sys

# Counts are kept with six digits.
ROUNDING = 1e-6
RING = 256
OPERATIONS = 3 * 12000
RUNS = 6

# What one run says: of which result and count, and the words for it.
failures = {}


def expect(result, what, value, most):
    if value > most + ROUNDING:
        failures[str(result["params"]), what] = f"is {value}, more than {most:.6f}"


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


def run():
    failures.clear()
    bench = subprocess.run([sys.argv[1], "trips", "--rounds", "3", "--json", "-"],
                           capture_output=True, check=False, text=True)
    if bench.returncode:
        sys.exit(f"{bench.stderr}status {bench.returncode}")
    results = json.loads(bench.stdout[bench.stdout.index('{"machine"'):])["results"]
    seen = {(r["params"]["pattern"], r["params"]["threads"], r["params"]["nodes"])
            for r in results}
    if len(seen) != 5 * 4 * 4:
        sys.exit(f"{len(seen)} combinations instead of 80")
    for result in results:
        check(result)
    for (params, what), words in failures.items():
        print(f"{params}: {what} {words}")
    print(f"{len(results)} results, {len(failures)} failures")
    return set(failures)


def main():
    lasting = run()
    for _ in range(RUNS - 1):
        if not lasting:
            return 0
        lasting &= run()
    for params, what in sorted(lasting):
        print(f"{params}: {what}, in each of {RUNS} runs")
    return 1 if lasting else 0


sys.exit(main())
