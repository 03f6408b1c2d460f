//go:build faults

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// byService are the faults of Podman's service in each phase. One service listens on a socket, another was started by the
// wrapper for itself. Containers keep running without the service.
func byService() (list []scenario) {
	add := func(name string, run func(*testing.T)) { list = append(list, scenario{name: name, run: run}) }
	for _, p := range phases {
		add(p.name+", service killed", func(t *testing.T) { serviceEnds(t, p, syscall.SIGKILL) })
		add(p.name+", service restarted", func(t *testing.T) { serviceEnds(t, p, syscall.SIGTERM) })
	}
	add("run, SIGKILL and service killed", testServiceAndWrapperKilled)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		add(fmt.Sprintf("wrapper's own service, %s", sigName(sig)), func(t *testing.T) { ownServiceLeft(t, sig) })
	}
	add("wrapper's own service killed", testOwnServiceKilled)
	return list
}

func sigName(sig syscall.Signal) string {
	return map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGKILL: "SIGKILL"}[sig]
}

// service is `podman system service`, for the containers of the engine of DOCKER_HOST.
type service struct {
	t      *testing.T
	socket string
	cmd    *exec.Cmd
}

func newService(t *testing.T) *service {
	t.Helper()
	dir, err := os.MkdirTemp("", "svc")
	if err != nil {
		t.Fatal(err)
	}
	e := &service{t: t, socket: filepath.Join(dir, "podman.sock")}
	t.Cleanup(func() {
		if e.cmd != nil {
			e.end(syscall.SIGTERM)
		}
		os.RemoveAll(dir)
	})
	e.start()
	return e
}

func (e *service) start() {
	e.t.Helper()
	words := append(strings.Fields(os.Getenv("FAULTS_PODMAN")), "system", "service", "--time=0", "unix://"+e.socket)
	e.cmd = exec.Command(words[0], words[1:]...)
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	asker := askerOf(e.socket)
	defer asker.CloseIdleConnections()
	if !every(pollTime, 30*time.Second, func() bool {
		resp, err := asker.Get("http://engine/_ping")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}) {
		e.t.Fatal("podman's service doesn't answer")
	}
}

func (e *service) end(sig syscall.Signal) {
	e.t.Helper()
	for _, pid := range services(e.socket) {
		if err := syscall.Kill(pid, sig); err != nil {
			e.t.Error(err)
		}
	}
	e.cmd.Wait() // its exit code doesn't matter
	e.cmd = nil
}

// services lists the processes of Podman services whose command line contains socket.
func services(socket string) (pids []int) {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		dir := filepath.Dir(name)
		if line := string(mayRead(name)); strings.Contains(line, "service\x00") && strings.Contains(line, socket) && string(mayRead(dir+"/comm")) == "podman\n" {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// serviceEnds: when Podman's service ends, its containers keep running.
func serviceEnds(t *testing.T, p phase, sig syscall.Signal) {
	e := newService(t)
	o := order{socket: e.socket, slowBuild: p.name == "build", wait: p.name == "run" || p.name == "paused"}
	if !p.late() {
		o.code = 3
	}
	s := newTrial(t, o)
	letGo := s.reach(p)
	e.end(sig)
	if sig == syscall.SIGKILL {
		letGo()
		s.goneWithin(2 * time.Second)
	}
	e.start()
	letGo()
	s.goOn()
	s.patiently()
}

func testServiceAndWrapperKilled(t *testing.T) {
	e := newService(t)
	s := newTrial(t, order{socket: e.socket, code: 3, wait: true})
	s.reach(phase{name: "run"})
	s.signal(syscall.SIGKILL)
	s.wait(time.Second)
	e.end(syscall.SIGKILL)
	e.start()
	s.toItsEnd()
}

// ownService makes a trial in which no engine answers, but the program podman is installed.
func ownService(t *testing.T) *trial {
	t.Helper()
	dir, err := os.MkdirTemp("", "own")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	script := "#!/bin/sh\nexec " + os.Getenv("FAULTS_PODMAN") + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newTrial(t, order{code: 3, wait: true, ownService: dir})
	return s
}

// served lists the services of this trial's wrapper.
func (s *trial) served() []int { return services(s.o.ownService + "/") }

// ownServiceLeft: however the wrapper ends, its service ends, too, and the container stays.
func ownServiceLeft(t *testing.T, sig syscall.Signal) {
	s := ownService(t)
	s.reach(phase{name: "run"})
	if n := len(s.served()); n != 1 {
		t.Fatalf("%d services, want one", n)
	}
	s.signal(sig)
	s.wait(20 * time.Second)
	eventually(t, "the service to end", func() bool { return len(s.served()) == 0 })
	want := map[syscall.Signal]string{syscall.SIGTERM: "paused", syscall.SIGKILL: "running"}[sig]
	if got := s.state(); got != want {
		t.Errorf("the container is %q, want %s", got, want)
	}
	s.toItsEnd()
	eventually(t, "the service to end", func() bool { return len(s.served()) == 0 })
}

// testOwnServiceKilled: a killed service is started again.
func testOwnServiceKilled(t *testing.T) {
	s := ownService(t)
	s.reach(phase{name: "run"})
	for _, pid := range s.served() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	s.goneWithin(2 * time.Second)
	s.goOn()
	s.patiently()
}
