# Every target says what it does: make help

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO         ?= go
STATIC      = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   = linux/amd64 linux/arm64 windows/amd64 darwin/arm64

# NVML's header marks what newer drivers dropped; that is no news to us.
export CGO_CFLAGS ?= -g -O2 -Wno-deprecated-declarations

.PHONY: help build demo test clients faults matrix unit lint fuzz release container-test clean
.DEFAULT_GOAL := help

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

build: ## bin/docker_wrapper and bin/boinc_resolve, static, for this machine
	$(STATIC) -o bin/ ./docker_wrapper ./resolve/boinc_resolve

demo: ## run a sample as a BOINC client would; SAMPLE=NAME or a directory, else docking; installs and starts what is missing
	scripts/demo.sh $(SAMPLE)

test: ## all tests, race detector on, with a real engine, which is installed and started if need be
	scripts/test.sh

clients: ## real BOINC clients, an old and a new one, run jobs through the wrapper; as root, on Debian 12, whose boinc-client it installs; about 6 minutes
	scripts/clients.sh

faults: ## more than 100 things that go wrong are done to the wrapper and its engine; about 4 minutes; FAULTS=REGEXP for some
	scripts/faults.sh

matrix: ## contract tests, samples and faults on Docker 20 and 28, Podman 4 and 5, as one table (-: not run there); about 20 minutes; TESTS, FAULTS and ENGINES choose
	scripts/matrix.sh $(ENGINES)

unit: ## the tests that need no engine
	$(GO) test ./...

lint: ## gofmt, vet and staticcheck on all platforms; builds for all of them; the scripts' syntax
	scripts/lint.sh '$(STATICCHECK)' '$(PLATFORMS)'

fuzz: ## each fuzz test for 20 s
	scripts/fuzz.sh 20s

release: ## dist/: static binaries for all platforms, and one with NVML for this one
	scripts/release.sh '$(VERSION)' '$(PLATFORMS)'

container-test: ## all tests in a container, for a machine that has only Docker
	docker build -f Dockerfile.test -t docker_wrapper_test .
	docker run --rm --network host -v /var/run/docker.sock:/var/run/docker.sock -v /tmp:/tmp docker_wrapper_test

clean: ## remove what was built and what the demo left
	rm -rf bin dist .demo .test
