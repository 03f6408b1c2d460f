#!/bin/sh
# newer-world.sh [NAME]: make sure that the image NAME (boinc_test_newer_world) is there.
#
# It holds Debian's next release with its BOINC client (8.2 or newer), Docker Engine and CRIU, for tests
# of what this machine's own release doesn't have yet. An image that is there stays as it is; else it
# is made with debootstrap (about a minute, root). `docker rmi NAME` to have a newer one next time.
set -eu

name=${1:-boinc_test_newer_world}
suite=forky

give_up() {
	echo "newer-world.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 20 "$2" >&2
	exit 1
}

command -v docker >/dev/null || give_up "the docker command is not installed"
if docker image inspect "$name" >/dev/null 2>&1; then
	exit 0
fi
timeout 10 docker version >/dev/null 2>&1 || give_up "no container engine answers; scripts/engine.sh ensure provides one"
[ "$(id -u)" = 0 ] || give_up "$name, which the newer BOINC client runs in, is not there, and only root can make it (debootstrap)"
exec 9>>"/run/$(echo "$name" | tr / _).lock"
flock 9 # whoever else wants it at the same time waits until it is made
if docker image inspect "$name" >/dev/null 2>&1; then
	exit 0
fi

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}") # not on a tmpfs, where device files may be forbidden
root=$work/root log=$work/log
leave() {
	umount -l "$root/proc" 2>/dev/null || :
	rm -rf --one-file-system "$work"
}
trap leave EXIT
trap 'exit 1' HUP INT TERM

if ! command -v debootstrap >/dev/null; then
	command -v apt-get >/dev/null || give_up "$name needs debootstrap, which is not installed"
	{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap debian-archive-keyring; } >"$log" 2>&1 </dev/null ||
		give_up "$name needs debootstrap, which can't be installed" "$log"
fi
# An older debootstrap doesn't know the name; all releases since 2017 are made alike.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid

# The mirror that this machine uses, or MIRROR.
# shellcheck disable=SC2016 # for apt
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
	sed -n '\,/debian/*$,{s,/*$,,p;q}') || mirror=
mirror=${MIRROR:-$mirror}
[ -n "$mirror" ] || give_up "$name is made from a Debian mirror, and this machine's apt knows none; please set MIRROR"
include=
case $mirror in https:*) include=--include=ca-certificates ;; esac
echo "newer-world.sh: making $name with debootstrap" >&2
# shellcheck disable=SC2086 # nothing or a word
debootstrap --variant=minbase $include "$suite" "$root" "$mirror" "$script" >"$log" 2>&1 </dev/null ||
	give_up "the newer BOINC client's world ($suite) could not be had (debootstrap)" "$log"

{
	apt-config dump 2>/dev/null | sed -nE '/Proxy-Auto-Detect/d; /^Acquire::(https?::(Proxy|Verify)|Check-|Retries)/p'
	[ -z "${http_proxy-}" ] || echo "Acquire::http::Proxy \"$http_proxy\";"
	[ -z "${https_proxy-}" ] || echo "Acquire::https::Proxy \"$https_proxy\";"
	echo 'Acquire::Check-Valid-Until "false";'
} >"$root/etc/apt/apt.conf.d/80machine"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # services are not started in it
chmod 755 "$root/usr/sbin/policy-rc.d"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
# No Podman: the client would look for that first.
{ chroot "$root" apt-get -qq update &&
	DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq install -y --no-install-recommends boinc-client docker.io docker-cli criu; } >>"$log" 2>&1 </dev/null ||
	give_up "the newer BOINC client could not be installed in its world" "$log"
umount "$root/proc"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "${root:?}"/dev/* "$root"/etc/hostname "$root"/etc/resolv.conf
tar -C "$root" --numeric-owner -c . | docker import - "$name" >/dev/null ||
	give_up "$name was made, but the engine did not take it"
