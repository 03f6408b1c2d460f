//go:build race

package engine

// allocFactor is how many times as much is allocated under the race detector: it empties sync.Pool at random.
const allocFactor = 16
