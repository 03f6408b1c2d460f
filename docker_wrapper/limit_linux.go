//go:build linux && !race

package main

import "golang.org/x/sys/unix"

// limitData bounds what this process may have of memory to write to: beyond it the process ends, and not another of this
// computer's. The race detector needs more. It is a soft limit, so that what the process starts may be given more.
func limitData(bytes uint64) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_DATA, &l) == nil && l.Cur > bytes {
		l.Cur = bytes
		unix.Setrlimit(unix.RLIMIT_DATA, &l) // without it, Go's own limit stays
	}
}
