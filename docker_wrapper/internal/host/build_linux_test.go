package host

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestHasHost(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, name string
		want       bool
	}{
		{"a build's", write("build", "127.0.0.1\tlocalhost\n127.0.0.1\tboinc-build-x\n"), true},
		{"another's", write("other", "127.0.0.1\tboinc-build-y\n"), false},
		{"one that is large", write("large", strings.Repeat(" ", 1<<20)+"boinc-build-x"), false},
		{"one that would block", fifo, false},
		{"a directory", dir, false},
		{"none", filepath.Join(dir, "none"), false},
	} {
		if got := hasHost(tt.name, "boinc-build-x"); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.what, got, tt.want)
		}
	}
}
