//go:build unix

package slot

import (
	"errors"
	"os"
)

// SyncDir syncs a directory's entries to the disk.
func SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
