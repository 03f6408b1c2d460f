package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// This file makes and restores checkpoints through the engine, for jobs that make none themselves. A checkpoint has the
// container with its processes, the host's files that it may write, and how much of its output had been written.

const keptFile = "kept.json" // in a checkpoint's directory

// kept is what a checkpoint has besides container and files.
type kept struct {
	Image   string    `json:"image"`             // ID; another image of the same name has other files
	LastLog time.Time `json:"last_log,omitzero"` // of the newest line of output that was written
	Written [2]int64  `json:"written"`           // bytes of the files for stdout and stderr
}

// snapshot returns the snapshot, in a checkpoint's directory, of the host's files that the container may write.
func (k *Keeper) snapshot(dir string) slot.Snapshot {
	s := slot.Snapshot{Dir: filepath.Join(dir, "files"), Keep: slot.FromClient}
	for _, m := range k.o.Job.Container.Mounts {
		if !m.ReadOnly {
			s.Trees = append(s.Trees, m.Source)
		}
	}
	return s
}

// saveWhole checkpoints the container. The caller holds it.
func (s *Session) saveWhole(ctx context.Context) (err error) {
	k := s.k
	saved := k.savedCheckpoints()
	before, err := saved.Newest()
	if err != nil {
		return err
	}
	if before != "" {
		before = k.snapshot(before).Dir
	}
	dir, err := saved.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			k.tidy(s.c, dir)
		}
	}()
	room, err := k.share()
	if err != nil {
		return err
	}
	k.takeOwnership(ctx, true) // or the files could be neither read nor restored; not later: the engine notes their modes
	if err := s.c.Checkpoint(ctx, dir, room); err != nil {
		return err
	}
	kept := kept{Image: s.c.Image}
	if kept.LastLog, err = s.logs.Sync(ctx); err != nil { // before the copy, which may include these files
		return err
	}
	if kept.Written, err = k.syncOutputs(); err != nil {
		return err
	}
	if room, err = k.share(); err != nil {
		return err
	}
	files := k.snapshot(dir)
	if err := os.Mkdir(files.Dir, 0o770); err != nil {
		return err
	}
	if err := files.Take(ctx, before, room); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, keptFile), kept); err != nil {
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
		keepErr = s.c.KeepCheckpoint(ctx, newest)
	}
	if keepErr != nil { // the new checkpoint is complete all the same
		k.log.Warn().Err(keepErr).Msg("cannot remove an older checkpoint")
	}
	return nil
}

// tidy removes an incomplete checkpoint. It would count against the job's disk bound until the next one, and Docker
// would keep its part for ever.
func (k *Keeper) tidy(c *engine.Container, dir string) {
	err := os.RemoveAll(dir)
	newest, newestErr := k.savedCheckpoints().Newest()
	if newestErr == nil {
		newestErr = c.KeepCheckpoint(context.Background(), newest)
	}
	if err = errors.Join(err, newestErr); err != nil {
		k.log.Warn().Err(err).Msg("cannot remove an incomplete checkpoint")
	}
}

// share returns how many bytes a checkpoint may take: half of what the slot may still grow. The client ends a job whose
// slot exceeds its bound, and the job must not fail because of a checkpoint. If less than a tenth of the bound is left,
// share also removes the older checkpoint.
func (k *Keeper) share() (int64, error) {
	room, err := k.room()
	if bound := k.o.Job.Container.Limits.Disk; errors.Is(err, slot.ErrNoRoom) || err == nil && bound > 0 && room < bound/leastShare {
		k.dropCheckpoints()
		return 0, fmt.Errorf("%w; %w", slot.ErrNoRoom, job.ErrDropped)
	}
	return room / 2, err
}

// leastShare: the job keeps at least a tenth of the bound.
const leastShare = 10

// errNoCheckpoint: there is no checkpoint to resume from.
var errNoCheckpoint = errors.New("no checkpoint")

// restore restores the container from the last checkpoint through the engine. The error is errNoCheckpoint if there is
// none, and wraps engine.ErrNoRestore if it can't be used.
func (k *Keeper) restore(ctx context.Context, image string, cpu time.Duration) (*Session, error) {
	dir, kept, err := k.lastWhole(image)
	if err != nil {
		return nil, err
	}
	able := k.able(ctx) // a trial may take long, so it comes before the container runs
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := k.snapshot(dir).PutBack(ctx); ctx.Err() != nil {
		return nil, err
	} else if err != nil {
		return nil, useless(err)
	}
	began, since := time.Now(), kept.LastLog
	if since.IsZero() {
		since = longAgo
	}
	err = k.store.Change(func(e *Episode) {
		*e = Episode{Host: k.engine.Info.Host, Boot: host.BootID(), CPUBase: cpu, Checkpoint: e.Checkpoint, Ran: e.Checkpoint.Ran,
			LastLog: since, Written: kept.Written, Tries: e.Tries, Unsigned: !k.o.Job.Signed}
	})
	if err != nil {
		return nil, err
	}
	if err := k.openOutputs(kept.Written); err != nil {
		return nil, err
	}
	c, printed, err := k.engine.Restore(ctx, k.o.Job, dir)
	if err != nil {
		return nil, err
	}
	if !printed.IsZero() {
		since = printed
	}
	k.container = c
	if err := k.store.Change(func(e *Episode) { e.Container, e.LastLog = c.ID, since }); err != nil {
		return nil, err
	}
	if err := k.renewInitData(); err != nil { // not earlier: a program that has the file open expects it unchanged
		k.log.Warn().Err(err).Msg("the container keeps the older init_data.xml")
	}
	k.log.Info().Str("container", c.Name).Stringer("ran", k.store.Episode().Ran.Round(time.Second)).
		Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("resumed from the last checkpoint")
	return k.handOver(ctx, c, since, job.Start{Parted: true, Began: true, CPUBase: cpu, Unable: !able})
}

// lastWhole finds the last checkpoint through the engine. It must be of a container of this image.
func (k *Keeper) lastWhole(image string) (dir string, kept kept, err error) {
	if !k.o.Job.Checkpoint.Whole() {
		return "", kept, errNoCheckpoint
	}
	dir, err = k.savedCheckpoints().Newest()
	switch {
	case err != nil:
		return "", kept, err
	case dir == "" && !k.store.Episode().Checkpoint.At.IsZero():
		return "", kept, fmt.Errorf("%w: it was removed", engine.ErrNoRestore)
	case dir == "":
		return "", kept, errNoCheckpoint
	}
	if err := readJSON(filepath.Join(dir, keptFile), &kept); err != nil {
		return "", kept, useless(err)
	}
	if kept.Image != strings.TrimPrefix(image, "sha256:") {
		return "", kept, fmt.Errorf("%w: its image was replaced by another", engine.ErrNoRestore)
	}
	return dir, kept, nil
}

// useless turns an error of a checkpoint's files into engine.ErrNoRestore, unless it is a temporary error of this
// computer. Retrying doesn't help if files are missing or damaged, or if the job has removed their permissions.
func useless(err error) error {
	if host.MayPass(err) {
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrNoRestore, err)
}

// canRestore reports whether there is a checkpoint through the engine. After a loss of power Podman reports the last
// checkpoint as the container's end, with code 0. Restoring it repeats at most one checkpoint period.
func (k *Keeper) canRestore() bool {
	dir, err := k.savedCheckpoints().Newest()
	return k.o.Job.Checkpoint.Whole() && err == nil && dir != ""
}

// forget removes a checkpoint that can't be used.
func (k *Keeper) forget(err error) {
	k.log.Warn().Err(err).Msg("the job begins anew")
	k.dropCheckpoints()
	k.store.Note(k.log, func(e *Episode) { e.Checkpoint, e.Anew = job.Mark{}, true })
}
