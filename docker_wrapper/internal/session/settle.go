package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

const (
	removeTime     = time.Minute      // how long to wait for an engine that doesn't answer when a container is to be removed
	handRemoveTime = 10 * time.Second // the same when standalone
	removePause    = 2 * time.Second

	// abortTime is less than the minute that the client gives a job to abort (client/client_state.h).
	abortTime = 40 * time.Second
)

// ErrOutside: another program ends or removes the container again and again. The job is started again later.
var ErrOutside = errors.New("the container is ended from outside again and again")

// Leave leaves the container for the next episode. parked is when it was paused or told to stop; zero: neither.
// Standalone there is no next episode, and Leave removes the container.
func (k *Keeper) Leave(ctx context.Context, parked time.Time) {
	k.park(parked)
	if k.standalone() {
		k.Remove(ctx)
		k.takeOwnership(ctx, false)
		return
	}
	foreign := k.o.Job.Container.User.Mode != job.UserBOINC || k.engine != nil && k.engine.Info.Rootless
	if k.container != nil && !parked.IsZero() && foreign { // the client may have to clear the slot itself
		k.takeOwnership(ctx, true)
	}
}

// Abort removes all that is left of a cancelled job.
func (k *Keeper) Abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, abortTime)
	defer cancel()
	k.takeOwnership(ctx, false) // otherwise the client could not clear the slot
	k.Remove(ctx)
	if k.o.Job != nil && k.o.Job.Slot.MakeOutputs { // in the project directory: the client doesn't clear that
		if err := slot.DropOutputs(k.o.Job.Slot, map[string]string{}); err != nil {
			k.log.Warn().Err(err).Msg("cannot take back the job's outputs in the project directory")
		}
	}
}

// Keep keeps the container of a preparation that failed, paused, because the job may be tried again.
func (k *Keeper) Keep(ctx context.Context) {
	if k.container == nil {
		return
	}
	if err := k.pauseOrStop(ctx, k.container); err == nil {
		k.park(time.Now())
	}
}

// GiveUp cleans up after a preparation that failed for good.
func (k *Keeper) GiveUp(ctx context.Context) {
	k.takeOwnership(ctx, false)
	k.Remove(ctx)
	if _, err := k.moveOut(); err != nil {
		k.log.Warn().Err(err).Msg("cannot move all of the job's files back into the slot")
	}
}

// Harvest takes the rest of an ended container's output and, if its exit code is 0, its output files. An error says that
// the job did not end by itself, or what on this computer prevents the harvest.
func (k *Keeper) Harvest(ctx context.Context, exit job.Exit) error {
	switch {
	case exit.Lost:
		k.park(time.Time{})
		return fmt.Errorf("%w: %s", engine.ErrUnreachable, exit.Err)
	case exit.Gone:
		return fmt.Errorf("%w: it was removed", ErrOutside)
	case exit.Outside:
		k.park(longAgo) // before it ended
		return fmt.Errorf("%w: by the engine, or docker stop; its code is %d", ErrOutside, exit.Code)
	}
	if exit.Code != 0 {
		if err := k.gpuLost(); err != nil {
			k.park(longAgo) // before it ended: it is started again
			return err
		}
	}
	k.drain(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	k.log.Info().Int("code", exit.Code).Bool("oom", exit.OOMKilled).Msg("the container has ended")
	if exit.OOMKilled && exit.Code == 0 {
		k.log.Warn().Msgf("a process of the job was killed for memory; its limit is %s", k.o.Job.Container.Limits.MemoryLimit())
	}
	if exit.Code != 0 {
		return nil
	}
	return k.copyOut(ctx)
}

// Conclude moves the job's files back, notes how the job ended, and removes the container. It returns how the job ended:
// one that ended with 0 and whose outputs aren't all delivered has failed. If it is interrupted, the next episode
// continues.
func (k *Keeper) Conclude(ctx context.Context, done Done) (Done, error) {
	k.drain(ctx) // of a container that was killed
	k.takeOwnership(context.WithoutCancel(ctx), false)
	if k.mail != nil {
		if err := k.mail.last(ctx); err != nil {
			return done, err
		}
	}
	// Once a file that is mounted is gone, Docker can't copy out of the container any more, because it mounts all for that.
	if err := k.store.Change(func(e *Episode) { e.Copied = &Copied{k.uncopied} }); err != nil {
		return done, err
	}
	if err := k.deliverOutputs(); err != nil {
		return done, err
	}
	lost, err := k.moveOut()
	if err != nil {
		return done, err
	}
	done = k.judge(ctx, done, lost)
	if done.Code == 0 && !k.standalone() { // the container is the other copy of the outputs
		began := time.Now()
		if err := slot.Sync(k.o.Job.Slot, k.o.Job.CopyOut, k.o.Job.Logs.Stdout, k.o.Job.Logs.Stderr); err != nil {
			return done, fmt.Errorf("write the job's outputs to the disk: %w", err)
		}
		k.log.Debug().Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("the outputs are on the disk")
	}
	if err := k.store.Change(func(e *Episode) { e.Done = &done }); err != nil {
		return done, err
	}
	return done, k.Remove(ctx)
}

// Remove removes the job's checkpoints and its container, also one of an earlier episode or one that is incomplete. It
// waits a while for an engine that doesn't answer. It returns an error only if ctx ends first.
func (k *Keeper) Remove(ctx context.Context) error {
	if k.engine == nil && k.store.Episode().Container == "" {
		return nil
	}
	most, calls, hint := removeTime, ctx, ""
	if k.standalone() { // a person waits
		most, hint = cmp.Or(k.o.Patience, handRemoveTime), "; docker rm -f "+k.o.Job.Container.Name+" removes it"
		var cancel context.CancelFunc
		calls, cancel = context.WithTimeout(ctx, handRemoveTime)
		defer cancel()
	}
	for deadline := time.Now().Add(most); ; {
		err := k.remove(calls)
		if err == nil {
			return nil
		}
		if errors.Is(err, engine.ErrUnreachable) && time.Now().Before(deadline) && sleep(ctx, removePause) {
			continue
		}
		k.log.Warn().Err(err).Msg("the container is left behind" + hint)
		return ctx.Err()
	}
}

func (k *Keeper) remove(ctx context.Context) error {
	k.dropCheckpoints()
	if err := k.openEngine(ctx); err != nil {
		return err
	}
	if j := k.o.Job; j != nil && k.engine.CanCheckpoint(j) == nil {
		if err := k.engine.RemoveTrial(ctx, j); err != nil {
			return err
		}
	}
	if k.container != nil {
		return k.container.Remove(ctx)
	}
	own := job.Container{Name: k.store.Episode().Container} // an ID is as good as a name
	if k.o.Job != nil {
		own = k.o.Job.Container
	} else {
		own.Labels = k.o.Key.Labels(k.o.Init, k.o.Dir)
	}
	c, err := k.engine.Find(ctx, own)
	switch {
	case err == nil:
		return c.Remove(ctx)
	case errors.Is(err, engine.ErrUnreachable):
		return err
	case errors.Is(err, engine.ErrNotFound):
		return k.engine.RemoveStray(ctx, own)
	default:
		return nil // not ours
	}
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
