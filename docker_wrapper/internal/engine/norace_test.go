//go:build !race

package engine

// allocFactor is 1 without the race detector.
const allocFactor = 1
