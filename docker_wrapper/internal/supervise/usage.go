package supervise

import (
	"context"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

// lastUsage is what the container has used before it ends.
func (r *runner) lastUsage() {
	ctx, cancel := context.WithTimeout(r.ctx, lastSample)
	defer cancel()
	if u, err := r.container.Usage(ctx); err == nil {
		r.onUsage(u)
	}
}

// sample is what a container and its job say of themselves. Its error is no news: the container may
// just be ending.
type sample struct {
	of       Container
	usage    job.Usage
	err      error
	fraction float64
	known    bool
	made     time.Time // the job's newest checkpoint; zero when not asked for, or none
	bug      string
}

// sample asks, in a goroutine of its own so that a slow engine doesn't stop the watch, and never
// twice at a time. Checkpoints are looked for more often where that is cheap, or one is expected. A young job is asked
// once more when it has been paused: a client that throttles suspends it each second, and what it uses after the last
// question can only be estimated.
func (r *runner) sample(now time.Time) {
	c := r.checkpoints()
	paused := r.snap.State == Paused && r.sampledAt.Before(r.since) && r.sampleEvery() <= 2*minSample
	full := paused || now.Sub(r.sampledAt) >= r.sampleEvery()-tickTime/2
	look := c != nil && !c.whole() && (full || c.Near || r.cp.asked)
	if r.snap.State != Running && !paused || r.cp.held || r.sampling || !full && !look {
		return
	}
	if r.sampling = true; full {
		r.sampledAt = now
	}
	container, fraction, ctx, out, seen := r.container, r.o.Fraction, r.watch, r.samples, r.cp.seen
	go func() {
		s := sample{of: container, err: errNotAsked}
		defer func() {
			s.bug = bugOf(recover())
			out <- s
		}()
		isNew := false
		if look {
			if at, ok := c.Made(ctx); ok {
				s.made, isNew = at, !at.Equal(seen)
			}
		}
		if full || isNew {
			s.usage, s.err = container.Usage(ctx)
		}
		if full && fraction != nil {
			s.fraction, s.known = fraction(ctx)
		}
	}()
}

func (r *runner) sampleEvery() time.Duration {
	return min(max(r.snap.Ran/sampleShare, minSample), maxSample)
}

// onSample takes up a sample. Where there is none nothing is invented.
func (r *runner) onSample(s sample) {
	raise(s.bug)
	r.sampling = false
	if s.of != r.container {
		return // of one that is no more
	}
	if s.err == nil {
		r.onUsage(s.usage)
	}
	if s.known {
		r.snap.Fraction = s.fraction
	}
	if !s.made.IsZero() {
		r.onMade(s.made)
	}
}

// use is the CPU time that the container had used when the job had run for so long.
type use struct{ ran, cpu time.Duration }

// onUsage takes up what the container has used. Reported time never goes back.
func (r *runner) onUsage(u job.Usage) {
	r.count(time.Now())
	r.snap.CPU = max(r.snap.CPU, r.cpuBase+u.CPU)
	r.snap.Memory = u.Memory
	r.used = [2]use{r.used[1], {r.snap.Ran, u.CPU}}
}

// addRest adds what a container that has ended will have used since the last sample. Its control group is
// gone, so that nobody knows; leaving it out would be wrong for certain, and by a tenth for a job of
// seconds. It is taken to have gone on as between the last two samples. finished is the engine's word on
// when it ended, which we may have heard late; zero when unknown.
func (r *runner) addRest(finished time.Time) {
	now := time.Now()
	r.count(now)
	before, last := r.used[0], r.used[1]
	if before.cpu <= 0 || last.cpu <= before.cpu || last.ran <= before.ran {
		return
	}
	rate := float64(last.cpu-before.cpu) / float64(last.ran-before.ran)
	rest := r.snap.Ran - last.ran
	if late := now.Sub(finished); late > 0 && late < rest {
		rest -= late
	}
	rest = min(rest, r.sampleEvery())
	r.snap.CPU = max(r.snap.CPU, r.cpuBase+last.cpu+time.Duration(rate*float64(rest)))
}
