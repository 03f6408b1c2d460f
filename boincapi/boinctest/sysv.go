//go:build linux || (darwin && !ios)

package boinctest

import (
	"errors"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"boincdocker/boincapi"
)

// createSysV uses a free key; the real client derives one from the slot's path.
func createSysV(d *boincapi.InitData) (segment []byte, destroy func() error, err error) {
	for range 100 {
		key := 1 + rand.IntN(1<<31-2)
		id, err := unix.SysvShmGet(key, segmentSize, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		remove := func() error {
			_, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
			return err
		}
		m, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		d.ShmKey = key
		return m, func() error { return errors.Join(unix.SysvShmDetach(m), remove()) }, nil
	}
	return nil, nil, errors.New("no free System V key")
}
