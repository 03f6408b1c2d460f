//go:build integration && rootless

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
)

// scripts/matrix.sh runs this one as the user of an engine without root (scripts/engines.sh names rootless).

// An engine without root gives a signed job what reaches no further than the user's own namespaces. A job that isn't signed
// gets none of it.
func TestRootlessGrants(t *testing.T) {
	const config = "create_args = \"--cap-add=SYS_ADMIN --device /dev/net/tun\"\nstdout_file = \"seen\"\n"
	c := newJob(t, "rootless_grants", config, nil)
	r, err := c.Run(t.Context(), binary(t, "docker_wrapper"), "open=/dev/net/tun", "tmpfs=mounted")
	if err != nil || r.Outcome != boinctest.Success {
		t.Fatalf("signed: got %+v, %v\n%s", r, err, stderrOf(t, c))
	}
	opened := "ok"
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		opened = errors.Unwrap(err).Error()
	} else {
		f.Close()
	}
	if got, want := read(t, filepath.Join(c.Slot(), "seen")), "/dev/net/tun "+opened+"\ntmpfs is mounted\n"; got != want {
		t.Errorf("signed: got %q, want %q", got, want)
	}
	c = newUnsigned(t, "rootless_refusals", config)
	r, err = c.Run(t.Context(), binary(t, "docker_wrapper"))
	if err != nil || r.FinishCode != boincapi.ExitInitFailure || !strings.Contains(r.Message, "isn't signed") {
		t.Errorf("not signed: got %+v, %v\n%s", r, err, stderrOf(t, c))
	}
}

// A user without root, session and a home that is his gets his own files back, whoever the container runs as: the engine
// is a service that the wrapper starts for itself and ends.
func TestRootless(t *testing.T) {
	env, err := exec.LookPath("env")
	if os.Getuid() == 0 || err != nil {
		t.Fatalf("this test is for a user that isn't root, and needs env: %v", err)
	}
	for home, user := range map[string]string{"/": "auto", "/nonexistent": "image", "/root": "1234:1234"} {
		t.Run(user, func(t *testing.T) {
			c := newJob(t, "rootless", fmt.Sprintf("user = %q\n", user), func(d *boincapi.InitData) { d.RscMemoryBound = 1 << 30 })
			if _, err := c.AddOutput(0, "linked", false); err != nil {
				t.Fatal(err)
			}
			r, err := c.Run(t.Context(), env, "HOME="+home, "XDG_RUNTIME_DIR=/run/user/nobody",
				binary(t, "docker_wrapper"), "write=out", "write=linked", "mkdir=dir/sub", "write=dir/sub/file")
			if err != nil || r.Outcome != boinctest.Success {
				t.Fatalf("got %+v, %v\n%s", r, err, stderrOf(t, c))
			}
			for _, name := range []string{"out", "dir", "dir/sub", "dir/sub/file", "boinc_finish_called"} {
				fi, err := os.Stat(filepath.Join(c.Slot(), name))
				if err != nil {
					t.Fatalf("%v\n%s", err, stderrOf(t, c))
				}
				if got := fi.Sys().(*syscall.Stat_t).Uid; got != uint32(os.Getuid()) {
					t.Errorf("%s is owned by user %d, want %d", name, got, os.Getuid())
				}
			}
			if got := string(mayRead(filepath.Join(c.ProjectDir(), "rootless_0_r123_0"))); got != "linked\n" {
				t.Errorf("the linked output: got %q", got)
			}
			if got := containers(t, c); got != "" {
				t.Errorf("containers left: %s", got)
			}
			said := stderrOf(t, c)
			if !strings.Contains(said, "host=\"podman system service\"") || strings.Count(said, "this engine doesn't limit the container's memory") != 1 {
				t.Errorf("got\n%s", said)
			}
		})
	}
}
