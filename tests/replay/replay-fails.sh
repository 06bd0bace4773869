#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: the libsheaf authors
#
# replay-fails.sh PROGRAM FILE MESSAGE: the program must refuse the recording with exit
# status 1 (a crash or a checker has another one), and what it says about it must
# begin with "sheaf-replay: FILE" and MESSAGE.
program=$1 file=$2 message=$3

said=$("$program" --readers 2 "$file" 2>&1 >/dev/null)
status=$?
echo "$said"
if [ $status -ne 1 ]; then
	echo "exit status $status, not 1"
	exit 1
fi
case $said in
"sheaf-replay: $file$message"*) exit 0 ;;
esac
echo "not said: sheaf-replay: $file$message"
exit 1
