//go:build unix

package slot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"boincdocker/docker_wrapper/internal/job"
)

func TestLinks(t *testing.T) {
	h := fakeHost{t.TempDir()}
	p := h.project()
	for name, text := range map[string]string{
		"in":              soft + "in_0</soft_link>\n",
		"sub/in":          soft + "in_1</soft_link>\n", // relative to the slot, not to sub
		"amp":             soft + "a&amp;b</soft_link>\n",
		"absolute":        "<soft_link>" + p + "/in_2</soft_link>\n",
		"roundabout":      soft + "../p.org_x/./in_3</soft_link>\n",
		"data":            "1 2 3\n",
		"etc":             "<soft_link>/etc/passwd</soft_link>\n",
		"account":         "<soft_link>../../account_p.org_x.xml</soft_link>\n",
		"self":            soft + "</soft_link>\n",
		"parent":          soft + "..</soft_link>\n",
		"deeper":          soft + "sub/file</soft_link>\n",
		"sibling":         "<soft_link>../../projects/p.org_xy/in_0</soft_link>\n",
		"init_data.xml":   soft + "in_0</soft_link>\n",
		"STDERR.txt":      soft + "in_0</soft_link>\n",
		"long":            strings.Repeat(" ", 600) + soft + "in_0</soft_link>\n",
		payloadName + "/": "",
	} {
		if !strings.HasSuffix(name, "/") {
			write(t, h.slot(), name, text, 0o644)
		}
	}
	write(t, h.payload(), "forged", soft+"in_0</soft_link>\n", 0o644)
	write(t, h.slot(), strings.Repeat("d/", maxDepth)+"in", soft+"in_4</soft_link>\n", 0o644)
	write(t, h.slot(), strings.Repeat("e/", maxDepth+1)+"in", soft+"in_4</soft_link>\n", 0o644)
	for name, target := range map[string]string{"sym": "../../" + projectDir + "/in_5", "sub/sym": "../../../" + projectDir + "/in_6", "shadow": "/etc/shadow",
		"here": "in", "dir": "../../" + projectDir} {
		must(t, os.Symlink(target, filepath.Join(h.slot(), name)))
	}
	must(t, syscall.Mkfifo(filepath.Join(h.slot(), "fifo"), 0o644)) // Links must not block on it

	got, err := Links(h.slot(), p+"/", nil)
	want := []job.Link{{Name: "absolute", Target: p + "/in_2"}, {Name: "amp", Target: p + "/a&b"}, {Name: strings.Repeat("d/", maxDepth) + "in", Target: p + "/in_4"},
		{Name: "in", Target: p + "/in_0"}, {Name: "roundabout", Target: p + "/in_3"}, {Name: "sub/in", Target: p + "/in_1"}, {Name: "sub/sym", Target: p + "/in_6"},
		{Name: "sym", Target: p + "/in_5"}}
	for i := range want {
		want[i].Missing = true
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; want -, got +:\n%s", err, diff)
	}
	all, err := Links(h.slot(), "", nil)
	must(t, err)
	if !slices.Contains(all, job.Link{Name: "etc", Target: "/etc/passwd"}) || slices.ContainsFunc(all, func(l job.Link) bool { return l.Name == "shadow" }) {
		t.Errorf("standalone: got %v, want link files only", all)
	}
	if got, err := Links(filepath.Join(h.dir, "none"), p, nil); err == nil {
		t.Errorf("no slot: got %v, want an error", got)
	}
}

// Only links that were in the slot before the job's first start are listed.
func TestLinksAreThoseOfTheFirstStart(t *testing.T) {
	h := newHost(t)
	links := func(project string) (names []string) {
		t.Helper()
		links, err := Links(h.slot(), project, nil)
		must(t, err)
		for _, l := range links {
			names = append(names, l.Name)
		}
		return names
	}
	write(t, h.slot(), "in_\xff", soft+"in_\xff</soft_link>\n", 0o644)
	want := links(h.project())
	must(t, MoveIn(h.plan(t), nil))
	for _, name := range []string{"stdout_file", "sub/new"} {
		write(t, h.payload(), name, soft+"in_of_another_job</soft_link>\n", 0o644)
	}
	must(t, os.Remove(filepath.Join(h.slot(), "in")))
	_, err := MoveOut(h.plan(t), noNote)
	must(t, err)
	write(t, h.slot(), "in", soft+"in_of_another_job</soft_link>\n", 0o644)
	want = slices.DeleteFunc(want, func(name string) bool { return name == "in" })
	if diff := cmp.Diff(want, links(h.project())); diff != "" {
		t.Errorf("after the first start: want -, got +:\n%s", diff)
	}
	if got := links(""); !slices.Contains(got, "stdout_file") {
		t.Errorf("standalone: got %q, want all", got)
	}
	must(t, MoveIn(h.plan(t), nil)) // doesn't change the list
	if diff := cmp.Diff(want, links(h.project())); diff != "" {
		t.Errorf("after the second start: want -, got +:\n%s", diff)
	}
	for _, damage := range []string{"", "{", "null", "\x00\x00"} {
		must(t, os.WriteFile(filepath.Join(h.slot(), linksName), []byte(damage), 0o644))
		if diff := cmp.Diff(want, links(h.project())); diff != "" {
			t.Errorf("the list is damaged, the job's files are in the payload: want -, got +:\n%s", diff)
		}
	}
	_, err = MoveOut(h.plan(t), noNote) // writes the list again before the job's links come into the slot
	must(t, err)
	if diff := cmp.Diff(want, links(h.project())); diff != "" {
		t.Errorf("after the list was written again: want -, got +:\n%s", diff)
	}
	must(t, os.WriteFile(filepath.Join(h.slot(), linksName), nil, 0o644))
	var mistake *job.ConfigError
	if got, err := Links(h.slot(), h.project(), nil); !errors.As(err, &mistake) {
		t.Errorf("the list is damaged, the job's files are in the slot: got %v, %v, want a *job.ConfigError", got, err)
	}
}

func TestSigned(t *testing.T) {
	const text, other = "use_gpu = true\n", "privileged\n"
	big := strings.Repeat("x", 200<<10)
	app := []string{"job_1.toml", "job_1_again.toml", "admin_1.toml", "empty_1", "big_1", "sub/job_2.toml", "../../" + slotDir + "/unlisted", "missing"}
	link := func(name string) string { return soft + name + "</soft_link>\n" }
	for _, tt := range []struct {
		name  string
		slot  map[string]string // the slot's files; "->x" is a symlink to x
		input string            // text of a workunit's file in the project directory; "" for none
		want  bool
	}{
		{"a link", map[string]string{"f": link("big_1")}, "", true},
		{"a symlink", map[string]string{"f": "->../../" + projectDir + "/big_1"}, "", true},
		{"a copy", map[string]string{"f": other}, "", true},
		{"an empty copy", map[string]string{"f": "", "placeholder": ""}, "", true},
		{"a large copy", map[string]string{"f": big}, "", true},
		{"two copies of two equal files", map[string]string{"f": text, "g": text}, "", true},
		{"links to two equal files", map[string]string{"f": link("job_1.toml"), "g": link("job_1_again.toml")}, "", true},

		{"a link with the same bytes as a workunit's file", map[string]string{"f": link("big_1")}, link("big_1"), false}, // that file may have replaced the client's link
		{"a link to a file that isn't listed", map[string]string{"f": link("unlisted")}, "", false},
		{"a link out of the project directory", map[string]string{"f": "<soft_link>/tmp/big_1</soft_link>\n"}, "", false},
		{"a link to a sub-directory", map[string]string{"f": link("sub/big_1")}, "", false},
		{"a copy, longer", map[string]string{"f": text + "\n"}, "", false},
		{"a copy, shorter", map[string]string{"f": text[1:]}, "", false},
		{"a copy, other bytes", map[string]string{"f": strings.Replace(text, "true", "fals", 1)}, "", false},
		{"a copy of a file that isn't listed", map[string]string{"f": "portmap = [\"1:1\"]\n"}, "", false},
		{"a copy of a file in a sub-directory", map[string]string{"f": "verbose = 2\n"}, "", false},
		{"a large copy that differs at the end", map[string]string{"f": big[1:] + "y"}, "", false},
		{"a symlink in the slot", map[string]string{"f": "->g", "g": other}, "", false}, // a job could change what it points to
		{"nothing", nil, "", false},

		// The client puts each file of the app version into the slot once.
		{"a workunit's copy that has the form of a link", map[string]string{"f": link("admin_1.toml"), "admin": link("admin_1.toml")}, link("admin_1.toml"), false},
		{"beside the client's symlink", map[string]string{"f": link("admin_1.toml"), "admin": "->../../" + projectDir + "/admin_1.toml"}, link("admin_1.toml"), false},
		{"beside the client's copy", map[string]string{"f": link("admin_1.toml"), "admin": other}, link("admin_1.toml"), false},
		{"spelled differently", map[string]string{"f": "x <soft_link> ../../" + projectDir + "/./admin_1.toml <", "admin": link("admin_1.toml")}, "x <soft_link> ../../" + projectDir + "/./admin_1.toml <", false},
		{"a workunit's copy of another file", map[string]string{"f": other, "admin": link("admin_1.toml")}, other, false},
		{"beside the client's copy in a sub-directory", map[string]string{"f": link("admin_1.toml"), "conf/admin": other}, link("admin_1.toml"), false},
		{"the client's link, overwritten", map[string]string{"f": link("admin_1.toml"), "admin": "a workunit's"}, link("admin_1.toml"), false},
		{"beside a copy", map[string]string{"f": other, "admin": other}, other, false},
		{"a third copy of two equal files", map[string]string{"f": text, "g": text, "h": text}, text, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := fakeHost{t.TempDir()}
			for name, text := range map[string]string{"job_1.toml": text, "job_1_again.toml": text, "admin_1.toml": other, "empty_1": "", "big_1": big,
				"unlisted": "portmap = [\"1:1\"]\n", "sub/job_2.toml": "verbose = 2\n"} {
				write(t, h.project(), name, text, 0o644)
			}
			if tt.input != "" {
				write(t, h.project(), "jf_input", tt.input, 0o644)
			}
			must(t, os.MkdirAll(h.slot(), 0o755))
			for name, text := range tt.slot {
				if target, ok := strings.CutPrefix(text, "->"); ok {
					must(t, os.Symlink(target, filepath.Join(h.slot(), name)))
					continue
				}
				write(t, h.slot(), name, text, 0o644)
			}
			links, err := Links(h.slot(), h.project(), app)
			must(t, err)
			if got := Signed(h.slot(), h.project(), "f", links, app); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	h := fakeHost{t.TempDir()}
	write(t, h.project(), "job_1.toml", text, 0o644)
	must(t, os.MkdirAll(filepath.Join(h.slot(), "dir"), 0o755), syscall.Mkfifo(filepath.Join(h.slot(), "fifo"), 0o644))
	for _, name := range []string{"dir", "fifo", "none"} {
		if Signed(h.slot(), h.project(), name, nil, app) {
			t.Errorf("%s: got signed", name)
		}
	}
}

// An input that the client copied is no link, whatever it contains. As a link it could read other jobs' files and write
// any output.
func TestACopyIsNoLink(t *testing.T) {
	h := fakeHost{t.TempDir()}
	forged := map[string]string{
		"reads":    soft + "in_of_another_job</soft_link>\n",
		"writes":   soft + "wu_0_r1_0</soft_link>\n",
		"blanks":   "\t <soft_link>\n" + "../../" + projectDir + "/x</soft_link>",
		"dots":     "<soft_link>./../../" + projectDir + "/../p.org_x/y</soft_link>",
		"absolute": "<soft_link>" + h.project() + "/z</soft_link>",
		"sub/dir":  soft + "in_of_another_job</soft_link>",
	}
	for name, text := range forged {
		write(t, h.slot(), name, text, 0o644)
		write(t, h.project(), "jf_"+strings.ReplaceAll(name, "/", "_"), text, 0o644)
	}
	write(t, h.slot(), "long", soft+"q</soft_link>\n"+strings.Repeat("x", 4096), 0o644)
	write(t, h.slot(), "in", soft+"in_1</soft_link>\n", 0o644)
	write(t, h.project(), "in_1", "1 2 3", 0o644)
	got, err := Links(h.slot(), h.project(), nil)
	want := []job.Link{{Name: "in", Target: filepath.Join(h.project(), "in_1")}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; want -, got +:\n%s", err, diff)
	}
}

func TestFilesIsAFileSystem(t *testing.T) {
	h := newHost(t)
	for _, moved := range []bool{false, true} {
		if moved {
			must(t, MoveIn(h.plan(t), []byte("redacted")))
		}
		expected := []string{"in", "sub/in", "sym_in", "a&b", "job.toml", "Dockerfile", "params.txt", "sub/table", "sub/deep/empty", "Ünïcode %\nline 2", "app.tar"}
		if err := fstest.TestFS(Files(h.plan(t)), expected...); err != nil {
			t.Errorf("moved %v: %v", moved, err)
		}
	}
}

func TestFiles(t *testing.T) {
	h := newHost(t)
	must(t, MoveIn(h.plan(t), []byte("redacted")))
	p := h.payload()
	write(t, p, "params.txt", "alpha = 2\n", 0o644)
	write(t, p, "made/by/job", "made\n", 0o644)
	must(t, os.Remove(filepath.Join(p, "Dockerfile")))
	write(t, p, "Dockerfile", "FROM forged\n", 0o644)
	write(t, p, "stderr.txt", "forged\n", 0o644)
	must(t, os.Symlink("../../init_data.xml", filepath.Join(p, "secret")), os.Symlink("params.txt", filepath.Join(p, "alias")),
		os.Symlink("../../..", filepath.Join(p, "up")), syscall.Mkfifo(filepath.Join(p, "fifo"), 0o644))
	fsys := Files(h.plan(t))
	for name, want := range map[string]string{"in": "project's in_0", "sub/in": "project's in_1", "sym_in": "project's in_3", "job.toml": "project's job_1.toml",
		"params.txt": "alpha = 2\n", "alias": "alpha = 2\n", "made/by/job": "made\n", "Dockerfile": "FROM scratch\n", "empty": "", "app.tar": "another archive\n"} {
		got, err := fs.ReadFile(fsys, name)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"init_data.xml", "INIT_DATA.xml", "stderr.txt", ".docker_wrapper", payloadName + "/params.txt", "secret", "up/init_data.xml",
		"foreign", "fifo", "out", "none", "../0/in", "/etc/passwd", "./in", ""} {
		if got, err := fs.ReadFile(fsys, name); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
		if got, err := fs.Stat(fsys, name); err == nil {
			t.Errorf("stat %s: got %v, want an error", name, got)
		}
	}
	for _, name := range []string{"init_data.xml", "../0", "up"} {
		if got, err := fs.ReadDir(fsys, name); err == nil && len(got) > 0 {
			t.Errorf("directory %s: got %v, want none", name, got)
		}
	}
	for dir, want := range map[string]string{
		".":    "AC_input Dockerfile a&b alias app.tar becomes_dir deleted empty img in in_overwritten job.toml locked made params.txt replaced run.sh sub sym_in Ünïcode %\nline 2",
		"sub":  "deep in table",
		"made": "by",
	} {
		entries, err := fs.ReadDir(fsys, dir)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", dir, got, err, want)
		}
	}
	if fi, err := fs.Stat(fsys, "in"); err != nil || fi.Name() != "in" || fi.Size() != int64(len("project's in_0")) {
		t.Errorf("stat in: got %v, %v; want the project's file under the logical name", fi, err)
	}
}

func TestPayload(t *testing.T) {
	h := newHost(t)
	must(t, MoveIn(h.plan(t), []byte("redacted")))
	dir := h.payload()
	must(t, os.Symlink("../../init_data.xml", filepath.Join(dir, "secret")), os.Symlink("/etc/passwd", filepath.Join(dir, "abs")),
		os.Symlink("..", filepath.Join(dir, "up")), os.Symlink("params.txt", filepath.Join(dir, "alias")), os.Symlink("loop", filepath.Join(dir, "loop")),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	big, err := os.Create(filepath.Join(dir, "big"))
	must(t, err, big.Truncate(1<<40), big.Close())
	at := time.Date(2025, 6, 7, 8, 9, 10, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "sub/table"), at, at))
	p := Payload{dir}
	for name, want := range map[string]string{"params.txt": "alpha ", "alias": "alpha ", "sub/table": "1 2 3\n", "empty": "", "big": "\x00\x00\x00\x00\x00\x00", "init_data.xml": "redact"} {
		if got, err := p.Read(name, 6); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"secret", "abs", "up/populated", "loop", "fifo", "sub", "none", "../../init_data.xml", "/etc/passwd", ".", ""} {
		if got, err := p.Read(name, 6); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
		if got, err := p.ModTime(name); err == nil {
			t.Errorf("time of %s: got %v, want an error", name, got)
		}
	}
	if got, err := p.ModTime("sub/table"); err != nil || !got.Equal(at) {
		t.Errorf("got %v, %v; want %v", got, err, at)
	}
	if got, err := (Payload{filepath.Join(dir, "none")}).Read("params.txt", 6); err == nil {
		t.Errorf("no payload: got %q, want an error", got)
	}
}

// A device that the job made isn't opened, even if it replaces a file at the last moment.
func TestPayloadOpensNoDevice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "text", 0o644)
	const watched = "watched"
	must(t, syscall.Mkfifo(filepath.Join(dir, watched), 0o644))
	// A FIFO stands for the device: opening it for writing without blocking succeeds only while it has a reader.
	stop, opened := make(chan struct{}), make(chan bool, 1)
	go func() {
		for {
			select {
			case <-stop:
				opened <- false
				return
			default:
			}
			if fd, err := syscall.Open(filepath.Join(dir, watched), syscall.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				syscall.Close(fd)
				opened <- true
				return
			}
		}
	}()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	for range 3000 {
		if got, err := (Payload{dir}).Read(watched, 6); err == nil {
			t.Errorf("got %q, want an error", got)
		}
		if runtime.GOOS == "linux" { // as if it had been exchanged after Stat
			if f, err := reopen(root, watched, os.O_RDONLY); err == nil {
				f.Close()
				t.Error("the FIFO was opened")
			}
		}
	}
	close(stop)
	if <-opened {
		t.Error("it was opened")
	}
}

func TestParseFraction(t *testing.T) {
	for in, want := range map[string]float64{"0": 0, "1": 1, "0.5": 0.5, " 0.5\n": 0.5, "\t.25\r\nmore\n": 0.25, "1e-3": 0.001, "1.0000": 1, "0.5 done": 0.5, "+0.5": 0.5} {
		if got, err := ParseFraction([]byte(in)); got != want || err != nil {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", " \n", "1.5", "1.0000001", "-0.1", "NaN", "nan", "Inf", "-Inf", "infinity", "1e999", "half", "50%", "0,5", "0.5\x00", "\xff", "0.5.5"} {
		if got, err := ParseFraction([]byte(in)); err == nil || got != 0 {
			t.Errorf("%q: got %v, %v; want an error", in, got, err)
		}
	}
}

func FuzzParseFraction(f *testing.F) {
	for _, s := range []string{"0.5\n", "NaN", "1e-400", "0x1p-2", "", "-0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseFraction(data)
		if !(got >= 0 && got <= 1) || err != nil && got != 0 {
			t.Errorf("%q: got %v, %v; want 0 to 1", data, got, err)
		}
	})
}

func TestOutputs(t *testing.T) {
	h := newHost(t)
	write(t, h.project(), "wu_0_0", "of an earlier attempt\n", 0o644)
	must(t, MakeOutputs(h.plan(t)), MakeOutputs(h.plan(t)))
	names := []string{"wu_0_0", "wu_0_1", "wu_0_2", "wu_0_3", "wu_0_4"}
	read := func() map[string]string {
		return fakeHost{h.project()}.contents(t, append(names, "in_0", "in_1"))
	}
	equal(t, "made", read(), map[string]string{"wu_0_0": "of an earlier attempt\n", "wu_0_1": "", "wu_0_2": "", "wu_0_3": "", "wu_0_4": "",
		"in_0": "project's in_0", "in_1": "project's in_1"})
	write(t, h.project(), "wu_0_1", "written\n", 0o644)
	write(t, h.project(), "wu_0_2", "", 0o644) // empty, but the job wrote it
	must(t, os.Chtimes(filepath.Join(h.project(), "in_0"), untouched, untouched), os.Truncate(filepath.Join(h.project(), "in_0"), 0))
	must(t, os.Remove(filepath.Join(h.project(), "wu_0_4")))
	must(t, DropOutputs(h.plan(t), nil), DropOutputs(h.plan(t), nil))
	equal(t, "dropped", read(), map[string]string{"wu_0_0": "of an earlier attempt\n", "wu_0_1": "written\n", "wu_0_2": "",
		"in_0": "", "in_1": "project's in_1"})
}

// The redacted init_data.xml replaces whatever the job put there. Without a payload nothing is written.
func TestWriteInitData(t *testing.T) {
	h := newHost(t)
	must(t, MoveIn(h.plan(t), []byte("first")))
	name := filepath.Join(h.payload(), "init_data.xml")
	for _, spoil := range []func(){
		func() {},
		func() { must(t, os.Remove(name), os.Symlink("../../init_data.xml", name)) },
		func() {
			must(t, os.Remove(name))
			write(t, name, "sub/file", "x", 0o644)
			must(t, os.Chmod(name+"/sub", 0o500))
		},
		func() { must(t, os.Chmod(h.payload(), 0o500)) },
		func() { write(t, h.slot(), tempName, "interrupted", 0o400) },
	} {
		spoil()
		must(t, WriteInitData(h.plan(t), []byte("second")))
		if got, err := os.ReadFile(name); err != nil || string(got) != "second" {
			t.Errorf("got %q, %v; want it new", got, err)
		}
		if fi, err := os.Lstat(name); err != nil || !fi.Mode().IsRegular() {
			t.Errorf("got %v, %v; want a file", fi, err)
		}
	}
	if _, err := MoveOut(h.plan(t), noNote); err != nil {
		t.Fatal(err)
	}
	before := h.tree(t)
	must(t, WriteInitData(h.plan(t), []byte("third")))
	equal(t, "after the end", h.tree(t), before)
	if got := before["slots/0/init_data.xml"]; !strings.Contains(got, "secret") {
		t.Errorf("BOINC's: got %s, want it unchanged", got)
	}
}

// Reserved names can't be read, in any spelling that a file system may treat as the same name.
func TestFilesHideReserved(t *testing.T) {
	dir := t.TempDir()
	files := Files(job.Slot{Dir: dir})
	for name, want := range map[string]bool{
		"in": true, "docker_wrapper": true, ".docker_wrapper2": true, ".docker_wrapper": false, ".DOCKER_WRAPPER": false, ".docker_wrapper.": false,
		".docker_wrapper::$DATA": false, "Init_Data.xml ": false, "stderr.txt:x": false,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := fs.ReadFile(files, name); (err == nil) != want {
			t.Errorf("%q: got %v, want it readable: %v", name, err, want)
		}
	}
}
