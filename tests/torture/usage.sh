#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# What sheaf-torture says of itself, its statuses, and that disturbances are switched one by one.
#
# usage: usage.sh SHEAF_TORTURE

failed=0

expect() {
	want=$1
	shift
	"$@" >/dev/null 2>&1
	got=$?
	[ $got = "$want" ] || {
		echo "status $got, not $want: $*"
		failed=1
	}
}

# The disturbances that happened, of those that this text names.
happened() {
	names=$1
	shift
	"$torture" --seconds=1 --rounds=1 --json --seed=3 "$@" | python3 -c '
import json, sys
counts = json.load(sys.stdin)["disturbances"]
print(",".join(name for name in sys.argv[1].split(",") if counts[name]))' "$names"
}

# Nothing of these happened.
none_of() {
	[ -z "$(happened "$@")" ] || {
		shift
		echo "what is switched off happens: $*"
		failed=1
	}
}

torture=$1
for bad in --seconds=0 --seconds=x --threads=257 --seed=-1 --slots=none --source=rcu --backend=disk \
	--with=forks --with= --without=fork, --bogus; do
	expect 2 "$torture" "$bad"
done
expect 2 "$torture" something
expect 0 "$torture" --help
expect 0 "$torture" --version

some=fork,affinity,capacity,budget,exit
others=signals,shrink,limits,nodes,cancel
known=$("$torture" --help | sed -n '/^DISTURBANCES/{n;s/[ ]//g;p;}')
[ "$known" = fork,signals,affinity,shrink,capacity,limits,budget,nodes,exit,cancel ] || {
	echo "there are other disturbances than those known here: $known"
	failed=1
}
none_of $others --with=$some
none_of $some --without=$some
none_of $some,$others --with=none
these=$(happened $others --with=$others)
[ "$these" = $others ] || {
	echo "of what is switched on ($others) only this happens: $these"
	failed=1
}
said=$("$torture" --seconds=1 --rounds=1 --quiet)
[ -z "$said" ] || {
	echo "--quiet says $said"
	failed=1
}
exit $failed
