package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"boincdocker/docker_wrapper/internal/job"
)

// archiveOf makes a tar of "name", "name/", "name=text", "name->target" (symlink), "name=>target" (hard link) and
// "name!" (device).
func archiveOf(t testing.TB, entries ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e, Mode: 0o4644}
		text := ""
		if name, target, ok := strings.Cut(e, "->"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, name, target
		} else if name, target, ok := strings.Cut(e, "=>"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, name, target
		} else if name, ok := strings.CutSuffix(e, "!"); ok {
			h.Typeflag, h.Name, h.Devmajor = tar.TypeChar, name, 1
		} else if strings.HasSuffix(e, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o500
		} else if h.Name, text, _ = strings.Cut(e, "="); text != "" {
			h.Size = int64(len(text))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tree lists a directory: files with their text, links with their target.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			got[rel+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			got[rel] = "->" + target
			return err
		default:
			data, err := os.ReadFile(name)
			got[rel] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// unpackInto unpacks what the archive calls "src" as "dst" of the directory slot, which has a file outside next to it.
func unpackInto(t testing.TB, parent string, archive []byte, limit int64) (leftOut []string, err error) {
	t.Helper()
	slot := filepath.Join(parent, "slot")
	if err := errors.Join(os.MkdirAll(slot, 0o755), os.WriteFile(filepath.Join(parent, "outside"), []byte("old"), 0o644),
		os.WriteFile(filepath.Join(slot, "init_data.xml"), []byte("old"), 0o644)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(slot)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := &unpacker{root: root, left: limit, limited: limit > 0}
	err = u.unpack(context.Background(), bytes.NewReader(archive), "src", "dst")
	return names(u.leftOut.Files()), err
}

func TestUnpack(t *testing.T) {
	tests := []struct {
		name    string
		entries []string
		limit   int64
		want    map[string]string // in the slot, besides init_data.xml
		leftOut string
		err     string
	}{
		{name: "a file", entries: []string{"src=text"}, want: map[string]string{"dst": "text"}},
		{name: "a directory", entries: []string{"src/", "src/a=1", "src/sub/", "src/sub/b=2"}, want: map[string]string{"dst/": "", "dst/a": "1", "dst/sub/": "", "dst/sub/b": "2"}},
		{name: "a directory whose entry is missing", entries: []string{"src/", "src/sub/b=2"}, err: "no such file"},
		{name: "links that stay", entries: []string{"src/", "src/a=1", "src/l->a", "src/h=>src/a"}, want: map[string]string{"dst/": "", "dst/a": "1", "dst/l": "->a", "dst/h": "1"}},
		{name: "climbing", entries: []string{"src/", "src/../../outside=new", "../outside=new", "src/../init_data.xml=new"}, want: map[string]string{"dst/": ""},
			leftOut: "src/../../outside ../outside src/../init_data.xml"},
		{name: "absolute", entries: []string{"/src=new", "/etc/passwd=new"}, leftOut: "/src /etc/passwd"},
		{name: "another name", entries: []string{"srcery=1", "other=1", "src=2"}, want: map[string]string{"dst": "2"}, leftOut: "srcery other"},
		{name: "a link to outside", entries: []string{"src/", "src/l->../init_data.xml", "src/m->/etc/passwd"}, want: map[string]string{"dst/": ""}, leftOut: "src/l src/m"},
		{name: "a link in place of the file", entries: []string{"src->init_data.xml"}, leftOut: "src"},
		{name: "writing through a link", entries: []string{"src/", "src/l->.", "src/l/x=1", "src/sub/", "src/sub/m->..", "src/sub/m/y=1"},
			want: map[string]string{"dst/": "", "dst/l": "->.", "dst/sub/": "", "dst/sub/m": "->.."}, leftOut: "src/l/x src/sub/m/y"},
		{name: "links that climb together", entries: []string{"src/", "src/a/", "src/a/b/", "src/a/b/up->../..", "src/out->a/b/up/..", "src/init->a/b/up/../init_data.xml"},
			want: map[string]string{"dst/": "", "dst/a/": "", "dst/a/b/": "", "dst/a/b/up": "->../.."}, leftOut: "src/out src/init"},
		{name: "hard links to elsewhere", entries: []string{"src/", "src/h=>init_data.xml", "src/i=>src/../../outside", "src/j=>src/nowhere", "src/k=>src"}, want: map[string]string{"dst/": ""},
			leftOut: "src/h src/i src/j src/k"},
		{name: "devices", entries: []string{"src/", "src/null!"}, want: map[string]string{"dst/": ""}, leftOut: "src/null"},
		{name: "exactly the limit", entries: []string{"src/", "src/a=12345", "src/b=12345"}, limit: 10, want: map[string]string{"dst/": "", "dst/a": "12345", "dst/b": "12345"}},
		{name: "over the limit", entries: []string{"src/", "src/a=12345", "src/b=123456"}, limit: 10, want: map[string]string{"dst/": "", "dst/a": "12345"},
			err: "dst/b: more output than rsc_disk_bound allows"},
		{name: "a file twice", entries: []string{"src=1", "src=2"}, want: map[string]string{"dst": "2"}},
		{name: "a file in place of a directory", entries: []string{"src/", "src/a/", "src/a=2"}, want: map[string]string{"dst/": "", "dst/a/": ""},
			err: "dst/a: a file can't take the place of a directory"},
		{name: "a file in place of a link", entries: []string{"src/", "src/a=1", "src/l->a", "src/l=2"}, want: map[string]string{"dst/": "", "dst/a": "1", "dst/l": "2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent := t.TempDir()
			leftOut, err := unpackInto(t, parent, archiveOf(t, tt.entries...), tt.limit)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if got := strings.Join(leftOut, " "); got != tt.leftOut {
				t.Errorf("left out %q, want %q", got, tt.leftOut)
			}
			got := tree(t, parent)
			if got["outside"] != "old" || got["slot/init_data.xml"] != "old" {
				t.Error("something outside was changed")
			}
			want := map[string]string{"outside": "old", "slot/": "", "slot/init_data.xml": "old"}
			for name, text := range tt.want {
				want["slot/"+name] = text
			}
			if tt.err != "" && tt.want == nil {
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Directories that are nested deeply cost no more than others, and what is left out is listed briefly.
func TestUnpackIsBounded(t *testing.T) {
	var deep []string
	for i := range 3000 {
		deep = append(deep, "src/"+strings.Repeat("d/", i))
	}
	parent := t.TempDir()
	start := time.Now()
	leftOut, err := unpackInto(t, parent, archiveOf(t, append(deep, "src/f=1", "src/"+strings.Repeat("d/", 3000)+"f=1", "src/"+strings.Repeat("d/", 100)+"l->f")...), 0)
	if took := time.Since(start); err != nil || took > 5*time.Second*timeFactor {
		t.Errorf("got %v after %v", err, took)
	}
	if len(leftOut) != 21 || !strings.HasSuffix(leftOut[20], " more") || len(strings.Join(leftOut, "")) > 10_000 {
		t.Errorf("got %d names of what was left out, %q", len(leftOut), leftOut)
	}
	got := tree(t, parent)
	dirs := 0
	for name := range got {
		dirs = max(dirs, strings.Count(name, "/"))
	}
	if got["slot/dst/f"] != "1" || dirs != maxNested+1 { // with "slot/", and the last one's "/"
		t.Errorf("got %q and %d directories in one another, want %d", got["slot/dst/f"], dirs, maxNested+1)
	}
}

func TestUnpackTruncated(t *testing.T) {
	whole := archiveOf(t, "src=a text that is cut off")
	for _, n := range []int{100, 512, 520, 530} {
		parent := t.TempDir()
		_, err := unpackInto(t, parent, whole[:n], 0)
		if !errors.Is(wrap(err), ErrUnreachable) {
			t.Errorf("%d bytes: got %v, want an engine that broke off", n, err)
		}
		if diff := cmp.Diff(map[string]string{"outside": "old", "slot/": "", "slot/init_data.xml": "old"}, tree(t, parent)); diff != "" {
			t.Errorf("%d bytes: %s", n, diff)
		}
	}
}

func TestUnpackModes(t *testing.T) {
	parent := t.TempDir()
	if _, err := unpackInto(t, parent, archiveOf(t, "src/", "src/a=1"), 0); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"slot/dst": fs.ModeDir | 0o700, "slot/dst/a": 0o644} { // no set-user-ID; the owner can always get in
		fi, err := os.Stat(filepath.Join(parent, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%s: got %v, want %v", name, fi.Mode(), want)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, "src/", "src/a=1", "src/l->a", "src/h=>src/a", "src/sub/"))
	f.Add(archiveOf(f, "src/../../outside=new", "src->/etc/passwd", "src/null!"))
	f.Add(archiveOf(f, "src/", "src/l->.", "src/l/l->..", "src/a/b/up->../..", "src/m->a/b/up/../../outside"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		parent := t.TempDir()
		const limit = 1 << 16
		unpackInto(t, parent, archive, limit)
		size := 0
		for name, text := range tree(t, parent) {
			switch {
			case name == "outside" || name == "slot/init_data.xml":
				if text != "old" {
					t.Errorf("%s was changed", name)
				}
			case name != "slot/" && name != "slot/dst" && !strings.HasPrefix(name, "slot/dst/"):
				t.Errorf("%s was made", name)
			case strings.HasSuffix(name, ".docker_wrapper.part"):
				t.Errorf("%s was left", name)
			case strings.HasPrefix(text, "->"):
				real, err := filepath.EvalSymlinks(filepath.Join(parent, name))
				if inside := filepath.Join(parent, "slot", "dst"); err == nil && real != inside && !strings.HasPrefix(real, inside+"/") {
					t.Errorf("%s leads to %s", name, real)
				}
			}
			size += len(text)
		}
		if size > 2*limit {
			t.Errorf("%d bytes were written", size)
		}
	})
}

func TestLookUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/home/app:/bin/sh\n"
	tests := []struct {
		name     string
		uid, gid int
		ok       bool
	}{{"app", 1000, 1001, true}, {"1000", 1000, 1001, true}, {"root", 0, 0, true}, {"nobody", 0, 0, false}, {"broken", 0, 0, false}, {"", 0, 0, false}}
	for _, tt := range tests {
		if uid, gid, ok := lookUser(passwd, tt.name); uid != tt.uid || gid != tt.gid || ok != tt.ok {
			t.Errorf("%q: got %d %d %t, want %d %d %t", tt.name, uid, gid, ok, tt.uid, tt.gid, tt.ok)
		}
	}
}

// An engine that breaks off between two files has not sent all of them.
func TestUnpackCutOff(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := errors.Join(tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "src/", Mode: 0o755}), tw.Flush()); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := &unpacker{root: root}
	if err := u.unpack(t.Context(), &b, "src", "dst"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want ErrUnexpectedEOF", err)
	}
}

// names are those of files that were left out.
func names(left []job.Left) (names []string) {
	for _, l := range left {
		names = append(names, l.Name)
	}
	return names
}
