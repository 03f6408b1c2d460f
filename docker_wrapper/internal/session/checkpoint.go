package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// Made returns when the job made its newest checkpoint itself: the modification time of the checkpoint's file.
func (s *Session) Made(ctx context.Context) (at time.Time, ok bool) { return s.k.made(ctx, s.c) }

// Ask asks the job for a checkpoint.
func (s *Session) Ask(ctx context.Context) error { return s.c.Signal(ctx, s.k.o.Job.Checkpoint.Signal) }

// Hold keeps the container from running while the engine checkpoints it.
func (s *Session) Hold(ctx context.Context) error { return s.c.Hold(ctx) }

// Release ends Hold.
func (s *Session) Release(ctx context.Context) error { return s.c.Release(ctx) }

// Crowded reports, once, that the last checkpoint must be removed because the job has written so much since.
func (s *Session) Crowded() bool { return s.crowd.short(time.Now()) }

// Taken notes a new checkpoint; the zero Mark means that there is none any more.
func (s *Session) Taken(m job.Mark) {
	s.k.store.Note(s.k.log, func(e *Episode) {
		if e.Checkpoint = m; !m.At.IsZero() {
			e.Ran, e.Anew = m.Ran, false
		}
	})
}

// Save copies the job's checkpoint out of the container, which is held or has ended, into the slot. The error wraps
// job.ErrDropped if the earlier checkpoint was removed, too.
func (s *Session) Save(ctx context.Context) error {
	if s.k.o.Job.Checkpoint.Whole() {
		return s.saveWhole(ctx)
	}
	return s.k.saveFiles(ctx, s.c)
}

// made returns when the job made its newest checkpoint itself.
func (k *Keeper) made(ctx context.Context, container *engine.Container) (at time.Time, ok bool) {
	var err error
	switch c := k.o.Job.Checkpoint; {
	case c.Whole():
		return time.Time{}, false
	case c.ContainerFile != "":
		at, err = container.ModTime(ctx, c.ContainerFile)
	case c.File != "":
		at, err = slot.Payload{Dir: k.o.Job.Slot.Payload}.ModTime(c.File)
		if errors.Is(err, fs.ErrPermission) { // it is in another user's directory
			at, err = container.ModTime(ctx, k.inContainer(c.File))
		}
	default:
		return time.Time{}, false
	}
	return at, err == nil
}

func (k *Keeper) savedCheckpoints() slot.Saved {
	return slot.Saved{Dir: filepath.Join(k.stateDir(), "checkpoint")}
}

// saveFiles copies the files of the job's checkpoint out of the container, which doesn't run meanwhile. The earlier
// checkpoint is removed only when the new one is complete; both count against the job's disk bound.
func (k *Keeper) saveFiles(ctx context.Context, container *engine.Container) (err error) {
	saved := k.savedCheckpoints()
	dir, err := saved.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // an incomplete one counts against the bound, too
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	room, err := k.room()
	if err != nil {
		return err
	}
	var copies []job.Copy
	for _, c := range k.o.Job.Checkpoint.Copy {
		copies = append(copies, job.Copy{Root: dir, Src: c.Src, Dst: c.Dst})
	}
	leftOut, err := container.CopyOut(ctx, copies, room)
	switch {
	case err != nil:
		return fmt.Errorf("checkpoint.copy: %w", err)
	case len(leftOut) > 0:
		return fmt.Errorf("checkpoint.copy: not copied: %s: %s", leftOut[0].Name, leftOut[0].Why)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return saved.Commit(dir)
}

// room returns how many bytes the slot may still grow; 0 for no limit.
func (k *Keeper) room() (int64, error) {
	bound := k.o.Job.Container.Limits.Disk
	if bound == 0 {
		return 0, nil
	}
	used, err := slot.Size(k.o.Job.Slot.Dir)
	if err != nil {
		return 0, err
	}
	if used >= bound {
		return 0, slot.ErrNoRoom
	}
	return bound - used, nil
}

// putCheckpointBack copies the saved checkpoint into a container that was not started.
func (k *Keeper) putCheckpointBack(ctx context.Context, c *engine.Container) error {
	if len(k.o.Job.Checkpoint.Copy) == 0 {
		return nil
	}
	dir, err := k.savedCheckpoints().Newest()
	if err != nil || dir == "" {
		return err
	}
	var copies []job.Copy
	for _, cp := range k.o.Job.Checkpoint.Copy {
		copies = append(copies, job.Copy{Root: dir, Src: cp.Dst, Dst: cp.Src})
	}
	if err := c.CopyIn(ctx, copies); err != nil {
		return fmt.Errorf("put the last checkpoint back: %w", err)
	}
	k.log.Info().Stringer("ran", k.store.Episode().Checkpoint.Ran.Round(time.Second)).Msg("the new container resumes from the last checkpoint")
	return nil
}

// dropCheckpoints removes the saved checkpoints.
func (k *Keeper) dropCheckpoints() {
	if err := k.savedCheckpoints().Clear(); err != nil {
		k.log.Warn().Err(err).Msg("cannot remove a checkpoint")
	}
}
