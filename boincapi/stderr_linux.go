package boincapi

import "golang.org/x/sys/unix"

// dupOnto exists because not every architecture of Linux has dup2, and macOS has no dup3.
func dupOnto(from, to int) error { return unix.Dup3(from, to, 0) }
