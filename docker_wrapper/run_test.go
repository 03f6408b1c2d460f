package main

import (
	"os"
	"path/filepath"
	"testing"
)

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
