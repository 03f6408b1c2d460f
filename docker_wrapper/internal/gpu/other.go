//go:build !linux

package gpu

import (
	"io"

	"boincdocker/docker_wrapper/internal/job"
)

// List lists the GPUs, where that can be done.
func List() ([]job.GPU, error) { return nil, ErrBlind }

// Try runs in containers, which are Linux's.
func Try([]string, io.Writer) error { return ErrBlind }
