package supervise

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

// Client is what Run needs of the BOINC client; *boincapi.App satisfies it.
type Client interface {
	Status() <-chan boincapi.Status // a level, newest wins; buffered
	Report(boincapi.Report)         // never blocks
	TimeToCheckpoint() bool         // the period is over
	CheckpointCompleted()           // begins the next one
}

// Session is what Run needs of a container of the job, with its output and its files. Asking twice, or asking of a container
// that has ended, is no error. Each call has its own deadline and may be made from any goroutine.
type Session interface {
	Start() job.Start // how it stood when it was handed over

	Pause(context.Context) error // wraps job.ErrNoPause when it can't be paused in any way
	Unpause(context.Context) error
	Stop(ctx context.Context, grace time.Duration) error // to be resumed later; grace 0 kills it
	Kill(context.Context) error
	Wait(context.Context) <-chan job.Exit // receives once
	Usage(context.Context) (job.Usage, error)

	// Keep makes sure that it is paused, or not. It reports whether somebody else had made it otherwise.
	Keep(ctx context.Context, paused bool) (changed bool, err error)

	Connect(ctx context.Context, on bool) error              // to its network, or disconnects it
	Fraction(context.Context) (fraction float64, known bool) // how far the job is, as it reports
	Renew()                                                  // takes over the init_data.xml that the client has rewritten
	TimedOut()                                               // it is going to be killed because it ran for too long

	// Carry carries messages between job and client, one round at a time. It stops soon when its context ends, and Run waits for it.
	Carry(context.Context, boincapi.Status)

	Checkpoints
}

// Checkpoints is how the job in a container is checkpointed. [job.Checkpoint] says which of it is ever called.
type Checkpoints interface {
	Made(context.Context) (at time.Time, ok bool) // when the job made its newest checkpoint itself; false for never
	Ask(context.Context) error                    // asks the job for one

	// Save puts what the job resumes from where it outlives the container, which is held meanwhile or has ended. Only then it is
	// a checkpoint. It stops soon when its context ends. The error wraps job.ErrDropped when the checkpoint before is gone, too.
	Save(context.Context) error

	Hold(context.Context) error    // keeps it from running while the engine checkpoints it
	Release(context.Context) error // ends Hold
	Crowded() bool                 // the checkpoint before has to make room for what the job has written since
	Taken(job.Mark)                // there is a new checkpoint, or by the zero Mark none any more
}

// Retry says how long a preparation that failed is tried again.
type Retry struct {
	Patience time.Duration // for so long it is tried again; 0 means that it is given up at once
	Network  bool          // it waits for the network
}

// Options are for Run. Client and Open must be set.
type Options struct {
	Client Client

	// Open finds the container or makes it, and starts it. It stops soon when its context ends.
	Open    func(context.Context, job.Before) (Session, error)
	Still   func(context.Context) error // pauses a container of an earlier episode that still runs; nil when there is none
	Retry   func(error) Retry           // nil means that nothing is tried again
	Network *Network                    // what Open asks before it uses the network; nil when it never does
	Joins   bool                        // the container has a network of its own, from which it can be disconnected
	Observe func(Snapshot)              // called once a second; nil for nobody

	Checkpoint job.Checkpoint
	Last       job.Mark      // the checkpoint of earlier episodes
	CPU        time.Duration // used in earlier episodes, up to the last checkpoint
	Ran        time.Duration // running time of earlier episodes
	Stop       job.Stop
	TimeLimit  time.Duration // of running time; 0 means none
	Log        zerolog.Logger
}

// ErrBusy: what was begun for a container that has ended doesn't come to its end.
var ErrBusy = errors.New("the engine or a file system doesn't answer")

// Snapshot is how the job stands.
type Snapshot struct {
	State    State
	Ran      time.Duration // running time, suspended time not counted
	CPU      time.Duration // over all episodes
	Memory   int64         // bytes; 0 when unknown
	Fraction float64       // 0 to 1
}

// Reason says why Run returned.
type Reason int

const (
	Finished Reason = iota // the container ended: see Exit
	Left                   // the client, or a signal, wants us gone; the container is parked
	Aborted                // the job is cancelled; the container was killed
	Failed                 // it could not be prepared: see Err
	TimedOut               // it ran longer than its time limit; the container was killed
)

// Outcome is what came of an episode.
type Outcome struct {
	Reason Reason
	Parked time.Time     // when the container was paused or told to stop; zero: it runs on, or had ended by itself
	Up     time.Duration // running time of this episode
	Adrift bool          // an engine that doesn't answer still keeps a goroutine of ours: nothing of the job may be touched
	Exit   job.Exit
	Err    error // why it could not be prepared; ErrBusy when goroutines of an ended container are left
	Last   Snapshot

	// Kept is how far the job is where the next episode resumes it; the zero Mark: at its beginning, or not known. InContainer:
	// that is in no checkpoint and lost with the container.
	Kept        job.Mark
	InContainer bool
}

const (
	tickTime = time.Second

	// No call on a container takes so long: between two ticks the computer was asleep.
	maxGap = time.Minute

	// A client that throttles suspends and resumes each second. After so many lines only what lasts is logged.
	maxLogged, lasting = 20, time.Minute
)

// Run keeps the container as the client wishes until it ends, the client wants us gone, or it can't be prepared. When ctx ends,
// that is a wish to leave.
func Run(ctx context.Context, o Options) Outcome {
	r := newRunner(ctx, o)
	defer func() { // also in a panic
		if r.unwatch != nil {
			r.unwatch()
		}
	}()
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	signalled, status := ctx.Done(), o.Client.Status()
	if ctx.Err() != nil {
		r.signalled = true
		r.wish(leave)
	}
	if len(status) == 0 || r.signalled { // else it is heard first
		r.step()
	}
	for !r.over() {
		r.setAlarm(alarm)
		if r.state == Ended { // what the client says now is for those who come after
			status = nil
		}
		select {
		case st := <-status:
			r.onStatus(st)
		case <-signalled:
			r.signalled, signalled = true, nil
			r.wish(leave)
		case <-r.inbox.filled:
		case now := <-tick.C:
			r.onTick(now)
		case <-alarm.C: // something was waited for until now
		}
		for _, what := range r.inbox.take() { // an end that is known already comes before whatever is wished
			r.handle(what)
		}
		r.step()
		r.checkpoint()
		r.renew()
	}
	r.report()
	r.outcome.Last, r.outcome.Up = r.snapshot(), r.clock.up
	return r.outcome
}

// runner is one Run. Only its goroutine touches it; what takes time runs in goroutines that get values, and answers into the
// inbox.
type runner struct {
	o     Options
	ctx   context.Context // never cancelled: engine calls aren't cut in half
	log   zerolog.Logger
	inbox *inbox
	busy  int       // goroutines of ours that have not answered
	wake  time.Time // when the tables are asked again, whatever happens; zero for never

	state     State
	since     time.Time // when it began
	status    boincapi.Status
	want      wish
	signalled bool      // the wish to leave stays
	vain      time.Time // since when something is suspended that goes on; zero when nothing is

	prep    preparer
	stilled bool // nothing of an earlier episode runs

	session  Session         // nil when there is none
	watch    context.Context // ends with the session
	unwatch  context.CancelFunc
	outside  bool      // the last container was ended from outside
	parkedAt time.Time // when the container was paused or told to stop by us, to be resumed; zero when it wasn't
	giveUp   time.Time // when goroutines that still work for a container that is gone are given up
	leaveBy  time.Time // when the process must be gone; zero while the client doesn't wish it
	again    interruptions

	clock    clock
	meter    meter
	cp       checkpoints
	parking  parking
	joiner   joiner
	rereader rereader
	keptAt   time.Time // when it was last made sure that the container is as it should be
	carrying bool

	logged    int    // how often the log tells of suspending and resuming
	lastError string // of an action that is tried again

	outcome Outcome
}

func newRunner(ctx context.Context, o Options) *runner {
	r := &runner{o: o, log: o.Log, inbox: newInbox(), ctx: context.WithoutCancel(ctx)}
	r.clock.ran = o.Ran
	r.cp.mark = o.Last
	r.cp.cpu = max(o.CPU, o.Last.CPU) // the client may have been killed before it wrote that down
	r.meter.cpu = r.cp.cpu
	return r
}

// over reports that Run may return: the job has ended, and nothing of it is still being done.
func (r *runner) over() bool {
	if r.state != Ended || r.outcome.Adrift || r.busy == 0 {
		return r.state == Ended
	}
	if time.Now().Before(r.giveUp) {
		r.wakeAt(r.giveUp)
		return false
	}
	r.leaveBusy()
	return true
}

// leaveBusy leaves goroutines that don't answer to themselves.
func (r *runner) leaveBusy() {
	r.log.Warn().Err(ErrBusy).Msg("left as it is")
	r.outcome.Adrift, r.outcome.Err = true, ErrBusy
}

// wakeAt has the tables asked again at a time to come; zero for never.
func (r *runner) wakeAt(at time.Time) {
	if at.After(time.Now()) && (r.wake.IsZero() || at.Before(r.wake)) {
		r.wake = at
	}
}

// setAlarm sets the timer for what is waited for. Each round of Run's loop says anew what that is.
func (r *runner) setAlarm(alarm *time.Timer) {
	d := time.Hour
	if !r.wake.IsZero() {
		d = time.Until(r.wake)
	}
	alarm.Reset(d)
	r.wake = time.Time{}
}

// handle deals with what a goroutine has answered.
func (r *runner) handle(what any) {
	r.busy--
	switch x := what.(type) {
	case bug:
		panic(string(x))
	case preparation:
		r.onPrepared(x)
	case ending:
		r.onEnding(x)
	case sample:
		r.onSample(x)
	case saved:
		r.onSaved(x)
	case carried:
		r.carrying = false
	}
}

func (r *runner) onStatus(st boincapi.Status) {
	r.status = st
	if r.o.Network != nil {
		r.o.Network.listen(st)
	}
	r.rereader.listen(st)
	r.wish(wishOf(st))
}

func (r *runner) wish(w wish) {
	if r.signalled {
		w = max(w, leave)
	}
	if w != r.want {
		r.log.Debug().Stringer("wish", w).Stringer("state", r.state).Msg("client")
	}
	r.want = w
	if w < leave {
		r.leaveBy = time.Time{}
	} else if r.leaveBy.IsZero() {
		r.leaveBy = time.Now().Add(gone)
	}
	if w != suspend {
		r.vain = time.Time{}
	}
}

// suspendedFor is for how long the client has suspended what goes on.
func (r *runner) suspendedFor() time.Duration {
	if r.vain.IsZero() {
		r.vain = time.Now()
	}
	return time.Since(r.vain)
}

// step carries out what the table says, until it says nothing new.
func (r *runner) step() {
	for r.state != Ended {
		before := r.state
		if before == Parking && r.want != abort {
			if r.goOnParking(); r.state == Parking || r.state == Running {
				return // Running: it could be neither paused nor stopped, and that is tried again at the next event
			}
			continue
		}
		m := moves[before][r.want]
		if !r.do(m.do) {
			return // asked again at the next event
		}
		switch {
		case r.state != before: // the action itself came to another state
		case m.to == Ended:
			r.end(reasonFor(r.want))
		case m.to != before:
			r.moveTo(m.to)
		default:
			if before == Waiting {
				r.still()
			}
			return
		}
	}
}

// do carries out an action, and reports whether it succeeded.
func (r *runner) do(a action) bool {
	var err error
	switch a {
	case prepare:
		return r.prepare()
	case cancel:
		r.cancel()
	case pause:
		return r.pause()
	case unpause:
		if !r.cp.saving { // else it is resumed when it is saved
			err = r.quick(r.session.Unpause)
		}
		r.clock.set(err == nil && !r.cp.held)
		return r.succeeded(err)
	case park:
		r.park(true)
	case kill:
		return r.kill()
	}
	return true
}

func (r *runner) pause() bool {
	var err error
	if !r.cp.held { // else it is paused already
		err = r.quick(r.session.Pause)
	}
	if errors.Is(err, job.ErrNoPause) {
		if r.suspendedFor() < runsOn {
			r.wakeAt(r.vain.Add(runsOn))
			return false
		}
		r.park(false)
		r.happened(unpausable)
		return true
	}
	if err == nil {
		r.clock.set(false)
	}
	return r.succeeded(err)
}

func (r *runner) kill() bool {
	if !r.dropSave() {
		return false
	}
	r.lastUsage()
	if err := r.quick(r.session.Kill); err != nil {
		r.log.Warn().Err(err).Msg("the container could not be killed")
	}
	return true
}

// succeeded logs an error once. What failed is tried again each second.
func (r *runner) succeeded(err error) bool {
	if err == nil {
		r.lastError = ""
		return true
	}
	if err.Error() != r.lastError {
		r.log.Warn().Err(err).Msg("tried again")
	}
	r.lastError = err.Error()
	return false
}

// quick is a call that must not keep us long.
func (r *runner) quick(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.ctx, quickCall)
	defer cancel()
	return call(ctx)
}

// happened looks an event up and goes to the state that follows from it.
func (r *runner) happened(e event) {
	t, known := turnOf(e, r.state)
	r.log.Debug().Stringer("event", e).Stringer("state", r.state).Bool("known", known).Msg("event")
	switch {
	case !known:
	case t.to == Ended && e == adrift:
		r.end(reasonFor(r.want))
	case t.to == Ended:
		r.end(t.reason)
	default:
		if t.to == Waiting && r.session != nil {
			r.drop()
		}
		r.moveTo(t.to)
	}
}

func (r *runner) moveTo(s State) {
	now := time.Now()
	r.clock.read(now)
	r.log.Debug().Stringer("from", r.state).Stringer("to", s).Msg("state")
	if text := textFor(r.state, s); text != "" && (r.logged < maxLogged || now.Sub(r.since) >= lasting) {
		r.logged++
		r.log.Info().Msg(text)
	}
	fresh := r.state == Preparing
	r.state, r.since = s, now
	if s == Running && !fresh && now.Sub(r.meter.at) >= r.meter.every(r.clock.ran) { // a job that is throttled may be suspended at each tick
		r.sample(now)
	}
}

func textFor(from, to State) string {
	switch {
	case from == Running && to == Paused:
		return "suspended"
	case from == Paused && to == Running:
		return "resumed"
	default:
		return ""
	}
}

func (r *runner) end(reason Reason) {
	r.outcome.Reason = reason
	if reason == Left || reason == Aborted {
		r.outcome.Parked = r.parkedAt
	}
	r.moveTo(Ended)
	r.clock.set(false)
	if r.session != nil {
		r.dropSave()
		r.unwatch()
	}
	r.giveUp = time.Now().Add(maxGrace)
	if !r.leaveBy.IsZero() {
		r.giveUp = earlier(r.giveUp, r.leaveBy)
	}
}

// drop forgets a container that doesn't run any more. Another is prepared when the job is to run again.
func (r *runner) drop() {
	r.clock.set(false)
	r.dropSave()
	r.unwatch()
	r.giveUp = time.Now().Add(maxGrace)
	r.session, r.cp.saving, r.cp.held, r.parking = nil, false, false, parking{}
}

// ending is the end of a container, or of the wait for it.
type ending struct {
	of    Session
	exit  job.Exit
	known bool // exit
}

// onEnding takes the end of a container. One that was ended from outside, or removed, is no end of the job: it is prepared again,
// which starts it again or makes another.
func (r *runner) onEnding(e ending) {
	if !e.known || e.of != r.session || r.state == Ended || r.parking.stopped { // else it is what we did ourselves
		return
	}
	r.clock.set(false)
	ours, again := !r.parkedAt.IsZero(), 0
	if !ours && (e.exit.Outside || e.exit.Gone) {
		again = r.again.add(r.clock.up)
	}
	what := eventOf(e.exit, ours, again)
	switch {
	case what == finished:
		if !e.exit.Lost && !e.exit.Outside && !e.exit.Gone {
			r.meter.addRest(r.clock.ran, time.Since(e.exit.FinishedAt))
		}
		r.outcome.Exit = e.exit
	case !ours:
		r.log.Warn().Int("code", e.exit.Code).Bool("removed", e.exit.Gone).Msg("the container was ended from outside; the job goes on")
		r.outside = true
	}
	r.happened(what)
}

func (r *runner) onTick(now time.Time) {
	if r.state == Ended {
		return
	}
	r.clock.read(now)
	if r.o.TimeLimit > 0 && r.clock.ran > r.o.TimeLimit && r.state == Running {
		r.timeUp()
		return
	}
	if r.state == Waiting && r.blocked() && r.impatient(now) {
		return
	}
	r.join(now)
	if r.state.up() {
		r.release()
	}
	r.keep(now)
	r.sample(now)
	r.carry()
	r.report()
	if r.o.Observe != nil {
		r.o.Observe(r.snapshot())
	}
}

func (r *runner) timeUp() {
	if !r.dropSave() {
		return // the next time
	}
	r.log.Warn().Stringer("limit", r.o.TimeLimit).Msg("time limit exceeded")
	r.session.TimedOut()
	r.kill()
	r.happened(timeUp)
}

func (r *runner) snapshot() Snapshot {
	return Snapshot{State: r.state, Ran: r.clock.ran, CPU: r.meter.cpu, Memory: r.meter.memory, Fraction: r.meter.fraction}
}

func (r *runner) report() {
	r.o.Client.Report(boincapi.Report{
		CPU:           r.meter.cpu.Seconds(),
		CheckpointCPU: max(r.cp.cpu, r.outcome.Kept.CPU).Seconds(),
		Fraction:      r.meter.fraction,
		RSS:           float64(r.meter.memory),
		WantNetwork:   r.state == Waiting && r.want == run && r.prep.retry.Network,
	})
}
