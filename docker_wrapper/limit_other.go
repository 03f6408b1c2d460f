//go:build !linux || race

package main

// limitData does nothing, on systems other than Linux and under the race detector: there Go's own limit is the only one.
func limitData(uint64) {}
