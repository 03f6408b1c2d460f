package engine

import (
	"context"
	"errors"
	"syscall"

	"boincdocker/docker_wrapper/internal/host"
)

// StopFirst stops its first process, as a wrapper that is killed then.
func (c *Container) StopFirst(ctx context.Context) error {
	p, err := c.payload(ctx)
	if err != nil {
		return err
	}
	in, err := c.inspect(ctx)
	for err == nil && !p.Held(false) { // until it has taken the signal
		err = errors.Join(syscall.Kill(in.State.Pid, syscall.SIGSTOP), ctx.Err())
	}
	if errors.Is(err, syscall.EPERM) {
		return host.ErrUnproven
	}
	return err
}
