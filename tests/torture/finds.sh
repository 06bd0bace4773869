#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# A fault that sheaf-torture makes itself must be found, told in these words, and be its status.
#
# usage: finds.sh SHEAF_TORTURE FAULT WORDS

said=$("$1" --seconds=2 --rounds=2 --patience=3 --json --without=fork,budget --plant="$2" 2>&1)
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
