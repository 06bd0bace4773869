#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# A fault that sheaf-torture makes itself must be found, told in these words, and be its status.
#
# usage: finds.sh SHEAF_TORTURE FAULT WORDS

# A machine that stands still for seconds is no fault; those that never end are waited for.
case $2 in
hang | stuck) patience=6 ;;
*) patience=60 ;;
esac
said=$("$1" --seconds=2 --rounds=2 --patience=$patience --json --without=fork,budget --plant="$2" 2>&1)
status=$?
echo "$said"
[ $status = 1 ] || {
	echo "status $status, not 1"
	exit 1
}
echo "$said" | grep -q "^sheaf-torture: .*$3" || {
	echo "it does not say: $3"
	exit 1
}
echo "$said" | grep -q "^  seed [0-9]" || {
	echo "it does not say the seed"
	exit 1
}
echo "$said" | tail -n 1 | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["good"])' || {
	echo "what it says in JSON is not JSON, or good"
	exit 1
}
