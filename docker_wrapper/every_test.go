package main

import "time"

// every looks until a condition comes true, and reports whether it did within limit. Where a look costs an engine more
// than the pause, the pauses are longer: what is waited for needs that engine, too.
func every(pause, limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); ; {
		began := time.Now()
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(max(pause, min(4*time.Since(began), time.Second)))
	}
}
