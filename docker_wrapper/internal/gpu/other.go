//go:build !linux

package gpu

import (
	"io"

	"boincdocker/docker_wrapper/internal/job"
)

// List returns ErrUnsupported.
func List() ([]job.GPU, error) { return nil, ErrUnsupported }

// OpenDevices returns ErrUnsupported. It is meant for containers, which run Linux.
func OpenDevices([]string, io.Writer) error { return ErrUnsupported }
