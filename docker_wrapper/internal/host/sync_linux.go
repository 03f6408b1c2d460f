package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// SyncAll writes the whole file system of a directory to the disk, where the system can.
func SyncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}
