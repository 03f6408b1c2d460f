#!/bin/sh
# demo.sh [SAMPLE]: run a sample (docking) as a BOINC client would. Provides an engine and a base image
# where they are missing, and stops the engine if it started it.
set -eu
cd "$(dirname "$0")/.."
sample=${1:-docking}

[ -d "samples/$sample" ] || {
	echo "demo.sh: there is no sample $sample; there are: $(cd samples && ls */sample.toml | sed 's,/.*,,' | tr '\n' ' ')" >&2
	exit 1
}
trap 'scripts/engine.sh release' EXIT
trap 'exit 1' HUP INT TERM
scripts/engine.sh ensure
if grep -qs '^FROM debian' "samples/$sample/Dockerfile"; then
	scripts/base-image.sh
fi
make -s build
go run ./samples/demo -sample "samples/$sample"
