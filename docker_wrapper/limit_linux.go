//go:build linux && !race

package main

import "golang.org/x/sys/unix"

// limitData limits this process's writable memory. Beyond the limit this process ends, and no other of this computer. The
// race detector needs more. The limit is soft, so that programs that the process starts may raise it.
func limitData(bytes uint64) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_DATA, &l) == nil && l.Cur > bytes {
		l.Cur = bytes
		unix.Setrlimit(unix.RLIMIT_DATA, &l) // if that fails, Go's own limit remains
	}
}
