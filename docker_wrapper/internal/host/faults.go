package host

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// MayPass reports whether an error of a file operation has its cause in this computer and not in the file: the disk is
// full or broken, memory is short, or the file is busy. The same operation may succeed later.
func MayPass(err error) bool {
	return slices.ContainsFunc(passing, func(errno error) bool { return errors.Is(err, errno) })
}

// Final reports whether an operation on a file of the job failed because of the file itself: its name, its kind, its
// permissions. Trying again doesn't help. Errors that don't come from an operation on a file are not final.
//
// For a file that the client or the owner made, permissions are the computer's: ask [MayPass].
func Final(err error) bool {
	var file *fs.PathError
	var names *os.LinkError
	return (errors.As(err, &file) || errors.As(err, &names)) && !MayPass(err)
}

// Cause returns what an operation on a file says went wrong, without the names of the operation and the file.
func Cause(err error) string {
	var file *fs.PathError
	var names *os.LinkError
	switch {
	case errors.As(err, &file):
		return file.Err.Error()
	case errors.As(err, &names):
		return names.Err.Error()
	default:
		return err.Error()
	}
}

const (
	maxName    = 255 // bytes of a file's name, in most file systems
	partSuffix = ".docker_wrapper.part"
)

// Part returns a name for [Replace]'s incomplete file, beside a file of this name. It is never longer than names may be.
func Part(base string) string {
	return base[:min(len(base), maxName-len(partSuffix))] + partSuffix
}
