//go:build !linux

package host

// Shared knows nothing of mounts: the engine's are in a virtual machine.
func Shared(string) (shared, known bool) { return false, false }
