package gpu

import (
	"io/fs"
	"os"
	"syscall"
)

// system is where the kernel's files are.
func system() fs.FS { return os.DirFS("/") }

// groupOf is a file's group.
func groupOf(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}
