// Package engine is THE HANDS: it finds Docker or Podman and makes, starts, watches and removes
// images and containers through the Docker Engine API. It is the only importer of Docker's SDK, and
// the only place that interprets an engine's error codes and texts.
//
// It runs one program: "podman system service", if no engine answers. It recognizes an error by the
// engine's code, and by its text if the code isn't enough (engine_errors.go); a failed build also by
// the builder's output (image_build.go). Calls that change something can be repeated: it is no error
// if nothing is left to do.
//
// Files:
//   - engine*.go: finding and opening an engine, its quirks and errors, Podman's own API
//   - image*.go: building, pulling, loading and collecting images, and what is checked before
//   - container*.go: a container from request to exit: copies, output, usage, pause, GPUs, proxy
//   - checkpoint.go: checkpoints with all processes, through the engine
//   - contract*_test.go: what is relied on, one row per fact, against a real engine
package engine
