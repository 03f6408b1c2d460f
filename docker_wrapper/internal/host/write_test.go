package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// only wants the files in a directory to be these.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got files %q, want %q", got, want)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, want := range []string{"new", "replaced", ""} {
		if err := WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("got %v, %v, want no rights for others", fi.Mode(), err)
	}
	only(t, dir, "f")
}

// What can't be written leaves nothing behind, and what is there as it was.
func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(taken, []byte("new"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	only(t, dir, "taken")
	if err := WriteFile(filepath.Join(dir, "none", "f"), []byte("new"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no such directory", err)
	}
}

// Whoever reads meanwhile sees one of the contents, whole.
func TestWriteFileParallel(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	content := func(i int) []byte { return bytes.Repeat([]byte{'a' + byte(i)}, 10_000) }
	if err := WriteFile(name, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for range 20 {
				if err := WriteFile(name, content(i), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		got, err := os.ReadFile(name)
		if err != nil || len(got) != 10_000 || !bytes.Equal(got, content(int(got[0]-'a'))) {
			t.Errorf("got %d bytes, %v, want one content", len(got), err)
		}
	}
	writers.Wait()
	only(t, dir, "f")
}

// A call that fails, and one that was killed, leave the file as it was. The next call succeeds.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	replace := func(name, text string, then error) error {
		return ReplaceSynced(root, "part", name, 0o600, func(f *os.File) error {
			_, err := f.WriteString(text)
			return errors.Join(err, then)
		})
	}
	if err := replace("f", "old", nil); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	if err := replace("f", "half", full); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	only(t, dir, "f")
	if err := replace("../f", "new", nil); err == nil {
		t.Error("a file outside of the root was written")
	}
	if got, err := root.ReadFile("f"); err != nil || string(got) != "old" {
		t.Errorf("got %q, %v, want the old file", got, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "part", "left"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replace("f", "new", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := root.ReadFile("f"); err != nil || string(got) != "new" {
		t.Errorf("got %q, %v, want the new file", got, err)
	}
	only(t, dir, "f")
}
