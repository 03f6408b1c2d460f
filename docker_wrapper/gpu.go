package main

import (
	"errors"
	"os"
	"path/filepath"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
)

// lookForGPUs adds to a plan's input the GPUs that this computer has and those that the client has found.
func (w *wrapper) lookForGPUs(in *job.Input) {
	var err error
	switch in.Host.GPUs, err = w.listGPUs(); {
	case errors.Is(err, gpu.ErrUnsupported):
		in.Host.Blind = true
	case err != nil:
		w.log.Warn().Err(err).Msg("NVML lists no GPUs; the kernel's files are used instead")
	}
	if in.Init == nil {
		return
	}
	name := filepath.Join(in.Init.BoincDir, boincapi.CoprocInfoFile)
	f, err := os.Open(name)
	if err != nil {
		w.log.Debug().Err(err).Msg("cannot read which GPUs the client has found")
		return
	}
	defer f.Close()
	if in.Found, err = boincapi.ParseCoprocInfo(f); err != nil {
		w.log.Warn().Err(err).Msgf("cannot read the GPUs in %s", name)
	}
}
