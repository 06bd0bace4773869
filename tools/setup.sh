# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# SPDX-FileCopyrightText: the libsheaf authors
#
# Sourced by the scripts beside it: goes to the top of the tree and sees to it that the
# packages they need are there.
#
#   need PACKAGE...                             installs what is missing, or prints the one
#                                               line that does, and ends
#   configure NAME "MESON OPTIONS"              sets up build/NAME, once, and again when packages
#                                               have come since: more may be found now
#   build NAME "MESON OPTIONS" "TEST OPTIONS" [needed]
#                                               sets up, builds (all, or what the tests need) and
#                                               tests build/NAME; adds it to $builds, and makes
#                                               $status 1 on failure

set -eu
# The limits of single cases, as timeout_multiplier in tests/meson.build is for whole tests.
export CK_TIMEOUT_MULTIPLIER=4
cd "$(dirname "$0")/.."

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

need() {
	local missing="" package as_root=""

	command -v dpkg-query >/dev/null || {
		echo "$0: this set-up knows Debian's packages only; install by hand: $*" >&2
		exit 1
	}
	for package; do
		installed "$package" || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0

	if [ "$(id -u)" != 0 ]; then
		as_root="sudo -n"
		if ! sudo -n true 2>/dev/null; then
			echo "$0: packages are missing; run this, then try again:" >&2
			echo "  sudo apt-get install$missing" >&2
			exit 1
		fi
	fi
	echo "installing:$missing"
	# The lists may be old or not there at all.
	$as_root apt-get update -qq || true
	# shellcheck disable=SC2086
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null || {
		echo "$0: apt-get could not install:$missing" >&2
		exit 1
	}
}

# What it takes to build and run the library and its tools.
BASE_PACKAGES="gcc libc6-dev meson ninja-build pkg-config liburcu-dev libck-dev zlib1g-dev"

configure() {
	local dir=build/$1 again=""

	if [ -f "$dir/build.ninja" ]; then
		[ /var/lib/dpkg/status -nt "$dir/build.ninja" ] || return 0
		again=--reconfigure
	fi
	mkdir -p build
	# shellcheck disable=SC2086
	meson setup $again "$dir" $2 >"$dir.log" 2>&1 || {
		cat "$dir.log"
		return 1
	}
}

status=0
builds=""

build() {
	local name=$1 dir=build/$1 start=$SECONDS

	echo "== $name"
	builds="$builds $dir"
	rm -f "$dir"/meson-logs/*.json
	if ! configure "$name" "$2" || ! { [ "${4-}" = needed ] || ninja -C "$dir" --quiet; }; then
		status=1
		return 0
	fi
	# One more than there are processors: some only wait.
	# shellcheck disable=SC2086
	meson test -C "$dir" --num-processes $(($(nproc) + 1)) --print-errorlogs $3 || status=1
	echo "== $name took $((SECONDS - start)) s"
}
