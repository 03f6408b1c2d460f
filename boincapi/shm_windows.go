package boincapi

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

var procOpenFileMapping = windows.NewLazySystemDLL("kernel32.dll").NewProc("OpenFileMappingW")

const fileMapAllAccess = 0xf001f

// attachSegment maps the segment that init_data.xml names, for reading and writing. A client that runs
// as a service makes it in the Global name space, others in the session's.
//
// Source: attach_shmem in BOINC's lib/shmem.cpp.
func attachSegment(_ string, d InitData) (segment []byte, detach func() error, err error) {
	if d.CommObjName == "" {
		return nil, nil, errors.New("init_data.xml has no comm_obj_name")
	}
	name := "shm_" + d.CommObjName
	mapping, err := openFileMapping(`Global\` + name)
	if err != nil {
		mapping, err = openFileMapping(name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open file mapping %s: %w", name, err)
	}
	addr, err := windows.MapViewOfFile(mapping, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, 0, segmentSize)
	if err != nil {
		windows.CloseHandle(mapping)
		return nil, nil, fmt.Errorf("map view of %s: %w", name, err)
	}
	// addr is memory outside of Go's heap; the detour tells vet that we know.
	m := unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), segmentSize)
	return m, func() error {
		return errors.Join(windows.UnmapViewOfFile(addr), windows.CloseHandle(mapping))
	}, nil
}

func openFileMapping(name string) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	h, _, err := procOpenFileMapping.Call(fileMapAllAccess, 0, uintptr(unsafe.Pointer(p)))
	if h == 0 {
		return 0, err
	}
	return windows.Handle(h), nil
}

// processExists reports whether there is a process with this ID. One that we may not look at exists;
// one that has ended and is only kept by somebody's handle does not.
func processExists(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	event, err := windows.WaitForSingleObject(h, 0)
	return err != nil || event != windows.WAIT_OBJECT_0
}
