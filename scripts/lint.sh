#!/bin/sh
# lint.sh STATICCHECK PLATFORMS: check the code without running it.
set -eu
staticcheck=$1 platforms=$2
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || {
	echo "lint: not gofmt-ed: $unformatted" >&2
	exit 1
}
go vet ./...
go vet -tags "integration rootless clients faults" ./...
for os in windows darwin; do
	CGO_ENABLED=0 GOOS=$os go vet ./...
done
go run "$staticcheck" -tags "integration clients faults" ./...
for platform in $platforms; do
	echo "build $platform"
	CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/} go build -o /dev/null ./docker_wrapper
	CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/} go build -o /dev/null ./resolve/boinc_resolve
done
go mod verify >/dev/null
go mod tidy -diff
for script in $(git ls-files '*.sh'); do
	sh -n "$script"
done
echo "lint: ok"
