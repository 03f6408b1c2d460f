//go:build !cgo

package main

// static reports that this program needs no shared libraries, so that it runs in any Linux container.
const static = true
