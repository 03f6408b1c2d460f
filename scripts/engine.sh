#!/bin/sh
# engine.sh ensure    make sure that a Docker Engine answers; install and start one if none does
# engine.sh release   stop the engine that ensure started; leave any other alone
#
# An engine that answers at DOCKER_HOST (default: /var/run/docker.sock) is used as it is: Docker, or Podman's
# Docker-compatible socket. If none answers, ensure installs and starts Docker, through systemd if that is running. This
# needs root on Debian or a distribution derived from it. Both commands can be repeated. ensure can be interrupted: it
# writes down what it is about to start first.
#
# STATE_DIR (default: .test/engine) has that record and dockerd's log.
set -eu

state=${STATE_DIR:-.test/engine}
socket=/var/run/docker.sock

give_up() {
	echo "engine.sh: $1" >&2
	[ -z "${2-}" ] || tail -n 20 "$2" >&2
	exit 1
}

answers() {
	host=${DOCKER_HOST:-unix://$socket}
	case $host in unix://*) [ -S "${host#unix://}" ] || return 1 ;; esac
	if command -v docker >/dev/null; then
		timeout 10 docker version >/dev/null 2>&1
		return
	fi
	case $host in
	unix://*) timeout 10 curl -fs --unix-socket "${host#unix://}" http://engine/_ping >/dev/null 2>&1 ;;
	tcp://*) timeout 10 curl -fs "http://${host#tcp://}/_ping" >/dev/null 2>&1 ;;
	*) return 1 ;;
	esac
}

# Identity of a process: its number and its start time, because a later process may get the same number.
identity() {
	[ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ] || return 1
	echo "$1 $(cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null)"
}

# Prints the process number of the dockerd on record, if it is still running.
recorded() {
	pid=$(cat "$state/dockerd.pid" 2>/dev/null) || return 1
	[ -n "$pid" ] || return 1
	now=$(identity "$pid") || return 1
	# no identity on record: ensure was interrupted right after the start
	[ "$now" = "$(cat "$state/dockerd.identity" 2>/dev/null || echo "$now")" ] || return 1
	echo "$pid"
}

install_docker() {
	command -v apt-get >/dev/null ||
		give_up "no container engine answers, and this script can only install one on Debian and distributions derived from it: please install Docker"
	log=$state/install.log
	echo "engine.sh: installing Docker" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update >"$log" 2>&1 </dev/null || give_up "Docker could not be installed, because apt-get update failed" "$log"
	packages="docker.io iptables ca-certificates apparmor"
	if apt-cache show docker-cli >/dev/null 2>&1; then # a package of its own since Debian 13
		packages="$packages docker-cli"
	fi
	# shellcheck disable=SC2086 # a list
	apt-get -qq install -y --no-install-recommends $packages >>"$log" 2>&1 </dev/null ||
		give_up "Docker could not be installed (apt-get install $packages)" "$log"
}

start_docker() {
	if [ -d /run/systemd/system ]; then
		: >"$state/systemd"
		systemctl start docker 9>&- || give_up "no container engine answers, and systemd could not start docker (see journalctl -u docker)"
		return
	fi
	rm -f "$state/dockerd.identity"
	# In a new session it gets no SIGINT from the keyboard.
	# shellcheck disable=SC2016 # the inner shell expands it
	setsid sh -c 'echo $$ >"$0/dockerd.pid"; exec dockerd' "$state" >"$state/dockerd.log" 2>&1 </dev/null 9>&- &
}

stop_recorded() {
	pid=$(recorded) || return 0
	kill "$pid" 2>/dev/null || return 0
	tries=300 # 60 s; dockerd gives containers 15 s to end
	while recorded >/dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || give_up "dockerd (process $pid) did not stop within 60 s" "$state/dockerd.log"
		sleep 0.2
	done
}

wait_for_answer() {
	tries=300 # 60 s, plus the time of each try
	until answers; do
		tries=$((tries - 1))
		if pid=$(recorded); then
			identity "$pid" >"$state/dockerd.identity" || :
		elif [ $tries -lt 290 ] && [ ! -e "$state/systemd" ]; then
			give_up "no container engine answers: dockerd ended right after its start" "$state/dockerd.log"
		fi
		if [ $tries -le 0 ]; then
			stop_recorded
			give_up "no container engine answers: dockerd was started and did not answer within 60 s" "$state/dockerd.log"
		fi
		sleep 0.2
	done
	if pid=$(recorded); then identity "$pid" >"$state/dockerd.identity"; fi
}

ensure() {
	answers && return
	case ${DOCKER_HOST:-unix://$socket} in
	"unix://$socket" | unix:///run/docker.sock) ;;
	*) give_up "no container engine answers at $DOCKER_HOST (DOCKER_HOST)" ;;
	esac
	[ "$(id -u)" = 0 ] || give_up "no container engine answers at $socket, and only root can start one: please start Docker, or set DOCKER_HOST"
	mkdir -p "$state"
	exec 9>"$state/lock"
	flock 9 # another ensure may be running
	answers && return
	if ! recorded >/dev/null; then
		command -v dockerd >/dev/null || install_docker
		answers && return # with systemd, installing the package starts the service
		start_docker
	fi
	wait_for_answer
}

release() {
	[ -d "$state" ] || return 0
	exec 9>"$state/lock"
	flock 9
	stop_recorded
	if [ -e "$state/systemd" ]; then
		systemctl stop docker.socket docker.service
	fi
	rm -f "$state/dockerd.pid" "$state/dockerd.identity" "$state/systemd"
}

case ${1-} in
ensure) ensure ;;
release) release ;;
*)
	echo "usage: engine.sh ensure|release" >&2
	exit 2
	;;
esac
