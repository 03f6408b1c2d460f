package session

import (
	"context"
	"errors"
	"fmt"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// anotherGPU reports whether a container was made for other GPUs than those that the client has assigned now. The
// client may assign others at each start, and another job may have the old ones.
func (k *Keeper) anotherGPU(found *engine.Container) bool {
	g := k.o.Job.Container.GPU
	return g != nil && found.Labels[job.LabelGPU] != g.Identity()
}

// proven reports whether the GPUs of a running or paused container were found in it after its start. A wrapper may have
// been killed before it checked.
func (k *Keeper) proven(found *engine.Container) bool {
	e := k.store.Episode()
	return k.o.Job.Container.GPU == nil || e.Container == found.ID && e.Proven
}

// prove makes sure that a running container has its GPUs. The error wraps engine.ErrGPU if it hasn't; then it must not
// run on.
func (k *Keeper) prove(ctx context.Context, c *engine.Container) error {
	g := k.o.Job.Container.GPU
	if g == nil {
		return nil
	}
	switch err := c.ProveGPUs(ctx); {
	case errors.Is(err, engine.ErrNotRunning), errors.Is(err, engine.ErrNotFound):
		k.log.Warn().Msg("the container ended before its GPU could be checked")
	case errors.Is(err, engine.ErrUnproven) && (!k.o.Static || g.Prover == ""): // the program needs libraries, or isn't Linux's
		k.log.Warn().Err(err).Msg("cannot check that the container has its GPU; only the engine says so")
	case errors.Is(err, engine.ErrUnproven):
		return fmt.Errorf("%w: %w", engine.ErrGPU, err)
	case err != nil:
		return err
	default:
		k.log.Info().Str("maker", g.Vendor).Ints("boinc", g.Numbers).Str("gpu", g.Identity()).Str("by", k.engine.Info.GPUWay(g)).Msg("the container has its GPU")
	}
	return k.store.Change(func(e *Episode) { e.Proven = true })
}

// gpuLost returns an error if a GPU of the job has disappeared since the job was planned. Then a failure isn't the
// job's fault.
func (k *Keeper) gpuLost() error {
	g := k.o.Job.Container.GPU
	if g == nil {
		return nil
	}
	now, err := k.o.ListGPUs()
	if err != nil {
		return nil // not known
	}
	return g.Lost(now)
}
