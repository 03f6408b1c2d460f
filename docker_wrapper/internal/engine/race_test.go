//go:build race

package engine

// How many times as much is allocated under the race detector, which empties sync.Pool at random, and how many times as long
// a program takes (go.dev/doc/articles/race_detector: 2 to 20).
const allocFactor, timeFactor = 16, 10
