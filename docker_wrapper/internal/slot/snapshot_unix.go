//go:build !windows

package slot

import (
	"io/fs"
	"os"
	"syscall"
)

// kernelsWord is whose a file is, and what nobody but the kernel writes of it: its number, and when it was last changed
// in any way.
func kernelsWord(fi fs.FileInfo) (owner [2]int, mark [2]int64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return [2]int{-1, -1}, [2]int64{}
	}
	return [2]int{int(st.Uid), int(st.Gid)}, [2]int64{int64(st.Ino), changeTime(st)}
}

// giveTo gives a file to its owner, where only root may.
func giveTo(root *os.Root, name string, owner [2]int) error {
	if os.Getuid() != 0 {
		return nil
	}
	return root.Lchown(name, owner[0], owner[1])
}

// givesBack reports that a file which is put back will be its owner's again.
func givesBack(owner [2]int) bool { return os.Getuid() == 0 || owner[0] == os.Getuid() }
