//go:build unix

package boinctest

import (
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"boincdocker/boincapi"
)

// createSegment makes the shared segment, all zero, and says in d how to find it.
func createSegment(slot string, sysV bool, d *boincapi.InitData) (segment []byte, destroy func() error, err error) {
	if sysV {
		return createSysV(d)
	}
	f, err := os.OpenFile(filepath.Join(slot, boincapi.MmapFile), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := f.Truncate(segmentSize); err != nil {
		return nil, nil, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, segmentSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	clear(m)
	d.ShmKey = -1
	return m, func() error { return unix.Munmap(m) }, nil
}

// verdict puts a temporary exit before everything, and has signals that don't fail the job.
func verdict(state *os.ProcessState, finished, postponed bool) Outcome {
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		switch status.Signal() {
		case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGSTOP:
			return Restart
		}
		return Error
	}
	if postponed {
		return TemporaryExit
	}
	return exitVerdict(state.ExitCode(), finished)
}

func signalName(state *os.ProcessState) string {
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		return status.Signal().String()
	}
	return ""
}
