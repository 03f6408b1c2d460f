//go:build !linux

package engine

import "context"

// openService: elsewhere Podman's engine is in a virtual machine, whose socket is known.
func openService(context.Context, Options) (*Engine, error) { return nil, ErrUnreachable }
