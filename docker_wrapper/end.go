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

// Delays of the first temporary exit, long enough for what it waits for, short enough that a machine that
// was mended goes on soon. Each further one in a row has twice the delay, up to maxDelay: a hundred of
// them without a checkpoint end a job (client/app_control.cpp), which are two weeks then.
const (
	panicDelay   = 10 * time.Minute
	lockDelay    = 10 * time.Minute // api/boinc_api.cpp
	soonDelay    = 3 * time.Minute
	engineDelay  = 5 * time.Minute
	networkDelay = 10 * time.Minute
	ownerDelay   = 30 * time.Minute // a person must do something
	diskDelay    = time.Hour

	maxDelay = 4 * time.Hour
)

// ended is an ending that was decided: code and message for the project, or none where the client
// wants us gone.
type ended struct {
	code    int
	message string
	silent  bool // no finish file: the client asked for it
}

func (e *ended) Error() string { return e.message }

type mend struct {
	err             error
	patience, delay time.Duration
	network         bool
}

// mends is what may mend on this computer: how long it is tried again at once, and when it is worth trying
// after that. First match wins.
var mends = []mend{
	{boincapi.ErrLocked, 0, lockDelay, false},
	{boincapi.ErrNoSegment, 0, soonDelay, false},
	{errPolicy, 0, ownerDelay, false},
	{session.ErrKey, 0, ownerDelay, false},
	{errNoDir, 0, ownerDelay, false},
	{supervise.ErrNetworkSuspended, 10 * time.Minute, networkDelay, true},
	{engine.ErrPermission, 0, ownerDelay, false},
	{engine.ErrUnreachable, 2 * time.Minute, engineDelay, false},
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

// mending finds what an error waits for, if it is anything that may mend.
func mending(err error) (mend, bool) {
	for _, m := range mends {
		if errors.Is(err, m.err) {
			return m, true
		}
	}
	return mend{}, false
}

// mend says whether it is worth waiting here. A person who waits is told at once.
func (w *wrapper) mend(err error) supervise.Mend {
	m, ok := mending(err)
	if !ok || w.init == nil {
		return supervise.Mend{}
	}
	if w.patience > 0 && m.patience > 0 {
		m.patience = w.patience
	}
	return supervise.Mend{Patience: m.patience, Network: m.network}
}

// end ends the job, or leaves it, by what came of it: err, which is never nil. Endings without it: a finish file or an end noted by
// an earlier episode (runJob), and a panic (guarded).
func (w *wrapper) end(err error) int {
	var done *ended
	if errors.As(err, &done) {
		if done.silent {
			w.app.Flush(context.Background())
			return done.code
		}
		return w.finish(done.code, done.message)
	}
	m, ok := mending(err)
	if ok && !w.stepFails(err) {
		w.log.Error().Err(err).Msg(w.notNow())
		return w.temporaryExit(m.delay, firstLine(err.Error()))
	}
	if projectsFault(err) {
		w.log.Error().Msg(err.Error()) // all lines of it; the client gets the first
		w.logged = true
		return w.finish(boincapi.ExitInitFailure, firstLine(err.Error()))
	}
	w.log.Error().Err(err).Msg(w.notNow())
	return w.temporaryExit(soonDelay, firstLine(err.Error()))
}

// projectsFault reports an error that trying again can't mend.
func projectsFault(err error) bool {
	var config *job.ConfigError
	var image *engine.ImageError
	var program *engine.RunError
	var file *engine.CopyError
	var names *boincapi.ForgedError
	return errors.As(err, &names) || errors.As(err, &config) || errors.As(err, &image) || errors.As(err, &program) || errors.As(err, &file)
}

// settle deals with the container when the watch is over, and says how the job ends. ctx ends with a signal.
func (w *wrapper) settle(ctx context.Context, k *session.Keeper, out supervise.Outcome) error {
	calls := context.WithoutCancel(ctx)
	switch out.Reason {
	case supervise.Left:
		return w.leave(calls, k, out.Parked)
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
		return err // it has ended already
	case errors.Is(cause, supervise.ErrAbort):
		return w.aborted(calls, k)
	case errors.Is(cause, supervise.ErrLeave):
		return w.leave(calls, k, time.Time{}) // what has ended is harvested the next time
	}
	return err
}

// leave goes without ending the job. Standalone there is no next episode.
func (w *wrapper) leave(ctx context.Context, k *session.Keeper, parked time.Time) error {
	if w.init == nil {
		w.log.Info().Msg("interrupted: the container is removed; what it wrote here stays")
		k.Leave(ctx, parked)
		return &ended{code: 130, silent: true} // as shells have it for SIGINT
	}
	k.Leave(ctx, parked)
	w.log.Info().Msg("leaving; the job is resumed the next time")
	return &ended{silent: true}
}

// aborted ends a job that nobody wants any more.
func (w *wrapper) aborted(ctx context.Context, k *session.Keeper) error {
	w.log.Info().Msg("aborted")
	k.Abort(ctx)
	return &ended{code: boincapi.ExitAbortedByClient, silent: true}
}

// failed cleans up after a preparation that failed. What may mend keeps what there is.
func (w *wrapper) failed(ctx context.Context, k *session.Keeper, err error) error {
	if _, ok := mending(err); !projectsFault(err) || ok && !w.stepFails(err) {
		k.Keep(ctx)
	} else {
		k.GiveUp(ctx)
	}
	return err
}

// conclude harvests a container that has ended, and ends the job.
func (w *wrapper) conclude(ctx context.Context, k *session.Keeper, out supervise.Outcome) error {
	code, message := boincapi.ExitTimeLimitExceeded, fmt.Sprintf("the job ran longer than its time_limit of %v", time.Duration(w.job.TimeLimit))
	if out.Reason != supervise.TimedOut {
		err := k.Harvest(ctx, out.Exit)
		code, message = exitCode(out.Exit, w.job.Container.Limits)
		var missing *engine.CopyError
		if errors.As(err, &missing) {
			code, message = boincapi.ExitChildFailed, "copy_from_container: "+missing.Error()
		} else if err != nil {
			return err
		}
	}
	if err := k.Conclude(ctx, session.Done{Code: code, Message: message}); err != nil {
		return err // the next episode goes on with it
	}
	return &ended{code: code, message: message}
}

// stepTries is how many temporary exits in a row a build is worth whose own step says that it could not reach something:
// with the delays of networkDelay five hours.
const stepTries = 5

// stepFails reports a build that failed, by the word of its own step alone, for a reason which may pass, and that didn't pass.
func (w *wrapper) stepFails(err error) bool {
	var image *engine.ImageError
	return errors.As(err, &image) && w.store.Episode().Tries >= stepTries
}

// exitCode turns a container's end into BOINC's. Unix passes on the low eight bits of a code only:
// nothing else must become 0.
func exitCode(exit job.Exit, l job.Limits) (int, string) {
	switch {
	case exit.OOMKilled && exit.Code != 0:
		return boincapi.ExitOutOfMemory, fmt.Sprintf("the job needed more memory than its limit of %d MB", l.Memory>>20)
	case exit.Code < 0 || exit.Code > 255:
		return boincapi.ExitChildFailed, fmt.Sprintf("the container ended with code %d", exit.Code)
	case exit.Code > 128 && exit.Code <= 128+64:
		return exit.Code, fmt.Sprintf("the job was ended by signal %d", exit.Code-128)
	case exit.Code == 126: // as shells, and the init process, have it
		return exit.Code, "the job ended with code 126 (a program that can't be executed: is it for another kind of machine?)"
	case exit.Code == 127:
		return exit.Code, "the job ended with code 127 (a program, or the interpreter in its first line, was not found: does a script have Windows line ends?)"
	case exit.Code != 0:
		return exit.Code, fmt.Sprintf("the job ended with code %d", exit.Code)
	default:
		return 0, ""
	}
}

// notNow says what becomes of a job that can't run at present.
func (w *wrapper) notNow() string {
	if w.standalone {
		return "the job can't run here now"
	}
	return "not now; the client tries again later"
}

// finish writes boinc_finish_called.
func (w *wrapper) finish(code int, message string) int {
	if message != "" && !w.logged {
		w.log.Error().Msg(message)
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

// temporaryExit asks the client to try again later, and later each time. Standalone nobody will.
func (w *wrapper) temporaryExit(delay time.Duration, why string) int {
	if w.app == nil || w.standalone {
		return boincapi.ExitInitFailure
	}
	if w.noted {
		delay = grown(delay, w.store.Episode().Tries)
		w.remember(func(e *session.Episode) { e.Tries++ })
	}
	if err := w.app.TemporaryExit(delay, w.public(why), false); err != nil {
		w.log.Error().Err(err).Msg("temporary exit")
	}
	return 0
}

// grown is the delay after so many tries in a row.
func grown(delay time.Duration, tries int) time.Duration {
	for ; tries > 0 && delay < maxDelay; tries-- {
		delay *= 2
	}
	return min(delay, maxDelay)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
