#!/bin/sh
# matrix.sh [ENGINE...]: what the engine room promises, and the samples, on each of four engines: Docker and
# Podman, an old and a new one (scripts/engines.sh), as one table. It provides what is missing, and leaves
# nothing running. TESTS is a regular expression that chooses among the tests of the whole program.
set -eu
cd "$(dirname "$0")/.."
engines=${*:-$(scripts/engines.sh names)}
tests=${TESTS:-^(TestSamples|TestOneBuild|TestAccountKeyStaysHidden|TestServiceUser|TestQuitAndComeBack|TestMail|TestWebGraphics|TestGPU|TestGPUSample)\$}

work=$(mktemp -d)
chmod 755 "$work"
leave() {
	set +e
	for engine in $engines; do
		[ "$engine" = docker-host ] || scripts/engines.sh stop "$engine"
	done
	scripts/engines.sh stop docker-host # last: the others are its containers
	rm -rf "$work"
}
trap leave EXIT
trap 'exit 1' HUP INT TERM

export CGO_ENABLED=0
scripts/engines.sh start docker-host >/dev/null
scripts/base-image.sh
go test -c -tags integration -o "$work/engine.test" ./docker_wrapper/internal/engine
go test -c -tags integration -o "$work/wrapper.test" ./docker_wrapper

for engine in $engines; do
	log=$work/$engine.log
	echo "matrix.sh: $engine" >&2
	host=$(scripts/engines.sh start "$engine") || {
		echo "    --- FAIL: start (0s)" >"$log"
		continue
	}
	if [ "$engine" != docker-host ]; then
		docker save debian:bookworm-slim | docker -H "$host" load >/dev/null
	fi
	# A test that hangs or fails costs its own engine's column only.
	(cd docker_wrapper/internal/engine &&
		../../../scripts/engines.sh run "$engine" "$work/engine.test" -test.v -test.parallel 4 -test.timeout 5m -test.run '^TestContract$') >"$log" 2>&1 || :
	(cd docker_wrapper &&
		../scripts/engines.sh run "$engine" "$work/wrapper.test" -test.v -test.timeout 5m -test.run "$tests") >>"$log" 2>&1 || :
	[ "$engine" = docker-host ] || scripts/engines.sh stop "$engine"
done

# One line for each room's facts and for each test, one column for each engine: how many passed, or which failed.
status=0
awk -v engines="$engines" '
	FNR == 1 { engine = FILENAME; sub(/.*\//, "", engine); sub(/\.log$/, "", engine); last = "" }
	$1 == "---" && ($2 == "PASS:" || $2 == "FAIL:") {
		n = split($3, part, "/")
		if (part[1] == "TestContract" && n != 3) next # a row of rows counts by those
		if (part[1] == "TestContract") { name = part[3]; sub(name ~ /:/ ? ":.*" : "_.*", "", name); name = "contract " name }
		else if (n > 1 || part[1] == "TestSamples") { if (n == 1) next; name = part[1] " " part[2] }
		else name = part[1]
		if (!(name in seen)) { seen[name] = 1; names[++lines] = name }
		if ($2 == "PASS:") { passed[name, engine]++; good++ }
		else { failed[name, engine]++; bad++; list[++fails] = engine ": " $3 }
	}
	/^panic: / { bad++; list[++fails] = engine ": " $0 }
	END {
		count = split(engines, e, " ")
		printf "%-42s", ""
		for (i = 1; i <= count; i++) printf "%14s", e[i]
		print ""
		for (l = 1; l <= lines; l++) {
			printf "%-42s", names[l]
			for (i = 1; i <= count; i++) {
				p = passed[names[l], e[i]] + 0; f = failed[names[l], e[i]] + 0
				printf "%14s", f ? f " of " p + f " FAIL" : p ? (p == 1 ? "ok" : p " ok") : "-"
			}
			print ""
		}
		for (i = 1; i <= fails; i++) print "FAIL " list[i]
		printf "%d passed, %d failed\n", good, bad
		exit bad > 0 || good == 0
	}' $(for engine in $engines; do echo "$work/$engine.log"; done) || status=1
if [ $status != 0 ]; then
	mkdir -p .test
	cp "$work"/*.log .test/
	echo "matrix.sh: all output is in .test/" >&2
fi
exit $status
