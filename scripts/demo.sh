#!/bin/sh
# demo.sh [SAMPLE]: run a sample (docking), or that of another directory, as a BOINC client would. Provides an engine and a base image
# where they are missing, and stops the engine if it started it.
set -eu
cd "$(dirname "$0")/.."
sample=samples/${1:-docking}

[ -d "$sample" ] || sample=${1-} # a directory of one's own
[ -f "$sample/sample.toml" ] || {
	echo "demo.sh: there is no sample $1, nor a directory $1 with a sample.toml; there are: $(cd samples && ls */sample.toml | sed 's,/.*,,' | tr '\n' ' ')" >&2
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
