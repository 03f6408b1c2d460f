# make help lists the targets.

VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO         ?= go
STATIC      = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   = linux/amd64 linux/arm64 windows/amd64 darwin/arm64

# NVML's header marks functions that newer drivers no longer have as deprecated.
export CGO_CFLAGS ?= -g -O2 -Wno-deprecated-declarations

.PHONY: help build demo test clients faults matrix unit lint fuzz release container-test clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

build: ## build bin/docker_wrapper and bin/boinc_resolve, static, for this platform
	$(STATIC) -o bin/ ./docker_wrapper ./resolve/boinc_resolve

demo: ## run a sample as a BOINC client would; SAMPLE is its name or directory (default: docking); installs and starts an engine if none answers
	scripts/demo.sh $(SAMPLE)

test: ## all tests, with the race detector and a real engine; installs and starts an engine if none answers
	scripts/test.sh

clients: ## run jobs with two real BOINC clients, 7.20 and 8.2; needs root and Debian 12, installs boinc-client; about 6 minutes
	scripts/clients.sh

faults: ## more than 100 faults of the wrapper, the client and the engine, injected one by one; FAULTS=REGEXP chooses; about 4 minutes
	scripts/faults.sh

matrix: ## contract tests, samples and faults on Docker 20 and 28, Podman 4 and 5, in one table (-: not run); TESTS, FAULTS and ENGINES choose; about 20 minutes
	scripts/matrix.sh $(ENGINES)

unit: ## tests that need no engine
	$(GO) test ./...

lint: ## gofmt, vet and staticcheck, a build for each platform, the syntax of the scripts
	scripts/lint.sh '$(STATICCHECK)' '$(PLATFORMS)'

fuzz: ## run each fuzz test for 20 s
	scripts/fuzz.sh 20s

release: ## build dist/: static binaries for all platforms, and one with NVML for this platform
	scripts/release.sh '$(VERSION)' '$(PLATFORMS)'

container-test: ## all tests in a container, for a host that has only Docker
	docker build -f Dockerfile.test -t docker_wrapper_test .
	docker run --rm --network host -v /var/run/docker.sock:/var/run/docker.sock -v /tmp:/tmp docker_wrapper_test

clean: ## remove built files and the files of demo and tests
	rm -rf bin dist .demo .test
