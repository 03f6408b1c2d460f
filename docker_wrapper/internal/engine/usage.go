package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/job"
)

// Usage asks what the container has used since it was started. Nothing is invented: what the engine
// doesn't say is 0. A container that has ended has no usage any more.
func (c *Container) Usage(ctx context.Context) (job.Usage, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
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
	return usageOf(s), nil
}

// usageOf takes the page cache off the memory, which the kernel gives back when it is wanted. What is
// left in cgroup v2 is anon and shmem, in v1 total_rss and total_shmem (the kernel's cgroup-v2.rst and
// cgroup-v1/memory.rst). Inactive pages alone, which docker's own command line takes off, leave in what a program
// reads twice.
func usageOf(s container.StatsResponse) job.Usage {
	u := job.Usage{CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(s.MemoryStats.Usage)}
	for _, keys := range [][2]string{{"total_rss", "total_shmem"}, {"anon", "shmem"}} {
		if anon, ok := s.MemoryStats.Stats[keys[0]]; ok {
			u.Memory = int64(anon + s.MemoryStats.Stats[keys[1]])
			break
		}
	}
	return u
}
