#!/bin/sh
# engines.sh names             the engines that there are to test with
# engines.sh start NAME        start one, and say where it listens (unix://...)
# engines.sh run NAME COMMAND  run a command beside it: DOCKER_HOST and TEST_ENGINE_HOST name it, and
#                              127.0.0.1 is where it publishes ports
# engines.sh stop NAME         stop it, and remove all that was in it
#
# docker-host is this machine's own engine, by engine.sh. Each of the others is a container of that one,
# privileged as far as this machine allows, with a network, storage and processes of its own: what it runs
# ends with it, and this machine's bridges and storage are left alone. It sees the same /tmp.
# Their images are made when they are not there; `docker rmi` them to have newer ones next time.
set -eu
here=$PWD
cd "$(dirname "$0")/.."

give_up() {
	echo "engines.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 20 "$2" >&2
	exit 1
}

usage() {
	sed -n '2,6s/^# //p' scripts/engines.sh >&2
	exit 2
}

names="docker-host docker-28 podman-4 podman-5"
name=${2-}
dir=/tmp/boinc_test_engine_$(pwd | cksum | cut -d' ' -f1)_$name # short: a socket's path has at most 107 bytes
socket=$dir/engine.sock
container=${dir#/tmp/}

# image NAME BASE: an image with Podman in it. The network is the host's: only packages come that way.
podman_image() {
	if docker image inspect "$1" >/dev/null 2>&1; then return; fi
	echo "engines.sh: making $1" >&2
	mkdir -p .test
	docker build -q --force-rm --network host -t "$1" - >.test/engines.log 2>&1 <<-END || give_up "$1 could not be made" .test/engines.log
		FROM $2
		RUN apt-get -o Acquire::Check-Valid-Until=false update && \
		    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		        podman runc netavark aardvark-dns uidmap slirp4netns passt fuse-overlayfs iptables nftables ca-certificates && \
		    rm -rf /var/lib/apt/lists/*
	END
}

# What Podman needs where there is no systemd: its events in a file; runc, because Debian 12's crun
# refuses this machine's kind of control groups; limits that may be set.
# shellcheck disable=SC2016 # for the shell in the container
podman='mkdir -p /etc/containers
hard() { awk -v what="Max $1" "index(\$0, what) { print \$(NF - 1) }" /proc/self/limits; }
cat >/etc/containers/containers.conf <<END
[containers]
default_ulimits = ["nofile=$(hard "open files"):$(hard "open files")", "nproc=$(hard processes):$(hard processes)"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
exec podman system service --time=0'

start() {
	if [ "$name" = docker-host ]; then
		scripts/engine.sh ensure
		echo "${DOCKER_HOST:-unix:///var/run/docker.sock}"
		return
	fi
	if docker inspect "$container" >/dev/null 2>&1 && timeout 10 docker -H "unix://$socket" version >/dev/null 2>&1; then
		echo "unix://$socket"
		return
	fi
	[ "$(id -u)" = 0 ] || give_up "an engine in a container needs root"
	scripts/engine.sh ensure
	stop
	case $name in
	docker-28)
		scripts/newer-world.sh
		image=boinc_test_newer_world command="exec dockerd --host unix://$socket --cgroup-parent /$container" ;;
	podman-4)
		scripts/base-image.sh
		podman_image boinc_test_podman_4 debian:bookworm-slim
		image=boinc_test_podman_4 command="$podman unix://$socket" ;;
	podman-5)
		scripts/newer-world.sh
		podman_image boinc_test_podman_5 boinc_test_newer_world
		image=boinc_test_podman_5 command="$podman unix://$socket" ;;
	esac
	mkdir -p "$dir/cdi" # tests describe devices there
	# SYS_RESOURCE: a machine that is itself a container may lack it, and no engine needs it here.
	docker run -d --init --name "$container" --cgroupns host --cap-add ALL --cap-drop SYS_RESOURCE \
		--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined \
		--device-cgroup-rule 'a *:* rwm' --tmpfs /run:exec -v /tmp:/tmp -v "$dir/cdi:/etc/cdi" -v /sys/fs/cgroup:/sys/fs/cgroup \
		-v /var/lib/docker -v /var/lib/containers \
		"$image" sh -c "mount -o remount,rw /sys; mount -o remount,rw /proc/sys; $command" >/dev/null
	tries=150 # 30 s, and what answers takes
	until timeout 10 docker -H "unix://$socket" version >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] && [ "$(docker inspect -f '{{.State.Running}}' "$container")" = true ] || {
			docker logs "$container" >"$dir/log" 2>&1
			give_up "$name doesn't answer" "$dir/log"
		}
		sleep 0.2
	done
	if getent group docker >/dev/null; then # as Docker's package has it
		chgrp docker "$socket"
		chmod 660 "$socket"
		chmod 755 "$dir"
	fi
	echo "unix://$socket"
}

stop() {
	if [ "$name" = docker-host ]; then
		scripts/engine.sh release
		return
	fi
	if [ "$(docker inspect -f '{{.State.Running}}' "$container" 2>/dev/null)" = true ]; then
		# What ends by itself leaves no control groups behind.
		timeout 60 docker -H "unix://$socket" ps -aq 2>/dev/null | xargs -r timeout 60 docker -H "unix://$socket" rm -fv >/dev/null 2>&1 || :
		docker exec "$container" sh -c "rmdir /sys/fs/cgroup/*/libpod_parent/* /sys/fs/cgroup/*/libpod_parent /sys/fs/cgroup/*/$container" 2>/dev/null || :
	fi
	docker rm -fv "$container" >/dev/null 2>&1 || :
	rm -rf "$dir"
}

run() {
	host=$(start)
	if [ "$name" != docker-host ]; then
		pid=$(docker inspect -f '{{.State.Pid}}' "$container")
		set -- nsenter --net="/proc/$pid/ns/net" -- "$@"
	fi
	cd "$here"
	DOCKER_HOST=$host TEST_ENGINE_HOST=$host "$@"
}

case " $names " in *" ${name:-?} "*) ;; *) [ "${1-}" = names ] || usage ;; esac
case ${1-} in
names) echo "$names" ;;
start) start ;;
stop) stop ;;
run)
	[ $# -ge 3 ] || usage
	shift 2
	run "$@"
	;;
*) usage ;;
esac
