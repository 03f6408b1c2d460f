#!/bin/sh
# test.sh: run all tests, with the race detector and a real engine. The script installs and starts missing parts and
# stops them at the end. If a part can't be provided, the script fails; it skips nothing. TEST_LOG is a file for the
# output of the tests (see matrix.sh).
set -eu
cd "$(dirname "$0")/.."

need() { # PROGRAM PACKAGE...
	program=$1
	shift
	command -v "$program" >/dev/null && return
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "test.sh: $program is not installed, and installing it (apt-get install $*) needs root on Debian" >&2
		exit 1
	fi
	echo "test.sh: installing $*" >&2
	mkdir -p .test
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"; } \
		>.test/apt.log 2>&1 </dev/null || {
		echo "test.sh: $* can't be installed:" >&2
		tail -n 5 .test/apt.log >&2
		exit 1
	}
}

need gcc gcc libc6-dev # the race detector
need busybox busybox-static
trap 'scripts/engine.sh release' EXIT
trap 'exit 1' HUP INT TERM
scripts/engine.sh ensure
scripts/base-image.sh
export TEST_BUSYBOX=required
export CGO_CFLAGS="${CGO_CFLAGS:--g -O2 -Wno-deprecated-declarations}" # see Makefile
# These tests come first and by themselves: two measure time, and one removes the image of helpers that others use.
alone='^(TestOverhead|TestThrottled)$|^TestContract$/^engine$/^helper:_another_image'
all() { # -count=1: the engine may be another than the last time
	go test -race -count=1 -tags integration -timeout 15m -p 1 -run "$alone" "$@" ./docker_wrapper ./docker_wrapper/internal/engine &&
		go test -race -count=1 -tags integration -timeout 15m -p 4 -parallel 8 -skip "$alone" "$@" ./... # they mostly wait
}
if [ -z "${TEST_LOG-}" ]; then
	all
else
	all -v >"$TEST_LOG" 2>&1 || {
		grep -v -e '^=== ' -e '--- PASS' "$TEST_LOG"
		exit 1
	}
	grep '^ok' "$TEST_LOG"
fi
