//go:build unix

package slot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Foreign reports whether something below dir belongs to another user than uid, or can't be looked at
// by this one.
func Foreign(dir string, uid int) bool {
	errForeign := errors.New("foreign")
	return filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
			return errForeign
		}
		return nil
	}) != nil
}

// Own gives all that is below dir to a user, who can then read and remove it. No link is followed. It
// needs root's rights.
func Own(dir string, uid, gid int) error {
	root, err := os.OpenRoot(dir)
	if err == nil {
		err = errors.Join(ownOne(root, ".", uid, gid), ownAll(root, uid, gid), root.Close())
	}
	if err != nil {
		return fmt.Errorf("give files to user %d: %w", uid, err)
	}
	return nil
}

// ownAll gives away what is in a directory. It goes from one directory into the next, because a way from the
// top would be walked anew for every file.
func ownAll(dir *os.Root, uid, gid int) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		if err := ownOne(dir, e.Name(), uid, gid); err != nil {
			return err
		}
		if !e.IsDir() {
			continue
		}
		below, err := dir.OpenRoot(e.Name())
		if err != nil {
			return err
		}
		if err := errors.Join(ownAll(below, uid, gid), below.Close()); err != nil {
			return err
		}
	}
	return nil
}

func ownOne(dir *os.Root, name string, uid, gid int) error {
	fi, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	if err := dir.Lchown(name, uid, gid); err != nil || fi.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	mode := fi.Mode().Perm() | 0o600 // what would let others act as that user goes
	if fi.IsDir() {
		mode |= 0o700
	}
	return dir.Chmod(name, mode)
}
