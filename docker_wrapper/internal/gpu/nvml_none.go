//go:build !linux || !cgo

package gpu

import "boincdocker/docker_wrapper/internal/job"

func list() ([]job.GPU, error) { return nil, ErrNoDriver }
