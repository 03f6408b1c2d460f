package engine

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// endSteps ends the processes of a build whose hosts have a name that no other's have, and waits a moment until they are gone.
// Podman's builder carries a step out to its end when its client has gone. It works where this user may end the processes: they
// are this user's own, or this user is root, and the engine is not in a virtual machine.
func endSteps(host string) {
	const tries, pause = 30, 100 * time.Millisecond
	for quiet, n := 0, 0; quiet < 5 && n < tries; n++ { // the next step may be about to start
		if quiet++; killSteps(host) > 0 {
			quiet = 0
		}
		time.Sleep(pause)
	}
}

// killSteps kills what there is at this moment, and says how many processes that were.
func killSteps(host string) (killed int) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0
	}
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		p, err := os.FindProcess(pid) // which stands for this process, and for no later one of its number
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

// hasHost reports whether a file of hosts has a name in it. The file may be anything.
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
