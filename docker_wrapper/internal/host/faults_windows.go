package host

import "golang.org/x/sys/windows"

// passing are the errors that may pass by themselves, or when the owner mends the computer.
var passing = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED, windows.ERROR_WRITE_PROTECT,
	windows.ERROR_CRC, windows.ERROR_IO_DEVICE, windows.ERROR_NOT_READY, windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION,
	windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_OUTOFMEMORY, windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_BUSY}
