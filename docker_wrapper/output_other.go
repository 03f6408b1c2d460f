//go:build !linux

package main

import (
	"fmt"
	"io"
)

// writeOutput runs only in containers, which are Linux's.
func writeOutput(_ []string, stderr io.Writer) int {
	fmt.Fprintln(stderr, "docker_wrapper: this program doesn't run in containers")
	return 125
}
