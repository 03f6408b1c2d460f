package session

import (
	"context"
	"errors"
	"fmt"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// anotherGPU reports that a container was made for other GPUs than those which the client has assigned now: it may do so at each
// start, and what the container was made for may be another job's by now.
func (k *Keeper) anotherGPU(found *engine.Container) bool {
	g := k.o.Job.Container.GPU
	return g != nil && found.Labels[job.LabelGPU] != g.Identity()
}

// proven reports that the GPUs of a container that runs or is paused were found in it since its start. A wrapper may have been
// killed before it could look.
func (k *Keeper) proven(found *engine.Container) bool {
	e := k.store.Episode()
	return k.o.Job.Container.GPU == nil || e.Container == found.ID && e.Proven
}

// prove makes sure that a running container has its GPUs. engine.ErrGPU when it hasn't: it must not run on then.
func (k *Keeper) prove(ctx context.Context, c *engine.Container) error {
	g := k.o.Job.Container.GPU
	if g == nil {
		return nil
	}
	switch err := c.ProveGPUs(ctx); {
	case errors.Is(err, engine.ErrNotRunning), errors.Is(err, engine.ErrNotFound):
		k.log.Warn().Msg("the container ended before its GPU could be looked for")
	case errors.Is(err, engine.ErrUnproven) && (!k.o.Static || g.Prover == ""): // the program needs libraries, or isn't Linux's
		k.log.Warn().Err(err).Msg("that the container has its GPU is the engine's word alone")
	case errors.Is(err, engine.ErrUnproven):
		return fmt.Errorf("%w: %w", engine.ErrGPU, err)
	case err != nil:
		return err
	default:
		k.log.Info().Str("maker", g.Vendor).Ints("boinc", g.Numbers).Str("gpu", g.Identity()).Str("by", k.engine.Info.GPUWay(g)).Msg("the container has its GPU")
	}
	return k.store.Change(func(e *Episode) { e.Proven = true })
}

// gpuLost reports a GPU of the job's that has gone since it was planned: then the end of its container is no verdict.
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
