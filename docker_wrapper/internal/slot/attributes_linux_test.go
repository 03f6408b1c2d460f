package slot

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Attributes and permissions that a job gave its files are gone after the move out.
func TestAttributesStayBehind(t *testing.T) {
	h := newHost(t)
	s := h.plan(t)
	must(t, MoveIn(s, nil))
	access := []byte{2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 7, 0, 0xe8, 3, 0, 0, // owner rw, user 1000 rwx
		4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff} // format: linux/posix_acl_xattr.h
	netAdmin := []byte{1, 0, 0, 2, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // VFS_CAP_REVISION_2, effective
	for _, name := range []string{"result", "sub/result"} {
		write(t, h.payload(), name, "x", 0o755)
		inside := filepath.Join(h.payload(), name)
		must(t, unix.Setxattr(inside, "user.mine", []byte("x"), 0), unix.Setxattr(inside, "system.posix_acl_access", access, 0))
		if os.Getuid() == 0 { // only root can set it
			must(t, unix.Setxattr(inside, "security.capability", netAdmin, 0))
		}
	}
	write(t, h.payload(), "read-only", "x", 0o444)
	must(t, os.Chmod(filepath.Join(h.payload(), "result"), 0o666), os.Chmod(filepath.Join(h.payload(), "sub"), 0o777))
	_, err := MoveOut(s, noNote)
	must(t, err)
	for _, name := range []string{"result", "sub"} {
		if fi, err := os.Stat(filepath.Join(h.slot(), name)); err != nil || fi.Mode()&othersWrite != 0 {
			t.Errorf("%s: got %v, %v, want no write permission for others", name, fi.Mode(), err)
		}
	}
	for _, name := range []string{"result", "sub/result", "read-only"} {
		got, err := attributes(filepath.Join(h.slot(), name))
		if got = slices.DeleteFunc(got, func(a string) bool { return a == "security.selinux" }); err != nil || len(got) > 0 {
			t.Errorf("%s: got %q, %v, want none", name, got, err)
		}
	}
}
