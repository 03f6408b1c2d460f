//go:build unix

package host

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncDir writes the names in a directory to the disk. Some file systems can't (EINVAL, ENOTSUP: fsync(2)).
func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}
