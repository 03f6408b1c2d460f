//go:build integration

package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/versions"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// restorable is a job whose containers may be checkpointed.
func (k *contract) restorable(args ...string) *job.Job {
	j := k.job(args...)
	j.Checkpoint.Method, j.Container.Extra.ReadOnly = job.ByEngine, true
	return j
}

// checkpoints reports whether this engine can, by its own word and version: CRIU is there beside the newer ones
// of scripts/engines.sh.
func (k *contract) checkpoints(t *testing.T) bool {
	t.Helper()
	if k.e.Info.Kind == engine.Podman {
		return !k.e.Info.Rootless && !versions.LessThan(k.e.Info.Version, "5")
	}
	ping, err := k.api.Ping(t.Context())
	k.must(t, err)
	return ping.Experimental
}

// saved makes a checkpoint of a container and lets it go on.
func (k *contract) saved(t *testing.T, c *engine.Container) (dir string) {
	t.Helper()
	dir = t.TempDir()
	k.must(t, c.Hold(t.Context()))
	k.must(t, c.Checkpoint(t.Context(), dir, 0))
	k.must(t, c.Release(t.Context()))
	return dir
}

// heard is output that is read while more of it comes.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// lines are the numbers that the payload's count has printed.
func lines(text string) (numbers []int) {
	for line := range strings.Lines(text) {
		n := -1
		fmt.Sscanf(line, "line %d\n", &n)
		numbers = append(numbers, n)
	}
	return numbers
}

var checkpointRows = []contractRow{
	{fact: "checkpoint: a trial tells whether it works here", check: func(t *testing.T, k *contract) {
		j, program, dir := k.restorable(), k.wrapper(t), t.TempDir()
		err := k.e.CanCheckpoint(j)
		if err == nil {
			err = k.e.TryCheckpoint(t.Context(), j, program, dir)
		}
		if want := k.checkpoints(t); (err == nil) != want {
			t.Errorf("got %v, want it to work: %v", err, want)
		}
		t.Logf("it says: %v", err)
	}},
	{fact: "checkpoint: the program goes on where it was", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "file", nil, 0o666)
		j := k.restorable("count=100000,20ms")
		j.Container.Mounts = []job.Mount{{Source: dir, Target: "/slot"}}
		c := k.start(t, j)
		var early heard
		logs := c.Logs(t.Context(), time.Time{}, &early, &early)
		defer logs.Stop()
		k.eventually(t, "it counts", func() bool {
			at, err := logs.Sync(t.Context())
			return err == nil && !at.IsZero() && len(lines(early.String())) > 10
		})
		save := t.TempDir()
		k.must(t, c.Hold(t.Context()))
		if err := c.Checkpoint(t.Context(), save, 0); (err == nil) != k.checkpoints(t) {
			t.Fatalf("got %v, want it to work: %v", err, !k.checkpoints(t))
		} else if err != nil {
			k.must(t, c.Release(t.Context()))
			k.goesOn(t, c)
			return
		}
		last, err := logs.Sync(t.Context())
		k.must(t, err)
		at := lines(early.String())
		k.must(t, c.Release(t.Context()))
		k.goesOn(t, c)
		logs.Stop()
		k.must(t, c.Kill(t.Context()))
		k.wait(t, c)
		again, since, err := k.e.Restore(t.Context(), j, save)
		k.must(t, err)
		t.Cleanup(func() { k.mustRemove(t, again) })
		if since.IsZero() {
			since = last
		}
		var late heard
		logs = again.Logs(t.Context(), since, &late, &late)
		k.eventually(t, "it goes on", func() bool { _, err := logs.Sync(t.Context()); return err == nil && len(lines(late.String())) > 10 })
		k.pause(t, again)
		_, err = logs.Sync(t.Context())
		k.must(t, err)
		logs.Stop()
		got := append(at, lines(late.String())...)
		for i, n := range got {
			if n != i {
				t.Fatalf("got line %d in the place of line %d: before the checkpoint up to %d, and then %v", n, i, len(at)-1, got[len(at):min(len(at)+5, len(got))])
			}
		}
		if found, err := k.e.Find(t.Context(), j.Container); err != nil || found.ID != again.ID {
			t.Errorf("got %+v, %v, want %s", found, err, again.ID)
		}
	}},
	{fact: "checkpoint: held is still, and ends when it is killed or removed", check: func(t *testing.T, k *contract) {
		clock := k.start(t, k.restorable("count=100000,10ms"))
		for what, end := range map[string]func(*engine.Container) error{
			"kill":   func(c *engine.Container) error { return c.Kill(t.Context()) },
			"remove": func(c *engine.Container) error { return c.Remove(t.Context()) },
		} {
			j := k.restorable("count=100000,10ms")
			c := k.start(t, j)
			k.goesOn(t, c)
			k.must(t, c.Hold(t.Context()))
			before := k.printed(t, c)
			k.goesOn(t, clock) // meanwhile
			if after := k.printed(t, c); after != before {
				t.Errorf("it printed %d lines while it was held", len(lines(after))-len(lines(before)))
			}
			found, err := k.e.Find(t.Context(), j.Container) // as another wrapper would
			k.must(t, err)
			k.within(t, 15*time.Second, func() { k.must(t, end(found)) })
			if exit := k.wait(t, found); !exit.Gone && exit.Code != 137 {
				t.Errorf("%s: got %+v, want 137 or gone", what, exit)
			}
		}
	}},
	{fact: "checkpoint: a paused container can be held, and released it goes on", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.restorable("count=100000,10ms"))
		k.goesOn(t, c)
		k.pause(t, c)
		k.must(t, c.Hold(t.Context()))
		k.must(t, c.Release(t.Context()))
		k.goesOn(t, c)
	}},
	{fact: "checkpoint: no room is an error, and no harm", check: func(t *testing.T, k *contract) {
		if k.e.Info.KeepsCheckpoints() || !k.checkpoints(t) {
			return // nothing is written by us
		}
		c := k.start(t, k.restorable("count=100000,10ms"))
		k.goesOn(t, c)
		k.must(t, c.Hold(t.Context()))
		if err := c.Checkpoint(t.Context(), t.TempDir(), 10_000); err == nil || !strings.Contains(err.Error(), "rsc_disk_bound") {
			t.Errorf("got %v, want that there is no room", err)
		}
		k.must(t, c.Release(t.Context()))
		k.goesOn(t, c)
	}},
	{fact: "checkpoint: what is damaged can't be restored, and stays no problem", check: func(t *testing.T, k *contract) {
		if !k.checkpoints(t) {
			if _, _, err := k.e.Restore(t.Context(), k.restorable(), t.TempDir()); !errors.Is(err, engine.ErrNoRestore) {
				t.Errorf("got %v, want ErrNoRestore", err)
			}
			return
		}
		j := k.restorable("count=100000,10ms")
		c := k.start(t, j)
		k.goesOn(t, c)
		save := k.saved(t, c)
		entries, err := os.ReadDir(save)
		k.must(t, err)
		k.must(t, os.Truncate(filepath.Join(save, entries[0].Name()), 60))
		k.must(t, c.Kill(t.Context()))
		k.wait(t, c)
		if got, _, err := k.e.Restore(t.Context(), j, save); !errors.Is(err, engine.ErrNoRestore) {
			t.Errorf("got %+v, %v, want ErrNoRestore", got, err)
		}
		if found, err := k.e.Find(t.Context(), j.Container); err == nil {
			k.must(t, found.Remove(t.Context()))
		}
		k.goesOn(t, k.start(t, j)) // anew
	}},
	{fact: "checkpoint: the engine keeps only the newest", check: func(t *testing.T, k *contract) {
		if !k.e.Info.KeepsCheckpoints() || !k.checkpoints(t) {
			return // they are files of ours
		}
		c := k.start(t, k.restorable("count=100000,10ms"))
		k.goesOn(t, c)
		k.saved(t, c)
		newest := k.saved(t, c)
		k.must(t, c.KeepCheckpoint(t.Context(), newest))
		if got := k.kept(t, c); got != 1 {
			t.Errorf("got %d checkpoints, want 1", got)
		}
		k.must(t, c.KeepCheckpoint(t.Context(), ""))
		if got := k.kept(t, c); got != 0 {
			t.Errorf("got %d checkpoints, want none", got)
		}
	}},
}

// kept counts the checkpoints that Docker has of a container.
func (k *contract) kept(t *testing.T, c *engine.Container) int {
	t.Helper()
	list, err := k.api.CheckpointList(t.Context(), c.ID, checkpoint.ListOptions{})
	k.must(t, err)
	return len(list)
}

// printed is all that a container has printed.
func (k *contract) printed(t *testing.T, c *engine.Container) string {
	t.Helper()
	var out heard
	logs := c.Logs(t.Context(), time.Time{}, &out, &out)
	defer logs.Stop()
	if _, err := logs.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// goesOn waits until a counting container has printed more.
func (k *contract) goesOn(t *testing.T, c *engine.Container) {
	t.Helper()
	before := len(lines(k.printed(t, c)))
	k.eventually(t, "it counts", func() bool { return len(lines(k.printed(t, c))) > before+2 })
}
