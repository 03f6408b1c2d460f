//go:build !cgo

package main

// static: this program needs nothing of the place where it runs.
const static = true
