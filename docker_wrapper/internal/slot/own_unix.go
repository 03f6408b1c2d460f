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
	if err != nil {
		return fmt.Errorf("give files to user %d: %w", uid, err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := root.Lchown(name, uid, gid); err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		mode := fi.Mode().Perm() | 0o600 // what would let others act as that user goes
		if d.IsDir() {
			mode |= 0o700
		}
		return root.Chmod(name, mode)
	})
	if err != nil {
		return fmt.Errorf("give files to user %d: %w", uid, err)
	}
	return nil
}
