// Package engine is THE HANDS: it finds Docker or Podman and makes, starts, watches and removes
// images and containers through the Docker Engine API. It is the only importer of Docker's SDK, and
// the only place where an engine's errors are told apart.
//
// One program is run: "podman system service", when no engine answers. An error is known by the
// engine's code, and by its words where codes don't tell (errors.go); a failed build also by the
// builder's output (build.go). Calls that change something can be repeated: what is already so is
// no error.
package engine
