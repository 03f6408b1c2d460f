package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
	"boincdocker/docker_wrapper/internal/supervise"
)

// Delays of the first temporary exit: long enough for the cause to pass, and short enough that the job soon resumes on a
// computer that was repaired. Each further temporary exit in a row has twice the delay, up to maxDelay. The client ends a
// job after a hundred of them without a checkpoint (client/app_control.cpp), which takes two weeks.
const (
	panicDelay   = 10 * time.Minute
	lockDelay    = 10 * time.Minute // api/boinc_api.cpp
	soonDelay    = 3 * time.Minute
	engineDelay  = 5 * time.Minute
	networkDelay = 10 * time.Minute
	ownerDelay   = 30 * time.Minute // the owner of the computer must do something
	diskDelay    = time.Hour

	maxDelay = 4 * time.Hour
)

// ended is how the job, or this run of the wrapper, ends: exit code, and message for the project.
type ended struct {
	code    int
	message string
	silent  bool // write no finish file: the client told the wrapper to quit or abort
}

func (e *ended) Error() string { return e.message }

// retry says how a temporary error is retried.
type retry struct {
	err      error
	patience time.Duration // how long the wrapper itself retries
	delay    time.Duration // of the temporary exit after that
	network  bool          // while the client suspends the network, wait for it and don't retry
}

// retries lists the temporary errors of this computer. The first match applies.
var retries = []retry{
	{boincapi.ErrLocked, 0, lockDelay, false},
	{boincapi.ErrNoSegment, 0, soonDelay, false},
	{errPolicy, 0, ownerDelay, false},
	{job.ErrRefused, 0, ownerDelay, false},
	{session.ErrKey, 0, ownerDelay, false},
	{errNoDir, 0, ownerDelay, false},
	{supervise.ErrNetworkSuspended, 10 * time.Minute, networkDelay, true},
	{engine.ErrPermission, 0, ownerDelay, false},
	{engine.ErrUnreachable, 2 * time.Minute, engineDelay, false},
	{supervise.ErrBusy, 0, engineDelay, false},
	{engine.ErrDiskFull, 0, diskDelay, false},
	{syscall.ENOSPC, 0, diskDelay, false},
	{syscall.EDQUOT, 0, diskDelay, false},
	{syscall.EROFS, 0, diskDelay, false},
	{engine.ErrHost, 0, ownerDelay, false},
	{engine.ErrNameTaken, 0, ownerDelay, false},
	{engine.ErrNetwork, 5 * time.Minute, networkDelay, true},
	{job.ErrNoGPU, 0, ownerDelay, false},
	{engine.ErrGPU, 0, ownerDelay, false},
}

// retryOf returns how an error is retried, and whether it is temporary.
func retryOf(err error) (retry, bool) {
	for _, r := range retries {
		if errors.Is(err, r.err) {
			return r, true
		}
	}
	return retry{}, false
}

// retryHere tells supervise how long to retry a preparation that failed. Standalone it isn't retried: a person waits.
func (w *wrapper) retryHere(err error) supervise.Retry {
	r, ok := retryOf(err)
	if !ok || w.standalone {
		return supervise.Retry{}
	}
	if w.patience > 0 && r.patience > 0 {
		r.patience = w.patience
	}
	return supervise.Retry{Patience: r.patience, Network: r.network}
}

// end ends the job, or this run of it, and returns the exit code. err is never nil; an *ended is an end that was decided. Two ends
// come without it: a finish file that is there already (openLog), and a panic (guarded).
func (w *wrapper) end(err error) int {
	var done *ended
	if errors.As(err, &done) {
		if done.silent {
			w.app.Flush(context.Background())
			return done.code
		}
		return w.finish(done.code, done.message)
	}
	if w.final(err) {
		w.log.Error().Msg(err.Error()) // all lines; the client gets the first
		w.logged = true
		code := boincapi.ExitInitFailure
		var image *engine.ImageError
		if errors.As(err, &image) && image.OutOfMemory {
			code = boincapi.ExitOutOfMemory
		}
		return w.finish(code, firstLine(err.Error()))
	}
	delay := soonDelay
	if r, ok := retryOf(err); ok {
		delay = r.delay
	}
	w.log.Error().Err(err).Msg(w.notNow())
	return w.temporaryExit(delay, firstLine(err.Error()))
}

// final reports whether an error ends the job: retrying is useless, or was tried often enough.
func (w *wrapper) final(err error) bool {
	_, temporary := retryOf(err)
	return projectsFault(err) && (!temporary || w.triedEnough(err))
}

// projectsFault reports whether the project must correct something, so that retrying is useless.
func projectsFault(err error) bool {
	var config *job.ConfigError
	var image *engine.ImageError
	var program *engine.RunError
	var file *engine.CopyError
	var names *boincapi.ForgedError
	return errors.As(err, &names) || errors.As(err, &config) || errors.As(err, &image) || errors.As(err, &program) || errors.As(err, &file)
}

// settle deals with the container after supervise.Run, and decides how the job ends. A signal ends ctx.
func (w *wrapper) settle(ctx context.Context, k *session.Keeper, out supervise.Outcome) error {
	calls := context.WithoutCancel(ctx)
	switch out.Reason {
	case supervise.Left:
		err := w.leave(calls, k, out.Parked)
		w.tellKept(calls, k, out)
		return err
	case supervise.Aborted:
		return w.aborted(calls, k)
	case supervise.Failed:
		return w.failed(calls, k, out.Err)
	}
	wanted, done := supervise.UntilUnwanted(ctx, w.app)
	defer done()
	err := w.conclude(wanted, k, out)
	var over *ended
	switch cause := context.Cause(wanted); {
	case errors.As(err, &over):
		return err // the job ended before the client's quit or abort
	case errors.Is(cause, supervise.ErrAbort):
		return w.aborted(calls, k)
	case errors.Is(cause, supervise.ErrLeave):
		return w.leave(calls, k, time.Time{}) // the next episode harvests the ended container
	}
	return err
}

// leave ends this episode, not the job. Standalone there is no next episode.
func (w *wrapper) leave(ctx context.Context, k *session.Keeper, parked time.Time) error {
	if w.standalone {
		w.log.Info().Msg("interrupted: the container is removed; what it wrote here stays")
		k.Leave(ctx, parked)
		return &ended{code: 130, silent: true} // the exit code of shells after SIGINT
	}
	k.Leave(ctx, parked)
	w.log.Info().Msg("leaving; the job is resumed the next time")
	return &ended{silent: true}
}

// readTime is how long a client that goes on may take to read a last report. It reads each second (TASK_POLL_PERIOD in
// client/app.h). A client that ends reads none, and looks every 6 s whether its jobs have ended (wait_for_exit in
// client/app_control.cpp), so that nobody waits for this.
const readTime = 3 * time.Second

// tellKept makes the client count the CPU and elapsed time of a job that is left. Supervise has reported it as a checkpoint. A
// client that goes on reads that while this process is there: later it would take the CPU time alone. A client that ends finds it
// in a file.
func (w *wrapper) tellKept(ctx context.Context, k *session.Keeper, out supervise.Outcome) {
	if w.standalone || out.Kept.At.IsZero() {
		return
	}
	read, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	if w.app.Deliver(read) {
		return
	}
	if err := k.TellKept(ctx, out.Kept, out.InContainer); err != nil {
		w.log.Debug().Err(err).Msg("the client forgets the elapsed time since the last checkpoint")
	}
}

// aborted removes everything of a job that the client has aborted.
func (w *wrapper) aborted(ctx context.Context, k *session.Keeper) error {
	w.log.Info().Msg("aborted")
	k.Abort(ctx)
	return &ended{code: boincapi.ExitAbortedByClient, silent: true}
}

// failed cleans up after a preparation that failed. It keeps what a retry needs.
func (w *wrapper) failed(ctx context.Context, k *session.Keeper, err error) error {
	if w.final(err) {
		k.GiveUp(ctx)
	} else {
		k.Keep(ctx)
	}
	return err
}

// conclude harvests a container that has ended, or whose time was up, and returns how the job ends.
func (w *wrapper) conclude(ctx context.Context, k *session.Keeper, out supervise.Outcome) error {
	code, message := boincapi.ExitTimeLimitExceeded, fmt.Sprintf("the job ran longer than its time_limit of %v", time.Duration(w.job.TimeLimit))
	if out.Reason != supervise.TimedOut {
		if err := k.Harvest(ctx, out.Exit); err != nil {
			return err
		}
		code, message = exitCode(out.Exit, w.job.Container)
	}
	done, err := k.Conclude(ctx, session.Done{Code: code, Message: message})
	if err != nil {
		return err // the next episode continues it
	}
	return &ended{code: done.Code, message: done.Message}
}

// maxTries is how many temporary exits in a row a job gets if a step of its own build reports a network or disk error, or
// if the owner must allow what it asks for. They take five hours with the delays of networkDelay, and eleven and a half with those
// of ownerDelay.
const maxTries = 5

// triedEnough reports whether the tries are used up: of a build, because only its own step says that its error is temporary;
// and of a job that the owner doesn't allow, because he may never do so.
func (w *wrapper) triedEnough(err error) bool {
	var image *engine.ImageError
	return (errors.As(err, &image) || errors.Is(err, job.ErrRefused)) && w.store.Episode().Tries >= maxTries
}

// exitCode turns a container's end into BOINC's exit code and a message. A code outside 0 to 255 becomes
// ExitChildFailed: Unix would keep its low eight bits, which may be 0.
func exitCode(exit job.Exit, c job.Container) (int, string) {
	switch {
	case exit.OOMKilled && exit.Code != 0:
		return boincapi.ExitOutOfMemory, "the job needed more memory than its limit of " + c.Limits.MemoryLimit()
	case exit.Code < 0 || exit.Code > 255:
		return boincapi.ExitChildFailed, fmt.Sprintf("the container ended with code %d", exit.Code)
	case exit.Code > 128 && exit.Code <= 128+64:
		return exit.Code, fmt.Sprintf("the job was ended by signal %d", exit.Code-128)
	case exit.Code == 126: // of shells and of the container's init process
		return exit.Code, "the job ended with code 126 (a program that can't be executed: does it lack the x bit, which chmod +x sets, or is it for another kind of machine?)"
	case exit.Code == 127:
		hidden := ""
		if c.SlotMount != "" {
			hidden = fmt.Sprintf(" Is it in the image, below %s, where the mounted slot hides it?", c.SlotMount)
		}
		return exit.Code, "the job ended with code 127 (a program, or the interpreter in its first line, was not found: does a script have Windows line ends?" + hidden + ")"
	case exit.Code != 0:
		return exit.Code, fmt.Sprintf("the job ended with code %d", exit.Code)
	default:
		return 0, ""
	}
}

// notNow is the log line for a job that can't run at present.
func (w *wrapper) notNow() string {
	if w.standalone {
		return "the job can't run here now"
	}
	return "not now; the client tries again later"
}

// finish writes boinc_finish_called, and returns the exit code.
func (w *wrapper) finish(code int, message string) int {
	if message != "" && !w.logged {
		w.log.Error().Msg(message)
	}
	if code != 0 && w.job != nil {
		for _, text := range w.job.Missing {
			w.log.Warn().Msg(text)
		}
	}
	if w.standalone {
		return code
	}
	w.log.Info().Msgf("called boinc_finish(%d)", code)
	if err := w.app.Finish(code, w.public(message)); err != nil {
		return w.temporaryExit(diskDelay, firstLine(err.Error()))
	}
	return code
}

// temporaryExit asks the client to start the wrapper again, each time after a longer delay, and returns the exit code.
// Standalone it means failure.
func (w *wrapper) temporaryExit(delay time.Duration, why string) int {
	if w.app == nil || w.standalone {
		return boincapi.ExitInitFailure
	}
	if w.claimed {
		delay = backoff(delay, w.store.Episode().Tries)
		w.store.Note(w.log, func(e *session.Episode) { e.Tries++ })
	}
	if err := w.app.TemporaryExit(delay, w.public(why), false); err != nil {
		w.log.Error().Err(err).Msg("temporary exit")
	}
	return 0
}

// backoff returns the delay after so many temporary exits in a row.
func backoff(delay time.Duration, tries int) time.Duration {
	for ; tries > 0 && delay < maxDelay; tries-- {
		delay *= 2
	}
	return min(delay, maxDelay)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
