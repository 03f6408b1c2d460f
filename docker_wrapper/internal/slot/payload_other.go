//go:build !linux

package slot

import (
	"os"
	"syscall"
)

// reopen opens a file of the payload that was a regular file just before. Here containers run in a virtual machine and
// can't make devices of the host.
func reopen(root *os.Root, name string, flag int) (*os.File, error) {
	return root.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
}
