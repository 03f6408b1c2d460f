package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	// As proc_pid_stat(5) counts: 4 parent, 14 to 17 CPU times, 22 the start.
	const rest = " 157 167 167 0 -1 4194560 1084 0 0 0 143 12 5 7 20 0 1 0 30053 2654208 429"
	tests := []struct {
		name, text string
		want       process
		ok         bool
	}{
		{"a shell", "167 (sh) R" + rest, process{167, 157, "R", 30053, 1670 * time.Millisecond}, true},
		{"a name that looks like the rest", "167 (a) R 1 (b) c) T" + rest, process{167, 157, "T", 30053, 1670 * time.Millisecond}, true},
		{"nothing", "", process{}, false},
		{"cut off", "167 (sh) R 157 167", process{}, false},
		{"no name", "167 sh R" + rest, process{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat(167, []byte(tt.text))
			if (err == nil) != tt.ok || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (x) R 0 1 1 0 -1 4 1 0 0 0 1 1 1 1 20 0 1 0 3 1 1"))
	f.Add([]byte(") "))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := parseStat(1, text); err == nil && (p.state == "" || p.pid != 1) {
			t.Errorf("got %+v of %q", p, text)
		}
	})
}

// Only control groups with the container's ID in their name are its own, and only those that are where they are said to be.
func TestGroupsOf(t *testing.T) {
	const id = "47468f20b967"
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own := Groups{}
	for line := range strings.Lines(string(text)) {
		if part := strings.SplitN(strings.TrimSpace(line), ":", 3); part[2] != "/" {
			for name, dir := range groupsOf(line, part[2]) {
				own[name] = dir
			}
		}
	}
	for _, dir := range own {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{
		"shared":       "6:freezer:/docker/other\n0::/docker/other\n",
		"not there":    "6:freezer:/docker/" + id + "\n0::/docker/" + id + "\n",
		"outside":      "6:freezer:/../" + id + "/..\n",
		"no such line": "6\n\n6:freezer\n",
	} {
		if diff := cmp.Diff(Groups{}, groupsOf(text, id)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// groupDir is a control group as far as files go.
func groupDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func TestUsageOfGroups(t *testing.T) {
	v2 := groupDir(t, map[string]string{"cpu.stat": "usage_usec 2500000\nuser_usec 1\n", "memory.stat": "anon 20\nfile 100\nshmem 3\n"})
	bare := groupDir(t, map[string]string{"cpu.stat": "usage_usec 2500000\n"}) // no controllers are delegated
	v1 := groupDir(t, map[string]string{"cpuacct.usage": "2500000000\n"})
	tests := []struct {
		name   string
		groups Groups
		cpu    time.Duration
		memory int64 // 0 when it can't be told
	}{
		{"v2", Groups{"": v2}, 2500 * time.Millisecond, 23},
		{"v2 without controllers", Groups{"": bare}, 2500 * time.Millisecond, 0},
		{"v1", Groups{"cpuacct": v1, "freezer": v1}, 2500 * time.Millisecond, 0},
		{"a freezer alone", Groups{"freezer": v1}, 0, 0},
		{"none", Groups{}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cpu, known := tt.groups.CPU()
			memory, _ := tt.groups.Memory()
			if cpu != tt.cpu || known != (tt.cpu > 0) || memory != tt.memory {
				t.Errorf("got %v (%t) and %d, want %v and %d", cpu, known, memory, tt.cpu, tt.memory)
			}
		})
	}
}

// A group of v2 is frozen when its events say so, not when it was asked for.
func TestFreezerOfV2(t *testing.T) {
	dir := groupDir(t, map[string]string{"cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 0\n", "cgroup.procs": ""})
	p := &Payload{groups: Groups{"": dir}}
	f, ok := p.groups.freezer()
	if !ok || f.isFrozen() {
		t.Fatalf("got %+v, %t", f, ok)
	}
	write(t, filepath.Join(dir, "cgroup.events"), "populated 1\nfrozen 1\n")
	write(t, filepath.Join(dir, "cgroup.freeze"), "1\n")
	if !f.isFrozen() || !p.Held(false) || !p.Held(true) {
		t.Error("it isn't frozen")
	}
	if err := p.groups.Thaw(); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "cgroup.freeze")); strings.TrimSpace(string(got)) != "0" {
		t.Errorf("got %q, want 0", got)
	}
	if err := p.Freeze(t.Context()); !errors.Is(err, ErrNoFreezer) {
		t.Errorf("a group without the container's first process: got %v", err)
	}
}

// Processes that aren't proven to be a container's are never signaled: our own, those in our namespace, those whose parent
// doesn't bear the container's ID.
func TestStrangersAreLeftAlone(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	for _, pid := range []int{os.Getpid(), os.Getppid(), 1, child.Process.Pid, 0, -1, 1 << 30} {
		for _, id := range []string{"", "docker_wrapper", "-test.run", os.Args[0]} {
			if p, err := FindPayload(pid, id); err == nil {
				t.Errorf("%d is the first process of %q: %+v", pid, id, p)
			}
		}
	}
	p := &Payload{init: child.Process.Pid, space: 1}
	if err := p.signal(child.Process.Pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if gone(child.Process.Pid) {
		t.Error("it was killed, though it isn't in the namespace")
	}
}
