package engine

import (
	"context"
	"errors"
	"fmt"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// rung is a way to pause a container. A rootless engine that has no control group for it refuses to; then the next way is
// tried, down to none.
type rung int32

const (
	unknown   rung = iota
	byEngine       // the engine pauses it
	byFreezer      // the container's control group, which this user may write to
	bySignals      // SIGSTOP for each of its processes
	byNothing      // it can't be paused, only stopped
)

func (r rung) String() string {
	return [...]string{"?", "the engine pauses it", "its control group is frozen instead", "its processes are stopped by SIGSTOP instead",
		"it is stopped, and goes on from its last checkpoint, if there is one, or from the beginning"}[r]
}

// Pause pauses the container. When it has ended, that is no error: Wait delivers its exit. The error wraps job.ErrNoPause
// when no way to pause it works.
func (c *Container) Pause(ctx context.Context) error {
	switch r := rung(c.rung.Load()); r {
	case unknown:
		if c.e.Info.quirks.ungrouped {
			return c.probe(ctx)
		}
	case byFreezer, bySignals:
		return c.hold(ctx, r)
	case byNothing:
		return fmt.Errorf("pause container %s: %w", c.Name, job.ErrNoPause)
	}
	return c.do(ctx, "pause", "already paused", c.e.api.ContainerPause)
}

// probe pauses it in the first way that works, and remembers that way.
func (c *Container) probe(ctx context.Context) error {
	refused := c.do(ctx, "pause", "already paused", c.e.api.ContainerPause)
	if refused == nil {
		if in, err := c.inspect(ctx); err == nil && in.State.Paused { // else it has ended
			c.rung.Store(int32(byEngine))
		}
		return nil
	}
	if errors.Is(refused, ErrUnreachable) || ctx.Err() != nil {
		return refused
	}
	for _, r := range []rung{byFreezer, bySignals} {
		err := c.hold(ctx, r)
		switch {
		case err == nil:
			if _, err := c.payload(ctx); ended(err) {
				return nil
			}
			c.takeRung(r, refused)
			return nil
		case !errors.Is(err, host.ErrUnproven) && !errors.Is(err, host.ErrNoFreezer):
			return err // a later try may succeed
		}
		c.e.log.Debug().Err(err).Msg("one way to pause the container doesn't work")
	}
	c.takeRung(byNothing, refused)
	return fmt.Errorf("pause container %s: %w", c.Name, job.ErrNoPause)
}

// takeRung remembers how this container is paused. It logs that once per engine.
func (c *Container) takeRung(r rung, refused error) {
	c.rung.Store(int32(r))
	if !c.e.saidRung.Swap(true) {
		c.e.log.Warn().Err(refused).Msg("this engine can't pause the container: when it is suspended, " + r.String())
	}
}

// hold pauses the container without the engine.
func (c *Container) hold(ctx context.Context, r rung) error {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	p, err := c.payload(ctx)
	if err == nil && r == byFreezer {
		err = p.Freeze(ctx)
	} else if err == nil {
		err = p.Stop(ctx)
	}
	if ended(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("pause container %s: %w", c.Name, err)
	}
	return nil
}

// Unpause lets the container go on, in whatever way this or an earlier wrapper has paused it.
func (c *Container) Unpause(ctx context.Context) error {
	switch r := rung(c.rung.Load()); {
	case !c.e.Info.quirks.ungrouped || r == byEngine:
		return c.do(ctx, "unpause", "not paused", c.e.api.ContainerUnpause)
	case r == unknown:
		in, err := c.inspect(ctx)
		if err == nil && in.State.Paused {
			return c.do(ctx, "unpause", "not paused", c.e.api.ContainerUnpause)
		}
	}
	p, err := c.payload(ctx)
	if err == nil {
		err = p.Continue()
	}
	if err == nil || ended(err) || errors.Is(err, host.ErrUnproven) { // with ErrUnproven it can't have been stopped
		return nil
	}
	return fmt.Errorf("unpause container %s: %w", c.Name, err)
}

// Keep makes sure that the container is paused, or isn't. changed is whether another program had changed that.
func (c *Container) Keep(ctx context.Context, paused bool) (changed bool, err error) {
	in, err := c.inspect(ctx)
	switch {
	case err != nil:
		return false, fmt.Errorf("inspect container %s: %w", c.Name, err)
	case !in.State.Running || (in.State.Paused || c.held(ctx, paused)) == paused:
		return false, nil
	case paused:
		return true, c.Pause(ctx)
	default:
		return true, c.Unpause(ctx)
	}
}

// held reports that a container was paused without the engine, which says that it is running: all of its processes, or
// at least the first.
func (c *Container) held(ctx context.Context, all bool) bool {
	if r := rung(c.rung.Load()); !c.e.Info.quirks.ungrouped || r == byEngine || r == byNothing {
		return false
	}
	p, err := c.payload(ctx)
	return err == nil && p.Held(all)
}

// payload finds the processes of a container that runs. ErrNotRunning or ErrNotFound when it doesn't, host.ErrUnproven
// when they can't be told from others.
func (c *Container) payload(ctx context.Context) (*host.Payload, error) {
	if p := c.processes.Load(); p != nil && p.Alive() {
		return p, nil
	}
	in, err := c.inspect(ctx)
	switch {
	case err != nil:
		return nil, err
	case !in.State.Running || in.State.Pid <= 0:
		return nil, ErrNotRunning
	}
	p, err := host.FindPayload(in.State.Pid, in.ID)
	if err != nil {
		return nil, err
	}
	c.processes.Store(p)
	return p, nil
}
