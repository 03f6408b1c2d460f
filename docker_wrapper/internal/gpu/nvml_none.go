//go:build linux && !cgo

package gpu

import "boincdocker/docker_wrapper/internal/job"

func library() ([]job.GPU, error) { return nil, errNoLibrary }
