//go:build unix

package boincapi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A slotLock is a held boinc_lockfile.
type slotLock struct{ f *os.File }

// lockSlot takes the slot's lock or fails at once, with ErrLocked if another process has it. The lock
// is a POSIX record lock as BOINC's own (FILE_LOCK::lock in lib/filesys.cpp): flock(2) would not see that
// one, and it would be lost if the file were opened a second time in this process and closed again.
func lockSlot(dir string) (*slotLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_WRONLY|os.O_CREATE, 0o664)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	switch {
	case err == nil, errors.Is(err, unix.ENOSYS): // a file system without locks
		return &slotLock{f}, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		err = ErrLocked
	}
	f.Close()
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
}

// release lets the next instance in and removes the file.
func (l *slotLock) release() error {
	return errors.Join(l.f.Close(), os.Remove(l.f.Name()))
}
