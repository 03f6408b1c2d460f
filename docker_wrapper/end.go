package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
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
	{errKey, 0, ownerDelay, false},
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
	if patience > 0 && m.patience > 0 {
		m.patience = patience
	}
	return supervise.Mend{Patience: m.patience, Network: m.network}
}

// end is the only place that ends a job. err says what came of it; nil can't be.
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
		w.said = true
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
func (w *wrapper) settle(ctx context.Context, out supervise.Outcome) error {
	calls := context.WithoutCancel(ctx)
	switch out.Reason {
	case supervise.Left:
		return w.leave(calls, out.Parked)
	case supervise.Aborted:
		return w.aborted(calls)
	case supervise.Failed:
		return w.failed(calls, out.Err)
	}
	wanted, done := supervise.UntilUnwanted(ctx, w.app)
	defer done()
	var err error
	if out.Reason == supervise.TimedOut {
		w.drain(wanted)
		err = w.conclude(wanted, boincapi.ExitTimeLimitExceeded,
			fmt.Sprintf("the job ran longer than its time_limit of %v", time.Duration(w.job.TimeLimit)))
	} else {
		err = w.exited(wanted, out.Exit)
	}
	var over *ended
	switch cause := context.Cause(wanted); {
	case errors.As(err, &over):
		return err // it has ended already
	case errors.Is(cause, supervise.ErrAbort):
		return w.aborted(calls)
	case errors.Is(cause, supervise.ErrLeave):
		return w.leave(calls, time.Time{}) // what has ended is harvested the next time
	}
	return err
}

// aborted ends a job that nobody wants any more.
func (w *wrapper) aborted(ctx context.Context) error {
	w.log.Info().Msg("aborted")
	ctx, cancel := context.WithTimeout(ctx, abortTime)
	defer cancel()
	w.own(ctx, false) // or the client could not clear the slot
	w.remove(ctx)
	return &ended{code: boincapi.ExitAbortedByClient, silent: true}
}

// leave goes without ending the job. Standalone there is no next episode.
func (w *wrapper) leave(ctx context.Context, parked time.Time) error {
	w.park(parked)
	if w.init == nil {
		w.log.Info().Msg("interrupted: the container is removed; what it wrote here stays")
		w.remove(ctx)
		return &ended{code: 130, silent: true} // as shells have it for SIGINT
	}
	foreign := w.job.Container.User.Mode != "auto" || w.engine != nil && w.engine.Info.Rootless
	if w.container != nil && !parked.IsZero() && foreign { // the client may clear the slot without us
		w.own(ctx, true)
	}
	w.log.Info().Msg("leaving; the job goes on the next time")
	return &ended{silent: true}
}

// noteStopping is called before the container is stopped: whatever becomes of us then, it has not ended by itself.
func (w *wrapper) noteStopping() {
	w.episode.Parked = time.Now()
	w.note()
}

// noteTimeout is called before the container is killed: whatever becomes of us then, the job has ended.
func (w *wrapper) noteTimeout() {
	w.episode.TimedOut = true
	w.note()
}

func (w *wrapper) note() {
	if err := w.saveEpisode(); err != nil {
		w.log.Warn().Err(err).Msg("the next episode knows less")
	}
}

// park notes what the next episode needs to go on with the container, and when that was parked; zero when it wasn't.
func (w *wrapper) park(at time.Time) {
	if w.logs != nil {
		w.episode.LastLog = w.logs.Stop()
		w.episode.Written = w.written()
	}
	w.closeSinks()
	w.episode.Parked = at
	w.note()
}

// stepTries is how many temporary exits in a row a build is worth whose own step says that it could not reach something:
// with the delays of networkDelay five hours.
const stepTries = 5

// stepFails reports a build whose failure may mend by nothing but the word of its own step, and hasn't.
func (w *wrapper) stepFails(err error) bool {
	var image *engine.ImageError
	return errors.As(err, &image) && w.episode.Tries >= stepTries
}

// failed cleans up after a preparation that came to nothing. What may mend keeps what there is.
func (w *wrapper) failed(ctx context.Context, err error) error {
	if _, ok := mending(err); !projectsFault(err) || ok && !w.stepFails(err) {
		if w.container != nil { // it is not to run while nobody watches
			if standErr := w.stand(ctx, w.container); standErr == nil {
				w.park(time.Now())
			}
		}
		return err
	}
	w.own(ctx, false)
	w.remove(ctx)
	if moveErr := w.moveOut(); moveErr != nil {
		w.log.Warn().Err(moveErr).Msg("the job's files are not all back in the slot")
	}
	return err
}

// errOutside: the job is started again later.
var errOutside = errors.New("the container is ended from outside again and again")

// exited is a container that has ended by itself, or too often not by itself.
func (w *wrapper) exited(ctx context.Context, exit job.Exit) error {
	switch {
	case exit.Lost:
		w.park(time.Time{})
		return fmt.Errorf("%w: %s", engine.ErrUnreachable, exit.Err)
	case exit.Gone:
		return fmt.Errorf("%w: it was removed", errOutside)
	case exit.Outside:
		w.park(longAgo) // before it ended
		return fmt.Errorf("%w: by the engine, or docker stop; its code is %d", errOutside, exit.Code)
	}
	if exit.Code != 0 {
		if err := w.gpuLost(); err != nil {
			w.park(longAgo) // before it ended: it is started again
			return err
		}
	}
	w.drain(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	code, message := exitCode(exit, w.job.Container.Limits)
	w.log.Info().Int("code", exit.Code).Bool("oom", exit.OOMKilled).Msg("the container has ended")
	if exit.OOMKilled && exit.Code == 0 {
		w.log.Warn().Msgf("a process of the job was killed for memory (limit %d MB)", w.job.Container.Limits.Memory>>20)
	}
	if exit.Code == 0 {
		leftOut, err := w.container.CopyOut(ctx, w.job.CopyOut, w.job.Container.Limits.Disk)
		for _, name := range leftOut {
			w.log.Warn().Str("file", name).Msg("not copied: no file, or a link to elsewhere")
		}
		var missing *engine.CopyError
		if errors.As(err, &missing) {
			code, message = boincapi.ExitChildFailed, "copy_from_container: "+missing.Error()
		} else if err != nil {
			return err
		}
	}
	return w.conclude(ctx, code, message)
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

// conclude moves the job's files back, and removes the container when nothing needs it any more.
func (w *wrapper) conclude(ctx context.Context, code int, message string) error {
	w.own(context.WithoutCancel(ctx), false)
	if w.mail != nil {
		if err := w.mail.last(ctx); err != nil {
			return err
		}
	}
	if err := w.moveOut(); err != nil {
		return err
	}
	w.episode.Done = &supervise.Done{Code: code, Message: message}
	if err := w.saveEpisode(); err != nil {
		return err
	}
	if err := w.remove(ctx); err != nil {
		return err // the next episode does it
	}
	return &ended{code: code, message: message}
}

// own makes the job's files BOINC's, where the container ran as another user. What stays another's can
// still be moved, as far as its directories allow. goesOn lets the container's user go on with them.
func (w *wrapper) own(ctx context.Context, goesOn bool) {
	u, dir := w.job.Container.User, w.job.Slot.Payload
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return // it hasn't come to that
	}
	if !slot.Foreign(dir, os.Getuid()) || w.job.Standalone && u.Mode == "auto" {
		return
	}
	err := errors.New("not root")
	if os.Getuid() == 0 {
		err = slot.Own(dir, 0, os.Getgid(), goesOn)
	} else if self, exeErr := os.Executable(); exeErr == nil && w.container != nil {
		uid, gid := os.Getuid(), os.Getgid()
		if w.engine.Info.Rootless {
			uid, gid = 0, 0 // as its containers call the engine's user
		}
		err = w.container.RunHelper(ctx, w.job, self, dir, fmt.Sprintf("%d:%d:%t", uid, gid, goesOn))
	}
	if err != nil {
		w.log.Warn().Err(err).Msg("some of the job's files stay another user's")
	}
}

// moveOut takes the job's files out of the payload.
func (w *wrapper) moveOut() error {
	if w.job.Slot.Move {
		notes, err := slot.MoveOut(w.job.Slot)
		for _, name := range notes {
			w.log.Warn().Str("file", name).Msg("not taken: a reserved name, no file, or a link to elsewhere")
		}
		if err != nil {
			return err
		}
	}
	if w.job.Standalone {
		return slot.Settle(w.job.Slot)
	}
	if w.job.Slot.MakeOutputs {
		return slot.DropOutputs(w.job.Slot)
	}
	return nil
}

// drain writes the rest of the container's output.
func (w *wrapper) drain(ctx context.Context) {
	if w.logs != nil {
		if err := w.logs.Drain(ctx); err != nil {
			w.log.Warn().Err(err).Msg("the end of the job's output is missing")
		}
	}
	w.closeSinks()
}

func (w *wrapper) closeSinks() {
	for _, s := range w.sinks {
		if err := s.Close(); err != nil {
			w.log.Warn().Err(err).Msg("write the job's output")
		}
	}
	w.sinks = nil
}

// remove removes the container, of whatever episode it is, also one that was only half made. An engine that is away is
// waited for a while, unless ctx ends: that alone is an error.
func (w *wrapper) remove(ctx context.Context) error {
	if w.engine == nil && w.episode.Container == "" {
		return nil
	}
	most, calls, hint := removeTime, ctx, ""
	if w.standalone { // a person waits
		most, hint = cmp.Or(patience, handRemoveTime), "; docker rm -f "+w.job.Container.Name+" removes it"
		var cancel context.CancelFunc
		calls, cancel = context.WithTimeout(ctx, most)
		defer cancel()
	}
	for deadline := time.Now().Add(most); ; {
		err := w.removeNow(calls)
		if err == nil {
			return nil
		}
		if errors.Is(err, engine.ErrUnreachable) && time.Now().Before(deadline) && sleep(ctx, removePause) {
			continue
		}
		w.log.Warn().Err(err).Msg("the container is left behind" + hint)
		return ctx.Err()
	}
}

const (
	removeTime     = time.Minute
	handRemoveTime = 10 * time.Second
	removePause    = 2 * time.Second

	// abortTime is less than the minute that the client gives a job to abort (client/client_state.h).
	abortTime = 40 * time.Second
)

func (w *wrapper) removeNow(ctx context.Context) error {
	w.dropCheckpoints()
	if err := w.open(ctx); err != nil {
		return err
	}
	if w.job != nil && w.engine.CanCheckpoint(w.job) == nil {
		if err := w.engine.RemoveTrial(ctx, w.job); err != nil {
			return err
		}
	}
	c := w.container
	if c == nil {
		own := job.Container{Name: w.episode.Container, Labels: w.ownLabels()} // an ID is as good as a name
		if w.job != nil {
			own = w.job.Container
		}
		var err error
		switch c, err = w.engine.Find(ctx, own); {
		case errors.Is(err, engine.ErrUnreachable):
			return err
		case errors.Is(err, engine.ErrNotFound):
			return w.engine.RemoveStray(ctx, own)
		case err != nil:
			return nil // not ours
		}
	}
	return c.Remove(ctx)
}

// sleep reports whether it could sleep to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
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
	if message != "" && !w.said {
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
		delay = grown(delay, w.episode.Tries)
		w.episode.Tries++
		w.note()
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
