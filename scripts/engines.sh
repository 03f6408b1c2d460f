#!/bin/sh
# engines.sh names             the engines that there are to test with; with `rootless`, those without root
# engines.sh start NAME        start one, and say where it listens (unix://...)
# engines.sh run NAME COMMAND  run a command beside it: DOCKER_HOST and TEST_ENGINE_HOST name it, and
#                              127.0.0.1 is where it publishes ports
# engines.sh reboot NAME       what a loss of power does to one: all that runs in it is killed, what it has on its disk is
#                              there when it comes back, and what it had in memory is not
# engines.sh stop NAME         stop it, and remove all that was in it
#
# docker-host is this machine's own engine, by engine.sh, and docker-20 stands for it where that can't be rebooted. Each of the others is a container of that one,
# privileged as far as this machine allows, with a network, storage and processes of its own: what it runs
# ends with it, and this machine's bridges and storage are left alone. It sees the same /tmp.
# In the -rootless ones no engine listens: there a user boinc, without session, home in the environment and
# control groups of its own (the older may freeze, where groups are v1), has the program podman. In the -delegated one he has
# control groups v2 of his own, though no controllers. What is run beside it is run as that user, with this directory
# to be read. Beside any but docker-host it finds the programs that tests run in TEST_BINARIES.
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
	sed -n '2,8s/^# //p' scripts/engines.sh >&2
	exit 2
}

names="docker-host docker-28 podman-4 podman-5"
rootless_names="podman-4-rootless podman-5-rootless podman-5-delegated"
name=${2-}
dir=/tmp/boinc_test_engine_$(pwd | cksum | cut -d' ' -f1)_$name # short: a socket's path has at most 107 bytes
socket=$dir/engine.sock
container=${dir#/tmp/}

# engine_image NAME BASE PACKAGE...: an image with an engine in it. The network is the host's: only packages come that way.
engine_image() {
	exec 9>>"/run/$1.lock"
	flock 9 # engines of one image may be started at the same time
	if docker image inspect "$1" >/dev/null 2>&1; then
		exec 9>&-
		return
	fi
	echo "engines.sh: making $1" >&2
	mkdir -p .test
	image=$1 base=$2
	shift 2
	docker build -q --force-rm --network host -t "$image" - >".test/$image.log" 2>&1 <<-END || give_up "$image could not be made" ".test/$image.log"
		FROM $base
		RUN apt-get -o Acquire::Check-Valid-Until=false update && \
		    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iptables ca-certificates $* && \
		    rm -rf /var/lib/apt/lists/*
	END
	exec 9>&-
}

podmans="podman runc netavark aardvark-dns uidmap slirp4netns passt fuse-overlayfs nftables"

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

# The same for a user of its own number, because Podman's state is in /tmp where there is no session.
uid=$((20000 + $(echo "$dir" | cksum | cut -d' ' -f1) % 40000))
# His control groups, seen from within.
# shellcheck disable=SC2016 # for the shell in the container
group='/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/user'
rootless='set -e
if [ '$name' = podman-5-delegated ]; then
	umount -R /sys/fs/cgroup
	mount -t cgroup2 none /sys/fs/cgroup
	mkdir -p "'$group'/service"
fi
mount --make-rshared /
chmod 666 /dev/net/tun
userdel boinc 2>/dev/null || :
useradd -u '$uid' -U -d /var/lib/boinc -s /usr/sbin/nologin boinc
[ '$name' != podman-5-delegated ] || chown -R boinc "'$group'"
chown boinc:boinc /var/lib/boinc
[ '$name' != podman-4-rootless ] || chown boinc "/sys/fs/cgroup/freezer$(sed -n s/.*:freezer://p /proc/self/cgroup)" 2>/dev/null || :
echo boinc:100000:65536 >/etc/subuid
cp /etc/subuid /etc/subgid
mkdir -p /etc/containers
printf "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n" >/etc/containers/containers.conf
printf "[storage]\ndriver = \"overlay\"\n" >/etc/containers/storage.conf
ln -sf "$(command -v podman)" /usr/local/bin/docker # as the package podman-docker has it
exec sleep infinity'

# as_boinc COMMAND...: as a service of that user has it.
as_boinc() {
	set -- env -u HOME PODMAN_IGNORE_CGROUPSV1_WARNING=1 "$@"
	if [ "$name" = podman-5-delegated ]; then
		set -- sh -c "echo \$\$ >\"$group/service/cgroup.procs\"; exec setpriv --reuid=boinc --regid=boinc --clear-groups \"\$@\"" sh "$@"
		docker exec -i -w "$here" "$container" "$@"
		return
	fi
	docker exec -i -u boinc -w "$here" "$container" "$@"
}

# answers: the engine is there.
answers() {
	case $name in
	*-rootless | *-delegated) timeout 20 docker exec -u boinc "$container" podman info >/dev/null 2>&1 ;;
	*) timeout 10 docker -H "unix://$socket" version >/dev/null 2>&1 ;;
	esac
}

listens() {
	case $name in
	*-rootless | *-delegated) echo "podman system service" ;; # as the wrapper calls it
	*) echo "unix://$socket" ;;
	esac
}

start() {
	if [ "$name" = docker-host ]; then
		scripts/engine.sh ensure
		echo "${DOCKER_HOST:-unix:///var/run/docker.sock}"
		return
	fi
	if docker inspect "$container" >/dev/null 2>&1 && answers; then
		listens
		return
	fi
	[ "$(id -u)" = 0 ] || give_up "an engine in a container needs root"
	scripts/engine.sh ensure
	stop
	own= # what a -rootless one has beyond the others
	case $name in
	docker-20)
		scripts/base-image.sh
		engine_image boinc_test_docker_20 debian:bookworm-slim docker.io
		image=boinc_test_docker_20 command="exec dockerd --host unix://$socket --cgroup-parent /$container" ;;
	docker-28)
		scripts/newer-world.sh
		image=boinc_test_newer_world command="exec dockerd --experimental --host unix://$socket --cgroup-parent /$container" ;;
	podman-4*)
		scripts/base-image.sh
		engine_image boinc_test_podman_4 debian:bookworm-slim "$podmans" catatonit # the init process; the newer one is without
		image=boinc_test_podman_4 command="$podman unix://$socket" ;;
	podman-5*)
		scripts/newer-world.sh
		engine_image boinc_test_podman_5 boinc_test_newer_world "$podmans"
		image=boinc_test_podman_5 command="$podman unix://$socket" ;;
	esac
	case $name in *-rootless | *-delegated) command=$rootless own="--device /dev/net/tun -v /var/lib/boinc -v $(pwd):$(pwd):ro" ;; esac
	mkdir -p "$dir/cdi" # tests describe devices there
	# SYS_RESOURCE: a machine that is itself a container may lack it, and no engine needs it here.
	# shellcheck disable=SC2086 # a list
	docker run -d --init --name "$container" $own --cgroupns host --cap-add ALL --cap-drop SYS_RESOURCE \
		--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined \
		--device-cgroup-rule 'a *:* rwm' --tmpfs /run:exec -v /tmp:/tmp -v "$dir/cdi:/etc/cdi" -v /sys/fs/cgroup:/sys/fs/cgroup \
		-v /var/lib/docker -v /var/lib/containers \
		"$image" sh -c "mount -o remount,rw /sys; mount -o remount,rw /proc/sys; $command" >/dev/null
	wait_for_answer
	listens
}

wait_for_answer() {
	tries=150 # 30 s, and what answers takes
	until answers; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] && [ "$(docker inspect -f '{{.State.Running}}' "$container")" = true ] || {
			docker logs "$container" >"$dir/log" 2>&1
			give_up "$name doesn't answer" "$dir/log"
		}
		sleep 0.2
	done
	if [ -S "$socket" ] && getent group docker >/dev/null; then # as Docker's package has it
		chgrp docker "$socket"
		chmod 660 "$socket"
		chmod 755 "$dir"
	fi
}

# thaw PID lets go the processes of the container with that init process that are frozen: in the older kind of control
# groups they don't end, and keep the container from ending.
thaw() {
	ps -eo pid=,ppid= | awk -v init="$1" '
		{ parent[$1] = $2 }
		END { for (pid in parent) { for (p = pid; p > 1 && p != init; p = parent[p]); if (p == init) print pid } }' |
		while read -r pid; do
			state=/sys/fs/cgroup/freezer$(sed -n 's/^[0-9]*:freezer://p' "/proc/$pid/cgroup" 2>/dev/null)/freezer.state || continue
			if grep -qsE "FROZEN|FREEZING" "$state"; then echo THAWED >"$state" 2>/dev/null || :; fi
		done
}

reboot() {
	[ "$name" != docker-host ] || give_up "docker-host is not only ours"
	unset DOCKER_HOST # that of this machine
	init=$(docker inspect -f '{{.State.Pid}}' "$container")
	docker kill "$container" >/dev/null &
	while kill -0 $! 2>/dev/null; do # what is being restored at that moment is frozen a little later
		thaw "$init"
		sleep 0.2
	done
	wait $!
	rm -f "$socket"
	docker start "$container" >/dev/null
	wait_for_answer
}

stop() {
	if [ "$name" = docker-host ]; then
		scripts/engine.sh release
		return
	fi
	if [ "$(docker inspect -f '{{.State.Running}}' "$container" 2>/dev/null)" = true ]; then
		thaw "$(docker inspect -f '{{.State.Pid}}' "$container")"
		# What ends by itself leaves no control groups behind.
		case $name in *-rootless | *-delegated) timeout 60 docker exec -u boinc "$container" podman rm -faqt0 >/dev/null 2>&1 || : ;; esac
		timeout 60 docker -H "unix://$socket" ps -aq 2>/dev/null | xargs -r timeout 60 docker -H "unix://$socket" rm -fv >/dev/null 2>&1 || :
		docker exec "$container" sh -c "rmdir /sys/fs/cgroup/*/libpod_parent/* /sys/fs/cgroup/*/libpod_parent /sys/fs/cgroup/*/$container" 2>/dev/null || :
	fi
	docker rm -fv "$container" >/dev/null 2>&1 || :
	rm -rf "$dir" "/tmp/podman-run-$uid" "/tmp/storage-run-$uid" "/tmp/containers-user-$uid"
}

run() {
	host=$(start)
	if [ "$name" != docker-host ]; then # once for all that is run beside it
		CGO_ENABLED=0 go build -trimpath -o "$dir/bin/" ./docker_wrapper ./docker_wrapper/testdata/worker ./docker_wrapper/internal/engine/testdata/contract/payload
		CGO_ENABLED=0 go build -trimpath -o "$dir/bin/samples/" ./samples/hello/worker ./samples/universal/primes ./samples/checkpoint/sum
		export TEST_BINARIES="$dir/bin"
	fi
	case $name in *-rootless | *-delegated)
		as_boinc TEST_BINARIES="$TEST_BINARIES" "$@"
		return
		;;
	esac
	if [ "$name" != docker-host ]; then
		pid=$(docker inspect -f '{{.State.Pid}}' "$container")
		set -- nsenter --net="/proc/$pid/ns/net" -- "$@"
		case $name in podman-4 | podman-5)
			export FAULTS_PODMAN="nsenter --target $pid --all setpriv --pdeathsig TERM /usr/bin/podman" ;; # nsenter passes no signal on
		esac
	fi
	cd "$here"
	DOCKER_HOST=$host TEST_ENGINE_HOST=$host TEST_ENGINE_NAME=$name "$@"
}

case " $names docker-20 $rootless_names " in *" ${name:-?} "*) ;; *) [ "${1-}" = names ] || usage ;; esac
case ${1-} in
names) if [ "$name" = rootless ]; then echo "$rootless_names"; else echo "$names"; fi ;;
start) start ;;
stop) stop ;;
reboot) reboot ;;
run)
	[ $# -ge 3 ] || usage
	shift 2
	run "$@"
	;;
*) usage ;;
esac
