package supervise

import "time"

// clock measures running time: the time in which the container was let run. Time that the computer slept doesn't count.
type clock struct {
	ran time.Duration // over all episodes; back at the last checkpoint when the job begins there again
	up  time.Duration // in this episode, also what was lost again
	at  time.Time     // when it was last read
	on  bool          // the container is let run
}

// read brings it up to date.
func (c *clock) read(now time.Time) {
	d := now.Sub(c.at)
	if d <= 0 {
		return
	}
	c.at = now
	if d > maxGap {
		d = tickTime
	}
	if c.on {
		c.ran += d
		c.up += d
	}
}

// set says whether the container is let run from now on.
func (c *clock) set(on bool) {
	c.read(time.Now())
	c.on = on
}
