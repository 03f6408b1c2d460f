package main

import "golang.org/x/sys/windows"

// freeSpace is what this user may still write where a directory is, in bytes; -1 when unknown.
func freeSpace(dir string) int64 {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil || dir == "" {
		return -1
	}
	var free uint64
	if windows.GetDiskFreeSpaceEx(name, &free, nil, nil) != nil {
		return -1
	}
	return int64(free)
}
