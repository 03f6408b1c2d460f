package job

import (
	"math"

	"boincdocker/boincapi"
)

const (
	mib = 1 << 20

	// A job that needs exactly its bound must not be killed for what the container adds.
	memoryMargin    = 1.25
	minMemoryMargin = 256 * mib

	defaultShm  = 64 * mib // what docker gives
	defaultPids = 512

	// idleShares is a container's CPU weight beside an ordinary one's 1024: BOINC's jobs run at the
	// lowest priority, which what runs under a daemon does not inherit.
	idleShares = 128
)

// bytesOf is a number of bytes that a client has written; 0 for none.
func bytesOf(x float64) int64 {
	const most = 1 << 62
	if !(x > 0) {
		return 0
	}
	return int64(min(x, most))
}

// letUse is how many bytes of memory the volunteer lets BOINC use; 0 where that isn't known. Of the two preferences, for a
// computer that is in use and for one that isn't, the larger counts: the client suspends jobs by the smaller.
func letUse(d *boincapi.InitData, h Host) int64 {
	total := d.HostInfo.MemBytes
	if total <= 0 {
		total = float64(h.Memory)
	}
	percent := max(d.GlobalPrefs.RAMMaxUsedBusyPct, d.GlobalPrefs.RAMMaxUsedIdlePct)
	if !(percent > 0 && percent < 100) {
		percent = 100
	}
	return bytesOf(total * percent / 100)
}

// limits decides what the container may use. A file that isn't signed may tighten them, not widen
// what follows from the bounds that the client knows. No file may have more memory than the volunteer lets BOINC use.
func limits(c *Config, d *boincapi.InitData, nthreads float64, signed bool, h Host) Limits {
	l := Limits{CPUs: nthreads, ShmSize: defaultShm, Pids: max(defaultPids, int64(32*math.Ceil(nthreads)))}
	if d != nil {
		l.Disk = bytesOf(d.RscDiskBound)
		if d.RscMemoryBound > 0 {
			l.Memory = bytesOf(max(d.RscMemoryBound*memoryMargin, d.RscMemoryBound+minMemoryMargin))
		}
		if !d.NoPriorityChange {
			l.CPUShares = idleShares
		}
	}
	set := func(limit *int64, bounded bool, asked ...int64) {
		for _, n := range asked {
			if n > 0 && (signed || !bounded || n < *limit) {
				*limit = n
			}
		}
	}
	set(&l.Memory, l.Memory > 0, c.Memory, c.Create.Memory)
	if d != nil {
		if most := letUse(d, h); most > 0 && (l.Memory == 0 || l.Memory > most) {
			l.Memory = most
		}
	}
	set(&l.ShmSize, false, c.ShmSize, c.Create.ShmSize) // counted as memory anyway
	set(&l.Pids, true, c.Pids, c.Create.PidsLimit)
	if !signed && l.Memory > 0 { // where an engine doesn't count it as memory
		l.ShmSize = min(l.ShmSize, l.Memory)
	}
	if c.Create.CPUs > 0 && (signed || c.Create.CPUs < l.CPUs) {
		l.CPUs = c.Create.CPUs
	}
	return l
}
