package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

// The tests here make some 10,000 bubbles of synctest. The race detector of Go 1.26 crashes when two threads run timers of
// one bubble at the same time (golang/go#78156: "ThreadSanitizer: CHECK failed", or a SIGSEGV), so there is one thread.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	m.Run()
}

// world is a client, an engine and a container that take notes.
type world struct {
	t     *testing.T
	began time.Time

	mu      sync.Mutex
	did     []string
	reports []boincapi.Report
	seen    []Snapshot
	calls   int
	paused  bool
	ran     time.Duration // of the container
	since   time.Time     // it runs; zero when it doesn't

	status  chan boincapi.Status
	exits   chan job.Exit
	stop    context.CancelFunc // a signal
	log     bytes.Buffer
	watched int // Waits whose context has not ended

	// How the engine behaves; nil and zero are well.
	prepare func(ctx context.Context, n int) (*prepared, error) // n counts from 1
	fail    map[string]error                                    // by verb
	slow    map[string]time.Duration                            // by verb
	usage   func(ran time.Duration) (job.Usage, error)
	mail    func(context.Context, boincapi.Status)
	reread  func()
	far     func() (float64, bool) // fraction
	apart   bool
	meddled bool // somebody else has paused the container, or let it go on
	tries   int
	app     *app
	before  func(job.Before) // told of each preparation
	cpuBase time.Duration
	network *Network
	took    time.Duration // by Run
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did = append(w.did, time.Since(w.began).String()+" "+what)
}

func (w *world) Status() <-chan boincapi.Status { return w.status }

func (w *world) Report(r boincapi.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, r)
}

func (w *world) call(ctx context.Context, verb string) error {
	w.mu.Lock()
	w.calls++
	w.mu.Unlock()
	if ctx.Err() != nil {
		w.t.Errorf("%s: got a context that has ended", verb)
	}
	time.Sleep(w.slow[verb])
	w.mu.Lock()
	err := w.fail[verb]
	w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	w.note(verb)
	return nil
}

func (w *world) runs(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		w.ran += time.Since(w.since)
	}
	w.since = time.Time{}
	if yes {
		w.since = time.Now()
	}
}

func (w *world) Pause(ctx context.Context) error {
	err := w.call(ctx, "pause")
	if err == nil {
		w.runs(false)
	}
	return err
}

func (w *world) Unpause(ctx context.Context) error {
	err := w.call(ctx, "unpause")
	if err == nil {
		w.runs(true)
	}
	return err
}

func (w *world) Stop(ctx context.Context, grace time.Duration) error {
	if w.app != nil {
		w.note("stopping")
	}
	verb := "stop " + grace.String()
	if grace == 0 {
		verb = "kill"
	}
	err := w.call(ctx, verb)
	if err == nil {
		w.runs(false)
	}
	return err
}

func (w *world) Kill(ctx context.Context) error { return w.call(ctx, "kill") }

func (w *world) watchers(more int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched += more
	return w.watched
}

func (w *world) Wait(ctx context.Context) <-chan job.Exit {
	w.watchers(1)
	context.AfterFunc(ctx, func() { w.watchers(-1) })
	return w.exits
}

func (w *world) Usage(ctx context.Context) (job.Usage, error) {
	select {
	case <-time.After(w.slow["usage"]):
	case <-ctx.Done():
		return job.Usage{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	ran := w.ran
	if !w.since.IsZero() {
		ran += time.Since(w.since)
	}
	if w.usage != nil {
		return w.usage(ran)
	}
	return job.Usage{CPU: 2 * ran, Memory: 1 << 20}, nil
}

// Keep finds what somebody else has done to the container.
func (w *world) Keep(ctx context.Context, paused bool) (bool, error) {
	w.mu.Lock()
	changed := w.meddled
	w.meddled = false
	w.mu.Unlock()
	if changed {
		w.note(fmt.Sprintf("keep paused=%t", paused))
		w.runs(!paused)
	}
	return changed, nil
}

func (w *world) Connect(ctx context.Context, on bool) error {
	return w.call(ctx, fmt.Sprintf("connect=%t", on))
}

func (w *world) Fraction(context.Context) (float64, bool) {
	if w.far == nil {
		return 0, false
	}
	return w.far()
}

func (w *world) Renew() {
	if w.reread != nil {
		w.reread()
	}
}

func (w *world) TimedOut() {}

func (w *world) Carry(ctx context.Context, st boincapi.Status) {
	if w.mail != nil {
		w.mail(ctx, st)
	}
}

// prepared is a container that was prepared.
type prepared struct {
	*world
	start
}

type start = job.Start

func (p *prepared) Start() job.Start { return p.start }

func (w *world) open(ctx context.Context, before job.Before) (Session, error) {
	p, err := w.make(ctx, before)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (w *world) make(ctx context.Context, before job.Before) (*prepared, error) {
	if before.Outside {
		w.note("again")
	}
	w.tries++
	if w.before != nil {
		w.before(before)
	}
	if w.prepare != nil {
		return w.prepare(ctx, w.tries)
	}
	return w.container(), nil
}

func (w *world) container() *prepared {
	w.note("made")
	w.runs(!w.paused)
	p := &prepared{w, job.Start{Paused: w.paused, Parted: w.apart, CPUBase: w.cpuBase}}
	if w.app != nil {
		p.Began = true
		p.Newest, _ = w.Made(context.Background())
	}
	return p
}

// at is something that happens some time after the start.
type at struct {
	after time.Duration
	what  any // boincapi.Status, job.Exit, a func(*world), or the word signal
}

const signal = "signal"

var (
	suspended = boincapi.Status{Suspended: true}
	goOn      = boincapi.Status{}
	quit      = boincapi.Status{Quit: true}
	aborted   = boincapi.Status{Abort: true}
	lost      = boincapi.Status{ClientLost: true}
	ended     = job.Exit{Code: 7}
	stopped   = job.Exit{Code: 143, Outside: true}
	removed   = job.Exit{Gone: true}
	connected = boincapi.Status{Heartbeats: 1}
	offline   = boincapi.Status{Heartbeats: 1, NetworkSuspended: true}
)

// play runs a script in no time. All goroutines have to end: synctest fails otherwise.
func play(t *testing.T, o Options, set func(*world), script ...at) (w *world, out Outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w = &world{t: t, began: time.Now(), status: make(chan boincapi.Status, 1), exits: make(chan job.Exit, 1)}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		w.stop = stop
		w.network = NewNetwork()
		o.Network, o.Joins = w.network, true
		if set != nil {
			set(w)
		}
		o.Client, o.Open = w, w.open
		if o.Observe == nil {
			o.Observe = func(s Snapshot) { w.seen = append(w.seen, s) }
		}
		o.Log = zerolog.New(&w.log).Level(zerolog.InfoLevel)
		happen := func(what any) {
			switch x := what.(type) {
			case boincapi.Status:
				select { // the newest wins
				case <-w.status:
				default:
				}
				w.status <- x
			case job.Exit:
				w.exits <- x
			case func(*world):
				w.mu.Lock()
				x(w)
				w.mu.Unlock()
			default:
				stop()
			}
		}
		for len(script) > 0 && script[0].after == 0 {
			happen(script[0].what)
			script = script[1:]
		}
		over := make(chan struct{})
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			for _, s := range script {
				select {
				case <-time.After(s.after - time.Since(w.began)):
					happen(s.what)
				case <-over:
					return
				}
			}
		}()
		out = Run(ctx, o)
		w.took = time.Since(w.began)
		close(over)
		<-finished
		time.Sleep(2 * time.Minute) // a preparation that doesn't stop
		synctest.Wait()
		if w.watchers(0) != 0 {
			t.Error("the container is still waited for")
		}
	})
	return w, out
}

var errEngine = errors.New("no engine")

func retry(err error) Retry { return retryFor(2 * time.Minute)(err) }

func retryFor(patience time.Duration) func(error) Retry {
	return func(err error) Retry {
		switch {
		case errors.Is(err, ErrNetworkSuspended):
			return Retry{Patience: patience, Network: true}
		case errors.Is(err, errEngine):
			return Retry{Patience: patience}
		}
		return Retry{}
	}
}

// online prepares for so long, which needs the network.
func online(d time.Duration) func(*world) {
	return func(w *world) {
		w.prepare = func(ctx context.Context, _ int) (*prepared, error) {
			use, done, err := w.network.Use(ctx)
			if err != nil {
				w.note("offline")
				return nil, err
			}
			defer done()
			w.note("prepare")
			select {
			case <-time.After(d):
				return w.container(), nil
			case <-use.Done():
				w.note("cut off")
				return nil, context.Cause(use)
			}
		}
	}
}

// slowly prepares for so long, and obeys its context.
func slowly(d time.Duration) func(*world) {
	return func(w *world) {
		w.prepare = func(ctx context.Context, _ int) (*prepared, error) {
			w.note("prepare")
			select {
			case <-time.After(d):
				return w.container(), nil
			case <-ctx.Done():
				w.note("cancelled")
				return nil, ctx.Err()
			}
		}
	}
}

// stubbornly is slowly, but the container comes up although nobody wants it any more.
func stubbornly(d time.Duration) func(*world) {
	return func(w *world) {
		w.prepare = func(context.Context, int) (*prepared, error) {
			time.Sleep(d)
			return w.container(), nil
		}
	}
}

func failing(verb string, err error) func(*world) {
	return func(w *world) { w.fail = map[string]error{verb: err} }
}

// failingFor is an engine that is away at first.
func failingFor(d time.Duration) func(*world) {
	return func(w *world) {
		w.prepare = func(context.Context, int) (*prepared, error) {
			if time.Since(w.began) < d {
				w.note("try")
				return nil, errEngine
			}
			return w.container(), nil
		}
	}
}

func found(paused bool) func(*world) { return func(w *world) { w.paused = paused } }

// deaf is an engine that never answers.
func deaf(w *world) {
	w.prepare = func(ctx context.Context, _ int) (*prepared, error) {
		time.Sleep(time.Minute)
		return nil, errEngine
	}
}

func well(w *world) { w.fail = nil }

func meddle(w *world) { w.meddled = true }

func noUsage(time.Duration) (job.Usage, error) { return job.Usage{CPU: 1}, nil }

func TestRun(t *testing.T) {
	stopping := Options{Stop: job.Stop{OnQuit: "stop", Timeout: job.Seconds(10 * time.Second)}}
	const ms, s, h = time.Millisecond, time.Second, time.Hour
	tests := []struct {
		name   string
		o      Options
		set    func(*world)
		script []at
		did    []string
		want   Reason
		end    time.Duration
	}{
		{name: "runs to its end", script: []at{{h, ended}}, did: []string{"0s made"}, want: Finished, end: h},
		{name: "ends at once", script: []at{{1, ended}}, did: []string{"0s made"}, want: Finished, end: 1},
		{name: "ends with code 0 and unknown times", script: []at{{h, job.Exit{}}}, did: []string{"0s made"}, want: Finished, end: h},
		{name: "had ended while nobody watched", script: []at{{0, ended}}, did: []string{"0s made"}, want: Finished},
		{name: "suspend and resume", script: []at{{15 * s, suspended}, {h + 15*s, goOn}, {2 * h, ended}},
			did: []string{"0s made", "15s pause", "1h0m15s unpause"}, want: Finished, end: 2 * h},
		{name: "asked twice", script: []at{{s, suspended}, {2 * s, suspended}, {3 * s, goOn}, {4 * s, goOn}, {5 * s, ended}},
			did: []string{"0s made", "1s pause", "3s unpause"}, want: Finished, end: 5 * s},
		{name: "exit while paused", script: []at{{s, suspended}, {h, ended}}, did: []string{"0s made", "1s pause"}, want: Finished, end: h},
		{name: "suspended before the start", script: []at{{0, suspended}, {h, goOn}, {2 * h, ended}}, did: []string{"1h0m0s made"}, want: Finished, end: 2 * h},
		{name: "taken over paused", set: found(true), script: []at{{h, ended}}, did: []string{"0s made", "0s unpause"}, want: Finished, end: h},
		{name: "taken over paused and wanted so", set: func(w *world) { w.paused = true; stubbornly(3 * s)(w) }, script: []at{{s, suspended}, {h, goOn}, {2 * h, ended}},
			did: []string{"3s made", "1h0m0s unpause"}, want: Finished, end: 2 * h},

		{name: "quit while waiting", script: []at{{0, suspended}, {s, quit}}, want: Left, end: s},
		{name: "abort while waiting", script: []at{{0, suspended}, {s, aborted}}, want: Aborted, end: s},
		{name: "signal while waiting", script: []at{{0, suspended}, {s, signal}}, want: Left, end: s},
		{name: "quit before the start", script: []at{{0, quit}}, want: Left},
		{name: "signal before the start", script: []at{{0, signal}}, want: Left},
		{name: "suspend while preparing", set: slowly(time.Minute), script: []at{{s, suspended}, {h, goOn}, {2 * h, ended}},
			did: []string{"0s prepare", "11s cancelled", "1h0m0s prepare", "1h1m0s made"}, want: Finished, end: 2 * h},
		{name: "throttled while preparing", set: slowly(5 * s), script: []at{{s, suspended}, {2 * s, goOn}, {3 * s, suspended}, {4 * s, goOn}, {h, ended}},
			did: []string{"0s prepare", "5s made"}, want: Finished, end: h},
		{name: "quit while preparing", set: slowly(time.Minute), script: []at{{s, quit}}, did: []string{"0s prepare", "1s cancelled"}, want: Left, end: s},
		{name: "abort while preparing", set: slowly(time.Minute), script: []at{{s, aborted}}, did: []string{"0s prepare", "1s cancelled"}, want: Aborted, end: s},
		{name: "signal while preparing", set: slowly(time.Minute), script: []at{{s, signal}}, did: []string{"0s prepare", "1s cancelled"}, want: Left, end: s},
		{name: "came up though cancelled by suspend", set: stubbornly(3 * s), script: []at{{s, suspended}, {h, goOn}, {2 * h, ended}},
			did: []string{"3s made", "3s pause", "1h0m0s unpause"}, want: Finished, end: 2 * h},
		{name: "came up though cancelled by quit", set: stubbornly(3 * s), script: []at{{s, quit}}, did: []string{"3s made", "3s pause"}, want: Left, end: 3 * s},
		{name: "came up though cancelled by abort", set: stubbornly(3 * s), script: []at{{s, aborted}}, did: []string{"3s made", "3s kill"}, want: Aborted, end: 3 * s},
		{name: "quit while running", script: []at{{15 * s, quit}}, did: []string{"0s made", "15s pause"}, want: Left, end: 15 * s},
		{name: "client lost while running", script: []at{{15 * s, lost}}, did: []string{"0s made", "15s pause"}, want: Left, end: 15 * s},
		{name: "signal while running", script: []at{{15 * s, signal}}, did: []string{"0s made", "15s pause"}, want: Left, end: 15 * s},
		{name: "abort while running", script: []at{{15 * s, aborted}}, did: []string{"0s made", "15s kill"}, want: Aborted, end: 15 * s},
		{name: "quit while paused", script: []at{{s, suspended}, {h, quit}}, did: []string{"0s made", "1s pause"}, want: Left, end: h},
		{name: "abort while paused", script: []at{{s, suspended}, {h, aborted}}, did: []string{"0s made", "1s pause", "1h0m0s kill"}, want: Aborted, end: h},
		{name: "abort wins over quit", script: []at{{s, boincapi.Status{Abort: true, Quit: true, Suspended: true}}}, did: []string{"0s made", "1s kill"}, want: Aborted, end: s},
		{name: "quit wins over suspend", script: []at{{s, boincapi.Status{Quit: true, Suspended: true}}}, did: []string{"0s made", "1s pause"}, want: Left, end: s},
		{name: "quit and stop", o: stopping, script: []at{{15 * s, quit}}, did: []string{"0s made", "15s stop 10s"}, want: Left, end: 15 * s},
		{name: "quit while paused and stop", o: stopping, script: []at{{s, suspended}, {h, quit}}, did: []string{"0s made", "1s pause", "1h0m0s stop 10s"}, want: Left, end: h},
		{name: "the client's patience bounds the grace", o: Options{Stop: job.Stop{OnQuit: "stop", Timeout: job.Seconds(h)}}, script: []at{{s, quit}},
			did: []string{"0s made", "1s stop 30s"}, want: Left, end: s},
		{name: "exit and quit at once", set: func(w *world) { w.slow = map[string]time.Duration{"pause": 5 * s} },
			script: []at{{s, suspended}, {2 * s, ended}, {3 * s, quit}}, did: []string{"0s made", "6s pause"}, want: Finished, end: 6 * s},
		{name: "exit and abort at once", set: func(w *world) { w.slow = map[string]time.Duration{"pause": 5 * s} },
			script: []at{{s, suspended}, {2 * s, ended}, {3 * s, aborted}}, did: []string{"0s made", "6s pause"}, want: Finished, end: 6 * s},

		{name: "a wish during a slow pause", set: func(w *world) { w.slow = map[string]time.Duration{"pause": 20 * s} },
			script: []at{{s, suspended}, {2 * s, goOn}, {3 * s, suspended}, {4 * s, goOn}, {h, ended}}, did: []string{"0s made", "21s pause", "21s unpause"}, want: Finished, end: h},
		{name: "a pause that fails is tried again", set: failing("pause", errEngine),
			script: []at{{s + s/2, suspended}, {10*s + s/4, func(w *world) { w.fail = nil }}, {h, goOn}, {2 * h, ended}},
			did:    []string{"0s made", "11s pause", "1h0m0s unpause"}, want: Finished, end: 2 * h},
		{name: "resumed before the pause succeeded", set: failing("pause", errEngine), script: []at{{s, suspended}, {h, goOn}, {2 * h, ended}},
			did: []string{"0s made"}, want: Finished, end: 2 * h},
		{name: "quit though the pause fails", set: failing("pause", errEngine), script: []at{{s, suspended}, {h, quit}}, did: []string{"0s made"}, want: Left, end: h},
		{name: "abort though the kill fails", set: failing("kill", errEngine), script: []at{{s, aborted}}, did: []string{"0s made"}, want: Aborted, end: s},
		{name: "ends while the pause fails", set: failing("pause", errEngine), script: []at{{s, suspended}, {h, ended}}, did: []string{"0s made"}, want: Finished, end: h},

		{name: "an engine that comes back", o: Options{Retry: retry}, set: failingFor(30 * s), script: []at{{h, ended}},
			did: []string{"0s try", "5s try", "15s try", "35s made"}, want: Finished, end: h},
		{name: "patience ends", o: Options{Retry: retry}, set: failingFor(h), did: []string{"0s try", "5s try", "15s try", "35s try", "1m15s try"}, want: Failed, end: 75 * s},
		{name: "more patience, no longer pauses", o: Options{Retry: retryFor(5 * time.Minute)}, set: failingFor(h),
			did: []string{"0s try", "5s try", "15s try", "35s try", "1m15s try", "2m15s try", "3m15s try", "4m15s try"}, want: Failed, end: 255 * s},
		{name: "suspended between two tries", o: Options{Retry: retry}, set: failingFor(3 * s), script: []at{{s, suspended}, {h, goOn}, {2 * h, ended}},
			did: []string{"0s try", "1h0m0s made"}, want: Finished, end: 2 * h},
		{name: "quit between two tries", o: Options{Retry: retry}, set: failingFor(h), script: []at{{7 * s, quit}}, did: []string{"0s try", "5s try"}, want: Left, end: 7 * s},
		{name: "abort between two tries", o: Options{Retry: retry}, set: failingFor(h), script: []at{{7 * s, aborted}}, did: []string{"0s try", "5s try"}, want: Aborted, end: 7 * s},
		{name: "somebody pauses it", set: func(w *world) { w.usage = noUsage }, script: []at{{15 * s, meddle}, {h, ended}}, did: []string{"0s made", "20s keep paused=false"}, want: Finished, end: h},
		{name: "somebody lets it go on", script: []at{{s, suspended}, {15 * s, meddle}, {h, ended}}, did: []string{"0s made", "1s pause", "20s keep paused=true"}, want: Finished, end: h},
		{name: "stopped from outside", script: []at{{15 * s, stopped}, {h, ended}}, did: []string{"0s made", "15s again", "15s made"}, want: Finished, end: h},
		{name: "stopped from outside while suspended", script: []at{{s, suspended}, {15 * s, stopped}, {h, goOn}, {2 * h, ended}}, did: []string{"0s made", "1s pause", "1h0m0s again", "1h0m0s made"}, want: Finished, end: 2 * h},
		{name: "stopped from outside while it is to leave", script: []at{{s, suspended}, {15 * s, stopped}, {h, quit}}, did: []string{"0s made", "1s pause"}, want: Left, end: h},
		{name: "removed", script: []at{{15 * s, removed}, {h, ended}}, did: []string{"0s made", "15s again", "15s made"}, want: Finished, end: h},
		{name: "stopped from outside too often", script: []at{{s, stopped}, {2 * s, stopped}, {3 * s, stopped}, {4 * s, stopped}},
			did: []string{"0s made", "1s again", "1s made", "2s again", "2s made", "3s again", "3s made"}, want: Finished, end: 4 * s},
		{name: "stopped from outside now and then", script: []at{{2 * h, stopped}, {4 * h, stopped}, {6 * h, stopped}, {8 * h, stopped}, {10 * h, ended}},
			did: []string{"0s made", "2h0m0s again", "2h0m0s made", "4h0m0s again", "4h0m0s made", "6h0m0s again", "6h0m0s made", "8h0m0s again", "8h0m0s made"}, want: Finished, end: 10 * h},
		{name: "network suspended while preparing", o: Options{Retry: retryFor(2 * h)}, set: online(time.Minute), script: []at{{0, connected}, {s, offline}, {h, connected}, {2 * h, ended}},
			did: []string{"0s prepare", "1s cut off", "1h0m0s prepare", "1h1m0s made"}, want: Finished, end: 2 * h},
		{name: "network suspended at first", o: Options{Retry: retryFor(2 * h)}, set: online(time.Minute), script: []at{{s, offline}, {h, connected}, {2 * h, ended}},
			did: []string{"1s offline", "1h0m0s prepare", "1h1m0s made"}, want: Finished, end: 2 * h},
		{name: "network suspended for too long", o: Options{Retry: retry}, set: online(time.Minute), script: []at{{s, offline}}, did: []string{"1s offline"}, want: Failed, end: 2*time.Minute + 2*s},
		{name: "a client that says nothing of the network", set: online(time.Minute), script: []at{{h, ended}}, did: []string{"5s prepare", "1m5s made"}, want: Finished, end: h},
		{name: "network suspended and not needed", script: []at{{0, offline}, {h, ended}}, did: []string{"0s made", "1s connect=false"}, want: Finished, end: h},
		{name: "network suspended while running", script: []at{{0, connected}, {15500 * ms, offline}, {h + 500*ms, connected}, {2 * h, ended}},
			did: []string{"0s made", "16s connect=false", "1h0m1s connect=true"}, want: Finished, end: 2 * h},
		{name: "taken over parted from its network", set: func(w *world) { w.apart = true }, script: []at{{0, connected}, {h, ended}}, did: []string{"0s made", "1s connect=true"}, want: Finished, end: h},
		{name: "taken over, and its network is suspended meanwhile", set: func(w *world) { w.apart = true }, script: []at{{0, offline}, {h, ended}}, did: []string{"0s made", "1s connect=false"}, want: Finished, end: h},
		{name: "quit while an engine doesn't answer", set: deaf, script: []at{{s, quit}}, want: Left, end: s + maxGrace},
		{name: "suspend, then quit, while an engine doesn't answer", set: deaf, script: []at{{s, suspended}, {30 * s, quit}}, want: Left, end: s + runsOn + maxGrace},
		{name: "suspend, for long, while an engine doesn't answer", set: func(w *world) {
			w.prepare = func(context.Context, int) (*prepared, error) { time.Sleep(2 * time.Minute); return nil, errEngine }
		}, script: []at{{s, suspended}, {h, quit}}, want: Left, end: h},
		{name: "joined to its network when that works", set: func(w *world) { w.fail = map[string]error{"connect=true": errEngine} },
			script: []at{{0, connected}, {1500 * ms, offline}, {10500 * ms, connected}, {35 * s, well}, {h, ended}},
			did:    []string{"0s made", "2s connect=false", "41s connect=true"}, want: Finished, end: h},
		{name: "abort while an engine doesn't answer", set: deaf, script: []at{{s, aborted}}, want: Aborted, end: s + maxGrace},
		{name: "fails for good", o: Options{Retry: func(error) Retry { return Retry{} }}, set: failingFor(h), did: []string{"0s try"}, want: Failed},
		{name: "fails, and nobody knows better", set: failingFor(h), did: []string{"0s try"}, want: Failed},

		{name: "can't be paused", o: stopping, set: failing("pause", job.ErrNoPause), script: []at{{15 * s, suspended}, {h, goOn}, {2 * h, ended}},
			did: []string{"0s made", "25s stop 10s", "1h0m0s made"}, want: Finished, end: 2 * h},
		{name: "can't be paused, and is throttled", o: stopping, set: failing("pause", job.ErrNoPause),
			script: []at{{s, suspended}, {5 * s, goOn}, {6 * s, suspended}, {14 * s, goOn}, {h, ended}}, did: []string{"0s made"}, want: Finished, end: h},
		{name: "can't be paused, and ends while it runs on", o: stopping, set: failing("pause", job.ErrNoPause), script: []at{{s, suspended}, {5 * s, ended}},
			did: []string{"0s made"}, want: Finished, end: 5 * s},
		{name: "can't be paused, and is to leave", set: failing("pause", job.ErrNoPause), script: []at{{15 * s, quit}}, did: []string{"0s made", "15s stop 1s"}, want: Left, end: 15 * s},
		{name: "can't be paused, and is to leave later", o: stopping, set: failing("pause", job.ErrNoPause), script: []at{{s, suspended}, {h, quit}},
			did: []string{"0s made", "11s stop 10s"}, want: Left, end: h},
		{name: "can't be paused, and is cancelled later", o: stopping, set: failing("pause", job.ErrNoPause), script: []at{{s, suspended}, {h, aborted}},
			did: []string{"0s made", "11s stop 10s"}, want: Aborted, end: h},
		{name: "can't be paused, and its stop has no answer", o: stopping, set: func(w *world) {
			w.fail = map[string]error{"pause": job.ErrNoPause, "stop 10s": errEngine}
		}, script: []at{{s, suspended}, {15*s + s/2, job.Exit{}}, {h, goOn}, {2 * h, ended}}, did: []string{"0s made", "1h0m0s made"}, want: Finished, end: 2 * h},

		{name: "time limit", o: Options{TimeLimit: 10 * s}, did: []string{"0s made", "11s kill"}, want: TimedOut, end: 11 * s},
		{name: "time limit over two episodes", o: Options{TimeLimit: 10 * s, Ran: 8 * s}, did: []string{"0s made", "3s kill"}, want: TimedOut, end: 3 * s},
		{name: "time limit counts only running time", o: Options{TimeLimit: 10 * s}, script: []at{{5 * s, suspended}, {h, goOn}},
			did: []string{"0s made", "5s pause", "1h0m0s unpause", "1h0m6s kill"}, want: TimedOut, end: h + 6*s},
		{name: "time limit and a kill that fails", o: Options{TimeLimit: 10 * s}, set: failing("kill", errEngine), did: []string{"0s made"}, want: TimedOut, end: 11 * s},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, out := play(t, tt.o, tt.set, tt.script...)
			if diff := cmp.Diff(tt.did, w.did); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if out.Reason != tt.want {
				t.Errorf("reason: got %v, want %v", out.Reason, tt.want)
			}
			if w.took != tt.end {
				t.Errorf("end: got %v, want %v", w.took, tt.end)
			}
			var exit job.Exit
			for _, step := range tt.script { // the last one that was told
				if x, ok := step.what.(job.Exit); ok && tt.want == Finished {
					exit = x
				}
			}
			if out.Exit != exit {
				t.Errorf("exit: got %+v, want %+v", out.Exit, exit)
			}
			if tt.want == Failed != (errors.Is(out.Err, errEngine) || errors.Is(out.Err, ErrNetworkSuspended)) {
				t.Errorf("error: got %v with reason %v", out.Err, out.Reason)
			}
			if out.Last.State != Ended {
				t.Errorf("state: got %v, want ended", out.Last.State)
			}
		})
	}
}

// The next preparation of a container that was stopped because it can't be paused knows when: what ended before did so by
// itself. Time that it lost is said.
func TestCannotPause(t *testing.T) {
	var befores []job.Before
	w, out := play(t, Options{Stop: job.Stop{OnQuit: "auto", Timeout: job.Seconds(10 * time.Second)}}, func(w *world) {
		failing("pause", job.ErrNoPause)(w)
		w.before = func(b job.Before) { befores = append(befores, b) }
	}, at{15 * time.Second, suspended}, at{time.Hour, goOn}, at{2 * time.Hour, quit})
	if out.Reason != Left || out.Parked.Sub(w.began) != 2*time.Hour {
		t.Errorf("got %+v, want it to be parked after two hours", out)
	}
	if len(befores) != 2 || !befores[0].Stopped.IsZero() || befores[1].Stopped.Sub(w.began) != 25*time.Second || befores[1].Outside {
		t.Errorf("got %+v, want the second to know of a stop after 25 s", befores)
	}
	if log := w.log.String(); strings.Count(log, "can't be paused and was stopped") != 2 || !strings.Contains(log, `"lost":"25s"`) {
		t.Errorf("got %s", log)
	}
}

// A container that can neither be paused nor stopped runs on, and its time counts.
func TestCannotStop(t *testing.T) {
	_, out := play(t, Options{TimeLimit: time.Minute, Stop: job.Stop{OnQuit: "pause", Timeout: job.Seconds(10 * time.Second)}}, func(w *world) {
		w.fail = map[string]error{"pause": job.ErrNoPause, "stop 10s": errEngine}
	}, at{10 * time.Second, suspended}, at{30 * time.Second, goOn}, at{230 * time.Second, ended})
	if out.Reason != TimedOut || out.Last.Ran != 61*time.Second {
		t.Errorf("got %+v, want its time limit to end it", out)
	}
}

// Work for a container that has ended and that doesn't come to an end keeps the job waiting for a while, and then the job is left for
// later. The process is gone within a minute of the wish to leave.
func TestWorkThatNeverEnds(t *testing.T) {
	const s = time.Second
	hang := func(w *world) {
		w.mail = func(context.Context, boincapi.Status) {
			if now := time.Since(w.began); now > 4*s && now < 10*s {
				time.Sleep(time.Hour)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		script []at
		want   Reason
		end    time.Duration
	}{
		{"ended from outside", []at{{10 * s, stopped}}, Failed, 10*s + maxGrace},
		{"ended", []at{{10 * s, ended}}, Finished, 10*s + maxGrace},
		{"quit", []at{{10 * s, quit}}, Left, 10*s + maxGrace},
		{"cancelled", []at{{10 * s, aborted}}, Aborted, 10*s + maxGrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, began: time.Now(), status: make(chan boincapi.Status, 1), exits: make(chan job.Exit, 1)}
				hang(w)
				go func() {
					for _, step := range tt.script {
						time.Sleep(step.after - time.Since(w.began))
						if st, ok := step.what.(boincapi.Status); ok {
							w.status <- st
						} else {
							w.exits <- step.what.(job.Exit)
						}
					}
				}()
				out := Run(t.Context(), Options{Client: w, Open: w.open, Stop: job.Stop{OnQuit: "pause"}})
				if took := time.Since(w.began); out.Reason != tt.want || !out.Adrift || !errors.Is(out.Err, ErrBusy) || took != tt.end {
					t.Errorf("got %+v after %v, want reason %v, adrift, after %v", out, took, tt.want, tt.end)
				}
				if tt.want == Left && out.Parked.IsZero() {
					t.Error("it isn't known when it was parked")
				}
				time.Sleep(2 * time.Hour) // the work ends
			})
		})
	}
}

// What the client says while the end is being waited for is for those who come after.
func TestStatusAfterTheEnd(t *testing.T) {
	const s = time.Second
	left := -1
	play(t, Options{}, func(w *world) {
		w.mail = func(ctx context.Context, _ boincapi.Status) {
			<-ctx.Done()
			time.Sleep(5 * s)
			left = len(w.status)
		}
	}, at{3*s + s/2, ended}, at{5 * s, quit})
	if left != 1 {
		t.Errorf("%d statuses are left, want the wish to leave", left)
	}
}

// A signal that is there at the start comes before all.
func TestSignalAtTheStart(t *testing.T) {
	for range 20 { // either may be heard first
		if w, out := play(t, Options{}, nil, at{0, goOn}, at{0, signal}); out.Reason != Left || len(w.did) > 0 {
			t.Fatalf("got %v after %q, want nothing begun", out.Reason, w.did)
		}
	}
}

// After a signal the process has to go, whatever the client says at the same moment.
func TestSignalStays(t *testing.T) {
	slowPause := func(w *world) { w.slow = map[string]time.Duration{"pause": 10 * time.Second} }
	for range 20 { // either may be heard first
		w, out := play(t, Options{}, slowPause, at{time.Second, suspended}, at{2 * time.Second, signal}, at{3 * time.Second, goOn})
		if out.Reason != Left || !strings.HasSuffix(last(w.did), " pause") {
			t.Fatalf("got %v after %q, want it left, and paused", out.Reason, w.did)
		}
	}
}

func TestTable(t *testing.T) {
	want := map[State][4]string{ // run, suspend, leave, abort
		Waiting:   {"prepare preparing", "nothing waiting", "nothing ended", "nothing ended"},
		Preparing: {"nothing preparing", "cancel preparing", "cancel preparing", "cancel preparing"},
		Running:   {"nothing running", "pause paused", "park parking", "kill ended"},
		Paused:    {"unpause running", "nothing paused", "park parking", "kill ended"},
		Parking:   {"nothing parking", "nothing parking", "nothing parking", "kill ended"},
	}
	names := map[action]string{nothing: "nothing", prepare: "prepare", cancel: "cancel", pause: "pause", unpause: "unpause", park: "park", kill: "kill"}
	if len(moves) != len(want) {
		t.Fatalf("got %d states, want %d", len(moves), len(want))
	}
	for s, row := range want {
		for w := run; w <= abort; w++ {
			m := moves[s][w]
			if got := names[m.do] + " " + m.to.String(); got != row[w] {
				t.Errorf("%v, %v: got %s, want %s", s, w, got, row[w])
			}
			// What is wished is reached at once: no move leads to one that says something else.
			if m.to != Ended && m.to != s {
				if next := moves[m.to][w]; next.do != nothing || next.to != m.to {
					t.Errorf("%v, %v: leads to %v, which leads on to %v", s, w, m.to, next.to)
				}
			}
		}
	}
}

// What happens leads where the table says, and nowhere else.
func TestTurns(t *testing.T) {
	want := map[event]map[State]string{
		cameUp:         {Preparing: "running"},
		cameUpPaused:   {Preparing: "paused"},
		failed:         {Preparing: "waiting"},
		gaveUp:         {Waiting: "ended failed", Preparing: "ended failed"},
		adrift:         {Preparing: "ended left"},
		finished:       {Running: "ended finished", Paused: "ended finished", Parking: "ended finished"},
		interrupted:    {Running: "waiting", Paused: "waiting", Parking: "waiting"},
		unpausable:     {Running: "parking"},
		timeUp:         {Running: "ended timed out"},
		parked:         {Parking: "ended left"},
		stoppedInstead: {Parking: "waiting"},
		unstoppable:    {Parking: "running"},
	}
	reasons := map[Reason]string{Finished: "finished", Left: "left", Aborted: "aborted", Failed: "failed", TimedOut: "timed out"}
	rows := 0
	for e := cameUp; e <= unstoppable; e++ {
		for s := Waiting; s <= Ended; s++ {
			got := ""
			if turn, ok := turnOf(e, s); ok {
				rows++
				if got = turn.to.String(); turn.to == Ended {
					got += " " + reasons[turn.reason]
				}
			}
			if got != want[e][s] {
				t.Errorf("%v while %v: got %q, want %q", e, s, got, want[e][s])
			}
		}
	}
	if rows != len(turns) {
		t.Errorf("%d of %d rows are found: others come before them", rows, len(turns))
	}
}

// The end of a container is the job's, or it is prepared again.
func TestEventOf(t *testing.T) {
	for _, tt := range []struct {
		name  string
		exit  job.Exit
		ours  bool
		again int
		want  event
	}{
		{"by itself", ended, false, 0, finished},
		{"by itself, with code 0", job.Exit{}, false, 0, finished},
		{"the engine is away for too long", job.Exit{Lost: true}, false, 0, finished},
		{"stopped from outside", stopped, false, 1, interrupted},
		{"stopped from outside, for the last time", stopped, false, maxAgain, interrupted},
		{"stopped from outside too often", stopped, false, maxAgain + 1, finished},
		{"removed", removed, false, 1, interrupted},
		{"removed too often", removed, false, maxAgain + 1, finished},
		{"told to stop by us", ended, true, 0, interrupted},
		{"told to stop by us, and removed", removed, true, maxAgain + 1, interrupted},
	} {
		if got := eventOf(tt.exit, tt.ours, tt.again); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A preparation that fails is tried again after longer and longer pauses, until patience is over.
func TestPreparer(t *testing.T) {
	var p preparer
	now := time.Unix(1000, 0)
	var pauses []time.Duration
	for range 6 {
		p.fail(errEngine, Retry{Patience: 3 * time.Minute}, now)
		pauses = append(pauses, p.delay(now))
		now = p.next
	}
	if want := []time.Duration{5e9, 10e9, 20e9, 40e9, 60e9, 60e9}; !slices.Equal(pauses, want) {
		t.Errorf("got pauses %v, want %v", pauses, want)
	}
	for _, tt := range []struct {
		patience, after time.Duration
		want            bool
	}{{0, 0, true}, {time.Minute, time.Minute, false}, {time.Minute, time.Minute + 1, true}} {
		p := preparer{retry: Retry{Patience: tt.patience}, since: now}
		if got := p.outOfPatience(now.Add(tt.after)); got != tt.want {
			t.Errorf("patience %v, %v later: got %t", tt.patience, tt.after, got)
		}
	}
}

// What is used after the last sample is estimated by the rate between the last two samples, or by that of all, whichever is less.
func TestRest(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	for _, tt := range []struct {
		name string
		used [2]use
		want time.Duration
	}{
		{"as before", [2]use{{2 * s, s}, {4 * s, 2 * s}}, 2*s + 500*ms},
		{"two samples that a pause lies between", [2]use{{3900 * ms, 1800 * ms}, {4 * s, 2 * s}}, 2*s + 500*ms},
		{"idle at last", [2]use{{3 * s, 1900 * ms}, {4 * s, 2 * s}}, 2*s + 100*ms},
		{"only one sample", [2]use{{}, {4 * s, 2 * s}}, 0},
	} {
		m := meter{used: tt.used}
		m.addRest(5*s, 0)
		if got := m.cpu.Round(ms); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Interruptions within an hour of running are counted; after an hour the count begins again.
func TestInterruptions(t *testing.T) {
	var i interruptions
	var got []int
	for _, up := range []time.Duration{time.Minute, 2 * time.Minute, time.Hour, time.Hour + 1, time.Hour + time.Minute, 3 * time.Hour} {
		got = append(got, i.add(up))
	}
	if want := []int{1, 2, 3, 1, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWishes(t *testing.T) {
	for bits := range 16 {
		st := boincapi.Status{Suspended: bits&1 != 0, Quit: bits&2 != 0, ClientLost: bits&4 != 0, Abort: bits&8 != 0}
		want := run
		switch {
		case st.Abort:
			want = abort
		case st.Quit || st.ClientLost:
			want = leave
		case st.Suspended:
			want = suspend
		}
		if got := wishOf(st); got != want {
			t.Errorf("%+v: got %v, want %v", st, got, want)
		}
	}
}

// CPU throttling: suspend and resume each second.
func TestThrottling(t *testing.T) {
	for _, on := range []time.Duration{time.Second, 300 * time.Millisecond, 1700 * time.Millisecond} {
		var script []at
		const rounds = 300
		off := 2*time.Second - on
		now := 100 * time.Millisecond
		for range rounds {
			now += on
			script = append(script, at{now, suspended})
			now += off
			script = append(script, at{now, goOn})
		}
		now += 50 * time.Millisecond
		script = append(script, at{now, ended})
		w, out := play(t, Options{}, nil, script...)
		if w.tries != 1 || out.Reason != Finished {
			t.Errorf("%v: got %d starts and reason %v, want 1, finished", on, w.tries, out.Reason)
		}
		var pauses, unpauses int
		for _, d := range w.did {
			if strings.HasSuffix(d, " pause") {
				pauses++
			} else if strings.HasSuffix(d, " unpause") {
				unpauses++
			}
		}
		if pauses != rounds || unpauses != rounds {
			t.Errorf("%v: got %d pauses, %d unpauses, want %d of each", on, pauses, unpauses, rounds)
		}
		if limit := 2*rounds + int(now/time.Second) + 1; w.calls > limit {
			t.Errorf("%v: got %d calls, want at most %d", on, w.calls, limit)
		}
		if want := rounds*on + 150*time.Millisecond; out.Last.Ran != want {
			t.Errorf("%v: got %v of running time, want %v", on, out.Last.Ran, want)
		}
		if lines := strings.Count(w.log.String(), "\n"); lines > 2*maxLogged {
			t.Errorf("%v: got %d lines of log, want few", on, lines)
		}
	}
}

func last[T any](s []T) T { return s[len(s)-1] }

func TestReports(t *testing.T) {
	const s = time.Second
	t.Run("cpu has what earlier episodes used", func(t *testing.T) {
		w, out := play(t, Options{CPU: 100 * s}, func(w *world) {
			w.prepare = func(context.Context, int) (*prepared, error) {
				p := w.container()
				p.CPUBase = 100 * s
				return p, nil
			}
		}, at{10*s + s/2, ended})
		if got, want := out.Last.CPU, 121*s; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		if got, want := w.reports[0], (boincapi.Report{CPU: 100, CheckpointCPU: 100}); got != want {
			t.Errorf("first report: got %+v, want %+v", got, want)
		}
		if got, want := last(w.reports), (boincapi.Report{CPU: 121, CheckpointCPU: 100, RSS: 1 << 20}); got != want {
			t.Errorf("last report: got %+v, want %+v", got, want)
		}
	})
	t.Run("never back, nothing invented", func(t *testing.T) {
		w, out := play(t, Options{CPU: 50 * s}, func(w *world) {
			w.usage = func(ran time.Duration) (job.Usage, error) {
				switch {
				case ran < 4*s:
					return job.Usage{CPU: ran, Memory: 5}, nil // less than was reported
				case ran < 8*s:
					return job.Usage{CPU: time.Hour, Memory: 1 << 30}, errEngine
				case ran < 12*s:
					return job.Usage{CPU: 80 * s, Memory: 7}, nil
				default:
					return job.Usage{}, nil // unknown
				}
			}
		}, at{20 * s, ended})
		if !slices.IsSortedFunc(w.reports, func(a, b boincapi.Report) int { return int(a.CPU - b.CPU) }) {
			t.Errorf("got %+v, want CPU time that never goes back", w.reports)
		}
		if out.Last.CPU != 80*s {
			t.Errorf("got %v, want 1m20s", out.Last.CPU)
		}
		for _, r := range w.reports {
			if r.CPU != 50 && r.CPU != 80 || r.RSS > 7 || r.Fraction != 0 || r.CheckpointCPU != 50 {
				t.Errorf("got %+v, want nothing invented", r)
			}
		}
	})
	t.Run("what is used after the last sample", func(t *testing.T) {
		half := func(w *world) {
			w.usage = func(ran time.Duration) (job.Usage, error) { return job.Usage{CPU: ran / 2}, nil }
		}
		_, out := play(t, Options{}, half, at{5*s + 800*time.Millisecond, ended})
		if got, want := out.Last.CPU, 2900*time.Millisecond; got.Round(time.Millisecond) != want {
			t.Errorf("ended by itself: got %v, want %v", got, want)
		}
		_, out = play(t, Options{}, half, at{5*s + 800*time.Millisecond, func(w *world) {
			w.exits <- job.Exit{FinishedAt: time.Now().Add(-200 * time.Millisecond)}
		}})
		if got, want := out.Last.CPU, 2800*time.Millisecond; got.Round(time.Millisecond) != want {
			t.Errorf("heard late: got %v, want %v", got, want)
		}
		for _, step := range []time.Duration{-24 * time.Hour, 24 * time.Hour} { // of the computer's clock, meanwhile
			_, out = play(t, Options{}, half, at{5*s + 800*time.Millisecond, func(w *world) {
				w.exits <- job.Exit{FinishedAt: time.Now().Add(-step)}
			}})
			if got, want := out.Last.CPU, 2900*time.Millisecond; got.Round(time.Millisecond) != want {
				t.Errorf("clock set by %v: got %v, want %v", step, got, want)
			}
		}
		_, out = play(t, Options{}, half, at{5*s + 800*time.Millisecond, aborted})
		if got, want := out.Last.CPU, 2900*time.Millisecond; got.Round(time.Millisecond) != want {
			t.Errorf("aborted: got %v, want %v", got, want)
		}
		_, out = play(t, Options{}, half, at{2*s + s/2, suspended}, at{time.Hour, ended})
		if got, want := out.Last.CPU, 1250*time.Millisecond; got.Round(time.Millisecond) != want {
			t.Errorf("while it was suspended: got %v, want %v", got, want)
		}
	})
	t.Run("one sample when it is paused, none while it is", func(t *testing.T) {
		w, _ := play(t, Options{}, nil, at{5*s + s/2, suspended}, at{time.Hour, quit})
		if w.calls > 8 {
			t.Errorf("got %d calls, want those of 5 s", w.calls)
		}
		if got := last(w.reports).CPU; got != 11 {
			t.Errorf("got %v s, want what it had used when it was paused, 11", got)
		}
	})
	t.Run("seldom asked when old", func(t *testing.T) {
		w, _ := play(t, Options{}, nil, at{10 * time.Hour, ended})
		if w.calls < 3600 || w.calls > 3600+200 {
			t.Errorf("got %d calls in 10 h, want about one in 10 s", w.calls)
		}
		if len(w.reports) < 36000 {
			t.Errorf("got %d reports, want one a second", len(w.reports))
		}
	})
	t.Run("fraction", func(t *testing.T) {
		asked := 0
		w, out := play(t, Options{}, func(w *world) {
			w.far = func() (float64, bool) {
				asked++
				return float64(asked) / 10, asked <= 3 // then unknown: the file is being written
			}
		}, at{20 * s, ended})
		if out.Last.Fraction != 0.3 || w.reports[0].Fraction != 0 {
			t.Errorf("got %v at first, %v at last, want 0, 0.3", w.reports[0].Fraction, out.Last.Fraction)
		}
	})
}

func TestSlowUsage(t *testing.T) {
	w, out := play(t, Options{}, func(w *world) { w.slow = map[string]time.Duration{"usage": 25 * time.Second} },
		at{30*time.Second + 1, suspended}, at{40 * time.Second, goOn}, at{60*time.Second + 2, ended})
	if want := []string{"0s made", "30.000000001s pause", "40s unpause"}; !slices.Equal(w.did, want) {
		t.Errorf("got %q, want %q", w.did, want)
	}
	if len(w.reports) != 61 {
		t.Errorf("got %d reports, want one each second and a last one", len(w.reports))
	}
	if w.calls > 5 {
		t.Errorf("got %d calls, want no pile of them", w.calls)
	}
	if out.Last.Ran != 50*time.Second+3 {
		t.Errorf("got %v of running time, want 50 s", out.Last.Ran)
	}
}

func TestObserve(t *testing.T) {
	w, out := play(t, Options{Ran: time.Minute}, nil, at{5*time.Second + 1, suspended}, at{10*time.Second + 1, goOn}, at{12*time.Second + 1, ended})
	var got []string
	for _, s := range w.seen {
		got = append(got, fmt.Sprint(s.State, " ", s.Ran.Round(time.Second)))
	}
	want := []string{"running 1m1s", "running 1m2s", "running 1m3s", "running 1m4s", "running 1m5s", "paused 1m5s", "paused 1m5s", "paused 1m5s", "paused 1m5s",
		"paused 1m5s", "running 1m6s", "running 1m7s"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := time.Minute + 7*time.Second + 1; out.Last.Ran != want {
		t.Errorf("at last: got %v, want %v", out.Last.Ran, want)
	}
}

// A computer that sleeps stops the ticks. That time is no running time.
func TestSleptHost(t *testing.T) {
	now := time.Now()
	c := clock{at: now, on: true}
	for _, step := range []struct{ gap, want time.Duration }{{time.Second, time.Second}, {40 * time.Second, 41 * time.Second}, {8 * time.Hour, 42 * time.Second},
		{-time.Second, 42 * time.Second}, {2 * time.Second, 43 * time.Second}} {
		now = now.Add(step.gap)
		c.read(now)
		if c.ran != step.want {
			t.Errorf("after %v: got %v, want %v", step.gap, c.ran, step.want)
		}
	}
}

func TestReread(t *testing.T) {
	var rereads []time.Duration
	var began time.Time
	_, _ = play(t, Options{}, func(w *world) {
		began = w.began
		w.reread = func() { rereads = append(rereads, time.Since(began)) }
		slowly(10 * time.Second)(w)
	}, at{time.Second, boincapi.Status{Reread: 1}}, at{20 * time.Second, boincapi.Status{Reread: 1}},
		at{30 * time.Second, boincapi.Status{Reread: 3, Suspended: true}}, at{40 * time.Second, ended})
	if want := []time.Duration{10 * time.Second, 30 * time.Second}; !slices.Equal(rereads, want) {
		t.Errorf("got %v, want %v", rereads, want)
	}
}

// A panic of one of Run's goroutines would end the process; Run's caller can deal with one.
func TestPanics(t *testing.T) {
	for name, set := range map[string]func(*world){
		"prepare": func(w *world) { w.prepare = func(context.Context, int) (*prepared, error) { panic("bug of ours") } },
		"cancelled prepare": func(w *world) {
			w.prepare = func(ctx context.Context, _ int) (*prepared, error) { <-ctx.Done(); panic("bug of ours") }
		},
		"usage": func(w *world) { w.usage = func(time.Duration) (job.Usage, error) { panic("bug of ours") } },
		"mail":  func(w *world) { w.mail = func(context.Context, boincapi.Status) { panic("bug of ours") } },
		"mail while leaving": func(w *world) {
			w.mail = func(ctx context.Context, _ boincapi.Status) { <-ctx.Done(); panic("bug of ours") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func() {
					if got := fmt.Sprint(recover()); !strings.Contains(got, "bug of ours") || !strings.Contains(got, "supervise_test.go") {
						t.Errorf("got %s, want the panic with its place", got)
					}
				}()
				w := &world{t: t, began: time.Now(), status: make(chan boincapi.Status, 1), exits: make(chan job.Exit, 1)}
				set(w)
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				got := Run(ctx, Options{Client: w, Open: w.open})
				t.Errorf("got %+v, want a panic", got)
			})
		})
	}
}

// What fails again and again is said once.
func TestLog(t *testing.T) {
	w, _ := play(t, Options{}, failing("pause", errEngine), at{time.Second, suspended}, at{time.Hour, ended})
	if got := strings.Count(w.log.String(), "no engine"); got != 1 {
		t.Errorf("got %d lines, want 1:\n%s", got, w.log.String())
	}
	w, _ = play(t, Options{}, nil, at{time.Hour, suspended}, at{2 * time.Hour, goOn}, at{3 * time.Hour, ended})
	var got []string
	for line := range strings.Lines(w.log.String()) {
		got = append(got, strings.TrimSpace(line))
	}
	if want := []string{`{"level":"info","message":"suspended"}`, `{"level":"info","message":"resumed"}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Mail is carried each second while the container is up, paused or not, and never holds up the watch.
func TestMail(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name   string
		takes  time.Duration
		set    func(*world)
		script []at
		rounds []string // when they began, and what the client wanted
		end    time.Duration
	}{
		{name: "running, then paused", script: []at{{2500 * time.Millisecond, suspended}, {4500 * time.Millisecond, ended}},
			rounds: []string{"1s run", "2s run", "3s suspend", "4s suspend"}, end: 4500 * time.Millisecond},
		{name: "not while preparing", set: slowly(5 * s), script: []at{{6500 * time.Millisecond, ended}}, rounds: []string{"6s run"}, end: 6500 * time.Millisecond},
		{name: "one at a time", takes: 2500 * time.Millisecond, script: []at{{5500 * time.Millisecond, suspended}, {7200 * time.Millisecond, ended}},
			rounds: []string{"1s run", "4s run", "7s suspend"}, end: 7200 * time.Millisecond},
		{name: "broken off by quit", takes: time.Hour, script: []at{{1500 * time.Millisecond, quit}}, rounds: []string{"1s run"}, end: 1500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var rounds []string
			var began time.Time
			var end time.Duration
			mail := func(ctx context.Context, st boincapi.Status) {
				mu.Lock()
				rounds = append(rounds, fmt.Sprint(time.Since(began), " ", wishOf(st)))
				mu.Unlock()
				select {
				case <-time.After(tt.takes):
				case <-ctx.Done():
				}
				mu.Lock()
				end = time.Since(began)
				mu.Unlock()
			}
			w, out := play(t, Options{}, func(w *world) {
				began, w.mail = w.began, mail
				if tt.set != nil {
					tt.set(w)
				}
			}, tt.script...)
			if diff := cmp.Diff(tt.rounds, rounds); diff != "" {
				t.Errorf("%+v: want -, got +:\n%s", out, diff)
			}
			if end > tt.end {
				t.Errorf("the last round went on to %v, and Run ended at %v", end, tt.end)
			}
			for _, line := range w.did {
				if strings.HasSuffix(line, " pause") && tt.name == "one at a time" && line != "5.5s pause" {
					t.Errorf("got %q, want it at once", line)
				}
			}
		})
	}
}
