package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
)

// The client's CPU time may be what a container had that is gone. An episode knows the last checkpoint.
func TestCPUTimeOfEarlierEpisodes(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name    string
		episode session.Episode
		want    time.Duration // up to the checkpoint that the job resumes from
	}{
		{"no episode is known", session.Episode{}, 50 * s},
		{"no checkpoint", session.Episode{Container: "abc"}, 0},
		{"a checkpoint", session.Episode{Container: "abc", Checkpoint: job.Mark{At: time.Unix(1, 0), CPU: 30 * s}}, 30 * s},
		{"a checkpoint that the client hasn't written down", session.Episode{Container: "abc", Checkpoint: job.Mark{At: time.Unix(1, 0), CPU: 60 * s}}, 60 * s},
		{"its checkpoint is lost", session.Episode{Container: "abc", Anew: true}, 0},
	} {
		store, err := session.OpenStore("")
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Change(func(e *session.Episode) { *e = tt.episode }); err != nil {
			t.Fatal(err)
		}
		w := &wrapper{job: &job.Job{}, init: &boincapi.InitData{WUCPUTime: 50}, store: store}
		o := w.superviseOptions(&session.Keeper{}, nil)
		if got := max(o.CPU, o.Last.CPU); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMountSource(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(at("there"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "there", "broken": "nowhere", "loop": "loop"} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		at("there"): at("there"), at("link"): at("there"), at("link/new/x"): at("there/new/x"), at("new"): at("new"),
		at("broken"): "", at("broken/x"): "", at("loop"): "", at("loop/x"): "", "/": "/", "/no/such/path": "/no/such/path",
	} {
		if got := mountSource(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
