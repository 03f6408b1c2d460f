//go:build unix

package slot

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

func TestOthersOwnAndChangeOwner(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "sub/file", "text", 0o644)
	if OthersOwn(dir, os.Getuid()) {
		t.Error("own files: got foreign")
	}
	if !OthersOwn(dir, os.Getuid()+1) || !OthersOwn(filepath.Join(dir, "none"), os.Getuid()) {
		t.Error("another user's files, or none: got own")
	}
	if os.Getuid() != 0 {
		return // only root can give files away
	}
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, filepath.Dir(outside), "outside", "text", 0o600)
	must(t, os.Symlink(outside, filepath.Join(dir, "link")), os.Chmod(filepath.Join(dir, "sub/file"), 0o4555|os.ModeSetuid), os.Chmod(filepath.Join(dir, "sub"), 0o500))
	const uid, gid = 65534, 65533
	must(t, ChangeOwner(dir, Owner{UID: uid, GID: gid}))
	if OthersOwn(dir, uid) {
		t.Error("given away: got foreign")
	}
	owner := func(name string) (uid, gid int, mode os.FileMode) {
		fi, err := os.Lstat(name)
		must(t, err)
		st := fi.Sys().(*syscall.Stat_t)
		return int(st.Uid), int(st.Gid), fi.Mode()
	}
	for name, want := range map[string]os.FileMode{"sub": os.ModeDir | 0o700, "sub/file": 0o755, "link": os.ModeSymlink | 0o777} {
		if u, g, mode := owner(filepath.Join(dir, name)); u != uid || g != gid || mode != want {
			t.Errorf("%s: got %d:%d %v, want %d:%d %v", name, u, g, mode, uid, gid, want)
		}
	}
	must(t, os.Chmod(filepath.Join(dir, "sub/file"), 0o4700|os.ModeSetuid), ChangeOwner(dir, Owner{UID: uid + 1, GID: gid, Shared: true}))
	for name, want := range map[string]os.FileMode{"sub": os.ModeDir | 0o777, "sub/file": 0o766} {
		if u, _, mode := owner(filepath.Join(dir, name)); u != uid+1 || mode != want {
			t.Errorf("%s, shared: got %d %v, want %d %v", name, u, mode, uid+1, want)
		}
	}
	if u, _, mode := owner(outside); u != 0 || mode != 0o600 {
		t.Errorf("the link's target: got %d %v, want it unchanged", u, mode)
	}
}

// Some files are given away: those of these names, or those that were changed since a time.
func TestChangeOwnerOfSome(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can give files away
	}
	dir := t.TempDir()
	for _, name := range []string{"old", "sub/old", "sub/named", "named"} {
		write(t, dir, name, "text", 0o600)
	}
	owned := func() (names []string) {
		for _, name := range []string{".", "old", "sub", "sub/old", "sub/named", "named", "new"} {
			if fi, err := os.Lstat(filepath.Join(dir, name)); err == nil && fi.Sys().(*syscall.Stat_t).Uid == 65534 {
				names = append(names, name)
			}
		}
		return names
	}
	must(t, ChangeOwner(dir, Owner{UID: 65534, GID: 65533, Shared: true}, "named", "sub", "sub/named", "nosuch"))
	if got, want := owned(), []string{".", "sub", "sub/named", "named"}; !slices.Equal(got, want) {
		t.Errorf("by name: got %q, want %q", got, want)
	}
	must(t, ChangeOwner(dir, Owner{UID: 0, GID: 0}))
	since := time.Now().Add(20 * time.Millisecond) // the kernel's clock for files may be a tick of 10 ms behind
	changed := func() int64 {
		write(t, dir, "new", "text", 0o600)
		fi, err := os.Stat(filepath.Join(dir, "new"))
		must(t, err)
		_, mark := ownerAndMark(fi)
		return mark[1]
	}
	for changed() < since.UnixNano() {
	}
	must(t, ChangeOwner(dir, Owner{UID: 65534, GID: 65533, Since: since.UnixNano()}))
	if got, want := owned(), []string{"new"}; !slices.Equal(got, want) {
		t.Errorf("since then: got %q, want %q", got, want)
	}
}

// The container's users can use our files, by hand only the directory and what is named. Files of others stay as they are.
func TestAllowWrites(t *testing.T) {
	for _, moved := range []bool{true, false} {
		dir := t.TempDir()
		write(t, dir, "in", "text", 0o640)
		write(t, dir, "out", "<soft_link>x</soft_link>", 0o600)
		write(t, dir, "sub/in", "text", 0o4600|os.ModeSetuid)
		must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")), os.Chmod(filepath.Join(dir, "sub"), 0o700))
		write(t, dir, "theirs", "text", 0o600)
		if os.Getuid() == 0 {
			must(t, os.Chown(filepath.Join(dir, "theirs"), 65534, 65534))
		}
		must(t, AllowWrites(job.Slot{Payload: dir, Move: moved, Links: []job.Link{{Name: "out", Output: true}, {Name: "gone", Output: true}, {Name: "in"}}}))
		want := map[string]os.FileMode{".": 0o777 | os.ModeDir, "in": 0o666, "out": 0o666, "sub": 0o777 | os.ModeDir, "sub/in": 0o666, "theirs": 0o600}
		if !moved {
			want = map[string]os.FileMode{".": 0o777 | os.ModeDir, "in": 0o640, "out": 0o666, "sub": 0o700 | os.ModeDir, "theirs": 0o600}
		}
		if os.Getuid() != 0 {
			delete(want, "theirs")
		}
		for name, mode := range want {
			if fi, err := os.Lstat(filepath.Join(dir, name)); err != nil || fi.Mode() != mode {
				t.Errorf("moved %t, %s: got %v, %v, want %v", moved, name, fi.Mode(), err, mode)
			}
		}
	}
}

// Deeply nested directories cost no more than others.
func TestOwnDeepDirectories(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can give files away
	}
	dir := inMemory(t)
	nest(t, dir, 6000)
	start := cpuTime(t)
	must(t, ChangeOwner(dir, Owner{UID: 65534, GID: 65533}))
	if took := cpuTime(t) - start; took > 3*time.Second {
		t.Errorf("it took %v of CPU time", took)
	}
}
