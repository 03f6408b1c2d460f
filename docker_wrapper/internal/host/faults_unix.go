//go:build unix

package host

import "golang.org/x/sys/unix"

// passing are the errors that may pass by themselves, or when the owner mends the computer.
var passing = []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.ENOMEM, unix.ENOBUFS, unix.EMFILE, unix.ENFILE, unix.EINTR,
	unix.EAGAIN, unix.EBUSY, unix.ETXTBSY, unix.ESTALE, unix.ETIMEDOUT, unix.ENODEV, unix.ENOTCONN}
