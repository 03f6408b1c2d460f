package gpu

import (
	"fmt"
	"io"
	"syscall"
)

// OpenDevices opens device files for reading and writing, as a program that computes with them would. It writes a line for each,
// "PATH: ok" or "PATH: REASON".
func OpenDevices(paths []string, w io.Writer) error {
	for _, path := range paths {
		answer := "ok"
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if err != nil {
			answer = err.Error()
		} else {
			syscall.Close(fd) // nothing was written
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", path, answer); err != nil {
			return err
		}
	}
	return nil
}
