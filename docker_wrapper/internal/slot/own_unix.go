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

// OthersOwn reports whether dir or a file below it belongs to another user than uid, or can't be examined.
func OthersOwn(dir string, uid int) bool {
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

// ChangeOwner gives dir and all files below it to a user, who can then read and remove them. It follows no links and
// must run as root. shared lets all other users of the container read and write the files, too.
func ChangeOwner(dir string, uid, gid int, shared bool) error {
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

// owner is the new owner of files.
type owner struct {
	uid, gid int
	mode     fs.FileMode // permissions that each file gets in addition
}

// all gives away everything in a directory. It opens each directory from its parent: with paths from the top, the cost
// of a file would grow with its depth.
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
	mode := fi.Mode().Perm() | o.mode // without set-user-ID bits
	if fi.IsDir() {
		mode |= o.mode & 0o444 >> 2 // permission to enter it
	}
	return dir.Chmod(name, mode)
}
