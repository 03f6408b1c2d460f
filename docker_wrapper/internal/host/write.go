package host

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file whole or not at all: also after a loss of power, name has its old content or the new one.
// perm is before umask, and is what the file has afterwards, also when there was one. A symlink of this name is
// replaced. Writers may run in parallel; the last one wins.
//
// A writer that is killed may leave a file NAME.RANDOM.part beside it.
func WriteFile(name string, data []byte, perm fs.FileMode) (err error) {
	part := name + "." + rand.Text() + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(part))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(part, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// remove removes a file that may be gone already.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
