package slot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// Directories under BOINC's names are removed and reported as the job's mistake.
func TestRemoveReservedDirs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"boinc_lockfile/x", "BOINC_finish_called/y/z", "data/boinc_lockfile/x"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var mistake *job.ConfigError
	if err := slot.RemoveReservedDirs(dir); !errors.As(err, &mistake) {
		t.Errorf("got %v, want a *job.ConfigError", err)
	}
	if err := slot.RemoveReservedDirs(dir); err != nil {
		t.Errorf("again: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "data" {
		t.Errorf("got %v, %v, want only the job's own directory", entries, err)
	}
}

// Files that a workunit put where the wrapper's own files belong are refused, in every spelling.
func TestClaim(t *testing.T) {
	seal := slot.Seal([]byte("key"), "project", "result")
	put := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				name = filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("x"), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	claimed := func(seal string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := slot.Claim(dir, seal); err != nil {
				t.Fatal(err)
			}
			put(".docker_wrapper/episode.json")(t, dir)
		}
	}
	symlink := func(target, name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		before func(*testing.T, string)
		want   bool
	}{
		{"an empty slot", put(), true},
		{"a job's files", put("in", "Dockerfile", "docker_wrapper/x", ".docker_wrapper_of_mine"), true},
		{"claimed by an earlier episode", claimed(seal), true},
		{"left by a wrapper that was killed in Claim", func(t *testing.T, dir string) { put(".docker_wrapper/seal.part")(t, dir) }, true},
		{"claimed by another job", claimed(slot.Seal([]byte("key"), "project", "result_1")), false},
		{"claimed with another key", claimed(slot.Seal([]byte("other"), "project", "result")), false},
		{"the same letters in other words", claimed(slot.Seal([]byte("key"), "projec", "tresult")), false},
		{"an episode", put(".docker_wrapper/episode.json"), false},
		{"a checkpoint", put(".docker_wrapper/checkpoint/1/files/files.json"), false},
		{"a payload", put(".docker_wrapper/payload/in"), false},
		{"a seal", put(".docker_wrapper/seal"), false},
		{"an empty seal and an episode", func(t *testing.T, dir string) {
			put(".docker_wrapper/episode.json")(t, dir)
			os.WriteFile(filepath.Join(dir, ".docker_wrapper/seal"), nil, 0o644)
		}, false},
		{"a file", put(".docker_wrapper"), false},
		{"a symlink", symlink("in", ".docker_wrapper"), false},
		{"a symlink out of the slot", symlink("../x", ".docker_wrapper"), false},
		{"a symlink to a directory of the host", symlink("/etc", ".docker_wrapper"), false},
		{"other letters", put(".DOCKER_wrapper/episode.json"), false},
		{"the Kelvin sign", put(".doc\u212Aer_wrapper/episode.json"), false},
		{"a dot at the end", put(".docker_wrapper./episode.json"), false},
		{"an NTFS stream", put(".docker_wrapper::$INDEX_ALLOCATION"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.before(t, dir)
			err := slot.Claim(dir, seal)
			var mistake *job.ConfigError
			if got := err == nil; got != tt.want || err != nil && !errors.As(err, &mistake) {
				t.Fatalf("got %v, want claimed %t", err, tt.want)
			}
			if err != nil {
				return
			}
			fi, err := os.Stat(filepath.Join(dir, ".docker_wrapper"))
			if err != nil || fi.Mode().Perm() != 0o700 {
				t.Errorf("got mode %v, %v, want 0700", fi.Mode(), err)
			}
			if err := slot.Claim(dir, seal); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}
