//go:build unix

package host

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncNames writes the names in a directory to the disk. Some file systems can't (EINVAL, ENOTSUP: fsync(2)).
func syncNames(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
