//go:build unix

package slot

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"boincdocker/docker_wrapper/internal/job"
)

// An output is delivered, whatever of the job's own files it is made of, or it is known why it isn't.
func TestOutputIsDelivered(t *testing.T) {
	long := strings.Repeat("n", 238)
	for _, tt := range []struct {
		name   string
		link   string // logical name; "" means out
		target string // physical name; "" means wu_0_0
		make   func(t *testing.T, p string, at func(string) string)
		want   string // in the project directory
		why    string // in the reason; "none" if the job made none
	}{
		{name: "a file", make: func(t *testing.T, p string, at func(string) string) { write(t, p, "out", "result", 0o644) }, want: "result"},
		{name: "a file of mode 000", want: "result", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "out", "result", 0o644)
			must(t, os.Chmod(at("out"), 0))
		}},
		{name: "appended to a link of mode 000", want: "more\n", make: func(t *testing.T, p string, at func(string) string) {
			f, err := os.OpenFile(at("out"), os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = f.WriteString("more\n")
			must(t, err, f.Chmod(0), f.Close())
		}},
		{name: "a symlink to a file beside it", want: "result", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "aaa", "result", 0o644) // which is moved before
			must(t, os.Remove(at("out")), os.Symlink("aaa", at("out")))
		}},
		{name: "a symlink into a closed directory", want: "result", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "dir/sub/res", "result", 0)
			must(t, os.Remove(at("out")), os.Symlink("dir/sub/res", at("out")), os.Chmod(at("dir/sub"), 0), os.Chmod(at("dir"), 0))
		}},
		{name: "an absolute symlink, as the container sees it", want: "result", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "dir/res", "result", 0o644)
			must(t, os.Remove(at("out")), os.Symlink("/app/second", at("out")), os.Symlink("/app/dir/res", at("second")))
		}},
		{name: "a symlink in a directory", link: "sub/out", target: "wu_0_3", want: "result", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "res", "result", 0o644)
			must(t, os.Remove(at("sub/out")), os.Symlink("../res", at("sub/out")))
		}},
		{name: "the job writes none", make: func(*testing.T, string, func(string) string) {}, why: "none"},
		{name: "the job removes the link", make: func(t *testing.T, p string, at func(string) string) { must(t, os.Remove(at("out"))) }, why: "none"},
		{name: "a directory", why: "it is a directory", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")))
			write(t, p, "out/res", "x", 0o644)
		}},
		{name: "a symlink to a directory", why: "a symlink to the directory dir", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "dir/res", "x", 0o644)
			must(t, os.Remove(at("out")), os.Symlink("dir", at("out")))
		}},
		{name: "a FIFO", why: "it is neither a file nor a directory", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")), syscall.Mkfifo(at("out"), 0o644))
		}},
		{name: "a symlink to nothing", why: "a symlink to none, which isn't there", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")), os.Symlink("none", at("out")))
		}},
		{name: "a symlink to a file of the container", why: "a symlink to /tmp/res, which is in the container and not in the slot", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")), os.Symlink("/tmp/res", at("out")))
		}},
		{name: "a symlink out of the slot", why: "a symlink to ../../init_data.xml, which leads out of the slot", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")), os.Symlink("../../init_data.xml", at("out")))
		}},
		{name: "symlinks in a circle", why: "its symlinks lead in a circle", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")), os.Symlink("out", at("out")))
		}},
		{name: "a symlink to a link file", why: "it is a symlink to in, a link file", make: func(t *testing.T, p string, at func(string) string) {
			must(t, os.Remove(at("out")), os.Symlink("in", at("out")))
		}},
		{name: "a physical name that isn't the result's", link: "other", target: "elsewhere_1", why: "linked to elsewhere_1, which is not an output of this result: the names of its outputs begin with wu_0_",
			make: func(t *testing.T, p string, at func(string) string) { write(t, p, "other", "result", 0o644) }},
		{name: "files that can't be moved are nothing that prevents it", want: "result", make: func(t *testing.T, p string, at func(string) string) {
			write(t, p, "out", "result", 0o644)
			write(t, p, "dir/"+long, "long", 0)
			deep := strings.Repeat(long+"/", 40) // longer than a path may be
			root, err := os.OpenRoot(p)
			must(t, err)
			must(t, root.MkdirAll(deep, 0o755), root.WriteFile(deep+"file", []byte("deep"), 0o755), root.Close())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHostIn(t, inMemory(t))
			write(t, h.slot(), "other", soft+"elsewhere_1</soft_link>\n", 0o644)
			plan := func() job.Slot {
				s := h.plan(t)
				s.Mount, s.Result = "/app", "wu_0"
				return s
			}
			must(t, MoveIn(plan(), nil))
			tt.make(t, h.payload(), func(name string) string { return filepath.Join(h.payload(), name) })
			moved, err := MoveOut(plan(), noNote)
			must(t, err)
			link, target := "out", "wu_0_0"
			if tt.link != "" {
				link, target = tt.link, tt.target
			}
			got, err := os.ReadFile(filepath.Join(h.project(), target))
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			why, lost := "", false
			for _, l := range Lost(plan(), moved.Lost) {
				if l.Name == link {
					why, lost = l.Why, true
				}
			}
			switch {
			case lost != (tt.why != ""):
				t.Errorf("lost: %v, %q", lost, why)
			case tt.why == "none" && why != "", tt.why != "none" && !strings.Contains(why, tt.why):
				t.Errorf("got reason %q, want %q", why, tt.why)
			}
			if _, err := os.Lstat(h.payload()); err == nil {
				t.Error("the payload is still there")
			}
		})
	}
}

// An output that the client moves itself has no link. A symlink of its name becomes the file that it leads to.
func TestSymlinksBecomeFiles(t *testing.T) {
	t.Parallel()
	h := newHostIn(t, inMemory(t))
	must(t, MoveIn(h.plan(t), []byte("redacted")))
	write(t, h.payload(), "dir/res", "result", 0o600)
	for name, target := range map[string]string{"res": "dir/res", "secret": "init_data.xml", "input": "in", "outside": "../../init_data.xml"} {
		must(t, os.Symlink(target, filepath.Join(h.payload(), name)))
	}
	left, err := moveOut(h.plan(t))
	must(t, err)
	fi, err := os.Lstat(filepath.Join(h.slot(), "res"))
	must(t, err)
	if got, err := os.ReadFile(filepath.Join(h.slot(), "res")); string(got) != "result" || err != nil || !fi.Mode().IsRegular() {
		t.Errorf("got %v %q, %v", fi.Mode(), got, err)
	}
	if got, want := strings.Join(left, " "), "input outside secret"; got != want {
		t.Errorf("left out %q, want %q", got, want)
	}
}
