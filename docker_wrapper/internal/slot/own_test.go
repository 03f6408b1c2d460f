//go:build unix

package slot

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
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
