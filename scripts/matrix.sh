#!/bin/sh
# matrix.sh [ENGINE...]: run the contract tests of package engine, the samples, other tests of the whole program and the
# fault scenarios on each engine, and print one table. The default is four engines: an old and a new Docker, an old and a
# new Podman. Podman without root (scripts/engines.sh) must be named. The script installs and starts missing parts and
# stops them at the end. An engine that can't be started is a failure.
#
# TESTS, FAULTS and REBOOTS are regular expressions that choose tests of the whole program, fault scenarios, and tests
# that reboot the engine. DOCKER_HOST_LOG is a file written by `make test` and `make faults` as TEST_LOG: docker-host's
# column is then taken from it and not run again. A dash means that a test was not run on that engine.
set -eu
cd "$(dirname "$0")/.."
engines=${*:-$(scripts/engines.sh names)}
tests=${TESTS:-^(TestSamples|TestOneBuild|TestUnusedImageGoes|TestAccountKeyStaysHidden|TestServiceUser|TestUsers|TestQuitAndComeBack|TestMail|TestWebGraphics|TestCommandLineIsTheJobs|TestNoHealthcheckRuns|TestOthersInputsStayHidden|TestParkedFilesAreBOINCs|TestStrangersContainersStay|TestGPU|TestGPUSample|TestParkedJobGivesItsMemoryBack|TestGoesOnAmongTheClientsFiles)\$}
# Scenarios that depend on the engine: each end of a job, each phase, and each request or loss that phases handle
# differently.
faults=${FAULTS:-^(exit code (0|3)|output .*|signal (9|15) .*|more memory than allowed|SIGTERM ignored, quit|build, (quit|abort)|(create|copy-in|copy-out|finish), (SIGKILL|quit)|(run|paused), (SIGTERM|SIGKILL|quit|abort|reset)|run, container (removed|stopped|killed|paused.*)|paused, container (unpaused|killed)|run, image removed|create, name taken|copy-out done, SIG.*|(run|copy-out), engine away for 5 s|two wrappers in one slot|(build|run|finish), service killed|run, service restarted|run, SIGKILL and service killed|wrapper.s own service.*)\$}
# Tests that reboot the engine come last, because its network is another one afterwards. docker-20 is rebooted in place
# of docker-host.
reboots=${REBOOTS:-^(TestCounterGoesOn|TestTransparentCheckpointsSurvive|TestOwnCheckpointsOutliveAReboot|TestRestoreBrokenOff)\$}
here=${DOCKER_HOST_LOG-}

work=$(mktemp -d)
chmod 755 "$work"
lanes='' others=''
leave() {
	set +e
	# shellcheck disable=SC2086 # a list
	[ -z "$lanes" ] || kill $lanes 2>/dev/null # if interrupted; the tests end with their engines
	for engine in $others; do scripts/engines.sh stop "$engine"; done
	scripts/engines.sh stop docker-host # last, because the others are its containers
	rm -rf "$work"
}
trap leave EXIT
trap 'exit 1' HUP INT TERM

export CGO_ENABLED=0
scripts/engines.sh start docker-host >/dev/null
scripts/base-image.sh
go test -c -tags integration -o "$work/engine.test" ./docker_wrapper/internal/engine
go test -c -tags integration,rootless -o "$work/wrapper.test" ./docker_wrapper
go test -c -tags faults -o "$work/faults.test" ./docker_wrapper

# results LOG TESTS: print a line "ok NAME" or "FAILED NAME" for each contract test, scenario and test of TESTS in LOG.
results() {
	awk -v tests="$2" '
		/^faults, .*: (ok|FAILED) after / {
			verdict = / ok after / ? "ok" : "FAILED"
			sub(/^faults, /, ""); sub(/: (ok|FAILED) after .*/, "")
			print verdict, "fault " $0
		}
		$1 == "---" && ($2 == "PASS:" || $2 == "FAIL:") { # a skipped test is left out and gets a dash
			n = split($3, part, "/")
			if (part[1] == "TestContract" ? n != 3 : part[1] == "TestSamples" ? n != 2 : n != 1) next # of these two tests only the sub-tests count
			if (part[1] == "TestContract" || part[1] ~ tests) print $2 == "PASS:" ? "ok" : "FAILED", $3
		}
		/^panic: / { print "FAILED", $0 }' "$1"
}

# step ENGINE DIRECTORY TEST ARGUMENT...: run a part of an engine's column. If it hangs or fails, the other parts still
# run. Failed tests are run once more, alone, because an engine under much load may be too slow. A test that passes then
# is listed as "by itself only"; one that fails again has failed.
step() {
	engine=$1 dir=$2 test=$3
	log=$work/$engine.$(basename "$3" .test).log
	shift 3
	(cd "$dir" && "$OLDPWD/scripts/engines.sh" run "$engine" "$test" -test.v -test.timeout 15m "$@") >"$log" 2>&1 || ended=badly
	results "$log" "$tests|$reboots" >"$log.first"
	if [ "${ended-}" = badly ] && ! grep -q ^FAILED "$log.first" || [ ! -s "$log.first" ]; then
		echo "FAILED all of $(basename "$test")" >>"$log.first"
	fi
	if [ "${ended-}" = badly ]; then # print it, too: the log files may not be kept
		grep -E '^ *(--- FAIL: |[a-z0-9_]+_test\.go:[0-9]+: |panic: )' "$log" | grep -A3 -B3 -e '--- FAIL' -e 'panic: ' -e "contract_test" | head -n 40 | sed "s,^,$engine $(basename "$test"): ," >&2
	fi
	ended=
	failed=$(sed -n 's/^FAILED //p' "$log.first")
	case $failed in
	'' | *panic:* | *"all of "*) : >"$log.again" ;;
	*)
		names=$(echo "$failed" | sed -e 's/^fault //' -e 's,^TestContract/engine/,,' -e 's,^TestSamples/.*,TestSamples,' -e 's/[][\.*^$()+?{}|]/\\&/g' | paste -sd '|')
		case $failed in
		TestContract/*) set -- -test.run "^TestContract\$/^engine\$/^($names)\$" ;;
		fault*) export FAULTS="^($names)\$" ;;
		*) set -- -test.run "^($names)\$" ;;
		esac
		(cd "$dir" && "$OLDPWD/scripts/engines.sh" run "$engine" "$test" -test.v -test.timeout 10m -test.parallel 1 "$@") >"$log.second" 2>&1 || :
		results "$log.second" "$tests|$reboots" >"$log.again"
		;;
	esac
	awk 'FILENAME == ARGV[1] { if ($1 == "ok") passed[substr($0, 4)] = 1; next }
		$1 == "FAILED" && substr($0, 8) in passed { print "again", substr($0, 8); next } { print }' "$log.again" "$log.first" >>"$work/$engine.results"
}

column() {
	if [ "$1" = docker-host ] && [ -n "$here" ]; then
		results "$here" "$tests" >"$work/$1.results" || echo "FAILED all of $here" >"$work/$1.results"
		return
	fi
	began=$(date +%s)
	host=$(scripts/engines.sh start "$1") || {
		echo "FAILED start" >"$work/$1.results"
		return
	}
	chosen=$tests skip='^$'
	case $1 in
	docker-host) ;;
	*-rootless | *-delegated) # no socket, no compiler, no samples that install packages
		docker save debian:bookworm-slim | scripts/engines.sh run "$1" podman load >/dev/null 2>&1
		[ -n "${TESTS-}" ] || chosen='^(TestSamples|TestRootless|TestRootlessGrants|TestAccountKeyStaysHidden|TestQuitAndComeBack|TestMail|TestWebGraphics)$'
		skip='^TestSamples$/^(docking|render)$'
		;;
	*) docker save debian:bookworm-slim | docker -H "$host" load >/dev/null ;;
	esac
	if [ "$1" != docker-20 ]; then
		step "$1" docker_wrapper/internal/engine "$work/engine.test" -test.parallel 4 -test.run '^TestContract$'
		# one after the other: Podman 4 can't collect images while another test removes one
		step "$1" docker_wrapper "$work/wrapper.test" -test.parallel 1 -test.run "$chosen" -test.skip "$skip"
	fi
	case $1 in *-rootless | *-delegated | docker-20) ;; *)
		mkdir "$work/$1"
		chmod 755 "$work/$1"
		export TMPDIR="$work/$1" FAULTS_RUN="$work/$1" FAULTS="$faults"
		step "$1" docker_wrapper "$work/faults.test" -test.parallel 6 -test.run '^TestFaults$'
		unset TMPDIR FAULTS_RUN FAULTS
		;;
	esac
	case $1 in *-rootless | *-delegated | docker-host) ;; *)
		ln -f "$work/wrapper.test" "$work/reboots.test"
		step "$1" docker_wrapper "$work/reboots.test" -test.run "$reboots"
		;;
	esac
	[ "$1" = docker-host ] || scripts/engines.sh stop "$1"
	echo "matrix.sh: $1 took $(($(date +%s) - began)) s" >&2
}

# Run the engines at the same time, because tests mostly wait for containers. docker-host runs the others as its
# containers, so its column comes after them.
others=$(echo "$engines" | sed 's/docker-host/docker-20/')
for engine in $others; do
	column "$engine" &
	lanes="$lanes $!"
done
for lane in $lanes; do wait "$lane" || :; done
lanes=''
for engine in $others; do
	[ -s "$work/$engine.results" ] || echo "FAILED all of $engine" >"$work/$engine.results"
done
case $engines in *docker-host*)
	column docker-host
	cat "$work/docker-20.results" >>"$work/docker-host.results"
	;;
esac

# One line for each group of contract tests, each test and each scenario; one column for each engine: how many passed, or
# failed.
status=0
awk -v engines="$engines" '
	FNR == 1 { engine = FILENAME; sub(/.*\//, "", engine); sub(/\.results$/, "", engine) }
	{
		verdict = $1; name = what = substr($0, length($1) + 2)
		if (sub(/^TestContract\/engine\//, "", name)) { sub(name ~ /:/ ? ":.*" : "_.*", "", name); name = "contract " name }
		if (!(name in seen)) { seen[name] = 1; names[++lines] = name }
		if (verdict == "FAILED") { failed[name, engine]++; bad++; list[++listed] = "FAIL " engine ": " what }
		else { passed[name, engine]++; good++ }
		if (verdict == "again") list[++listed] = "by itself only " engine ": " what
	}
	END {
		count = split(engines, e, " ")
		printf "%-44s", ""
		for (i = 1; i <= count; i++) printf "%19s", e[i]
		print ""
		for (l = 1; l <= lines; l++) {
			some = 0
			for (i = 1; i <= count; i++) some += (names[l], e[i]) in passed || (names[l], e[i]) in failed
			if (some == 1 && ((names[l], "docker-host") in passed)) { alone++; continue }
			printf "%-44s", names[l]
			for (i = 1; i <= count; i++) {
				p = passed[names[l], e[i]] + 0; f = failed[names[l], e[i]] + 0
				printf "%19s", f ? f " of " p + f " FAIL" : p ? (p == 1 ? "ok" : p " ok") : "-"
			}
			print ""
		}
		if (alone && count > 1) printf "and on docker-host alone%34s\n", alone " ok"
		for (i = 1; i <= count; i++) {
			if (!(("contract build", e[i]) in passed)) { bad++; print "FAIL " e[i] ": the contract test was not run" }
		}
		for (i = 1; i <= listed; i++) print list[i]
		printf "%d passed, %d failed\n", good, bad
		exit bad > 0 || good == 0
	}' $(for engine in $engines; do echo "$work/$engine.results"; done) || status=1
if [ $status != 0 ] || [ -n "$(find "$work" -maxdepth 1 -name '*.log.second')" ]; then
	mkdir -p .test
	cp "$work"/*.log* .test/
	echo "matrix.sh: all output is in .test/" >&2
fi
exit $status
