package slot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// oPath is O_PATH: find the file without opening it (open(2)). The value is the same on all of Go's Linux architectures.
const oPath = 0x200000

// reopen opens a regular file of the payload. It checks the file's type before it opens it, and the job can't exchange
// the file in between.
func reopen(root *os.Root, name string, flag int) (*os.File, error) {
	for range 8 { // symlinks of the job; root keeps them inside the payload
		found, err := root.OpenFile(name, oPath, 0)
		if err != nil {
			return nil, err
		}
		fi, err := found.Stat()
		if err == nil && fi.Mode().IsRegular() {
			defer found.Close()
			return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", found.Fd()), flag|syscall.O_NONBLOCK, 0)
		}
		found.Close()
		if err != nil {
			return nil, err
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			break
		}
		target, err := root.Readlink(name)
		if err != nil {
			return nil, err
		}
		if filepath.IsAbs(target) {
			break
		}
		name = filepath.Dir(name) + "/" + target // not cleaned: the directory may be a link too
	}
	return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
}
