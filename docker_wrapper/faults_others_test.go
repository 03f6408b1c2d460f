//go:build faults

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
)

// byOthers are actions of other programs on a job's container, image or wrapper.
func byOthers() (list []scenario) {
	add := func(name string, run func(*testing.T)) { list = append(list, scenario{name: name, run: run}) }
	for _, paused := range []bool{false, true} {
		p := phase{name: map[bool]string{false: "run", true: "paused"}[paused]}
		for _, verb := range []string{"removed", "stopped", "killed"} {
			add(p.name+", container "+verb, func(t *testing.T) { containerEnded(t, p, verb) })
		}
	}
	add("run, container paused", testPausedByHand)
	add("run, container paused, then quit", testPausedByHandAndQuit)
	add("paused, container unpaused", testUnpausedByHand)
	add("create, image removed", testImageRemovedBefore)
	add("run, image removed", testImageRemoved)
	add("create, name taken", testNameTaken)
	add("run, wrapper killed while the job works", testWrapperKilled)
	add("two wrappers in one slot", testTwoWrappers)
	for _, p := range phases {
		if p.call != "" {
			add(p.name+" done, SIGKILL", func(t *testing.T) { answerLost(t, p, syscall.SIGKILL) })
			add(p.name+" done, SIGTERM", func(t *testing.T) { answerLost(t, p, syscall.SIGTERM) })
		}
	}
	for _, p := range phases {
		add(p.name+", engine away for 5 s", func(t *testing.T) { engineAway(t, p) })
	}
	return list
}

// containerEnded: when another program ends the container, that is not the job's result.
func containerEnded(t *testing.T, p phase, verb string) {
	s := newTrial(t, order{code: 3, wait: true, began: 2})
	letGo := s.reach(p)
	id := s.job().ID
	status := 0
	switch verb {
	case "removed":
		status = s.tell(http.MethodDelete, "/containers/"+id+"?force=1", nil)
	case "stopped":
		status = s.tell(http.MethodPost, "/containers/"+id+"/stop?t=2", nil)
	case "killed":
		status = s.tell(http.MethodPost, "/containers/"+id+"/kill", nil)
	}
	// Podman refuses to stop a paused container. Podman 5 reports afterwards that a user stopped it, so the job begins
	// again all the same.
	if refused := p.name == "paused" && verb == "stopped" && s.podman(); refused != (status >= http.StatusBadRequest) {
		t.Errorf("status %d; want it refused: %v", status, refused)
	}
	letGo()
	s.goOn()
	s.patiently()
}

// testPausedByHand: the wrapper doesn't resume a container that another program paused.
func testPausedByHand(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	s.reach(phase{name: "run"})
	s.tell(http.MethodPost, "/containers/"+s.job().ID+"/pause", nil)
	if s.goneWithin(3 * time.Second) {
		t.Fatalf("the wrapper has ended: %+v", s.p.Wait())
	}
	s.tell(http.MethodPost, "/containers/"+s.job().ID+"/unpause", nil)
	s.goOn()
	s.finished(s.wait(time.Minute))
}

func testPausedByHandAndQuit(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	s.reach(phase{name: "run"})
	s.tell(http.MethodPost, "/containers/"+s.job().ID+"/pause", nil)
	s.c.Quit()
	s.left(s.wait(20 * time.Second))
	s.toItsEnd()
}

func testUnpausedByHand(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	letGo := s.reach(phase{name: "paused"})
	s.tell(http.MethodPost, "/containers/"+s.job().ID+"/unpause", nil)
	letGo()
	s.goOn()
	s.finished(s.wait(time.Minute))
}

func testImageRemovedBefore(t *testing.T) {
	s := newTrial(t, order{code: 3})
	letGo := s.reach(phase{name: "create", call: "create"})
	s.removeImages()
	if got := s.images(nil); len(got) > 0 {
		t.Fatalf("images are still there: %v", got)
	}
	letGo()
	s.finished(s.wait(time.Minute))
}

func testImageRemoved(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	s.reach(phase{name: "run"})
	s.removeImages() // some engines keep an image that a container uses, without a name
	s.o.untagged = true
	if kind, major := s.engineIs(); kind == engine.Podman && major < 5 { // it removes the container, too, and the job begins again
		s.o.began = 2
	}
	s.c.Quit()
	s.left(s.wait(20 * time.Second))
	s.toItsEnd()
}

// testNameTaken: another program's container has the name. It stays, and the reason names it.
func testNameTaken(t *testing.T) {
	s := newTrial(t, order{code: 3})
	letGo := s.reach(phase{name: "create", call: "create"})
	name := "boinc__example.org_proj__" + s.id + "_0"
	body, err := json.Marshal(map[string]any{"Image": s.images(nil)[0], "Labels": map[string]string{labelTrial: s.id + "_stranger"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.tell(http.MethodPost, "/containers/create?name="+name, bytes.NewReader(body)); got != http.StatusCreated {
		t.Fatalf("make the stranger's container: status %d", got)
	}
	defer s.tell(http.MethodDelete, "/containers/"+name+"?force=1", nil)
	letGo()
	for range 2 { // the second wrapper finds it at its start
		r := s.wait(20 * time.Second)
		if r.Outcome != boinctest.TemporaryExit || !strings.Contains(r.Reason, name) {
			t.Errorf("got %+v, want a temporary exit that names %s", r, name)
		}
		s.start()
	}
	s.wait(20 * time.Second)
	if got := s.tell(http.MethodDelete, "/containers/"+name, nil); got != http.StatusNoContent {
		t.Errorf("remove the stranger's container: status %d", got)
	}
	s.toItsEnd()
}

func testWrapperKilled(t *testing.T) {
	s := newTrial(t, order{code: 3, args: "tally=200:20ms wait=go_on write=result exit=3", wait: true})
	s.reach(phase{name: "run"})
	lines := func() int { return strings.Count(string(mayRead(s.payload("tally"))), "\n") }
	eventually(t, "the job works", func() bool { return lines() > 50 })
	s.signal(syscall.SIGKILL)
	s.wait(time.Second)
	before := lines()
	eventually(t, "the job works on without the wrapper", func() bool { return lines() > before+50 })
	s.toItsEnd()
}

// testTwoWrappers: the client starts a second wrapper while the first is still running.
func testTwoWrappers(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	s.reach(phase{name: "run"})
	second := exec.Command(binary(t, "docker_wrapper"), s.args...)
	second.Dir = s.c.Slot()
	second.Env = append(os.Environ(), "DOCKER_HOST="+s.gate.Host())
	if err := second.Run(); err != nil {
		t.Errorf("the second: %v", err)
	}
	exit := filepath.Join(s.c.Slot(), boincapi.TemporaryExitFile)
	if got := string(mayRead(exit)); !strings.Contains(got, "slot") {
		t.Errorf("the second's temporary exit: %q", got)
	}
	if err := os.Remove(exit); err != nil {
		t.Error(err)
	}
	if got := s.state(); got != "running" {
		t.Errorf("the container is %q, want running", got)
	}
	s.goOn()
	s.finished(s.wait(time.Minute))
}

// answerLost: the engine has carried out a call, and the wrapper ends before it gets the answer.
func answerLost(t *testing.T, p phase, sig syscall.Signal) {
	o := order{code: 3}
	if p.late() {
		o.code = 0
	}
	s := newTrial(t, o)
	h := s.gate.HoldAfter(p.call)
	s.start()
	s.held(h)
	s.signal(sig)
	s.goneWithin(soon)
	h.LetGo()
	r := s.wait(20 * time.Second)
	if r.FinishCode >= 0 && p.late() {
		s.finished(r)
		return
	}
	if sig == syscall.SIGTERM {
		s.left(r)
	}
	s.toItsEnd()
}

// engineAway: the engine doesn't answer for 5 s, and its containers keep running.
func engineAway(t *testing.T, p phase) {
	o := order{slowBuild: p.name == "build", wait: p.name == "run" || p.name == "paused"}
	if !p.late() {
		o.code = 3
	}
	s := newTrial(t, o)
	letGo := s.reach(p)
	s.gate.Shut()
	s.goneWithin(5 * time.Second)
	if err := s.gate.Open(); err != nil {
		t.Fatal(err)
	}
	letGo()
	s.goOn()
	s.patiently()
}

// byResources are exit codes, signals and misbehaviour of jobs, and full or read-only disks.
func byResources() (list []scenario) {
	add := func(name string, run func(*testing.T)) { list = append(list, scenario{name: name, run: run}) }
	add("1 GB of output", testOutput) // first, because it takes the longest
	for _, code := range []int{0, 1, 3, 137, 143, 255} {
		add(fmt.Sprintf("exit code %d", code), func(t *testing.T) { endsWith(t, code, fmt.Sprintf("write=result exit=%d", code)) })
	}
	for _, n := range []int{1, 2, 9, 15} {
		add(fmt.Sprintf("signal %d to itself", n), func(t *testing.T) { signalsItself(t, n) })
	}
	add("more memory than allowed", func(t *testing.T) {
		s := newTrial(t, order{code: boincapi.ExitOutOfMemory, config: "memory = \"32m\"\n", args: "wait=go_on write=result take=200", wait: true})
		s.start()
		s.running() // Docker 20 may miss the kill of a container that is just starting
		eventually(t, "the engine to have it started", func() bool { return s.state() == "running" })
		s.goOn()
		s.finished(s.wait(time.Minute))
	})
	add("output is a closed file behind links", testOutputBehindLinks)
	add("output elsewhere in the container", testOutputElsewhere)
	add("SIGTERM ignored, quit", testIgnored)
	add("fraction_done littered", testLitter)
	add("monotonic clock 10 days on", testClock)
	add("slot's disk full", testSlotFull)
	add("slot's disk full at last", testSlotFullAtLast)
	add("slot read-only", testSlotReadOnly)
	return list
}

// testOutputBehindLinks: an output that is a symlink to a file of mode 000 is delivered.
func testOutputBehindLinks(t *testing.T) {
	s := newTrial(t, order{code: 0, args: "copy=/copied/in:/made/out write=result write=data close=data link=/slot/data:second remove=linked link=second:linked exit=0"})
	target, err := s.c.AddOutput(0, "linked", false)
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	s.finished(s.wait(time.Minute))
	if got := string(mayRead(target)); got != "data\n" {
		t.Errorf("got output %q, want %q", got, "data\n")
	}
}

// testOutputElsewhere: an output that the job wrote elsewhere is an error that says where.
func testOutputElsewhere(t *testing.T) {
	s := newTrial(t, order{code: boincapi.ExitChildFailed, args: "copy=/copied/in:/made/out copy=/copied/in:/made/lost write=result exit=0"})
	if _, err := s.c.AddOutput(0, "lost", false); err != nil {
		t.Fatal(err)
	}
	s.start()
	r := s.wait(time.Minute)
	s.finished(r)
	if want := "output lost ("; !strings.HasPrefix(r.Message, want) || !strings.HasSuffix(r.Message, "in the container there is /made/lost") {
		t.Errorf("got message %q, want %q and where the file is", r.Message, want)
	}
}

func endsWith(t *testing.T, code int, args string) {
	if code == 0 {
		args = "copy=/copied/in:/made/out " + args
	}
	s := newTrial(t, order{code: code, args: args})
	s.start()
	s.endedWith(code)
}

// endedWith asserts the end of a job whose program ended with code. What the wrapper can know depends on the engine.
func (s *trial) endedWith(code int) {
	s.Helper()
	kind, major := s.engineIs()
	r := s.wait(time.Minute)
	switch {
	case code == 143 && kind == engine.Podman && major < 5: // it doesn't report that a user stopped a container
		if r.Outcome != boinctest.TemporaryExit || !strings.Contains(r.Reason, "ended from outside again and again") {
			s.Errorf("got %+v, want a temporary exit because it was ended from outside", r)
		}
		return
	case r.FinishCode == boincapi.ExitOutOfMemory && code == 137 && (kind == engine.Podman && major < 5 || kind == engine.Docker):
		// They don't tell this from a kill for memory, so what the kernel did meanwhile decides, for whichever job beside this one.
		s.o.code = r.FinishCode
		if !strings.Contains(r.Message, "more memory than its limit") || host.OOMKills() == s.oomKills {
			s.Errorf("got %+v, want the memory named, and only if the kernel killed for memory", r)
		}
	}
	s.finished(r)
}

// signalsItself: the program kills itself by a signal. Without an init process it is process 1, which the kernel protects
// from the signal. Go's runtime then ends with code 2.
func signalsItself(t *testing.T, n int) {
	s := newTrial(t, order{code: 128 + n, args: fmt.Sprintf("write=result signal=%d", n)})
	letGo := s.reach(phase{name: "start", call: "start"})
	var in struct{ HostConfig struct{ Init bool } }
	ask(t, s.engine, "/containers/"+s.job().ID+"/json", nil, &in)
	if !in.HostConfig.Init {
		s.o.code = 2
	}
	letGo()
	s.endedWith(s.o.code)
}

// testIgnored: a program that ignores SIGTERM is killed before the client kills the wrapper.
func testIgnored(t *testing.T) {
	s := newTrial(t, order{code: 3, began: 2, config: "on_quit = \"stop\"\nstop_timeout = 3\n", args: "ignore=15 wait=go_on write=result exit=3"})
	s.o.wait = true
	s.start()
	eventually(t, "the job to ignore signals", func() bool {
		return strings.Contains(stderrOf(t, s.c), "waiting for go_on")
	})
	s.c.Quit()
	s.left(s.wait(20 * time.Second))
	if got := s.state(); got != "exited" {
		t.Errorf("after quit the container is %q, want exited", got)
	}
	s.toItsEnd()
}

func testLitter(t *testing.T) {
	s := newTrial(t, order{code: 3, args: "litter=fraction_done write=result exit=3"})
	s.start()
	s.finished(s.wait(90 * time.Second))
	for _, st := range s.c.Statuses() {
		if st.Fraction < 0 || st.Fraction > 1 {
			t.Errorf("fraction %v was reported", st.Fraction)
		}
	}
	for _, line := range strings.Split(string(mayRead("/etc/shadow")), "\n") {
		if line != "" && strings.Contains(stderrOf(t, s.c), line) {
			t.Errorf("stderr.txt shows a line of /etc/shadow")
		}
	}
}

// testOutput: however much a job prints, the wrapper's memory and stderr.txt stay small.
func testOutput(t *testing.T) {
	s := newTrial(t, order{code: 3, args: "print=1024 write=result exit=3"})
	s.start()
	peak := 0 // kB
	for !s.goneWithin(200 * time.Millisecond) {
		if time.Since(s.began) > 5*time.Minute {
			t.Fatal("it takes longer than 5 minutes")
		}
		var kb int
		for line := range strings.Lines(string(mayRead(fmt.Sprintf("/proc/%d/status", s.p.PID)))) {
			if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
				peak = max(peak, kb)
			}
		}
	}
	s.finished(s.p.Wait())
	t.Logf("peak RSS %d MB", peak>>10)
	if peak == 0 || peak > 100<<10 {
		t.Errorf("the wrapper needed %d kB of memory, want at most 100 MB", peak)
	}
	if got := len(stderrOf(t, s.c)); got > 100<<10 {
		t.Errorf("stderr.txt has %d bytes, want at most 100 KiB", got)
	}
}

// testClock: a wrapper in a time namespace, with another monotonic clock, takes over a parked container. There are no
// namespaces for the wall clock; the tests of engine and supervise change that one.
func testClock(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	s.reach(phase{name: "run"})
	s.c.Quit()
	s.left(s.wait(20 * time.Second))
	s.goOn()
	args := append([]string{"-T", "--monotonic", "864000", "--boottime", "864000", binary(t, "docker_wrapper")}, s.args...)
	r, err := s.c.Run(t.Context(), "/usr/bin/unshare", args...)
	if err != nil {
		t.Fatal(err)
	}
	s.finished(r)
}

// mountAt mounts a tmpfs with options such as "size=16m".
func mountAt(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a small disk (needs root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// testSlotFull: the slot's disk is full. The last small files may still fit or not.
func testSlotFull(t *testing.T) {
	dir := t.TempDir()
	mountAt(t, filepath.Join(dir, "slots", "0"), "size=16m")
	s := newTrial(t, order{dir: dir, code: 3, args: "write=result fill=big exit=3"})
	s.start()
	r := s.wait(time.Minute)
	if r.FinishCode >= 0 {
		s.finished(r)
		return
	}
	if r.ExitCode != 0 {
		t.Errorf("got %+v, want exit code 0", r)
	}
	s.makeRoom()
	s.toItsEnd()
}

// testSlotFullAtLast: there is no room for the finish file or a temporary exit's file.
func testSlotFullAtLast(t *testing.T) {
	dir := t.TempDir()
	slot := filepath.Join(dir, "slots", "0")
	mountAt(t, slot, "size=16m")
	s := newTrial(t, order{dir: dir, code: 0})
	letGo := s.reach(phase{name: "finish", call: "remove"})
	fillUp(t, filepath.Join(slot, "big"))
	letGo()
	r := s.wait(time.Minute)
	if r.ExitCode != 0 || r.FinishCode >= 0 {
		t.Errorf("got %+v, want exit code 0 and no finish file", r)
	}
	s.makeRoom()
	s.toItsEnd()
}

// fillUp fills a disk to the last page.
func fillUp(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func (s *trial) makeRoom() {
	for _, big := range []string{filepath.Join(s.c.Slot(), "big"), s.payload("big")} {
		os.Remove(big) // the file is in one of these places
	}
}

// testSlotReadOnly: the kernel may remount a disk read-only after an error. The job doesn't fail and goes on later.
func testSlotReadOnly(t *testing.T) {
	s := newTrial(t, order{code: 3, wait: true})
	s.reach(phase{name: "run"})
	s.c.Quit()
	s.left(s.wait(20 * time.Second))
	slot := s.c.Slot()
	if err := syscall.Mount(slot, slot, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(slot, syscall.MNT_DETACH) // in case the test fails before the unmount below
	if err := syscall.Mount("", slot, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	wrapper := exec.Command(binary(t, "docker_wrapper"), s.args...) // not by boinctest, which writes to the slot
	wrapper.Dir = slot
	wrapper.Env = append(os.Environ(), "DOCKER_HOST="+s.gate.Host())
	if out, err := wrapper.CombinedOutput(); err != nil {
		t.Errorf("got %v, want exit code 0\n%s", err, out)
	}
	if err := syscall.Unmount(slot, 0); err != nil {
		t.Fatal(err)
	}
	s.toItsEnd()
}
