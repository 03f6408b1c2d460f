package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// Usage returns what the container has used since it was started. What the engine doesn't report is 0.
// ErrNotRunning when the container has ended.
func (c *Container) Usage(ctx context.Context) (job.Usage, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	if c.e.Info.quirks.ungrouped {
		if p, err := c.payload(ctx); !errors.Is(err, host.ErrUnproven) {
			var u job.Usage
			if err == nil {
				u.CPU, u.Memory, err = p.Usage()
			}
			if errors.Is(err, host.ErrEnded) {
				err = ErrNotRunning
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
	if c.e.Info.quirks.sharedUsage {
		if _, own := c.ownCgroup(ctx); !own {
			return job.Usage{}, nil
		}
	}
	if c.e.Info.quirks.cacheInMemory {
		u.Memory, _ = c.groups(ctx).Memory()
	}
	return u, nil
}

// ownCgroup is the path of the container's control group, by Podman, below the hierarchies' roots; false when it has none of its
// own.
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

// While is another path of the file name, which leads there only until the container ends; see [host.Groups.While]. False when
// the container's control groups can't be seen from here.
func (c *Container) While(ctx context.Context, name string) (string, bool) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	if in, err := c.inspect(ctx); err == nil && in.State.Running && in.State.Pid > 0 {
		if path, ok := host.GroupsOf(in.State.Pid, c.ID).While(name); ok {
			return path, true
		}
	}
	return c.groups(ctx).While(name)
}

// groups are the container's own control groups. They are empty when this process can't see them, for instance when the
// engine is in a virtual machine.
func (c *Container) groups(ctx context.Context) host.Groups {
	path, _ := c.ownCgroup(ctx)
	return host.GroupsAt(path, c.ID)
}

// usageOf converts the engine's statistics.
func usageOf(s container.StatsResponse) job.Usage {
	u := job.Usage{CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(s.MemoryStats.Usage)}
	if memory, ok := host.Resident(s.MemoryStats.Stats); ok {
		u.Memory = memory
	}
	return u
}
