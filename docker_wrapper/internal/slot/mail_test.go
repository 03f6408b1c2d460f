//go:build unix

package slot

import (
	"context"
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

	"github.com/google/go-cmp/cmp"
)

// newMail makes a slot whose job has begun.
func newMail(t testing.TB) (fakeHost, *Mail) {
	t.Helper()
	h := newHostIn(t, inMemory(t))
	must(t, MoveIn(h.plan(t), nil))
	b, err := OpenMail(h.plan(t), 1000)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return h, b
}

func TestTrickle(t *testing.T) {
	const look, over = "the job goes on", "the job is over"
	send := func(name string) func(*testing.T, string) {
		return func(t *testing.T, p string) { write(t, p, "trickle_up.xml", name, 0o644) }
	}
	const whole = "<variety>v</variety>\n<step>1</step>\n"
	tests := []struct {
		name string
		does []any // a function is a step of the job, a string a call of Trickle; the last call takes the message
		want string
		err  string
	}{
		{name: "unchanged since the last look", does: []any{send(whole), look, look}, want: "v|<step>1</step>\n"},
		{name: "renamed over an older one", does: []any{send("<variety>v</variety>\nolder"), look, func(t *testing.T, p string) {
			write(t, p, "new", whole, 0o644)
			must(t, os.Rename(filepath.Join(p, "new"), filepath.Join(p, "trickle_up.xml")))
		}, look, look}, want: "v|<step>1</step>\n"},
		{name: "written slowly", does: []any{send("<variety>"), look, look, look, send("<variety>v</variety>\n"), look, look, look,
			send("<variety>v</variety>\n<a><b>"), look, look, look, send("<variety>v</variety>\n<a><b>1</b></a>"), look, look}, want: "v|<a><b>1</b></a>"},
		{name: "the job is over", does: []any{send(whole), over}, want: "v|<step>1</step>\n"},
		{name: "no text for a long time", does: slices.Concat([]any{send("<variety>v</variety>\n")}, slices.Repeat([]any{look}, patience+1)), want: "v|"},
		{name: "entities and Windows line ends", does: []any{send("<variety>v w</variety>\r\na &lt; b &#233; é"), over}, want: "v w|a &lt; b &#233; é"},
		{name: "as long as allowed", does: []any{send("<variety>v</variety>\n" + strings.Repeat("x", maxTrickle-21)), over}, want: "v|" + strings.Repeat("x", maxTrickle-21)},

		{name: "too long", does: slices.Concat([]any{send("<variety>v</variety>\n" + strings.Repeat("x", maxTrickle-20))}, slices.Repeat([]any{look}, patience+1)), err: "longer than"},
		{name: "incomplete for a long time", does: slices.Concat([]any{send("<variety>v</variety>\n<a>")}, slices.Repeat([]any{look}, patience+1)), err: "not valid XML"},
		{name: "incomplete at the end", does: []any{send("<variety>v</variety>\n<a>"), over}, err: "not valid XML"},
		{name: "empty", does: []any{send(""), over}, err: "doesn't begin with"},
		{name: "no variety", does: []any{send("<step>1</step>"), over}, err: "doesn't begin with"},
		{name: "an empty variety", does: []any{send("<variety></variety>x"), over}, err: "variety must have 1 to 255 bytes"},
		{name: "a long variety", does: []any{send("<variety>" + strings.Repeat("v", 256) + "</variety>x"), over}, err: "variety must have 1 to 255 bytes"},
		{name: "an element in the variety", does: []any{send("<variety><a>v</a></variety>x"), over}, err: "variety must have 1 to 255 bytes"},
		{name: "the end tag of its element", does: []any{send("<variety>v</variety>\n</msg_from_host><result><msg_from_host>"), over}, err: `it contains "msg_from_host"`},
		{name: "the end tag in a CDATA section", does: []any{send("<variety>v</variety>\n<![CDATA[\n</msg_from_host>\n]]>"), over}, err: "it contains"},
		{name: "a comment", does: []any{send("<variety>v</variety>\n<!-- -->"), over}, err: `it contains "<!"`},
		{name: "an instruction", does: []any{send("<variety>v</variety>\n<?xml version='1.0'?>"), over}, err: `it contains "<?"`},
		{name: "an ampersand", does: []any{send("<variety>v</variety>\na & b"), over}, err: "not valid XML"},
		{name: "a control character", does: []any{send("<variety>v</variety>\na\x01b"), over}, err: "not valid XML"},
		{name: "other than UTF-8", does: []any{send("<variety>v</variety>\na\xe9b"), over}, err: "not valid XML"},
		{name: "a FIFO", does: []any{func(t *testing.T, p string) { must(t, syscall.Mkfifo(filepath.Join(p, "trickle_up.xml"), 0o666)) }, look}, err: "not a regular file"},
		{name: "a directory", does: []any{func(t *testing.T, p string) { write(t, p, "trickle_up.xml/sub/file", "", 0o666) }, look}, err: "not a regular file"},
		{name: "a link to the account key", does: []any{func(t *testing.T, p string) {
			must(t, os.Symlink("../../init_data.xml", filepath.Join(p, "trickle_up.xml")))
		}, look}, err: "not a regular file"},
		{name: "a closed directory", does: []any{func(t *testing.T, p string) {
			write(t, p, "trickle_up.xml", whole, 0o644)
			must(t, os.Chmod(p, 0))
		}, look, look}, want: "v|<step>1</step>\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, b := newMail(t)
			for i, do := range tt.does {
				if f, ok := do.(func(*testing.T, string)); ok {
					f(t, h.payload())
					continue
				}
				if r, err := b.Requests(); !r.Trickle || err != nil {
					t.Fatalf("step %d: got %+v, %v, want a trickle-up message", i, r, err)
				}
				variety, text, ok, err := b.Trickle(do == over)
				if i < len(tt.does)-1 {
					if ok || err != nil {
						t.Fatalf("step %d: got %q %q, %v, want none yet", i, variety, text, err)
					}
					continue
				}
				if tt.err != "" {
					if ok || err == nil || !strings.Contains(err.Error(), tt.err) {
						t.Errorf("got %q %q, %v, want %q", variety, text, err, tt.err)
					}
					break
				}
				if got := variety + "|" + text; got != tt.want || !ok || err != nil {
					t.Fatalf("got %q, %v, %v, want %q", got, ok, err, tt.want)
				}
				if _, err := os.Lstat(filepath.Join(h.payload(), "trickle_up.xml")); !errors.Is(err, fs.ErrNotExist) {
					t.Error("it is still in the payload")
				}
				// The client was busy, and the wrapper is restarted.
				again, err := OpenMail(h.plan(t), 0)
				must(t, err)
				if v, x, ok, err := again.Trickle(false); v != variety || x != text || !ok || err != nil {
					t.Errorf("the second time: got %q %q, %v, %v", v, x, ok, err)
				}
				must(t, again.TrickleSent(), again.Close())
			}
			if r, err := b.Requests(); r.Trickle || err != nil {
				t.Errorf("afterwards: got %+v, %v, want nothing", r, err)
			}
			must(t, os.Chmod(h.payload(), 0o755))
		})
	}
}

func TestRequests(t *testing.T) {
	h, b := newMail(t)
	for _, name := range []string{"trickle_up.xml", "boinc_ufr_out", "boinc_ufr_in", "boinc_ufr_", "boinc_ufr_sym_out", "boinc_ufr_none"} {
		write(t, h.payload(), name, "", 0o644)
	}
	want := Requests{Trickle: true, Uploads: []string{"out", "sym_out"}, Unwanted: []string{"boinc_ufr_", "boinc_ufr_in", "boinc_ufr_none"}}
	got, err := b.Requests()
	slices.Sort(got.Unwanted)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	for i := range 2 * maxLookedAt {
		must(t, os.Link(filepath.Join(h.payload(), "boinc_ufr_none"), filepath.Join(h.payload(), fmt.Sprintf("boinc_ufr_%d", i))))
	}
	start := cpuTime(t)
	got, err = b.Requests()
	if took := cpuTime(t) - start; took > time.Second {
		t.Errorf("it took %v of CPU time", took)
	}
	if !got.Trickle || !slices.Equal(got.Uploads, want.Uploads) || len(got.Unwanted) != maxUnwanted || err != nil {
		t.Errorf("of many: got %+v, %v", got, err)
	}
	must(t, b.Refuse(got.Unwanted[0]), b.UploadAsked("out"))
	if _, err := os.Lstat(filepath.Join(h.payload(), "boinc_ufr_out")); err == nil {
		t.Error("the request is still there")
	}
	must(t, os.RemoveAll(h.payload()))
	if got, err := b.Requests(); err != nil || got.Trickle {
		t.Errorf("without a payload: got %+v, %v", got, err)
	}
}

// An unchanged directory isn't read again, a changed one is.
func TestRequestsOfQuietPayload(t *testing.T) {
	h, b := newMail(t)
	before := time.Now().Add(-time.Hour)
	look := func(when string, want Requests) {
		t.Helper()
		got, err := b.Requests()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, want -, got +:\n%s", when, err, diff)
		}
	}
	look("just changed", Requests{})
	must(t, os.Chtimes(h.payload(), before, before))
	look("long unchanged", Requests{})
	write(t, h.payload(), "trickle_up.xml", "", 0o644)
	look("changed", Requests{Trickle: true})
	must(t, os.Chtimes(h.payload(), before, before))
	look("unchanged and waiting", Requests{Trickle: true})
	must(t, b.Refuse("trickle_up.xml"), os.Chtimes(h.payload(), before, before))
	look("refused", Requests{})
	write(t, h.payload(), "trickle_up.xml", "", 0o644)
	must(t, os.Chtimes(h.payload(), before, before))
	look("as if unchanged", Requests{})
}

func TestBringOutput(t *testing.T) {
	tests := []struct {
		name, logical, physical string
		does                    func(*testing.T, fakeHost)
		want, err               string
		atEnd                   string
	}{
		{name: "under its logical name", logical: "out", physical: "wu_0_0", want: "part 1", atEnd: "part 1 and 2",
			does: func(t *testing.T, h fakeHost) { write(t, h.payload(), "out", "part 1", 0o600) }},
		{name: "appended to the link file", logical: "out", physical: "wu_0_0", want: "part 1", atEnd: "part 1 and 2",
			does: func(t *testing.T, h fakeHost) {
				write(t, h.payload(), "out", soft+"wu_0_0</soft_link>\npart 1", 0o644)
			}},
		{name: "in a closed directory", logical: "sym_out", physical: "wu_0_4", want: "part 1", atEnd: "part 1",
			does: func(t *testing.T, h fakeHost) {
				write(t, h.payload(), "sym_out", "part 1", 0o644)
				must(t, os.Chmod(h.payload(), 0o300))
			}},
		{name: "in the mounted project directory", logical: "out", physical: "wu_0_0", want: "part 1", atEnd: "part 1 and 2",
			does: func(t *testing.T, h fakeHost) { write(t, h.project(), "wu_0_0", "part 1", 0o644) }},
		{name: "not written", logical: "out", physical: "wu_0_0", err: "has not written it"},
		{name: "made for the mount and not written", logical: "out", physical: "wu_0_0", err: "has not written it",
			does: func(t *testing.T, h fakeHost) { must(t, MakeOutputs(h.plan(t))) }},
		{name: "too large", logical: "out", physical: "wu_0_0", err: "it has 1001 bytes, more than the job's limit of 1000",
			does: func(t *testing.T, h fakeHost) { write(t, h.payload(), "out", strings.Repeat("x", 1001), 0o644) }},
		{name: "an input", logical: "in", physical: "in_0", err: "no output of this job", want: "project's in_0",
			does: func(t *testing.T, h fakeHost) { write(t, h.payload(), "in", "forged", 0o644) }},
		{name: "a copied file", logical: "result.txt", physical: "none", err: "no output of this job"},
		{name: "a link to the account key", logical: "out", physical: "wu_0_0", err: "has not written it",
			does: func(t *testing.T, h fakeHost) {
				must(t, os.Remove(filepath.Join(h.payload(), "out")), os.Symlink("../../init_data.xml", filepath.Join(h.payload(), "out")))
			}},
		{name: "a FIFO", logical: "out", physical: "wu_0_0", err: "has not written it",
			does: func(t *testing.T, h fakeHost) {
				must(t, os.Remove(filepath.Join(h.payload(), "out")), syscall.Mkfifo(filepath.Join(h.payload(), "out"), 0o644))
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, b := newMail(t)
			if tt.does != nil {
				tt.does(t, h)
			}
			if tt.name == "in a closed directory" {
				_, err := b.Requests()
				must(t, err)
			}
			var before []byte
			if tt.err == "" {
				var err error
				before, err = os.ReadFile(filepath.Join(h.payload(), tt.logical))
				must(t, err)
			}
			err := b.BringOutput(t.Context(), tt.logical)
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			target := filepath.Join(h.project(), tt.physical)
			if got, _ := os.ReadFile(target); string(got) != tt.want {
				t.Errorf("in the project directory: got %q, want %q", got, tt.want)
			}
			if tt.err != "" {
				return
			}
			if after, err := os.ReadFile(filepath.Join(h.payload(), tt.logical)); string(after) != string(before) || err != nil {
				t.Errorf("the job's own: got %q, %v, want %q", after, err, before)
			}
			if tt.atEnd != tt.want {
				name := filepath.Join(h.payload(), tt.logical)
				if strings.Contains(tt.name, "mounted") {
					name = target
				}
				f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				_, err = f.WriteString(" and 2")
				must(t, err, f.Close())
			}
			must(t, b.Last())
			_, err = MoveOut(h.plan(t), noNote)
			must(t, err)
			if got, err := os.ReadFile(target); string(got) != tt.atEnd || err != nil {
				t.Errorf("at the end: got %q, %v, want %q", got, err, tt.atEnd)
			}
		})
	}
}

// An interrupted copy leaves the physical name unchanged.
func TestBringOutputBrokenOff(t *testing.T) {
	h, b := newMail(t)
	write(t, h.payload(), "out", "output", 0o644)
	write(t, h.payload(), "boinc_ufr_out", "", 0o644)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.BringOutput(ctx, "out"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	write(t, h.project(), "wu_0_0"+".docker_wrapper.part", "left by a wrapper that was killed", 0o644)
	must(t, b.Last())
	for _, name := range []string{filepath.Join(h.project(), "wu_0_0"), filepath.Join(h.project(), "wu_0_0"+".docker_wrapper.part"), filepath.Join(h.payload(), "boinc_ufr_out")} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want nothing", name, err)
		}
	}
}

func TestDeliver(t *testing.T) {
	h, b := newMail(t)
	const down, status, bad = "trickle_down_1700000000", "boinc_ufs_out", "boinc_ufs_in"
	write(t, h.slot(), down, "<text>", 0o600)
	write(t, h.slot(), status, "<status>1</status>\n", 0o644)
	write(t, h.slot(), bad+"/directory", "", 0o644) // not from the client
	write(t, h.payload(), down+"/in/the/way", "", 0o644)
	must(t, os.Symlink("../../init_data.xml", filepath.Join(h.payload(), status)))
	must(t, os.Chmod(h.payload(), 0o500))
	names, err := b.Deliver()
	if diff := cmp.Diff([]string{status, down}, names); diff != "" || err != nil {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	for name, want := range map[string]string{down: "<text>", status: "<status>1</status>\n"} {
		inside := filepath.Join(h.payload(), name)
		if got, err := os.ReadFile(inside); string(got) != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
		if fi, err := os.Lstat(inside); err != nil || fi.Mode().Perm()&0o444 != 0o444 {
			t.Errorf("%s: got %v, %v, want it readable by the container's user", name, fi, err)
		}
		if _, err := os.Lstat(filepath.Join(h.slot(), name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still in the slot", name)
		}
	}
	if got, err := os.ReadFile(filepath.Join(h.slot(), "init_data.xml")); err != nil || !strings.Contains(string(got), "secret") {
		t.Errorf("the client's init_data.xml: got %q, %v", got, err)
	}
	if names, err := b.Deliver(); len(names) > 0 || err != nil {
		t.Errorf("again: got %q, %v, want nothing", names, err)
	}
	if notes, err := moveOut(h.plan(t)); len(notes) > 0 || err != nil {
		t.Errorf("at the end: got notes %q, %v, want none", notes, err)
	}
	write(t, h.slot(), down, "late", 0o644)
	if names, err := b.Deliver(); len(names) > 0 || err != nil {
		t.Errorf("without a payload: got %q, %v, want nothing", names, err)
	}
}

func TestSporadic(t *testing.T) {
	h, b := newMail(t)
	ca, ac := filepath.Join(h.slot(), "ca"), filepath.Join(h.slot(), "ac")
	theirCA, theirAC := filepath.Join(h.payload(), "ca"), filepath.Join(h.payload(), "ac")
	check := func(when string, want ...string) {
		t.Helper()
		must(t, b.Sporadic())
		for i, name := range []string{theirCA, ac} {
			if got, err := os.ReadFile(name); string(got) != want[i] || err != nil {
				t.Errorf("%s: %s: got %q, %v, want %q", when, filepath.Base(name), got, err, want[i])
			}
		}
	}
	write(t, h.slot(), "ca", "1\n", 0o644)
	check("at the start", "1\n", "0\n")
	kept, err := os.Open(ac) // as boincapi has it
	must(t, err)
	defer kept.Close()
	jobs, err := os.Open(theirCA)
	must(t, err)
	defer jobs.Close()
	write(t, h.payload(), "ac", "2\n", 0o644)
	must(t, os.WriteFile(ca, []byte("3\n"), 0o644))
	check("both have written", "3\n", "2\n")
	for _, f := range []*os.File{kept, jobs} {
		n, err := f.ReadAt(make([]byte, 9), 0)
		if n != 2 {
			t.Errorf("%s, kept open: got %d bytes, %v", f.Name(), n, err)
		}
	}
	write(t, h.payload(), "ac", "12 nonsense", 0o644)
	check("not a number", "3\n", "0\n")
	must(t, os.Remove(theirAC), os.Symlink("../../init_data.xml", theirAC))
	must(t, os.Remove(theirCA), os.Symlink("../../init_data.xml", theirCA))
	must(t, os.WriteFile(ca, []byte("2\n"), 0o644))
	check("links", "2\n", "0\n")
	must(t, os.Remove(theirCA), syscall.Mkfifo(theirCA, 0o644), os.Remove(theirAC), os.Mkdir(theirAC, 0o755))
	must(t, os.WriteFile(ca, []byte("3\n"), 0o644))
	check("a FIFO and a directory", "3\n", "0\n")
	if got, err := os.ReadFile(filepath.Join(h.slot(), "init_data.xml")); err != nil || !strings.Contains(string(got), "secret") {
		t.Errorf("the client's init_data.xml: got %q, %v", got, err)
	}
}

func FuzzParseTrickle(f *testing.F) {
	f.Add("<variety>v</variety>\n<a>1</a>")
	f.Add("<variety>v</variety>\n</msg_from_host>")
	f.Fuzz(func(t *testing.T, s string) {
		variety, text, err := parseTrickle([]byte(s))
		if err == nil && (variety == "" || strings.Contains(variety+text, "msg_from_host") || !strings.HasSuffix(s, text)) {
			t.Errorf("got %q %q", variety, text)
		}
	})
}
