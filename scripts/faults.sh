#!/bin/sh
# faults.sh: what goes wrong on volunteers' computers is done to the wrapper, its client and its engine, at
# each point of a job's life. FAULTS is a regular expression that chooses scenarios. It provides what is
# missing, and leaves nothing running. A part that can't be had is a failure, never a skip.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
chmod 755 "$work"
leave() {
	set +e
	docker ps -aq --filter "label=boinc_test_faults=$work" | xargs -r docker rm -fv >/dev/null 2>&1
	docker images -q --filter "label=boinc_test_faults=$work" | sort -u | xargs -r docker rmi -f >/dev/null 2>&1
	rm -rf "$work"
	scripts/engine.sh release
}
trap leave EXIT
trap 'exit 1' HUP INT TERM
scripts/engine.sh ensure
CGO_ENABLED=0 go test -c -tags faults -o "$work/faults.test" ./docker_wrapper
(cd docker_wrapper && TMPDIR=$work FAULTS_RUN=$work "$work/faults.test" -test.parallel 12 -test.timeout 12m -test.run "^TestFaults$")
