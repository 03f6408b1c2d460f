#!/bin/sh
# newer-world.sh [NAME]: make sure that the image NAME (default: boinc_test_newer_world) exists.
#
# The image contains Debian's next release with its BOINC client (8.2 or newer), Docker Engine and CRIU. Tests use it for
# versions that Debian 12 doesn't have. An existing image stays unchanged. A missing one is built with debootstrap
# (about a minute, root). To get a newer one, remove it with `docker rmi NAME`.
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
[ "$(id -u)" = 0 ] || give_up "the image $name for the newer BOINC client is missing, and only root can build it (debootstrap)"
exec 9>>"/run/$(echo "$name" | tr / _).lock"
flock 9 # another script may be building it
if docker image inspect "$name" >/dev/null 2>&1; then
	exit 0
fi

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}") # not on a tmpfs, which may forbid device files
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
# An older debootstrap doesn't know the release's name, but builds all releases since 2017 in the same way.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid

# MIRROR, or the host's mirror.
# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
	sed -n '\,/debian/*$,{s,/*$,,p;q}') || mirror=
mirror=${MIRROR:-$mirror}
[ -n "$mirror" ] || give_up "$name is built from a Debian mirror, and this host's apt has none; please set MIRROR"
include=
case $mirror in https:*) include=--include=ca-certificates ;; esac
echo "newer-world.sh: building $name with debootstrap" >&2
# shellcheck disable=SC2086 # empty or one word
debootstrap --variant=minbase $include "$suite" "$root" "$mirror" "$script" >"$log" 2>&1 </dev/null ||
	give_up "debootstrap could not install Debian $suite for the newer BOINC client" "$log"

{
	apt-config dump 2>/dev/null | sed -nE '/Proxy-Auto-Detect/d; /^Acquire::(https?::(Proxy|Verify)|Check-|Retries)/p'
	[ -z "${http_proxy-}" ] || echo "Acquire::http::Proxy \"$http_proxy\";"
	[ -z "${https_proxy-}" ] || echo "Acquire::https::Proxy \"$https_proxy\";"
	echo 'Acquire::Check-Valid-Until "false";'
} >"$root/etc/apt/apt.conf.d/80machine"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # start no services
chmod 755 "$root/usr/sbin/policy-rc.d"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
# No Podman, because the client prefers it to Docker.
{ chroot "$root" apt-get -qq update &&
	DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get -qq install -y --no-install-recommends boinc-client docker.io docker-cli criu; } >>"$log" 2>&1 </dev/null ||
	give_up "the newer BOINC client could not be installed in the image" "$log"
umount "$root/proc"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "${root:?}"/dev/* "$root"/etc/hostname "$root"/etc/resolv.conf
tar -C "$root" --numeric-owner -c . | docker import - "$name" >/dev/null ||
	give_up "$name was built, but docker import failed"
