#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# Torture for seconds, or for minutes where SHEAF_FULL is set. SHEAF_SEED repeats a run. Nothing is
# found, every disturbance that can be has happened, and every operation has done what it is for (in a run of some
# length: where a checker makes it slow some are too rare).
#
# usage: run.sh SHEAF_TORTURE SECONDS SECONDS_IN_FULL OPTION...

torture=$1 seconds=$2
[ -z "$SHEAF_FULL" ] || seconds=$3
shift 3
# Nothing kept by malloc() for a thread: what it has given must be back to some KiB.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}glibc.malloc.tcache_count=0"
said=$("$torture" --json --seconds="$seconds" --rounds=$((seconds / 30 + 2)) ${SHEAF_SEED:+--seed=$SHEAF_SEED} "$@")
status=$?
echo "$said"
[ $status = 0 ] || exit $status
echo "$said" | python3 -c '
import json, os, sys
said = json.load(sys.stdin)
count = len(said["enabled"])
missing = [name for name in said["enabled"] if not said["disturbances"][name]]
if count < 9 or missing:
    sys.exit(f"of all disturbances, {count} are enabled; did not happen: {missing}")
undone = {name for name, times in said["done"].items() if not times}
# Nobody waits for a source that is stepped by hand. What backends of others have out debug mode alone knows.
if said["source"] == "manual":
    undone -= {"barrier", "throttle", "grace period"}
if "SHEAF_DEBUG" not in os.environ:
    undone -= {"description"}
total = said["operations"]
if total > 20000 and undone:
    sys.exit(f"in {total} operations these have never done what they are for: {undone}")
if not said["handlers"] or ("fork" in said["enabled"] and not said["children"]):
    sys.exit("no handler has run, or no child")'
