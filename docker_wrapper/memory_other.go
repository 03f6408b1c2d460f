//go:build !linux

package main

// hostMemory isn't known: the engine has a virtual machine's memory here.
func hostMemory() int64 { return 0 }
