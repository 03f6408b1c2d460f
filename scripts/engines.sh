#!/bin/sh
# engines.sh names             print the names of the engines to test with; `names rootless`: of those without root
# engines.sh start NAME        start an engine and print its address (unix://...)
# engines.sh run NAME COMMAND  start an engine and run a command next to it: DOCKER_HOST and TEST_ENGINE_HOST are its
#                              address, and it publishes ports on 127.0.0.1
# engines.sh reboot NAME       simulate a loss of power: kill all processes of the engine and start it again with its
#                              disk unchanged and its memory empty
# engines.sh stop NAME         stop an engine and remove everything in it
#
# docker-host is the host's own engine (engine.sh). docker-20 replaces it in tests that reboot the engine. Every engine
# but docker-host is a container of docker-host, privileged as far as the host allows. It has its own network, storage and
# processes: its containers end with it, and it doesn't change the host's bridges and storage. It shares the host's /tmp.
#
# In the -rootless and -delegated ones no engine listens. They have the program podman and a user account boinc, which has
# no session, no HOME and no control groups of its own. (podman-4 may use its freezer where control groups are v1.) In
# -delegated the account has its own control groups v2, without controllers. `run` runs the command as that user, with
# read access to this directory.
#
# Except next to docker-host, TEST_BINARIES is the directory with the programs that tests run. Missing images are built.
# To get newer ones, remove them with `docker rmi`.
set -eu
here=$PWD
cd "$(dirname "$0")/.."

give_up() {
	echo "engines.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 20 "$2" >&2
	exit 1
}

usage() {
	sed -n '2,8s/^# //p' scripts/engines.sh >&2 # the commands above
	exit 2
}

names="docker-host docker-28 podman-4 podman-5"
rootless_names="podman-4-rootless podman-5-rootless podman-5-delegated"
name=${2-}
dir=/tmp/boinc_test_engine_$(pwd | cksum | cut -d' ' -f1)_$name # short: a socket's path has 107 bytes at most
socket=$dir/engine.sock
container=${dir#/tmp/}

# engine_image NAME BASE PACKAGE...: build an image with an engine. Only its packages come over the host's network.
engine_image() {
	exec 9>>"/run/$1.lock"
	flock 9 # another engine with this image may be starting
	if docker image inspect "$1" >/dev/null 2>&1; then
		exec 9>&-
		return
	fi
	echo "engines.sh: building $1" >&2
	mkdir -p .test
	image=$1 base=$2
	shift 2
	docker build -q --force-rm --network host -t "$image" - >".test/$image.log" 2>&1 <<-END || give_up "$image could not be built" ".test/$image.log"
		FROM $base
		RUN apt-get -o Acquire::Check-Valid-Until=false update && \
		    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends iptables ca-certificates $* && \
		    rm -rf /var/lib/apt/lists/*
	END
	exec 9>&-
}

podmans="podman runc netavark aardvark-dns uidmap slirp4netns passt fuse-overlayfs nftables"

# Podman's configuration without systemd: events in a file; runc, because Debian 12's crun refuses the control groups
# here; limits that the container is allowed to set.
# shellcheck disable=SC2016 # the shell in the container expands it
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

# The same for a user whose number depends on the engine: without a session Podman keeps a user's state in /tmp, which
# all engines share.
uid=$((20000 + $(echo "$dir" | cksum | cut -d' ' -f1) % 40000))
# The account's control groups, seen from inside the container.
# shellcheck disable=SC2016 # the shell in the container expands it
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
ln -sf "$(command -v podman)" /usr/local/bin/docker # as in the package podman-docker
exec sleep infinity'

# as_boinc COMMAND...: run a command like a service of that user.
as_boinc() {
	set -- env -u HOME PODMAN_IGNORE_CGROUPSV1_WARNING=1 "$@"
	if [ "$name" = podman-5-delegated ]; then
		set -- sh -c "echo \$\$ >\"$group/service/cgroup.procs\"; exec setpriv --reuid=boinc --regid=boinc --clear-groups \"\$@\"" sh "$@"
		docker exec -i -w "$here" "$container" "$@"
		return
	fi
	docker exec -i -u boinc -w "$here" "$container" "$@"
}

# answers: succeed if the engine answers.
answers() {
	case $name in
	*-rootless | *-delegated) timeout 20 docker exec -u boinc "$container" podman info >/dev/null 2>&1 ;;
	*) timeout 10 docker -H "unix://$socket" version >/dev/null 2>&1 ;;
	esac
}

listens() {
	case $name in
	*-rootless | *-delegated) echo "podman system service" ;; # the wrapper's name for its own service
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
	own= # more options for a -rootless engine
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
		engine_image boinc_test_podman_4 debian:bookworm-slim "$podmans" catatonit # the init process; podman-5 is tested without one
		image=boinc_test_podman_4 command="$podman unix://$socket" ;;
	podman-5*)
		scripts/newer-world.sh
		engine_image boinc_test_podman_5 boinc_test_newer_world "$podmans"
		image=boinc_test_podman_5 command="$podman unix://$socket" ;;
	esac
	case $name in *-rootless | *-delegated) command=$rootless own="--device /dev/net/tun -v /var/lib/boinc -v $(pwd):$(pwd):ro" ;; esac
	mkdir -p "$dir/cdi" # for CDI specifications of tests
	# No SYS_RESOURCE: a host that is itself a container may lack it, and the engines don't need it.
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
	tries=150 # 30 s, plus the time of each try
	until answers; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] && [ "$(docker inspect -f '{{.State.Running}}' "$container")" = true ] || {
			docker logs "$container" >"$dir/log" 2>&1
			give_up "$name doesn't answer" "$dir/log"
		}
		sleep 0.2
	done
	if [ -S "$socket" ] && getent group docker >/dev/null; then # as Docker's package sets it
		chgrp docker "$socket"
		chmod 660 "$socket"
		chmod 755 "$dir"
	fi
}

# thaw PID: thaw the frozen processes of the container whose init process is PID. In control groups v1 a frozen process
# can't be killed, and then the container doesn't end.
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
	[ "$name" != docker-host ] || give_up "docker-host can't be rebooted: others may use it, too"
	unset DOCKER_HOST # use the host's engine
	init=$(docker inspect -f '{{.State.Pid}}' "$container")
	docker kill "$container" >/dev/null &
	while kill -0 $! 2>/dev/null; do # a process that is just being restored is frozen a little later
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
		# Remove containers first, so that their control groups go, too.
		case $name in *-rootless | *-delegated) timeout 60 docker exec -u boinc "$container" podman rm -faqt0 >/dev/null 2>&1 || : ;; esac
		timeout 60 docker -H "unix://$socket" ps -aq 2>/dev/null | xargs -r timeout 60 docker -H "unix://$socket" rm -fv >/dev/null 2>&1 || :
		docker exec "$container" sh -c "rmdir /sys/fs/cgroup/*/libpod_parent/* /sys/fs/cgroup/*/libpod_parent /sys/fs/cgroup/*/$container" 2>/dev/null || :
	fi
	docker rm -fv "$container" >/dev/null 2>&1 || :
	rm -rf "$dir" "/tmp/podman-run-$uid" "/tmp/storage-run-$uid" "/tmp/containers-user-$uid"
}

run() {
	host=$(start)
	if [ "$name" != docker-host ]; then # build the programs once for all tests
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
			export FAULTS_PODMAN="nsenter --target $pid --all setpriv --pdeathsig TERM /usr/bin/podman" ;; # nsenter doesn't forward signals
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
