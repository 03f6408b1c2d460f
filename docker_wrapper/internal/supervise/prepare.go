package supervise

import (
	"context"
	"time"
)

type preparation struct {
	Prepared
	err error
	bug string
}

// still sees to it that nothing runs while nothing should. What fails is tried again with the preparation.
func (r *runner) still() {
	if r.stilled || r.o.Still == nil {
		return
	}
	r.stilled = true
	if err := r.quick(r.o.Still); err != nil {
		r.log.Warn().Err(err).Msg("a container of an earlier episode may run")
	}
}

// callOff breaks a preparation off. It stops soon, or comes back with a container that is up all the same: then
// that is what we have, and the table is asked again. An engine that doesn't answer must not keep us longer than the
// client waits: what it is about is found by the next episode.
//
// A client that throttles suspends each second: then nothing that takes longer would ever come to its end.
func (r *runner) callOff() bool {
	if r.want == suspend && r.inVain() < runsOn {
		return false
	}
	r.cancel()
	if r.offBy.IsZero() {
		r.offBy = time.Now().Add(maxGrace)
	}
	select {
	case p := <-r.prepared:
		if p.err == nil {
			r.onPrepared(p)
		} else {
			raise(p.bug)
			r.prepared, r.stilled = nil, false
		}
		return true
	case <-time.After(time.Until(r.offBy)):
		r.adrift = r.want != suspend
		if r.adrift {
			r.log.Warn().Msg("the engine doesn't answer; the preparation is left as it is")
		}
		return r.adrift
	}
}

func (r *runner) prepare() {
	ctx, cancel := context.WithCancel(r.ctx)
	done, before := make(chan preparation, 1), Before{CPU: r.cp.cpu, Outside: r.outside, Stopped: r.parked}
	r.prepared, r.cancel, r.offBy, r.stilled = done, cancel, time.Time{}, true
	go func() {
		p := preparation{err: errPanicked}
		defer func() {
			p.bug = bugOf(recover())
			done <- p
		}()
		p.Prepared, p.err = r.o.Prepare(ctx, before)
	}()
}

func (r *runner) onPrepared(p preparation) {
	raise(p.bug)
	r.prepared = nil
	r.cancel()
	if p.err == nil {
		r.failing, r.pause, r.mend, r.outside, r.parked = time.Time{}, 0, Mend{}, false, time.Time{}
		r.container, r.cpuBase, r.used, r.apart, r.unsure = p.Container, p.CPUBase, [2]use{}, false, p.Apart
		r.watch, r.unwatch = context.WithCancel(r.ctx)
		r.exited = p.Container.Wait(r.watch)
		if p.Anew {
			r.cp.mark, r.cp.cpu = Mark{}, 0
		}
		if p.Began {
			r.snap.Ran = r.cp.mark.Ran
		}
		r.renew(p.Prepared)
		r.snap.State = Running
		if p.Paused {
			r.snap.State = Paused
		}
		r.tickedAt = time.Now()
		r.since, r.keptAt = r.tickedAt, r.tickedAt
		r.log.Debug().Stringer("to", r.snap.State).Msg("state")
		return
	}
	if r.o.Mends != nil {
		r.mend = r.o.Mends(p.err)
	}
	now := time.Now()
	if r.failing.IsZero() {
		r.failing, r.pause = now, firstRetry
	}
	r.failure, r.retryAt = p.err, time.Time{}
	if r.blocked() { // the client's word is heard at once
		if r.impatient(now) {
			return
		}
		r.log.Info().Err(p.err).Msg("waiting for the network")
	} else {
		r.retryAt = now.Add(r.pause)
		if r.impatient(r.retryAt) {
			return
		}
		r.log.Warn().Err(p.err).Stringer("again_in", r.pause).Msg("not ready")
		r.pause = min(2*r.pause, lastRetry)
	}
	r.moveTo(Waiting)
}

// impatient gives up when preparations have failed for too long by then.
func (r *runner) impatient(then time.Time) bool {
	if r.mend.Patience > 0 && then.Sub(r.failing) <= r.mend.Patience {
		return false
	}
	r.end(Outcome{Reason: Failed, Err: r.failure})
	return true
}
