package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
)

// lookForGPUs adds to what a plan is made from what is known of GPUs.
func (w *wrapper) lookForGPUs(in *job.Input) {
	var err error
	switch in.Host.GPUs, err = w.listGPUs(); {
	case errors.Is(err, gpu.ErrUnsupported):
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
