// Package gpu is THE EYES: it lists this computer's GPUs. It is the only importer of NVML, which
// needs Linux and cgo; built without, it sees none.
package gpu

import (
	"errors"

	"boincdocker/docker_wrapper/internal/job"
)

// ErrNoDriver: no driver that can be asked for GPUs is there, or this binary was built without the
// library to ask it.
var ErrNoDriver = errors.New("no GPU driver to ask")

// List lists the GPUs in the order of their driver's indexes. ErrNoDriver is wrapped when there is
// nobody to ask, which says nothing about GPUs being there.
func List() ([]job.GPU, error) { return list() }
