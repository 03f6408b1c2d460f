package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
)

func TestServiceEnv(t *testing.T) {
	tests := []struct {
		name      string
		env, want []string
	}{
		{"nothing to leave out", []string{"A=b", "LD_LIBRARY_PATH=/opt/lib"}, []string{"A=b", "LD_LIBRARY_PATH=/opt/lib"}},
		{"the client's libraries", []string{"LD_LIBRARY_PATH=../../projects/p:.:../..:/opt/lib"}, []string{"LD_LIBRARY_PATH=/opt/lib"}},
		{"the client's alone", []string{"LD_LIBRARY_PATH=../../projects/p:.:../..:"}, nil},
		{"no home", []string{"HOME=/", "XDG_RUNTIME_DIR=/run/user/1", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=/etc", "PATH=/bin"}, []string{"PATH=/bin"}},
		{"other services", []string{"CONTAINER_HOST=tcp://x:1", "DOCKER_HOST=tcp://y:1", "HOME=/h"}, []string{"HOME=/h"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := serviceEnv(tt.env, func(dir string) bool { return dir == "/h" }); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The wrapper's own limit of memory is not podman's, and stays the wrapper's.
func TestStartUnlimited(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_DATA, &before) })
	own := unix.Rlimit{Cur: 1 << 40, Max: before.Max} // with room for the race detector's shadow
	if before.Max != unix.RLIM_INFINITY {
		own.Cur = before.Max - 1
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &own); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command("cat", "/proc/self/limits")
	cmd.Stdout = &out
	if err := startUnlimited(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		rest, ok := strings.CutPrefix(line, "Max data size")
		if f := strings.Fields(rest); ok && (len(f) < 2 || f[0] != f[1]) {
			t.Errorf("the child has %s, want as much as the hard limit", line)
		}
	}
	var after unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &after); err != nil || after != own {
		t.Errorf("the process has %+v, %v, want %+v", after, err, own)
	}
}

// Where no engine answers and there is a podman, it serves this process alone, and is gone at the end.
func TestOpenStartsPodman(t *testing.T) {
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >%[1]s/args\npwd >>%[1]s/args\necho $$ >%[1]s/pid\nexec %[2]s -test.run='^TestServeForPodman$'\n", dir, os.Args[0])
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("TEST_SERVE_FOR_PODMAN", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	e, err := openService(t.Context(), Options{Getenv: os.Getenv, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if e.Info.Kind != Podman || e.Info.Host != "podman system service" {
		t.Errorf("got %+v", e.Info)
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil {
		t.Fatal(err)
	}
	socket := strings.TrimPrefix(e.address, "unix://")
	if want := "system service --time=0 " + e.address + "\n/\n"; string(args) != want || !strings.HasPrefix(socket, dir) || len(socket) > socketPath {
		t.Errorf("got %q, want %q", args, want)
	}
	// One that ends is started again.
	pid, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err = errors.Join(err, os.Remove(socket), syscall.Kill(n, syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if again, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil && string(again) != string(pid) {
			if _, err := e.api.Ping(t.Context()); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("it isn't started again")
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(socket)); err == nil {
		t.Error("its directory is left behind")
	}
	if _, err := open(t.Context(), "unix://"+socket, Options{Timeout: time.Second}); err == nil {
		t.Error("it goes on")
	}
}

// A podman that ends at once is no engine, and the error says why.
func TestOpenPodmanThatFails(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho level=warning >&2\necho 'Error: cannot set up namespace' >&2\nexit 125\n"
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, err := openService(t.Context(), Options{Getenv: environment(map[string]string{"PATH": dir, "XDG_RUNTIME_DIR": dir}), Timeout: 10 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "podman system service: Error: cannot set up namespace") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "docker_wrapper*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestServeForPodman is the second self of TestOpenStartsPodman: what it starts in podman's stead.
func TestServeForPodman(t *testing.T) {
	dir := os.Getenv("TEST_SERVE_FOR_PODMAN")
	if dir == "" {
		return
	}
	asked, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	fake, err := enginetest.New(enginetest.Options{Podman: true})
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fake.Socket(), strings.TrimPrefix(strings.Fields(string(args))[3], "unix://")); err != nil {
		t.Fatal(err)
	}
	<-asked.Done()
}
