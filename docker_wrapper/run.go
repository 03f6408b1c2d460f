package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
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
	o              options
	argErr         error
	dir            string // the slot
	stdout, stderr io.Writer
	log            zerolog.Logger

	app     *boincapi.App
	init    *boincapi.InitData // nil when standalone
	key     []byte             // of the data directory's wrappers; nil when standalone, and where nothing is touched
	secrets *strings.Replacer  // the volunteer's, which no text of ours may show; nil while none is known

	standalone bool        // no init_data.xml: nobody starts us again
	said       bool        // the log tells already why the job ended
	noted      bool        // the slot is ours, and what earlier episodes have noted is known
	config     *job.Config // as it was read; nil while it isn't, and where there is no file
	job        *job.Job
	episode    supervise.Episode

	network       *supervise.Network
	engine        *engine.Engine
	swept         bool // forgotten containers are removed
	container     *engine.Container
	tried         bool // whether this engine can checkpoint
	canCheckpoint bool // it can
	logs          *engine.Logs
	mail          *mail // nil where the job has no payload of its own
	sinks         []io.Closer
	screen        *screen // nil unless a person is watching
}

// run is the story: read, plan, open the engine, supervise, end.
func (w *wrapper) run(ctx context.Context) int {
	w.standalone = !exists(filepath.Join(w.dir, boincapi.InitDataFile))
	if !w.standalone {
		w.stderr = boincapi.PlainWriter(w.stderr) // the container's output goes there, too
	}
	w.log = newLogger(boincapi.PlainWriter(w.stderr), 1)
	if !w.standalone {
		if err := boincapi.RedirectStderr(w.dir); err != nil {
			w.log.Error().Err(err).Msg("stderr.txt")
		}
		if code, message, found := boincapi.FinishFile(w.dir); found {
			w.log.Info().Int("code", code).Str("message", message).Msg("this job has finished already")
			return code
		}
	} else {
		w.screen = newScreen(w.stderr)
	}
	w.log.Info().Str("version", version).Msg("docker_wrapper")
	o := boincapi.Options{Dir: w.dir, LockRetry: lockRetry, Sporadic: w.o.sporadic}
	if w.standalone {
		o.LockRetry = -1 // a person waits
	}
	var err error
	var squatted error
	if !w.standalone {
		squatted = slot.Vacate(w.dir)
	}
	if w.app, err = boincapi.Start(ctx, o); squatted != nil {
		return w.end(squatted)
	} else if errors.Is(err, boincapi.ErrLocked) && w.standalone {
		w.log.Error().Msgf("another docker_wrapper runs in %s: wait for it, or stop it", w.dir)
		return boincapi.ExitInitFailure
	} else if err != nil {
		return w.end(err)
	}
	defer func() { // a service of Podman's that was started for us ends with us
		if w.engine != nil {
			w.engine.Close()
		}
	}()
	defer w.app.Close()
	if !w.app.Standalone() {
		d := w.app.InitData()
		w.keepSecret(&d)
	}
	w.reportEarly()
	if w.argErr != nil {
		return w.end(&job.ConfigError{File: "command line", Problem: w.argErr.Error()})
	}
	if w.init != nil {
		if err = w.claim(ctx); err != nil {
			return w.end(err)
		}
		if w.episode, err = supervise.LoadEpisode(w.stateDir()); err != nil {
			w.log.Warn().Err(err).Msg("earlier episodes are forgotten")
		}
		w.noted = true
	}
	w.network = supervise.NewNetwork()
	if d := w.episode.Done; d != nil {
		if w.clearUp(ctx) != nil {
			return w.end(&ended{silent: true})
		}
		return w.finish(d.Code, d.Message)
	}
	if w.job, err = w.plan(); err != nil {
		if _, ok := mending(err); projectsFault(err) && !ok {
			w.remove(ctx) // of an earlier episode, when all was well
		}
		return w.end(err)
	}
	for _, text := range append(w.job.Warnings, w.job.Notes...) {
		w.log.Warn().Msg(text)
	}
	return w.end(w.supervise(ctx))
}

// claim makes sure that the wrapper's directory in the slot is a wrapper's.
func (w *wrapper) claim(ctx context.Context) (err error) {
	if err := checkDirs(w.init); err != nil {
		return err
	}
	if w.key, err = readKey(ctx, w.init.BoincDir); err != nil {
		return err
	}
	return slot.Claim(w.dir, slotSeal(w.key, w.init))
}

// clearUp removes the container of a job that has ended, where that was broken off. Its error is that the client
// wants us gone before.
func (w *wrapper) clearUp(ctx context.Context) error {
	ctx, done := supervise.UntilUnwanted(ctx, w.app)
	defer done()
	return w.remove(ctx)
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

// reportEarly tells the client what earlier episodes have used: a status without CPU time would
// set it to zero.
func (w *wrapper) reportEarly() {
	if w.init != nil {
		w.app.Report(boincapi.Report{CPU: w.init.WUCPUTime, CheckpointCPU: w.init.WUCPUTime})
	}
}

// plan reads everything and decides everything. It touches nothing.
func (w *wrapper) plan() (*job.Job, error) {
	if w.init != nil {
		if err := checkDirs(w.init); err != nil {
			return nil, err
		}
	}
	in := job.Input{Init: w.init, Dir: w.dir, Args: w.o.args, Dockerfile: w.o.dockerfile, RealPath: mountSource}
	if in.Dockerfile == "" {
		in.Dockerfile = defaultDockerfile
	}
	for _, named := range []struct{ option, name string }{{"--config", w.o.config}, {"--dockerfile", w.o.dockerfile}} {
		if err := job.CheckLength(filepath.ToSlash(named.name)); err != nil {
			return nil, &job.ConfigError{File: "command line", Key: named.option, Problem: fmt.Sprintf("%.80q… %v", named.name, err)}
		}
	}
	in.ProjectDir = filepath.Join(w.dir, projectSubdir)
	if w.init != nil {
		// The slot's links are relative to the slot, whatever the client calls its directories.
		in.ProjectDir = realPath(w.init.ProjectDir)
		in.Dir = realPath(w.dir)
	}
	scope := in.ProjectDir
	if w.init == nil {
		scope = ""
		in.LockDir = filepath.Join(os.TempDir(), fmt.Sprintf("docker_wrapper_%d", os.Getuid()))
	}
	var err error
	if in.Links, err = slot.Links(in.Dir, scope, w.appFiles()); err != nil {
		return nil, err
	}
	files := slot.Files(job.Slot{Dir: in.Dir, Links: in.Links})
	config := w.o.config
	if config == "" {
		config = defaultConfig
	}
	data, err := engine.ReadFile(files, filepath.ToSlash(config), job.MaxFile)
	if engine.HostsFault(err) {
		return nil, fmt.Errorf("read %s: %w", config, err)
	} else if l := linkNamed(in.Links, filepath.ToSlash(config)); err != nil && l != nil {
		return nil, &job.ConfigError{File: config, Problem: "it is a link to " + l.Target + ", which can't be read: " + reason(err)}
	} else if errors.Is(err, fs.ErrNotExist) && w.o.config == "" {
		data, err = nil, nil
	} else if err != nil {
		e := &job.ConfigError{File: config, Problem: reason(err)}
		if w.o.config != "" {
			e.Hint = "it is named by --config"
		}
		return nil, e
	}
	c, err := job.ParseConfig(config, data)
	if err != nil {
		return nil, err
	}
	in.Config = c
	if data != nil {
		w.config = c
	}
	if w.init == nil && c.ProjectDirMount != "" && !exists(in.ProjectDir) {
		e := c.Errorf("project_dir_mount", "by hand the project directory is ./%s, and it isn't there", projectSubdir)
		e.Hint = "make it, and put the files into it that the links name"
		return nil, e
	}
	_, statErr := fs.Stat(files, in.Dockerfile)
	if engine.HostsFault(statErr) {
		return nil, fmt.Errorf("look for %s: %w", in.Dockerfile, statErr)
	}
	in.HasDockerfile = statErr == nil
	w.setVerbosity(c.Verbose)
	if w.init != nil {
		in.Signed = w.signed(in, config, data != nil) && !w.episode.Unsigned
		in.Policy, err = readPolicy(w.init.BoincDir)
		if err != nil {
			return nil, err
		}
	}
	in.Host = hostFacts()
	if w.key != nil {
		in.Proof = w.ownLabels()[job.LabelProof]
	}
	if c.UseGPU {
		w.lookForGPUs(&in)
	}
	j, err := job.Plan(in)
	if w.o.check && errors.Is(err, job.ErrNoGPU) { // the matter of a computer that isn't the job's
		c.UseGPU = false
		return job.Plan(in)
	}
	return j, err
}

// appFiles are the physical names of the app version's files; none by hand.
func (w *wrapper) appFiles() []string {
	if w.init == nil {
		return nil
	}
	return w.init.AppFiles
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

// signed reports whether all that decides what the container may do comes with the app version.
func (w *wrapper) signed(in job.Input, config string, hasConfig bool) bool {
	if !hasConfig && !in.HasDockerfile {
		return false
	}
	ok := func(name string) bool {
		return slot.Signed(in.Dir, in.ProjectDir, filepath.ToSlash(filepath.Clean(name)), in.Links, w.init.AppFiles)
	}
	return (!hasConfig || ok(config)) && (!in.HasDockerfile || ok(in.Dockerfile))
}

// ownLabels are those of this job's container.
func (w *wrapper) ownLabels() map[string]string {
	dir := realPath(w.dir)
	labels := job.ContainerLabels(w.init, dir)
	labels[job.LabelProof] = containerSeal(w.key, job.ContainerName(w.init, dir), labels)
	return labels
}

// errPolicy: the volunteer's file can't be understood, so nothing is run until it can.
var errPolicy = errors.New("the policy file of this computer")

// errNoDir: what the client keeps in a directory, its volunteer's policy or the project's files, is looked for nowhere
// else, as the slot is the job's.
var errNoDir = errors.New("init_data.xml doesn't say where a directory of the client is")

// checkDirs makes sure that the client has said where its directories are.
func checkDirs(d *boincapi.InitData) error {
	for _, dir := range []struct{ element, path string }{{"boinc_dir", d.BoincDir}, {"project_dir", d.ProjectDir}} {
		if !filepath.IsAbs(dir.path) {
			return fmt.Errorf("%w: its %s is %q, and no absolute path", errNoDir, dir.element, dir.path)
		}
	}
	return nil
}

func readPolicy(dataDir string) (job.Policy, error) {
	name := filepath.Join(dataDir, job.PolicyFile)
	data, err := readPolicyFile(name)
	var p job.Policy
	if err == nil {
		p, err = job.ParsePolicy(name, data)
	}
	if err != nil {
		return job.Policy{}, fmt.Errorf("%w: %w", errPolicy, err)
	}
	return p, nil
}

// readPolicyFile gives nil where there is no such file in its directory. What is there under its name and can't be read is an
// error: its owner means something by it.
func readPolicyFile(name string) ([]byte, error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(name)); err != nil {
			return nil, fmt.Errorf("look into the directory where it would be: %w", err)
		}
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO's writer isn't waited for
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is a symlink that leads nowhere", name)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, job.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > job.MaxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, job.MaxFile>>20)
	}
	return data, nil
}

func hostFacts() job.Host {
	return job.Host{UID: os.Getuid(), GID: os.Getgid(), CPUs: runtime.NumCPU(), Memory: host.Memory()}
}

// show prints the plan, or what is wrong with job.toml.
func (w *wrapper) show() int {
	w.stderr = boincapi.PlainWriter(w.stderr)
	fail := func(err error) int {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(w.stderr, strings.TrimRight(line, "\n"))
		}
		return boincapi.ExitInitFailure
	}
	if w.argErr != nil {
		return fail(w.argErr)
	}
	if f, err := os.Open(filepath.Join(w.dir, boincapi.InitDataFile)); err == nil {
		d, err := boincapi.ParseInitData(f)
		f.Close()
		if err != nil {
			return fail(fmt.Errorf("read %s: %w", boincapi.InitDataFile, err))
		}
		w.keepSecret(&d)
	}
	w.log = newLogger(w.stderr, 0)
	j, err := w.plan()
	if err != nil {
		return fail(err)
	}
	if w.o.check {
		for _, text := range append(j.Warnings, j.Notes...) {
			fmt.Fprintln(w.stderr, text)
		}
		if len(j.Warnings) > 0 {
			return boincapi.ExitInitFailure
		}
		if err := w.checkFiles(j); err != nil {
			return fail(err)
		}
		if w.config == nil {
			fmt.Fprintf(w.stdout, "no %s: all defaults\n", defaultConfig)
		} else {
			fmt.Fprintf(w.stdout, "%s: ok\n", w.config.File)
		}
	}
	if w.o.plan {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(j); err != nil {
			return fail(err)
		}
	}
	return 0
}

// checkFiles looks for the files that the Dockerfile and job.toml name.
func (w *wrapper) checkFiles(j *job.Job) error {
	var errs []error
	files := slot.Files(j.Slot)
	for _, s := range j.Image.Sources {
		if s.Dockerfile != "" {
			errs = append(errs, engine.CheckDockerfile(files, s))
		}
	}
	if w.config == nil {
		return errors.Join(errs...)
	}
	look := func(key, name string) {
		if _, err := fs.Stat(files, name); err != nil {
			errs = append(errs, w.config.Errorf(key, "%q: no such file in the slot", name))
		}
	}
	for _, choice := range w.config.Images {
		if choice.Archive != "" {
			look("images", choice.Archive)
		}
	}
	if w.config.ImageArchive != "" {
		look("image_archive", w.config.ImageArchive)
	}
	for _, p := range w.config.CopyToContainer {
		look("copy_to_container", p.Src)
	}
	return errors.Join(errs...)
}

// supervise runs the job and returns what came of it; an *ended error says how the job ended.
func (w *wrapper) supervise(ctx context.Context) error {
	if w.init == nil {
		w.network.Allow()
	}
	o := supervise.Options{
		Client:      w.app,
		Prepare:     w.prepare,
		Mends:       w.mend,
		Network:     w.network,
		Fraction:    w.fraction(),
		Checkpoints: w.checkpoints(),
		Stopping:    w.noteStopping,
		TimedOut:    w.noteTimeout,
		Still:       w.still,
		Stop:        w.job.Stop,
		TimeLimit:   time.Duration(w.job.TimeLimit),
		Ran:         w.episode.Ran,
		Log:         w.log,
	}
	if w.init != nil && !w.episode.Anew { // what the client knows of a checkpoint is past
		o.CPU = time.Duration(w.init.WUCPUTime * float64(time.Second))
	}
	if w.screen != nil {
		o.Observe = w.screen.show
	}
	if n := w.job.Container.Network; n != "none" && n != "host" && !strings.HasPrefix(n, "container:") {
		o.Connect = w.connect
	}
	o.Reread = w.reread
	if w.job.Slot.Move {
		var err error
		if w.mail, err = w.openMail(); err != nil {
			return err
		}
		o.Mail = w.mail.round
	}
	var out supervise.Outcome
	if w.episode.TimedOut {
		out.Reason = supervise.TimedOut
		if found, err := w.earlier(ctx); err == nil {
			w.container = found
		}
	} else {
		out = supervise.Run(ctx, o)
	}
	if out.Adrift { // a preparation still uses what is ours
		w.log.Info().Msg("leaving")
		return &ended{silent: true}
	}
	w.episode.Ran = out.Last.Ran
	if out.Up > steadyTime {
		w.episode.Tries = 0
	}
	if w.screen != nil {
		w.screen.clear()
	}
	return w.settle(ctx, out)
}

// connect joins the container to its network, or parts it.
func (w *wrapper) connect(ctx context.Context, on bool) error {
	err := w.container.Connect(ctx, w.job.Container.Network, on)
	if err == nil && on {
		w.tellGraphics(ctx) // its port may be another now
	}
	return err
}

// reread gives the container what the client has written anew.
func (w *wrapper) reread() {
	_, err := w.app.RereadInitData() // waits until it is whole
	if err == nil {
		err = w.renewInitData()
	}
	if err != nil {
		w.log.Warn().Err(err).Msg("the newer init_data.xml is not taken over")
	}
}

// fraction reads how far the job says it is.
func (w *wrapper) fraction() func(context.Context) (float64, bool) {
	const limit = 64 // bytes; a number is shorter
	var warned sync.Once
	parse := func(name string, data []byte, err error) (float64, bool) {
		if err != nil || len(bytes.TrimSpace(data)) == 0 { // not there yet, or just being written
			return 0, false
		}
		f, err := slot.ParseFraction(data)
		if err != nil {
			warned.Do(func() { w.log.Warn().Msgf("%s: %v", name, err) })
		}
		return f, err == nil
	}
	switch p := w.job.Progress; {
	case p.File != "":
		payload := slot.Payload{Dir: w.job.Slot.Payload}
		return func(context.Context) (float64, bool) {
			data, err := payload.Read(p.File, limit)
			return parse(p.File, data, err)
		}
	case p.ContainerFile != "":
		return func(ctx context.Context) (float64, bool) {
			data, err := w.container.ReadFile(ctx, p.ContainerFile, limit)
			return parse(p.ContainerFile, data, err)
		}
	default:
		return nil
	}
}

// saveEpisode notes what the next episode must know. Standalone there is none.
func (w *wrapper) saveEpisode() error {
	if w.init == nil {
		return nil
	}
	return w.episode.Save(w.stateDir())
}

func (w *wrapper) stateDir() string { return filepath.Join(w.dir, job.WrapperDir) }

func linkNamed(links []job.Link, name string) *job.Link {
	for i := range links {
		if links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// realPath follows the symlinks of a path that is there.
func realPath(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return filepath.Clean(name)
}

// mountSource is where a path is or would be made, symlinks followed; "" when that can't be said,
// because a symlink leads nowhere or a directory can't be searched.
func mountSource(name string) string {
	real, err := filepath.EvalSymlinks(name)
	switch dir := filepath.Dir(name); {
	case err == nil:
		return real
	case errors.Is(err, fs.ErrNotExist) && !exists(name) && dir != name:
		if real = mountSource(dir); real != "" {
			return filepath.Join(real, filepath.Base(name))
		}
	}
	return ""
}

// reason is an error without the operation and path that the os package adds.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
