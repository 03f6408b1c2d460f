package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Groups are a container's own control groups: directories by controller, "" for that of cgroup v2.
type Groups map[string]string

// GroupsAt finds the control groups of the container with this ID, which is in all hierarchies at the same path below
// their roots. It is empty when the path is shared with others, which means that the ID isn't in it, or can't be seen
// from here, as when the engine is in a virtual machine.
func GroupsAt(path, id string) Groups {
	g := Groups{}
	for _, controller := range []string{"freezer", "cpuacct", "memory", ""} {
		g.add(controller, path, id)
	}
	return g
}

// add adds the group of one controller, if it is the container's own and its directory is there.
func (g Groups) add(controller, path, id string) {
	if id == "" || !strings.Contains(path, id) || strings.Contains(path, "..") {
		return
	}
	roots := []string{"/sys/fs/cgroup/" + controller}
	if controller == "" {
		roots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
	}
	for _, root := range roots {
		dir := filepath.Join(root, path)
		if fi, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && fi.Mode().IsRegular() {
			g[controller] = dir
		}
	}
}

// While is another path of the file name, which leads there only until the container ends: through the directory of a
// control group, and back. After a restart of the host the directory isn't there either. name must be absolute. False when
// there is no group.
func (g Groups) While(name string) (string, bool) {
	for _, dir := range g {
		return dir + strings.Repeat("/..", strings.Count(dir, "/")) + name, true // ".." of the root is the root
	}
	return "", false
}

const (
	lookEach = 2 * time.Millisecond

	// While processes keep appearing, a group of v1 may never become frozen. It does if it is thawed for a moment after
	// so many looks; runc does the same (libcontainer/cgroups/fs/freezer.go).
	thawEach = 25
)

// freezer is a control group's switch: what to write to one file, and what another file says then.
type freezer struct{ set, on, off, state, frozen string }

func (g Groups) freezer() (freezer, bool) {
	if dir, ok := g["freezer"]; ok { // the kernel's cgroup-v1/freezer-subsystem.rst
		name := filepath.Join(dir, "freezer.state")
		return freezer{set: name, on: "FROZEN", off: "THAWED", state: name, frozen: "FROZEN"}, true
	}
	if dir, ok := g[""]; ok { // cgroup-v2.rst
		return freezer{set: filepath.Join(dir, "cgroup.freeze"), on: "1", off: "0", state: filepath.Join(dir, "cgroup.events"), frozen: "frozen 1"}, true
	}
	return freezer{}, false
}

func (f freezer) isFrozen() bool {
	text, err := os.ReadFile(f.state)
	return err == nil && strings.Contains(string(text), f.frozen)
}

// Frozen reports that all processes of the groups stand still by Freeze.
func (g Groups) Frozen() bool {
	f, ok := g.freezer()
	return ok && f.isFrozen()
}

// Freeze stops all processes of the groups and returns when they stand still, or thawed with ctx's error. The error
// wraps ErrNoFreezer when there is no group or this user may not.
func (g Groups) Freeze(ctx context.Context) error {
	f, ok := g.freezer()
	if !ok {
		return ErrNoFreezer
	}
	for looked := 1; ; looked++ {
		if err := os.WriteFile(f.set, []byte(f.on), 0); err != nil {
			return fmt.Errorf("%w: %w", ErrNoFreezer, err)
		}
		if f.isFrozen() {
			return nil
		}
		err := pass(ctx)
		if looked%thawEach == 0 || err != nil {
			err = errors.Join(err, g.Thaw())
		}
		if err != nil {
			return fmt.Errorf("freeze %s: %w", f.set, err)
		}
	}
}

// Thaw undoes Freeze. It does nothing to what isn't frozen.
func (g Groups) Thaw() error {
	f, ok := g.freezer()
	if !ok {
		return nil
	}
	text, err := os.ReadFile(f.set)
	if err != nil || strings.TrimSpace(string(text)) == f.off { // the group is gone, or has no such file
		return nil
	}
	return os.WriteFile(f.set, []byte(f.off), 0)
}

// pass lets a moment pass.
func pass(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lookEach):
		return nil
	}
}

// CPU is the CPU time, user and system, that the groups have used; false when unknown.
func (g Groups) CPU() (time.Duration, bool) {
	if dir, ok := g["cpuacct"]; ok {
		text, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")) // ns
		n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(n), err == nil && parseErr == nil
	}
	if dir, ok := g[""]; ok {
		text, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
		micros, ok := parseCounters(string(text))["usage_usec"]
		return time.Duration(micros) * time.Microsecond, err == nil && ok
	}
	return 0, false
}

// Memory is how many bytes the groups have resident, without page cache; false when unknown.
func (g Groups) Memory() (int64, bool) {
	for _, controller := range []string{"memory", ""} {
		if dir, ok := g[controller]; ok {
			if text, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err == nil {
				return Resident(parseCounters(string(text)))
			}
		}
	}
	return 0, false
}

// parseCounters reads lines of a name and a number, as in memory.stat and cpu.stat.
func parseCounters(text string) map[string]uint64 {
	stats := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			stats[name] = n
		}
	}
	return stats
}

// Resident is how many bytes are used without the page cache, which the kernel gives back when memory is short, from
// the counters of memory.stat; false when unknown. That is anon and shmem in cgroup v2, total_rss and total_shmem in v1
// (the kernel's cgroup-v2.rst and cgroup-v1/memory.rst). Docker's command line subtracts only inactive pages, which
// leaves in what a program reads twice.
func Resident(stats map[string]uint64) (int64, bool) {
	for _, keys := range [][2]string{{"total_rss", "total_shmem"}, {"anon", "shmem"}} {
		if anon, ok := stats[keys[0]]; ok {
			return int64(anon + stats[keys[1]]), true
		}
	}
	return 0, false
}
