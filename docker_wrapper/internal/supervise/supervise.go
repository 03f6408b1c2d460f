package supervise

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

// Client is what Run needs of the BOINC client; *boincapi.App satisfies it.
type Client interface {
	Status() <-chan boincapi.Status // a level, newest wins
	Report(boincapi.Report)         // never blocks
}

// Container is what Run needs of a container. Asking twice, or asking of a container that has
// ended, is no error. Each call has its own deadline.
type Container interface {
	Pause(context.Context) error
	Unpause(context.Context) error
	Stop(ctx context.Context, grace time.Duration) error
	Kill(context.Context) error
	Wait(context.Context) <-chan job.Exit // receives once
	Usage(context.Context) (job.Usage, error)

	// Keep makes sure that it is paused, or not. It reports whether somebody else had made it otherwise.
	Keep(ctx context.Context, paused bool) (changed bool, err error)
}

// Prepared is a container that was started, now or in an earlier episode.
type Prepared struct {
	Container Container
	Paused    bool
	Apart     bool          // it may be parted from its network, by an earlier episode, or not
	Began     bool          // its program has just begun, from the last checkpoint if there is one
	CPUBase   time.Duration // what earlier containers of this job have used
	Made      time.Time     // the job's checkpoint that was there before; zero for none
	Unsaved   bool          // that may be newer than what is saved
	Unable    bool          // it can't be checkpointed, whatever Options say
	Anew      bool          // the last checkpoint is lost, and the program began from nothing
}

// Before is what came before a preparation.
type Before struct {
	CPU     time.Duration // that the job has used up to its last checkpoint
	Outside bool          // the container was ended from outside: its exit is none of the job's
	Stopped time.Time     // when it was told to stop, because it can't be paused; zero when it wasn't
}

// Mend says what becomes of a failed preparation.
type Mend struct {
	Patience time.Duration // for so long it is tried again; 0 means that it is given up at once
	Network  bool          // it waits for the network
}

// Options are for Run. Client and Prepare must be set.
type Options struct {
	Client Client

	// Prepare finds the container or makes it. It stops soon when its context ends.
	Prepare func(context.Context, Before) (Prepared, error)
	Mends   func(error) Mend                  // what may mend; nil means that nothing does
	Network *Network                          // what Prepare asks before it uses the network; nil when it never does
	Connect func(context.Context, bool) error // joins the container to its network, or parts it; nil when it has none

	Fraction    func(context.Context) (float64, bool) // how far the job says it is; nil for unknown
	Checkpoints *Checkpoints                          // nil when the job has none
	Stopping    func()                                // the container is going to be stopped, to go on later; nil for nobody
	TimedOut    func()                                // it is going to be killed because it ran for too long; nil for nobody
	Still       func(context.Context) error           // pauses a container of an earlier episode that still runs; nil when there is none
	Observe     func(Snapshot)                        // told once a second; nil for nobody
	Reread      func()                                // the client has rewritten init_data.xml; nil for nobody

	// Mail carries messages between job and client. It is called once a second while the container is up, beside
	// the watch and never twice at a time; it stops soon when its context ends, and Run waits for it. nil for none.
	Mail func(context.Context, boincapi.Status)

	CPU       time.Duration // used in earlier episodes, up to the last checkpoint
	Stop      job.Stop
	TimeLimit time.Duration // of running time; 0 means none
	Ran       time.Duration // running time of earlier episodes
	Log       zerolog.Logger
}

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
	Parked time.Time     // when the container was paused or told to stop; what ended before did that by itself. Zero: it goes on
	Up     time.Duration // running time of this episode
	Adrift bool          // an engine that doesn't answer still keeps Prepare, which must be left alone
	Exit   job.Exit
	Err    error
	Last   Snapshot
}

const (
	tickTime = time.Second

	// Usage is asked for often while a job is young, because what it uses after the last question can
	// only be estimated, and seldom later.
	minSample, maxSample, sampleShare = time.Second, 10 * time.Second, 60

	lastSample = 2 * time.Second // what the one before a kill may take

	firstRetry, lastRetry = 5 * time.Second, time.Minute

	// The client kills a process 60 s after it asked it to quit (client/client_state.h). Until then a
	// preparation must have been broken off or a container parked, behind one call that was under way.
	maxGrace  = 40 * time.Second
	quickCall = 10 * time.Second

	// keepEvery is how often it is made sure that the container is as the client wants it.
	keepEvery = 10 * time.Second

	// A container that is ended from outside so often within an hour of running is left for later.
	maxAgain = 3

	// No call on a container takes so long: between two ticks the computer was asleep.
	maxGap = time.Minute

	// A client that throttles suspends and resumes each second. After so many lines only what lasts is said.
	maxSaid, lasting = 20, time.Minute
)

// Run keeps the container as the client wishes until it ends, the client wants us gone, or it can't
// be prepared. When ctx ends, that is a wish to leave.
func Run(ctx context.Context, o Options) Outcome {
	r := &runner{o: o, log: o.Log, samples: make(chan sample, 1), mailed: make(chan string, 1), ctx: context.WithoutCancel(ctx)}
	r.snap.CPU, r.snap.Ran, r.cp.cpu = o.CPU, o.Ran, o.CPU
	if o.Checkpoints != nil {
		r.cp.mark = o.Checkpoints.Last
		r.cp.cpu = max(o.CPU, r.cp.mark.CPU) // the client may have been killed before it wrote that down
		r.snap.CPU = r.cp.cpu
	}
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	select { // what the client wants already
	case st := <-o.Client.Status():
		r.onStatus(st)
	default:
	}
	if ctx.Err() != nil {
		r.wish(leave)
	}
	r.step()
	for r.snap.State != Ended {
		select {
		case st := <-o.Client.Status():
			r.onStatus(st)
		case <-ctx.Done():
			r.wish(leave) // which ends it in the same step
		case p := <-r.prepared:
			r.onPrepared(p)
		case exit := <-r.exited:
			r.onExit(exit)
		case s := <-r.samples:
			r.onSample(s)
		case s := <-r.cp.saved:
			r.onSaved(s)
		case now := <-r.cp.look:
			r.onLook(now)
		case bug := <-r.mailed:
			raise(bug)
			r.mailing = false
		case now := <-tick.C:
			r.onTick(now)
		}
		select { // an end that is known already comes before whatever is wished
		case exit := <-r.exited:
			if r.snap.State != Ended { // else it is what we did ourselves
				r.onExit(exit)
			}
		default:
		}
		r.step()
		r.checkpoint()
		if up := r.snap.State == Running || r.snap.State == Paused; up && r.stale && o.Reread != nil && !r.cp.held {
			r.stale = false
			o.Reread()
		}
	}
	r.report()
	if r.unwatch != nil {
		r.unwatch()
	}
	if r.mailing {
		raise(<-r.mailed)
	}
	r.outcome.Last, r.outcome.Up = r.snap, r.up
	return r.outcome
}

// runner is one Run. Only its goroutine touches it.
type runner struct {
	o   Options
	ctx context.Context // never cancelled: engine calls aren't cut in half
	log zerolog.Logger

	snap   Snapshot
	status boincapi.Status
	want   wish
	reread int  // how often the client said that it has rewritten init_data.xml
	stale  bool // the container has not got that yet

	container Container
	prepared  chan preparation
	cancel    context.CancelFunc // of the preparation
	failing   time.Time          // since when preparations fail; zero when they don't
	mend      Mend               // of the last failure
	failure   error
	retryAt   time.Time
	pause     time.Duration // before the next preparation

	outside bool          // the last container was ended from outside
	apart   bool          // the container is parted from its network
	unsure  bool          // whether it is nobody knows
	parted  bool          // in this episode
	keptAt  time.Time     // when it was last made sure that it is as it should be
	again   int           // how often the container was ended from outside
	againAt time.Duration // up at the first of them
	up      time.Duration // running time of this episode, also what was lost again

	exited  <-chan job.Exit
	watch   context.Context // for what only looks at the container; ends with Run
	unwatch context.CancelFunc

	parked    time.Time
	vain      time.Time // since when it is suspended and runs on; zero when it doesn't
	adrift    bool
	stilled   bool      // nothing of an earlier episode runs
	offBy     time.Time // when a preparation that is called off is given up; zero when none is
	connectAt time.Time // when parting or joining is tried again
	mailing   bool
	mailed    chan string // a bug of the round, or ""
	samples   chan sample
	sampling  bool
	sampledAt time.Time
	used      [2]use // by the container, at the last two samples
	cpuBase   time.Duration
	tickedAt  time.Time
	cp        progress
	lastError string
	since     time.Time // when the state began
	said      int       // how often the log tells of suspending and resuming

	outcome Outcome
}

var (
	errPanicked = errors.New("the preparation panicked")
	errNotAsked = errors.New("not asked")
)

// raise hands a panic of one of our goroutines to Run's caller, where a panic of Run's would go.
func raise(bug string) {
	if bug != "" {
		panic(bug)
	}
}

func bugOf(recovered any) string {
	if recovered == nil {
		return ""
	}
	return fmt.Sprintf("%v\n%s", recovered, debug.Stack())
}

func (r *runner) onStatus(st boincapi.Status) {
	r.status = st
	if r.o.Network != nil {
		r.o.Network.listen(st)
	}
	if st.Reread > r.reread {
		r.reread, r.stale = st.Reread, true
	}
	r.wish(wishOf(st))
}

func (r *runner) wish(w wish) {
	if w != r.want {
		r.log.Debug().Stringer("wish", w).Stringer("state", r.snap.State).Msg("client")
	}
	r.want = w
	if w != suspend {
		r.vain = time.Time{}
	}
}

// step carries out what the table says, until it says nothing new.
func (r *runner) step() {
	for r.snap.State != Ended {
		m := moves[r.snap.State][r.want]
		if m.do == nothing && m.to == r.snap.State {
			if r.snap.State == Waiting {
				r.still()
			}
			return
		}
		if m.do == prepare && (time.Now().Before(r.retryAt) || r.blocked()) {
			return
		}
		before := r.snap.State
		if !r.do(m.do) {
			return // asked again at the next event
		}
		if r.snap.State != before {
			continue // the action itself came to another state
		}
		if m.to != Ended {
			r.moveTo(m.to)
			continue
		}
		reason := Left
		if r.want == abort {
			reason = Aborted
		}
		r.end(Outcome{Reason: reason, Parked: r.parked, Adrift: r.adrift})
	}
}

// blocked reports that the next preparation has to wait for the network, which is suspended.
func (r *runner) blocked() bool {
	return r.mend.Network && r.o.Network != nil && r.o.Network.Suspended()
}

func (r *runner) end(o Outcome) {
	r.outcome = o
	r.moveTo(Ended)
}

func (r *runner) moveTo(s State) {
	if s == r.snap.State {
		return
	}
	now := time.Now()
	r.count(now)
	r.log.Debug().Stringer("from", r.snap.State).Stringer("to", s).Msg("state")
	if word := wordFor(r.snap.State, s); word != "" && (r.said < maxSaid || now.Sub(r.since) >= lasting) {
		r.said++
		r.log.Info().Msg(word)
	}
	r.snap.State, r.since = s, now
	if s == Running && now.Sub(r.sampledAt) >= r.sampleEvery() { // a job that is throttled may be suspended at each tick
		r.sample(now)
	}
}

func wordFor(from, to State) string {
	switch {
	case to == Paused:
		return "suspended"
	case from == Paused && to == Running:
		return "resumed"
	default:
		return ""
	}
}

// count adds the time since it was last called to the running time, if the job ran.
func (r *runner) count(now time.Time) {
	d := now.Sub(r.tickedAt)
	if d <= 0 {
		return
	}
	r.tickedAt = now
	if d > maxGap {
		d = tickTime
	}
	if r.snap.State == Running && !r.cp.held {
		r.snap.Ran += d
		r.up += d
	}
}

// do carries out an action, and reports whether it succeeded.
func (r *runner) do(a action) bool {
	var err error
	switch a {
	case prepare:
		r.prepare()
	case cancel:
		return r.callOff()
	case pause:
		if !r.cp.held { // else it is paused already
			err = r.quick(r.container.Pause)
		}
		if errors.Is(err, job.ErrNoPause) {
			return r.stand()
		}
	case unpause:
		if r.cp.saved == nil { // else it goes on when it is saved
			err = r.quick(r.container.Unpause)
		}
	case park:
		r.park()
	case kill:
		r.dropSave()
		r.lastUsage()
		if err := r.quick(r.container.Kill); err != nil {
			r.log.Warn().Err(err).Msg("the container could not be killed")
		}
	}
	if err != nil {
		if err.Error() != r.lastError { // said once, tried again each second
			r.log.Warn().Err(err).Msg("tried again")
		}
		r.lastError = err.Error()
		return false
	}
	r.lastError = ""
	return true
}

// quick is a call that must not keep us long.
func (r *runner) quick(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.ctx, quickCall)
	defer cancel()
	return call(ctx)
}

// park leaves the container so that the next episode goes on. Stopped, it gives its memory back, and loses what the job
// has done since its last checkpoint. Whatever fails, we must be gone soon, and a container that still runs is found again.
func (r *runner) park() {
	by := time.Now().Add(maxGrace + quickCall)
	stop, whole := r.o.Stop.OnQuit == "stop", false
	if c := r.checkpoints(); r.o.Stop.OnQuit == "auto" || stop && c != nil && c.whole() {
		made := r.lastCheckpoint()
		stop, whole = stop || made, made && c.whole()
	}
	if r.exited == nil || r.snap.State == Ended { // it has ended while it was asked for a checkpoint
		return
	}
	r.dropSave()
	var err error
	switch {
	case stop:
		err = r.stop(by, whole)
	case r.snap.State != Paused || r.o.Stop.OnQuit == "auto":
		err = r.quick(r.container.Pause)
		if errors.Is(err, job.ErrNoPause) {
			err = r.stopInstead(by)
		} else if err == nil {
			r.parked = time.Now() // one that had ended already is no error: its end tells
		}
	default:
		r.parked = r.since
	}
	if err != nil {
		r.log.Warn().Err(err).Msg("the container could not be parked and goes on without us")
	}
}

// stop ends it, at once where there is a checkpoint of the whole: nothing is left that it could save.
func (r *runner) stop(by time.Time, whole bool) error {
	if r.o.Stopping != nil {
		r.o.Stopping()
	}
	r.lastUsage()
	r.parked = time.Now() // also when that fails: what was told to stop may stop yet
	ctx, cancel := context.WithDeadline(r.ctx, by)
	defer cancel()
	if whole {
		return r.container.Kill(ctx)
	}
	grace := min(time.Duration(r.o.Stop.Timeout), time.Until(by)-2*quickCall)
	err := r.container.Stop(ctx, max(grace, time.Second))
	if err == nil && r.checkpoints() != nil { // it may have checkpointed because it was stopped
		r.catch(ctx)
	}
	return err
}

// onExit takes the end of a container. One that was ended from outside, or removed, is no end of the job:
// it is prepared again, which starts it again or makes another.
func (r *runner) onExit(exit job.Exit) {
	r.dropSave()
	if !r.parked.IsZero() { // it was told to stop, because it can't be paused; whose end it is shows when it is prepared
		r.drop()
		r.moveTo(Waiting)
		return
	}
	if !exit.Outside && !exit.Gone {
		if !exit.Lost {
			r.addRest(exit.FinishedAt)
		}
		r.end(Outcome{Reason: Finished, Exit: exit})
		return
	}
	r.count(time.Now())
	if r.up-r.againAt > time.Hour {
		r.again, r.againAt = 0, r.up
	}
	if r.again++; r.again > maxAgain {
		r.end(Outcome{Reason: Finished, Exit: exit})
		return
	}
	r.log.Warn().Int("code", exit.Code).Bool("removed", exit.Gone).Msg("the container was ended from outside; the job goes on")
	r.drop()
	r.outside = true
	r.moveTo(Waiting)
}

func (r *runner) onTick(now time.Time) {
	r.count(now)
	if r.o.TimeLimit > 0 && r.snap.Ran > r.o.TimeLimit && r.snap.State == Running {
		r.log.Warn().Stringer("limit", r.o.TimeLimit).Msg("time limit exceeded")
		if r.o.TimedOut != nil {
			r.o.TimedOut()
		}
		r.do(kill)
		r.end(Outcome{Reason: TimedOut})
		return
	}
	if r.snap.State == Waiting && r.blocked() && r.impatient(now) {
		return
	}
	r.connect()
	r.release()
	r.keep(now)
	r.sample(now)
	r.mail()
	r.report()
	if r.o.Observe != nil {
		r.o.Observe(r.snap)
	}
}

// connect parts the container from its network while the client has suspended network activity.
func (r *runner) connect() {
	up := r.snap.State == Running || r.snap.State == Paused
	if r.o.Connect == nil || r.o.Network == nil || !up {
		return
	}
	part := r.o.Network.Suspended()
	if part == r.apart && !r.unsure {
		return
	}
	if time.Now().Before(r.connectAt) {
		return
	}
	err := r.quick(func(ctx context.Context) error { return r.o.Connect(ctx, !part) })
	switch {
	case err != nil:
		if r.connectAt.IsZero() {
			r.log.Warn().Err(err).Bool("suspended", part).Msg("the container's network stays as it is; tried again")
		}
		r.connectAt = time.Now().Add(keepEvery)
		return
	case part:
		r.log.Info().Msg("network suspended")
	case r.parted:
		r.log.Info().Msg("network resumed")
	}
	r.apart, r.unsure, r.connectAt = part, false, time.Time{}
	r.parted = part
}

// keep makes sure, now and then, that nobody else has paused the container or let it go on. One whose CPU time
// grows is seen to run.
func (r *runner) keep(now time.Time) {
	paused := r.snap.State == Paused
	stands := r.snap.State == Running && !r.cp.held && r.used[0].cpu == r.used[1].cpu
	if !paused && !stands || now.Sub(r.keptAt) < keepEvery-tickTime/2 {
		return
	}
	r.keptAt = now
	var changed bool
	err := r.quick(func(ctx context.Context) (err error) {
		changed, err = r.container.Keep(ctx, paused)
		return err
	})
	switch {
	case err != nil:
		r.log.Debug().Err(err).Msg("the container's state can't be asked for")
	case changed && paused:
		r.log.Warn().Msg("somebody else had let the container go on; it is suspended again")
	case changed:
		r.log.Warn().Msg("somebody else had paused the container; it goes on")
	}
}

// mail has the messages carried, in a goroutine of its own so that a large file doesn't stop the watch.
func (r *runner) mail() {
	up := r.snap.State == Running || r.snap.State == Paused
	if r.o.Mail == nil || !up || r.mailing || r.cp.held { // what is saved isn't written to
		return
	}
	r.mailing = true
	ctx, status := r.watch, r.status
	go func() {
		defer func() { r.mailed <- bugOf(recover()) }()
		r.o.Mail(ctx, status)
	}()
}

func (r *runner) report() {
	r.o.Client.Report(boincapi.Report{
		CPU:           r.snap.CPU.Seconds(),
		CheckpointCPU: r.cp.cpu.Seconds(),
		Fraction:      r.snap.Fraction,
		RSS:           float64(r.snap.Memory),
		WantNetwork:   r.snap.State == Waiting && r.want == run && r.mend.Network,
	})
}
