// Package gpu lists the host's GPUs. It reads the kernel's files and, if built with cgo on Linux, uses NVIDIA's library
// NVML. No other package imports NVML.
package gpu

import "errors"

// ErrUnsupported: on this system we can't list GPUs.
var ErrUnsupported = errors.New("GPUs can only be listed on Linux")
