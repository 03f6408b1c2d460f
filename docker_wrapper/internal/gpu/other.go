//go:build !linux

package gpu

import (
	"io"

	"boincdocker/docker_wrapper/internal/job"
)

// List returns ErrBlind.
func List() ([]job.GPU, error) { return nil, ErrBlind }

// Try returns ErrBlind. It is meant for containers, which run Linux.
func Try([]string, io.Writer) error { return ErrBlind }
