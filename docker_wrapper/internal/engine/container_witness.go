package engine

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"boincdocker/docker_wrapper/internal/job"
)

// What shows afterwards who ended a container, measured on Docker 20.10.24:
//
//	ended by                          exit code       its events afterwards
//	the job itself                    its own         die
//	docker stop, docker kill          143, 137, own   kill, die
//	an engine that is stopped         143, 137, own   none: the engine loses them
//	an engine that comes back after   143, 137, own   kill, die
//	  it was killed
//	the job, while no engine ran      its own         none
//
// Measured on Podman 4.3.1 and 5.8.6: after podman kill, the events kill (without the signal) and died. After podman
// stop, died alone; but from version 5 on the container's state says that a user stopped it.
//
// With live-restore an engine ends only the container that it was just starting.

// endSignals are signals that end a program by default and that engines and users send to do so. An event has the number, or the
// name when a user gave it.
var endSignals = map[string]string{"2": "INT", "3": "QUIT", "9": "KILL", "15": "TERM", "INT": "INT", "QUIT": "QUIT", "KILL": "KILL", "TERM": "TERM"}

// witness collects what the engine knows about the end of the container, for [job.Whose] to decide. away is when the
// engine was first found not to answer, zero for never. The error wraps ErrUnreachable when it can't be asked now.
func (c *Container) witness(ctx context.Context, exit job.Exit, away time.Time) (w job.Witness, err error) {
	q := c.e.Info.quirks
	w = job.Witness{AnySignal: q.signalUnsaid, StopUntold: q.stopUnsaid, EndsJobs: q.daemon, AwaySince: away}
	if n := job.SignalNumber(c.ask); c.ask != "" && n > 0 && exit.Code == 128+n {
		w.Request = c.asked.Load() > 0
	}
	if exit.OOMKilled || exit.StartedAt.IsZero() || exit.FinishedAt.IsZero() { // these decide
		return w, nil
	}
	w.SawEnd, w.Signaled, err = c.lastEvents(ctx, exit)
	if errors.Is(err, ErrUnreachable) {
		return w, err
	} else if err != nil { // Podman may keep no events
		c.e.log.Debug().Err(err).Msg("the engine doesn't tell who ended the container")
		w.NoEvents = true
		return w, nil
	}
	if !w.Signaled.IsZero() {
		return w, nil
	}
	if q.userStop && c.ask == "" { // for Podman, the signal that asks for a checkpoint is a stop by the user, too
		state, err := c.libpodState(ctx)
		w.StoppedByUser = state.StoppedByUser
		return w, err
	}
	if q.daemon && !w.SawEnd && !away.IsZero() {
		info, err := c.e.api.Info(ctx)
		w.LiveRestore = info.LiveRestoreEnabled
		return w, wrap(err)
	}
	return w, nil
}

// lastEvents returns whether the engine's events contain the container's end, and when the container was last sent a signal that
// may have ended it.
func (c *Container) lastEvents(ctx context.Context, exit job.Exit) (died bool, killed time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.e.Info.quirks.ownEvents {
		kills := int64(0)
		err := c.libpodEvents(ctx, exit.StartedAt, func(m events.Message) {
			switch at := time.Unix(0, m.TimeNano); {
			case m.Action == "died":
				died = true
			case m.Action == events.ActionKill && at.Before(exit.FinishedAt.Add(job.Noticed)): // Podman writes the event after it sends the signal
				kills++
				killed = at
			}
		})
		if kills <= c.asked.Load() { // all were requests for a checkpoint
			killed = time.Time{}
		}
		return died, killed, err
	}
	now, err := c.e.clock(ctx)
	if err != nil {
		return false, time.Time{}, err
	}
	until := exit.FinishedAt
	if until.After(now) { // the clock was set back; the engine would wait until that time
		until = now
	}
	messages, errs := c.e.api.Events(ctx, events.ListOptions{
		Since:   exit.StartedAt.Format(time.RFC3339Nano),
		Until:   until.Add(job.Noticed).Format(time.RFC3339Nano),
		Filters: filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("container", c.ID)),
	})
	for {
		select {
		case m := <-messages:
			switch m.Action {
			case events.ActionDie:
				return true, killed, nil
			case events.ActionKill:
				name, ends := endSignals[strings.TrimPrefix(m.Actor.Attributes["signal"], "SIG")]
				if ends && "SIG"+name != c.ask { // the job handles the signal that asks for a checkpoint
					killed = time.Unix(0, m.TimeNano)
				}
			}
		case err := <-errs:
			if err == io.EOF { // the end of the events, no error
				return false, killed, nil
			}
			return false, killed, wrap(err)
		}
	}
}

// clock is the engine's time. In a virtual machine it differs from this program's.
func (e *Engine) clock(ctx context.Context) (time.Time, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	info, err := e.api.Info(ctx)
	if err != nil {
		return time.Time{}, wrap(err)
	}
	now, err := time.Parse(time.RFC3339Nano, info.SystemTime)
	if err != nil {
		now = time.Now()
	}
	return now, nil
}
