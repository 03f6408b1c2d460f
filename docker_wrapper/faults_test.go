//go:build faults

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// These tests inject faults into the release binary, its client and its engine, in each phase of a job, as they happen
// on volunteers' computers. They assert that the job still ends correctly. The client is boinctest. The engine is a real
// one, either that of DOCKER_HOST or the scenario's own. A gate in front of it makes the moment of a fault exact.
//
// scripts/faults.sh runs them, and scripts/matrix.sh runs some of them on each engine. FAULTS chooses scenarios by name.
// Scenarios that kill dockerd need FAULTS_ENGINES, a directory for the tests' own engines. Scenarios that kill Podman's
// service need FAULTS_PODMAN, the command that runs Podman next to the engine of DOCKER_HOST. That process must end when
// its parent ends.

const (
	labelTrial = "boinc_test_trial" // label of everything that the engine makes for one trial
	trialInput = "a line of input\n"
	labelRun   = "boinc_test_faults" // label of everything of this run, for scripts/faults.sh
)

// scenario is a row of the table.
type scenario struct {
	name string
	run  func(*testing.T)

	engine   *engineOrder // the scenario's own engine; nil for that of DOCKER_HOST
	onEngine func(*testing.T, *ownEngine)
}

func TestFaults(t *testing.T) {
	chosen, err := regexp.Compile(os.Getenv("FAULTS"))
	if err != nil {
		t.Fatal(err)
	}
	var table table
	t.Cleanup(table.print)
	column := table.column("faults")
	engines := map[engineOrder][]scenario{}
	var alone []scenario
	offered := slices.Concat(byResources(), byClient(), byOthers(), byOutput())
	if os.Getenv("FAULTS_ENGINES") != "" {
		offered = slices.Concat(byEngine(), offered)
	}
	if os.Getenv("FAULTS_PODMAN") != "" {
		offered = slices.Concat(byService(), offered)
	}
	for _, s := range offered {
		if !chosen.MatchString(s.name) {
			continue
		}
		table.rows = append(table.rows, s.name)
		if s.engine != nil {
			engines[*s.engine] = append(engines[*s.engine], s)
		} else {
			alone = append(alone, s)
		}
	}
	if len(table.rows) == 0 {
		t.Fatalf("FAULTS=%s: no scenario has such a name", chosen)
	}
	fmt.Printf("scenarios: %d\n", len(table.rows))
	for o, list := range engines {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(t, o)
			for _, s := range list {
				t.Run(s.name, func(t *testing.T) {
					column.note(t, s.name)
					s.onEngine(t, e)
				})
			}
		})
	}
	for _, s := range alone {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			column.note(t, s.name)
			s.run(t)
		})
	}
}

// phase is a point in a job's life.
type phase struct {
	name string
	call string // the call that the gate holds to reach it; "" if it is reached in another way
}

var phases = []phase{
	{name: "build"},
	{name: "create", call: "create"},
	{name: "copy-in", call: "copy-in"},
	{name: "run"},
	{name: "paused"},
	{name: "copy-out", call: "copy-out"},
	{name: "finish", call: "remove"},
}

// late reports whether the job's program has ended by then. A wrapper that is asked to quit may then finish the job first.
func (p phase) late() bool { return p.name == "copy-out" || p.name == "finish" }

// action is what happens in a phase.
type action struct {
	name   string
	do     func(*trial)
	heard  time.Duration // time within which the wrapper notices it
	ending ending
}

type ending int

const (
	leaves ending = iota // exit code 0, no finish file: the client starts it again
	killed
	aborts
	goesOn
	isReset // leaves, and the client forgets the job
)

var actions = []action{
	{"SIGTERM", func(s *trial) { s.signal(syscall.SIGTERM) }, soon, leaves},
	{"SIGINT", func(s *trial) { s.signal(syscall.SIGINT) }, soon, leaves},
	{"SIGKILL", func(s *trial) { s.signal(syscall.SIGKILL) }, soon, killed},
	{"stopped for 30 s", func(s *trial) {
		s.signal(syscall.SIGSTOP)
		time.Sleep(30 * time.Second)
		s.signal(syscall.SIGCONT)
	}, 0, goesOn},
	{clientDies, func(s *trial) { s.endClient() }, 11 * time.Second, leaves},
	{heartbeatsStop, func(*trial) {}, 31 * time.Second, leaves}, // since the start
	{"quit", func(s *trial) { s.c.Quit() }, soon, leaves},
	{"abort", func(s *trial) { s.c.Abort() }, soon, aborts},
	{"suspend and quit", func(s *trial) { s.c.Suspend(); s.c.Quit() }, twice, leaves},
	{"suspend and abort", func(s *trial) { s.c.Suspend(); s.c.Abort() }, twice, aborts},
	{"reset", func(s *trial) { s.c.Quit() }, soon, isReset},
}

const (
	clientDies     = "client dies"
	heartbeatsStop = "heartbeats stop"

	pollTime = 250 * time.Millisecond // the client's poll period
	soon     = 500 * time.Millisecond // the wrapper polls ten times a second
	twice    = soon + pollTime
)

// byClient is each action in each phase.
func byClient() (list []scenario) {
	for _, p := range phases {
		for _, a := range actions {
			list = append(list, scenario{name: p.name + ", " + a.name, run: func(t *testing.T) { atPhase(t, p, a) }})
		}
	}
	return list
}

func atPhase(t *testing.T, p phase, a action) {
	o := order{slowBuild: p.name == "build", wait: p.name == "run" || p.name == "paused"}
	if !p.late() {
		o.code = 3
	}
	switch a.name {
	case clientDies:
		o.ownClient = true
	case heartbeatsStop:
		o.silent = true
	}
	if a.ending == isReset {
		o.release = 8 // 8.2.8; later clients remove the containers of a project that is reset
	}
	s := newTrial(t, o)
	letGo := s.reach(p)
	a.do(s)
	if a.ending == goesOn {
		letGo()
		s.goOn()
		s.finished(s.wait(time.Minute))
		return
	}
	heard := a.heard
	if o.silent {
		heard -= time.Since(s.began)
	}
	s.goneWithin(heard) // the engine doesn't answer until then
	letGo()
	r := s.wait(20 * time.Second)
	if o.slowBuild {
		if s.podman() { // its builder runs the step to its end
			s.goOn()
		}
		eventually(t, "the build to end in the engine", func() bool { return len(s.builds()) == 0 })
	}
	finished := r.FinishCode >= 0
	switch {
	case finished && p.late() && a.ending != killed:
		s.finished(r)
	case a.ending == leaves, a.ending == isReset:
		s.left(r)
	case a.ending == killed && (r.Signal != "killed" || finished),
		a.ending == aborts && (r.ExitCode != boincapi.ExitAbortedByClient || finished):
		t.Errorf("got %+v", r)
	}
	switch a.ending {
	case aborts:
		s.nothingLeft()
		s.wipe()
	case isReset:
		s.wipe()
		next := newTrial(t, order{release: o.release, dir: s.c.DataDir()})
		next.start()
		next.finished(next.wait(time.Minute))
		s.nothingLeft()
	default:
		if !finished {
			s.toItsEnd()
		}
	}
}

// order describes a trial's job.
type order struct {
	code      int    // the job's exit code
	slowBuild bool   // a step of its build ends only after goOn
	wait      bool   // its program ends only after goOn
	ownClient bool   // the client is a separate process, which can end
	silent    bool   // the client reports no process number and sends no heartbeats
	release   int    // the client is version 8.2.release; 0 means 15
	dir       string // data directory; "" means a new one
	config    string // more lines for job.toml
	crashed   bool   // the engine may leave a build's container behind
	untagged  bool   // the image's names have been removed
	began     int    // how often the program may start; 0 means once
	args      string // the worker's steps after append=began; "" means the usual ones
	socket    string // of the engine; "" means that of DOCKER_HOST

	ownService string // directory of the program podman, by which the wrapper starts its own service; "" means an engine answers
}

// trial is one job with a fault.
type trial struct {
	*testing.T
	o      order
	id     string // the value of labelTrial
	args   []string
	c      *boinctest.Client
	gate   *enginetest.Gate
	engine *http.Client // to the engine, not through the gate
	p      *boinctest.Process
	began  time.Time // start of p
	client *exec.Cmd // with ownClient

	oomKills int64 // by the kernel before the trial

	freeing sync.WaitGroup // goroutines that let slow builds continue
}

var trials struct {
	sync.Mutex
	n int
}

func newTrial(t *testing.T, o order) *trial {
	t.Helper()
	trials.Lock()
	trials.n++
	s := &trial{T: t, o: o, oomKills: host.OOMKills(), id: fmt.Sprintf("trial_%d_%d", os.Getpid(), trials.n)}
	trials.Unlock()
	if s.o.socket == "" {
		s.o.socket = socketOf(os.Getenv("DOCKER_HOST"))
	}
	if s.o.dir == "" {
		s.o.dir = t.TempDir()
	}
	var err error
	if s.gate, err = enginetest.NewGate(s.o.socket); err != nil {
		t.Fatal(err)
	}
	s.engine = askerOf(s.o.socket)
	t.Cleanup(s.close)
	co := boinctest.Options{Dir: s.o.dir, Poll: pollTime, NoHeartbeat: o.silent, Env: []string{"DOCKER_HOST=" + s.gate.Host()}}
	if o.ownService != "" {
		co.Env = []string{"DOCKER_HOST=", "XDG_RUNTIME_DIR=" + o.ownService, "PATH=" + o.ownService + ":" + os.Getenv("PATH")}
	}
	if o.ownClient {
		s.client = exec.Command("sleep", "300")
		if err := s.client.Start(); err != nil {
			t.Fatal(err)
		}
		co.ClientPID = s.client.Process.Pid
	}
	co.Init = func(d *boincapi.InitData) {
		d.AppName, d.PlanClass, d.WUName, d.ResultName = "faults", "docker", s.id, s.id+"_0"
		d.RscDiskBound, d.NCPUs = 4<<30, 1
		d.HostInfo.DockerVersion, d.HostInfo.DockerType = "20.10", boincapi.Docker
		if o.silent {
			d.ClientPID = 0
		}
		if o.release != 0 {
			d.Release = o.release
		}
	}
	if s.c, err = boinctest.New(co); err != nil {
		t.Fatal(err)
	}
	step := ""
	if o.slowBuild {
		step = "ENV ARGS=wait=go_on TRIAL=" + s.id + "\nRUN [\"/worker\"]\n"
	}
	// The first step has a file: of a step without files Podman forgets the images that are based on it, and keeps it.
	add(t, s.c, "Dockerfile", fmt.Appendf(nil, "FROM scratch\nCOPY trial worker /\nLABEL %s=%s %s=%q\n%sENTRYPOINT [\"/worker\"]\n", labelTrial, s.id, labelRun, os.Getenv("FAULTS_RUN"), step))
	add(t, s.c, "trial", []byte(s.id))
	add(t, s.c, "worker", []byte(read(t, binary(t, "worker"))))
	add(t, s.c, "in", []byte(trialInput))
	// No checkpoints through the engine: these tests change files in the payload, and checkpoints have their own tests.
	add(t, s.c, "job.toml", []byte(`slot_dir_mount = "/slot"
checkpoint.method = "none"
copy_to_container = [{src = "in", dst = "/copied/in"}]
copy_from_container = [{src = "/made/out", dst = "out"}]
network = "none"
build_args = "--network none"
`+fmt.Sprintf("create_args = [\"--label\", \"%s=%s\", \"--label\", \"%s=%s\"]\n", labelTrial, s.id, labelRun, os.Getenv("FAULTS_RUN"))+o.config)) // Podman's containers don't inherit the image's labels
	args := "append=began "
	switch {
	case o.args != "":
		args += o.args
	case o.wait:
		args += "wait=go_on "
		fallthrough
	default:
		args += fmt.Sprintf("copy=/copied/in:/made/out write=result exit=%d", o.code)
	}
	s.args = strings.Fields(args)
	return s
}

func socketOf(host string) string {
	if socket, ok := strings.CutPrefix(host, "unix://"); ok {
		return socket
	}
	return "/var/run/docker.sock"
}

// close removes everything of the trial from the engine.
func (s *trial) close() {
	s.freeing.Wait()
	if s.c != nil {
		if s.Failed() {
			s.Logf("stderr.txt of %s:\n%s", s.id, mayRead(filepath.Join(s.c.Slot(), boincapi.StderrFile)))
		}
		if s.p != nil {
			s.p.Wait() // it ends with the test's context
		}
		s.c.Close()
	}
	s.endClient()
	s.gate.Close()
	for _, c := range s.containers() {
		s.tell(http.MethodDelete, "/containers/"+c.ID+"?force=1&v=1", nil)
	}
	s.removeImages()
	s.engine.CloseIdleConnections()
}

func (s *trial) start() {
	s.Helper()
	var err error
	s.began = time.Now()
	program, args := binary(s.T, "docker_wrapper"), s.args
	if s.o.ownService != "" { // hide the host's engine
		args = append([]string{"--mount", "sh", "-c", `mount --bind /dev/null /run/docker.sock && exec "$0" "$@"`, program}, args...)
		program = "/usr/bin/unshare"
	}
	if s.p, err = s.c.Start(s.Context(), program, args...); err != nil {
		s.Fatal(err)
	}
}

// goneWithin waits at most limit for the wrapper's end. It reports whether the wrapper has ended.
func (s *trial) goneWithin(limit time.Duration) bool {
	done := make(chan struct{})
	go func(p *boinctest.Process) {
		p.Wait()
		close(done)
	}(s.p)
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// wait returns how the wrapper ended. It fails the test if that takes longer than limit.
func (s *trial) wait(limit time.Duration) boinctest.Result {
	s.Helper()
	if !s.goneWithin(limit) {
		s.Fatalf("the wrapper doesn't end within %v", limit)
	}
	return s.p.Wait()
}

// reach starts the wrapper and waits for the phase. letGo lets the wrapper leave the phase: it releases the held call or
// resumes the job. It doesn't end a wait of the job itself, see goOn.
func (s *trial) reach(p phase) (letGo func()) {
	s.Helper()
	letGo = func() {}
	if p.call != "" {
		h := s.gate.HoldBefore(p.call)
		s.start()
		s.held(h)
		return h.LetGo
	}
	s.start()
	if p.name == "build" {
		eventually(s.T, "the build's container", func() bool { return len(s.builds()) > 0 })
		return letGo
	}
	s.running()
	eventually(s.T, "the engine to know that it runs", func() bool { return s.state() == "running" })
	if p.name == "paused" {
		s.c.Suspend()
		eventually(s.T, "the container to be paused", func() bool { return s.state() == "paused" })
		return func() { s.c.Resume() }
	}
	return letGo
}

// held waits until the call is held.
func (s *trial) held(h *enginetest.Hold) {
	s.Helper()
	select {
	case <-h.Reached():
	case <-time.After(40 * time.Second):
		s.Fatal("the call that should be held didn't come")
	}
}

// running waits until the job's program has started.
func (s *trial) running() {
	s.Helper()
	eventually(s.T, "the job to begin", func() bool { return len(mayRead(s.payload("began"))) > 0 })
}

func (s *trial) payload(name string) string {
	return filepath.Join(s.c.Slot(), job.WrapperDir, "payload", name)
}

// goOn ends the wait of a slow build and of the job's program, now and in later episodes.
func (s *trial) goOn() {
	s.Helper()
	if s.o.wait {
		if err := os.WriteFile(s.payload("go_on"), nil, 0o644); err != nil {
			s.Error(err)
		}
	}
	if s.o.slowBuild {
		s.freeing.Go(func() {
			for s.Context().Err() == nil {
				for _, dir := range s.builds() {
					os.WriteFile(filepath.Join(dir, "root", "go_on"), nil, 0o644) // fails if the build has just ended
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
}

// toItsEnd starts the wrapper again, as the client would, and asserts that the job ends correctly.
func (s *trial) toItsEnd() {
	s.Helper()
	if s.client != nil {
		s.c.SetInitData(func(d *boincapi.InitData) { d.ClientPID = os.Getpid() })
	}
	if s.o.silent {
		s.c.SetInitData(func(d *boincapi.InitData) { d.ClientPID = os.Getpid() })
		s.c.SetHeartbeat(true)
	}
	s.goOn()
	s.start()
	s.finished(s.wait(time.Minute))
}

// left asserts that the wrapper ended so that the client starts the job again at once.
func (s *trial) left(r boinctest.Result) {
	s.Helper()
	if r.ExitCode != 0 || r.FinishCode >= 0 || r.Reason != "" {
		s.Errorf("got %+v, want exit code 0 and neither finish file nor temporary exit", r)
	}
}

// patiently asserts that the job ends correctly, perhaps after up to three temporary exits or restarts. It starts the
// wrapper again at once after each. A temporary exit must have a reason.
func (s *trial) patiently() {
	s.Helper()
	r := s.wait(time.Minute)
	for n := 0; n < 3 && r.FinishCode < 0; n++ {
		if r.ExitCode != 0 || r.Reason == "" && r.Outcome != boinctest.Restart {
			s.Fatalf("got %+v, want a temporary exit with a reason", r)
		}
		s.start()
		r = s.wait(time.Minute)
	}
	s.finished(r)
}

// finished asserts that the job ended correctly: exit code, output, and nothing left behind.
func (s *trial) finished(r boinctest.Result) {
	s.Helper()
	if r.FinishCode != s.o.code || r.ExitCode != s.o.code || r.Reason != "" {
		s.Fatalf("got %+v, want finish and exit code %d", r, s.o.code)
	}
	want := map[string]string{"result": "result\n"}
	most := max(1, s.o.began)
	if n := strings.Count(string(mayRead(filepath.Join(s.c.Slot(), "began"))), "began\n"); n < 1 || n > most {
		s.Errorf("it began %d times, want at least once and at most %d times", n, most)
	}
	if s.o.code == 0 {
		want["out"] = trialInput
	}
	for name, text := range want {
		if got := string(mayRead(filepath.Join(s.c.Slot(), name))); got != text {
			s.Errorf("%s: got %q, want %q", name, got, text)
		}
	}
	cleanSlot(s.T, s.c, os.Getuid())
	s.nothingLeft()
	if got := s.images(map[string][]string{"dangling": {"true"}}); len(got) > 0 && !s.o.untagged && !s.o.crashed {
		s.Errorf("images left in work: %v", got)
	}
}

// nothingLeft asserts that no container is left. It waits, because a cancelled build ends a moment later.
func (s *trial) nothingLeft() {
	s.Helper()
	var left []listed
	ended := func(c listed) bool { return s.o.crashed && c.Labels[job.LabelDataDir] == "" && c.State != "running" }
	if !every(pollTime, 10*time.Second, func() bool { left = slices.DeleteFunc(s.containers(), ended); return len(left) == 0 }) {
		s.Errorf("containers left: %+v", left)
	}
}

// wipe clears the slot, as the client does after a job.
func (s *trial) wipe() {
	s.Helper()
	if err := s.c.Close(); err != nil {
		s.Error(err)
	}
	if err := os.RemoveAll(s.c.Slot()); err != nil {
		s.Error(err)
	}
}

func (s *trial) signal(sig syscall.Signal) {
	s.Helper()
	if err := syscall.Kill(s.p.PID, sig); err != nil {
		s.Fatal(err)
	}
}

// endClient ends the client's process, with ownClient.
func (s *trial) endClient() {
	if s.client != nil && s.client.ProcessState == nil {
		s.client.Process.Kill()
		s.client.Wait()
	}
}

// listed is a container as the engine lists it.
type listed struct {
	ID     string `json:"Id"`
	Names  []string
	State  string
	Labels map[string]string
}

func (s *trial) label() map[string][]string {
	return map[string][]string{"label": {labelTrial + "=" + s.id}}
}

func query(values url.Values, filters map[string][]string) url.Values {
	data, err := json.Marshal(filters)
	if err != nil {
		panic(err)
	}
	values.Set("filters", string(data))
	return values
}

// containers are the trial's containers: the job's and those of builds.
func (s *trial) containers() (list []listed) {
	s.Helper()
	ask(s.T, s.engine, "/containers/json", query(url.Values{"all": {"1"}}, s.label()), &list)
	return list
}

// builds lists the directories in /proc of running build steps. Not every engine lists their containers.
func (s *trial) builds() (dirs []string) {
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		if env := "\x00" + string(mayRead(name)); strings.Contains(env, "\x00TRIAL="+s.id+"\x00") && strings.Contains(env, "\x00ARGS=wait=go_on\x00") {
			dirs = append(dirs, filepath.Dir(name))
		}
	}
	return dirs
}

// podman reports whether the engine is one.
func (s *trial) podman() bool {
	s.Helper()
	kind, _ := s.engineIs()
	return kind == engine.Podman
}

// engineIs returns the engine's kind and major version.
func (s *trial) engineIs() (kind string, major int) {
	s.Helper()
	var v struct {
		Version    string
		Components []struct{ Name string }
	}
	ask(s.T, s.engine, "/version", nil, &v)
	if _, err := fmt.Sscanf(v.Version, "%d.", &major); err != nil {
		s.Fatalf("the engine's version is %q", v.Version)
	}
	if len(v.Components) > 0 && strings.Contains(v.Components[0].Name, "Podman") {
		return engine.Podman, major
	}
	return engine.Docker, major
}

// job is the job's container, the zero value for none.
func (s *trial) job() listed {
	for _, c := range s.containers() {
		if c.Labels[job.LabelDataDir] != "" {
			return c
		}
	}
	return listed{}
}

func (s *trial) state() string { return s.job().State }

// images are the IDs of the trial's images that match the filters.
func (s *trial) images(filters map[string][]string) (ids []string) {
	var list []struct {
		ID string `json:"Id"`
	}
	f := s.label()
	for k, v := range filters {
		f[k] = v
	}
	ask(s.T, s.engine, "/images/json", query(url.Values{}, f), &list)
	for _, i := range list {
		ids = append(ids, i.ID)
	}
	return ids
}

func (s *trial) removeImages() {
	var list []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	ask(s.T, s.engine, "/images/json", query(url.Values{}, s.label()), &list)
	for _, i := range list {
		for _, tag := range i.RepoTags {
			s.tell(http.MethodDelete, "/images/"+tag+"?force=1", nil)
		}
		s.tell(http.MethodDelete, "/images/"+i.ID+"?force=1", nil)
	}
}

// tell makes a call and returns the answer's status, 0 for none.
func (s *trial) tell(method, path string, body io.Reader) (status int) {
	r, err := http.NewRequestWithContext(context.Background(), method, "http://engine"+path, body)
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.engine.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
