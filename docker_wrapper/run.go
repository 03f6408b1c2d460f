package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
	"boincdocker/docker_wrapper/internal/slot"
	"boincdocker/docker_wrapper/internal/supervise"
)

const (
	defaultConfig     = "job.toml"
	defaultDockerfile = "Dockerfile"
	projectSubdir     = "project" // the project directory when standalone
)

// steadyTime is how long a job must run until earlier temporary exits no longer count.
const steadyTime = 10 * time.Minute

// wrapper is one run of the program.
type wrapper struct {
	program // its stderr is replaced by a writer that filters
	o       options
	argErr  error

	jobsOutput io.Writer // stderr.txt, for what the job prints; nil when standalone
	dir        string    // the slot
	log        zerolog.Logger
	screen     *screen           // nil unless a person is watching
	secrets    *strings.Replacer // removes the volunteer's secrets from texts; nil until init_data.xml is read

	standalone bool // there is no client; see isStandalone
	app        *boincapi.App
	init       *boincapi.InitData // nil when standalone, and until it is read
	key        session.Key        // nil when standalone, and for --plan and --check
	store      *session.Store     // of earlier episodes; empty until claimed
	claimed    bool               // the wrapper's directory in the slot is ours, and the store may be written

	config *job.Config // nil until it is read, and if there is no file
	job    *job.Job
	logged bool // the log already says why the job ended
}

func newWrapper(p program, o options, dir string, argErr error) *wrapper {
	w := &wrapper{program: p, o: o, argErr: argErr, dir: dir, standalone: isStandalone(dir)}
	w.store, _ = session.OpenStore("") // empty; loadState opens the real one
	return w
}

// runJob runs the job: start, load what earlier episodes left, plan, supervise, settle, end. It returns the exit code.
func (w *wrapper) runJob(ctx context.Context) int {
	if finished, code := w.openLog(); finished {
		return code
	}
	if err := w.startApp(ctx); err != nil {
		return w.end(err)
	}
	defer w.app.Close()
	if err := w.loadState(ctx); err != nil {
		return w.end(err)
	}
	network := supervise.NewNetwork()
	if done := w.store.Episode().Done; done != nil {
		if w.removeContainer(ctx, network) != nil {
			return w.end(&ended{silent: true})
		}
		return w.end(&ended{code: done.Code, message: done.Message})
	}
	var err error
	if w.job, err = w.plan(); err != nil {
		if w.final(err) {
			w.removeContainer(ctx, network) // an earlier episode may have made one
		}
		return w.end(err)
	}
	for _, text := range append(w.job.Warnings, w.job.Notes...) {
		w.log.Warn().Msg(text)
	}
	return w.end(w.supervise(ctx, network))
}

// openLog sets up the log. It reports whether an earlier episode has finished the job, and with which exit code.
func (w *wrapper) openLog() (finished bool, code int) {
	if !w.standalone {
		shared := &sharedLog{w: boincapi.PlainWriter(w.stderr)}
		w.stderr, w.jobsOutput = ownLines{shared}, jobsOutput{shared}
	}
	w.log = newLogger(boincapi.PlainWriter(w.stderr), 1)
	if w.standalone {
		w.screen = newScreen(w.stderr)
	} else {
		if err := boincapi.RedirectStderr(w.dir); err != nil {
			w.log.Error().Err(err).Msg("stderr.txt")
		}
		if code, message, found := boincapi.FinishFile(w.dir); found {
			w.log.Info().Int("code", code).Str("message", message).Msg("this job has finished already")
			return true, code
		}
	}
	w.log.Info().Str("version", version).Msg("docker_wrapper")
	return false, 0
}

// startApp takes the slot's lock and connects to the client. w.app can end the job also after an error.
func (w *wrapper) startApp(ctx context.Context) error {
	var reserved error
	lockRetry := w.lockRetry
	if w.standalone {
		lockRetry = -1 // a person waits
	} else {
		reserved = slot.RemoveReservedDirs(w.dir)
	}
	var err error
	w.app, err = boincapi.Start(ctx, boincapi.Options{Dir: w.dir, LockRetry: lockRetry, Sporadic: w.o.sporadic})
	switch {
	case reserved != nil:
		return reserved
	case errors.Is(err, boincapi.ErrLocked) && w.standalone:
		return &ended{code: boincapi.ExitInitFailure, message: "another docker_wrapper runs in " + w.dir + ": wait for it, or stop it"}
	case err == nil:
		w.standalone = w.app.Standalone()
	}
	return err
}

// loadState loads init_data.xml and the episode file. First it makes sure that the wrapper's directory in the slot is a
// wrapper's.
func (w *wrapper) loadState(ctx context.Context) error {
	if !w.standalone {
		d := w.app.InitData()
		w.setInit(&d)
		// A status without CPU time would reset the CPU time of earlier episodes to zero.
		w.app.Report(boincapi.Report{CPU: d.WUCPUTime, CheckpointCPU: d.WUCPUTime})
	}
	if w.argErr != nil {
		return &job.ConfigError{File: "command line", Problem: w.argErr.Error()}
	}
	if w.standalone {
		return nil
	}
	if err := w.claim(ctx); err != nil {
		return err
	}
	w.claimed = true
	if err := session.ForgetKept(w.dir); err != nil {
		w.log.Warn().Err(err).Msg("cannot remove what an earlier run has told the client")
	}
	var err error
	if w.store, err = session.OpenStore(filepath.Join(w.dir, job.WrapperDir)); err != nil {
		w.log.Warn().Err(err).Msg("cannot read the episode file; the job may repeat work")
	}
	return nil
}

// claim makes the wrapper's directory in the slot, or makes sure that a wrapper made it for this job.
func (w *wrapper) claim(ctx context.Context) (err error) {
	if err := checkDirs(w.init); err != nil {
		return err
	}
	if w.key, err = session.ReadKey(ctx, w.init.BoincDir); err != nil {
		return err
	}
	return slot.Claim(w.dir, w.key.Slot(w.init))
}

// setInit sets init_data.xml. From then on the volunteer's secrets in it are removed from stderr.txt, which the project
// gets.
func (w *wrapper) setInit(d *boincapi.InitData) {
	w.init = d
	w.secrets = job.ProxyHider(d)
	w.stderr = hiding{w.stderr, w.secrets}
	w.log = newLogger(w.stderr, 1)
}

// public removes the secrets from a text.
func (w *wrapper) public(text string) string {
	if w.secrets == nil {
		return text
	}
	return w.secrets.Replace(text)
}

func (w *wrapper) setVerbosity(verbose int) {
	if w.o.verbose {
		verbose = 2
	}
	out := io.Writer(w.stderr)
	if w.screen != nil {
		out = w.screen
	}
	if w.standalone {
		out = boincapi.PlainWriter(out)
	}
	w.log = newLogger(out, verbose)
}

// keeper returns the keeper of this job's containers.
func (w *wrapper) keeper(network *supervise.Network) (*session.Keeper, error) {
	return session.New(session.Options{
		Dir: w.dir, Job: w.job, Init: w.init, Key: w.key, Store: w.store, Client: w.app, Log: w.log,
		Online: network.Use, Output: w.output, ListGPUs: w.listGPUs,
		Version: version, Static: static, Sporadic: w.o.sporadic, Patience: w.patience,
	})
}

// output returns where a container's output goes if job.toml names no file: to stderr.txt, which gets its beginning and
// end; standalone to the terminal.
func (w *wrapper) output() (stdout, stderr io.Writer, done io.Closer) {
	switch {
	case w.screen != nil:
		return w.screen.over(w.stdout), w.screen, nil
	case w.standalone:
		return w.stdout, w.stderr, nil
	default:
		b := newBounded(w.jobsOutput)
		lines := hiding{b, w.secrets} // before b, which may cut a secret in two
		return lines, lines, b
	}
}

// removeContainer removes the container of a job that has ended or can't be planned. It returns an error if the client told
// the wrapper to quit or abort before that.
func (w *wrapper) removeContainer(ctx context.Context, network *supervise.Network) error {
	ctx, done := supervise.UntilUnwanted(ctx, w.app)
	defer done()
	k, err := w.keeper(network)
	if err != nil {
		return err
	}
	defer k.Close()
	return k.Remove(ctx)
}

// supervise runs the job. The error, never nil, is an *ended or says why the job can't run.
func (w *wrapper) supervise(ctx context.Context, network *supervise.Network) error {
	k, err := w.keeper(network)
	if err != nil {
		return err
	}
	defer k.Close()
	if w.standalone {
		network.Allow()
	}
	out := supervise.Outcome{Reason: supervise.TimedOut}
	if w.store.Episode().TimedOut {
		k.Adopt(ctx)
	} else {
		out = supervise.Run(ctx, w.superviseOptions(k, network))
	}
	if out.Adrift { // a call to the engine is still running: touch nothing of the job. The next episode finds what it is about
		return w.leaveAdrift(out)
	}
	w.store.Note(w.log, func(e *session.Episode) {
		e.Ran = out.Last.Ran
		if out.Up > steadyTime {
			e.Tries = 0
		}
	})
	if w.screen != nil {
		w.screen.clear()
	}
	return w.settle(ctx, k, out)
}

// leaveAdrift ends this run of a job for which something still works. What is noted is what that doesn't touch.
func (w *wrapper) leaveAdrift(out supervise.Outcome) error {
	if out.Reason != supervise.Left && out.Reason != supervise.Aborted {
		return out.Err
	}
	if !out.Parked.IsZero() {
		w.store.Note(w.log, func(e *session.Episode) { e.Parked = out.Parked })
	}
	w.log.Info().Msg("leaving")
	return &ended{silent: true}
}

// superviseOptions returns what supervise.Run needs.
func (w *wrapper) superviseOptions(k *session.Keeper, network *supervise.Network) supervise.Options {
	e, checkpoint := w.store.Episode(), w.job.Checkpoint
	if checkpoint.Any() {
		w.app.SetCheckpointPeriod(time.Duration(checkpoint.Period))
	}
	o := supervise.Options{
		Client: w.app,
		Open: func(ctx context.Context, before job.Before) (supervise.Session, error) {
			s, err := k.Open(ctx, before)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Still:      k.Still,
		Retry:      w.retryHere,
		Network:    network,
		Checkpoint: checkpoint,
		Last:       e.Checkpoint,
		Ran:        e.Ran,
		Stop:       w.job.Stop,
		TimeLimit:  time.Duration(w.job.TimeLimit),
		Log:        w.log,
	}
	if !w.standalone && e.Container == "" { // else Last says more: the client may count what only a container had, which is gone
		o.CPU = time.Duration(w.init.WUCPUTime * float64(time.Second))
	}
	if w.screen != nil {
		o.Observe = w.screen.show
	}
	n := w.job.Container.Network
	o.Joins = n != "none" && n != "host" && !strings.HasPrefix(n, "container:")
	return o
}
