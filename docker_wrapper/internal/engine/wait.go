package engine

import (
	"context"
	"errors"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	firstRetry, lastRetry = time.Second, 10 * time.Second

	// patience is how long an engine may be away before the job is left for a later episode.
	patience = 5 * time.Minute
)

// Wait watches a container that was started and delivers its exit once. A wait that breaks off is
// no verdict: the engine may be restarting, and is asked again until it answers or patience is
// over, which comes as an Exit with Lost set. Nothing is delivered when ctx ends first.
func (c *Container) Wait(ctx context.Context) <-chan job.Exit {
	exited := make(chan job.Exit, 1)
	go func() {
		lostSince, pause, away := time.Time{}, firstRetry, false
		for {
			err := c.waitOnce(ctx)
			if err == nil {
				var exit job.Exit
				if exit, err = c.Exit(ctx); err == nil {
					exit.Away = away
					exited <- exit
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, ErrNotFound) {
				exited <- job.Exit{Gone: true}
				return
			}
			c.e.log.Debug().Err(err).Msg("wait broke off")
			away = away || errors.Is(err, ErrUnreachable)
			if lostSince.IsZero() {
				lostSince = time.Now()
			}
			if time.Since(lostSince) > patience {
				exited <- job.Exit{Lost: true, Err: err.Error()}
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, lastRetry)
			if _, pinged := c.e.api.Ping(ctx); pinged == nil {
				lostSince, pause = time.Time{}, firstRetry
			}
		}
	}()
	return exited
}

// waitOnce returns nil when the container is known not to run.
func (c *Container) waitOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // an abandoned wait would leak
	defer cancel()
	results, errs := c.e.api.ContainerWait(ctx, c.ID, container.WaitConditionNotRunning)
	select {
	case r := <-results:
		if r.Error != nil {
			return errors.New(r.Error.Message)
		}
		return nil
	case err := <-errs:
		return wrap(err)
	}
}

// errStillRunning: the wait said it had ended, and inspection says it hasn't.
var errStillRunning = errors.New("still running")

// Exit tells how it ended.
func (c *Container) Exit(ctx context.Context) (job.Exit, error) {
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
	return exit, nil
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 2000 { // engines say year 1 for "not yet"
		return time.Time{}
	}
	return t
}
