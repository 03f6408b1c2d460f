//go:build faults

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi/boinctest"
)

// byEngine are the faults of the engine in each phase. The scenarios of one action run one after the other on the same
// engine of their own.
func byEngine() (list []scenario) {
	for _, a := range []struct {
		name string
		live bool
		run  func(*trial, *ownEngine, func())
	}{
		{"engine killed", false, func(s *trial, e *ownEngine, letGo func()) {
			e.end(syscall.SIGKILL)
			letGo()
			s.goneWithin(2 * time.Second)
			e.start()
		}},
		{"engine stopped", false, func(s *trial, e *ownEngine, letGo func()) {
			e.end(syscall.SIGTERM)
			letGo()
			s.c.Quit()
			s.goneWithin(20 * time.Second)
			e.start()
		}},
		{"engine restarted", false, func(s *trial, e *ownEngine, letGo func()) {
			e.end(syscall.SIGTERM)
			e.start()
			letGo()
		}},
		{"engine restarted live", true, func(s *trial, e *ownEngine, letGo func()) {
			e.end(syscall.SIGTERM)
			e.start()
			letGo()
		}},
	} {
		add := func(name string, run func(*testing.T, *ownEngine)) {
			list = append(list, scenario{name: name, engine: &engineOrder{a.name, a.live, ""}, onEngine: run})
		}
		for _, p := range phases {
			add(p.name+", "+a.name, func(t *testing.T, e *ownEngine) { engineEnds(t, e, p, a.run) })
		}
		if a.name == "engine restarted" || a.live {
			add("run, SIGKILL and "+a.name, killedAndRestarted)
		}
	}
	for _, p := range phases[:3] {
		list = append(list, scenario{name: p.name + ", engine's disk full", engine: &engineOrder{"engine's disk full", false, "size=32m"},
			onEngine: func(t *testing.T, e *ownEngine) { engineFull(t, e, p) }})
	}
	return list
}

// engineEnds: when the engine ends, the job goes on afterwards.
func engineEnds(t *testing.T, e *ownEngine, p phase, action func(*trial, *ownEngine, func())) {
	o := order{socket: e.socket, crashed: true, slowBuild: p.name == "build", wait: p.name == "run" || p.name == "paused", began: 2}
	if e.live {
		o.began = 1
	}
	if !p.late() {
		o.code = 3
	}
	s := newTrial(t, o)
	action(s, e, s.reach(p))
	s.goOn()
	s.patiently()
}

// killedAndRestarted: the wrapper is killed and the engine restarted at the same time.
func killedAndRestarted(t *testing.T, e *ownEngine) {
	o := order{socket: e.socket, crashed: true, code: 3, wait: true, began: 2}
	if e.live {
		o.began = 1
	}
	s := newTrial(t, o)
	s.reach(phase{name: "run"})
	s.signal(syscall.SIGKILL)
	s.wait(time.Second)
	e.end(syscall.SIGTERM)
	e.start()
	s.toItsEnd()
}

// engineFull: the engine's disk is full, and the job waits until there is room.
func engineFull(t *testing.T, e *ownEngine, p phase) {
	s := newTrial(t, order{socket: e.socket, code: 3})
	letGo := func() {}
	big := filepath.Join(e.data(), "big")
	if p.call == "" {
		fillUp(t, big)
		s.start()
	} else {
		letGo = s.reach(p)
		fillUp(t, big)
	}
	letGo()
	r := s.wait(time.Minute)
	if r.Outcome != boinctest.TemporaryExit || !strings.Contains(r.Reason, "full") {
		t.Errorf("got %+v, want a temporary exit that says what is full", r)
	}
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	s.toItsEnd()
}

// engineOrder describes a test's own engine.
type engineOrder struct {
	name string
	live bool   // its containers keep running while it is down (live-restore)
	disk string // mount options of a small file system for its data; "" for the host's disk
}

// ownEngine is dockerd with its own containerd, which keeps running when dockerd ends, as on most hosts.
type ownEngine struct {
	engineOrder
	t          *testing.T
	dir        string
	socket     string
	asker      *http.Client
	containerd *exec.Cmd
	dockerd    *exec.Cmd // nil while it is down
}

func newEngine(t *testing.T, o engineOrder) *ownEngine {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv("FAULTS_ENGINES"), "")
	if err != nil {
		t.Fatal(err)
	}
	e := &ownEngine{engineOrder: o, t: t, dir: dir, socket: filepath.Join(dir, "docker.sock")}
	e.asker = askerOf(e.socket)
	t.Cleanup(e.close)
	if o.disk != "" {
		mountAt(t, e.data(), o.disk)
	}
	config := filepath.Join(dir, "containerd.toml")
	if err := os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e.containerd = e.run("containerd", "--config", config, "--root", dir+"/containerd", "--state", dir+"/state", "--address", dir+"/containerd.sock")
	eventually(t, "containerd", func() bool { _, err := os.Stat(dir + "/containerd.sock"); return err == nil })
	e.start()
	return e
}

func (e *ownEngine) data() string { return filepath.Join(e.dir, "data") }

// run starts a program. Its output goes to NAME.log.
func (e *ownEngine) run(name string, args ...string) *exec.Cmd {
	e.t.Helper()
	log, err := os.OpenFile(filepath.Join(e.dir, name+".log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	// A new session, so that an interrupt at the keyboard ends only the test. A new network namespace, because a daemon
	// without a bridge removes docker0, which may be another engine's.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	// For scripts/faults.sh, if this test is interrupted.
	if err := os.WriteFile(filepath.Join(e.dir, name+".pid"), fmt.Append(nil, cmd.Process.Pid), 0o644); err != nil {
		e.t.Fatal(err)
	}
	return cmd
}

func (e *ownEngine) start() {
	e.t.Helper()
	config := filepath.Join(e.dir, "daemon.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, "{\"live-restore\": %v}\n", e.live), 0o644); err != nil {
		e.t.Fatal(err)
	}
	e.dockerd = e.run("dockerd", "--config-file", config, "--data-root", e.data(), "--exec-root", e.dir+"/exec", "--pidfile", e.dir+"/pid",
		"-H", "unix://"+e.socket, "--containerd", e.dir+"/containerd.sock", "--bridge=none", "--iptables=false", "--ip-forward=false")
	up := every(pollTime, 60*time.Second, func() bool {
		resp, err := e.asker.Get("http://engine/_ping")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if !up {
		e.t.Fatalf("dockerd doesn't answer:\n%s", mayRead(filepath.Join(e.dir, "dockerd.log")))
	}
}

// end ends dockerd, which may stop its containers first.
func (e *ownEngine) end(sig syscall.Signal) {
	e.t.Helper()
	if err := e.dockerd.Process.Signal(sig); err != nil {
		e.t.Fatal(err)
	}
	e.dockerd.Wait() // its exit code doesn't matter
	e.dockerd = nil
}

// close ends the processes and unmounts file systems. Each trial has removed its containers.
func (e *ownEngine) close() {
	if e.dockerd != nil {
		e.end(syscall.SIGTERM)
	}
	if e.containerd != nil {
		e.containerd.Process.Signal(syscall.SIGTERM)
		e.containerd.Wait()
	}
	mounts := strings.Split(string(mayRead("/proc/self/mounts")), "\n")
	for _, m := range slices.Backward(mounts) {
		if f := strings.Fields(m); len(f) > 1 && strings.HasPrefix(f[1], e.dir+"/") {
			syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	if err := os.RemoveAll(e.dir); err != nil {
		e.t.Error(err)
	}
}
