//go:build integration

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

var exitRows = []contractRow{
	{fact: "exit: the program's own code", check: func(t *testing.T, k *contract) {
		for _, code := range []int{0, 1, 3, 126, 127, 137, 143, 255} {
			if got := k.do(t, k.job(fmt.Sprintf("exit=%d", code))).exit; got.Code != code || got.OOMKilled && !k.e.Info.OOMUnsaid() || got.Gone || got.Lost {
				t.Errorf("got %+v, want %d", got, code)
			}
		}
	}},
	{fact: "exit: 128 and the signal, where there is an init process", check: func(t *testing.T, k *contract) {
		for _, signal := range []int{1, 2, 9, 15} {
			j := k.job(fmt.Sprintf("kill=%d", signal), "exit=7")
			c := k.start(t, j)
			want := 128 + signal
			if init := k.inspect(t, c).HostConfig.Init; init == nil || !*init {
				want = 7 // the kernel keeps such signals from process 1
				if signal != 9 {
					want = 2 // and Go's runtime, which would have ended by them, says so
				}
			}
			if got := k.wait(t, c); got.Code != want || got.OOMKilled && !k.e.Info.OOMUnsaid() {
				t.Errorf("signal %d: got %+v, want %d", signal, got, want)
			}
		}
	}},
	{fact: "exit: a program that is killed, but not for memory, has not run out of memory", check: func(t *testing.T, k *contract) {
		for try := 1; ; try++ { // another process of this host may be killed for memory meanwhile
			j := k.job("exit=137")
			j.Container.Limits.Memory = 32 << 20
			got := k.do(t, j).exit
			if got.Code == 137 && !got.OOMKilled {
				return
			}
			if try == 5 {
				t.Fatalf("got %+v five times, want 137 and not OOMKilled", got)
			}
		}
	}},
	{fact: "exit: the program needs more memory than its limit", check: func(t *testing.T, k *contract) {
		j := k.job("sleep=500ms", "eat=200000000", "out=survived") // Docker 20.10 may miss the kernel's word of what ends while it is being started
		j.Container.Limits.Memory = 32 << 20
		if got := k.do(t, j); !k.e.Info.LimitsMemory() {
			if got.exit.Code != 0 || got.out != "survived\n" {
				t.Errorf("got %+v, want no limit", got)
			}
		} else if got.exit.Code != 137 || !got.exit.OOMKilled || got.out != "" {
			t.Errorf("got %+v, want 137 and OOMKilled", got)
		}
	}},
	{fact: "exit: only a child needs more memory", check: func(t *testing.T, k *contract) {
		j := k.job("child=eat=200000000", "exit=5")
		j.Container.Limits.Memory = 32 << 20
		if got := k.do(t, j); got.exit.Code != 5 || strings.Contains(got.errOut, "killed") != k.e.Info.LimitsMemory() {
			t.Errorf("got %+v, want 5", got)
		}
	}},
	{fact: "exit: its times", check: func(t *testing.T, k *contract) {
		before := time.Now()
		got := k.do(t, k.job("sleep=300ms")).exit
		const clocks = 100 * time.Millisecond // an engine in a virtual machine has its own; a start is noted a little late
		if got.StartedAt.Before(before.Add(-clocks)) || got.FinishedAt.After(time.Now().Add(clocks)) ||
			got.FinishedAt.Sub(got.StartedAt) < 300*time.Millisecond-clocks {
			t.Errorf("got %v to %v; asked at %v", got.StartedAt, got.FinishedAt, before)
		}
	}},
	{fact: "exit: while it runs there is none", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		if got, err := c.Exit(t.Context()); err == nil {
			t.Errorf("got %+v, want an error", got)
		}
	}},
	{fact: "wait: begun after the end", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("exit=3"))
		k.wait(t, c)
		k.within(t, 3*time.Second, func() {
			if got := k.wait(t, c); got.Code != 3 || got.FinishedAt.IsZero() {
				t.Errorf("got %+v, want 3", got)
			}
		})
	}},
	{fact: "wait: goes on while it is paused", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("trap=5", "write=/ready:", "sleep=1m"))
		exited := c.Wait(t.Context())
		for range 3 {
			k.pause(t, c)
			select {
			case exit := <-exited:
				t.Fatalf("paused, it gave %+v", exit)
			default:
			}
			k.must(t, c.Unpause(t.Context()))
		}
		k.must(t, c.Kill(t.Context()))
		k.must(t, c.Kill(t.Context()))
		if got := <-exited; got.Code != 137 {
			t.Errorf("got %+v, want 137", got)
		}
	}},
	{fact: "wait: cancelled, it gives nothing and leaves nothing", alone: true, check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		ctx, cancel := context.WithCancel(t.Context())
		exited := c.Wait(ctx)
		k.eventually(t, "somebody waits", func() bool { return waiting() > 0 })
		cancel()
		k.eventually(t, "nobody waits", func() bool { return waiting() == 0 })
		select {
		case exit, ok := <-exited:
			t.Errorf("got %+v, %v, want nothing", exit, ok)
		default:
		}
	}},
	{fact: "wait: somebody else removes it", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		exited := c.Wait(t.Context())
		k.must(t, k.api.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true}))
		// Between its kill and its removal it may be seen to have ended: that is an exit too.
		if got := <-exited; !got.Gone && got.Code != 137 {
			t.Errorf("got %+v, want Gone", got)
		}
		if got := k.wait(t, c); !got.Gone {
			t.Errorf("asked again: got %+v, want Gone", got)
		}
	}},
	{fact: "exit: by its own signal is its own", check: func(t *testing.T, k *contract) {
		for _, how := range []string{"kill=9", "kill=15", "exit=137", "exit=143", "exit=255"} {
			if got := k.do(t, k.job(how, "exit=7")).exit; got.Outside && !(k.e.Info.StopUnsaid() && got.Code == 143) {
				t.Errorf("%s: got %+v, want not from outside", how, got)
			}
		}
	}},
	{fact: "exit: stopped or killed by somebody else", check: func(t *testing.T, k *contract) {
		grace := 5
		stop := func(c *engine.Container) error {
			return k.api.ContainerStop(t.Context(), c.ID, container.StopOptions{Timeout: &grace})
		}
		for _, x := range []struct {
			name string
			do   func(*engine.Container) error
		}{
			{"stopped", stop},
			{"killed", func(c *engine.Container) error { return k.api.ContainerKill(t.Context(), c.ID, "SIGKILL") }},
			{"stopped while paused", func(c *engine.Container) error {
				k.pause(t, c)
				k.must(t, c.Unpause(t.Context()))
				return stop(c)
			}},
		} {
			codes := []int{0, 5} // it is polite
			if k.e.Info.StopUnsaid() && x.name != "killed" {
				codes = []int{143}
			}
			for _, code := range codes {
				c := k.ready(t, k.job(fmt.Sprintf("trap=%d", code), "write=/ready:", "sleep=1m"))
				exited := c.Wait(t.Context())
				k.must(t, x.do(c))
				if got := <-exited; !got.Outside {
					t.Errorf("%s: got %+v, want from outside", x.name, got)
				}
				again, err := c.Exit(t.Context())
				if k.must(t, err); !again.Outside {
					t.Errorf("%s: asked again: got %+v, want from outside", x.name, again)
				}
			}
		}
	}},
	{fact: "exit: a signal that was outlived is not its cause", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("write=/ready:", "await=/go", "sleep=4s", "exit=5"))
		k.must(t, k.api.ContainerKill(t.Context(), c.ID, "SIGURG")) // ignored unless asked for
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: slotWith(t, "go", nil, 0o644), Src: "go", Dst: "/go"}}))
		if got := k.wait(t, c); got.Code != 5 || got.Outside {
			t.Errorf("got %+v, want 5, and not from outside", got)
		}
	}},
	{fact: "exit: the signal that asks for checkpoints is not its cause", check: func(t *testing.T, k *contract) {
		for _, signal := range []string{"SIGUSR1", "SIGURG", "SIGTERM"} {
			j := k.job("trap=5", "write=/ready:", "sleep=1m")
			j.Container.AskSignal = signal
			c := k.ready(t, j)
			exited := c.Wait(t.Context())
			k.must(t, c.Signal(t.Context(), signal))
			if signal == "SIGURG" { // ignored unless asked for
				k.must(t, c.Kill(t.Context()))
			}
			exit := <-exited
			want := map[string]int{"SIGUSR1": 5, "SIGURG": 137, "SIGTERM": 5}[signal]
			if exit.Code != want || exit.Outside != (signal == "SIGURG") {
				t.Errorf("%s: got %+v, want %d", signal, exit, want)
			}
			k.must(t, c.Signal(t.Context(), signal)) // nobody is there any more
			k.mustRemove(t, c)
		}
	}},
	{fact: "keep: what somebody else has done is undone", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		for _, paused := range []bool{false, true, true, false} {
			now := k.paused(t, c)
			changed, err := c.Keep(t.Context(), paused)
			if k.must(t, err); changed != (now != paused) {
				t.Errorf("keep paused=%t of paused=%t: got changed=%t", paused, now, changed)
			}
			if got := k.paused(t, c); got != paused {
				t.Errorf("got paused=%t, want %t", got, paused)
			}
		}
		k.must(t, c.Kill(t.Context()))
		if changed, err := c.Keep(t.Context(), true); changed || err != nil {
			t.Errorf("of one that has ended: got %t, %v", changed, err)
		}
	}},
	{fact: "connect: parted from its network and joined again", check: func(t *testing.T, k *contract) {
		j := k.job("sleep=1m")
		j.Container.Network = "bridge"
		c := k.start(t, j)
		for _, on := range []bool{true, false, false, true, true, false, true} {
			k.must(t, c.Connect(t.Context(), "bridge", on))
			if _, got := k.inspect(t, c).NetworkSettings.Networks[k.e.Info.Bridge()]; got != on {
				t.Errorf("got joined=%t, want %t", got, on)
			}
		}
		k.pause(t, c)
		k.must(t, c.Connect(t.Context(), "bridge", false))
		k.must(t, c.Unpause(t.Context()))
		k.must(t, c.Connect(t.Context(), "bridge", true))
		k.must(t, c.Kill(t.Context()))
		k.must(t, c.Connect(t.Context(), "bridge", false))
	}},
	{fact: "wait: restarted, it ends again", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("exit=3"))
		first := k.wait(t, c)
		k.must(t, c.Start(t.Context()))
		if got := k.wait(t, c); got.Code != 3 || !got.StartedAt.After(first.StartedAt) {
			t.Errorf("got %+v after %+v", got, first)
		}
	}},

	{fact: "usage: CPU time is what was burnt", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("burn=3s", "cpu", "write=/ready:", "sleep=1m"))
		u, err := c.Usage(t.Context())
		k.must(t, err)
		k.must(t, c.Kill(t.Context()))
		said, err := strconv.ParseInt(strings.TrimSpace(k.finish(t, c).out), 10, 64)
		k.must(t, err)
		if want := time.Duration(said); u.CPU < want*95/100 || u.CPU > want*105/100 {
			t.Errorf("got %v, want %v", u.CPU, want)
		}
	}},
	{fact: "usage: CPU time never goes back", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("burn=1h"))
		var last job.Usage
		k.eventually(t, "half a second is burnt", func() bool {
			u, err := c.Usage(t.Context())
			k.must(t, err)
			if u.CPU < last.CPU {
				t.Errorf("got %v after %v", u.CPU, last.CPU)
			}
			last = u
			return u.CPU > 500*time.Millisecond
		})
	}},
	{fact: "usage: memory is what is resident, not the page cache", check: func(t *testing.T, k *contract) {
		j := k.job("fill=/file:100000000", "read=/file", "read=/file", "write=/ready:", "await=/go", "eat=60000000", "write=/eaten:", "sleep=1m")
		c := k.ready(t, j)
		u, err := c.Usage(t.Context())
		k.must(t, err)
		if u.Memory <= 0 || u.Memory > 30<<20 {
			t.Errorf("with 100 MB in the page cache: got %d bytes, want few", u.Memory)
		}
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: slotWith(t, "go", nil, 0o644), Src: "go", Dst: "/go"}}))
		k.eventually(t, "it has eaten", func() bool { _, err := c.ReadFile(t.Context(), "/eaten", 1); return err == nil })
		more, err := c.Usage(t.Context())
		k.must(t, err)
		if grown := more.Memory - u.Memory; grown < 55e6 || grown > 70e6 {
			t.Errorf("60 MB more: grown by %d", grown)
		}
	}},
	{fact: "usage: none after the end", check: func(t *testing.T, k *contract) {
		c := k.create(t, k.job("exit=0"))
		for _, state := range []string{"created", "exited"} {
			if u, err := c.Usage(t.Context()); !errors.Is(err, engine.ErrNotRunning) {
				t.Errorf("%s: got %+v, %v, want ErrNotRunning", state, u, err)
			}
			k.must(t, c.Start(t.Context()))
			k.wait(t, c)
		}
		k.mustRemove(t, c)
		if u, err := c.Usage(t.Context()); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("removed: got %+v, %v, want ErrNotFound", u, err)
		}
	}},
}

// waiting counts the goroutines of Wait.
func waiting() int {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	return bytes.Count(buf, []byte("engine.(*Container).Wait.func")) + bytes.Count(buf, []byte("client.(*Client).ContainerWait.func"))
}
