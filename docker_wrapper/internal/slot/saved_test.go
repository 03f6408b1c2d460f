package slot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// read returns the newest checkpoint's text; "" for none.
func (s Saved) read(t *testing.T) string {
	t.Helper()
	dir, err := s.Newest()
	if err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(dir, "sub", "state"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// begin writes a checkpoint but doesn't commit it.
func (s Saved) begin(t *testing.T, text string) string {
	t.Helper()
	dir, err := s.Begin()
	if err == nil {
		err = errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "sub", "state"), []byte(text), 0o600),
			os.Symlink("nowhere", filepath.Join(dir, "link")))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Wherever the wrapper is killed, the newest complete checkpoint survives, and others are removed soon.
func TestSaved(t *testing.T) {
	s := Saved{filepath.Join(t.TempDir(), ".docker_wrapper", "checkpoint")}
	if got := s.read(t); got != "" {
		t.Errorf("at first: got %q, want none", got)
	}
	s.begin(t, "interrupted")
	if got := s.read(t); got != "" {
		t.Errorf("interrupted: got %q, want none", got)
	}
	for _, text := range []string{"one", "two", "three"} {
		before := s.read(t)
		s.begin(t, "interrupted")
		dir := s.begin(t, text)
		if got := s.read(t); got != before {
			t.Errorf("before %q is committed: got %q, want %q", text, got, before)
		}
		if err := s.Commit(dir); err != nil {
			t.Fatal(err)
		}
		if got := s.read(t); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
		if list, err := os.ReadDir(s.Dir); err != nil || len(list) != 1 {
			t.Errorf("after %q: got %v, %v, want one directory", text, list, err)
		}
	}
	// As if killed between the rename and the removal of the old one.
	old := s.begin(t, "older")
	if err := os.Rename(old, filepath.Join(s.Dir, "1")); err != nil {
		t.Fatal(err)
	}
	if got := s.read(t); got != "three" {
		t.Errorf("two of them: got %q, want three", got)
	}
	if size, err := Size(filepath.Dir(s.Dir)); err != nil || size != int64(len("older")+len("three")) {
		t.Errorf("size: got %d, %v", size, err)
	}
	if err := s.Commit(s.begin(t, "four")); err != nil || s.read(t) != "four" {
		t.Errorf("got %v, %q, want four", err, s.read(t))
	}
	if err := s.Clear(); err != nil || s.read(t) != "" {
		t.Errorf("cleared: got %v, %q", err, s.read(t))
	}
}
