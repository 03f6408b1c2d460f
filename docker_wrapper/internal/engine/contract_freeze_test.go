//go:build integration

package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// Pausing without the engine works, or is refused and nothing is touched, depending on what this process may see
// and do: the processes of a rootless engine of this user's, or of this computer's for root, and not those of an engine in
// another world.
var freezeRows = []contractRow{
	{fact: "freeze: nothing goes on, whatever forks meanwhile", check: func(t *testing.T, k *contract) { k.freezes(t) }},
	{fact: "freeze: killed, stopped, removed", check: func(t *testing.T, k *contract) { k.endsFrozen(t) }},
	{fact: "freeze: a later wrapper finds it paused, and lets it go on", check: func(t *testing.T, k *contract) { k.takesOver(t) }},
	{fact: "freeze: half stopped by a wrapper that was killed", check: func(t *testing.T, k *contract) {
		f := k.freezable(t, "signals")
		if err := f.c.StopFirst(t.Context()); engine.Impossible(err) { // an engine in another world
			f.goesOn(t)
			return
		} else if err != nil {
			t.Fatal(err)
		}
		found, err := k.ungrouped(t).Find(t.Context(), f.job.Container)
		if k.must(t, err); found.State != engine.StatePaused {
			t.Errorf("got %s, want paused", found.State)
		}
		if changed, err := found.Keep(t.Context(), true); err != nil || !changed {
			t.Errorf("kept paused: got changed=%t, %v", changed, err)
		}
		f.stands(t)
		if changed, err := found.Keep(t.Context(), false); err != nil || !changed {
			t.Errorf("kept going: got changed=%t, %v", changed, err)
		}
		f.goesOn(t)
	}},
	{fact: "freeze: usage is of all processes, also of those that have ended", check: func(t *testing.T, k *contract) {
		e := k.ungrouped(t)
		j := k.job("child=burn=1s", "child=child=burn=1s", "burn=500ms", "write=/ready:", "eat=60000000", "write=/eaten:", "sleep=1m")
		c := k.createBy(t, e, j)
		k.must(t, c.Start(t.Context()))
		k.eventually(t, "it has eaten", func() bool { _, err := c.ReadFile(t.Context(), "/eaten", 1); return err == nil })
		u, err := c.Usage(t.Context())
		k.must(t, err)
		if want := 2500 * time.Millisecond; u.CPU < want || u.CPU > want*130/100 {
			t.Errorf("got %v, want %v", u.CPU, want)
		}
		if u.Memory < 58e6 || u.Memory > 80e6 {
			t.Errorf("got %d bytes, want 60 MB", u.Memory)
		}
	}},
	{fact: "freeze: what can't be paused says so, and is stopped or killed", check: func(t *testing.T, k *contract) {
		for _, end := range []struct {
			name string
			do   func(*engine.Container) error
			code int
		}{
			{"stop", func(c *engine.Container) error { return c.Stop(t.Context(), 10*time.Second) }, 5},
			{"kill", func(c *engine.Container) error { return c.Kill(t.Context()) }, 137},
		} {
			c := k.createBy(t, k.ungrouped(t), k.job("trap=5", "write=/ready:", "sleep=1m"))
			k.must(t, c.Start(t.Context()))
			k.eventually(t, "it is ready", func() bool { _, err := c.ReadFile(t.Context(), "/ready", 1); return err == nil })
			c.Descend("nothing")
			if err := c.Pause(t.Context()); !errors.Is(err, job.ErrNoPause) {
				t.Errorf("got %v, want ErrNoPause", err)
			}
			if k.paused(t, c) {
				t.Error("it is paused")
			}
			k.must(t, c.Unpause(t.Context()))
			k.must(t, end.do(c))
			if got := k.wait(t, c); got.Code != end.code {
				t.Errorf("%s: got %+v, want %d", end.name, got, end.code)
			}
		}
	}},
}

var ways = []string{"freezer", "signals"}

// wayOf opens the engine as one that may have to be paused without it.
func (k *contract) ungrouped(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{Host: k.e.Address()})
	k.must(t, err)
	t.Cleanup(func() { e.Close() })
	e.Ungrouped()
	return e
}

func (k *contract) createBy(t *testing.T, e *engine.Engine, j *job.Job) *engine.Container {
	t.Helper()
	c, err := e.Create(t.Context(), j, k.image)
	k.must(t, err)
	t.Cleanup(func() { k.mustRemove(t, c) })
	return c
}

// freezable is a container that is to be paused without its engine. Its processes fork without end, and each
// adds a byte to a file.
type freezable struct {
	k     *contract
	c     *engine.Container
	job   *job.Job
	beats string
}

// freezable starts one. It is nil where it can't be paused in this way; then that is certain not to be for want of trying.
func (k *contract) freezable(t *testing.T, way string, more ...string) *freezable {
	t.Helper()
	dir := t.TempDir()
	k.must(t, os.Chmod(dir, 0o777))
	j := k.job(append(more, "breed=/m/beats", "sleep=10m")...)
	j.Container.Mounts = []job.Mount{{Source: dir, Target: "/m"}}
	j.Container.Env = []string{"CONTRACT_MARK=" + j.Container.Name}
	c := k.createBy(t, k.ungrouped(t), j)
	k.must(t, c.Start(t.Context()))
	f := &freezable{k, c, j, filepath.Join(dir, "beats")}
	f.goesOn(t)
	c.Descend(way)
	return f
}

func (f *freezable) size() int64 {
	fi, err := os.Stat(f.beats)
	if err != nil {
		return 0
	}
	return fi.Size()
}

func (f *freezable) goesOn(t *testing.T) {
	t.Helper()
	before := f.size()
	f.k.eventually(t, "the processes go on", func() bool { return f.size() > before })
}

func (f *freezable) stands(t *testing.T) {
	t.Helper()
	before, until := f.size(), time.Now().Add(300*time.Millisecond)
	f.k.eventually(t, "time passes", func() bool { return time.Now().After(until) })
	if after := f.size(); after != before {
		t.Errorf("%d bytes became %d", before, after)
	}
}

// possible reports whether the container can be paused in this way, as the kernel has it and not the code under test: this
// process sees the container's and may signal it, or write to its control group.
func (f *freezable) possible(t *testing.T, way string) bool {
	t.Helper()
	pid := f.k.inspect(t, f.c).State.Pid
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || !slices.Contains(strings.Split(string(environ), "\x00"), f.job.Container.Env[0]) {
		return false
	}
	if way == "signals" {
		return true
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	f.k.must(t, err)
	for line := range strings.Lines(string(groups)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if !strings.Contains(part[2], f.c.ID) {
			continue
		}
		for _, name := range []string{"/sys/fs/cgroup/freezer" + part[2] + "/freezer.state", "/sys/fs/cgroup" + part[2] + "/cgroup.freeze"} {
			if part[1] != "" && part[1] != "freezer" {
				continue
			}
			if file, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
				file.Close()
				return true
			}
		}
	}
	return false
}

// pause pauses it, and reports whether that was possible.
func (f *freezable) pause(t *testing.T, way string) bool {
	t.Helper()
	err := f.c.Pause(t.Context())
	if f.possible(t, way) {
		f.k.must(t, err)
		return true
	}
	if !engine.Impossible(err) {
		t.Errorf("%s: got %v, want that it is impossible", way, err)
	}
	f.goesOn(t)
	return false
}

func (k *contract) freezes(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			f := k.freezable(t, way)
			for range 3 {
				if !f.pause(t, way) {
					return
				}
				k.pause(t, f.c) // again
				f.stands(t)
				if changed, err := f.c.Keep(t.Context(), true); changed || err != nil {
					t.Errorf("kept paused: got changed=%t, %v", changed, err)
				}
				k.must(t, f.c.Unpause(t.Context()))
				f.goesOn(t)
				k.must(t, f.c.Unpause(t.Context())) // again
			}
		})
	}
}

func (k *contract) endsFrozen(t *testing.T) {
	for _, way := range ways {
		for _, end := range []struct {
			name string
			do   func(*engine.Container) error
			code int
		}{
			{"stop", func(c *engine.Container) error { return c.Stop(t.Context(), 20*time.Second) }, 5},
			{"kill", func(c *engine.Container) error { return c.Kill(t.Context()) }, 137},
			{"remove", func(c *engine.Container) error { return c.Remove(t.Context()) }, -1},
		} {
			t.Run(way+" "+end.name, func(t *testing.T) {
				f := k.freezable(t, way, "trap=5")
				if !f.pause(t, way) {
					return
				}
				exited := f.c.Wait(t.Context())
				k.within(t, 15*time.Second, func() {
					k.must(t, end.do(f.c))
					if got := <-exited; got.Code != end.code && !got.Gone && end.code >= 0 {
						t.Errorf("got %+v, want %d", got, end.code)
					}
				})
				for range 2 { // what has ended is as it is asked to be
					k.pause(t, f.c)
					k.must(t, f.c.Unpause(t.Context()))
				}
			})
		}
	}
}

func (k *contract) takesOver(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			f := k.freezable(t, way)
			if !f.pause(t, way) {
				return
			}
			for _, what := range []string{"goes on", "is removed"} {
				found, err := k.ungrouped(t).Find(t.Context(), f.job.Container)
				if k.must(t, err); found.State != engine.StatePaused {
					t.Fatalf("got %s, want paused", found.State)
				}
				f.stands(t)
				if what == "is removed" {
					k.within(t, 15*time.Second, func() { k.must(t, found.Remove(t.Context())) })
					return
				}
				k.must(t, found.Unpause(t.Context()))
				f.goesOn(t)
				if again, err := k.ungrouped(t).Find(t.Context(), f.job.Container); err != nil || again.State != engine.StateRunning {
					t.Errorf("got %+v, %v, want it running", again, err)
				}
				k.pause(t, f.c)
			}
		})
	}
}
