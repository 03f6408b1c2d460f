package session

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/job"
)

// A job may fill its bound long before the next checkpoint is due, and the client ends it for what the last one takes.
func TestCheckpointMakesRoom(t *testing.T) {
	dir, j := t.TempDir(), &job.Job{}
	j.Slot.Dir, j.Container.Limits.Disk = dir, 1000
	k := &Keeper{o: Options{Dir: dir, Job: j}, log: zerolog.Nop()}
	saved := filepath.Join(k.stateDir(), "checkpoint", "1")
	if err := os.MkdirAll(saved, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(saved, "container"), make([]byte, 500), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		look, now := crowd{k: k}, time.Now()
		look.short(now)
		synctest.Wait() // until it has looked
		if look.short(now) {
			t.Error("got that it is short of room when half of it is left")
		}
		if err := os.WriteFile(filepath.Join(dir, "job's"), make([]byte, 450), 0o600); err != nil {
			t.Fatal(err)
		}
		short := look.short(now.Add(crowdEach))
		synctest.Wait()
		if !look.short(now.Add(crowdEach)) && !short {
			t.Error("got that there is room when a twentieth of it is left")
		}
		if look.short(now.Add(crowdEach)) {
			t.Error("got the same twice")
		}
	})
	if _, err := k.share(); err == nil || exists(saved) {
		t.Errorf("got %v, want the checkpoint dropped", err)
	}
}
