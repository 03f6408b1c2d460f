package host

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is when the computer was started, by its clock as it is now; zero when unknown.
func BootTime() time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(now.Nano()))
}

// BootID is the kernel's random name for the time since the computer was started (random(4)); "" when unknown.
func BootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
