//go:build integration

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
)

// survivor is a job that counts its steps, between a client and a real engine, and what was lost of them so far.
type survivor struct {
	*testing.T
	c     *boinctest.Client
	args  string
	p     *boinctest.Process
	allow int // steps that an interruption may lose

	container     string // of the last look
	lives         int    // of it: how often its program began
	last          int    // step
	worst, losses int
	restarts      int
	done          bool
}

// Two ways of a job's own checkpoints: in the slot, and in the container, of which they are copied.
const (
	byFile = "[checkpoint]\nfile = \"state\"\n"
	byCopy = "copy_from_container = [{src = \"/work/out\", dst = \"out\"}]\ncheckpoint_period = 2\n[checkpoint]\nfile = \"/work/state\"\nsignal = \"USR1\"\ncopy = [{src = \"/work\", dst = \"work\"}]\n"
)

// survivorOf is a job that counts to steps.
func survivorOf(t *testing.T, name, config, args string, allow int) *survivor {
	t.Helper()
	return &survivor{T: t, args: args, allow: allow, c: newJob(t, fmt.Sprint("survives_", name, "_", os.Getpid()),
		"stop_timeout = 1\n"+config, nil)}
}

// Whatever happens to wrapper, container and engine, the sum is right, and what an interruption costs is a period
// and 2 s at most. An hour of the first job passes in a minute: its steps stand for seconds, and it
// checkpoints every ten. The second is asked for checkpoints by the clock, and they are copied out of the container.
func TestCheckpointsSurvive(t *testing.T) {
	t.Parallel()
	seed := uint64(1)
	if s := os.Getenv("TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	const pace = 14 * time.Millisecond
	for _, tt := range []struct {
		name, config, args string
		steps, allow       int
		rest               time.Duration // at least, between two interruptions
	}{
		{"mount", byFile, "sum=3600:14ms:10:.", 3600, 10 + 2, time.Second},
		{"copy", byCopy, "sum=2400:14ms:0:/work", 2400, int((2 + 2) * time.Second / pace), 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			began, rnd := time.Now(), rand.New(rand.NewPCG(seed, uint64(tt.steps)))
			s := survivorOf(t, tt.name, tt.config, tt.args, tt.allow)
			s.start()
			counts := map[string]int{}
			for !s.done {
				s.wait(tt.rest + time.Duration(rnd.IntN(4000))*time.Millisecond)
				if s.done {
					break
				}
				what := interruptions[rnd.IntN(len(interruptions))]
				counts[what.name]++
				what.do(s, time.Duration(rnd.IntN(1000))*time.Millisecond)
				s.look()
			}
			if got, want := read(t, filepath.Join(s.c.Slot(), "out")), sumOf(tt.steps); got != want {
				t.Errorf("got the sum %q, want %q", got, want)
			}
			cleanAfterwards(t, s.c, os.Getuid())
			t.Logf("seed %d: %d steps in %v; %v: %d restarts, %d of them lost steps, at most %d, allowed %d",
				seed, tt.steps, time.Since(began).Round(time.Second), counts, s.restarts, s.losses, s.worst, tt.allow)
		})
	}
}

// When the computer has lost its power a job goes on from its own last checkpoint, on whatever engine.
func TestOwnCheckpointsOutliveAReboot(t *testing.T) {
	parallelUnlessRebooted(t)
	const pace = 14 * time.Millisecond
	for _, tt := range []struct {
		name, config, args string
		steps, allow       int
	}{
		{"reboot_mount", byFile, "sum=600:14ms:50:.", 600, 50 + int(2*time.Second/pace)},
		{"reboot_copy", byCopy, "sum=1200:14ms:0:/work", 1200, int((2 + 2) * time.Second / pace)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parallelUnlessRebooted(t)
			s := survivorOf(t, tt.name, tt.config, tt.args, tt.allow)
			s.start()
			eventually(t, "some steps after a checkpoint", func() bool {
				store, err := session.OpenStore(filepath.Join(s.c.Slot(), job.WrapperDir))
				s.look()
				return err == nil && !store.Episode().Checkpoint.At.IsZero() && s.last > 80
			})
			s.reboot()
			s.start()
			eventually(t, "it goes on", func() bool { s.look(); return s.restarts > 0 })
			for !s.done {
				s.wait(time.Minute)
			}
			if got, want := read(t, filepath.Join(s.c.Slot(), "out")), sumOf(tt.steps); got != want {
				t.Errorf("got the sum %q, want %q", got, want)
			}
			cleanAfterwards(t, s.c, os.Getuid())
			t.Logf("%d steps of %v lost, allowed %d", s.worst, pace, tt.allow)
		})
	}
}

var interruptions = []struct {
	name string
	do   func(*survivor, time.Duration)
}{
	{"quit", func(s *survivor, d time.Duration) { s.quit(); time.Sleep(d); s.start() }},
	{"suspend and quit", func(s *survivor, d time.Duration) { s.c.Suspend(); time.Sleep(d); s.quit(); s.start() }},
	{"quit, engine loses all", func(s *survivor, _ time.Duration) { s.quit(); s.remove(); s.start() }},
	{"wrapper killed", func(s *survivor, d time.Duration) { s.kill(); time.Sleep(d); s.start() }},
	{"wrapper killed, engine loses all", func(s *survivor, _ time.Duration) { s.kill(); s.remove(); s.start() }},
	{"container killed", func(s *survivor, _ time.Duration) { s.meddle("kill") }},
	{"container stopped", func(s *survivor, _ time.Duration) { s.meddle("stop", "-t", "1") }},
	{"container removed", func(s *survivor, _ time.Duration) { s.remove() }},
}

// sumOf is what the worker must come to.
func sumOf(steps int) string {
	var last, total uint64
	for range steps {
		last = last*6364136223846793005 + 1442695040888963407
		total += last >> 32
	}
	return fmt.Sprintln(steps, total)
}

func (s *survivor) start() {
	if s.done {
		return
	}
	// As a client has it: the CPU time of the last checkpoint.
	cpu := s.c.Last().CheckpointCPU
	s.c.SetInitData(func(d *boincapi.InitData) { d.WUCPUTime = cpu })
	var err error
	if s.p, err = s.c.Start(s.Context(), binary(s.T, "docker_wrapper"), s.args); err != nil {
		s.Fatal(err)
	}
}

// wait lets the job run; a wrapper that leaves a job for later is started again.
func (s *survivor) wait(d time.Duration) {
	over := make(chan boinctest.Result, 1)
	p := s.p
	go func() { over <- p.Wait() }()
	select {
	case r := <-over:
		s.ended(r)
	case <-time.After(d):
	}
}

func (s *survivor) ended(r boinctest.Result) {
	switch {
	case r.Outcome == boinctest.Success:
		s.done = true
	case r.FinishCode >= 0:
		s.Fatalf("got %+v\n%s", r, stderrOf(s.T, s.c))
	case r.Outcome == boinctest.TemporaryExit:
		s.start()
	}
}

func (s *survivor) quit() {
	s.c.Quit()
	if r := s.p.Wait(); r.Outcome != boinctest.Restart || r.ExitCode != 0 {
		s.ended(r)
	}
}

func (s *survivor) kill() {
	syscall.Kill(s.p.PID, syscall.SIGKILL) // it may be gone
	if r := s.p.Wait(); r.FinishCode >= 0 {
		s.ended(r)
	}
}

// meddle is somebody else's call on the container, if there is one.
func (s *survivor) meddle(call ...string) {
	id, _ := s.find()
	if id != "" {
		exec.Command("docker", append(call, id)...).Run() // it may have ended
	}
}

// remove removes the container, once its last step is known.
func (s *survivor) remove() {
	s.meddle("pause")
	s.look()
	s.meddle("rm", "-f")
}

// find is the job's container and what it printed; "" for none.
func (s *survivor) find() (id, logs string) {
	id = containers(s.T, s.c)
	if id == "" {
		return "", ""
	}
	out, err := exec.Command("docker", "logs", id).CombinedOutput()
	if err != nil { // it is being removed
		return "", ""
	}
	return id, string(out)
}

// look reads what the job has printed since it last did: each time that it began, it goes on from a step not far
// before the last one.
func (s *survivor) look() {
	id, logs := s.find()
	if id == "" {
		return
	}
	if id != s.container {
		s.container, s.lives = id, 0
	}
	lives, last := 0, 0
	for line := range strings.Lines(logs) {
		word, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		if word == "from" {
			if lives++; lives > s.lives && (s.restarts > 0 || n > 0 || lives > 1 || s.last > 0) {
				lost := max(cmp.Or(last, s.last)-n, 0) // what a container printed last may be missing; the sum tells of steps left out
				s.restarts++
				s.worst = max(s.worst, lost)
				if lost > 0 {
					s.losses++
				}
				if lost > s.allow {
					s.Errorf("restart %d: it goes on from step %d, and had come to %d; it may lose %d\n%s", s.restarts, n, n+lost, s.allow, mayRead(filepath.Join(s.c.Slot(), job.WrapperDir, "episode.json")))
				}
			}
		}
		last = n
	}
	if lives > 0 { // else it has not said anything yet
		s.lives, s.last = lives, last
	}
}
