package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
)

// listGPUs is what this computer has; tests have another.
var listGPUs = gpu.List

// lookForGPUs adds to what a plan is made from what is known of GPUs.
func (w *wrapper) lookForGPUs(in *job.Input) {
	var err error
	switch in.Host.GPUs, err = listGPUs(); {
	case errors.Is(err, gpu.ErrBlind):
		in.Host.Blind = true
	case err != nil:
		w.log.Warn().Err(err).Msg("NVML says nothing of GPUs; the kernel does")
	}
	if in.Self, err = os.Executable(); err != nil || runtime.GOOS != "linux" { // containers are Linux's
		in.Self = ""
	}
	if in.Init == nil {
		return
	}
	name := filepath.Join(in.Init.BoincDir, boincapi.CoprocInfoFile)
	f, err := os.Open(name)
	if err != nil {
		w.log.Debug().Err(err).Msg("what GPUs the client has found isn't known")
		return
	}
	defer f.Close()
	if in.Found, err = boincapi.ParseCoprocInfo(f); err != nil {
		w.log.Warn().Err(err).Msgf("%s says nothing of GPUs", name)
	}
}

// anotherGPU reports that a container was made for other GPUs than those which the client has assigned now: it may do so at
// each start, and what it was made for may be another job's by now.
func (w *wrapper) anotherGPU(found *engine.Container) bool {
	return w.job.Container.GPU != nil && found.Labels[job.LabelGPU] != w.job.Container.GPU.Identity()
}

// proven reports whether a container that runs or is paused was looked into since its start. A wrapper may have been killed
// before it could.
func (w *wrapper) proven(found *engine.Container) bool {
	return w.job.Container.GPU == nil || w.episode.Container == found.ID && w.episode.Proven
}

// prove makes sure that a running container has its GPUs. engine.ErrGPU when it hasn't: it must not run on then.
func (w *wrapper) prove(ctx context.Context) error {
	g := w.job.Container.GPU
	if g == nil {
		return nil
	}
	switch err := w.container.ProveGPUs(ctx); {
	case errors.Is(err, engine.ErrNotRunning), errors.Is(err, engine.ErrNotFound):
		w.log.Warn().Msg("the container ended before anybody could look for its GPU")
	case errors.Is(err, engine.ErrUnproven) && (!static || g.Prover == ""): // the program needs libraries, or isn't Linux's
		w.log.Warn().Err(err).Msg("that the container has its GPU is the engine's word alone")
	case errors.Is(err, engine.ErrUnproven):
		return fmt.Errorf("%w: %w", engine.ErrGPU, err)
	case err != nil:
		return err
	default:
		w.log.Info().Str("maker", g.Vendor).Ints("boinc", g.Numbers).Str("gpu", g.Identity()).Str("by", w.engine.Info.GPUWay(g)).Msg("the container has its GPU")
	}
	w.episode.Proven = true
	return w.saveEpisode()
}

// gpuLost says whether a GPU of the job's has gone since it was planned: then the end of its container is no verdict.
func (w *wrapper) gpuLost() error {
	g := w.job.Container.GPU
	if g == nil {
		return nil
	}
	now, err := listGPUs()
	if err != nil {
		return nil // nobody knows
	}
	return g.Lost(now)
}
