package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/job"
)

// Usage asks what the container has used since it was started. Nothing is invented: what the engine
// doesn't say is 0. A container that has ended has no usage any more.
func (c *Container) Usage(ctx context.Context) (job.Usage, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	if c.e.Info.quirks.ungrouped {
		if p, err := c.payload(ctx); !errors.Is(err, errUnproven) {
			var u job.Usage
			if err == nil {
				u, err = p.usage()
			}
			if err != nil {
				return job.Usage{}, fmt.Errorf("read usage of container %s: %w", c.Name, err)
			}
			return u, nil
		}
	}
	resp, err := c.e.api.ContainerStatsOneShot(ctx, c.ID)
	if err != nil {
		return job.Usage{}, fmt.Errorf("read usage of container %s: %w", c.Name, wrap(err))
	}
	defer resp.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(resp.Body).Decode(&s); errors.Is(err, io.EOF) {
		return job.Usage{}, fmt.Errorf("read usage of container %s: %w", c.Name, ErrNotRunning)
	} else if err != nil {
		return job.Usage{}, fmt.Errorf("read usage of container %s: %w", c.Name, err)
	}
	if s.Read.Year() < 2000 {
		return job.Usage{}, fmt.Errorf("read usage of container %s: %w", c.Name, ErrNotRunning)
	}
	u := usageOf(s)
	if c.e.Info.quirks.ungrouped && c.e.Info.quirks.libpod {
		if _, own := c.ownCgroup(ctx); !own { // it is what all have used that share one with it
			return job.Usage{}, nil
		}
	}
	if c.e.Info.quirks.cacheInMemory {
		u.Memory = c.resident(ctx)
	}
	return u, nil
}

// resident is the container's memory as its control group has it; 0 where that can't be read, as when the
// engine is in a virtual machine.
func (c *Container) resident(ctx context.Context) int64 {
	path, ok := c.ownCgroup(ctx)
	if !ok {
		return 0
	}
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		if text, err := os.ReadFile(filepath.Join(root, path, "memory.stat")); err == nil {
			memory, _ := residentOf(memoryStat(string(text)))
			return memory
		}
	}
	return 0
}

// ownCgroup is where Podman has the container's control group, below the hierarchies' roots; false when it shares one.
func (c *Container) ownCgroup(ctx context.Context) (string, bool) {
	if path := c.cgroup.Load(); path != nil {
		return *path, true
	}
	state, err := c.libpodState(ctx)
	if err != nil || !strings.Contains(state.CgroupPath, c.ID) {
		c.e.log.Debug().Err(err).Str("cgroup", state.CgroupPath).Msg("the container has no control group of its own")
		return "", false
	}
	c.cgroup.Store(&state.CgroupPath)
	return state.CgroupPath, true
}

// memoryStat reads the kernel's file of this name.
func memoryStat(text string) map[string]uint64 {
	stats := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			stats[name] = n
		}
	}
	return stats
}

// usageOf is what the engine says, as far as it can be used.
func usageOf(s container.StatsResponse) job.Usage {
	u := job.Usage{CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(s.MemoryStats.Usage)}
	if memory, ok := residentOf(s.MemoryStats.Stats); ok {
		u.Memory = memory
	}
	return u
}

// residentOf takes the page cache off the memory, which the kernel gives back when it is wanted. What is
// left in cgroup v2 is anon and shmem, in v1 total_rss and total_shmem (the kernel's cgroup-v2.rst and
// cgroup-v1/memory.rst). Inactive pages alone, which docker's own command line takes off, leave in what a program
// reads twice.
func residentOf(stats map[string]uint64) (int64, bool) {
	for _, keys := range [][2]string{{"total_rss", "total_shmem"}, {"anon", "shmem"}} {
		if anon, ok := stats[keys[0]]; ok {
			return int64(anon + stats[keys[1]]), true
		}
	}
	return 0, false
}
