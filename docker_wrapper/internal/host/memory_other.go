//go:build !linux

package host

// Memory is unknown: containers have the memory of a virtual machine.
func Memory() int64 { return 0 }

// OOMKills is unknown, likewise.
func OOMKills() int64 { return -1 }
