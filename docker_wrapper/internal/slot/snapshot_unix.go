//go:build !windows

package slot

import (
	"io/fs"
	"os"
	"syscall"
)

// ownerAndMark returns a file's user and group, and its inode number and change time, which only the kernel can set.
func ownerAndMark(fi fs.FileInfo) (owner [2]int, mark [2]int64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return [2]int{-1, -1}, [2]int64{}
	}
	return [2]int{int(st.Uid), int(st.Gid)}, [2]int64{int64(st.Ino), changeTime(st)}
}

// giveTo restores a file's owner if we are root. Other users can't.
func giveTo(root *os.Root, name string, owner [2]int) error {
	if os.Getuid() != 0 {
		return nil
	}
	return root.Lchown(name, owner[0], owner[1])
}

// canRestoreOwner reports whether we can give a restored file to this owner.
func canRestoreOwner(owner [2]int) bool { return os.Getuid() == 0 || owner[0] == os.Getuid() }
