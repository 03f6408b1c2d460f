package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
	"boincdocker/docker_wrapper/internal/supervise"
)

// prepare finds this job's container or makes it. A container that runs is taken over, never
// killed; one that has ended while nobody watched is harvested, not run again.
func (w *wrapper) prepare(ctx context.Context, before supervise.Before) (supervise.Prepared, error) {
	if w.logs != nil && !before.Stopped.IsZero() {
		w.park(before.Stopped)
		w.logs = nil
	} else if w.logs != nil && before.Outside {
		w.park(longAgo) // before it ended
		w.logs = nil
	}
	if err := w.open(ctx); err != nil {
		return supervise.Prepared{}, err
	}
	w.sweep(ctx)
	found, err := w.engine.Find(ctx, w.job.Container)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return w.fresh(ctx, before.CPU)
	case err != nil:
		return supervise.Prepared{}, err
	case found.State == engine.StateCreated: // broken off before it was started: nobody knows what is in it
		if err := found.Remove(ctx); err != nil {
			return supervise.Prepared{}, err
		}
		return w.fresh(ctx, before.CPU)
	}
	switch alive := found.State != engine.StateExited; {
	case alive && w.anotherGPU(found):
		return w.anew(ctx, found, before.CPU, "BOINC has assigned another GPU")
	case found.State == engine.StatePaused && !w.proven(found):
		return w.anew(ctx, found, before.CPU, "nobody has looked for its GPU")
	}
	w.container = found
	if found.State == engine.StateRunning { // and perhaps held, by a wrapper that was killed
		if err := found.Release(ctx); err != nil {
			return supervise.Prepared{}, err
		}
	}
	if found.State == engine.StateRunning && !w.proven(found) {
		if err := w.prove(ctx); err != nil {
			return supervise.Prepared{}, w.without(ctx, err)
		}
	}
	base := w.episode.CPUBase
	if w.episode.Container != found.ID {
		base = 0 // never more than it was; what was reported before doesn't go back
	}
	w.log.Info().Str("container", found.Name).Str("state", found.State).Msg("found this job's container")
	if w.init != nil {
		if err := w.renewInitData(); err != nil {
			w.log.Warn().Err(err).Msg("the container keeps the older init_data.xml")
		}
	}
	made, _ := w.checkpointMade(ctx)
	last := w.episode.Checkpoint.At
	unsaved := !last.IsZero() && !made.IsZero() && !made.Equal(last)
	if again, err := w.cutOff(ctx, found); err != nil {
		return supervise.Prepared{}, err
	} else if again && w.anotherGPU(found) {
		return w.anew(ctx, found, before.CPU, "BOINC has assigned another GPU")
	} else if again {
		return w.again(ctx, found, supervise.Prepared{CPUBase: before.CPU, Made: made, Unsaved: unsaved})
	}
	w.episode.Parked = time.Time{}
	if err := w.saveEpisode(); err != nil {
		return supervise.Prepared{}, err
	}
	if err := w.follow(ctx, w.episode.LastLog, found.State != engine.StateExited); err != nil {
		return supervise.Prepared{}, err
	}
	w.tellGraphics(ctx)
	return supervise.Prepared{Container: found, Paused: found.State == engine.StatePaused, Apart: true, CPUBase: base, Made: made, Unsaved: unsaved,
		Unable: found.State == engine.StateExited || !w.able(ctx), Anew: w.episode.Anew}, nil
}

// again has a container go on that ended by no doing of its own: from its last checkpoint through the engine, if there
// is one, else as it is.
func (w *wrapper) again(ctx context.Context, c *engine.Container, p supervise.Prepared) (supervise.Prepared, error) {
	back, err := w.goBack(ctx, c.Image, p.CPUBase)
	switch {
	case err == nil:
		return back, nil
	case errors.Is(err, engine.ErrNoRestore):
		if err := c.Remove(ctx); err != nil { // else it would go on as it is
			return supervise.Prepared{}, err
		}
		w.container = nil
		w.forget(err)
		return w.fresh(ctx, 0)
	case !errors.Is(err, errNoCheckpoint):
		return supervise.Prepared{}, err
	}
	able := w.able(ctx) // which may take its time: nothing must run yet
	if err := ctx.Err(); err != nil {
		return supervise.Prepared{}, err
	}
	if err := w.start(ctx, p.CPUBase, w.episode.LastLog); err != nil {
		return supervise.Prepared{}, w.without(ctx, err)
	}
	p.Container, p.Apart, p.Began, p.Unable, p.Anew = c, true, true, !able, w.episode.Anew
	return p, nil
}

// without removes a container that runs without its GPU: not a moment longer. Any other error leaves it.
func (w *wrapper) without(ctx context.Context, err error) error {
	if !errors.Is(err, engine.ErrGPU) {
		return err
	}
	c := w.container
	w.container = nil
	return errors.Join(err, c.Remove(ctx))
}

// anew makes the container anew, for the GPU that the client has assigned now.
func (w *wrapper) anew(ctx context.Context, found *engine.Container, cpu time.Duration, why string) (supervise.Prepared, error) {
	w.log.Info().Str("container", found.Name).Str("had", found.Labels[job.LabelGPU]).Str("now", w.job.Container.GPU.Identity()).
		Msg(why + ": the container is made anew")
	w.container = nil
	if err := found.Remove(ctx); err != nil {
		return supervise.Prepared{}, err
	}
	return w.fresh(ctx, cpu)
}

// open opens the engine that has the job's container, else any. One that stays away doesn't keep the job for ever.
func (w *wrapper) open(ctx context.Context) error {
	if w.engine != nil {
		return nil
	}
	o := engine.Options{Log: w.log, Online: w.network.Use}
	if w.episode.Container != "" && w.episode.Tries < maxFaithful && engine.Known(w.episode.Host) {
		o.Host = w.episode.Host
	}
	e, err := engine.Open(ctx, o)
	if err != nil {
		return err
	}
	w.engine = e
	w.log.Info().Str("kind", e.Info.Kind).Str("version", e.Info.Version).Str("host", e.Info.Host).Msg("engine")
	return nil
}

// maxFaithful is after how many temporary exits in a row another engine will do: with the delays of engineDelay a good
// two hours.
const maxFaithful = 5

// earlier finds the container of an earlier episode.
func (w *wrapper) earlier(ctx context.Context) (*engine.Container, error) {
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	return w.engine.Find(ctx, w.job.Container)
}

// still pauses the job's container, which may run since an earlier wrapper was killed.
func (w *wrapper) still(ctx context.Context) error {
	if w.episode.Container == "" {
		return nil
	}
	found, err := w.earlier(ctx)
	if errors.Is(err, engine.ErrNotFound) || err == nil && found.State != engine.StateRunning {
		return nil
	} else if err == nil {
		err = w.stand(ctx, found)
	}
	return err
}

// stand pauses a container that nobody is going to watch, or stops it where it can't be paused.
func (w *wrapper) stand(ctx context.Context, c *engine.Container) error {
	err := c.Pause(ctx)
	if errors.Is(err, job.ErrNoPause) {
		w.noteStopping()
		return c.Stop(ctx, time.Duration(w.job.Stop.Timeout))
	}
	return err
}

// cutOff reports whether a container has ended and the job did not end it.
func (w *wrapper) cutOff(ctx context.Context, found *engine.Container) (bool, error) {
	if found.State != engine.StateExited {
		return false, nil
	}
	exit, err := found.Exit(ctx)
	if err != nil {
		return false, err
	}
	return job.Whose(exit, job.Notes{
		Ours:       w.episode.Container == found.ID,
		None:       w.episode.Container == "",
		Parked:     w.episode.Parked,
		BootThen:   w.episode.Boot,
		BootNow:    host.BootID(),
		BootTime:   host.BootTime(),
		Checkpoint: w.canGoBack(),
	}) == job.FromOutside, nil
}

// fresh makes a new container and starts it.
func (w *wrapper) fresh(ctx context.Context, cpu time.Duration) (supervise.Prepared, error) {
	image, err := w.engine.Ensure(ctx, w.job.Image, slot.Files(w.job.Slot))
	if err != nil {
		return supervise.Prepared{}, err
	}
	if err := w.openPayload(); err != nil {
		return supervise.Prepared{}, err
	}
	switch p, err := w.goBack(ctx, image, cpu); {
	case err == nil:
		return p, nil
	case errors.Is(err, engine.ErrNoRestore):
		w.forget(err)
	case !errors.Is(err, errNoCheckpoint):
		return supervise.Prepared{}, err
	}
	anew := w.episode.Anew // also when it was found out by a preparation that failed then
	if anew {
		cpu = 0
	}
	j, able := *w.job, w.able(ctx)
	if !able { // then nothing needs to be left out for it
		j.Checkpoint.Method = job.ByNobody
	}
	c, err := w.engine.Create(ctx, &j, image)
	if errors.Is(err, engine.ErrNotFound) { // the image was removed in between
		if image, err = w.engine.Ensure(ctx, w.job.Image, slot.Files(w.job.Slot)); err == nil {
			c, err = w.engine.Create(ctx, &j, image)
		}
	}
	if err != nil {
		return supervise.Prepared{}, err
	}
	w.container = c
	err = ctx.Err()
	if err == nil {
		err = c.CopyIn(ctx, w.job.CopyIn)
	}
	if err == nil {
		err = w.restoreCheckpoint(ctx, c)
	}
	made, _ := w.checkpointMade(ctx)
	if err == nil {
		since := time.Time{}
		if !w.episode.Checkpoint.At.IsZero() {
			since = longAgo
		}
		err = w.start(ctx, cpu, since)
	}
	if err != nil {
		w.container = nil
		if errors.Is(err, engine.ErrUnreachable) { // it may have been started all the same
			if c, found := w.engine.Find(ctx, w.job.Container); found != nil || c.State != engine.StateCreated {
				return supervise.Prepared{}, err
			}
		}
		return supervise.Prepared{}, errors.Join(err, c.Remove(ctx))
	}
	w.collect(ctx)
	return supervise.Prepared{Container: c, Began: true, CPUBase: cpu, Made: made, Unable: !able, Anew: anew}, nil
}

// longAgo is before all that a container prints, and before its end. What a new one prints follows what one before has
// printed up to a checkpoint.
var longAgo = time.Unix(1, 0)

// start starts w.container and notes what the next episode must know of it. Its output up to since
// was written when it ran before.
func (w *wrapper) start(ctx context.Context, base time.Duration, since time.Time) error {
	w.episode = supervise.Episode{Container: w.container.ID, Host: w.engine.Info.Host, Boot: host.BootID(), CPUBase: base, Checkpoint: w.episode.Checkpoint, Anew: w.episode.Anew,
		Ran: w.episode.Checkpoint.Ran, LastLog: since, Written: w.episode.Written, Tries: w.episode.Tries, Unsigned: !w.job.Signed}
	if since.Equal(longAgo) {
		w.episode.Written = w.written()
	}
	if err := w.saveEpisode(); err != nil {
		return err
	}
	began := time.Now()
	if err := w.container.Start(ctx); err != nil {
		return err
	}
	w.log.Info().Str("container", w.container.Name).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("started")
	if err := w.prove(ctx); err != nil {
		return err
	}
	if err := w.follow(ctx, since, true); err != nil {
		return err
	}
	w.tellGraphics(ctx)
	return nil
}

// openPayload makes the container's side of the slot.
func (w *wrapper) openPayload() error {
	if w.job.Slot.Move {
		redacted, err := w.redactedInitData()
		if err != nil {
			return err
		}
		if err := slot.MoveIn(w.job.Slot, redacted); err != nil {
			return err
		}
		w.mail.deliver() // a job may look only at its start
		w.mail.sporadic()
	} else if !w.job.Standalone {
		if err := slot.NoteLinks(w.job.Slot); err != nil {
			return err
		}
	}
	if w.job.Slot.MakeOutputs {
		if err := slot.MakeOutputs(w.job.Slot); err != nil {
			return err
		}
	}
	if w.job.Slot.Payload != "" && w.job.Container.User.Mode != "auto" {
		return slot.Open(w.job.Slot) // its user is not BOINC's
	}
	return nil
}

func (w *wrapper) renewInitData() error {
	if !w.job.Slot.Move {
		return nil
	}
	redacted, err := w.redactedInitData()
	if err != nil {
		return err
	}
	return slot.WriteInitData(w.job.Slot, redacted)
}

func (w *wrapper) redactedInitData() ([]byte, error) {
	raw, err := os.ReadFile(boincapi.InitDataFile)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", boincapi.InitDataFile, err)
	}
	raw = boincapi.Redact(raw)
	if w.job.Container.GPU != nil {
		raw = boincapi.FirstGPU(raw)
	}
	return raw, nil
}

// follow streams the container's output: to the files that job.toml names, else to stderr.txt, head
// and tail kept; to the terminal when a person is there.
func (w *wrapper) follow(ctx context.Context, since time.Time, live bool) error {
	out, errs := io.Writer(w.stdout), io.Writer(w.stderr)
	switch {
	case w.screen != nil:
		out, errs = w.screen.over(w.stdout), w.screen
	case w.init != nil:
		b := newBounded(w.stderr)
		w.sinks = append(w.sinks, b)
		whole := hiding{b, w.secrets} // b may cut a line in two
		out, errs = whole, whole
	}
	for i, f := range []struct {
		name string
		to   *io.Writer
	}{{w.job.Logs.Stdout, &out}, {w.job.Logs.Stderr, &errs}} {
		if f.name == "" {
			continue
		}
		keep := w.written()[i]
		if keep = min(keep, w.episode.Written[i]); since.IsZero() {
			keep = 0
		}
		// What an earlier wrapper wrote after it noted since comes again. Windows cuts no file that is open to be appended to.
		file, err := w.openOutput(f.name, os.O_WRONLY|os.O_CREATE)
		if err == nil {
			err = errors.Join(file.Truncate(keep), file.Close())
		}
		if err == nil {
			file, err = w.openOutput(f.name, os.O_WRONLY|os.O_APPEND)
		}
		var pe *fs.PathError
		switch {
		case errors.As(err, &pe) && (errors.Is(err, fs.ErrExist) || !engine.HostsFault(err)):
			return &job.ConfigError{File: filepath.Base(f.name), Problem: "the job's output can't be written there: " + reason(err)}
		case err != nil:
			return fmt.Errorf("open the file for the job's output: %w", err)
		}
		w.sinks = append(w.sinks, file)
		*f.to = file
	}
	w.logs = w.container.Logs(context.WithoutCancel(ctx), since, out, errs) // ctx is that of the preparation
	return nil
}

// written is how many bytes the files for the container's output have, stdout and stderr.
func (w *wrapper) written() (sizes [2]int64) {
	for i, name := range []string{w.job.Logs.Stdout, w.job.Logs.Stderr} {
		if fi, err := os.Lstat(name); name != "" && err == nil {
			sizes[i] = fi.Size()
		}
	}
	return sizes
}

// openOutput opens a file of the slot, or an output file in the project directory, for what the container
// prints. No symlink leads out of there.
func (w *wrapper) openOutput(name string, mode int) (*os.File, error) {
	dir := filepath.Dir(name)
	if rel, err := filepath.Rel(w.job.Slot.Dir, name); err == nil && filepath.IsLocal(rel) {
		dir = w.job.Slot.Dir
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return nil, err
	}
	if fi, err := root.Lstat(rel); err == nil && !fi.Mode().IsRegular() {
		return nil, &job.ConfigError{File: rel, Problem: "the job's output is to go there, and it is no file"}
	}
	if mode&os.O_CREATE != 0 {
		if err := root.MkdirAll(filepath.Dir(rel), 0o771); err != nil {
			return nil, err
		}
	}
	return root.OpenFile(rel, mode, 0o664)
}

// tellGraphics tells the client where the job's web page is.
func (w *wrapper) tellGraphics(ctx context.Context) {
	if w.job.Container.WebPort == 0 {
		return
	}
	port, err := w.container.HostPort(ctx, w.job.Container.WebPort)
	if err != nil || port == 0 {
		w.log.Warn().Err(err).Int("guest_port", w.job.Container.WebPort).Msg("no host port for the web graphics")
		return
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	w.log.Info().Str("url", url).Msg("web graphics")
	w.app.SetWebGraphicsURL(url)
}
