package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
)

// A bug of ours is a temporary exit, wherever it strikes: never the job's failure.
func TestPanicIsATemporaryExit(t *testing.T) {
	c, err := boinctest.New(boinctest.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Chdir(c.Slot())
	app, err := boincapi.Start(t.Context(), boincapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	w := &wrapper{program: program{stderr: &stderr}, dir: c.Slot(), app: app}
	code := w.guarded(context.Background(), func(context.Context) int {
		defer app.Close() // as run does
		panic("bug in a test")
	})
	exit, err := os.ReadFile(boincapi.TemporaryExitFile)
	if code != 0 || err != nil || !strings.HasPrefix(string(exit), "600\n") || !strings.Contains(stderr.String(), "bug in a test") {
		t.Errorf("got code %d, %q (%v), stderr %q, want 0 and a temporary exit of 600 s", code, exit, err, stderr.String())
	}
}
