#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# Torture for seconds, or for minutes where SHEAF_FULL is set. SHEAF_SEED repeats a run.
#
# usage: run.sh SHEAF_TORTURE SECONDS SECONDS_IN_FULL OPTION...

torture=$1 seconds=$2
[ -z "$SHEAF_FULL" ] || seconds=$3
shift 3
exec "$torture" --seconds="$seconds" --rounds=$((seconds / 30 + 2)) ${SHEAF_SEED:+--seed=$SHEAF_SEED} "$@"
