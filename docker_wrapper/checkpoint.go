package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
	"boincdocker/docker_wrapper/internal/supervise"
)

// checkpoints is how this job checkpoints; nil when it doesn't.
func (w *wrapper) checkpoints() *supervise.Checkpoints {
	c := w.job.Checkpoint
	if c.Method == job.ByNobody {
		return nil
	}
	w.app.SetCheckpointPeriod(time.Duration(c.Period))
	o := &supervise.Checkpoints{
		Last: w.episode.Checkpoint,
		Due:  w.app.TimeToCheckpoint,
		Next: w.app.CheckpointCompleted,
		Taken: func(m supervise.Mark) {
			if w.episode.Checkpoint = m; !m.At.IsZero() {
				w.episode.Ran, w.episode.Anew = m.Ran, false
			}
			if err := w.saveEpisode(); err != nil {
				w.log.Warn().Err(err).Msg("the next episode knows less")
			}
		},
		Timeout: time.Duration(c.Timeout),
	}
	if c.Whole() {
		w.throughEngine(o)
		return o
	}
	o.Made, o.Near = w.checkpointMade, c.File != ""
	if c.Signal != "" {
		o.Ask = func(ctx context.Context) error { return w.container.Signal(ctx, c.Signal) }
	}
	if len(c.Copy) > 0 {
		o.Save = w.saveCheckpoint
	}
	return o
}

// checkpointMade is when the job last checkpointed, by its own word.
func (w *wrapper) checkpointMade(ctx context.Context) (at time.Time, ok bool) {
	var err error
	switch c := w.job.Checkpoint; {
	case c.ContainerFile != "":
		at, err = w.container.ModTime(ctx, c.ContainerFile)
	case c.File != "":
		at, err = slot.Payload{Dir: w.job.Slot.Payload}.ModTime(c.File)
	default:
		return time.Time{}, false
	}
	return at, err == nil
}

func (w *wrapper) savedCheckpoints() slot.Saved {
	return slot.Saved{Dir: filepath.Join(w.stateDir(), "checkpoint")}
}

// saveCheckpoint copies what the job goes on from out of the container, which doesn't run meanwhile. All that
// lies in the slot counts against the job's bound, the checkpoint before too: it goes only when this one is whole.
func (w *wrapper) saveCheckpoint(ctx context.Context) (err error) {
	saved := w.savedCheckpoints()
	dir, err := saved.Begin()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // it counts against the job's bound
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	room, err := w.room()
	if err != nil {
		return err
	}
	var copies []job.Copy
	for _, c := range w.job.Checkpoint.Copy {
		copies = append(copies, job.Copy{Root: dir, Src: c.Src, Dst: c.Dst})
	}
	leftOut, err := w.container.CopyOut(ctx, copies, room)
	switch {
	case err != nil:
		return fmt.Errorf("checkpoint.copy: %w", err)
	case len(leftOut) > 0:
		return fmt.Errorf("checkpoint.copy: no file, or a link to elsewhere: %s", strings.Join(leftOut, ", "))
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return saved.Commit(dir)
}

// room is how many bytes the slot may still grow by; 0 for no limit.
func (w *wrapper) room() (int64, error) {
	bound := w.job.Container.Limits.Disk
	if bound == 0 {
		return 0, nil
	}
	used, err := slot.Size(w.job.Slot.Dir)
	if err != nil {
		return 0, err
	}
	if used >= bound {
		return 0, slot.ErrNoRoom
	}
	return bound - used, nil
}

// restoreCheckpoint puts what was saved back into a container that was not started.
func (w *wrapper) restoreCheckpoint(ctx context.Context, c *engine.Container) error {
	if len(w.job.Checkpoint.Copy) == 0 {
		return nil
	}
	dir, err := w.savedCheckpoints().Newest()
	if err != nil || dir == "" {
		return err
	}
	var copies []job.Copy
	for _, cp := range w.job.Checkpoint.Copy {
		copies = append(copies, job.Copy{Root: dir, Src: cp.Dst, Dst: cp.Src})
	}
	if err := c.CopyIn(ctx, copies); err != nil {
		return fmt.Errorf("put the last checkpoint back: %w", err)
	}
	w.log.Info().Stringer("ran", w.episode.Checkpoint.Ran.Round(time.Second)).Msg("the new container goes on from the last checkpoint")
	return nil
}

// dropCheckpoints removes what an ended job has saved.
func (w *wrapper) dropCheckpoints() {
	if err := w.savedCheckpoints().Clear(); err != nil {
		w.log.Warn().Err(err).Msg("a checkpoint is left behind")
	}
}
