#!/bin/sh
# faults.sh: inject faults into the wrapper, the client and the engine in each phase of a job, as they happen on
# volunteers' computers. FAULTS is a regular expression that chooses scenarios. The script installs and starts missing
# parts and stops them at the end. If a part can't be provided, the script fails; it skips nothing. The output is also
# appended to the file TEST_LOG (see matrix.sh).
set -eu
cd "$(dirname "$0")/.."

give_up() {
	echo "faults.sh: $1" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || give_up "this script needs root, because the tests start engines and mount disks"
work=$(mktemp -d)
engines=$(mktemp -d /var/tmp/faults.XXXXXX) # on a disk, and short: a socket's path has 107 bytes at most
chmod 755 "$work"

# Ends a daemon that an interrupted test has left, by its pid file.
end() { # NAME DIRECTORY
	pid=$(cat "$2/$1.pid" 2>/dev/null) || return 0
	grep -qsaF "$2" "/proc/$pid/cmdline" || return 0 # it has ended
	kill "$pid"
	timeout 30 tail -s 0.2 -f --pid "$pid" /dev/null || kill -9 "$pid"
}

leave() {
	set +e
	docker ps -aq --filter "label=boinc_test_faults=$work" | xargs -r docker rm -fv >/dev/null 2>&1
	docker images -q --filter "label=boinc_test_faults=$work" | sort -u | xargs -r docker rmi -f >/dev/null 2>&1
	for dir in "$engines"/*; do
		[ -d "$dir" ] || continue # they exist only if the test was interrupted
		timeout 30 docker -H "unix://$dir/docker.sock" ps -aq 2>/dev/null | xargs -r timeout 30 docker -H "unix://$dir/docker.sock" rm -fv >/dev/null 2>&1
		end dockerd "$dir"
		end containerd "$dir"
	done
	grep -F -e " $work/" -e " $engines/" /proc/self/mounts | cut -d' ' -f2 | sort -r | xargs -r umount -l
	rm -rf "$work" "$engines"
	scripts/engine.sh release
}
trap leave EXIT
trap 'exit 1' HUP INT TERM
scripts/engine.sh ensure
command -v dockerd >/dev/null && command -v containerd >/dev/null || give_up "dockerd and containerd are missing; the tests start and kill engines of their own"
CGO_ENABLED=0 go test -c -tags faults -o "$work/faults.test" ./docker_wrapper
# Pass the test's status around the pipe, whose own status is tee's.
status=$({ { (cd docker_wrapper && TMPDIR=$work FAULTS_RUN=$work FAULTS_ENGINES=$engines "$work/faults.test" -test.parallel 12 -test.timeout 12m -test.run "^TestFaults$") 2>&1 && echo 0 >&4 || echo 1 >&4; } |
	tee -a "${TEST_LOG:-/dev/null}" >&3; } 4>&1) 3>&1
exit "$status"
