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
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer root.Close()
	base := filepath.Base(name)
	return ReplaceSynced(root, base+"."+rand.Text()+".part", base, perm, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// Replace makes the file name whole or not at all: fill writes a new file part, which is renamed to name. Both names are
// below root and in the same file system. A file or directory part that an earlier call has left is removed first. perm
// is before umask. If an error is returned, part is gone and name is unchanged.
//
// After a loss of power the file may be empty. Replace is for files that are then made again.
func Replace(root *os.Root, part, name string, perm fs.FileMode, fill func(*os.File) error) error {
	if err := root.RemoveAll(part); err != nil {
		return err
	}
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	err = errors.Join(fill(f), f.Close())
	if err == nil {
		err = root.Rename(part, name)
	}
	if err != nil {
		err = errors.Join(err, root.RemoveAll(part))
	}
	return err
}

// ReplaceSynced is Replace for a file that nothing makes again. When it returns, the file is on the disk. After a loss
// of power during the call, name has its old content or the new one.
func ReplaceSynced(root *os.Root, part, name string, perm fs.FileMode, fill func(*os.File) error) error {
	err := Replace(root, part, name, perm, func(f *os.File) error {
		if err := fill(f); err != nil {
			return err
		}
		return f.Sync() // without it the rename may reach the disk before the data
	})
	if err != nil {
		return err
	}
	return syncDir(root.Open(filepath.Dir(name)))
}

// SyncDir writes the names in a directory to the disk. In file systems that can't, and on Windows, it does nothing.
func SyncDir(name string) error { return syncDir(os.Open(name)) }

func syncDir(dir *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(syncNames(dir), dir.Close())
}
