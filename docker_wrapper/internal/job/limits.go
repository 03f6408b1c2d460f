package job

import (
	"fmt"
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

// bound is a limit of memory with its source.
type bound struct {
	bytes int64 // 0 means none
	from  string
}

// letUse is how much memory the volunteer lets BOINC use, which is the container's hard limit; none where that isn't
// known. Of the two preferences, for a computer that is in use and for one that isn't, the larger counts: the client
// suspends jobs by the smaller.
func letUse(d *boincapi.InitData, h Host) bound {
	total := d.HostInfo.MemBytes
	if total <= 0 {
		total = float64(h.Memory)
	}
	percent := max(d.GlobalPrefs.RAMMaxUsedBusyPct, d.GlobalPrefs.RAMMaxUsedIdlePct)
	if !(percent > 0 && percent < 100) {
		percent = 100
	}
	if total <= 0 {
		return bound{}
	}
	return bound{bytesOf(total * percent / 100), fmt.Sprintf("the volunteer's preferences: %.4g %% of %d MB", percent, bytesOf(total)>>20)}
}

// memory decides the container's hard limit of memory. The workunit's rsc_memory_bound is none: create_work fills in
// 500 MB where a project says nothing, and the client doesn't enforce it (client/app_control.cpp). Only where the
// computer's memory isn't known it stands in, and a signed job may ask for more.
func memory(c *Config, d *boincapi.InitData, signed bool, p Policy, h Host) bound {
	asked := c.memory()
	var most bound
	if d != nil {
		if most = letUse(d, h); most.bytes == 0 && d.RscMemoryBound > 0 && !(signed && asked.bytes > 0) {
			most = bound{bytesOf(max(d.RscMemoryBound*memoryMargin, d.RscMemoryBound+minMemoryMargin)),
				"the workunit's rsc_memory_bound, as this computer's memory isn't known"}
		}
	}
	for _, b := range []bound{{p.Memory, "memory in the owner's " + PolicyFile}, asked} {
		if b.bytes > 0 && (most.bytes == 0 || b.bytes < most.bytes) {
			most = b
		}
	}
	return most
}

// memory is how much memory the job itself asks for. create_args win.
func (c *Config) memory() bound {
	switch {
	case c.Create.Memory > 0:
		return bound{c.Create.Memory, "create_args in " + c.File}
	case c.Memory > 0:
		return bound{c.Memory, "memory in " + c.File}
	}
	return bound{}
}

// limits decides what the container may use. A file that isn't signed may tighten them, not widen
// what follows from the bounds that the client knows. No file may have more memory than the volunteer lets BOINC use.
func limits(c *Config, d *boincapi.InitData, nthreads float64, signed bool, p Policy, h Host) Limits {
	l := Limits{CPUs: nthreads, ShmSize: defaultShm, Pids: max(defaultPids, int64(32*math.Ceil(nthreads)))}
	m := memory(c, d, signed, p, h)
	l.Memory, l.MemoryFrom = m.bytes, m.from
	if d != nil {
		l.Disk = bytesOf(d.RscDiskBound)
		if b := bytesOf(d.RscMemoryBound); b >= minMemoryBytes {
			if l.Reserved = b; l.Memory > 0 {
				l.Reserved = min(b, l.Memory)
			}
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
