// Package gpu is THE EYES: it lists this computer's GPUs, from the kernel's files and, built with cgo on Linux, from
// NVIDIA's library NVML, of which it is the only importer.
package gpu

import "errors"

// ErrBlind: GPUs can't be listed on this system.
var ErrBlind = errors.New("GPUs can only be listed on Linux")
