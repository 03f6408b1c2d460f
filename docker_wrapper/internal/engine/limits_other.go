//go:build !linux

package engine

import "github.com/docker/docker/api/types/container"

func hostLimits() []*container.Ulimit { return nil } // the engine is in a virtual machine
