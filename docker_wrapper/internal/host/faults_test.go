//go:build unix

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestFinal(t *testing.T) {
	file := func(errno error) error {
		return fmt.Errorf("copy: %w", &fs.PathError{Op: "open", Path: "f", Err: errno})
	}
	for _, tt := range []struct {
		name           string
		err            error
		mayPass, final bool
	}{
		{"no error", nil, false, false},
		{"a name that is too long", file(syscall.ENAMETOOLONG), false, true},
		{"a directory", file(syscall.EISDIR), false, true},
		{"links in a circle", &os.LinkError{Op: "rename", Err: syscall.ELOOP}, false, true},
		{"no permission", file(syscall.EACCES), false, true},
		{"another user's", file(syscall.EPERM), false, true},
		{"an invalid name", file(syscall.EILSEQ), false, true},
		{"out of the root", file(errors.New("path escapes from parent")), false, true},
		{"disk full", file(syscall.ENOSPC), true, false},
		{"quota", file(syscall.EDQUOT), true, false},
		{"read-only file system", file(syscall.EROFS), true, false},
		{"broken disk", file(syscall.EIO), true, false},
		{"disk full, and the rest can't be removed", errors.Join(file(syscall.ENOENT), file(syscall.ENOSPC)), true, false},
		{"an engine that goes away", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, false, false},
		{"another error", errors.New("interrupted"), false, false},
	} {
		if got := MayPass(tt.err); got != tt.mayPass {
			t.Errorf("%s: MayPass is %v", tt.name, got)
		}
		if got := Final(tt.err); got != tt.final {
			t.Errorf("%s: Final is %v", tt.name, got)
		}
	}
}

func TestPart(t *testing.T) {
	for _, n := range []int{1, 235, 236, 255} {
		got := Part(strings.Repeat("x", n))
		if err := os.WriteFile(t.TempDir()+"/"+got, nil, 0o600); err != nil || !strings.HasPrefix(got, "x") || !strings.HasSuffix(got, ".docker_wrapper.part") {
			t.Errorf("%d bytes: got %q, %v", n, got, err)
		}
	}
}
