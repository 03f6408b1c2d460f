package supervise

import (
	"context"
	"errors"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	// Usage is asked for often while a job is young, because what it uses after the last sample can only be estimated, and
	// seldom later.
	minSample, maxSample, sampleShare = time.Second, 10 * time.Second, 60

	lastSample = 2 * time.Second // what the sample before a kill, or at a checkpoint, may take
)

var errNotAsked = errors.New("not asked")

// meter is what the container uses, in samples.
type meter struct {
	base     time.Duration // CPU time of earlier containers of this job
	began    time.Duration // running time of the job when this container began
	cpu      time.Duration // over all episodes; never goes back
	memory   int64         // bytes; 0 when unknown
	fraction float64       // 0 to 1, as the job reports it
	used     [2]use        // by the container, at the last two samples
	at       time.Time     // of the last sample
	sampling bool
	looks    int // begun while parking
}

// use is the CPU time that the container had used when the job had run for so long.
type use struct{ ran, cpu time.Duration }

// begin is called for a new container.
func (m *meter) begin(base, ran time.Duration) { m.base, m.began, m.used = base, ran, [2]use{} }

// every is how often a job that has run for so long is sampled.
func (m *meter) every(ran time.Duration) time.Duration {
	return min(max(ran/sampleShare, minSample), maxSample)
}

// add takes up what the container had used when the job had run for so long.
func (m *meter) add(u job.Usage, ran time.Duration) {
	m.cpu = max(m.cpu, m.base+u.CPU)
	m.memory = u.Memory
	m.used = [2]use{m.used[1], {ran, u.CPU}}
}

// addRest estimates what a container that has ended used since the last sample: its control group is gone, so nothing can be
// measured, and leaving it out would be wrong by a tenth for a job of seconds. It is taken to have used as much per second as
// between the last two samples, or in all, whichever is less: a client that throttles pauses it between samples, and what it
// uses while an engine pauses and resumes it is not in its running time. late is how long ago the container ended.
func (m *meter) addRest(ran, late time.Duration) {
	before, last := m.used[0], m.used[1]
	if before.cpu <= 0 || last.cpu <= before.cpu || last.ran <= before.ran {
		return
	}
	rate := min(float64(last.cpu-before.cpu)/float64(last.ran-before.ran), float64(last.cpu)/float64(max(last.ran-m.began, 1)))
	rest := ran - last.ran
	if late > 0 && late < rest { // else the computer's clock was set
		rest -= late
	}
	rest = min(rest, m.every(ran))
	m.cpu = max(m.cpu, m.base+last.cpu+time.Duration(rate*float64(rest)))
}

// still reports that the last two samples are of the same CPU time: the container may be paused.
func (m *meter) still() bool { return m.used[0].cpu == m.used[1].cpu }

// sample is what a container and its job report of themselves.
type sample struct {
	of       Session
	n        int // of a look while parking; 0 of others
	usage    job.Usage
	err      error // no news: the container may just be ending
	fraction float64
	known    bool      // fraction
	looked   bool      // made
	made     time.Time // the job's newest checkpoint; zero for none
}

// sample asks for one, beside the watch and never twice at a time. Checkpoints are looked for more often where that is cheap or
// one is expected. A young job is sampled once more when it has been paused: a client that throttles suspends it each second.
func (r *runner) sample(now time.Time) {
	m := &r.meter
	paused := r.state == Paused && m.at.Before(r.since) && m.every(r.clock.ran) <= 2*minSample
	full := paused || now.Sub(m.at) >= m.every(r.clock.ran)-tickTime/2
	look := r.own() && (full || r.o.Checkpoint.Near() || r.cp.asked)
	if r.state != Running && !paused || r.cp.held || m.sampling || !full && !look {
		return
	}
	if m.sampling = true; full {
		m.at = now
	}
	r.takeSample(0, full, look)
}

// lookParking looks for the job's newest checkpoint, beside a sample that may be under way and is not to be waited for.
func (r *runner) lookParking() {
	r.meter.looks++
	r.parking.looking = r.meter.looks
	r.takeSample(r.meter.looks, false, true)
}

func (r *runner) takeSample(n int, full, look bool) {
	session, ctx, seen := r.session, r.watch, r.cp.seen
	r.beside(func() any {
		s := sample{of: session, n: n, err: errNotAsked, looked: look}
		isNew := false
		if look {
			if at, ok := session.Made(ctx); ok {
				s.made, isNew = at, !at.Equal(seen)
			}
		}
		switch {
		case full:
			s.usage, s.err = session.Usage(ctx)
		case isNew:
			s.usage, s.err = usageOf(ctx, session)
		}
		if full {
			s.fraction, s.known = session.Fraction(ctx)
		}
		return s
	})
}

// onSample takes up a sample. Where there is none nothing is invented.
func (r *runner) onSample(s sample) {
	switch {
	case s.n == 0:
		r.meter.sampling = false
	case s.n == r.parking.looking:
		r.parking.looking = 0
	}
	if s.of != r.session {
		return // of a container that is no more
	}
	if s.err == nil {
		r.addUsage(s.usage)
	}
	if s.known {
		r.meter.fraction = s.fraction
	}
	if s.looked {
		r.onLooked(s.made)
	}
}

func (r *runner) addUsage(u job.Usage) {
	r.clock.read(time.Now())
	r.meter.add(u, r.clock.ran)
}

// lastUsage is what the container has used before it ends.
func (r *runner) lastUsage() {
	if u, err := usageOf(r.ctx, r.session); err == nil {
		r.addUsage(u)
	}
}

// usageOf is the usage where something waits for it.
func usageOf(ctx context.Context, s Session) (job.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, lastSample)
	defer cancel()
	return s.Usage(ctx)
}
