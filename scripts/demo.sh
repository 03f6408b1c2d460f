#!/bin/sh
# demo.sh [SAMPLE]: run a sample as a BOINC client would. SAMPLE is its name or a directory (default: docking). The script
# starts an engine and builds the base image if they are missing. It stops an engine that it started.
set -eu
cd "$(dirname "$0")/.."
sample=samples/${1:-docking}

[ -d "$sample" ] || sample=${1-} # a directory
[ -f "$sample/sample.toml" ] || {
	echo "demo.sh: there is no sample $1 and no directory $1 with a sample.toml; the samples are: $(cd samples && ls */sample.toml | sed 's,/.*,,' | tr '\n' ' ')" >&2
	exit 1
}
trap 'scripts/engine.sh release' EXIT
trap 'exit 1' HUP INT TERM
scripts/engine.sh ensure
if grep -qs '^FROM debian' "$sample/Dockerfile"; then
	scripts/base-image.sh
fi
make -s build
go run ./samples/demo -sample "$sample"
