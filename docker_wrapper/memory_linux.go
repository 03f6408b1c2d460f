package main

import "golang.org/x/sys/unix"

// hostMemory is how many bytes of memory the host has; 0 where that isn't known.
func hostMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
