package slot

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// stripAttributes takes a file's capabilities, access lists and other extended attributes away, as far as its owner may: a
// program with capabilities would have them on the host, too. Labels that the host's security module gives stay.
func stripAttributes(name string) error {
	names, err := attributes(name)
	if err != nil {
		return err
	}
	for _, a := range names {
		switch {
		case a == "security.capability":
			// The kernel drops them when the owner changes, or is set to what it was (setattr_prepare(9)): that needs no rights but the owner's.
			err = os.Lchown(name, os.Getuid(), -1)
		case a == "system.posix_acl_access":
			err = unix.Lremovexattr(name, a)
		case strings.HasPrefix(a, "user."):
			unix.Lremovexattr(name, a) // they mean nothing to the kernel; a read-only file keeps them
			continue
		default: // the security module's, or the file system's own
			continue
		}
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return &fs.PathError{Op: "remove attribute " + a, Path: name, Err: err}
		}
	}
	return nil
}

// attributes lists the names of a file's extended attributes; none where the file system has no such thing.
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
			continue // there are more by now
		case err != nil:
			return nil, &fs.PathError{Op: "list attributes", Path: name, Err: err}
		}
		return strings.Split(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00"), nil
	}
}
