package session

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is when the computer was started.
func bootTime() time.Time {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(now.Nano()))
}

// bootID is the kernel's name for the time since it was started; "" where it has none (random(4)).
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
