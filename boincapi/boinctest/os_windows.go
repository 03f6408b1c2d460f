package boinctest

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"boincdocker/boincapi"
)

// createSegment makes the shared segment, all zero, and says in d how to find it.
func createSegment(_ string, _ bool, d *boincapi.InitData) (segment []byte, destroy func() error, err error) {
	for i := range 1024 {
		name := fmt.Sprintf("boinc_%d", i)
		p, err := windows.UTF16PtrFromString("shm_" + name)
		if err != nil {
			return nil, nil, err
		}
		mapping, err := windows.CreateFileMapping(windows.InvalidHandle, nil, windows.PAGE_READWRITE, 0, segmentSize, p)
		if errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
			windows.CloseHandle(mapping)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		addr, err := windows.MapViewOfFile(mapping, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, 0, segmentSize)
		if err != nil {
			return nil, nil, errors.Join(err, windows.CloseHandle(mapping))
		}
		d.CommObjName = name
		m := unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), segmentSize)
		return m, func() error {
			return errors.Join(windows.UnmapViewOfFile(addr), windows.CloseHandle(mapping))
		}, nil
	}
	return nil, nil, errors.New("no free name for a segment")
}

// verdict has no signals, and looks at a temporary exit only after code 0 without a finish file.
func verdict(state *os.ProcessState, finished, postponed bool) Outcome {
	switch code := uint32(state.ExitCode()); {
	case code == 0 && !finished && postponed:
		return TemporaryExit
	case code == 0xc000013a, code == 0x40010004, code == 0xc0000142, code == 0xc000026b:
		return Premature // the user logs off or the system goes down
	}
	return exitVerdict(state.ExitCode(), finished)
}

func signalName(*os.ProcessState) string { return "" }
