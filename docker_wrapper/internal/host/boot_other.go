//go:build !linux

package host

import "time"

// BootTime is unknown.
func BootTime() time.Time { return time.Time{} }

// BootID is unknown.
func BootID() string { return "" }
