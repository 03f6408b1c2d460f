//go:build unix

package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shape describes a tree as text: names, modes, times, data and link targets.
func shape(t *testing.T, tree string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(tree, name)
		if err != nil {
			return err
		}
		fmt.Fprint(&b, rel, " ", fi.Mode())
		switch {
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q %d", data, fi.ModTime().UnixNano())
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			fmt.Fprint(&b, " -> ", target)
		}
		fmt.Fprintln(&b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// full is a tree with one of everything, and a single file beside it.
func full(t *testing.T) Snapshot {
	t.Helper()
	tree, single := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "single")
	for name, text := range map[string]string{"a": "one", "sub/b": "two", "sub/deep/c": "", "ro/d": "four", "exe": "five"} {
		write(t, tree, name, text, 0o644)
	}
	write(t, filepath.Dir(single), "single", "alone", 0o644)
	must(t, os.Symlink("sub/b", filepath.Join(tree, "link")), os.Symlink("/etc/passwd", filepath.Join(tree, "out")), os.Mkdir(filepath.Join(tree, "empty"), 0o700),
		os.Chmod(filepath.Join(tree, "exe"), 0o755), os.Chmod(filepath.Join(tree, "ro/d"), 0o400), os.Chmod(filepath.Join(tree, "ro"), 0o555),
		os.Chtimes(filepath.Join(tree, "a"), time.Unix(1, 5), time.Unix(1, 5)))
	t.Cleanup(func() { os.Chmod(filepath.Join(tree, "ro"), 0o755) })
	return Snapshot{Dir: t.TempDir(), Trees: []string{tree, single}}
}

func TestSnapshotPutsBackWhatWas(t *testing.T) {
	for name, change := range map[string]func(tree string) error{
		"nothing":           func(tree string) error { return nil },
		"written":           func(tree string) error { return os.WriteFile(filepath.Join(tree, "a"), []byte("more than one"), 0o644) },
		"same size":         func(tree string) error { return os.WriteFile(filepath.Join(tree, "a"), []byte("eno"), 0o644) },
		"removed":           func(tree string) error { return os.Remove(filepath.Join(tree, "sub/b")) },
		"directory removed": func(tree string) error { return os.RemoveAll(filepath.Join(tree, "sub")) },
		"file added":        func(tree string) error { return os.WriteFile(filepath.Join(tree, "sub/new"), nil, 0o600) },
		"directory added":   func(tree string) error { return os.MkdirAll(filepath.Join(tree, "new/deep"), 0o700) },
		"file for directory": func(tree string) error {
			return errors.Join(os.RemoveAll(filepath.Join(tree, "sub")), os.WriteFile(filepath.Join(tree, "sub"), nil, 0o600))
		},
		"directory for file": func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "a")), os.MkdirAll(filepath.Join(tree, "a/b"), 0o700))
		},
		"link for file": func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "a")), os.Symlink("/etc/hostname", filepath.Join(tree, "a")))
		},
		"link for directory": func(tree string) error {
			return errors.Join(os.RemoveAll(filepath.Join(tree, "sub")), os.Symlink("/", filepath.Join(tree, "sub")))
		},
		"link elsewhere": func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "link")), os.Symlink("a", filepath.Join(tree, "link")))
		},
		"modes": func(tree string) error {
			return errors.Join(os.Chmod(filepath.Join(tree, "a"), 0o600), os.Chmod(filepath.Join(tree, "sub"), 0o700))
		},
		"in a read-only directory": func(tree string) error {
			ro := filepath.Join(tree, "ro")
			return errors.Join(os.Chmod(ro, 0o755), os.Remove(filepath.Join(ro, "d")))
		},
		"all gone": func(tree string) error {
			return errors.Join(os.Chmod(filepath.Join(tree, "ro"), 0o755), os.RemoveAll(tree), os.Mkdir(tree, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			want, alone := shape(t, s.Trees[0]), shape(t, s.Trees[1])
			must(t, s.Take(t.Context(), "", 0))
			must(t, change(s.Trees[0]), os.WriteFile(s.Trees[1], []byte("something else"), 0o600))
			for range 2 { // repeating it is harmless
				must(t, s.PutBack(t.Context()))
				if got := shape(t, s.Trees[0]); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				if got := shape(t, s.Trees[1]); got != alone {
					t.Errorf("got %s, want %s", got, alone)
				}
			}
		})
	}
}

// Files that have not changed between two snapshots are hard links, and both snapshots can be restored.
// What a job has closed to its owner, BOINC's user, is copied all the same and stays closed.
func TestSnapshotOfClosedFiles(t *testing.T) {
	s := full(t)
	tree := s.Trees[0]
	write(t, tree, "closed/in/file", "text", 0o644)
	modes := map[string]os.FileMode{"closed/in/file": 0, "closed/in": 0o300, "closed": 0}
	set := func(mode func(os.FileMode) os.FileMode) {
		for _, name := range []string{"closed", "closed/in", "closed/in/file"} {
			must(t, os.Chmod(filepath.Join(tree, name), mode(modes[name])|0o700))
		}
		for _, name := range []string{"closed/in/file", "closed/in", "closed"} {
			must(t, os.Chmod(filepath.Join(tree, name), mode(modes[name])))
		}
	}
	same := func(m os.FileMode) os.FileMode { return m }
	set(same)
	check := func() {
		t.Helper()
		for _, name := range []string{"closed", "closed/in", "closed/in/file"} {
			fi, err := os.Lstat(filepath.Join(tree, name))
			if must(t, err); fi.Mode().Perm() != modes[name] {
				t.Errorf("%s: got mode %v, want %v", name, fi.Mode(), modes[name])
			}
			must(t, os.Chmod(filepath.Join(tree, name), 0o700))
		}
		if got, err := os.ReadFile(filepath.Join(tree, "closed/in/file")); string(got) != "text" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	must(t, s.Take(t.Context(), "", 0))
	check()
	must(t, os.RemoveAll(filepath.Join(tree, "closed")))
	must(t, s.PutBack(t.Context()))
	check()
}

func TestSnapshotsShare(t *testing.T) {
	s := full(t)
	tree := s.Trees[0]
	first, want := s, shape(t, tree)
	must(t, first.Take(t.Context(), "", 0))
	write(t, tree, "sub/b", "changed", 0o644)
	second, then := Snapshot{Dir: t.TempDir(), Trees: s.Trees}, shape(t, tree)
	must(t, second.Take(t.Context(), first.Dir, 0))
	for name, same := range map[string]bool{"a": true, "exe": true, "sub/b": false} {
		one, err1 := os.Stat(filepath.Join(first.Dir, "0", name))
		two, err2 := os.Stat(filepath.Join(second.Dir, "0", name))
		must(t, err1, err2)
		if os.SameFile(one, two) != same {
			t.Errorf("%s: shared %v, want %v", name, !same, same)
		}
	}
	write(t, tree, "a", "later", 0o644)
	must(t, second.PutBack(t.Context()))
	if got := shape(t, tree); got != then {
		t.Errorf("got\n%s\nwant\n%s", got, then)
	}
	must(t, first.PutBack(t.Context()))
	if got := shape(t, tree); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Messages from the client that came after the snapshot stay, because the client won't send them again. Messages that
// the job has read since then come back.
func TestSnapshotKeepsTheClientsMessages(t *testing.T) {
	s := full(t)
	s.Keep = FromClient
	tree := s.Trees[0]
	write(t, tree, "trickle_down_1", "before", 0o644)
	must(t, s.Take(t.Context(), "", 0), os.Remove(filepath.Join(tree, "trickle_down_1")))
	for _, name := range []string{"trickle_down_2", "boinc_ufs_out", "ca", "trickle_up.xml"} {
		write(t, tree, name, "after", 0o644)
	}
	must(t, s.PutBack(t.Context()))
	for name, want := range map[string]string{"trickle_down_1": "before", "trickle_down_2": "after", "boinc_ufs_out": "after", "ca": "after", "trickle_up.xml": ""} {
		if data, err := os.ReadFile(filepath.Join(tree, name)); string(data) != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", name, data, err, want)
		}
	}
}

func TestSnapshotRoom(t *testing.T) {
	s := full(t)
	if err := s.Take(t.Context(), "", 10); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
	s.Dir = t.TempDir()
	must(t, s.Take(t.Context(), "", 1000))
}

// An interrupted or damaged snapshot is an error.
func TestSnapshotErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := full(t)
	if err := s.Take(ctx, "", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	s.Dir = t.TempDir()
	if err := s.PutBack(t.Context()); err == nil {
		t.Error("got no error where there is no snapshot")
	}
	must(t, s.Take(t.Context(), "", 0), os.Remove(filepath.Join(s.Dir, "0", "a")), os.Remove(filepath.Join(s.Trees[0], "a")))
	if err := s.PutBack(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	s.Trees = slices.Clone(s.Trees[:1])
	if err := s.PutBack(t.Context()); err == nil {
		t.Error("got no error for other trees")
	}
}

// Unusual names, types and permissions of a job's files are restored, too.
func TestSnapshotOfOddFiles(t *testing.T) {
	long := strings.Repeat("n", 255)
	for name, tt := range map[string]struct{ before, after func(tree string) error }{
		"a neighbour called .part": {func(tree string) error {
			return errors.Join(os.WriteFile(filepath.Join(tree, "x"), []byte("old"), 0o600), os.WriteFile(filepath.Join(tree, "x.part"), []byte("the job's"), 0o600))
		}, func(tree string) error { return os.WriteFile(filepath.Join(tree, "x"), []byte("new"), 0o600) }},
		"called .part": {func(tree string) error {
			return errors.Join(os.WriteFile(filepath.Join(tree, ".part"), []byte("the job's"), 0o600), os.WriteFile(filepath.Join(tree, "x"), []byte("old"), 0o600))
		}, func(tree string) error { return os.WriteFile(filepath.Join(tree, "x"), []byte("new"), 0o600) }},
		"the longest name": {func(tree string) error { return os.WriteFile(filepath.Join(tree, long), []byte("old"), 0o600) },
			func(tree string) error { return os.WriteFile(filepath.Join(tree, long), []byte("new"), 0o600) }},
		"names that aren't UTF-8": {func(tree string) error {
			return errors.Join(os.WriteFile(filepath.Join(tree, "\xe4"), []byte("one"), 0o600), os.WriteFile(filepath.Join(tree, "\xf6"), []byte("two"), 0o600),
				os.MkdirAll(filepath.Join(tree, "\xe6", "\xe7"), 0o700), os.Symlink("\xfc", filepath.Join(tree, "\xdf")))
		}, func(tree string) error {
			return errors.Join(os.Remove(filepath.Join(tree, "\xe4")), os.Remove(filepath.Join(tree, "\xdf")))
		}},
		"a FIFO for a directory": {func(tree string) error { return os.MkdirAll(filepath.Join(tree, "d", "e"), 0o700) },
			func(tree string) error {
				return errors.Join(os.RemoveAll(filepath.Join(tree, "d")), syscall.Mkfifo(filepath.Join(tree, "d"), 0o600))
			}},
		"directories closed since": {func(tree string) error { return os.MkdirAll(filepath.Join(tree, "d", "e"), 0o700) },
			func(tree string) error {
				return errors.Join(os.MkdirAll(filepath.Join(tree, "new", "deep"), 0o700), os.WriteFile(filepath.Join(tree, "d", "more"), nil, 0o600),
					os.WriteFile(filepath.Join(tree, "new", "deep", "f"), nil, 0o600), os.Chmod(filepath.Join(tree, "new", "deep"), 0o500),
					os.Chmod(filepath.Join(tree, "new"), 0), os.Chmod(filepath.Join(tree, "d"), 0o500))
			}},
		"all mode bits": {func(tree string) error {
			return errors.Join(os.Mkdir(filepath.Join(tree, "d"), 0o700), os.Chmod(filepath.Join(tree, "d"), 0o770|fs.ModeSticky),
				os.WriteFile(filepath.Join(tree, "x"), []byte("old"), 0o600), os.Chmod(filepath.Join(tree, "x"), 0o700|fs.ModeSetuid))
		}, func(tree string) error { return os.WriteFile(filepath.Join(tree, "x"), []byte("newer"), 0o600) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := full(t)
			tree := s.Trees[0]
			must(t, tt.before(tree))
			want := shape(t, tree)
			must(t, s.Take(t.Context(), "", 0))
			must(t, tt.after(tree))
			if err := s.PutBack(t.Context()); err != nil {
				os.Chmod(filepath.Join(tree, "new"), 0o700) // so that the test's directory can be removed
				os.Chmod(filepath.Join(tree, "new", "deep"), 0o700)
				t.Fatal(err)
			}
			if got := shape(t, tree); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Only root can restore another user's files, so only root can take a snapshot of them.
func TestSnapshotOfOthersFiles(t *testing.T) {
	s := Snapshot{Dir: t.TempDir(), Trees: []string{"/etc/passwd"}}
	if err := s.Take(t.Context(), "", 0); (err == nil) != (os.Getuid() == 0) {
		t.Errorf("as user %d: got %v", os.Getuid(), err)
	}
}

// A forged list of files can't make PutBack read outside the snapshot.
func TestSnapshotStaysInside(t *testing.T) {
	name := func(s string) string { b, _ := json.Marshal([]byte(s)); return string(b) }
	for what, forge := range map[string]func(s Snapshot, secret string) string{
		"a name with dots":  func(s Snapshot, _ string) string { return name("../../../secret") },
		"dots after a name": func(s Snapshot, _ string) string { return name("a/../../../../secret") },
		"an absolute name":  func(s Snapshot, secret string) string { return name(secret) },
		"a symlink": func(s Snapshot, secret string) string {
			must(t, os.Symlink(secret, filepath.Join(s.Dir, "0", "x")))
			return name("x")
		},
		"a directory's symlink": func(s Snapshot, secret string) string {
			must(t, os.Symlink(filepath.Dir(secret), filepath.Join(s.Dir, "0", "d")))
			return name("d/secret")
		},
		"a FIFO": func(s Snapshot, _ string) string {
			must(t, syscall.Mkfifo(filepath.Join(s.Dir, "0", "x"), 0o600))
			return name("x")
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			secret := filepath.Join(dir, "secret")
			s := Snapshot{Dir: filepath.Join(dir, "s", "files"), Trees: []string{filepath.Join(dir, "tree")}}
			must(t, os.MkdirAll(filepath.Join(s.Dir, "0"), 0o700), os.Mkdir(s.Trees[0], 0o700), os.Mkdir(filepath.Join(s.Trees[0], "d"), 0o700),
				os.WriteFile(secret, []byte("account key"), 0o600))
			list := fmt.Sprintf(`[[{"name":%s,"mode":%d,"owner":[%d,%d]},{"name":%s,"mode":420,"owner":[%d,%d],"size":11}]]`,
				name("."), uint32(fs.ModeDir|0o700), os.Getuid(), os.Getgid(), forge(s, secret), os.Getuid(), os.Getgid())
			must(t, os.WriteFile(filepath.Join(s.Dir, listFile), []byte(list), 0o600))
			if err := s.PutBack(t.Context()); err == nil {
				t.Error("got no error")
			}
			must(t, filepath.WalkDir(s.Trees[0], func(name string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					t.Errorf("%s came into the job's files", name)
				}
				return err
			}))
		})
	}
}
