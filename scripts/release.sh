#!/bin/sh
# release.sh VERSION PLATFORMS: build the binaries that a project ships, in dist/.
set -eu
version=$1 platforms=$2
cd "$(dirname "$0")/.."
mkdir -p dist
flags="-s -w -X main.version=$version"
for platform in $platforms; do
	os=${platform%/*} arch=${platform#*/} suffix=
	[ "$os" != windows ] || suffix=.exe
	for program in docker_wrapper resolve/boinc_resolve; do
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -ldflags "$flags" \
			-o "dist/${program##*/}_${version}_${os}_$arch$suffix" "./$program"
	done
done
# With NVML only for this platform, because cgo links the system's C library.
CGO_ENABLED=1 go build -trimpath -ldflags "$flags" -o "dist/docker_wrapper_${version}_linux_$(go env GOARCH)_nvml" ./docker_wrapper
for binary in dist/docker_wrapper_"$version"_*; do
	# The server's update_versions looks for this string. Without it clients use System V shared memory.
	grep -qa 'API_VERSION_8\.2\.15' "$binary" || {
		echo "release.sh: $binary doesn't carry the API version" >&2
		exit 1
	}
done
(cd dist && sha256sum ./*_"$version"_* >"SHA256SUMS_$version")
ls -l dist
