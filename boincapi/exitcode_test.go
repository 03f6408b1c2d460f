package boincapi

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The server's tools run `strings` on the executable and want a line that ends with the version.
func TestAPIVersionIsInTheExecutable(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "app")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", exe, "./testdata/apiversion")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, line := range regexp.MustCompile(`[\x20-\x7e\t]{4,}`).FindAll(b, -1) {
		found = found || regexp.MustCompile(`API_VERSION_[0-9]+\.[0-9]+\.[0-9]+$`).Match(line)
	}
	if !found {
		t.Error("got no line that ends with API_VERSION_x.y.z, want one")
	}
}

func TestExitName(t *testing.T) {
	for code, want := range map[int]string{0: "0", 191: "191", 192: "EXIT_STATEFILE_WRITE", ExitOutOfMemory: "EXIT_OUT_OF_MEMORY",
		ExitInitFailure: "EXIT_INIT_FAILURE", 209: "EXIT_OVERDUE_EXCEEDED", 210: "210", -1: "-1"} {
		if got := ExitName(code); got != want {
			t.Errorf("%d: got %s, want %s", code, got, want)
		}
	}
}
