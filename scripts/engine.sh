#!/bin/sh
# engine.sh ensure    make sure that a Docker Engine answers; install and start one if none does
# engine.sh release   stop the engine that ensure started; leave any other alone
#
# An engine that answers at DOCKER_HOST, else at /var/run/docker.sock, is used as it is: Docker,
# or Podman's Docker-compatible socket. Only if none answers, and as root on Debian or a relative
# of it, Docker is installed and started, through systemd where that runs. Both verbs can be
# repeated, and ensure can be interrupted: what it started is on record before it runs.
#
# STATE_DIR (.test/engine) keeps that record and dockerd's log.
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

# Identity of a process: its number and when it began, so that a later process with the same
# number is not mistaken for it.
identity() {
	[ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ] || return 1
	echo "$1 $(cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null)"
}

# Prints the number of the dockerd on record, if it still runs.
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
		give_up "no container engine answers, and installing one is only known for Debian and its relatives: please install Docker"
	log=$state/install.log
	echo "engine.sh: installing Docker" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update >"$log" 2>&1 </dev/null || give_up "the list of packages, needed to install Docker, could not be had (apt-get update)" "$log"
	packages="docker.io iptables ca-certificates apparmor"
	if apt-cache show docker-cli >/dev/null 2>&1; then # Debian 13 has the command line apart
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
	# The new session keeps an interrupt at the keyboard away from it.
	# shellcheck disable=SC2016 # for the inner shell
	setsid sh -c 'echo $$ >"$0/dockerd.pid"; exec dockerd' "$state" >"$state/dockerd.log" 2>&1 </dev/null 9>&- &
}

stop_recorded() {
	pid=$(recorded) || return 0
	kill "$pid" 2>/dev/null || return 0
	tries=300 # 60 s: containers get 15 to end
	while recorded >/dev/null; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || give_up "dockerd (process $pid) was asked to stop and did not within 60 s" "$state/dockerd.log"
		sleep 0.2
	done
}

wait_for_answer() {
	tries=300 # 60 s, and what answers takes
	until answers; do
		tries=$((tries - 1))
		if pid=$(recorded); then
			identity "$pid" >"$state/dockerd.identity" || :
		elif [ $tries -lt 290 ] && [ ! -e "$state/systemd" ]; then
			give_up "no container engine answers, and dockerd ended right after its start" "$state/dockerd.log"
		fi
		if [ $tries -le 0 ]; then
			stop_recorded
			give_up "no container engine answers, and the dockerd that was started didn't within 60 s" "$state/dockerd.log"
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
	flock 9 # another ensure may be at it
	answers && return
	if ! recorded >/dev/null; then
		command -v dockerd >/dev/null || install_docker
		answers && return # the package starts its service where there is systemd
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
