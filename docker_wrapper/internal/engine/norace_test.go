//go:build !race

package engine

// Without the race detector nothing costs more.
const allocFactor, timeFactor = 1, 1
