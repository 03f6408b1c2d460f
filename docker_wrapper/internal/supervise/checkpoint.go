package supervise

import (
	"context"
	"errors"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	saveTime = 5 * time.Minute // what one copy may take, while the job stands

	// A checkpoint that was asked for is looked for so often at first, and each second later.
	lookTime, lookLong = 250 * time.Millisecond, 3 * time.Second
)

// checkpoints is how far this container's job is known to be saved, and what is being done about it. Only the watch's
// goroutine uses it.
type checkpoints struct {
	on bool // this container is checkpointed

	mark    job.Mark // the newest
	cpu     time.Duration
	seen    time.Time // when the job made the newest that was taken, or that was there when the container was prepared
	there   bool      // the job has one, as of the last look
	pending bool      // there is a newer one that isn't saved
	soon    bool      // whatever the period: what the job has done before is unknown

	asked   bool          // for one that has not come
	askedAt time.Duration // running time of this episode
	lookAt  time.Time     // for it; zero for not before the next tick
	told    bool          // the log tells that it didn't come

	held     bool // the container stands to be saved, though the job should run
	saving   bool
	saves    int // how often one was begun
	stopSave context.CancelFunc
	dropBy   time.Time // when a copy that is broken off is given up; zero while none is
	pace     pace
	problem  string // the last one, which is logged once
}

// whole reports that the engine makes the checkpoints, with all that runs in the container, and not the job itself.
func (r *runner) whole() bool { return r.o.Checkpoint.Whole() }

// own reports that this container's job makes its checkpoints itself.
func (r *runner) own() bool { return r.cp.on && !r.whole() }

// pace spaces out the checkpoints that an engine makes: unless job.toml says how often, no more than a twentieth of the time goes
// into them, and one that failed is tried ever more seldom.
type pace struct {
	next  time.Time // not before
	fails int       // in a row
}

const (
	restShare          = 19
	failRest, mostRest = 10 * time.Second, time.Hour
)

// note takes down how long one took. free: job.toml says how often.
func (p *pace) note(took time.Duration, free bool, err error) {
	rest := restShare * took
	if err != nil {
		rest = min(failRest<<min(p.fails, 10), mostRest)
		p.fails++
	} else if p.fails = 0; free {
		rest = 0
	}
	p.next = time.Now().Add(rest)
}

// saved is what has come of saving a checkpoint.
type saved struct {
	of    Session
	n     int       // of the save
	at    time.Time // when the checkpoint was made
	took  time.Duration
	usage job.Usage
	known bool // usage
	err   error
}

// beginCheckpoints begins with a container.
func (r *runner) beginCheckpoints(start job.Start) {
	c := r.o.Checkpoint
	r.cp.on = c.Any() && !start.Unable
	if !r.cp.on {
		return
	}
	unsaved := start.Unsaved && c.Saves()
	r.cp.seen, r.cp.there, r.cp.asked, r.cp.pending = start.Newest, !start.Newest.IsZero(), false, unsaved && !r.whole()
	r.cp.soon = !start.Began || unsaved && !r.whole()
	r.o.Client.CheckpointCompleted() // what the image took is none of the job's time, and a program that has just begun may not know the signal
}

// checkpoint asks for a checkpoint, or saves the one that came, when it is time. It is called after whatever happened: a job
// that is throttled may be suspended at each tick.
func (r *runner) checkpoint() {
	p := &r.cp
	if !p.on || r.state != Running || p.held {
		return
	}
	r.look()
	timeout := time.Duration(r.o.Checkpoint.Timeout)
	if p.asked && r.clock.up-p.askedAt > timeout {
		if p.asked = false; !p.told {
			p.told = true
			r.log.Warn().Stringer("timeout", timeout).Msg("the job was asked for a checkpoint, and none came; it is asked again each period")
		}
	}
	due := p.soon && r.clock.up > 0 || r.due()
	switch {
	case (p.pending || r.whole()) && (p.asked || due):
		r.save(time.Now().Add(saveTime))
	case !p.asked && r.o.Checkpoint.Asks() && due:
		r.ask()
	}
}

func (r *runner) due() bool {
	due := r.o.Client.TimeToCheckpoint()
	if r.whole() {
		return r.session.Crowded() || due && !time.Now().Before(r.cp.pace.next)
	}
	return due
}

func (r *runner) ask() {
	p := &r.cp
	p.soon = false
	r.o.Client.CheckpointCompleted()
	if err := r.quick(r.session.Ask); err != nil {
		r.complain(err, "the job could not be asked for a checkpoint")
		return
	}
	p.asked, p.askedAt, p.lookAt = true, r.clock.up, time.Now().Add(lookTime)
	r.wakeAt(p.lookAt)
}

// look looks for what was asked for, so that what is reported of it is true of then.
func (r *runner) look() {
	p, now := &r.cp, time.Now()
	if p.lookAt.IsZero() || now.Before(p.lookAt) {
		r.wakeAt(p.lookAt)
		return
	}
	p.lookAt = time.Time{}
	r.clock.read(now)
	if !p.asked || r.state == Running && r.clock.up-p.askedAt >= lookLong {
		return
	}
	if r.state == Running {
		r.sample(now)
	} else if r.parking.looking == 0 {
		r.lookParking()
	}
	p.lookAt = now.Add(lookTime)
	r.wakeAt(p.lookAt)
}

// onLooked takes up when the job has made its newest checkpoint; zero for none.
func (r *runner) onLooked(made time.Time) {
	r.cp.there = !made.IsZero()
	switch {
	case !r.cp.there || made.Equal(r.cp.seen):
	case r.o.Checkpoint.Saves():
		r.cp.pending = true
	default:
		r.take(made)
	}
}

// take makes a checkpoint the one that the job resumes from.
func (r *runner) take(at time.Time) {
	p := &r.cp
	if !p.asked {
		r.o.Client.CheckpointCompleted() // else the period began when it was asked for
	}
	p.cpu = max(p.cpu, r.meter.base+r.meter.used[1].cpu)
	p.seen, p.pending, p.asked, p.soon, p.problem = at, false, false, false, ""
	p.mark = job.Mark{At: at, CPU: p.cpu, Ran: r.clock.ran}
	r.session.Taken(p.mark)
	r.log.Debug().Stringer("cpu", p.cpu.Round(time.Millisecond)).Msg("the job has checkpointed")
	r.report()
}

// save has a checkpoint saved, beside the watch since it may be large. It reports whether that has begun.
func (r *runner) save(by time.Time) bool {
	if !r.parking.stopped && (!r.cp.held || r.whole()) { // one that is held already is held all the same: it may have been let go
		if err := r.hold(); err != nil {
			r.complain(err, "the checkpoint can't be saved yet")
			r.o.Client.CheckpointCompleted()
			return false
		}
	}
	r.clock.set(false)
	ctx, cancel := context.WithDeadline(r.watch, by)
	session, whole := r.session, r.whole()
	r.cp.held, r.cp.saving, r.cp.stopSave, r.cp.dropBy = true, true, cancel, time.Time{}
	r.cp.saves++
	n := r.cp.saves
	r.beside(func() any {
		s := saved{of: session, n: n, at: time.Now()}
		began := s.at
		if !whole {
			var ok bool
			if s.at, ok = session.Made(ctx); !ok {
				s.err = errors.New("its file can't be looked at")
				return s
			}
		}
		usage, err := usageOf(ctx, session)
		s.usage, s.known = usage, err == nil
		s.err = session.Save(ctx)
		s.took = time.Since(began)
		return s
	})
	return true
}

func (r *runner) onSaved(s saved) {
	if s.of != r.session || !r.cp.saving || s.n != r.cp.saves {
		return // given up
	}
	p, dropped := &r.cp, !r.cp.dropBy.IsZero()
	p.stopSave()
	p.saving, p.dropBy = false, time.Time{}
	if dropped {
		return
	}
	if r.whole() {
		p.pace.note(s.took, r.o.Checkpoint.Period > 0, s.err)
	}
	if r.state.up() {
		r.release()
	}
	if s.known {
		r.addUsage(s.usage)
	}
	if s.err != nil {
		r.unsaved(s.err)
		return
	}
	r.take(s.at)
}

// unsaved leaves it to the next period.
func (r *runner) unsaved(err error) {
	text := "the job has checkpointed, and that could not be saved"
	if r.whole() {
		text = "the job could not be checkpointed"
	}
	r.complain(err, text)
	if errors.Is(err, job.ErrDropped) {
		r.cp.mark, r.cp.cpu = job.Mark{}, 0
		r.session.Taken(job.Mark{})
		r.report()
	}
	r.cp.asked, r.cp.soon = false, false
	r.o.Client.CheckpointCompleted()
}

// complain logs what goes wrong with checkpoints, once until it is something else.
func (r *runner) complain(err error, text string) {
	if err.Error() != r.cp.problem {
		r.log.Warn().Err(err).Msg(text)
	}
	r.cp.problem = err.Error()
}

// hold keeps the container from running.
func (r *runner) hold() error {
	if r.whole() {
		return r.quick(r.session.Hold)
	}
	return r.quick(r.session.Pause)
}

// release lets a container run again that was held to be saved. What fails is tried again each second.
func (r *runner) release() {
	if !r.cp.held || r.cp.saving {
		return
	}
	if err := r.letGo(); err != nil {
		r.complain(err, "the job stands after a checkpoint; tried again")
		return
	}
	r.cp.held = false
	r.clock.set(r.state == Running)
}

// letGo ends hold. A job that was suspended meanwhile stays so.
func (r *runner) letGo() error {
	switch {
	case r.whole() && r.state == Running:
		return r.quick(r.session.Release)
	case r.whole(): // the engine must know that it is paused
		return errors.Join(r.quick(r.session.Release), r.quick(r.session.Pause))
	case r.state == Running:
		return r.quick(r.session.Unpause)
	default:
		return nil
	}
}

// dropSave breaks a copy off whose container is about to end, and reports whether it is over. One that doesn't stop is given up.
func (r *runner) dropSave() bool {
	p, now := &r.cp, time.Now()
	if !p.saving {
		return true
	}
	if p.dropBy.IsZero() {
		p.dropBy = now.Add(quickCall)
		p.stopSave()
	}
	if now.Before(p.dropBy) {
		r.wakeAt(p.dropBy)
		return false
	}
	p.saving = false
	return true
}
