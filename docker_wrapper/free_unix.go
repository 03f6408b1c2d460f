//go:build unix

package main

import "golang.org/x/sys/unix"

// freeSpace returns how many bytes this user may still write in a directory's file system; -1 if unknown.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &st) != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
