#!/bin/sh
# fuzz.sh TIME: run each fuzz test for TIME and print how many inputs it tried. Fewer than 1000 are a failure, because
# such a run tests almost nothing.
set -eu
time=$1
least=1000
cd "$(dirname "$0")/.."
status=0

# timed_out OUTPUT: the test failed only because its time was over, a bug of go test before 1.27 (go.dev/issue/75804).
timed_out() {
	printf '%s\n' "$1" | grep -q '^ *context deadline exceeded$' && ! printf '%s\n' "$1" | grep -q '^ *Failing input written'
}

for package in $(go list ./...); do
	for test in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		# Without -fuzzminimizetime, go test spends up to a minute to minimize each input that reaches new code.
		if ! out=$(go test -run '^$' -fuzz "^$test\$" -fuzztime "$time" -fuzzminimizetime 1x "$package" 2>&1) && ! timed_out "$out"; then
			printf '%s\n' "$out"
			status=1
			continue
		fi
		inputs=$(printf '%s\n' "$out" | sed -n 's/^fuzz: .*execs: \([0-9]*\).*/\1/p' | tail -n 1)
		echo "$package $test: ${inputs:-0} inputs"
		if [ "${inputs:-0}" -lt $least ]; then
			echo "$package $test: want at least $least inputs in $time" >&2
			status=1
		fi
	done
done
exit $status
