#!/bin/sh
# clients.sh: run jobs through docker_wrapper with two real BOINC clients. The older one is this host's and doesn't
# support Docker, the newer one runs in a container. The script installs and starts missing parts and stops them at the
# end. If a part can't be provided, the script fails; it skips nothing.
set -eu
cd "$(dirname "$0")/.."

give_up() {
	echo "clients.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 5 "$2" >&2
	exit 1
}

[ "$(id -u)" = 0 ] || give_up "this script needs root, because the clients run as root and as user boinc"
mkdir -p .test
if ! command -v boinc >/dev/null || ! command -v boinccmd >/dev/null; then
	command -v apt-get >/dev/null || give_up "boinc and boinccmd are not installed, and this script can only install them on Debian"
	echo "clients.sh: installing boinc-client" >&2
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends boinc-client; } \
		>.test/apt.log 2>&1 </dev/null || give_up "the BOINC client could not be installed (apt-get install boinc-client)" .test/apt.log
fi
version=$(boinc --version | head -n 1)
case $version in
7.*) ;;
*) give_up "this host's BOINC client is $version, but the tests need one without Docker support, such as Debian 12's 7.20.5 (a newer one would remove other clients' containers)" ;;
esac
id boinc >/dev/null 2>&1 || give_up "there is no user boinc; the package boinc-client creates it"
getent group docker >/dev/null || give_up "there is no group docker; the package docker.io creates it"

work=$(mktemp -d)
chmod 755 "$work"
leave() {
	set +e
	docker ps -aq --filter "label=boinc_test_clients=$work" | xargs -r docker rm -fv >/dev/null 2>&1
	for dir in "$work"/clients_*; do
		[ -d "$dir" ] || continue # they exist only if the test was interrupted
		pid=$(cat "$dir/client.pid" 2>/dev/null)
		if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$dir" ]; then
			kill "$pid"
			timeout 30 tail -s 0.2 -f --pid "$pid" /dev/null || kill -9 "$pid" # its jobs end with it
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
