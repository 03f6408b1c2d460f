//go:build integration

package engine_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

var copyRows = []contractRow{
	{fact: "copy in: files and directories of every kind", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		k.must(t, errors.Join(
			os.MkdirAll(dir+"/tree/empty", 0o755),
			os.WriteFile(dir+"/tree/plain", []byte("plain"), 0o644),
			os.WriteFile(dir+"/tree/run", []byte("run"), 0o755), os.Chmod(dir+"/tree/run", 0o755),
			os.WriteFile(dir+"/tree/none", nil, 0o600),
			os.WriteFile(dir+"/tree/ünï 語\nline", []byte("u"), 0o644),
			os.Symlink("plain", dir+"/tree/link"),
			os.Link(dir+"/tree/plain", dir+"/tree/second"),
			syscall.Mkfifo(dir+"/tree/fifo", 0o644),
		))
		c := k.create(t, k.job("stat=/new/tree", "cat=/new/tree/link", "cat=/new/tree/second"))
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "tree", Dst: "/new/tree"}}))
		k.must(t, c.Start(t.Context()))
		got := k.finish(t, c)
		for _, want := range []string{"40755 0:0 \"/new/tree\"\n", "40755 0:0 \"/new/tree/empty\"\n", "100644 0:0 \"/new/tree/plain\"\n",
			"100755 0:0 \"/new/tree/run\"\n", "100600 0:0 \"/new/tree/none\"\n", "120777 0:0 \"/new/tree/link\"\n",
			"100644 0:0 \"/new/tree/ünï 語\\nline\"\n", "\nplainplain"} {
			if !strings.Contains(got.out, want) {
				t.Errorf("got %q, want %q in it", got.out, want)
			}
		}
		if strings.Contains(got.out, "fifo") || got.errOut != "" {
			t.Errorf("got %+v", got)
		}
	}},
	{fact: "copy in: a file into a directory that is there, onto a new name, over an old file", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("new "), 0o644)
		c := k.create(t, k.job("cat=/data/f", "cat=/data/sub/f", "cat=/data/sub/other", "cat=/a/b/c", "cat=/data/old"))
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "f", Dst: "/data"}, {Root: dir, Src: "f", Dst: "/data/sub/"},
			{Root: dir, Src: "f", Dst: "/data/sub/other"}, {Root: dir, Src: "f", Dst: "/a/b/c"}, {Root: dir, Src: "f", Dst: "/data/old"}}))
		k.must(t, c.Start(t.Context()))
		if got := k.finish(t, c); got.out != strings.Repeat("new ", 5) || got.errOut != "" {
			t.Errorf("got %+v", got)
		}
	}},
	{fact: "copy in: a directory's contents beside what is there", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("f"), 0o644)
		c := k.create(t, k.job("cat=/data/f", "cat=/data/old"))
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: ".", Dst: "/data"}}))
		k.must(t, c.Start(t.Context()))
		if got := k.finish(t, c); got.out != "fold" || got.errOut != "" {
			t.Errorf("got %+v, want fold", got)
		}
	}},
	{fact: "copy in: through a link of the image's to a directory", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("f"), 0o644)
		c := k.create(t, k.job("cat=/data/x", "cat=/data/sub/y", "cat=/data/f", "cat=/linked/f"))
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "f", Dst: "/linked/x"}, {Root: dir, Src: "f", Dst: "/linked/sub/y"},
			{Root: dir, Src: "f", Dst: "/linked"}}))
		k.must(t, c.Start(t.Context()))
		if got := k.finish(t, c); got.out != "ffff" || got.errOut != "" {
			t.Errorf("got %+v, want ffff", got)
		}
	}},
	{fact: "copy in: directories that are there keep their mode and owner", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("f"), 0o644)
		k.must(t, errors.Join(os.Mkdir(dir+"/d", 0o700), os.WriteFile(dir+"/d/g", nil, 0o644)))
		j := k.job("stat=/tmp")
		j.Container.User = job.User{Mode: "fixed", Fixed: "7:8"}
		c := k.create(t, j)
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "f", Dst: "/tmp"}, {Root: dir, Src: "f", Dst: "/tmp/new/f"},
			{Root: dir, Src: "f", Dst: "/tmp/f2"}, {Root: dir, Src: "d", Dst: "/tmp"}}))
		k.must(t, c.Start(t.Context()))
		got := k.finish(t, c).out
		for _, want := range []string{"41777 0:0 \"/tmp\"\n", "100644 7:8 \"/tmp/f\"\n", "40755 7:8 \"/tmp/new\"\n", "100644 7:8 \"/tmp/g\"\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("got %q, want %q in it", got, want)
			}
		}
	}},
	{fact: "copy in: the owner is who the program runs as", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("f"), 0o600)
		for user, want := range map[string]string{"alice": "1000:1000", "alice:staff": "1000:50", "1000": "1000:1000", "4711": "4711:0",
			"4711:staff": "4711:50", "alice:12": "1000:12", "bob": "1001:100"} {
			im, fsys := k.source("user", "COPY etc /etc\nUSER "+user+"\n")
			fsys["etc/passwd"] = &fstest.MapFile{Data: []byte("root:x:0:0::/:\nalice:x:1000:1000::/:\nbob:x:1001:100::/:\n")}
			fsys["etc/group"] = &fstest.MapFile{Data: []byte("root:x:0:\nstaff:x:50:alice\nalice:x:1000:\n")}
			c, err := k.e.Create(t.Context(), k.job("id", "stat=/in/f", "cat=/in/f"), k.ensure(t, im, fsys))
			k.must(t, err)
			t.Cleanup(func() { k.mustRemove(t, c) })
			k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "f", Dst: "/in/f"}}))
			k.must(t, c.Start(t.Context()))
			if got := k.finish(t, c); got.out != fmt.Sprintf("%s\n100600 %s %q\nf", want, want, "/in/f") {
				t.Errorf("%s: got %+v, want %s", user, got, want)
			}
		}
	}},
	{fact: "copy in: a file that isn't there is named", check: func(t *testing.T, k *contract) {
		c := k.create(t, k.job())
		err := c.CopyIn(t.Context(), []job.Copy{{Root: t.TempDir(), Src: "no such", Dst: "/x"}})
		var ce *engine.CopyError
		if !errors.As(err, &ce) || ce.Name != "no such" || !ce.Missing {
			t.Errorf("got %v, want *CopyError", err)
		}
	}},
	{fact: "copy in: nothing from outside the slot", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		k.must(t, errors.Join(os.Symlink("/etc/passwd", dir+"/out"), os.Symlink("../../..", dir+"/up")))
		c := k.create(t, k.job())
		for _, src := range []string{"out", "up/etc/passwd", "../x", "/etc/passwd"} {
			err := c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: src, Dst: "/x"}})
			var ce *engine.CopyError
			if !errors.As(err, &ce) {
				t.Errorf("%s: got %v, want *CopyError", src, err)
			}
		}
	}},
	{fact: "copy in and out: a large file, with little memory", alone: true, check: func(t *testing.T, k *contract) {
		const size = 256 << 20
		dir := t.TempDir()
		in, err := os.Create(dir + "/big")
		k.must(t, err)
		k.must(t, in.Truncate(size))
		for i := range int64(64) {
			_, err := in.WriteAt(fmt.Appendf(nil, "block %d of %s", i, k.run), i*(size/64))
			k.must(t, err)
		}
		k.must(t, in.Close())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := k.create(t, k.job())
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "big", Dst: "/big"}}))
		_, err = c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/big", Dst: "back"}}, 0)
		k.must(t, err)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > size/2 {
			t.Errorf("%d bytes of memory passed through, want few", used)
		}
		if a, b := hashOf(t, dir+"/big"), hashOf(t, dir+"/back"); a != b {
			t.Errorf("got %s back, want %s", b, a)
		}
	}},

	{fact: "copy out: files and directories of every kind", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		c := k.ended(t, "mkdir=/o/d/empty", "write=/o/f:f", "write=/o/run:run", "chmod=755:/o/run", "write=/o/none:", "chmod=0:/o/none",
			"write=/o/ünï 語\nline:u", "symlink=f:/o/rel", "symlink=../f:/o/d/up", "link=/o/f:/o/hard", "chmod=7777:/o/d")
		left, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/o", Dst: "got/it"}, {Root: dir, Src: "/o/f", Dst: "single"}}, 0)
		if err != nil || len(left) > 0 {
			t.Fatalf("left out %q, %v", left, err)
		}
		for name, want := range map[string]string{"got/it/f": "f", "got/it/run": "run", "got/it/none": "", "got/it/ünï 語\nline": "u",
			"got/it/rel": "f", "got/it/d/up": "f", "got/it/hard": "f", "single": "f"} {
			if data, err := os.ReadFile(filepath.Join(dir, name)); string(data) != want || err != nil {
				t.Errorf("%q: got %q, %v, want %q", name, data, err, want)
			}
		}
		for name, want := range map[string]fs.FileMode{"got/it/f": 0o644, "got/it/run": 0o755, "got/it/d": fs.ModeDir | 0o777, "got/it/d/empty": fs.ModeDir | 0o755} {
			if fi, err := os.Lstat(filepath.Join(dir, name)); err != nil || fi.Mode() != want {
				t.Errorf("%s: got %v, %v, want %v", name, fi, err, want)
			}
		}
	}},
	{fact: "copy out: names as long as names may be", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		a, b := strings.Repeat("a", 238), strings.Repeat("b", 255)
		c := k.ended(t, "mkdir=/o", "write=/o/"+a+":a", "write=/o/"+b+":b")
		left, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/o", Dst: "o"}}, 0)
		if err != nil || len(left) > 0 {
			t.Fatalf("left out %q, %v", left, err)
		}
		for name, want := range map[string]string{a: "a", b: "b"} {
			if data, err := os.ReadFile(filepath.Join(dir, "o", name)); string(data) != want || err != nil {
				t.Errorf("%.3s: got %q, %v", name, data, err)
			}
		}
	}},
	{fact: "copy out: one that isn't possible doesn't prevent the others", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "file", nil, 0o644)
		c := k.ended(t, "mkdir=/o", "write=/o/f:f")
		_, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/none", Dst: "a"}, {Root: dir, Src: "/o/f", Dst: "file/b"}, {Root: dir, Src: "/o/f", Dst: "c"}}, 0)
		var faults engine.CopyErrors
		if !errors.As(err, &faults) || len(faults) != 2 || !faults[0].Missing || faults[1].Missing || faults[1].Copy.Dst != "file/b" {
			t.Errorf("got %v, want an error for each of the first two", err)
		}
		if data, err := os.ReadFile(dir + "/c"); string(data) != "f" || err != nil {
			t.Errorf("got %q, %v", data, err)
		}
	}},
	{fact: "changes: files that the job made are found by their names", check: func(t *testing.T, k *contract) {
		c := k.ended(t, "mkdir=/work/sub", "write=/work/out:1", "write=/work/sub/Out:2", "mkdir=/x/out", "write=/x/out/file:x", "write=/data/old:new", "write=/out.txt:3")
		began := time.Now()
		got, err := c.FindMade(t.Context(), []string{"out", "old", "none"})
		k.must(t, err)
		t.Logf("took %v", time.Since(began))
		want := map[string]string{"out": "/work/out /work/sub/Out", "old": "/data/old", "none": ""}
		for name, files := range want {
			if strings.Join(got[name], " ") != files {
				t.Errorf("%s: got %q, want %q", name, got[name], files)
			}
		}
	}},
	{fact: "copy out: over what is there", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("old and longer"), 0o644)
		k.must(t, errors.Join(os.Mkdir(dir+"/o", 0o755), os.WriteFile(dir+"/o/f", []byte("older"), 0o444), os.Symlink("/etc/hostname", dir+"/link")))
		c := k.ended(t, "mkdir=/o", "write=/o/f:new")
		_, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/o/f", Dst: "f"}, {Root: dir, Src: "/o", Dst: "o"}, {Root: dir, Src: "/o/f", Dst: "link"}}, 0)
		k.must(t, err)
		for _, name := range []string{"f", "o/f", "link"} {
			if data, err := os.ReadFile(filepath.Join(dir, name)); string(data) != "new" || err != nil {
				t.Errorf("%s: got %q, %v", name, data, err)
			}
		}
	}},
	{fact: "copy out: an output that isn't there is named", check: func(t *testing.T, k *contract) {
		c := k.ended(t, "fifo=/fifo", "symlink=/nowhere:/dangling", "symlink=/loop:/loop")
		for src, missing := range map[string]bool{"/no/such": true, "/dangling": true, "/data/old/x": true, "/fifo": false, "/loop": false} {
			dir := t.TempDir()
			k.within(t, 10*time.Second, func() {
				_, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: src, Dst: "x"}}, 0)
				var ce *engine.CopyError
				if !errors.As(err, &ce) || ce.Name != src || missing && !ce.Missing {
					t.Errorf("%s: got %v, want *CopyError", src, err)
				}
			})
			if _, err := os.Lstat(dir + "/x"); err == nil {
				t.Errorf("%s: something came out", src)
			}
		}
	}},
	{fact: "copy out: a link is followed in the container, not on the host", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		c := k.ended(t, "symlink=/etc/shadow:/abs", "mkdir=/o", "symlink=../../../../../etc/shadow:/o/rel", "symlink=/abs:/twice", "symlink=/etc:/dir")
		for i, src := range []string{"/abs", "/o/rel", "/twice", "/dir/shadow", "/o/../etc/shadow"} {
			dst := fmt.Sprint("shadow", i)
			if left, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: src, Dst: dst}}, 0); err != nil || len(left) > 0 {
				t.Errorf("%s: left out %q, %v", src, left, err)
			}
			if fi, err := os.Lstat(filepath.Join(dir, dst)); err != nil || !fi.Mode().IsRegular() {
				t.Errorf("%s: got %v, %v, want a file", src, fi, err)
				continue
			}
			if data, err := os.ReadFile(filepath.Join(dir, dst)); string(data) != "of the container" || err != nil {
				t.Errorf("%s: got %q, %v", src, data, err)
			}
		}
	}},
	{fact: "copy out: what leads elsewhere, and what is no file, stays", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		c := k.ended(t, "mkdir=/o/d", "write=/o/f:f", "symlink=/etc/passwd:/o/abs", "symlink=../../../etc/passwd:/o/d/up", "symlink=..:/o/parent",
			"fifo=/o/fifo", "symlink=/o/f:/o/home")
		left, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/o", Dst: "o"}}, 0)
		k.must(t, err)
		var names []string
		for _, l := range left {
			names = append(names, l.Name)
		}
		slices.Sort(names)
		if want := []string{"o/abs", "o/d/up", "o/fifo", "o/home", "o/parent"}; !slices.Equal(names, want) {
			t.Errorf("left out %q, want %q", names, want)
		}
		var got []string
		k.must(t, filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			got = append(got, strings.TrimPrefix(name, dir))
			return err
		}))
		if want := []string{"", "/o", "/o/d", "/o/f"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}},
	{fact: "copy out: no more than the limit", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		c := k.ended(t, "fill=/big:3145728", "grow=/sparse:2000000000")
		for _, src := range []string{"/big", "/sparse"} {
			k.within(t, 10*time.Second, func() {
				_, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: src, Dst: "x"}}, 3<<20-1)
				var ce *engine.CopyError
				if !errors.As(err, &ce) || ce.Missing {
					t.Errorf("%s: got %v, want *CopyError", src, err)
				}
			})
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
			t.Errorf("got %v, %v, want nothing", list, err)
		}
		_, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/big", Dst: "x"}}, 3<<20)
		k.must(t, err)
	}},
	{fact: "copy out: of a paused container, and its state tells when it was changed", check: func(t *testing.T, k *contract) {
		before := time.Now()
		c := k.ready(t, k.job("mkdir=/state/parts", "write=/state/parts/a:one", "symlink=/state/parts/a:/link", "write=/ready:", "sleep=1m"))
		k.pause(t, c)
		for _, name := range []string{"/state/parts/a", "/link"} {
			at, err := c.ModTime(t.Context(), name)
			if k.must(t, err); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: got %v, want about %v", name, at, before)
			}
		}
		dir := t.TempDir()
		leftOut, err := c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/state", Dst: "saved"}}, 1<<20)
		if k.must(t, err); len(leftOut) > 0 {
			t.Errorf("left out: %q", leftOut)
		}
		if got, err := os.ReadFile(dir + "/saved/parts/a"); string(got) != "one" || err != nil {
			t.Errorf("got %q, %v, want one", got, err)
		}
		if !k.paused(t, c) {
			t.Error("it is not paused any more")
		}
		for _, name := range []string{"/none", "/state"} {
			if _, err := c.ModTime(t.Context(), name); err == nil || errors.Is(err, engine.ErrNotFound) != (name == "/none") {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}},
	{fact: "copy: nothing out of a tmpfs or shared memory, and nothing into shared memory", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "f", []byte("f"), 0o644)
		for _, target := range []string{"/t", "/dev/shm"} { // job.Plan refuses such copies. Podman alone fills a new tmpfs with what the image has there
			j := k.job("cat="+target+"/f", "write="+target+"/g:g")
			j.Container.Extra.Tmpfs = map[string]string{"/t": ""}
			c := k.create(t, j)
			if err := c.CopyIn(t.Context(), []job.Copy{{Root: dir, Src: "f", Dst: target + "/f"}}); err != nil {
				t.Errorf("%s: copy in: got %v", target, err)
			}
			k.must(t, c.Start(t.Context()))
			if got := k.finish(t, c); target == "/dev/shm" && !strings.Contains(got.errOut, "no such file") {
				t.Errorf("%s: copied in: got %+v, want no such file", target, got)
			}
			_, err := c.CopyOut(t.Context(), []job.Copy{{Root: t.TempDir(), Src: target + "/g", Dst: "g"}}, 0)
			var ce *engine.CopyError
			if !errors.As(err, &ce) || !ce.Missing {
				t.Errorf("%s: copy out: got %v, want a *CopyError", target, err)
			}
		}
	}},
	{fact: "read: a name without a directory is in the working directory", check: func(t *testing.T, k *contract) {
		j := k.job("write=/data/f:0.5", "write=/ready:", "sleep=1m")
		j.Container.Extra.Workdir = "/data"
		c := k.ready(t, j)
		if got, err := c.ReadFile(t.Context(), "f", 4); string(got) != "0.5" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := c.ReadFile(t.Context(), "ready", 4); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}},
	{fact: "read: a file of a running container", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("write=/f:0.5", "fifo=/fifo", "grow=/huge:1000000000000", "symlink=/f:/link", "write=/ready:", "sleep=1m"))
		for _, row := range []struct{ name, want string }{{"/f", "0.5"}, {"/huge", "\x00\x00\x00\x00"}, {"/etc/shadow", "of t"}} {
			k.within(t, 5*time.Second, func() {
				if got, err := c.ReadFile(t.Context(), row.name, 4); string(got) != row.want || err != nil {
					t.Errorf("%s: got %q, %v, want %q", row.name, got, err, row.want)
				}
			})
		}
		if _, err := c.ReadFile(t.Context(), "/none", 4); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		for _, name := range []string{"/", "/data", "/fifo", "/dev/null", "/dev/zero", "/link"} {
			k.within(t, 5*time.Second, func() {
				if got, err := c.ReadFile(t.Context(), name, 4); err == nil || errors.Is(err, engine.ErrNotFound) && !strings.HasPrefix(name, "/dev/") {
					t.Errorf("%s: got %q, %v, want an error", name, got, err)
				}
			})
		}
	}},
}

// ended is a container whose program has run and said nothing on stderr.
func (k *contract) ended(t *testing.T, args ...string) *engine.Container {
	t.Helper()
	c := k.start(t, k.job(args...))
	if got := k.finish(t, c); got.exit.Code != 0 || got.errOut != "" {
		t.Fatalf("got %+v", got)
	}
	return c
}

func hashOf(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
