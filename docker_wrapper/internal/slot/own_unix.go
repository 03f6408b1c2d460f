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

// Owner says who gets files. Others may use them too if Shared.
type Owner struct {
	UID, GID int
	Shared   bool  // all other users of the container may read and write the files
	Since    int64 // files that were not changed since then are left, in ns since 1970; 0 for none
}

// ChangeOwner gives dir and all files below it to a user, who can then read and remove them. It follows no links and
// must run as root. With names it changes only dir and the files of these names in it, as far as they exist.
func ChangeOwner(dir string, to Owner, names ...string) error {
	o := owner{Owner: to, give: true, mode: 0o600}
	if to.Shared {
		o.mode = 0o666
	}
	if err := o.tree(dir, names); err != nil {
		return fmt.Errorf("give files to user %d: %w", to.UID, err)
	}
	return nil
}

// share lets all users of the container read and write dir and the files below it that are ours. With names it changes
// only dir and the files of these names in it.
func share(dir string, names ...string) error {
	o := owner{Owner: Owner{UID: os.Getuid()}, mode: 0o666}
	return o.tree(dir, names)
}

// owner is the new owner of files.
type owner struct {
	Owner
	give bool        // else files of others are left, and the user's own get the mode
	mode fs.FileMode // permissions that each file gets in addition
}

func (o owner) tree(dir string, names []string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := o.one(root, "."); err != nil {
		return err
	}
	if len(names) == 0 {
		return o.all(root)
	}
	for _, name := range names {
		if err := o.one(root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
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
		if !o.give && errors.Is(err, fs.ErrPermission) {
			continue // another user's
		} else if err != nil {
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
	uid, mark := ownerAndMark(fi)
	switch {
	case mark[1] < o.Since || !o.give && uid[0] != o.UID:
		return nil
	case o.give:
		err = dir.Lchown(name, o.UID, o.GID)
	}
	if err != nil || fi.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	mode := fi.Mode().Perm() | o.mode // without set-user-ID bits
	if fi.IsDir() {
		mode |= o.mode & 0o444 >> 2 // permission to enter it
	}
	return dir.Chmod(name, mode)
}
