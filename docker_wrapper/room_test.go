package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/job"
)

// A job may fill its bound long before the next checkpoint is due, and the client ends it for what the last one takes.
func TestCheckpointMakesRoom(t *testing.T) {
	w := &wrapper{dir: t.TempDir(), log: zerolog.Nop(), job: &job.Job{}}
	w.job.Slot.Dir, w.job.Container.Limits.Disk = w.dir, 1000
	saved := filepath.Join(w.stateDir(), "checkpoint", "1")
	if err := os.MkdirAll(saved, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(saved, "container"), make([]byte, 500), 0o600); err != nil {
		t.Fatal(err)
	}
	look := roomLook{w: w}
	now := time.Now()
	look.short(now)
	for look.looking.Load() {
		time.Sleep(time.Millisecond)
	}
	if look.short(now) {
		t.Error("got that it is short of room when half of it is left")
	}
	if err := os.WriteFile(filepath.Join(w.dir, "job's"), make([]byte, 450), 0o600); err != nil {
		t.Fatal(err)
	}
	short := look.short(now.Add(roomEach))
	for look.looking.Load() {
		time.Sleep(time.Millisecond)
	}
	if !look.short(now.Add(roomEach)) && !short {
		t.Error("got that there is room when a twentieth of it is left")
	}
	if look.short(now.Add(roomEach)) {
		t.Error("got the same twice")
	}
	if _, err := w.share(); err == nil || exists(saved) {
		t.Errorf("got %v, want the checkpoint dropped", err)
	}
}
