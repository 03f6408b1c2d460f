//go:build !linux || race

package main

// limitData does nothing on systems other than Linux and under the race detector. There only Go's own limit applies.
func limitData(uint64) {}
