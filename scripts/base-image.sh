#!/bin/sh
# base-image.sh [NAME]: make sure that the image NAME (default: debian:bookworm-slim) exists.
#
# An existing image stays unchanged. A missing one is pulled. If no registry answers in time and NAME is
# debian:SUITE-slim, the script builds the image with debootstrap (about 30 s, root).
#
# A Dockerfile that starts from this image can install packages with `RUN apt-get update && apt-get install` on the
# default network, where the engine passes on the host's name server. The image uses the Debian mirror that it was built
# from, and the proxy and date settings of the host's apt. As in Debian's own slim images, packages are installed
# without /usr/share/doc. A sample that needs such a file must bring it.
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
*) give_up "$name could not be pulled, and this script can only build debian:SUITE-slim" ;;
esac
[ "$(id -u)" = 0 ] || give_up "$name could not be pulled, and only root can build it (debootstrap)"

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}") # not on a tmpfs, which may forbid device files
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root log=$work/log

if ! command -v debootstrap >/dev/null; then
	command -v apt-get >/dev/null || give_up "$name could not be pulled, and debootstrap, which could build it, is not installed"
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -qq update && apt-get -qq install -y --no-install-recommends debootstrap debian-archive-keyring; } >"$log" 2>&1 </dev/null ||
		give_up "$name could not be pulled, and debootstrap, which could build it, could not be installed" "$log"
fi

# The mirror in use, on a Debian host. On other hosts debootstrap has a default.
# shellcheck disable=SC2016 # apt expands it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 2>/dev/null |
	sed -n '\,/debian/*$,{s,/*$,,p;q}') || mirror=
include=
case $mirror in https:*) include=--include=ca-certificates ;; esac
echo "base-image.sh: $name can't be pulled; building it with debootstrap" >&2
# shellcheck disable=SC2086 # empty or one word
debootstrap --variant=minbase $include "$suite" "$root" $mirror >"$log" 2>&1 </dev/null ||
	give_up "$name could not be pulled, and debootstrap could not build it" "$log"

# The settings with which the host's apt reaches the mirror.
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
# Start no services in a build.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

find "$root/usr/share/doc" ! -type d ! -name copyright -delete
rm -rf "$root"/usr/share/info/* "$root"/usr/share/locale/*/ "$root"/usr/share/man/*/ \
	"$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* \
	"${root:?}"/dev/* "$root"/etc/hostname "$root"/etc/resolv.conf
tar -C "$root" --numeric-owner -c . | docker import -c 'CMD ["bash"]' - "$name" >/dev/null ||
	give_up "$name was built, but docker import failed"
