package main

import "golang.org/x/sys/windows"

// freeSpace returns how many bytes this user may still write in a directory's file system; -1 if unknown.
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
