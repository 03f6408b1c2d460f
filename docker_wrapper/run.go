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
	projectSubdir     = "project" // stands for the project directory when there is no client
)

// steadyTime is how long a job has to run so that what kept it before is over.
const steadyTime = 10 * time.Minute

// wrapper is one run of the program.
type wrapper struct {
	program // its stderr is replaced by one that filters
	o       options
	argErr  error
	dir     string // the slot
	log     zerolog.Logger
	screen  *screen           // nil unless a person is watching
	secrets *strings.Replacer // the volunteer's, which no text of ours may show; nil while none is known

	standalone bool // no init_data.xml: nobody starts us again
	app        *boincapi.App
	init       *boincapi.InitData // nil when standalone
	key        session.Key        // nil when standalone, and where nothing is touched
	store      *session.Store     // what earlier episodes have noted; empty while the slot isn't known to be ours
	noted      bool               // the slot is ours, and the store may be written

	config *job.Config // as it was read; nil while it isn't, and where there is no file
	job    *job.Job
	logged bool // the log tells already why the job ended
}

func newWrapper(p program, o options, dir string, argErr error) *wrapper {
	w := &wrapper{program: p, o: o, argErr: argErr, dir: dir}
	w.store, _ = session.OpenStore("") // until the slot is known to be ours
	return w
}

// runJob is the story: read, plan, supervise, settle, end.
func (w *wrapper) runJob(ctx context.Context) int {
	finished, code := w.listen()
	if finished {
		return code
	}
	var squatted error
	if !w.standalone {
		squatted = slot.RemoveReservedDirs(w.dir)
	}
	var err error
	w.app, err = boincapi.Start(ctx, boincapi.Options{Dir: w.dir, LockRetry: w.retryLock(), Sporadic: w.o.sporadic})
	switch {
	case squatted != nil:
		return w.end(squatted)
	case errors.Is(err, boincapi.ErrLocked) && w.standalone:
		w.log.Error().Msgf("another docker_wrapper runs in %s: wait for it, or stop it", w.dir)
		return boincapi.ExitInitFailure
	case err != nil:
		return w.end(err)
	}
	defer w.app.Close()
	if err := w.recall(ctx); err != nil {
		return w.end(err)
	}
	network := supervise.NewNetwork()
	if done := w.store.Episode().Done; done != nil {
		if w.clearUp(ctx, network) != nil {
			return w.end(&ended{silent: true})
		}
		return w.finish(done.Code, done.Message)
	}
	if w.job, err = w.plan(); err != nil {
		if _, ok := mending(err); projectsFault(err) && !ok {
			w.clearUp(ctx, network) // of an earlier episode, when all was well
		}
		return w.end(err)
	}
	for _, text := range append(w.job.Warnings, w.job.Notes...) {
		w.log.Warn().Msg(text)
	}
	return w.end(w.supervise(ctx, network))
}

// listen sets up the log, and reports whether the job has finished already, and how.
func (w *wrapper) listen() (finished bool, code int) {
	w.standalone = !exists(filepath.Join(w.dir, boincapi.InitDataFile))
	if !w.standalone {
		w.stderr = boincapi.PlainWriter(w.stderr) // the container's output goes there, too
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

func (w *wrapper) retryLock() time.Duration {
	if w.standalone {
		return -1 // a person waits
	}
	return w.lockRetry
}

// recall takes what the client says of the job, and what earlier episodes have noted.
func (w *wrapper) recall(ctx context.Context) error {
	if !w.app.Standalone() {
		d := w.app.InitData()
		w.keepSecret(&d)
		// What earlier episodes have used: a status without CPU time would set it to zero.
		w.app.Report(boincapi.Report{CPU: d.WUCPUTime, CheckpointCPU: d.WUCPUTime})
	}
	if w.argErr != nil {
		return &job.ConfigError{File: "command line", Problem: w.argErr.Error()}
	}
	if w.init == nil {
		return nil
	}
	if err := w.claim(ctx); err != nil {
		return err
	}
	var err error
	if w.store, err = session.OpenStore(filepath.Join(w.dir, job.WrapperDir)); err != nil {
		w.log.Warn().Err(err).Msg("earlier episodes are forgotten")
	}
	w.noted = true
	return nil
}

// claim makes sure that the wrapper's directory in the slot is a wrapper's.
func (w *wrapper) claim(ctx context.Context) (err error) {
	if err := checkDirs(w.init); err != nil {
		return err
	}
	if w.key, err = session.ReadKey(ctx, w.init.BoincDir); err != nil {
		return err
	}
	return slot.Claim(w.dir, w.key.Slot(w.init))
}

// keepSecret takes the client's word for the job. From now on stderr.txt, which goes to the project, shows
// nothing that only the volunteer may know.
func (w *wrapper) keepSecret(d *boincapi.InitData) {
	w.init = d
	w.secrets = job.ProxyHider(d)
	w.stderr = hiding{w.stderr, w.secrets}
	w.log = newLogger(w.stderr, 1)
}

// public is a text without secrets.
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

// keeper is this job on this computer.
func (w *wrapper) keeper(network *supervise.Network) (*session.Keeper, error) {
	return session.New(session.Options{
		Dir: w.dir, Job: w.job, Init: w.init, Key: w.key, Store: w.store, Client: w.app, Log: w.log,
		Online: network.Use, Output: w.output, ListGPUs: w.listGPUs,
		Version: version, Static: static, Sporadic: w.o.sporadic, Patience: w.patience,
	})
}

// output is where a container's output goes where job.toml names no file: to stderr.txt, head and tail kept; to the terminal when
// a person is there.
func (w *wrapper) output() (stdout, stderr io.Writer, done io.Closer) {
	switch {
	case w.screen != nil:
		return w.screen.over(w.stdout), w.screen, nil
	case w.init == nil:
		return w.stdout, w.stderr, nil
	default:
		b := newBounded(w.stderr)
		whole := hiding{b, w.secrets} // b may cut a line in two
		return whole, whole, b
	}
}

// clearUp removes the container of a job that has ended, or that has no plan. Its error is that the client wants us gone before.
func (w *wrapper) clearUp(ctx context.Context, network *supervise.Network) error {
	ctx, done := supervise.UntilUnwanted(ctx, w.app)
	defer done()
	k, err := w.keeper(network)
	if err != nil {
		return err
	}
	defer k.Close()
	return k.Remove(ctx)
}

// supervise runs the job and returns what came of it; an *ended error says how the job ended.
func (w *wrapper) supervise(ctx context.Context, network *supervise.Network) error {
	k, err := w.keeper(network)
	if err != nil {
		return err
	}
	defer k.Close()
	if w.init == nil {
		network.Allow()
	}
	out := supervise.Outcome{Reason: supervise.TimedOut}
	if w.store.Episode().TimedOut {
		k.Adopt(ctx)
	} else {
		out = supervise.Run(ctx, w.watch(k, network))
	}
	if out.Adrift { // what still works uses what is ours
		w.log.Info().Msg("leaving")
		return &ended{silent: true}
	}
	w.remember(func(e *session.Episode) {
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

// watch is what the watch is to know of the job.
func (w *wrapper) watch(k *session.Keeper, network *supervise.Network) supervise.Options {
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
		Mends:      w.mend,
		Network:    network,
		Checkpoint: checkpoint,
		Last:       e.Checkpoint,
		Ran:        e.Ran,
		Stop:       w.job.Stop,
		TimeLimit:  time.Duration(w.job.TimeLimit),
		Log:        w.log,
	}
	if w.init != nil && !e.Anew { // what the client knows of a checkpoint is past
		o.CPU = time.Duration(w.init.WUCPUTime * float64(time.Second))
	}
	if w.screen != nil {
		o.Observe = w.screen.show
	}
	n := w.job.Container.Network
	o.Joins = n != "none" && n != "host" && !strings.HasPrefix(n, "container:")
	return o
}

// remember changes what the next episode knows. Where that can't be written, it knows less.
func (w *wrapper) remember(f func(*session.Episode)) {
	if err := w.store.Change(f); err != nil {
		w.log.Warn().Err(err).Msg("the next episode knows less")
	}
}
