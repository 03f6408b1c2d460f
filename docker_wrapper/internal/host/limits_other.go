//go:build !linux

package host

// Limits are unknown.
func Limits() []Limit { return nil }
