package slot

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// stripAttributes removes a file's capabilities, access lists and other extended attributes, as far as its owner is
// allowed to. A program with capabilities would have them on the host, too. The labels of the host's security module
// stay.
func stripAttributes(name string) error {
	names, err := attributes(name)
	if err != nil {
		return err
	}
	for _, a := range names {
		switch {
		case a == "security.capability":
			// The kernel removes them at every chown, also one that changes nothing (setattr_prepare(9)). The owner is
			// allowed to do that.
			err = os.Lchown(name, os.Getuid(), -1)
		case a == "system.posix_acl_access":
			err = unix.Lremovexattr(name, a)
		case strings.HasPrefix(a, "user."):
			unix.Lremovexattr(name, a) // fails on a read-only file; the kernel gives these no meaning
			continue
		default: // of the security module or the file system
			continue
		}
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "remove attribute " + a, Path: name, Err: err}
		}
	}
	return nil
}

// attributes lists the names of a file's extended attributes. A file system without them has none.
func attributes(name string) ([]string, error) {
	for {
		size, err := unix.Llistxattr(name, nil)
		if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
			return nil, nil
		}
		list := make([]byte, max(size, 0))
		if err == nil {
			size, err = unix.Llistxattr(name, list)
		}
		switch {
		case errors.Is(err, unix.ERANGE):
			continue // more were added between the two calls
		case err != nil:
			return nil, &fs.PathError{Op: "list attributes", Path: name, Err: err}
		}
		return strings.Split(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00"), nil
	}
}
