//go:build unix

package main

import "golang.org/x/sys/unix"

// freeSpace is what this user may still write where a directory is, in bytes; -1 when unknown.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &st) != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
