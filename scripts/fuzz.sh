#!/bin/sh
# fuzz.sh TIME: run each fuzz test for so long.
set -eu
time=$1
cd "$(dirname "$0")/.."
for package in $(go list ./...); do
	for test in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		go test -run '^$' -fuzz "^$test\$" -fuzztime "$time" "$package"
	done
done
