#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# record.sh RECORD-TRACE SHEAF-REPLAY ODD-CALLS: record a program here and now, and rebuild
# it. Skipped (77) where strace is missing or the system lets nobody trace or filter.
record=$1 replay=$2 program=$3

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# Without strace the recorder must say how to get it.
python=$(python3 -c "import sys; print(sys.executable)") || exit 77
said=$(PATH=$folder "$python" "$record" -o "$folder/none" true 2>&1)
case $said in
*"apt install strace"*) ;;
*) echo "no hint at strace: $said"; exit 1 ;;
esac

command -v strace >/dev/null || exit 77
strace -f -o /dev/null true 2>/dev/null || exit 77
if ! "$record" -o "$folder/true.trace" true 2>"$folder/said"; then
	cat "$folder/said"
	grep -q -e seccomp -e prctl "$folder/said" && exit 77
	exit 1
fi
"$replay" "$folder/true.trace" || exit 1
"$record" -o "$folder/odd.trace.gz" "$program" || exit 1
"$replay" --readers 2 --loops 20 "$folder/odd.trace.gz" || exit 1
# The exit status of the command is the recorder's.
"$record" -o "$folder/false.trace" false 2>/dev/null
[ $? -eq 1 ]
