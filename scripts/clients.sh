#!/bin/sh
# clients.sh: real BOINC clients run jobs through docker_wrapper: this machine's, which knows nothing of
# Docker, and a newer one in a container of its own. It provides what is missing, and leaves nothing
# running. A part that can't be had is a failure, never a skip.
set -eu
cd "$(dirname "$0")/.."

give_up() {
	echo "clients.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 5 "$2" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || give_up "the clients run as root and as the user boinc, which needs root"
mkdir -p .test
if ! command -v boinc >/dev/null || ! command -v boinccmd >/dev/null; then
	command -v apt-get >/dev/null || give_up "boinc and boinccmd are not installed, and installing them is only known for Debian"
	echo "clients.sh: installing boinc-client" >&2
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends boinc-client; } \
		>.test/apt.log 2>&1 </dev/null || give_up "the BOINC client could not be installed (apt-get install boinc-client)" .test/apt.log
fi
version=$(boinc --version | head -n 1)
case $version in
7.*) ;;
*) give_up "this machine's BOINC client is $version; one that knows nothing of Docker is wanted, such as Debian 12's 7.20.5 (a newer one would remove containers that are not its own)" ;;
esac
id boinc >/dev/null 2>&1 || give_up "there is no user boinc, which the package boinc-client makes"
getent group docker >/dev/null || give_up "there is no group docker, which the package docker.io makes"

work=$(mktemp -d)
chmod 755 "$work"
leave() {
	set +e
	docker ps -aq --filter "label=boinc_test_clients=$work" | xargs -r docker rm -fv >/dev/null 2>&1
	for dir in "$work"/clients_*; do
		[ -d "$dir" ] || continue # there are some only if the test was broken off
		pid=$(cat "$dir/client.pid" 2>/dev/null)
		if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$dir" ]; then
			kill "$pid"
			timeout 30 tail -s 0.2 -f --pid "$pid" /dev/null || kill -9 "$pid" # its jobs leave with it
		fi
		docker ps -aq --filter "label=boinc.data_dir=$dir" | xargs -r docker rm -fv >/dev/null
		docker images -q --filter "label=boinc.data_dir=$dir" | sort -u | xargs -r docker rmi -f >/dev/null
	done
	rm -rf "$work"
	scripts/engine.sh release
}
trap leave EXIT
trap 'exit 1' HUP INT TERM
scripts/engine.sh ensure
scripts/newer-world.sh
CGO_ENABLED=0 go test -c -tags clients -o "$work/clients.test" ./docker_wrapper
(cd docker_wrapper && TMPDIR=$work CLIENTS_RUN=$work "$work/clients.test" -test.parallel 64 -test.timeout 12m -test.run "^TestClients$")
