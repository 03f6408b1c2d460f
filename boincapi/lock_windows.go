package boincapi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// A slotLock is a held boinc_lockfile.
type slotLock struct {
	handle windows.Handle
	path   string
}

// lockSlot takes the slot's lock or fails at once, with ErrLocked if another process has it. The open
// handle is the lock, since nobody else may open the file (FILE_LOCK::lock in BOINC's lib/filesys.cpp);
// os.OpenFile would share it.
func lockSlot(dir string) (*slotLock, error) {
	path := filepath.Join(dir, LockFile)
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(p, windows.GENERIC_WRITE, 0, nil, windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &slotLock{h, path}, nil
}

// release lets the next instance in and removes the file.
func (l *slotLock) release() error {
	return errors.Join(windows.CloseHandle(l.handle), os.Remove(l.path))
}
