#!/bin/sh
# base-image.sh [NAME]: make sure that the image NAME (debian:bookworm-slim) is there.
#
# An image that is there stays as it is. Else it is pulled; where no registry answers in time, and
# NAME is one of Debian's, one of the same making is built with debootstrap (about 30 s, root).
#
# How Dockerfiles that start from it get their packages: `RUN apt-get update && apt-get install`
# works in an ordinary build, on the default network, where the engine hands the machine's name
# server on. The image made here knows the mirror it was made from, and the proxy and date
# settings of the machine's apt. As in Debian's own slim images, packages come without
# /usr/share/doc, so a sample that needs such a file has to bring it.
set -eu

name=${1:-debian:bookworm-slim}

give_up() {
	echo "base-image.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 20 "$2" >&2
	exit 1
}

command -v docker >/dev/null || give_up "the docker command is not installed"
if docker image inspect "$name" >/dev/null 2>&1; then
	exit 0
fi
timeout 10 docker version >/dev/null 2>&1 || give_up "no container engine answers; scripts/engine.sh ensure provides one"
if timeout 60 docker pull -q "$name" >/dev/null 2>&1; then
	exit 0
fi

case $name in
debian:*-slim) suite=${name#debian:} suite=${suite%-slim} ;;
*) give_up "$name could not be pulled, and only debian:SUITE-slim can be made here" ;;
esac
[ "$(id -u)" = 0 ] || give_up "$name could not be pulled, and only root can make it (debootstrap)"

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}") # not on a tmpfs, where device files may be forbidden
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root log=$work/log

if ! command -v debootstrap >/dev/null; then
	command -v apt-get >/dev/null || give_up "$name could not be pulled, and debootstrap, which could make it, is not installed"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -qq update && apt-get -qq install -y --no-install-recommends debootstrap debian-archive-keyring; } >"$log" 2>&1 </dev/null ||
		give_up "$name could not be pulled, and debootstrap, which could make it, not be installed" "$log"
fi

# The mirror that this machine uses, if it is a Debian; debootstrap knows one for all others.
# shellcheck disable=SC2016 # for apt
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
	sed -n '\,/debian/*$,{s,/*$,,p;q}') || mirror=
include=
case $mirror in https:*) include=--include=ca-certificates ;; esac
echo "base-image.sh: $name can't be pulled; making it with debootstrap" >&2
# shellcheck disable=SC2086 # nothing or a word
debootstrap --variant=minbase $include "$suite" "$root" $mirror >"$log" 2>&1 </dev/null ||
	give_up "$name could not be pulled, and debootstrap failed to make it" "$log"

# What the machine's apt needs to reach the mirror.
{
	apt-config dump 2>/dev/null | sed -nE '/Proxy-Auto-Detect/d; /^Acquire::(https?::(Proxy|Verify)|Check-|Retries)/p'
	[ -z "${http_proxy-}" ] || echo "Acquire::http::Proxy \"$http_proxy\";"
	[ -z "${https_proxy-}" ] || echo "Acquire::https::Proxy \"$https_proxy\";"
	echo 'Acquire::Languages "none";'
} >"$root/etc/apt/apt.conf.d/80machine"
cat >"$root/etc/dpkg/dpkg.cfg.d/80slim" <<'END'
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
path-include /usr/share/doc/*/copyright
path-include /usr/share/locale/locale.alias
END
# Services are not started in a build.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

find "$root/usr/share/doc" ! -type d ! -name copyright -delete
rm -rf "$root"/usr/share/info/* "$root"/usr/share/locale/*/ "$root"/usr/share/man/*/ \
	"$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* \
	"${root:?}"/dev/* "$root"/etc/hostname "$root"/etc/resolv.conf
tar -C "$root" --numeric-owner -c . | docker import -c 'CMD ["bash"]' - "$name" >/dev/null ||
	give_up "$name was made, but the engine did not take it"
