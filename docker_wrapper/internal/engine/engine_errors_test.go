package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
)

func TestWrap(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	tests := []struct {
		name string
		err  error
		want error // nil: no class
	}{
		{"socket without a listener", refused, ErrUnreachable},
		{"answer cut off", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), ErrUnreachable},
		{"connection closed", fmt.Errorf("Post: %w", io.EOF), ErrUnreachable},
		{"no answer in time", fmt.Errorf("Get: %w", context.DeadlineExceeded), ErrUnreachable},
		{"cancelled", fmt.Errorf("Get: %w", context.Canceled), context.Canceled},
		{"socket of others", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}, ErrPermission},
		{"no such container", fmt.Errorf("x: %w", errdefs.ErrNotFound), ErrNotFound},
		{"disk", errors.New("mkdir /var/lib/docker/x: No space left on device"), ErrDiskFull},
		{"quota", errors.New("write: disk quota exceeded"), ErrDiskFull},
		{"ended", errors.New("Cannot kill container: x: Container x is not running"), ErrNotRunning},
		{"ended, Podman", errors.New("can only kill running containers. x is in state exited: container state improper"), ErrNotRunning},
		{"no GPU support", errors.New(`could not select device driver "nvidia" with capabilities: [[gpu]]`), ErrHost},
		{"no GPU driver", errors.New("nvidia-container-cli: initialization error: nvml error: driver not loaded"), ErrHost},
		{"port taken", errors.New("Bind for 127.0.0.1:80 failed: port is already allocated"), ErrHost},
		{"no such device", errors.New(`error gathering device information while adding custom device "/dev/fuse": no such file or directory`), ErrHost},
		{"no such device, Podman", errors.New("container create: stat /dev/fuse: no such file or directory"), ErrHost},
		{"not shared", errors.New("path /cvmfs is mounted on / but it is not a shared mount"), ErrNotShared},
		{"not a slave either", errors.New("path /cvmfs is mounted on / but it is not a shared or slave mount"), ErrNotShared},
		{"slot out of sight", errors.New(`invalid mount config for type "bind": bind source path does not exist: /x`), ErrHost},
		{"name server", errors.New("dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host"), ErrNetwork},
		{"apt", errors.New("Temporary failure resolving 'deb.debian.org'"), ErrNetwork},
		{"registry busy", errors.New("toomanyrequests: You have reached your pull rate limit"), ErrNetwork},
		{"registry broken", errors.New("received unexpected HTTP status: 503 Service Unavailable"), ErrNetwork},
		{"unknown", errors.New("layer does not exist"), nil},
	}
	classes := []error{ErrUnreachable, ErrPermission, ErrNetwork, ErrDiskFull, ErrHost, ErrNotFound, ErrNameTaken, ErrNotRunning}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := wrap(tt.err)
			if !errors.Is(got, tt.err) || tt.want != nil && !errors.Is(got, tt.want) {
				t.Errorf("got %v, want %v and the cause", got, tt.want)
			}
			for _, c := range classes {
				if c != tt.want && errors.Is(got, c) {
					t.Errorf("got class %v too", c)
				}
			}
		})
	}
	if wrap(nil) != nil {
		t.Error("no error became one")
	}
}

func TestPlain(t *testing.T) {
	const want = `exec: "x": executable file not found in $PATH`
	for _, prefix := range []string{"", "Error response from daemon: failed to create shim: OCI runtime create failed: container_linux.go:380: starting container process caused: ",
		"Error response from daemon: OCI runtime create failed: runc create failed: unable to start container process: "} {
		if got := plain(prefix + want + ": unknown"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestImageErrorText(t *testing.T) {
	e := &ImageError{Image: "i", Step: "Step 2/3 : RUN x", Reason: "code 1", Output: []string{"a", "b"}}
	if got, want := e.Error(), "image i: Step 2/3 : RUN x: code 1\nThe builder's last lines:\n    a\n    b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if first, _, _ := strings.Cut(e.Error(), "\n"); first != "image i: Step 2/3 : RUN x: code 1" {
		t.Errorf("the first line %q is no sentence by itself", first)
	}
}
