package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// maxFaithful is after how many temporary exits in a row, about two hours, any engine is used instead of the
// container's.
const maxFaithful = 5

// longAgo is before a container's first output and before its end, and not zero. As the time of the last written line
// it means: write all output of this container, after what earlier containers printed up to a checkpoint.
var longAgo = time.Unix(1, 0)

// Open finds this job's container or makes it. One that runs or is paused is taken over; it is made anew only when it was made for
// another GPU than the job has now, or lacks its GPU, or is paused and its GPU was never looked for. One that ended by itself while
// the wrapper was away is harvested, not run again. Standalone, one of an earlier run is removed. It stops soon when ctx ends.
func (k *Keeper) Open(ctx context.Context, before job.Before) (*Session, error) {
	if k.session != nil {
		at := before.Stopped
		if at.IsZero() {
			at = longAgo // before it was ended from outside
		}
		k.park(at)
	}
	if err := k.openEngine(ctx); err != nil {
		return nil, err
	}
	if r := k.o.Job.Refused; r != nil && !k.engine.Info.Own {
		return nil, r
	}
	k.sweep(ctx)
	found, err := k.engine.Find(ctx, k.o.Job.Container)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return k.fresh(ctx, before.CPU)
	case err != nil:
		return nil, err
	case k.standalone() && found.ID != k.store.Episode().Container: // its input, or its image, may have been another
		if err := found.Remove(ctx); err != nil {
			return nil, err
		}
		k.log.Info().Str("container", found.Name).Msg("removed the container that an earlier run left")
		return k.fresh(ctx, before.CPU)
	case found.State == engine.StateCreated: // its start was interrupted: its files may be incomplete
		if err := found.Remove(ctx); err != nil {
			return nil, err
		}
		return k.fresh(ctx, before.CPU)
	case found.State != engine.StateExited && k.anotherGPU(found):
		return k.recreate(ctx, found, before.CPU, "BOINC has assigned another GPU")
	case found.State == engine.StatePaused && !k.proven(found):
		return k.recreate(ctx, found, before.CPU, "its GPU was never checked")
	}
	return k.takeOver(ctx, found, before)
}

// openEngine opens the engine that has the job's container, or any engine if there is no container or that engine has
// not answered for long.
func (k *Keeper) openEngine(ctx context.Context) error {
	if k.engine != nil {
		return nil
	}
	o := engine.Options{Log: k.log, Online: k.o.Online, Kind: k.reported()}
	if e := k.store.Episode(); e.Container != "" && e.Tries < maxFaithful && engine.Known(e.Host) {
		o.Host = e.Host
	}
	e, err := engine.Open(ctx, o)
	if err != nil {
		return err
	}
	k.engine = e
	k.log.Info().Str("kind", e.Info.Kind).Str("version", e.Info.Version).Str("host", e.Info.Host).Msg("engine")
	if o.Kind != "" && e.Info.Kind != o.Kind {
		k.log.Warn().Msgf("the client found %s on this computer; this job uses %s", o.Kind, e.Info.Kind)
	}
	return nil
}

// reported is the kind of engine that the client has found; "" for none.
func (k *Keeper) reported() string {
	if k.standalone() {
		return ""
	}
	return map[boincapi.DockerType]string{boincapi.Docker: engine.Docker, boincapi.Podman: engine.Podman}[k.o.Init.HostInfo.DockerType]
}

// takeOver opens a session for the container of an earlier episode or session.
func (k *Keeper) takeOver(ctx context.Context, found *engine.Container, before job.Before) (*Session, error) {
	k.container = found
	running := found.State == engine.StateRunning
	if running { // a wrapper that was killed may have held it
		if err := found.Release(ctx); err != nil {
			return nil, err
		}
	}
	if running && !k.proven(found) {
		if err := k.prove(ctx, found); err != nil {
			return nil, k.removeWithoutGPU(ctx, err)
		}
	}
	e := k.store.Episode()
	start := job.Start{Paused: found.State == engine.StatePaused, Parted: true}
	if e.Container == found.ID {
		start.CPUBase = e.CPUBase // else 0, which is too little; the reported CPU time never decreases
	}
	k.log.Info().Str("container", found.Name).Str("state", found.State).Msg("found this job's container")
	if !k.standalone() {
		if err := k.renewInitData(); err != nil {
			k.log.Warn().Err(err).Msg("the container keeps the older init_data.xml")
		}
	}
	start.Newest, _ = k.made(ctx, found)
	start.Unsaved = !e.Checkpoint.At.IsZero() && !start.Newest.IsZero() && !start.Newest.Equal(e.Checkpoint.At)
	if again, err := k.cutOff(ctx, found); err != nil {
		return nil, err
	} else if again && k.anotherGPU(found) {
		return k.recreate(ctx, found, before.CPU, "BOINC has assigned another GPU")
	} else if again {
		start.Paused, start.CPUBase = false, before.CPU
		return k.resume(ctx, found, start)
	}
	if err := k.store.Change(func(e *Episode) { e.Parked = time.Time{} }); err != nil {
		return nil, err
	}
	start.Unable = found.State == engine.StateExited || !k.able(ctx)
	start.Anew = e.Anew
	return k.handOver(ctx, found, e.LastLog, start)
}

// resume resumes a job whose container was ended from outside: from its last checkpoint through the engine, if there is
// one, else by starting the container again.
func (k *Keeper) resume(ctx context.Context, c *engine.Container, start job.Start) (*Session, error) {
	s, err := k.restore(ctx, c.Image, start.CPUBase)
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, engine.ErrNoRestore):
		if err := c.Remove(ctx); err != nil { // otherwise it would be started again as it is
			return nil, err
		}
		k.container = nil
		k.forget(err)
		return k.fresh(ctx, 0)
	case !errors.Is(err, errNoCheckpoint):
		return nil, err
	}
	start.Unable = !k.able(ctx) // a trial may take long, so it comes before the container runs
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := k.store.Episode()
	start.Began, start.Anew = true, e.Anew
	s, err = k.begin(ctx, c, e.LastLog, start)
	if err != nil {
		return nil, k.removeWithoutGPU(ctx, err)
	}
	return s, nil
}

// recreate makes the container anew, for the GPU that the client has assigned now.
func (k *Keeper) recreate(ctx context.Context, found *engine.Container, cpu time.Duration, why string) (*Session, error) {
	k.log.Info().Str("container", found.Name).Str("had", found.Labels[job.LabelGPU]).Str("now", k.o.Job.Container.GPU.Identity()).
		Msg(why + ": the container is made anew")
	k.container = nil
	if err := found.Remove(ctx); err != nil {
		return nil, err
	}
	return k.fresh(ctx, cpu)
}

// fresh makes a new container and starts it, or restores it from the last checkpoint through the engine. Where the host
// doesn't share mounts with the container as the job asks, the job gets what the host has.
func (k *Keeper) fresh(ctx context.Context, cpu time.Duration) (*Session, error) {
	for {
		s, err := k.anew(ctx, cpu)
		if !errors.Is(err, engine.ErrNotShared) || !k.weaken(err) {
			return s, err
		}
	}
}

// weaken weakens the propagation of the mount that the engine refused, and reports whether there was any to weaken. The
// engine decides it, since it may see other mounts than this process.
func (k *Keeper) weaken(refused error) bool {
	if k.binds == nil {
		k.binds = slices.Clone(k.o.Job.Container.Binds)
	}
	for i, b := range k.binds {
		if !strings.Contains(refused.Error(), "path "+b.Source+" is mounted on") {
			continue
		}
		if weaker, ok := b.Weaker(); ok {
			k.log.Warn().Stringer("mount", weaker).Msgf("the host doesn't share its mounts below %s as the job asks (%s)", b.Source, b.Options)
			k.binds[i] = weaker
			return true
		}
	}
	return false
}

// job is the plan with the mounts that this host has.
func (k *Keeper) job() *job.Job {
	j := *k.o.Job
	if k.binds != nil {
		j.Container.Binds = k.binds
	}
	return &j
}

// anew makes a new container and starts it, or restores it from the last checkpoint through the engine.
func (k *Keeper) anew(ctx context.Context, cpu time.Duration) (*Session, error) {
	image, err := k.engine.Ensure(ctx, k.o.Job.Image, slot.Files(k.o.Job.Slot))
	if err != nil {
		return nil, err
	}
	if err := k.openPayload(ctx); err != nil {
		return nil, err
	}
	switch s, err := k.restore(ctx, image, cpu); {
	case err == nil:
		return s, nil
	case errors.Is(err, engine.ErrNoRestore):
		k.forget(err)
	case !errors.Is(err, errNoCheckpoint):
		return nil, err
	}
	start := job.Start{Began: true, CPUBase: cpu, Unable: !k.able(ctx), Anew: k.store.Episode().Anew}
	if start.Anew { // also if an earlier preparation, which failed, set Anew
		start.CPUBase = 0
	}
	keep := [2]int64{}
	if !k.store.Episode().Checkpoint.At.IsZero() {
		keep = k.written()
	}
	if err := k.openOutputs(keep); err != nil {
		return nil, err
	}
	c, err := k.create(ctx, image, !start.Unable)
	if err != nil {
		return nil, err
	}
	k.container = c
	s, err := k.fill(ctx, c, start)
	if err == nil {
		k.collect(ctx)
		return s, nil
	}
	k.container = nil
	if errors.Is(err, engine.ErrUnreachable) { // the engine may have started it
		if c, found := k.engine.Find(ctx, k.o.Job.Container); found != nil || c.State != engine.StateCreated {
			return nil, err
		}
	}
	return nil, errors.Join(err, c.Remove(ctx))
}

// create creates the container. The image may have been removed since it was found.
func (k *Keeper) create(ctx context.Context, image string, able bool) (*engine.Container, error) {
	j := k.job()
	if !able { // then the container may have what checkpoints through the engine don't allow
		j.Checkpoint.Method = job.ByNobody
	}
	c, err := k.engine.Create(ctx, j, image)
	if !errors.Is(err, engine.ErrNotFound) {
		return c, err
	}
	if image, err = k.engine.Ensure(ctx, j.Image, slot.Files(j.Slot)); err != nil {
		return nil, err
	}
	return k.engine.Create(ctx, j, image)
}

// fill copies files into a new container and starts it.
func (k *Keeper) fill(ctx context.Context, c *engine.Container, start job.Start) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := errors.Join(c.MakeHome(ctx, k.o.Job), k.openByHand(ctx, c)); err != nil {
		return nil, err
	}
	if err := c.CopyIn(ctx, k.o.Job.CopyIn); err != nil {
		return nil, err
	}
	if err := k.putCheckpointBack(ctx, c); err != nil {
		return nil, err
	}
	start.Newest, _ = k.made(ctx, c)
	since := time.Time{}
	if !k.store.Episode().Checkpoint.At.IsZero() {
		since = longAgo
	}
	return k.begin(ctx, c, since, start)
}

// begin notes a container in the episode file, starts it, and makes its session. Its output up to since has been
// written.
func (k *Keeper) begin(ctx context.Context, c *engine.Container, since time.Time, start job.Start) (*Session, error) {
	err := k.store.Change(func(e *Episode) {
		written := e.Written
		if since.Equal(longAgo) {
			written = k.written()
		}
		*e = Episode{Container: c.ID, Host: k.engine.Info.Host, Boot: host.BootID(), CPUBase: start.CPUBase, Ran: e.Checkpoint.Ran, LastLog: since, Written: written,
			Checkpoint: e.Checkpoint, Anew: e.Anew, Tries: e.Tries, Unsigned: !k.o.Job.Signed}
	})
	if err != nil {
		return nil, err
	}
	if err := k.openOutputs(k.written()); err != nil {
		return nil, err
	}
	began := time.Now()
	if k.began.IsZero() {
		k.began = began
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	k.log.Info().Str("container", c.Name).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("started")
	if err := k.prove(ctx, c); err != nil {
		return nil, err
	}
	return k.handOver(ctx, c, since, start)
}

// handOver makes the session of a container. Its output up to since has been written.
func (k *Keeper) handOver(ctx context.Context, c *engine.Container, since time.Time, start job.Start) (*Session, error) {
	s := &Session{k: k, c: c, start: start, crowd: &crowd{k: k}, slip: &sync.Once{}}
	if err := s.follow(context.WithoutCancel(ctx), since); err != nil { // ctx ends with the preparation
		return nil, errors.Join(err, s.closeFiles())
	}
	k.session = s
	s.tellGraphics(ctx)
	return s, nil
}

// removeWithoutGPU removes the container if err says that it runs without its GPU: it must not run a moment longer. Any other error
// leaves the container. It returns err.
func (k *Keeper) removeWithoutGPU(ctx context.Context, err error) error {
	if !errors.Is(err, engine.ErrGPU) {
		return err
	}
	c := k.container
	k.container = nil
	return errors.Join(err, c.Remove(ctx))
}

// Still pauses the job's container, which may still run after an earlier wrapper was killed.
func (k *Keeper) Still(ctx context.Context) error {
	if k.store.Episode().Container == "" {
		return nil
	}
	found, err := k.find(ctx)
	if errors.Is(err, engine.ErrNotFound) || err == nil && found.State != engine.StateRunning {
		return nil
	} else if err != nil {
		return err
	}
	return k.pauseOrStop(ctx, found)
}

// find finds the container of an earlier episode.
func (k *Keeper) find(ctx context.Context) (*engine.Container, error) {
	if err := k.openEngine(ctx); err != nil {
		return nil, err
	}
	return k.engine.Find(ctx, k.o.Job.Container)
}

// Adopt finds the container of an earlier episode, so that it is settled with the job.
func (k *Keeper) Adopt(ctx context.Context) {
	if found, err := k.find(ctx); err == nil {
		k.container = found
	}
}

// pauseOrStop pauses a container, or stops it if the engine can't pause it.
func (k *Keeper) pauseOrStop(ctx context.Context, c *engine.Container) error {
	err := c.Pause(ctx)
	if errors.Is(err, job.ErrNoPause) {
		return k.stop(ctx, c, time.Duration(k.o.Job.Stop.Timeout))
	}
	return err
}

// cutOff reports whether a container was ended from outside.
func (k *Keeper) cutOff(ctx context.Context, found *engine.Container) (bool, error) {
	if found.State != engine.StateExited {
		return false, nil
	}
	exit, err := found.Exit(ctx)
	if err != nil {
		return false, err
	}
	e := k.store.Episode()
	return job.Whose(exit, job.Notes{
		Ours:       e.Container == found.ID,
		None:       e.Container == "",
		Parked:     e.Parked,
		BootThen:   e.Boot,
		BootNow:    host.BootID(),
		BootTime:   host.BootTime(),
		Checkpoint: k.canRestore(),
	}) == job.FromOutside, nil
}
