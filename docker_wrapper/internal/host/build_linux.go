package host

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// EndBuild kills the processes of a build. They are recognised by a host name that only their /etc/hosts has. It returns
// when they have been gone for half a second, since the next step may be about to start; after 3 s at the latest. It works
// when the processes are this user's own or this user is root, and the engine is not in a virtual machine.
func EndBuild(host string) {
	const tries, pause = 30, 100 * time.Millisecond
	for quiet, n := 0, 0; quiet < 5 && n < tries; n++ {
		if quiet++; killBuild(host) > 0 {
			quiet = 0
		}
		time.Sleep(pause)
	}
}

// killBuild kills what runs now and returns how many processes that were.
func killBuild(host string) (killed int) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		p, err := os.FindProcess(pid) // a handle on this process, not on a later one with its number
		if err != nil {
			continue
		}
		if hasHost(name+"/root/etc/hosts", host) && p.Kill() == nil {
			killed++
		}
		p.Release()
	}
	return killed
}

// hasHost reports whether a file in the format of /etc/hosts contains a name. The container chose the file, so it may be of any kind.
func hasHost(name, host string) bool {
	const most = 64 << 10
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	return err == nil && bytes.Contains(data, []byte(host))
}
