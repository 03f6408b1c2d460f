package boincapi

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestFinishOnAFullDisk(t *testing.T) {
	dir := slotWith(t, alive())
	part := filepath.Join(dir, FinishFileName+".part")
	if err := os.Symlink("/dev/full", part); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile(part, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := complete(full, part, filepath.Join(dir, FinishFileName), "0\n"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
	if got, want := names(t, dir), []string{MmapFile, InitDataFile}; !slices.Equal(got, want) {
		t.Errorf("got files %v, want %v", got, want)
	}
}

func TestFinishThatFailsLeavesTheAppOpen(t *testing.T) {
	dir := slotWith(t, alive())
	app, _ := startIn(t, dir, Options{})
	if err := os.MkdirAll(filepath.Join(dir, FinishFileName, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := app.Finish(0, ""); err == nil {
		t.Fatal("got no error, want one")
	}
	if err := app.TemporaryExit(time.Minute, "disk full", false); err != nil {
		t.Errorf("temporary exit after it: got %v, want no error", err)
	}
}
