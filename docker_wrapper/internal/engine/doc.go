// Package engine is THE HANDS: it finds Docker or Podman and makes, starts, watches and removes
// images and containers through the Docker Engine API. It is the only importer of Docker's SDK, and
// the only place where an engine's errors are told apart.
//
// No command line is ever run and no text for people is ever parsed. Calls that change something
// can be repeated: what is already so is no error.
package engine
