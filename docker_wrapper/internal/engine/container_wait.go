package engine

import (
	"context"
	"errors"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	firstRetry, lastRetry = time.Second, 10 * time.Second

	// patience is how long an engine may not answer before the job is left for a later episode.
	patience = 5 * time.Minute

	// waitHeld: a wait that lasts longer has not failed at once.
	waitHeld = 30 * time.Second
)

// Wait watches a container that was started and delivers its exit once. When a wait fails, the engine may be
// restarting, so Wait repeats it. After patience it delivers an Exit with Lost set. It delivers nothing when
// ctx ends first.
func (c *Container) Wait(ctx context.Context) <-chan job.Exit {
	kills := host.OOMKills()
	c.oomKills.CompareAndSwap(nil, &kills)
	exited := make(chan job.Exit, 1)
	go func() {
		var lost, away time.Time // since when waits fail, and since when the engine doesn't answer
		pause := firstRetry
		for {
			began := time.Now()
			err := c.waitOnce(ctx)
			if err == nil {
				var exit job.Exit
				if exit, err = c.exit(ctx, away); err == nil {
					exited <- exit
					return
				}
			}
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, ErrNotFound):
				exited <- job.Exit{Gone: true}
				return
			}
			c.e.log.Debug().Err(err).Msg("a wait for the container's end has failed")
			now := time.Now()
			if lost.IsZero() || now.Sub(began) > waitHeld {
				lost, pause = now, firstRetry
			}
			if away.IsZero() && errors.Is(err, ErrUnreachable) {
				away = now
			}
			if now.Sub(lost) > patience {
				exited <- job.Exit{Lost: true, Err: err.Error()}
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, lastRetry)
		}
	}()
	return exited
}

// waitOnce returns nil when the engine reports that the container doesn't run.
func (c *Container) waitOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // ends the request
	defer cancel()
	results, errs := c.e.api.ContainerWait(ctx, c.ID, container.WaitConditionNotRunning)
	select {
	case r := <-results:
		if r.Error != nil { // Podman does so when it has lost the exit code
			c.e.log.Debug().Str("says", r.Error.Message).Msg("wait")
		}
		return nil
	case err := <-errs:
		return wrap(err)
	}
}

// errStillRunning: by the wait it had ended, by inspection it hasn't.
var errStillRunning = errors.New("still running")

// Exit returns how the container ended. ErrUnreachable when the engine doesn't answer.
func (c *Container) Exit(ctx context.Context) (job.Exit, error) { return c.exit(ctx, time.Time{}) }

// exit is Exit for a caller that first found the engine not to answer at the time away; zero for never.
func (c *Container) exit(ctx context.Context, away time.Time) (job.Exit, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(ctx, c.ID)
	if err != nil {
		return job.Exit{}, wrap(err)
	}
	if in.State.Running {
		return job.Exit{}, errStillRunning
	}
	exit := job.Exit{Code: in.State.ExitCode, OOMKilled: in.State.OOMKilled, Err: in.State.Error}
	exit.StartedAt = parseTime(in.State.StartedAt)
	exit.FinishedAt = parseTime(in.State.FinishedAt)
	if exit.Witness, err = c.witness(ctx, exit, away); err != nil {
		return job.Exit{}, err
	}
	exit.Outside = job.Whose(exit, job.Notes{}) == job.FromOutside
	if c.e.Info.quirks.oomUnsaid && exit.Code == 137 && !exit.Outside && in.HostConfig != nil && in.HostConfig.Memory > 0 {
		exit.OOMKilled = exit.OOMKilled || c.perhapsForMemory()
	}
	return exit, nil
}

// perhapsForMemory reports that the kernel has killed processes for memory since the container was started, perhaps one of
// its own. It is also true where that isn't known: the job seldom kills itself.
func (c *Container) perhapsForMemory() bool {
	before, now := c.oomKills.Load(), host.OOMKills()
	return before == nil || *before < 0 || now != *before
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 2000 { // engines say year 1 for "not yet"
		return time.Time{}
	}
	return t
}
