package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

// app is a job that checkpoints when it is asked, and the client's period. It takes its notes in the world.
type app struct {
	w       *world
	period  time.Duration // 0 means 10 s
	timeout time.Duration // 0 means 15 s
	answer  time.Duration // from being asked to the checkpoint; 0 means never
	save    time.Duration // what a copy takes; 0 means that there is none
	saveErr error
	whole   bool // the engine checkpoints it, which holds it by itself
	taken   []job.Mark

	mu   sync.Mutex // guards what follows
	due  time.Time
	file time.Time
}

func (a *app) checkpoint() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.file = time.Now()
}

// plan is how the job is checkpointed; whole or by itself.
func (a *app) plan() job.Checkpoint {
	c := job.Checkpoint{Method: job.ByApp, Timeout: job.Seconds(cmp.Or(a.timeout, 15*time.Second)), File: "made"}
	if a.save > 0 {
		c.File, c.ContainerFile, c.Copy = "", "/made", []job.Copy{{}}
	}
	if a.whole {
		c.Method, c.Period = job.ByEngine, c.Timeout
	}
	return c
}

// asked is the plan of a job that is asked.
func (a *app) asked() job.Checkpoint {
	c := a.plan()
	c.Signal = "SIGUSR1"
	return c
}

func (w *world) TimeToCheckpoint() bool { return w.app != nil && !time.Now().Before(w.app.due) }

func (w *world) CheckpointCompleted() {
	if w.app != nil {
		w.app.due = time.Now().Add(cmp.Or(w.app.period, 10*time.Second))
	}
}

func (w *world) Made(context.Context) (time.Time, bool) {
	w.app.mu.Lock()
	defer w.app.mu.Unlock()
	return w.app.file, !w.app.file.IsZero()
}

func (w *world) Ask(ctx context.Context) error {
	if w.stands() {
		w.t.Error("asked while it stands")
	}
	if w.app.answer > 0 {
		time.AfterFunc(w.app.answer, w.app.checkpoint)
	}
	return w.call(ctx, "ask")
}

func (w *world) Save(ctx context.Context) error {
	w.note("save")
	if !w.stands() {
		w.t.Error("saved while it runs")
	}
	select {
	case <-time.After(w.app.save):
		return w.app.saveErr
	case <-ctx.Done():
		w.note("broken off")
		return ctx.Err()
	}
}

func (w *world) Hold(ctx context.Context) error    { w.runs(false); return w.call(ctx, "hold") }
func (w *world) Release(ctx context.Context) error { w.runs(true); return w.call(ctx, "release") }
func (w *world) Crowded() bool                     { return false }
func (w *world) Taken(m job.Mark)                  { w.app.taken = append(w.app.taken, m) }

// stands reports that the container is paused, or has ended.
func (w *world) stands() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since.IsZero()
}

func (w *world) count(what string) (n int) {
	for _, d := range w.did {
		if strings.HasSuffix(d, " "+what) {
			n++
		}
	}
	return n
}

func TestCheckpoints(t *testing.T) {
	const ms, s, h = time.Millisecond, time.Second, time.Hour
	auto := job.Stop{OnQuit: "auto", Timeout: job.Seconds(10 * s)}
	old := job.Mark{At: time.Unix(1, 0), CPU: 3 * s, Ran: 2 * s}
	tests := []struct {
		name   string
		app    app
		silent bool // nobody asks it
		last   job.Mark
		stop   job.Stop
		set    func(*world)
		script []at
		did    []string
		marks  []job.Mark // At is when since the start
		end    time.Duration
		want   Reason
	}{
		{name: "asked each period", app: app{answer: 900 * ms}, script: []at{{25 * s, ended}}, did: []string{"0s made", "10s ask", "20s ask"},
			marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}, {CPU: 42 * s, Ran: 21 * s}}, end: 25 * s},
		{name: "not while suspended", app: app{answer: 900 * ms}, script: []at{{5 * s, suspended}, {h + 500*ms, goOn}, {h + 2*s, ended}},
			did: []string{"0s made", "5s pause", "1h0m0.5s unpause", "1h0m0.5s ask"}, marks: []job.Mark{{CPU: 12 * s, Ran: 6 * s}}, end: h + 2*s},
		{name: "not before there is a container", app: app{answer: 900 * ms}, set: slowly(h), script: []at{{h + 15*s, ended}},
			did: []string{"0s prepare", "1h0m0s made", "1h0m10s ask"}, marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}}, end: h + 15*s},
		{name: "no answer in time, and a late one", app: app{answer: 18*s + 1}, script: []at{{50 * s, ended}},
			did:   []string{"0s made", "10s ask", "26s ask", "36s ask", "46s ask"},
			marks: []job.Mark{{CPU: 56*s + s/2, Ran: 28*s + s/4}, {CPU: 90 * s, Ran: 45 * s}}, end: 50 * s},
		{name: "the signal can't be sent", set: failing("ask", errEngine), script: []at{{25 * s, ended}}, did: []string{"0s made"}, end: 25 * s},
		{name: "asked soon where nobody knows what was before", app: app{answer: 900 * ms}, set: takenOver, script: []at{{15 * s, ended}},
			did: []string{"0s made", "1s ask", "11s ask"}, marks: []job.Mark{{CPU: 4 * s, Ran: 2 * s}, {CPU: 24 * s, Ran: 12 * s}}, end: 15 * s},

		{name: "by itself", silent: true, script: []at{{5*s + 1, checkpointed}, {7*s + 1, checkpointed}, {25 * s, ended}}, did: []string{"0s made"},
			marks: []job.Mark{{CPU: 12 * s, Ran: 6 * s}, {CPU: 16 * s, Ran: 8 * s}}, end: 25 * s},
		{name: "by itself, and saved each period", app: app{save: 2 * s}, silent: true, script: []at{{4*s + 1, checkpointed}, {5*s + 1, checkpointed}, {15 * s, ended}},
			did: []string{"0s made", "10s pause", "10s save", "12s unpause"}, marks: []job.Mark{{CPU: 20 * s, Ran: 10 * s}}, end: 15 * s},
		{name: "asked and saved", app: app{answer: 900 * ms, save: 2 * s}, script: []at{{25 * s, ended}},
			did:   []string{"0s made", "10s ask", "11s pause", "11s save", "13s unpause", "20s ask", "21s pause", "21s save", "23s unpause"},
			marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}, {CPU: 38 * s, Ran: 19 * s}}, end: 25 * s},
		{name: "saved soon when the one before was broken off", app: app{answer: 900 * ms, save: 2 * s, file: old.At}, last: old, set: brokenOff, script: []at{{9 * s, ended}},
			did: []string{"0s made", "1s pause", "1s save", "3s unpause"}, marks: []job.Mark{{CPU: 5 * s, Ran: 3 * s}}, end: 9 * s},
		{name: "suspended while it is saved", app: app{answer: 900 * ms, save: 5 * s}, script: []at{{12 * s, suspended}, {h, goOn}, {h + s/2, ended}},
			did:   []string{"0s made", "10s ask", "11s pause", "11s save", "1h0m0s unpause", "1h0m0s ask"},
			marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}}, end: h + s/2},
		{name: "suspended and resumed while it is saved", app: app{answer: 900 * ms, save: 5 * s}, script: []at{{12 * s, suspended}, {13 * s, goOn}, {19 * s, ended}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "16s unpause"}, marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}}, end: 19 * s},
		{name: "ended while it is saved", app: app{answer: 900 * ms, save: 5 * s}, script: []at{{12 * s, ended}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "12s broken off"}, end: 12 * s},
		{name: "aborted while it is saved", app: app{answer: 900 * ms, save: 5 * s}, script: []at{{12 * s, aborted}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "12s broken off", "12s kill"}, want: Aborted, end: 12 * s},
		{name: "what can't be saved is none", app: app{answer: 900 * ms, save: s, saveErr: errEngine}, script: []at{{35 * s, ended}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "12s unpause", "22s pause", "22s save", "23s unpause", "33s pause", "33s save", "34s unpause"}, end: 35 * s},

		{name: "parked without a checkpoint", silent: true, stop: auto, script: []at{{15 * s, quit}}, did: []string{"0s made", "15s pause"}, want: Left, end: 15 * s},
		{name: "parked with a checkpoint", silent: true, stop: auto, script: []at{{5*s + 1, checkpointed}, {15 * s, quit}}, did: []string{"0s made", "15s stopping", "15s stop 10s"},
			marks: []job.Mark{{CPU: 12 * s, Ran: 6 * s}}, want: Left, end: 15 * s},
		{name: "parked with a checkpoint of an earlier episode", silent: true, last: old, set: takenOver, stop: auto, app: app{file: old.At}, script: []at{{15 * s, quit}},
			did: []string{"0s made", "15s stopping", "15s stop 10s"}, want: Left, end: 15 * s},
		{name: "a file that was there at first is no checkpoint", silent: true, stop: auto, app: app{file: old.At}, set: takenOver, script: []at{{15 * s, quit}},
			did: []string{"0s made", "15s pause"}, want: Left, end: 15 * s},
		{name: "a checkpoint that is gone", silent: true, last: old, stop: auto, script: []at{{15 * s, quit}}, did: []string{"0s made", "15s pause"}, want: Left, end: 15 * s},
		{name: "parked after a last checkpoint", app: app{answer: 2900 * ms}, stop: auto, script: []at{{6 * s, quit}}, did: []string{"0s made", "6s ask", "9s stopping", "9s stop 10s"},
			marks: []job.Mark{{CPU: 18 * s, Ran: 9 * s}}, want: Left, end: 9 * s},
		{name: "parked while one is asked for", app: app{answer: 4900 * ms}, stop: auto, script: []at{{11 * s, quit}}, did: []string{"0s made", "10s ask", "15s stopping", "15s stop 10s"},
			marks: []job.Mark{{CPU: 30 * s, Ran: 15 * s}}, want: Left, end: 15 * s},
		{name: "no last checkpoint, and none before", stop: auto, script: []at{{6 * s, quit}}, did: []string{"0s made", "6s ask", "21s pause"}, want: Left, end: 21 * s},
		{name: "no last checkpoint, and one before", stop: auto, last: old, app: app{file: old.At, timeout: h}, set: takenOver, script: []at{{s / 2, quit}},
			did: []string{"0s made", "500ms ask", "20.5s stopping", "20.5s stop 10s"}, want: Left, end: 20*s + s/2},
		{name: "parked just after a checkpoint", app: app{answer: 900 * ms}, stop: auto, script: []at{{11*s + s/2, quit}}, did: []string{"0s made", "10s ask", "11.5s stopping", "11.5s stop 10s"},
			marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}}, want: Left, end: 11*s + s/2},
		{name: "parked while suspended", app: app{answer: 900 * ms}, stop: auto, script: []at{{6 * s, suspended}, {h, quit}},
			did: []string{"0s made", "6s pause", "1h0m0s unpause", "1h0m0s ask", "1h0m1s stopping", "1h0m1s stop 10s"}, marks: []job.Mark{{CPU: 14 * s, Ran: 7 * s}}, want: Left, end: h + s},
		{name: "parked while suspended, and no checkpoint comes", stop: auto, script: []at{{6 * s, suspended}, {h, quit}},
			did: []string{"0s made", "6s pause", "1h0m0s unpause", "1h0m0s ask", "1h0m15s pause"}, want: Left, end: h + 15*s},
		{name: "ends when asked for a last checkpoint", stop: auto, script: []at{{6 * s, quit}, {7 * s, ended}}, did: []string{"0s made", "6s ask"}, want: Finished, end: 7 * s},
		{name: "ended from outside when asked for a last checkpoint", stop: auto, script: []at{{6 * s, quit}, {7 * s, stopped}}, did: []string{"0s made", "6s ask"}, want: Left, end: 7 * s},
		{name: "a last checkpoint is saved", app: app{answer: 2900 * ms, save: 4 * s}, stop: auto, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s ask", "9s pause", "9s save", "13s stopping", "13s stop 10s"}, marks: []job.Mark{{CPU: 18 * s, Ran: 9 * s}}, want: Left, end: 13 * s},
		{name: "parked while one is saved", app: app{answer: 900 * ms, save: 4 * s}, stop: auto, script: []at{{12 * s, quit}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "15s stopping", "15s stop 10s"}, marks: []job.Mark{{CPU: 22 * s, Ran: 11 * s}}, want: Left, end: 15 * s},
		{name: "parked while one is saved that takes too long", app: app{answer: 900 * ms, save: time.Minute}, stop: auto, script: []at{{12 * s, quit}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "32s broken off", "32s pause"}, want: Left, end: 32 * s},
		{name: "kept paused as it is asked for", app: app{answer: s}, stop: job.Stop{OnQuit: "pause"}, script: []at{{6 * s, quit}}, did: []string{"0s made", "6s pause"}, want: Left, end: 6 * s},
		{name: "kept paused while one is saved", app: app{answer: 900 * ms, save: 5 * s}, stop: job.Stop{OnQuit: "pause"}, script: []at{{12 * s, quit}},
			did: []string{"0s made", "10s ask", "11s pause", "11s save", "12s broken off", "12s pause"}, want: Left, end: 12 * s},
		{name: "stopped as it is asked for", app: app{answer: s}, stop: job.Stop{OnQuit: "stop", Timeout: job.Seconds(s)}, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s stopping", "6s stop 1s"}, want: Left, end: 6 * s},
		{name: "can't be paused: asked once more, and stopped", app: app{answer: 2900 * ms}, stop: auto, set: failing("pause", job.ErrNoPause),
			script: []at{{6 * s, suspended}, {h, goOn}, {h + 5*s, ended}}, did: []string{"0s made", "10s ask", "16s ask", "19s stopping", "19s stop 10s", "1h0m0s made"},
			marks: []job.Mark{{CPU: 26 * s, Ran: 13 * s}, {CPU: 38 * s, Ran: 19 * s}}, end: h + 5*s},
		{name: "can't be paused: ends when it is asked once more", app: app{answer: h}, stop: auto, set: failing("pause", job.ErrNoPause),
			script: []at{{time.Second / 2, suspended}, {12 * s, ended}}, did: []string{"0s made", "10s ask"}, end: 12 * s},
		{name: "a stop that fails may succeed yet", silent: true, last: old, set: func(w *world) { takenOver(w); failing("stop 10s", errEngine)(w) }, stop: auto, app: app{file: old.At},
			script: []at{{15 * s, quit}}, did: []string{"0s made", "15s stopping"}, want: Left, end: 15 * s},

		{name: "whole, each period", app: app{save: s, whole: true}, script: []at{{25 * s, ended}},
			did:   []string{"0s made", "10s hold", "10s save", "11s release", "21s hold", "21s save", "22s release"},
			marks: []job.Mark{{CPU: 20 * s, Ran: 10 * s}, {CPU: 40 * s, Ran: 20 * s}}, end: 25 * s},
		{name: "whole, not of what can't be", app: app{save: s, whole: true}, set: func(w *world) {
			w.prepare = func(context.Context, int) (*prepared, error) { p := w.container(); p.Unable = true; return p, nil }
		}, stop: auto, script: []at{{25 * s, quit}}, did: []string{"0s made", "25s pause"}, want: Left, end: 25 * s},
		{name: "whole, suspended meanwhile", app: app{save: 5 * s, whole: true}, script: []at{{12 * s, suspended}, {h, goOn}, {h + s, ended}},
			did:   []string{"0s made", "10s hold", "10s save", "15s release", "15s pause", "1h0m0s unpause", "1h0m0s hold", "1h0m0s save", "1h0m1s broken off"},
			marks: []job.Mark{{CPU: 20 * s, Ran: 10 * s}}, end: h + s},
		{name: "whole, not while suspended", app: app{save: s, whole: true}, script: []at{{5 * s, suspended}, {h, goOn}, {h + 2*s + s/2, ended}},
			did: []string{"0s made", "5s pause", "1h0m0s unpause", "1h0m0s hold", "1h0m0s save", "1h0m1s release"}, marks: []job.Mark{{CPU: 10 * s, Ran: 5 * s}}, end: h + 2*s + s/2},
		{name: "whole, and it can't be held", app: app{save: s, whole: true}, set: failing("hold", errEngine), script: []at{{25 * s, ended}}, did: []string{"0s made"}, end: 25 * s},
		{name: "whole, and it fails", app: app{save: s, whole: true, saveErr: errEngine}, script: []at{{25 * s, ended}},
			did: []string{"0s made", "10s hold", "10s save", "11s release", "21s hold", "21s save", "22s release"}, end: 25 * s},
		{name: "whole, and parked", app: app{save: s, whole: true}, stop: auto, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s hold", "6s save", "7s stopping", "7s kill"}, marks: []job.Mark{{CPU: 12 * s, Ran: 6 * s}}, want: Left, end: 7 * s},
		{name: "whole, and stopped as it is asked for", app: app{save: s, whole: true}, stop: job.Stop{OnQuit: "stop", Timeout: job.Seconds(s)}, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s hold", "6s save", "7s stopping", "7s kill"}, marks: []job.Mark{{CPU: 12 * s, Ran: 6 * s}}, want: Left, end: 7 * s},
		{name: "whole, and parked while suspended", app: app{save: s, whole: true}, stop: auto, script: []at{{6 * s, suspended}, {h, quit}},
			did: []string{"0s made", "6s pause", "1h0m0s hold", "1h0m0s save", "1h0m1s stopping", "1h0m1s kill"}, marks: []job.Mark{{CPU: 12 * s, Ran: 6 * s}}, want: Left, end: h + s},
		{name: "whole, and parked just after one", app: app{save: s, whole: true}, stop: auto, script: []at{{11*s + s/2, quit}},
			did: []string{"0s made", "10s hold", "10s save", "11s release", "11.5s stopping", "11.5s kill"}, marks: []job.Mark{{CPU: 20 * s, Ran: 10 * s}}, want: Left, end: 11*s + s/2},
		{name: "whole, and parked while one is made", app: app{save: 3 * s, whole: true}, stop: auto, script: []at{{11 * s, quit}},
			did: []string{"0s made", "10s hold", "10s save", "13s stopping", "13s kill"}, marks: []job.Mark{{CPU: 20 * s, Ran: 10 * s}}, want: Left, end: 13 * s},
		{name: "whole, and parked without, since it fails", app: app{save: s, whole: true, saveErr: errEngine}, stop: auto, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s hold", "6s save", "7s release", "7s pause"}, want: Left, end: 7 * s},
		{name: "whole, and parked without, since it takes too long", app: app{save: time.Minute, whole: true}, stop: auto, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s hold", "6s save", "26s broken off", "26s release", "26s pause"}, want: Left, end: 26 * s},
		{name: "whole, and kept paused as it is asked for", app: app{save: s, whole: true}, stop: job.Stop{OnQuit: "pause"}, script: []at{{6 * s, quit}},
			did: []string{"0s made", "6s pause"}, want: Left, end: 6 * s},
		{name: "whole, and taken over: soon, because nobody knows what it did", app: app{save: s, whole: true}, set: takenOver, script: []at{{5 * s, ended}},
			did: []string{"0s made", "1s hold", "1s save", "2s release"}, marks: []job.Mark{{CPU: 2 * s, Ran: s}}, end: 5 * s},
		{name: "whole, and aborted while one is made", app: app{save: 5 * s, whole: true}, script: []at{{12 * s, aborted}},
			did: []string{"0s made", "10s hold", "10s save", "12s broken off", "12s kill"}, want: Aborted, end: 12 * s},
	}
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.name, func(t *testing.T) {
			a := &tt.app
			c := a.plan()
			if !tt.silent && !a.whole {
				c = a.asked()
			}
			o := Options{Checkpoint: c, Last: tt.last, Stop: tt.stop}
			w, out := play(t, o, func(w *world) {
				a.w, w.app = w, a
				if tt.set != nil {
					tt.set(w)
				}
			}, tt.script...)
			if !slices.Equal(w.did, tt.did) {
				t.Errorf("got  %q\nwant %q", w.did, tt.did)
			}
			var marks []job.Mark
			for _, m := range a.taken {
				marks = append(marks, job.Mark{CPU: m.CPU.Round(ms), Ran: m.Ran.Round(ms)})
			}
			if !slices.Equal(marks, tt.marks) {
				t.Errorf("got  %v\nwant %v", marks, tt.marks)
			}
			if out.Reason != tt.want || w.took != tt.end {
				t.Errorf("got reason %v after %v, want %v after %v", out.Reason, w.took, tt.want, tt.end)
			}
			if want := tt.want == Left && tt.script[len(tt.script)-1].what != any(stopped); !out.Parked.IsZero() != want {
				t.Errorf("got parked at %v, want %t", out.Parked, want)
			}
			if warnings := strings.Count(w.log.String(), `"warn"`); warnings > 1 {
				t.Errorf("got %d warnings, want at most one:\n%s", warnings, w.log.String())
			}
			told := tt.last.CPU
			for i, r := range w.reports { // each checkpoint once, right when it was taken
				if i == len(w.reports)-1 && out.InContainer {
					break // TestKept looks at this one
				}
				if cpu := time.Duration(r.CheckpointCPU * float64(s)).Round(ms); cpu != told {
					if len(marks) == 0 || marks[0].CPU != cpu || r.CPU < r.CheckpointCPU {
						t.Errorf("got a report of a checkpoint at %v with %v s used, want %v", cpu, r.CPU, marks)
						break
					}
					marks, told = marks[1:], cpu
				}
			}
			if len(marks) > 0 {
				t.Errorf("not reported: %v", marks)
			}
		})
	}
}

// checkpointed is a checkpoint that the job makes by itself.
func checkpointed(w *world) { w.app.checkpoint() }

// takenOver is a container that ran already.
func takenOver(w *world) {
	w.prepare = func(context.Context, int) (*prepared, error) {
		p := w.container()
		p.Began = false
		p.Newest, _ = w.Made(context.Background())
		return p, nil
	}
}

// brokenOff is a container that is started again, and had checkpointed when it ended.
func brokenOff(w *world) {
	w.prepare = func(context.Context, int) (*prepared, error) {
		p := w.container()
		p.Unsaved, p.CPUBase = true, 3*time.Second
		return p, nil
	}
}

// Suspended and resumed each second, the job is asked once a period all the same, and only while it runs.
func TestCheckpointsThrottled(t *testing.T) {
	for _, on := range []time.Duration{time.Second, 300 * time.Millisecond, 1700 * time.Millisecond} {
		for _, phase := range []time.Duration{0, 100 * time.Millisecond, 900 * time.Millisecond} {
			var script []at
			now := phase
			for range 300 {
				script = append(script, at{now + on, suspended}, at{now + 2*time.Second, goOn})
				now += 2 * time.Second
			}
			a := &app{answer: 200 * time.Millisecond, period: 9500 * time.Millisecond}
			w, _ := play(t, Options{Checkpoint: a.asked()}, func(w *world) { a.w, w.app = w, a }, append(script, at{now + 1, ended})...)
			if asks, want := w.count("ask"), int(now/(12*time.Second)); asks < want || len(a.taken) < want-1 {
				t.Errorf("%v, %v: got %d asks, %d checkpoints, want %d at least", on, phase, asks, len(a.taken), want)
			}
			if w.log.Len() > 0 && strings.Contains(w.log.String(), "none came") {
				t.Errorf("%v, %v: %s", on, phase, w.log.String())
			}
		}
	}
}

// A container that begins again begins where the checkpoint was: so do CPU time and running time.
func TestCheckpointRestart(t *testing.T) {
	const s = time.Second
	a := &app{answer: 900 * time.Millisecond}
	var bases []time.Duration
	o := Options{Checkpoint: a.asked(), CPU: 3 * s, Ran: 9 * s}
	o.Last = job.Mark{At: time.Unix(1, 0), CPU: 5 * s, Ran: 4 * s}
	w, out := play(t, o, func(w *world) {
		a.w, w.app = w, a
		w.before = func(b job.Before) { bases = append(bases, b.CPU); w.cpuBase = b.CPU; w.ran = 0; w.since = time.Time{} }
	}, at{15*s + s/2, stopped}, at{20 * s, ended})
	// The checkpoint came with the 11th second: 5 s and 22 s of CPU time, 4 s and 11 s of running time.
	if want := []time.Duration{5 * s, 27 * s}; !slices.Equal(bases, want) {
		t.Errorf("got %v, want %v", bases, want)
	}
	if want := (job.Mark{CPU: 27 * s, Ran: 15 * s}); len(a.taken) != 1 || a.taken[0].CPU != want.CPU || a.taken[0].Ran != want.Ran {
		t.Errorf("got %v, want %v", a.taken, want)
	}
	if want := 15*s + 4*s + s/2; out.Last.Ran != want {
		t.Errorf("running time: got %v, want %v", out.Last.Ran, want)
	}
	if !slices.IsSortedFunc(w.reports, func(a, b boincapi.Report) int { return int(1e6 * (a.CPU - b.CPU)) }) {
		t.Error("reported CPU time went back")
	}
}

// A save that fails on the way to the parking place lets the job go on, so that it can answer, and nothing is saved of one that runs.
func TestSaveFailsWhileParking(t *testing.T) {
	const s = time.Second
	for _, script := range [][]at{{{13 * s, quit}}, {{12 * s, suspended}, {13 * s, quit}}} {
		a := &app{answer: s, save: 5 * s, saveErr: errors.New("disk")}
		o := Options{Checkpoint: a.asked(), Stop: job.Stop{OnQuit: "auto", Timeout: job.Seconds(10 * s)}}
		w, out := play(t, o, func(w *world) { a.w, w.app = w, a }, script...)
		if out.Reason != Left || !strings.HasSuffix(last(w.did), " pause") {
			t.Errorf("%v: got %v after %q, want it left, and paused", script, out.Reason, w.did)
		}
	}
}

// A container that could not be paused after it was held runs: it is held again before it is saved.
func TestHeldAgainBeforeItIsSaved(t *testing.T) {
	const s = time.Second
	a := &app{save: 4 * s, whole: true, saveErr: errors.New("disk")}
	o := Options{Checkpoint: a.plan(), Stop: job.Stop{OnQuit: "auto", Timeout: job.Seconds(10 * s)}}
	play(t, o, func(w *world) {
		a.w, w.app, w.fail = w, a, map[string]error{"pause": errors.New("busy")}
	}, at{11 * s, suspended}, at{14*s + s/2, quit})
}

// An engine that doesn't say what a container has used leaves time for its last checkpoint.
func TestLastCheckpointWithoutUsage(t *testing.T) {
	const s = time.Second
	for name, whole := range map[string]bool{"own": false, "whole": true} {
		a := &app{answer: s, save: s, whole: whole}
		c := a.plan()
		if !whole {
			c = a.asked()
		}
		o := Options{Checkpoint: c, Stop: job.Stop{OnQuit: "auto", Timeout: job.Seconds(10 * s)}}
		_, out := play(t, o, func(w *world) {
			a.w, w.app, w.slow = w, a, map[string]time.Duration{"usage": time.Hour}
		}, at{3 * s, quit})
		if len(a.taken) != 1 || out.Reason != Left {
			t.Errorf("%s: got %v and checkpoints %v, want one", name, out.Reason, a.taken)
		}
	}
}

// Whatever happens while a job is on its way to a checkpoint or to its parking place: it is saved only while it stands and asked only
// while it runs (as the world checks), and the process is gone within a minute of the wish to leave.
func TestAnythingWhileParking(t *testing.T) {
	const s = time.Second
	happens := []any{suspended, goOn, quit, lost, aborted, stopped, removed, ended}
	for _, whole := range []bool{false, true} {
		for _, onQuit := range []string{"auto", "pause", "stop"} {
			for _, saveErr := range []error{nil, errors.New("disk")} {
				for _, pauseErr := range []error{nil, job.ErrNoPause, errors.New("busy")} {
					t.Run(fmt.Sprintf("whole=%t %s %v %v", whole, onQuit, saveErr, pauseErr), func(t *testing.T) {
						t.Parallel()
						for i, first := range happens {
							for j, second := range happens {
								for _, when := range []time.Duration{9 * s, 10*s + s/2, 12 * s, 14 * s} {
									gap := []time.Duration{s / 2, 3 * s, 14 * s}[(i+j)%3]
									a := &app{answer: s, save: 4 * s, whole: whole, saveErr: saveErr}
									c := a.plan()
									if !whole {
										c = a.asked()
									}
									o := Options{Checkpoint: c, Stop: job.Stop{OnQuit: onQuit, Timeout: job.Seconds(10 * s)}}
									end := when + gap + 50*s
									w, out := play(t, o, func(w *world) {
										a.w, w.app = w, a
										if pauseErr != nil {
											w.fail = map[string]error{"pause": pauseErr}
										}
									}, at{when, first}, at{when + gap, second}, at{end, quit})
									if out.Adrift || w.took > end+time.Minute {
										t.Errorf("%+v at %v, %+v %v later: got %+v after %v, %q", first, when, second, gap, out, w.took, w.did)
									}
								}
							}
						}
					})
				}
			}
		}
	}
}

// A job whose checkpoint turns out to be lost begins from nothing, and so does what the client hears of it.
func TestCheckpointLost(t *testing.T) {
	const s = time.Second
	a := &app{save: s, whole: true}
	o := Options{Checkpoint: a.plan(), CPU: 3 * s, Ran: 9 * s}
	o.Last = job.Mark{At: time.Unix(1, 0), CPU: 5 * s, Ran: 4 * s}
	w, out := play(t, o, func(w *world) {
		a.w, w.app = w, a
		w.prepare = func(context.Context, int) (*prepared, error) {
			p := w.container()
			p.Anew = true
			return p, nil
		}
	}, at{5*s + s/2, ended})
	if out.Last.Ran != 5*s+s/2 {
		t.Errorf("running time: got %v, want that of this container", out.Last.Ran)
	}
	if got := w.reports[len(w.reports)-1]; got.CheckpointCPU != 0 || got.CPU < 5 {
		t.Errorf("got %+v, want no checkpoint any more, and CPU time that doesn't go back", got)
	}
}

// Where a checkpoint can't be made, and the one before had to make room, the client hears of none.
func TestCheckpointDropped(t *testing.T) {
	const s = time.Second
	a := &app{save: s, whole: true}
	o := Options{Checkpoint: a.plan(), Stop: job.Stop{OnQuit: "auto"}}
	w, _ := play(t, o, func(w *world) { a.w, w.app = w, a }, at{15 * s, func(*world) { a.saveErr = fmt.Errorf("no room: %w", job.ErrDropped) }}, at{25 * s, ended})
	if len(a.taken) != 2 || a.taken[0].At.IsZero() || a.taken[1] != (job.Mark{}) {
		t.Errorf("got %v, want a checkpoint, then none", a.taken)
	}
	if got := w.reports[len(w.reports)-1]; got.CheckpointCPU != 0 {
		t.Errorf("got %+v, want no checkpoint any more", got)
	}
}

// While a job stands to be saved with its files, nothing is written to them.
func TestNothingChangesWhileSaved(t *testing.T) {
	const s = time.Second
	a := &app{save: 5 * s, whole: true}
	var w *world
	quiet := func(what string) {
		if now := time.Since(w.began); now > 10*s && now < 15*s {
			t.Errorf("%s at %v", what, now)
		}
	}
	reread := 0
	play(t, Options{Checkpoint: a.plan()}, func(made *world) {
		w = made
		a.w, w.app = w, a
		w.reread, w.mail = func() { reread++; quiet("reread") }, func(context.Context, boincapi.Status) { quiet("mail") }
	}, at{12 * s, boincapi.Status{Reread: 1}}, at{17 * s, ended})
	if reread != 1 {
		t.Errorf("reread %d times, want once", reread)
	}
}

// An hour of a job that is asked each 10 s, under random suspensions, ends from outside and quits: what is lost by any
// of them is at most a period and 2 s of running time.
func TestCheckpointHour(t *testing.T) {
	const s = time.Second
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		done, worst, ends := time.Duration(0), time.Duration(0), 0
		mark := job.Mark{}
		for done < time.Hour {
			a := &app{answer: time.Duration(rnd.IntN(900)+1) * time.Millisecond}
			if rnd.IntN(2) == 0 {
				a.save = time.Duration(rnd.IntN(1500)+1) * time.Millisecond
			}
			if !mark.At.IsZero() {
				a.file = mark.At
			}
			var script []at
			now := time.Duration(0)
			for range rnd.IntN(6) {
				now += time.Duration(rnd.IntN(30000)) * time.Millisecond
				script = append(script, at{now, suspended})
				now += time.Duration(rnd.IntN(5000)) * time.Millisecond
				script = append(script, at{now, goOn})
			}
			now += time.Duration(rnd.IntN(60000)) * time.Millisecond
			last := []any{quit, stopped, lost, signal}[rnd.IntN(4)]
			script = append(script, at{now, last})
			if last == any(stopped) {
				script = append(script, at{now + 1, quit})
			}
			o := Options{Checkpoint: a.asked(), CPU: mark.CPU, Ran: mark.Ran, Stop: job.Stop{OnQuit: "auto", Timeout: job.Seconds(s)}}
			o.Last = mark
			lose := func(ran time.Duration) {
				if len(a.taken) > 0 {
					mark = a.taken[len(a.taken)-1]
				}
				ends++
				if worst = max(worst, ran-mark.Ran); ran-mark.Ran > 12*s {
					t.Errorf("seed %d, %v: lost %v", seed, last, ran-mark.Ran)
				}
			}
			_, out := play(t, o, func(w *world) {
				a.w, w.app = w, a
				w.before = func(b job.Before) {
					if w.cpuBase, w.ran, w.since = b.CPU, 0, (time.Time{}); b.Outside {
						lose(w.seen[len(w.seen)-1].Ran)
					}
				}
			}, script...)
			lose(out.Last.Ran)
			done = max(done+s, mark.Ran)
		}
		if seed < 3 {
			t.Logf("seed %d: %d interruptions, at most %v lost", seed, ends, worst)
		}
	}
}

// What goes wrong with checkpoints is said once, until it is something else.
func TestCheckpointComplaints(t *testing.T) {
	a := &app{answer: time.Second, save: time.Second, saveErr: errors.New("no room")}
	w, _ := play(t, Options{Checkpoint: a.asked()}, func(w *world) { a.w, w.app = w, a }, at{10 * time.Minute, func(*world) { a.saveErr = errors.New("no disk") }}, at{20 * time.Minute, ended})
	if got := fmt.Sprint(strings.Count(w.log.String(), "no room"), strings.Count(w.log.String(), "no disk")); got != "1 1" {
		t.Errorf("got %s lines, want 1 and 1:\n%s", got, w.log.String())
	}
}

// What the client is told at the end is what the next episode resumes from.
func TestKept(t *testing.T) {
	const s = time.Second
	noPause := func(w *world) { w.fail = map[string]error{"pause": job.ErrNoPause} }
	earlier := job.Mark{At: time.Unix(1, 0), CPU: 3 * s, Ran: 2 * s}
	for _, tt := range []struct {
		name        string
		app         *app // nil: the job isn't checkpointed
		last        job.Mark
		onQuit      string
		set         func(*world)
		script      []at
		inContainer bool
		cpu, ran    time.Duration // 0: the job begins anew
	}{
		{name: "paused", script: []at{{6*s + s/2, quit}}, inContainer: true, cpu: 13 * s, ran: 6*s + s/2},
		{name: "paused since it was suspended", script: []at{{6*s + s/2, suspended}, {time.Hour, quit}}, inContainer: true, cpu: 13 * s, ran: 6*s + s/2},
		{name: "the client is lost", script: []at{{6*s + s/2, lost}}, inContainer: true, cpu: 13 * s, ran: 6*s + s/2},
		{name: "a signal", script: []at{{6*s + s/2, signal}}, inContainer: true, cpu: 13 * s, ran: 6*s + s/2},
		{name: "it runs on, because it can't be paused now", set: func(w *world) { w.fail = map[string]error{"pause": errEngine} },
			script: []at{{6*s + s/2, quit}}, inContainer: true, cpu: 13 * s, ran: 6*s + s/2},
		{name: "stopped without a checkpoint", onQuit: "stop", script: []at{{6 * s, quit}}},
		{name: "stopped because it can't be paused", set: noPause, script: []at{{6 * s, quit}}},
		{name: "stopped at an earlier checkpoint", onQuit: "stop", last: earlier, script: []at{{6 * s, quit}}, cpu: 3 * s, ran: 2 * s},
		// The answer comes a moment before it is looked for: what happens at the same instant comes in any order.
		{name: "stopped at its last checkpoint", app: &app{answer: 9 * s / 10}, onQuit: "auto", script: []at{{6 * s, quit}}, cpu: 14 * s, ran: 7 * s},
		{name: "paused after its last checkpoint", app: &app{answer: s}, onQuit: "pause", script: []at{{15 * s, quit}}, inContainer: true, cpu: 30 * s, ran: 15 * s},
		{name: "quit while it is prepared", set: func(w *world) {
			w.prepare = func(ctx context.Context, n int) (*prepared, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, script: []at{{6 * s, quit}}},
		{name: "quit after its container was removed", set: func(w *world) {
			w.prepare = func(ctx context.Context, n int) (*prepared, error) {
				if n > 1 {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return w.container(), nil
			}
		}, script: []at{{4 * s, removed}, {6 * s, quit}}},
		{name: "cancelled", script: []at{{6 * s, aborted}}},
		{name: "ended", script: []at{{6 * s, ended}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Last: tt.last, Stop: job.Stop{OnQuit: cmp.Or(tt.onQuit, "pause"), Timeout: job.Seconds(s)}}
			if tt.app != nil {
				o.Checkpoint = tt.app.asked()
			}
			w, out := play(t, o, func(w *world) {
				if tt.app != nil {
					tt.app.w, w.app = w, tt.app
				}
				if tt.set != nil {
					tt.set(w)
				}
			}, tt.script...)
			if out.Kept.CPU != tt.cpu || out.Kept.Ran != tt.ran || out.InContainer != tt.inContainer || out.Kept.At.IsZero() != (tt.ran == 0) {
				t.Errorf("got %+v, in the container: %t, want CPU %v, ran %v, %t", out.Kept, out.InContainer, tt.cpu, tt.ran, tt.inContainer)
			}
			before := max(tt.last.CPU, tt.cpu)
			if got := time.Duration(last(w.reports).CheckpointCPU * float64(s)); got != before {
				t.Errorf("last report: got a checkpoint at %v, want %v", got, before)
			}
		})
	}
}
