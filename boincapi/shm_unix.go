//go:build unix

package boincapi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// attachSegment maps the segment that init_data.xml names, for reading and writing.
//
// Source: boinc_get_app_shmem in BOINC's api/boinc_api.cpp; attach_shmem and attach_shmem_mmap in
// lib/shmem.cpp.
func attachSegment(dir string, d InitData) (segment []byte, detach func() error, err error) {
	if d.ShmKey != -1 {
		return attachSysV(d.ShmKey)
	}
	f, err := os.OpenFile(filepath.Join(dir, MmapFile), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() < segmentSize {
		return nil, nil, fmt.Errorf("%s has %d bytes, want %d", f.Name(), info.Size(), segmentSize)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, segmentSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	return m, func() error { return unix.Munmap(m) }, nil
}

// processExists reports whether there is a process with this ID. One that we may not signal exists.
func processExists(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
