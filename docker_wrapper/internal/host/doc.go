// Package host is THE KERNEL: what this computer's kernel knows and does without a container engine. That is processes
// and control groups of containers, boot, memory and limits, and writing a file whole or not at all.
//
// On systems other than Linux, engines run in a virtual machine: no container's processes or control groups are found,
// and boot, memory and limits are unknown.
package host

import "errors"

var (
	// ErrUnproven: the processes can't be told from those of others, so nothing is done to them.
	ErrUnproven = errors.New("its processes can't be told from others")

	// ErrNoFreezer: there is no control group, or this user may not freeze it.
	ErrNoFreezer = errors.New("it has no control group that this user may freeze")

	// ErrEnded: the container's first process is gone.
	ErrEnded = errors.New("it has ended")
)
