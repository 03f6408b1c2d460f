package engine

import "context"

// StopFirst stops its first process, as a wrapper that is killed then.
func (c *Container) StopFirst(ctx context.Context) error {
	p, err := c.payload(ctx)
	if err != nil {
		return err
	}
	for running := 1; running > 0 && err == nil; { // until it has taken the signal
		running, err = p.stopOldest(1)
	}
	return err
}
