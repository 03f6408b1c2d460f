package engine

import "context"

// StopFirst stops its first process, as a wrapper that is killed then.
func (c *Container) StopFirst(ctx context.Context) error {
	p, err := c.payload(ctx)
	if err != nil {
		return err
	}
	_, err = p.stopOldest(1)
	return err
}
