package supervise

import (
	"context"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

const firstRetry, lastRetry = 5 * time.Second, time.Minute

// preparation is what has come of opening a session.
type preparation struct {
	session Session
	err     error
}

// preparer is the preparation that is under way, and the failures before it.
type preparer struct {
	cancel    context.CancelFunc
	calledOff bool
	giveUp    time.Time // when a preparation that is called off is given up

	retry   Retry // of the last failure
	failure error
	since   time.Time     // when they began; zero when the last one succeeded
	next    time.Time     // not before
	pause   time.Duration // before the next one but one
}

// fail takes down a failure.
func (p *preparer) fail(err error, m Retry, now time.Time) {
	p.failure, p.retry, p.next = err, m, time.Time{}
	if p.since.IsZero() {
		p.since, p.pause = now, firstRetry
	}
}

// delay puts the next preparation off, for longer each time, and returns for how long.
func (p *preparer) delay(now time.Time) time.Duration {
	pause := p.pause
	p.next, p.pause = now.Add(pause), min(2*pause, lastRetry)
	return pause
}

// outOfPatience reports that preparations will have failed for too long by then.
func (p *preparer) outOfPatience(then time.Time) bool {
	return p.retry.Patience == 0 || then.Sub(p.since) > p.retry.Patience
}

// blocked reports that the next preparation has to wait for the network, which is suspended.
func (r *runner) blocked() bool {
	return r.prep.retry.Network && r.o.Network != nil && r.o.Network.Suspended()
}

// prepare begins a preparation. It waits until nothing of the last container is still being done, for a while.
func (r *runner) prepare() bool {
	now := time.Now()
	switch {
	case r.busy > 0 && now.Before(r.giveUp):
		r.wakeAt(r.giveUp)
		return false
	case r.busy > 0:
		r.leaveBusy()
		r.happened(gaveUp)
		return true
	case now.Before(r.prep.next) || r.blocked():
		r.wakeAt(r.prep.next)
		return false
	}
	ctx, cancel := context.WithCancel(r.ctx)
	before := job.Before{CPU: r.cp.cpu, Outside: r.outside, Stopped: r.parkedAt}
	r.prep.cancel, r.prep.calledOff, r.prep.giveUp = cancel, false, time.Time{}
	r.stilled = true
	r.beside(func() any {
		s, err := r.o.Open(ctx, before)
		return preparation{s, err}
	})
	return true
}

// cancel breaks a preparation off. It comes back soon, perhaps with a container that is up all the same: then the tables are
// asked again. A client that throttles suspends each second: nothing that takes longer would ever be prepared then.
func (r *runner) cancel() {
	if r.want == suspend && r.suspendedFor() < runsOn {
		r.wakeAt(r.vain.Add(runsOn))
		return
	}
	p, now := &r.prep, time.Now()
	if !p.calledOff {
		p.calledOff, p.giveUp = true, now.Add(maxGrace)
		p.cancel()
	}
	if r.want != suspend && !now.Before(p.giveUp) {
		r.log.Warn().Msg("the engine doesn't answer; the preparation is left as it is")
		r.outcome.Adrift = true
		r.happened(adrift)
		return
	}
	r.wakeAt(p.giveUp)
}

func (r *runner) onPrepared(p preparation) {
	r.prep.cancel()
	if r.state != Preparing {
		return // given up
	}
	switch now := time.Now(); {
	case p.err == nil:
		r.begin(p.session, now)
	case r.prep.calledOff:
		r.stilled = false
		r.happened(failed)
	default:
		r.onFailed(p.err, now)
	}
}

// begin goes on with a container.
func (r *runner) begin(s Session, now time.Time) {
	start := s.Start()
	r.prep, r.outside, r.parkedAt = preparer{}, false, time.Time{}
	r.session, r.joiner = s, joiner{unsure: start.Parted, said: r.joiner.said}
	r.watch, r.unwatch = context.WithCancel(r.ctx)
	exits, watch := s.Wait(r.watch), r.watch
	r.beside(func() any {
		select {
		case exit := <-exits:
			return ending{s, exit, true}
		case <-watch.Done():
			return ending{of: s}
		}
	})
	if start.Anew {
		r.cp.mark, r.cp.cpu = job.Mark{}, 0
	}
	if start.Began {
		r.clock.ran = r.cp.mark.Ran
	}
	r.meter.begin(start.CPUBase, r.clock.ran)
	r.beginCheckpoints(start)
	r.clock.set(!start.Paused)
	r.keptAt = now
	if start.Paused {
		r.happened(cameUpPaused)
	} else {
		r.happened(cameUp)
	}
}

// onFailed waits and tries again, or gives up.
func (r *runner) onFailed(err error, now time.Time) {
	p := &r.prep
	var m Retry
	if r.o.Retry != nil {
		m = r.o.Retry(err)
	}
	p.fail(err, m, now)
	if r.blocked() { // the client's word on the network is heard at once
		if !r.impatient(now) {
			r.log.Info().Err(err).Msg("waiting for the network")
			r.happened(failed)
		}
		return
	}
	if pause := p.delay(now); !r.impatient(p.next) {
		r.log.Warn().Err(err).Stringer("again_in", pause).Msg("not ready")
		r.happened(failed)
	}
}

// impatient gives up when preparations will have failed for too long by then.
func (r *runner) impatient(then time.Time) bool {
	if !r.prep.outOfPatience(then) {
		return false
	}
	r.outcome.Err = r.prep.failure
	r.happened(gaveUp)
	return true
}

// still makes sure that nothing runs while nothing should. What fails is done with the next preparation.
func (r *runner) still() {
	if r.stilled || r.o.Still == nil {
		return
	}
	r.stilled = true
	if err := r.quick(r.o.Still); err != nil {
		r.log.Warn().Err(err).Msg("a container of an earlier episode may run")
	}
}
