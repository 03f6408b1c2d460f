//go:build unix

package slot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	slotDir    = "slots/0"
	projectDir = "projects/p.org_x"
	soft       = "<soft_link>../../" + projectDir + "/"
)

// copies are the files that the client copied into the slot. A client before 8.2 copies a missing one again at each start.
var copies = map[string]string{
	"params.txt":        "alpha = 1\n",
	"empty":             "",
	"run.sh":            "#!/bin/sh\n", // executable
	"sub/table":         "1 2 3\n",
	"sub/deep/empty":    "",
	"replaced/by_file":  "x\n",
	"becomes_dir":       "y\n",
	"deleted":           "z\n",
	"locked":            "read only\n", // 0444
	"Ünïcode %\nline 2": "strange\n",
	"AC_input":          "not reserved\n",
	"Dockerfile":        "FROM scratch\n",
	"img/app.tar":       "an archive\n",
	"app.tar":           "another archive\n",
}

// fakeHost is a BOINC data directory with a project directory and a slot.
type fakeHost struct{ dir string }

func (h fakeHost) slot() string    { return filepath.Join(h.dir, slotDir) }
func (h fakeHost) project() string { return filepath.Join(h.dir, projectDir) }
func (h fakeHost) payload() string { return filepath.Join(h.slot(), payloadName) }

func write(t testing.TB, dir, name, text string, mode fs.FileMode) {
	t.Helper()
	full := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(full), 0o755))
	must(t, os.WriteFile(full, []byte(text), mode))
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// inMemory makes a temporary directory, in memory where the host has /dev/shm. Moves sync their files, and on a disk
// that took three quarters of the tests' time.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "slot")
	if err != nil {
		dir, err = os.MkdirTemp("", "slot")
	}
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// newHost lays out a slot as the client leaves it before it starts the app.
func newHost(t testing.TB) fakeHost {
	t.Helper()
	return newHostIn(t, t.TempDir())
}

func newHostIn(t testing.TB, dir string) fakeHost {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	must(t, err)
	h := fakeHost{dir}
	h.client(t)
	for name, text := range map[string]string{
		"init_data.xml": "<authenticator>secret</authenticator>", "boinc_lockfile": "", "stderr.txt": "starting\n",
		"boinc_mmap_file": "segment", "boinc_setup_complete": "", "boinc_task_state.xml": "state", "stdout.txt": "",
		"in": soft + "in_0</soft_link>\n", "out": soft + "wu_0_0</soft_link>\n", "out_append": soft + "wu_0_1</soft_link>\n",
		"out_unused": soft + "wu_0_2</soft_link>\n", "job.toml": soft + "job_1.toml</soft_link>\n",
		"sub/in": soft + "in_1</soft_link>\n", "sub/out": soft + "wu_0_3</soft_link>\n", "in_overwritten": soft + "in_2</soft_link>\n",
	} {
		write(t, h.slot(), name, text, 0o644)
	}
	for name, physical := range map[string]string{"sym_in": "in_3", "sym_out": "wu_0_4", "a&b": "in<&>4"} {
		must(t, os.Symlink("../../"+projectDir+"/"+physical, filepath.Join(h.slot(), name)))
	}
	must(t, os.Symlink("/etc/shadow", filepath.Join(h.slot(), "foreign"))) // not from the client: never moved
	for _, name := range []string{"in_0", "in_1", "in_2", "in_3", "in<&>4", "job_1.toml"} {
		write(t, h.project(), name, "project's "+name, 0o644)
	}
	return h
}

// client copies missing files, as a client before 8.2 does.
func (h fakeHost) client(t testing.TB) {
	t.Helper()
	for name, text := range copies {
		if _, err := os.Lstat(filepath.Join(h.slot(), name)); err == nil {
			continue
		}
		if fi, err := os.Lstat(filepath.Dir(filepath.Join(h.slot(), name))); err == nil && !fi.IsDir() {
			continue // a file is where the directory was
		}
		mode := fs.FileMode(0o644)
		switch name {
		case "run.sh":
			mode = 0o755
		case "locked", "Dockerfile":
			mode = 0o444
		}
		write(t, h.slot(), name, text, mode)
	}
}

// plan describes the slot as job.Plan does.
func (h fakeHost) plan(t testing.TB) job.Slot {
	t.Helper()
	links, err := Links(h.slot(), h.project(), nil)
	must(t, err)
	for i, l := range links {
		links[i].Output = strings.HasPrefix(filepath.Base(l.Target), "wu_0_")
	}
	return job.Slot{Dir: h.slot(), Payload: h.payload(), Move: true, Copied: []string{"job.toml", "Dockerfile"},
		Kept: []string{"app.tar", "img/app.tar"}, Links: links}
}

// work does everything in the payload that a job can do.
func (h fakeHost) work(t testing.TB) {
	t.Helper()
	p := h.payload()
	at := func(name string) string { return filepath.Join(p, name) }
	write(t, p, "result.txt", "42\n", 0o600)
	write(t, p, "params.txt", "alpha = 2\n", 0o644)
	must(t, os.Remove(at("deleted")))
	must(t, os.RemoveAll(at("replaced")))
	write(t, p, "replaced", "now a file\n", 0o644)
	must(t, os.Remove(at("becomes_dir")))
	write(t, p, "becomes_dir/file", "now in a directory\n", 0o644)
	write(t, p, "empty_result", "", 0o644)
	write(t, p, "new/a/b/c", "deep\n", 0o644)
	write(t, p, "new%\n€", "strange\n", 0o640)
	write(t, p, "sub/new", "beside inputs\n", 0o644)
	write(t, p, "closed/in/file", "in a read-only directory\n", 0o400)
	must(t, os.Chmod(at("closed/in"), 0o500), os.Chmod(at("closed"), 0o500))
	must(t, os.MkdirAll(at("nothing_in_it"), 0o755))
	must(t, os.Link(at("result.txt"), at("result.again")))
	for link, target := range map[string]string{
		"new/ok": "a/b/c", "new/a/up": "../a/b", "new/top": ".", "new/dangling": "none",
		"new/out": "../init_data.xml", "new/abs": "/etc/shadow", "shadow": "/etc/shadow", "secret": "../../init_data.xml",
		"init": "init_data.xml", "new/a/b/climb": "../..", "new/sly": "a/b/climb/../init_data.xml", "new/parent": "..",
	} {
		must(t, os.Symlink(target, at(link)))
	}
	must(t, syscall.Mkfifo(at("fifo"), 0o644), syscall.Mkfifo(at("new/fifo"), 0o644))
	// A socket's path has 107 bytes at most (unix(7)): bind it at a short path and rename it.
	short, err := os.MkdirTemp(filepath.Dir(h.dir), "s")
	must(t, err)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, os.Rename(filepath.Join(short, "s"), at("socket")), l.Close(), os.Remove(short))

	// Reserved names.
	for _, name := range []string{"init_data.xml", "INIT_DATA.XML", "Boinc_Finish_Called", "boinc_temporary_exit", "stderr.txt",
		"boinc_ufr_out", "Trickle_Down_1", "graphics_app", ".Docker_Wrapper/episode.json", ".docker_wrapper/episode.json"} {
		write(t, p, name, "forged", 0o644)
	}
	write(t, p, "boinc_lockfile/sub/file", "forged", 0o644)
	must(t, os.Chmod(at("boinc_lockfile/sub"), 0o500))
	for _, name := range []string{"Dockerfile", "job.toml"} {
		must(t, os.RemoveAll(at(name)))
		write(t, p, name, "forged", 0o644)
	}
	write(t, p, "app.tar", "forged", 0o644)
	must(t, os.RemoveAll(at("img")))
	write(t, p, "img", "instead of the directory with an archive", 0o644)

	// Link files. "in", "out_unused" and "a&b" stay unchanged.
	write(t, p, "out", "output 0\n", 0o644)
	f, err := os.OpenFile(at("out_append"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString("appended\n")
	must(t, err, f.Close())
	write(t, p, "sub/out", "output 3\n", 0o644)
	write(t, p, "sym_out", "output 4\n", 0o644)
	write(t, p, "in_overwritten", "not the project's\n", 0o644)
	must(t, os.Remove(at("sym_in")), os.Mkdir(at("sym_in"), 0o755))
	must(t, os.Chmod(p, 0o500))
}

// kept are the files that must be in the slot and in the project directory at the end.
var kept = map[string]string{
	"slots/0/result.txt": "42\n", "slots/0/result.again": "42\n", "slots/0/params.txt": "alpha = 2\n", "slots/0/replaced": "now a file\n",
	"slots/0/becomes_dir/file": "now in a directory\n", "slots/0/empty_result": "", "slots/0/new/a/b/c": "deep\n",
	"slots/0/new%\n€": "strange\n", "slots/0/sub/new": "beside inputs\n", "slots/0/closed/in/file": "in a read-only directory\n",
	"slots/0/deleted": "", "slots/0/run.sh": "#!/bin/sh\n", "slots/0/sub/table": "1 2 3\n", "slots/0/locked": "read only\n",
	"slots/0/Ünïcode %\nline 2": "strange\n", "slots/0/AC_input": "not reserved\n", "slots/0/Dockerfile": "FROM scratch\n",
	"slots/0/app.tar": "another archive\n", "slots/0/img/app.tar": "an archive\n",
	"slots/0/new/ok": "-> a/b/c", "slots/0/new/a/up": "-> ../a/b", "slots/0/new/top": "-> .", "slots/0/new/dangling": "-> none",
	"slots/0/new/a/b/climb": "-> ../..", "slots/0/foreign": "-> /etc/shadow",
	"slots/0/init_data.xml": "<authenticator>secret</authenticator>", "slots/0/stderr.txt": "starting\n", "slots/0/boinc_lockfile": "",
	"slots/0/in": soft + "in_0</soft_link>\n", "slots/0/job.toml": soft + "job_1.toml</soft_link>\n",
	"slots/0/in_overwritten":  soft + "in_2</soft_link>\n",
	"projects/p.org_x/wu_0_0": "output 0\n", "projects/p.org_x/wu_0_1": "appended\n", "projects/p.org_x/wu_0_3": "output 3\n",
	"projects/p.org_x/wu_0_4": "output 4\n", "projects/p.org_x/in_2": "project's in_2", "projects/p.org_x/in_3": "project's in_3",
}

var gone = []string{"slots/0/fifo", "slots/0/new/fifo", "slots/0/socket", "slots/0/new/out", "slots/0/new/abs", "slots/0/shadow",
	"slots/0/secret", "slots/0/init", "slots/0/new/sly", "slots/0/new/parent", "slots/0/boinc_finish_called", "slots/0/Boinc_Finish_Called",
	"slots/0/boinc_temporary_exit", "slots/0/INIT_DATA.XML", "slots/0/Trickle_Down_1", "slots/0/boinc_ufr_out", "slots/0/graphics_app",
	"slots/0/.Docker_Wrapper", "slots/0/.docker_wrapper/episode.json", "slots/0/.docker_wrapper/payload", "slots/0/.docker_wrapper/populated",
	"slots/0/.docker_wrapper/temp", "projects/p.org_x/wu_0_2"}

// tree lists all files below the data directory with mode, link count, and text or link target.
func (h fakeHost) tree(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(h.dir, func(full string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(h.dir, full)
		if err != nil {
			return err
		}
		line := fi.Mode().String()
		switch {
		case fi.Mode().IsRegular():
			text, err := os.ReadFile(full)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			line += fmt.Sprintf(" %d %q", fi.Sys().(*syscall.Stat_t).Nlink, text)
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(full)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		files[name] = line
		return nil
	}))
	return files
}

// contents returns files in the form of kept: the text of a file, the target of a symlink.
func (h fakeHost) contents(t testing.TB, names []string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, name := range names {
		full := filepath.Join(h.dir, name)
		if target, err := os.Readlink(full); err == nil {
			got[name] = "-> " + target
		} else if text, err := os.ReadFile(full); err == nil {
			got[name] = string(text)
		}
	}
	return got
}

func equal(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: want -, got +:\n%s", what, diff)
	}
}

var errBroken = errors.New("interrupted")

type move func(*mover) error

// breakOff makes a move and interrupts it at step k, counted from 0. It reports whether the move had so many steps.
func (h fakeHost) breakOff(t testing.TB, mv move, links bool, k int) (broken bool) {
	t.Helper()
	m, err := newMover(h.plan(t))
	must(t, err)
	defer m.root.Close()
	if !links {
		m.link = func(string, string) error { return syscall.EPERM }
	}
	m.step = func() error {
		if k == 0 {
			panic(errBroken) // a killed wrapper cleans up nothing
		}
		k--
		return nil
	}
	defer func() {
		if r := recover(); r == errBroken {
			broken = true
		} else if r != nil {
			panic(r)
		}
	}()
	must(t, mv(m))
	return false
}

// finish makes the whole move.
func (h fakeHost) finish(t testing.TB, mv move, links bool) {
	t.Helper()
	if h.breakOff(t, mv, links, 1<<30) {
		t.Fatal("the move has too many steps")
	}
}

var (
	in  move = (*mover).moveIn
	out move = (*mover).moveOut
)

func TestMoveInAndOut(t *testing.T) {
	h := newHost(t)
	before := h.tree(t)
	must(t, MoveIn(h.plan(t), []byte("redacted")))
	moved := h.tree(t)
	for name, text := range copies {
		want := fmt.Sprintf(" 1 %q", text)
		if slices.Contains([]string{"app.tar", "img/app.tar"}, name) {
			if got, ok := moved["slots/0/.docker_wrapper/payload/"+name]; ok {
				t.Errorf("%s: got %s in the payload, want it in the slot only", name, got)
			}
			continue
		}
		got := moved["slots/0/.docker_wrapper/payload/"+name]
		if !strings.HasSuffix(got, want) || got[:10] != before["slots/0/"+name][:10] {
			t.Errorf("%s in the payload: got %s, want %s", name, got, before["slots/0/"+name])
		}
		if name == "Dockerfile" {
			want = fmt.Sprintf(" 1 %q", text)
		} else {
			want = ` 1 ""`
		}
		if got := moved["slots/0/"+name]; !strings.HasSuffix(got, want) {
			t.Errorf("%s in the slot: got %s, want an empty placeholder", name, got)
		}
	}
	for name, want := range map[string]string{"in": soft + "in_0</soft_link>\n", "sub/out": soft + "wu_0_3</soft_link>\n",
		"sym_in": soft + "in_3</soft_link>\n", "a&b": soft + "in&lt;&amp;>4</soft_link>\n", "init_data.xml": "redacted"} {
		if got, err := os.ReadFile(filepath.Join(h.payload(), name)); err != nil || string(got) != want {
			t.Errorf("%s in the payload: got %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"foreign", "stderr.txt", "boinc_lockfile", ".docker_wrapper"} {
		if got, ok := moved["slots/0/.docker_wrapper/payload/"+name]; ok {
			t.Errorf("%s in the payload: got %s, want nothing", name, got)
		}
	}

	must(t, MoveIn(h.plan(t), []byte("redacted")))
	equal(t, "moved in again", h.tree(t), moved)
	must(t, MoveIn(h.plan(t), nil))
	delete(moved, "slots/0/.docker_wrapper/payload/init_data.xml")
	equal(t, "without init_data.xml", h.tree(t), moved)

	h.work(t)
	notes, err := moveOut(h.plan(t))
	must(t, err)
	slices.Sort(notes)
	wantNotes := []string{".Docker_Wrapper", ".docker_wrapper", "Boinc_Finish_Called", "INIT_DATA.XML", "Trickle_Down_1", "app.tar",
		"boinc_lockfile", "boinc_temporary_exit", "boinc_ufr_out", "fifo", "graphics_app", "img", "in_overwritten", "init", "new/abs", "new/fifo",
		"new/out", "new/parent", "new/sly", "secret"}
	wantNotes = slices.Insert(wantNotes, 5, "and 4 more")
	if diff := cmp.Diff(wantNotes, notes); diff != "" {
		t.Errorf("notes: want -, got +:\n%s", diff)
	}
	equal(t, "at the end", h.contents(t, slices.Collect(maps.Keys(kept))), kept)
	after := h.tree(t)
	for _, name := range gone {
		if got, ok := after[name]; ok {
			t.Errorf("%s: got %s, want nothing", name, got)
		}
	}
	if got, want := after["slots/0/run.sh"][:10], "-rwxr-xr-x"; got != want {
		t.Errorf("run.sh: got %s, want %s", got, want)
	}
	for name, want := range before { // BOINC's files are unchanged
		if strings.HasPrefix(name, "projects/") || boincapi.Reserved(filepath.Base(name)) || strings.Contains(want, soft) {
			if got := after[name]; name != projectDir && got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
	}
	notes, err = moveOut(h.plan(t))
	if len(notes) != 0 || err != nil {
		t.Errorf("moved out again: got %q, %v, want nothing", notes, err)
	}
	equal(t, "moved out again", h.tree(t), after)
}

// steps counts the steps of a move.
func steps(t *testing.T, mv move, links bool, prepare func(*testing.T, fakeHost)) int {
	t.Helper()
	h := newHostIn(t, inMemory(t))
	prepare(t, h)
	n := 0
	h.finish(t, func(m *mover) error {
		m.step = func() error { n++; return nil }
		return mv(m)
	}, links)
	return n
}

// A move that is interrupted at any step, even twice, and repeated has the same result.
func TestBrokenMoves(t *testing.T) {
	nothing := func(*testing.T, fakeHost) {}
	client := func(t *testing.T, h fakeHost) { h.client(t) }
	working := func(links bool) func(*testing.T, fakeHost) {
		return func(t *testing.T, h fakeHost) { h.finish(t, in, links); h.work(t) }
	}
	tests := []struct {
		name    string
		links   bool // the file system has hard links
		prepare func(*testing.T, fakeHost)
		move    move
		between func(*testing.T, fakeHost) // after the break
		after   func(*testing.T, fakeHost) // before the comparison
		twice   int                        // distance between the steps at which a second break is tried; 0 for no second break
	}{
		{"in", true, nothing, in, nothing, nothing, 37},
		{"in, files copied again by the client", true, nothing, in, client, nothing, 41},
		{"out", true, working(true), out, nothing, nothing, 37},
		{"out, files copied again by the client", true, working(true), out, client, nothing, 0},
		{"in, then the job", true, nothing, in, nothing, func(t *testing.T, h fakeHost) { h.work(t); h.finish(t, out, true) }, 0},
		{"in, ended before the job", true, nothing, in, func(t *testing.T, h fakeHost) { h.finish(t, out, true) }, nothing, 0},
		{"out, and the job begun again", true, working(true), out, func(t *testing.T, h fakeHost) { h.finish(t, in, true) },
			func(t *testing.T, h fakeHost) { h.finish(t, in, true); h.finish(t, out, true) }, 0},
		{"out, begun again, copied again by the client", true, working(true), out, func(t *testing.T, h fakeHost) { h.client(t); h.finish(t, in, true) },
			func(t *testing.T, h fakeHost) { h.finish(t, in, true); h.finish(t, out, true) }, 0},
		{"in without hard links, then the job", false, nothing, in, nothing, func(t *testing.T, h fakeHost) { h.work(t); h.finish(t, out, false) }, 0},
		{"in without hard links, files copied again by the client", false, nothing, in, client, nothing, 0},
		{"out, and the job begun again, without hard links", false, working(false), out, func(t *testing.T, h fakeHost) { h.finish(t, in, false) },
			func(t *testing.T, h fakeHost) { h.finish(t, in, false); h.finish(t, out, false) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			undisturbed := newHostIn(t, inMemory(t))
			tt.prepare(t, undisturbed)
			undisturbed.finish(t, tt.move, tt.links)
			tt.after(t, undisturbed)
			want := undisturbed.tree(t)
			if !tt.links {
				delete(want, "slots/0/deleted")
			}
			n := steps(t, tt.move, tt.links, tt.prepare)
			if n < 40 {
				t.Fatalf("got %d steps, want many", n)
			}
			try := func(breaks ...int) bool {
				return t.Run(fmt.Sprint(breaks), func(t *testing.T) {
					h := newHostIn(t, inMemory(t))
					tt.prepare(t, h)
					for _, k := range breaks {
						h.breakOff(t, tt.move, tt.links, k)
						tt.between(t, h)
					}
					if tt.name != "in, ended before the job" {
						h.finish(t, tt.move, tt.links)
						tt.after(t, h)
						got := h.tree(t)
						if !tt.links { // a file may have no placeholder, and the job has deleted this one
							delete(got, "slots/0/deleted")
						}
						equal(t, "at the end", got, want)
						return
					}
					for name, text := range copies { // the slot is unchanged
						if got, err := os.ReadFile(filepath.Join(h.slot(), name)); err != nil || string(got) != text {
							t.Errorf("%s: got %q, %v; want %q", name, got, err, text)
						}
					}
				})
			}
			stride := 1
			if testing.Short() {
				stride = 4
			}
			for k := 0; k < n; k += stride {
				if !try(k) {
					return
				}
				for second := k % max(tt.twice, 1); tt.twice > 0 && second < n && !testing.Short(); second += tt.twice {
					if !try(k, second) {
						return
					}
				}
			}
		})
	}
}

// nest makes n nested directories, and a file in the innermost.
func nest(t testing.TB, dir string, n int) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	must(t, err)
	for range n {
		must(t, root.Mkdir("d", 0o755))
		next, err := root.OpenRoot("d")
		must(t, err, root.Close())
		root = next
	}
	must(t, root.WriteFile("f", nil, 0o644), root.Close())
}

func TestMoveOutOfDeepDirectories(t *testing.T) {
	h := newHostIn(t, inMemory(t))
	must(t, MoveIn(h.plan(t), nil))
	nest(t, h.payload(), 6000)
	deep := strings.Repeat("e/", maxNested)
	write(t, h.payload(), deep+"file", "kept", 0o644)
	write(t, h.payload(), "stderr.txt/sub/file", "", 0o644)
	start := cpuTime(t)
	notes, err := moveOut(h.plan(t))
	must(t, err)
	if took := cpuTime(t) - start; took > 5*time.Second {
		t.Errorf("it took %v of CPU time", took)
	}
	if len(notes) != 2 || notes[0] != strings.Repeat("d/", maxNested)+"d" || notes[1] != "stderr.txt" {
		t.Errorf("got notes %q, want the first directory that is too deep", notes)
	}
	if got, err := os.ReadFile(filepath.Join(h.slot(), deep, "file")); err != nil || string(got) != "kept" {
		t.Errorf("got %q, %v", got, err)
	}
	if got := wrapperFiles(t, h); len(got) > 0 {
		t.Errorf("got %q left, want nothing", got)
	}
}

// cpuTime is what this process has used. A test that compares two values must not be parallel.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// wrapperFiles lists the wrapper's directory without the list of links.
func wrapperFiles(t testing.TB, h fakeHost) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.slot(), job.WrapperDir))
	must(t, err)
	for _, e := range entries {
		if e.Name() != "links.json" {
			names = append(names, e.Name())
		}
	}
	return names
}

// moveOut is MoveOut, of which only the names of what was left out are wanted.
func moveOut(s job.Slot) (names []string, err error) {
	moved, err := MoveOut(s, noNote)
	for _, l := range moved.LeftOut {
		names = append(names, l.Name)
	}
	return names, err
}

func TestMoveOutNotesAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	must(t, MoveIn(h.plan(t), nil))
	for i := range 200 {
		must(t, syscall.Mkfifo(filepath.Join(h.payload(), fmt.Sprintf("%04d", i)+strings.Repeat("x", 240)), 0o644))
	}
	notes, err := moveOut(h.plan(t))
	must(t, err)
	if len(notes) != 21 || notes[20] != "and 180 more" || len(notes[0]) > 203 {
		t.Errorf("got %d notes, %q to %q", len(notes), notes[0], notes[len(notes)-1])
	}
}

// A job can't leave files that give others the rights of BOINC's user.
func TestMoveOutModes(t *testing.T) {
	h := newHost(t)
	must(t, MoveIn(h.plan(t), nil))
	if fi, err := os.Stat(filepath.Join(h.slot(), job.WrapperDir)); err != nil || fi.Mode().Perm()&0o007 != 0 {
		t.Errorf("got %v, %v; want nothing for others", fi.Mode(), err)
	}
	const special = os.ModeSetuid | os.ModeSetgid | os.ModeSticky
	names := []string{"made", "dir/made", "params.txt", "out", "out_append"}
	for _, name := range append(names, "dir") {
		if name != "dir" {
			write(t, h.payload(), name, "output", 0o644)
		}
		must(t, os.Chmod(filepath.Join(h.payload(), name), 0o755|special))
	}
	_, err := MoveOut(h.plan(t), noNote)
	must(t, err)
	for _, name := range []string{"slots/0/made", "slots/0/dir", "slots/0/dir/made", "slots/0/params.txt", projectDir + "/wu_0_0", projectDir + "/wu_0_1"} {
		if fi, err := os.Stat(filepath.Join(h.dir, name)); err != nil || fi.Mode()&special != 0 {
			t.Errorf("%s: got %v, %v", name, fi, err)
		}
	}
	must(t, os.Chmod(filepath.Join(h.project(), "wu_0_0"), 0o755|special)) // as if the job wrote a mounted output
	must(t, DropOutputs(h.plan(t), nil))
	if fi, err := os.Stat(filepath.Join(h.project(), "wu_0_0")); err != nil || fi.Mode() != 0o755 {
		t.Errorf("mounted output: got %v, %v", fi, err)
	}
}

// A large directory under the name init_data.xml doesn't slow down the renewal, and MoveOut removes it.
func TestRenewalIsQuick(t *testing.T) {
	t.Parallel()
	h := newHostIn(t, inMemory(t))
	must(t, MoveIn(h.plan(t), []byte("first")))
	name := filepath.Join(h.payload(), "init_data.xml")
	inode := func(dir string) uint64 {
		fi, err := os.Stat(dir)
		must(t, err)
		return fi.Sys().(*syscall.Stat_t).Ino
	}
	for i := range 3 {
		must(t, os.Remove(name), os.Mkdir(name, 0o755))
		for j := range 5000 {
			must(t, syscall.Mkfifo(filepath.Join(name, fmt.Sprint(j)), 0o644))
		}
		must(t, os.Chmod(name, 0o500))
		pile := inode(name)
		data := []byte("renewed")
		if i == 2 {
			data = nil
		}
		must(t, WriteInitData(h.plan(t), data))
		if got, err := os.ReadFile(name); string(got) != string(data) || (err != nil) != (data == nil) {
			t.Errorf("got %q, %v", got, err)
		}
		found := false
		trash, err := filepath.Glob(filepath.Join(h.slot(), job.WrapperDir, "trash-*"))
		must(t, err)
		for _, dir := range trash {
			found = found || inode(dir) == pile
		}
		if len(trash) != i+1 || !found {
			t.Errorf("got %q, want the directory moved to the trash unchanged", trash)
		}
		if data == nil {
			write(t, h.payload(), "init_data.xml", "", 0o644)
		}
	}
	_, err := MoveOut(h.plan(t), noNote)
	must(t, err)
	if got := wrapperFiles(t, h); len(got) > 0 {
		t.Errorf("got %q left, want nothing", got)
	}
}

// The tests of this package run as an ordinary user, too: root's permissions would hide errors.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // the other tests have run as one
	}
	t.Parallel()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "slot")
	must(t, err)
	defer os.RemoveAll(dir)
	exe, err := os.Executable()
	must(t, err)
	from, err := os.Open(exe)
	must(t, err)
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, "slot.test"), os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err, to.Close(), os.Chown(dir, nobody, nobody))
	cmd := exec.Command(filepath.Join(dir, "slot.test"), "-test.run=^Test", "-test.short")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func noNote(map[string]string) error { return nil }
