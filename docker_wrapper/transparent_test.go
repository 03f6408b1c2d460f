//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
)

// What a job gets that knows nothing of checkpoints, where the engine can make them. The contract test checks which
// engines can.

// infoOf describes the engine of these tests.
func infoOf(t *testing.T) engine.Info {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	return e.Info
}

// engineCan reports whether the engine can checkpoint, and must. What an engine says of itself is not enough: Podman 4.3 says
// that it can, and needs a newer CRIU than its Debian has, which only a trial finds out.
func engineCan(t *testing.T) bool {
	t.Helper()
	must := map[string]bool{"docker-28": true, "podman-5": true}[os.Getenv("TEST_ENGINE_NAME")] // of scripts/engines.sh
	if why := infoOf(t).NoCheckpoints(); must && why != "" {
		t.Fatalf("this engine must be able to checkpoint: %s", why)
	}
	return must
}

// onlyWhereItCan leaves a test out on an engine that can't checkpoint. TestCounterGoesOn has what happens there.
func onlyWhereItCan(t *testing.T) {
	t.Helper()
	if !engineCan(t) {
		t.Skip("this engine can't checkpoint containers")
	}
}

// keepsCheckpoints reports whether the engine keeps a checkpoint with the container and removes it with that, as Docker
// does. Podman writes it to a file of the wrapper's.
func keepsCheckpoints(t *testing.T) bool {
	t.Helper()
	return infoOf(t).Kind == engine.Docker
}

// reboot is a loss of power, as far as an engine can tell: it is killed with all that runs in it, and what it had in memory is
// gone. This computer's own engine is not only ours: there the container alone is killed. The kernel has another name for the
// time after it.
func (s *survivor) reboot() {
	s.kill()
	defer s.otherBoot()
	if !mayReboot() {
		s.meddle("kill")
		return
	}
	cmd := exec.Command("../scripts/engines.sh", "reboot", os.Getenv("TEST_ENGINE_NAME"))
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("reboot the engine: %v\n%s", err, out)
	}
}

// mayReboot reports whether the engine was started for these tests alone (scripts/engines.sh).
func mayReboot() bool {
	name := os.Getenv("TEST_ENGINE_NAME")
	return name != "" && name != "docker-host"
}

// parallelUnlessRebooted runs a test beside others if it doesn't reboot their engine.
func parallelUnlessRebooted(t *testing.T) {
	if !mayReboot() {
		t.Parallel()
	}
}

func (s *survivor) otherBoot() {
	dir := filepath.Join(s.c.Slot(), job.WrapperDir)
	if store, err := session.OpenStore(dir); err != nil {
		s.Fatal(err)
	} else if store.Episode().Boot != "" {
		if err := store.Change(func(e *session.Episode) { e.Boot = "another" }); err != nil {
			s.Fatal(err)
		}
	}
}

// tallied is how far the job has come, by a file of its: of the payload, or of the newest checkpoint.
func (s *survivor) tallied(dir string) int {
	lines := strings.Fields(string(mayRead(filepath.Join(dir, "tally"))))
	if len(lines) == 0 {
		return 0
	}
	n, err := strconv.Atoi(lines[len(lines)-1])
	if err != nil {
		return 0 // it has only begun
	}
	return n
}

func (s *survivor) now() int { return s.tallied(filepath.Join(s.c.Slot(), job.WrapperDir, "payload")) }

// saved is the number of the newest checkpoint, and how far the job was then.
func (s *survivor) saved() (number, at int) {
	dirs, err := filepath.Glob(filepath.Join(s.c.Slot(), job.WrapperDir, "checkpoint", "*"))
	if err != nil {
		s.Fatal(err)
	}
	for _, dir := range dirs {
		if n, err := strconv.Atoi(filepath.Base(dir)); err == nil && n > number {
			number, at = n, s.tallied(filepath.Join(dir, "files", "0"))
		}
	}
	return number, at
}

// loseContainer does the worst that a checkpoint survives: it removes the container, or kills it where the checkpoint would
// go with it.
func (s *survivor) loseContainer() {
	s.Helper()
	if keepsCheckpoints(s.T) {
		s.meddle("kill")
	} else {
		s.meddle("rm", "-f")
	}
}

func (s *survivor) restored() int {
	return strings.Count(string(mayRead(filepath.Join(s.c.Slot(), boincapi.StderrFile))), "resumed from the last checkpoint")
}

// want is what a tally to n must have written, whatever happened.
func tallyTo(n int) string {
	var b strings.Builder
	b.WriteString("began\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// tallyConfig asks for a checkpoint each period (s), of the files in the way that Docker wants: CRIU needs a /tmp then.
func tallyConfig(t *testing.T, period int) string {
	t.Helper()
	files := ""
	if keepsCheckpoints(t) {
		files = `create_args = "--read-only --tmpfs /tmp"`
	}
	return fmt.Sprintf("network = \"none\"\n%s\nstdout_file = \"printed\"\nstop_timeout = 1\ncheckpoint_period = %d\n[checkpoint]\nmethod = \"engine\"\n", files, period)
}

func newTally(t *testing.T, name string, period int, args string) *survivor {
	s := &survivor{T: t, args: args, c: newJob(t, fmt.Sprint(name, "_", os.Getpid()), tallyConfig(t, period), nil)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(string(mayRead(filepath.Join(s.c.Slot(), boincapi.StderrFile))))
			s.meddle("rm", "-f") // there is none if all is well
		}
	})
	return s
}

// finish lets the job come to its end and asserts that it never noticed anything.
func (s *survivor) finish(n int) {
	s.Helper()
	for !s.done {
		s.wait(time.Minute)
	}
	for _, name := range []string{"tally", "printed"} {
		if got, want := read(s.T, filepath.Join(s.c.Slot(), name)), tallyTo(n); got != want {
			s.Errorf("%s is not what was counted: got %d lines, want %d; %s", name, strings.Count(got, "\n"), n+1, firstDifference(got, want))
		}
	}
	cleanAfterwards(s.T, s.c, os.Getuid())
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, a[i], b[i])
		}
	}
	return "one is longer"
}

// A counter that knows nothing of checkpoints goes on where the last one found it, after the worst that can become of its
// container: removed, and its engine killed with all that was in memory.
func TestCounterGoesOn(t *testing.T) {
	parallelUnlessRebooted(t)
	if !engineCan(t) {
		cannotCheckpoint(t)
		return
	}
	const n, period = 800, 3
	s := newTally(t, "counter", period, fmt.Sprintf("tally=%d:20ms", n))
	s.start()
	eventually(t, "some time after a second checkpoint", func() bool { number, at := s.saved(); return number >= 2 && s.now() > at+20 })
	s.kill() // or it would be asked for another
	s.loseContainer()
	s.reboot()
	before := s.now()
	_, at := s.saved()
	s.start()
	eventually(t, "it goes on", func() bool { return s.restored() == 1 })
	t.Logf("checkpointed at %d, ended at %d: %d steps of 20 ms lost, a period has %d", at, before, before-at, period*50)
	if at == 0 || before-at > (period+2)*50 {
		t.Errorf("it went on at %d of %d, want at most %d less", at, before, (period+2)*50)
	}
	s.finish(n)
}

// cannotCheckpoint: where the engine can't, the job runs all the same, says why not, and is paused on a quit.
func cannotCheckpoint(t *testing.T) {
	s := newTally(t, "counter", 1, "tally=300:20ms")
	s.start()
	eventually(t, "it counts", func() bool { return s.now() > 50 })
	s.quit()
	if got := docker(t, "inspect", "-f", "{{.State.Paused}}", containers(t, s.c)); got != "true" {
		t.Errorf("paused: got %s, want true", got)
	}
	if got := stderrOf(t, s.c); !strings.Contains(got, "no checkpoints through this engine") {
		t.Errorf("got no word of why not:\n%s", got)
	}
	s.start()
	s.finish(300)
}

// A job may have the client's file open, which is another after the restore, and what it prints may go to an output that it
// has mounted.
func TestGoesOnAmongTheClientsFiles(t *testing.T) {
	onlyWhereItCan(t)
	const n = 600
	c := newJob(t, fmt.Sprint("among_", os.Getpid()), "project_dir_mount = \"/project\"\n"+tallyConfig(t, 2), nil)
	printed, err := c.AddOutput(0, "printed", false)
	if err != nil {
		t.Fatal(err)
	}
	s := &survivor{T: t, c: c, args: fmt.Sprint("keepopen=init_data.xml tally=", n, ":20ms")}
	s.start()
	eventually(t, "some time after a second checkpoint", func() bool { number, at := s.saved(); return number >= 2 && s.now() > at+20 })
	s.kill()
	s.loseContainer()
	s.start()
	eventually(t, "it goes on", func() bool { return s.restored() == 1 })
	for !s.done {
		s.wait(time.Minute)
	}
	if got, want := read(t, printed), tallyTo(n); got != want {
		t.Errorf("it printed something else: %s", firstDifference(got, want))
	}
	if t.Failed() {
		t.Log(stderrOf(t, c))
	}
	cleanAfterwards(t, c, os.Getuid())
}

// Whenever a restore is broken off, by the end of the wrapper or of the computer, the next one does it again.
func TestRestoreBrokenOff(t *testing.T) {
	onlyWhereItCan(t)
	const n = 200
	s := newTally(t, "broken_off", 3600, fmt.Sprintf("take=100 tally=%d:20ms", n))
	s.start()
	eventually(t, "it counts", func() bool { return s.now() > 10 })
	s.quit()
	for i := range 12 {
		s.start()
		s.wait(time.Duration(i*100+50) * time.Millisecond)
		if s.done {
			break
		}
		if s.kill(); i%2 == 1 {
			s.reboot()
		}
	}
	if !s.done {
		s.start()
	}
	for !s.done {
		s.wait(time.Minute)
	}
	want := fmt.Sprintln("took", 100<<20) + tallyTo(n)
	if got := read(t, filepath.Join(s.c.Slot(), "printed")); got != want {
		t.Errorf("it printed something else: %s", firstDifference(got, want))
	}
	if got, want := read(t, filepath.Join(s.c.Slot(), "tally")), tallyTo(n); got != want {
		t.Errorf("it counted something else: %s", firstDifference(got, want))
	}
	if t.Failed() {
		t.Log(stderrOf(t, s.c))
	}
	cleanAfterwards(t, s.c, os.Getuid())
}

// A job that must not stay in memory is checkpointed and ended: its memory is the computer's again.
func TestParkedJobGivesItsMemoryBack(t *testing.T) {
	onlyWhereItCan(t)
	const mb = 300
	args := fmt.Sprintf("tally=10:20ms take=%d tally=300:20ms", mb)
	s := newTally(t, "memory", 3600, args)
	s.start()
	eventually(t, "the job takes its memory", func() bool { return resident(t, args) >= mb<<20 })
	eventually(t, "it counts", func() bool { return s.now() > 0 })
	s.quit()
	if got := resident(t, args); got != 0 {
		t.Errorf("%d MB are still resident after the quit, want none", got>>20)
	}
	if got := docker(t, "inspect", "-f", "{{.State.Running}}", containers(t, s.c)); got != "false" {
		t.Errorf("running: got %s, want false", got)
	}
	var e session.Episode
	if err := json.Unmarshal(mayRead(filepath.Join(s.c.Slot(), job.WrapperDir, "episode.json")), &e); err != nil {
		t.Fatal(err)
	}
	if got := s.c.Last().CheckpointCPU; e.Checkpoint.At.IsZero() || got <= 0 {
		t.Errorf("got checkpoint %+v and %g s of CPU time in it, want one", e.Checkpoint, got)
	}
	s.start()
	for !s.done {
		s.wait(time.Minute)
	}
	want := tallyTo(10) + fmt.Sprintln("took", mb<<20) + tallyTo(300)
	if got := read(t, filepath.Join(s.c.Slot(), "printed")); got != want {
		t.Errorf("it printed something else: %s", firstDifference(got, want))
	}
	cleanAfterwards(t, s.c, os.Getuid())
}

// resident is how much of this computer's memory is held by processes with these arguments, in bytes (proc(5)).
func resident(t *testing.T, args string) (bytes int) {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range environs {
		if !strings.Contains("\x00"+string(mayRead(name)), "\x00ARGS="+args+"\x00") {
			continue // or it has ended
		}
		for line := range strings.Lines(string(mayRead(filepath.Join(filepath.Dir(name), "status")))) {
			var kb int
			if n, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 && err == nil {
				bytes += kb << 10
			}
		}
	}
	return bytes
}

// Whatever happens to wrapper, container and engine, the job never notices, and what an interruption costs is a period and
// 2 s at most.
func TestTransparentCheckpointsSurvive(t *testing.T) {
	onlyWhereItCan(t)
	seed := uint64(1)
	if text := os.Getenv("TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	const n, period, pace = 1500, 2, 14 * time.Millisecond
	allow := int((period + 2) * time.Second / pace)
	began, rnd := time.Now(), rand.New(rand.NewPCG(seed, n))
	s := newTally(t, "transparent", period, fmt.Sprint("tally=", n, ":", pace))
	s.start()
	eventually(t, "a first checkpoint", func() bool { number, _ := s.saved(); return number > 0 })
	counts, worst := map[string]int{}, 0
	for !s.done {
		s.wait(2*time.Second + time.Duration(rnd.IntN(4000))*time.Millisecond)
		if s.done {
			break
		}
		what := endings[rnd.IntN(len(endings))]
		counts[what.name]++
		before, restored := s.now(), s.restored()
		what.do(s)
		if s.done {
			break
		}
		deadline := time.Now().Add(90 * time.Second)
		for !s.done && (s.now() == 0 || what.loses && s.restored() == restored) {
			if s.wait(50 * time.Millisecond); time.Now().After(deadline) {
				t.Fatalf("%s: it doesn't go on\n%s", what.name, stderrOf(t, s.c))
			}
		}
		if s.done { // it came before the interruption: there is no checkpoint any more
			break
		}
		lost := 0
		if what.loses {
			_, at := s.saved() // or the one after
			lost = max(before-at, 0)
		}
		if worst = max(worst, lost); lost > allow {
			t.Errorf("%s: it lost %d steps, want at most %d", what.name, lost, allow)
		}
	}
	s.finish(n)
	t.Logf("seed %d: %d steps in %v; %v: at most %d steps lost, allowed %d", seed, n, time.Since(began).Round(time.Second), counts, worst, allow)
}

var endings = []struct {
	name  string
	loses bool
	do    func(*survivor)
}{
	{"quit", true, func(s *survivor) { s.quit(); s.start() }},
	{"suspend and quit", true, func(s *survivor) { s.c.Suspend(); s.quit(); s.start() }},
	{"wrapper killed", false, func(s *survivor) { s.kill(); s.start() }},
	{"container killed", true, func(s *survivor) { s.meddle("kill") }},
	{"power lost", true, func(s *survivor) { s.reboot(); s.start() }},
}
