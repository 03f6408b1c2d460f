package host

import "golang.org/x/sys/unix"

// Memory is how many bytes of memory the computer has; 0 when unknown.
func Memory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
