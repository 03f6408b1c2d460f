//go:build unix

package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/gofrs/flock"
	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// While another job makes the trial this one waits. What that finds out holds here, too; who is called away meanwhile
// knows nothing, and doesn't go without checkpoints for that.
func TestTrialIsWaitedFor(t *testing.T) {
	fake, err := enginetest.New(enginetest.Options{Podman: true, Version: "5.8.6"})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	e, err := engine.Open(t.Context(), engine.Options{Host: fake.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	newKeeper := func(dir string) *Keeper {
		j := &job.Job{Checkpoint: job.Checkpoint{Method: job.IfAny}}
		return &Keeper{o: Options{Dir: dir, Job: j, Init: &boincapi.InitData{BoincDir: dir}}, engine: e, log: zerolog.Nop()}
	}
	for _, tt := range []struct {
		name  string
		said  string // by the other
		can   bool
		tried bool
	}{
		{name: "it can", can: true, tried: true},
		{name: "it can't", said: "no CRIU", tried: true},
		{name: "called away", said: "?", can: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "projects", trialsFile)
			if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			l := flock.New(name + ".lock")
			if err := l.Lock(); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			synctest.Test(t, func(t *testing.T) {
				k := newKeeper(dir)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				able := make(chan bool)
				go func() { able <- k.able(ctx) }()
				synctest.Wait() // until it waits for the lock
				if tt.said == "?" {
					cancel()
				} else {
					notes := trialNotes{Boot: host.BootID(), Said: map[string]string{k.trialKey(): tt.said}}
					if err := errors.Join(writeJSON(name, notes), l.Close()); err != nil {
						t.Error(err)
					}
				}
				if got := <-able; got != tt.can || k.ability.known != tt.tried {
					t.Errorf("got %v, found out: %v; want %v, %v", got, k.ability.known, tt.can, tt.tried)
				}
			})
			if n := fake.Count("create"); n > 0 {
				t.Errorf("%d containers were made", n)
			}
		})
	}
}

// What trials with other engines, and other versions, have found out says nothing of this one.
func TestTried(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "projects"), 0o755); err != nil {
		t.Fatal(err)
	}
	i := engine.Info{Kind: engine.Podman, Version: "5.8.6", Host: "unix:///a"}
	other := i
	other.Host = "unix:///b"
	notes := trialNotes{Boot: host.BootID(), Said: map[string]string{trialsOf(i, "1") + "bridge auto": "no CRIU", trialsOf(i, "2") + "bridge auto": "", trialsOf(other, "1") + "bridge auto": ""}}
	if err := writeJSON(filepath.Join(dir, "projects", trialsFile), notes); err != nil {
		t.Fatal(err)
	}
	if got := Tried(dir, i, "1"); len(got) != 1 || got["bridge auto"] != "no CRIU" {
		t.Errorf("got %v, want that of this engine and version", got)
	}
}
