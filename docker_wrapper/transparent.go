package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
	"boincdocker/docker_wrapper/internal/supervise"
)

// Checkpoints through the engine: the container with all that runs in it, the files that it may write, and how much of its
// output had been written. A job that knows nothing of checkpoints goes on from there.

const (
	keptFile      = "kept.json"                   // of a checkpoint
	trialsFile    = ".docker_wrapper_trials.json" // beside the projects' directories
	trialPatience = 2 * time.Minute               // twice what one may take
	trialRetry    = 100 * time.Millisecond

	// Unless job.toml says how often, no more than a twentieth of the time goes into checkpoints, and what fails is tried
	// ever more seldom.
	restShare          = 19
	failRest, mostRest = 10 * time.Second, time.Hour
)

// kept is what belongs to a checkpoint beside container and files.
type kept struct {
	Image   string    `json:"image"`             // ID; another image of the same name has other files
	LastLog time.Time `json:"last_log,omitzero"` // newest line of output that was written
	Written [2]int64  `json:"written"`           // bytes of the files for stdout and stderr
}

// pace spaces checkpoints out.
type pace struct {
	began time.Time    // of the clock that nobody sets
	next  atomic.Int64 // not before, ns since then
	fails int          // in a row; by Save alone
}

func (p *pace) due() bool { return int64(time.Since(p.began)) >= p.next.Load() }

// note takes down how long one took, and whether it came to anything.
func (p *pace) note(took time.Duration, free bool, err error) {
	rest := restShare * took
	switch {
	case err != nil:
		rest = min(failRest<<min(p.fails, 10), mostRest)
		p.fails++
	default:
		if p.fails = 0; free {
			rest = 0
		}
	}
	p.next.Store(int64(time.Since(p.began) + rest))
}

// throughEngine makes o the checkpoints of the engine.
func (w *wrapper) throughEngine(o *supervise.Checkpoints) {
	p := pace{began: time.Now()}
	often := w.job.Checkpoint.Period > 0
	look := roomLook{w: w}
	o.Due = func() bool { return look.short(time.Now()) || w.app.TimeToCheckpoint() && p.due() }
	o.Hold = func(ctx context.Context) error { return w.container.Hold(ctx) }
	o.Release = func(ctx context.Context) error { return w.container.Release(ctx) }
	o.Save = func(ctx context.Context) error {
		began := time.Now()
		err := w.saveWhole(ctx)
		p.note(time.Since(began), often, err)
		return err
	}
}

// snapshot is what the container may write of the host's files.
func (w *wrapper) snapshot(dir string) slot.Snapshot {
	s := slot.Snapshot{Dir: filepath.Join(dir, "files"), Keep: slot.FromClient}
	for _, m := range w.job.Container.Mounts {
		if !m.ReadOnly {
			s.Trees = append(s.Trees, m.Source)
		}
	}
	return s
}

// saveWhole checkpoints the container, which is held.
func (w *wrapper) saveWhole(ctx context.Context) (err error) {
	saved := w.savedCheckpoints()
	before, err := saved.Newest()
	if err != nil {
		return err
	}
	if before != "" {
		before = w.snapshot(before).Dir
	}
	dir, err := saved.Begin()
	if err != nil {
		return err
	}
	container := w.container
	defer func() {
		if err != nil {
			w.tidy(container, dir)
		}
	}()
	room, err := w.share()
	if err != nil {
		return err
	}
	if err := w.container.Checkpoint(ctx, dir, room); err != nil {
		return err
	}
	k := kept{Image: w.container.Image}
	if k.LastLog, err = w.logs.Sync(ctx); err != nil { // before the copy: these files may be among what is copied
		return err
	}
	if k.Written, err = w.syncOutputs(); err != nil {
		return err
	}
	if room, err = w.share(); err != nil {
		return err
	}
	files := w.snapshot(dir)
	if err := os.Mkdir(files.Dir, 0o770); err != nil {
		return err
	}
	if err := files.Take(ctx, before, room); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, keptFile), k); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := saved.Commit(dir); err != nil {
		return err
	}
	newest, keepErr := saved.Newest()
	if keepErr == nil {
		keepErr = w.container.KeepCheckpoint(ctx, newest)
	}
	if keepErr != nil { // that this one is there is what counts
		w.log.Warn().Err(keepErr).Msg("an older checkpoint is left")
	}
	return nil
}

// syncOutputs has the files for the container's output written to the disk: what comes before a checkpoint is not
// printed again after it. It returns their sizes.
func (w *wrapper) syncOutputs() (sizes [2]int64, err error) {
	for _, name := range []string{w.job.Logs.Stdout, w.job.Logs.Stderr} {
		if name == "" {
			continue
		}
		f, err := w.openOutput(name, os.O_WRONLY)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return sizes, fmt.Errorf("write the job's output to the disk: %w", err)
		}
	}
	return w.written(), nil
}

// tidy removes what is there of a checkpoint that came to nothing: it would count against the job's bound until the next
// one, and Docker would keep its part for ever.
func (w *wrapper) tidy(c *engine.Container, dir string) {
	err := os.RemoveAll(dir)
	newest, newestErr := w.savedCheckpoints().Newest()
	if newestErr == nil {
		newestErr = c.KeepCheckpoint(context.Background(), newest)
	}
	if err = errors.Join(err, newestErr); err != nil {
		w.log.Warn().Err(err).Msg("a part of a checkpoint is left")
	}
}

// roomLook looks now and then whether the last checkpoint has to make room for what the job has written since: the client
// looks as often (once a minute), and ends a job whose slot is too large.
type roomLook struct {
	w       *wrapper
	next    time.Time
	looking atomic.Bool
	found   atomic.Bool
}

const roomEach = 20 * time.Second

// short reports, once, that there is a checkpoint and too little room beside it. It looks in a goroutine of its own.
func (l *roomLook) short(now time.Time) bool {
	bound := l.w.job.Container.Limits.Disk
	if bound > 0 && !now.Before(l.next) && l.looking.CompareAndSwap(false, true) {
		l.next = now.Add(roomEach)
		go func() {
			defer l.looking.Store(false)
			dir, err := l.w.savedCheckpoints().Newest()
			if err != nil || dir == "" {
				return
			}
			room, err := l.w.room()
			l.found.Store(errors.Is(err, slot.ErrNoRoom) || err == nil && room < bound/leastShare)
		}()
	}
	return l.found.Swap(false)
}

// share is how many bytes a checkpoint may take: half of what the slot may still grow by, because the client ends a job
// that takes more than its bound, and a checkpoint is none of the job's doing. Where hardly anything is left the
// older checkpoint goes, too.
func (w *wrapper) share() (int64, error) {
	room, err := w.room()
	if bound := w.job.Container.Limits.Disk; errors.Is(err, slot.ErrNoRoom) || err == nil && bound > 0 && room < bound/leastShare {
		w.dropCheckpoints()
		return 0, fmt.Errorf("%w; %w", slot.ErrNoRoom, supervise.ErrDropped)
	}
	return room / 2, err
}

// leastShare is the part of the bound that is left to a job.
const leastShare = 10

// errNoCheckpoint: there is none to go on from.
var errNoCheckpoint = errors.New("no checkpoint")

// goBack restores the container from the last checkpoint through the engine. errNoCheckpoint when there is none;
// engine.ErrNoRestore when it is of no use.
func (w *wrapper) goBack(ctx context.Context, image string, cpu time.Duration) (supervise.Prepared, error) {
	none := supervise.Prepared{}
	if !w.job.Checkpoint.Whole() {
		return none, errNoCheckpoint
	}
	dir, err := w.savedCheckpoints().Newest()
	switch {
	case err != nil:
		return none, err
	case dir == "" && !w.episode.Checkpoint.At.IsZero():
		return none, fmt.Errorf("%w: it is gone", engine.ErrNoRestore)
	case dir == "":
		return none, errNoCheckpoint
	}
	var k kept
	if err := readJSON(filepath.Join(dir, keptFile), &k); err != nil {
		return none, useless(err)
	}
	if k.Image != strings.TrimPrefix(image, "sha256:") {
		return none, fmt.Errorf("%w: its image is gone, and another is in its place", engine.ErrNoRestore)
	}
	able := w.able(ctx) // which may take its time: nothing must run yet
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := w.snapshot(dir).PutBack(ctx); ctx.Err() != nil {
		return none, err
	} else if err != nil {
		return none, useless(err)
	}
	began := time.Now()
	last := w.episode.Checkpoint
	w.episode = supervise.Episode{Host: w.engine.Info.Host, Boot: host.BootID(), CPUBase: cpu, Checkpoint: last, Ran: last.Ran,
		LastLog: k.LastLog, Written: k.Written, Tries: w.episode.Tries, Unsigned: !w.job.Signed}
	if k.LastLog.IsZero() {
		w.episode.LastLog = longAgo
	}
	if err := w.saveEpisode(); err != nil {
		return none, err
	}
	c, since, err := w.engine.Restore(ctx, w.job, dir)
	if err != nil {
		return none, err
	}
	w.container, w.episode.Container = c, c.ID
	if !since.IsZero() {
		w.episode.LastLog = since
	}
	if err := w.saveEpisode(); err != nil {
		return none, err
	}
	if err := w.renewInitData(); err != nil { // not before: a program that has it open expects the one that was there
		w.log.Warn().Err(err).Msg("the container keeps the older init_data.xml")
	}
	w.log.Info().Str("container", c.Name).Stringer("ran", last.Ran.Round(time.Second)).
		Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("goes on from the last checkpoint")
	if err := w.follow(ctx, w.episode.LastLog, true); err != nil {
		return none, err
	}
	w.tellGraphics(ctx)
	return supervise.Prepared{Container: c, Apart: true, Began: true, CPUBase: cpu, Unable: !able}, nil
}

// useless is what becomes of an error of the files of a checkpoint: what this computer has against it may mend, what is
// missing or damaged won't, nor what the job has made of its own files.
func useless(err error) error {
	if engine.HostsFault(err) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrNoRestore, err)
}

// canGoBack reports that there is a checkpoint through the engine. When the computer has lost its power meanwhile, Podman
// takes the last one for the container's end, and a good one: to go back costs at most a period.
func (w *wrapper) canGoBack() bool {
	dir, err := w.savedCheckpoints().Newest()
	return w.job.Checkpoint.Whole() && err == nil && dir != ""
}

// forget drops a checkpoint that is of no use, and says so.
func (w *wrapper) forget(err error) {
	w.log.Warn().Err(err).Msg("the job begins anew")
	w.dropCheckpoints()
	w.episode.Checkpoint, w.episode.Anew = supervise.Mark{}, true
	w.note()
}

// able reports whether containers of this job can be checkpointed through the engine. It is found out once, by trial.
func (w *wrapper) able(ctx context.Context) bool {
	if !w.job.Checkpoint.Whole() {
		return true // it is not the engine that does it
	}
	if w.tried {
		return w.canCheckpoint
	}
	err := w.engine.CanCheckpoint(w.job)
	if err == nil {
		err = w.trial(ctx)
	}
	if errors.Is(err, context.Canceled) { // it was not found out; what fails then is tried ever more seldom
		return true
	}
	w.tried, w.canCheckpoint = !errors.Is(err, engine.ErrUnreachable), err == nil // that says nothing
	if err != nil {
		level := zerolog.DebugLevel
		if w.job.Checkpoint.Method == job.ByEngine { // it was asked for
			level = zerolog.WarnLevel
		}
		w.log.WithLevel(level).Err(err).Msg("no checkpoints through this engine")
	}
	return w.canCheckpoint
}

// trialNotes is how trials went since the computer was started, by engine and whatever else of the job matters. "" means that
// it can.
type trialNotes struct {
	Boot string            `json:"boot"`
	Said map[string]string `json:"said"`
}

// trialsOf is how the notes call the trials with an engine.
func trialsOf(i engine.Info) string {
	return fmt.Sprint(i.Kind, " ", i.Version, " ", i.Host, " ", version, " ")
}

// trialKey is how they call that of jobs like this one.
func (w *wrapper) trialKey() string {
	return trialsOf(w.engine.Info) + fmt.Sprint(w.job.Container.Network, " ", w.job.Container.User)
}

// readTrials gives those of this boot, none if that has no name.
func readTrials(name, boot string) trialNotes {
	var t trialNotes
	if err := readJSON(name, &t); err != nil || boot == "" || t.Boot != boot || t.Said == nil {
		return trialNotes{Boot: boot, Said: map[string]string{}}
	}
	return t
}

// trial tries it out with a container of its own, or remembers how that went since the computer was started. Of many jobs that
// start at once one does.
func (w *wrapper) trial(ctx context.Context) error {
	boot := host.BootID()
	key := w.trialKey()
	name := filepath.Join(w.init.BoincDir, "projects", trialsFile)
	said, known := readTrials(name, boot).Said[key]
	if !known {
		unlock, err := w.lockTrial(ctx, name)
		if err != nil {
			return err
		}
		defer unlock()
		said, known = readTrials(name, boot).Said[key]
	}
	switch {
	case !known:
	case said == "":
		return nil
	default:
		return errors.New(said)
	}
	err := w.tryOut(context.WithoutCancel(ctx)) // to its end, though the client suspends each second or wants us gone
	if saysNothing(err) {
		return err
	}
	if err != nil {
		said = firstLine(err.Error())
	}
	t := readTrials(name, boot)
	t.Said[key] = said
	if writeErr := writeJSON(name, t); writeErr != nil {
		w.log.Debug().Err(writeErr).Msg("the trial is made again the next time")
	}
	return err
}

// lockTrial waits until no other wrapper makes a trial. The lock goes with the process. Where there can be none, or after some
// time, a second trial does no harm.
func (w *wrapper) lockTrial(ctx context.Context, name string) (unlock func(), err error) {
	l := flock.New(name+".lock", flock.SetPermissions(0o664))
	unlock = func() { l.Close() }
	if ok, err := l.TryLock(); ok || err != nil {
		return unlock, nil
	}
	w.log.Info().Msg("another job tries out whether this engine can checkpoint: waiting")
	waitCtx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	l.TryLockContext(waitCtx, trialRetry)
	return unlock, ctx.Err()
}

// tryOut makes a trial.
func (w *wrapper) tryOut(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(w.stateDir(), "trial")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o770)); err != nil {
		return err
	}
	w.log.Info().Msg("trying out whether this engine can checkpoint")
	began := time.Now()
	err = w.engine.TryCheckpoint(ctx, w.job, self, dir)
	w.log.Info().Bool("can", err == nil).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("tried it out")
	if removeErr := os.RemoveAll(dir); removeErr != nil {
		w.log.Warn().Err(removeErr).Msg("what a trial has written is left")
	}
	return err
}

// saysNothing reports a trial of which nothing is to be remembered: it came too late, the engine was away or the disk full.
func saysNothing(err error) bool {
	return errors.Is(err, engine.ErrLate) || errors.Is(err, engine.ErrUnreachable) || errors.Is(err, engine.ErrDiskFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, engine.ErrNotFound)
}

// countAloud is this program in the container of a trial: it counts into a file until it is ended, whose word it has chosen
// when it began.
func countAloud(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, engine.CountFile), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	word := rand.Text()
	tick := time.NewTicker(20 * time.Millisecond)
	for n := 1; ; n++ {
		if _, err := f.WriteAt(fmt.Appendf(nil, "%s %12d\n", word, n), 0); err != nil {
			return err
		}
		<-tick.C
	}
}

func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	return err
}

// writeJSON writes a file whole or not at all.
func writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	part := fmt.Sprint(name, ".", os.Getpid(), ".part")
	if err := os.WriteFile(part, data, 0o660); err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return os.Rename(part, name)
}
