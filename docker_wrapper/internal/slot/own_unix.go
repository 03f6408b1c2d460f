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
// needs root's rights. shared lets all other users of the container go on with the files, too.
func Own(dir string, uid, gid int, shared bool) error {
	o := owner{uid, gid, 0o600}
	if shared {
		o.mode = 0o666
	}
	root, err := os.OpenRoot(dir)
	if err == nil {
		err = errors.Join(o.one(root, "."), o.all(root), root.Close())
	}
	if err != nil {
		return fmt.Errorf("give files to user %d: %w", uid, err)
	}
	return nil
}

// owner is a user that gets files, and what may at least be done with them.
type owner struct {
	uid, gid int
	mode     fs.FileMode
}

// all gives away what is in a directory. It goes from one directory into the next, because a way from the
// top would be walked anew for every file.
func (o owner) all(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, e := range entries {
		if err := o.one(dir, e.Name()); err != nil {
			return err
		}
		if !e.IsDir() {
			continue
		}
		below, err := dir.OpenRoot(e.Name())
		if err != nil {
			return err
		}
		if err := errors.Join(o.all(below), below.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (o owner) one(dir *os.Root, name string) error {
	fi, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	if err := dir.Lchown(name, o.uid, o.gid); err != nil || fi.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	mode := fi.Mode().Perm() | o.mode // what would let others act as that user goes
	if fi.IsDir() {
		mode |= o.mode & 0o444 >> 2 // to enter it
	}
	return dir.Chmod(name, mode)
}
