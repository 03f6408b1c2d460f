package supervise

import (
	"context"
	"errors"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

// Mark is how far a job was at a checkpoint.
type Mark struct {
	At  time.Time     `json:"at"`  // when the job's file was changed; zero for no checkpoint
	CPU time.Duration `json:"cpu"` // over all episodes
	Ran time.Duration `json:"ran"` // likewise
}

// Checkpoints is how a job checkpoints: what is asked of it, and what it is told.
type Checkpoints struct {
	Last Mark // of earlier episodes

	// When the job last checkpointed; false for never. nil: by itself it doesn't, and Save makes the checkpoint of all that
	// it is.
	Made func(context.Context) (time.Time, bool)
	Near bool // Made costs next to nothing

	// Ask asks the job for a checkpoint; nil when it decides itself. It should be there within Timeout of running time.
	Ask     func(context.Context) error
	Timeout time.Duration

	// Save puts what the job goes on from where it outlives the container, which is held meanwhile or has ended. Only
	// then it is a checkpoint. It stops soon when its context ends. nil when it outlives the container anyway. The error
	// wraps ErrDropped when the checkpoint before is gone, too.
	Save func(context.Context) error

	// Hold keeps the container from running while it is saved, until Release. nil pauses it.
	Hold, Release func(context.Context) error

	Due   func() bool // the period is over
	Next  func()      // begins the next one
	Taken func(Mark)  // there is a new checkpoint, or by the zero Mark none any more, before the client is told
}

// ErrDropped: there is no checkpoint any more.
var ErrDropped = errors.New("the last checkpoint is dropped")

const (
	saveTime = 5 * time.Minute // what one copy may take, while the job stands

	lastAsk = 20 * time.Second // what a last checkpoint may take of the client's minute

	// A checkpoint that was asked for is looked for so often at first, and each second later.
	lookTime, lookLong = 250 * time.Millisecond, 3 * time.Second
)

// progress is the checkpoints of one Run.
type progress struct {
	mark     Mark // the newest
	cpu      time.Duration
	seen     time.Time     // the newest that was taken, or was there when the container was prepared
	pending  bool          // there is a newer one that isn't saved
	soon     bool          // whatever the period: nobody knows what the job has done before
	asked    bool          // for one that has not come
	askedAt  time.Duration // by runner.up
	look     <-chan time.Time
	told     bool       // the log says that it doesn't come
	problem  string     // the last one, which isn't said again
	held     bool       // the container stands to be saved, though the job should run
	off      bool       // this container can't be checkpointed
	saved    chan saved // the copy that is being made; nil for none
	stopSave context.CancelFunc
}

type saved struct {
	at    time.Time
	usage job.Usage
	known bool // usage
	err   error
	bug   string
}

// checkpoints is how this container is checkpointed; nil when it isn't.
func (r *runner) checkpoints() *Checkpoints {
	if r.cp.off {
		return nil
	}
	return r.o.Checkpoints
}

// whole reports that a checkpoint is all that the job is, and not its own.
func (c *Checkpoints) whole() bool { return c.Made == nil }

// renew begins with a container.
func (r *runner) renew(p Prepared) {
	r.cp.off = p.Unable
	c := r.checkpoints()
	if c == nil {
		return
	}
	if c.whole() {
		r.cp.soon = !p.Began
		c.Next()
		return
	}
	r.cp.seen, r.cp.asked, r.cp.pending, r.cp.soon = p.Made, false, p.Unsaved && c.Save != nil, !p.Began || p.Unsaved && c.Save != nil
	c.Next() // what the image took is none of the job's time, and a program that has just begun may not know the signal
}

// checkpoint asks for one, or saves the one that came, when it is time. It is called after whatever happened: a job
// that is throttled may be suspended at each tick.
func (r *runner) checkpoint() {
	c, p := r.checkpoints(), &r.cp
	if c == nil || r.snap.State != Running || p.held {
		return
	}
	if p.asked && r.up-p.askedAt > c.Timeout {
		if p.asked = false; !p.told {
			p.told = true
			r.log.Warn().Stringer("timeout", c.Timeout).Msg("the job was asked for a checkpoint, and none came; it is asked again each period")
		}
	}
	due := p.soon && r.up > 0 || c.Due()
	switch {
	case (p.pending || c.whole()) && (p.asked || due):
		r.save()
	case !p.asked && c.Ask != nil && due:
		r.ask()
	}
}

func (r *runner) ask() bool {
	c, p := r.o.Checkpoints, &r.cp
	p.soon = false
	c.Next()
	if err := r.quick(c.Ask); err != nil {
		r.complain(err, "the job could not be asked for a checkpoint")
		return false
	}
	p.asked, p.askedAt, p.look = true, r.up, time.After(lookTime)
	return true
}

// onLook looks for what was asked for, so that what is said of it is true of then.
func (r *runner) onLook(now time.Time) {
	r.cp.look = nil
	r.count(now)
	if r.cp.asked && r.snap.State == Running && r.up-r.cp.askedAt < lookLong {
		r.sample(now)
		r.cp.look = time.After(lookTime)
	}
}

// complain says what goes wrong with checkpoints, once until it is something else.
func (r *runner) complain(err error, text string) {
	if err.Error() != r.cp.problem {
		r.log.Warn().Err(err).Msg(text)
	}
	r.cp.problem = err.Error()
}

// onMade takes up what the job's file says.
func (r *runner) onMade(at time.Time) {
	switch {
	case at.Equal(r.cp.seen):
	case r.o.Checkpoints.Save != nil:
		r.cp.pending = true
	default:
		r.take(at)
	}
}

// take makes a checkpoint the one that the job goes on from.
func (r *runner) take(at time.Time) {
	c, p := r.o.Checkpoints, &r.cp
	if !p.asked {
		c.Next() // else the period began when it was asked for
	}
	p.cpu = max(p.cpu, r.cpuBase+r.used[1].cpu)
	p.seen, p.pending, p.asked, p.soon, p.problem = at, false, false, false, ""
	p.mark = Mark{At: at, CPU: p.cpu, Ran: r.snap.Ran}
	c.Taken(p.mark)
	r.log.Debug().Stringer("cpu", p.cpu.Round(time.Millisecond)).Msg("the job has checkpointed")
	r.report()
}

// save has a checkpoint saved beside the watch, since it may be large.
func (r *runner) save() {
	if err := r.hold(); err != nil {
		r.complain(err, "the checkpoint can't be saved yet")
		r.o.Checkpoints.Next()
		return
	}
	r.count(time.Now())
	ctx, cancel := context.WithTimeout(r.watch, saveTime)
	done, c, container := make(chan saved, 1), r.o.Checkpoints, r.container
	r.cp.held, r.cp.saved, r.cp.stopSave = true, done, cancel
	go func() {
		var s saved
		defer func() {
			s.bug = bugOf(recover())
			done <- s
		}()
		if s.at = time.Now(); !c.whole() {
			var ok bool
			if s.at, ok = c.Made(ctx); !ok {
				s.err = errors.New("its file can't be looked at")
				return
			}
		}
		usage, err := container.Usage(ctx)
		s.usage, s.known = usage, err == nil
		s.err = c.Save(ctx)
	}()
}

func (r *runner) onSaved(s saved) {
	raise(s.bug)
	r.cp.stopSave()
	r.cp.saved = nil
	r.release()
	if s.known {
		r.onUsage(s.usage)
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
	if r.o.Checkpoints.whole() {
		text = "the job could not be checkpointed"
	}
	r.complain(err, text)
	if errors.Is(err, ErrDropped) {
		r.cp.mark, r.cp.cpu = Mark{}, 0
		r.o.Checkpoints.Taken(Mark{})
		r.report()
	}
	r.cp.asked, r.cp.soon = false, false
	r.o.Checkpoints.Next()
}

// release lets a container go on that was paused to be saved. What fails is tried again each second.
func (r *runner) release() {
	if !r.cp.held || r.cp.saved != nil {
		return
	}
	if err := r.letGo(); err != nil {
		r.complain(err, "the job stands after a checkpoint; tried again")
		return
	}
	r.count(time.Now())
	r.cp.held = false
}

// hold keeps the container from running.
func (r *runner) hold() error {
	if hold := r.o.Checkpoints.Hold; hold != nil {
		return r.quick(hold)
	}
	return r.quick(r.container.Pause)
}

// letGo ends hold. A job that was suspended meanwhile stays so.
func (r *runner) letGo() error {
	release := r.o.Checkpoints.Release
	switch {
	case release != nil && r.snap.State == Running:
		return r.quick(release)
	case release != nil: // the engine must know that it is paused
		return errors.Join(r.quick(release), r.quick(r.container.Pause))
	case r.snap.State == Running:
		return r.quick(r.container.Unpause)
	default:
		return nil
	}
}

// dropSave breaks a copy off, whose container is about to end or has ended.
func (r *runner) dropSave() {
	if r.cp.saved != nil {
		r.cp.stopSave()
		select {
		case s := <-r.cp.saved:
			raise(s.bug)
		case <-time.After(quickCall):
		}
		r.cp.saved = nil
	}
	r.cp.held = false
}

// lastCheckpoint gets the newest checkpoint that can be had before the job is parked, and reports whether the job can
// go on from one. The container may be paused or not afterwards, and even have ended.
func (r *runner) lastCheckpoint() bool {
	c, p := r.checkpoints(), &r.cp
	if c == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(r.watch, lastAsk)
	defer cancel()
	if p.saved != nil {
		select {
		case s := <-p.saved:
			r.onSaved(s)
		case <-ctx.Done():
			r.dropSave()
		}
	}
	r.count(time.Now())
	if c.whole() {
		return r.lastSave(ctx)
	}
	waits := p.asked
	if stale := p.mark.At.IsZero() || p.soon || r.snap.Ran-p.mark.Ran > tickTime; c.Ask != nil && stale && !waits {
		waits = (r.snap.State == Running || r.quick(r.container.Unpause) == nil) && r.ask()
	}
	answer, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	at, made := c.Made(ctx)
	for waits && (!made || at.Equal(p.seen)) {
		select {
		case exit := <-r.exited:
			r.onExit(exit)
			return false
		case <-answer.Done():
			r.log.Warn().Msg("the job was asked for a last checkpoint, and none came")
			waits = false
		case <-time.After(lookTime):
			at, made = c.Made(ctx)
		}
	}
	if ctx.Err() == nil && (c.Save == nil || r.quick(r.container.Pause) == nil) {
		made = r.catch(ctx)
	}
	return made && !p.mark.At.IsZero()
}

// lastSave checkpoints all that the job is, unless it has hardly run since the last time. Held, or paused, it can be killed.
func (r *runner) lastSave(ctx context.Context) bool {
	c, p := r.o.Checkpoints, &r.cp
	if !p.mark.At.IsZero() && r.snap.Ran-p.mark.Ran < tickTime {
		return true
	}
	err := r.hold()
	if err == nil {
		r.lastUsage()
		if err = c.Save(ctx); err == nil {
			r.take(time.Now())
			return true
		}
	}
	r.unsaved(err)
	if c.Release != nil { // it is paused next
		if err := r.quick(c.Release); err != nil {
			r.log.Warn().Err(err).Msg("the container is held")
		}
	}
	return false
}

// catch takes up a checkpoint that nobody has noticed yet, of a container that doesn't run if it must be saved. It
// reports whether there is one at all.
func (r *runner) catch(ctx context.Context) bool {
	c := r.o.Checkpoints
	at, made := c.Made(ctx)
	if !made || at.Equal(r.cp.seen) {
		return made
	}
	r.lastUsage()
	if c.Save != nil {
		if err := c.Save(ctx); err != nil {
			r.unsaved(err)
			return true
		}
	}
	r.take(at)
	return true
}
