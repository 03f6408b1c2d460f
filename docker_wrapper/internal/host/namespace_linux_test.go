//go:build integration

package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestNamespace is a container of the kernel's alone, which needs root or the right to make user namespaces: processes below
// it, also in a namespace of their own, are stopped and go on.
func TestNamespace(t *testing.T) {
	const id = "0123456789abcdef"
	if out, err := exec.Command("unshare", "-r", "-p", "-f", "true").CombinedOutput(); err != nil {
		t.Skipf("this user may make no namespaces, as in a container: %v: %s", err, out)
	}
	// conmon's part: a parent with the ID among its arguments, whose child is the first in a namespace.
	script := `unshare -r -p -f --kill-child sh -c 'sleep 61 & unshare -p -f sh -c "sleep 62 & echo ready; wait" & wait'`
	parent := exec.Command("sh", "-c", script+"; true", "conmon", id)
	parent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer syscall.Kill(-parent.Process.Pid, syscall.SIGKILL)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" || err != nil && err != io.EOF {
		t.Fatalf("got %q, %v", line, err)
	}
	first := childOf(t, childOf(t, parent.Process.Pid)) // of unshare, of the shell
	if _, err := FindPayload(first, id); !errors.Is(err, ErrUnproven) {
		t.Errorf("unshare doesn't bear the ID: got %v", err)
	}
	stat, err := readStat(first)
	if err != nil {
		t.Fatal(err)
	}
	p := &Payload{init: first, began: stat.began, space: spaceOf(first)}
	list, err := p.list()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 5 || list[0].pid != first { // two shells, two sleeps and the inner unshare
		t.Errorf("got %d processes, want 5: %+v", len(list), list)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if s, err := readStat(m.pid); err != nil || s.state != "T" {
			t.Errorf("%d: got %+v, %v, want it stopped", m.pid, s, err)
		}
	}
	if !p.Held(true) {
		t.Error("it is not held")
	}
	if err := p.Continue(); err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if s, err := readStat(m.pid); err != nil || s.state == "T" {
			t.Errorf("%d: got %+v, %v, want it to go on", m.pid, s, err)
		}
	}
	if p.Held(false) {
		t.Error("it is held")
	}
}

// childOf is the one child of a process, once it is there.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var child int
	if _, scanErr := fmt.Sscan(string(text), &child); err != nil || scanErr != nil {
		t.Fatalf("children of %d: %q, %v", pid, text, err)
	}
	return child
}
