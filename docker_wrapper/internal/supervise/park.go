package supervise

import (
	"context"
	"errors"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	// The client kills a process 60 s after it asked it to quit (client/client_state.h). Until then a preparation must have been
	// broken off or a container parked, behind one call that was under way.
	maxGrace  = 40 * time.Second
	quickCall = 10 * time.Second

	gone = 55 * time.Second // of that minute: when the process must be gone, whatever still works

	lastAsk = 20 * time.Second // what a last checkpoint may take of the client's minute

	// A preparation, and a container that can't be paused, run on for so long when the client suspends them: a client that
	// throttles suspends each second, perhaps for seconds. Then they are broken off and stopped.
	runsOn = 10 * time.Second
)

// parking is the way of a container from the wish to leave until it is stopped or paused: a last checkpoint where that helps, and
// then the one or the other. Stopped, it gives its memory back and loses what the job has done since its last checkpoint.
// Whatever fails, we must be gone soon: a container that still runs is found again.
type parking struct {
	leaving    bool // the client wants us gone; else the container is stopped because it can't be paused
	unpausable bool
	paused     bool // the container is paused
	since      time.Time
	by         time.Time // all of it must be over

	last     bool // a last checkpoint is wanted
	lastBy   time.Time
	ready    bool      // the job was asked, if it is to be asked
	answerBy time.Time // its answer must be there
	looking  int       // for what it has made: the number of the look; 0 for none
	looked   bool
	tried    bool // to save it

	stopped bool // the container was told to stop
	caught  bool // what it saved when it was told to stop was looked for
}

// park begins to park the container.
func (r *runner) park(leaving bool) {
	now := time.Now()
	r.clock.read(now)
	stop := r.o.Stop
	r.parking = parking{leaving: leaving, unpausable: !leaving, paused: r.state == Paused, since: r.since, by: now.Add(maxGrace + quickCall), lastBy: now.Add(lastAsk)}
	r.parking.last = r.cp.on && (!leaving || stop.OnQuit == "auto" || stop.OnQuit == "stop" && r.whole())
}

// goOnParking takes the next steps, as far as nothing is to be waited for.
func (r *runner) goOnParking() {
	p := &r.parking
	for r.state == Parking {
		switch {
		case r.cp.saving && p.last && time.Now().Before(p.lastBy):
			r.wakeAt(p.lastBy)
			return
		case !r.dropSave():
			return
		case p.stopped:
			if r.own() && !r.catch() {
				return
			}
			r.parkDone(nil)
		case p.last && !r.lastCheckpoint():
			return
		case p.unpausable || r.o.Stop.OnQuit == "stop" || r.o.Stop.OnQuit == "auto" && r.resumable():
			if err := r.stop(); err != nil {
				r.parkDone(err)
			}
		default:
			r.parkPaused()
		}
	}
}

// resumable reports that the job can be resumed from its last checkpoint, and loses little by that.
func (r *runner) resumable() bool {
	mark := r.cp.mark
	switch {
	case !r.cp.on || mark.At.IsZero():
		return false
	case r.whole():
		return r.clock.ran-mark.Ran < tickTime
	default:
		return r.cp.there
	}
}

// lastCheckpoint gets the newest checkpoint that can be had, and reports whether there is nothing more to wait for.
func (r *runner) lastCheckpoint() bool {
	if r.whole() {
		return r.lastSave()
	}
	p, now := &r.parking, time.Now()
	if !p.ready {
		p.ready, p.answerBy = true, earlier(p.lastBy, now.Add(time.Duration(r.o.Checkpoint.Timeout)))
		if stale := r.cp.mark.At.IsZero() || r.cp.soon || r.clock.ran-r.cp.mark.Ran > tickTime; stale && r.o.Checkpoint.Asks() && !r.cp.asked {
			r.lastAsk()
		}
		r.cp.lookAt = now.Add(lookTime)
	}
	if r.cp.asked && !r.cp.pending {
		if now.Before(p.answerBy) {
			r.look()
			r.wakeAt(p.answerBy)
			return false
		}
		r.cp.asked = false
		r.log.Warn().Msg("the job was asked for a last checkpoint, and none came")
	}
	if !now.Before(p.lastBy) {
		return true
	}
	if r.parking.looking > 0 {
		r.wakeAt(p.lastBy)
		return false
	}
	if !p.looked {
		p.looked = true
		if r.o.Checkpoint.Saves() && !r.cp.held { // so that nothing newer comes
			if r.quick(r.session.Pause) != nil {
				return true
			}
			r.clock.set(false)
			p.paused, r.cp.held = true, true
		}
		r.lookParking()
		return false
	}
	if r.cp.pending && !p.tried {
		p.tried = true
		return !r.save(p.lastBy)
	}
	return true
}

// lastAsk asks the job, which must run for that: it may be paused, also because a save of it has just failed.
func (r *runner) lastAsk() {
	if r.parking.paused || r.cp.held {
		if r.quick(r.session.Unpause) != nil {
			return
		}
		r.parking.paused, r.cp.held = false, false
		r.clock.set(true)
	}
	r.ask()
}

// lastSave has the engine checkpoint all that the job is, unless it has hardly run since the last time. Held, it can be killed.
func (r *runner) lastSave() bool {
	p := &r.parking
	if !r.resumable() && !p.tried {
		p.tried = true
		if r.save(p.lastBy) {
			return false
		}
	}
	if (r.cp.held || p.tried) && !r.resumable() { // it is paused next
		if err := r.quick(r.session.Release); err != nil {
			r.log.Warn().Err(err).Msg("the container is held")
		}
		r.cp.held = false
	}
	return true
}

// stop stops the container, at once where there is a checkpoint of the whole: nothing is left that it could save.
func (r *runner) stop() error {
	p := &r.parking
	r.lastUsage()
	p.stopped, r.parkedAt = true, time.Now() // also when that fails: what was told to stop may stop yet
	ctx, cancel := context.WithDeadline(r.ctx, p.by)
	defer cancel()
	if r.whole() && r.resumable() {
		return r.session.Stop(ctx, 0)
	}
	grace := min(time.Duration(r.o.Stop.Timeout), time.Until(p.by)-2*quickCall)
	err := r.session.Stop(ctx, max(grace, time.Second))
	if err == nil {
		r.clock.set(false)
	}
	return err
}

// catch takes up a checkpoint that the job has made because it was told to stop, and reports whether there is nothing more to wait
// for.
func (r *runner) catch() bool {
	p := &r.parking
	if !time.Now().Before(p.by) {
		return true
	}
	if r.parking.looking > 0 {
		r.wakeAt(p.by)
		return false
	}
	if !p.caught {
		p.caught, p.last, p.lastBy = true, true, p.by
		r.lookParking()
		return false
	}
	if r.cp.pending {
		r.cp.pending = false // tried once
		return !r.save(p.by)
	}
	return true
}

// parkPaused leaves the container paused.
func (r *runner) parkPaused() {
	p := &r.parking
	if p.paused && r.o.Stop.OnQuit != "auto" {
		r.parkedAt = p.since
		r.parkDone(nil)
		return
	}
	err := r.quick(r.session.Pause)
	switch {
	case errors.Is(err, job.ErrNoPause):
		p.unpausable = true
		p.last = r.cp.on && !p.last && r.o.Stop.OnQuit != "auto" // else it was asked already
		return
	case err == nil:
		r.parkedAt = time.Now() // one that had ended already is no error: its end is found the next time
	}
	r.clock.set(false)
	r.parkDone(err)
}

// parkDone is the end of parking.
func (r *runner) parkDone(err error) {
	p := &r.parking
	if err == nil && p.unpausable {
		r.log.Warn().Stringer("lost", max(r.clock.ran-r.cp.mark.Ran, 0).Round(time.Second)).
			Msg("the container can't be paused and was stopped; it is resumed from its last checkpoint, or begins anew if there is none")
	}
	switch {
	case err != nil && !p.leaving:
		r.log.Warn().Err(err).Msg("the container can neither be paused nor stopped; tried again")
		r.parking = parking{}
		r.happened(unstoppable)
		r.clock.set(!r.cp.held)
	case !p.leaving:
		r.happened(stoppedInstead)
	default:
		if err != nil {
			r.log.Warn().Err(err).Msg("the container could not be parked and runs on without us")
		}
		r.kept()
		r.happened(parked)
	}
}

// kept says how far the job is in what is left of it: in its container, also one that runs on, or in its last checkpoint.
func (r *runner) kept() {
	if r.parking.stopped {
		r.outcome.Kept = r.cp.mark
		return
	}
	r.lastUsage()
	r.outcome.Kept, r.outcome.InContainer = job.Mark{At: time.Now(), CPU: r.meter.cpu, Ran: r.clock.ran}, true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
