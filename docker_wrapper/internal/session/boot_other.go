//go:build !linux

package session

import "time"

func bootTime() time.Time { return time.Time{} } // not known

// bootID is unknown.
func bootID() string { return "" }
