//go:build linux || (darwin && !ios)

package boincapi

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// attachSysV attaches the System V segment that the client made for an app version without an
// api_version of 6.0 or later.
func attachSysV(key int) (segment []byte, detach func() error, err error) {
	id, err := unix.SysvShmGet(key, 0, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("find System V segment %#x: %w", uint32(key), err)
	}
	m, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("attach System V segment %#x: %w", uint32(key), err)
	}
	if len(m) < segmentSize {
		unix.SysvShmDetach(m)
		return nil, nil, fmt.Errorf("segment of System V key %#x has %d bytes, want %d", uint32(key), len(m), segmentSize)
	}
	return m, func() error { return unix.SysvShmDetach(m) }, nil
}
