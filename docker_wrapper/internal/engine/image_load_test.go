package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// blobs are files of an image archive by name.
type blobs map[string]string

func (b blobs) add(data string) (name, digestOf string) {
	d := digest.FromString(data)
	name = "blobs/sha256/" + d.Encoded()
	b[name] = data
	return name, d.String()
}

const imageConfig = `{"architecture":"%s","config":{"Cmd":["print loaded"]}}`

// dockerArchive is what docker save writes.
func dockerArchive(tags ...string) blobs {
	m, err := json.Marshal([]manifest{{Config: "config.json", RepoTags: tags, Layers: []string{"layer.tar"}}})
	if err != nil {
		panic(err)
	}
	return blobs{"manifest.json": string(m), "config.json": fmt.Sprintf(imageConfig, "amd64"), "layer.tar": "layer", "repositories": `{"evil":{"latest":"x"}}`}
}

// layout is an OCI image layout with an image per platform; nested puts them below another index.
func layout(nested bool, archs ...string) blobs {
	b := blobs{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}
	var list []string
	for _, arch := range archs {
		_, c := b.add(fmt.Sprintf(imageConfig, arch))
		_, l := b.add("layer of " + arch)
		_, m := b.add(fmt.Sprintf(`{"config":{"digest":"%s"},"layers":[{"digest":"%s"}]}`, c, l))
		list = append(list, fmt.Sprintf(`{"digest":"%s","platform":{"architecture":"%s","os":"linux"}}`, m, arch))
	}
	index := `{"manifests":[` + strings.Join(list, ",") + `]}`
	if nested {
		_, d := b.add(index)
		index = fmt.Sprintf(`{"manifests":[{"digest":"%s"}]}`, d)
	}
	b["index.json"] = index
	return b
}

func (b blobs) tar(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(b)) {
		text := b[name]
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t testing.TB, data []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

func open1(t *testing.T, o enginetest.Options) (*Engine, *enginetest.Engine) {
	t.Helper()
	fake, err := enginetest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(t.Context(), Options{Host: fake.Host()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), fake.Close()); err != nil {
			t.Error(err)
		}
	})
	return e, fake
}

func TestLoad(t *testing.T) {
	two := dockerArchive()
	two["manifest.json"] = `[{"Config":"config.json"},{"Config":"config.json"}]`
	lost := dockerArchive()
	delete(lost, "layer.tar")
	unfinished := layout(false, "amd64")
	unfinished["index.json"] = `{"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`
	round := layout(false)
	round["index.json"] = `{"manifests":[]}`
	dotted := blobs{}
	for name, text := range dockerArchive("evil:latest") {
		dotted["./"+name] = text
	}
	docker := dockerArchive("evil:latest").tar(t)
	tests := []struct {
		name  string
		bytes []byte
		err   string // of *ImageError
	}{
		{name: "docker-archive", bytes: docker},
		{name: "docker-archive, gzip", bytes: gzipped(t, docker)},
		{name: "docker-archive, zstd", bytes: zstandard(t, docker)},
		{name: "docker-archive, names with a dot", bytes: dotted.tar(t)},
		{name: "OCI layout", bytes: layout(false, "amd64").tar(t)},
		{name: "OCI layout, gzip", bytes: gzipped(t, layout(false, "amd64").tar(t))},
		{name: "OCI layout, several platforms", bytes: layout(false, "arm64", "amd64", "riscv64").tar(t)},
		{name: "OCI layout, an index below", bytes: layout(true, "arm64", "amd64").tar(t)},
		{name: "OCI layout for others", bytes: layout(false, "arm64", "riscv64").tar(t), err: "it holds no image for amd64"},
		{name: "OCI layout for one other", bytes: layout(false, "arm64").tar(t), err: "it is made for arm64, and this computer's engine runs amd64"},
		{name: "OCI layout without its blobs", bytes: unfinished.tar(t), err: "blobs/sha256/0{64} is missing"},
		{name: "OCI layout without images", bytes: round.tar(t), err: "it holds no image for amd64"},
		{name: "two images", bytes: two.tar(t), err: "it holds 2 images, want one"},
		{name: "a layer is missing", bytes: lost.tar(t), err: "layer layer.tar: no such file"},
		{name: "a broken manifest", bytes: blobs{"manifest.json": "{"}.tar(t), err: "manifest.json: "},
		{name: "a tar of something else", bytes: blobs{"hello": "world"}.tar(t), err: "not an image archive"},
		{name: "no tar", bytes: bytes.Repeat([]byte("rubbish "), 100), err: "read archive app.tar: "},
		{name: "nothing", bytes: nil, err: "read archive app.tar: "},
		{name: "cut off", bytes: docker[:520], err: "read archive app.tar: unexpected EOF"},
		{name: "cut off, gzip", bytes: gzipped(t, docker)[:100], err: "read archive app.tar: unexpected EOF"},
		{name: "broken, zstd", bytes: append(zstandard(t, docker)[:60], bytes.Repeat([]byte{1}, 60)...), err: "read archive app.tar: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			dir := t.TempDir()
			archive := filepath.Join(dir, "app.tar")
			if err := os.WriteFile(archive, tt.bytes, 0o644); err != nil {
				t.Fatal(err)
			}
			im := job.Image{Sources: []job.Source{{Name: "boinc_ours", Archive: archive}}, LockDir: dir}
			id, err := e.Ensure(t.Context(), im, nil)
			if tt.err != "" {
				var ie *ImageError
				if !errors.As(err, &ie) || !matches(tt.err, err.Error()) {
					t.Fatalf("got %v, want *ImageError %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// Under our name only: another image's name in the archive is not taken from it.
			if diff := cmp.Diff([]string{"boinc_ours:latest"}, fake.Images()); diff != "" {
				t.Error(diff)
			}
			again, err := e.Ensure(t.Context(), im, nil)
			if err != nil || again != id || fake.Count("load") != 1 {
				t.Errorf("the second time: got %s, %v after %d loads, want %s after 1", again, err, fake.Count("load"), id)
			}
		})
	}
}

// packed is an archive of files and entries. What a regular entry holds is its Uname.
func packed(t testing.TB, files blobs, before bool, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	good := func() {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644})
			if err == nil {
				_, err = io.WriteString(tw, files[name])
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if before {
		good()
	}
	for _, h := range entries {
		text := h.Uname
		h.Uname, h.Mode = "", 0o644
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(text))
		}
		err := tw.WriteHeader(&h)
		if err == nil {
			_, err = io.WriteString(tw, text[:h.Size])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !before {
		good()
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Whatever is in an archive, the engine gets one image under our name, or none; and no other tag moves.
func TestLoadHostile(t *testing.T) {
	const evil = `[{"Config":"config.json","RepoTags":["victim:1"],"Layers":["layer.tar"]}]`
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: evil} }
	link := func(kind byte, name, to string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: to}
	}
	without := func(b blobs, names ...string) blobs {
		b = maps.Clone(b)
		for _, name := range names {
			delete(b, name)
		}
		return b
	}
	with := func(config string, layers ...string) blobs {
		b := without(dockerArchive(), "repositories")
		m, err := json.Marshal([]manifest{{Config: config, Layers: layers}})
		if err != nil {
			t.Fatal(err)
		}
		b["manifest.json"] = string(m)
		return b
	}
	docker, oci := dockerArchive("victim:1"), layout(false, "amd64")
	badDigest := func(digest string) blobs {
		return blobs{"index.json": fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, digest)}
	}
	big := dockerArchive()
	big["config.json"] = strings.Repeat(" ", maxManifest+1)
	tests := []struct {
		name    string
		files   blobs
		before  bool // the good files come first
		entries []tar.Header
		err     string // of *ImageError; "" when it is loaded under our name alone
	}{
		{name: "absolute", files: docker, before: true, entries: []tar.Header{file("/manifest.json")}},
		{name: "absolute, before", files: docker, entries: []tar.Header{file("/manifest.json")}},
		{name: "absolute, twice", files: docker, before: true, entries: []tar.Header{file("//manifest.json")}},
		{name: "above", files: docker, before: true, entries: []tar.Header{file("../manifest.json")}},
		{name: "absolute and above", files: docker, before: true, entries: []tar.Header{file("/../manifest.json")}},
		{name: "up and down", files: docker, before: true, entries: []tar.Header{file("a/../manifest.json")}},
		{name: "not in its shortest form", files: docker, before: true, entries: []tar.Header{file("a/..//./manifest.json")}},
		{name: "in a directory that is a symlink", files: docker, before: true, entries: []tar.Header{link(tar.TypeSymlink, "x", "."), file("x/manifest.json")}},
		{name: "in a directory that is an absolute symlink", files: docker, before: true, entries: []tar.Header{link(tar.TypeSymlink, "x", "/"), file("x/manifest.json")}},
		{name: "a PAX header has the name", files: docker, before: true, entries: []tar.Header{{Typeflag: tar.TypeReg, Name: "x", Uname: evil,
			PAXRecords: map[string]string{"path": "/manifest.json"}}}},
		{name: "upper case", files: docker, before: true, entries: []tar.Header{file("MANIFEST.JSON")}},
		{name: "repositories", files: docker, before: true, entries: []tar.Header{{Typeflag: tar.TypeReg, Name: "/repositories", Uname: `{"victim":{"1":"x"}}`}}},
		{name: "OCI's beside docker's", files: docker, before: true, entries: []tar.Header{file("/index.json"), file("/oci-layout")}},
		{name: "docker's beside OCI's", files: oci, before: true, entries: []tar.Header{file("/manifest.json")}},
		{name: "a second manifest", files: docker, before: true, entries: []tar.Header{file("manifest.json")}, err: "manifest.json is in it more than once"},
		{name: "a second manifest, with a dot", files: docker, entries: []tar.Header{file("./manifest.json")}, err: "manifest.json is in it more than once"},
		{name: "a second index", files: oci, before: true, entries: []tar.Header{file("index.json")}, err: "index.json is in it more than once"},
		{name: "a hard link over the manifest", files: docker, before: true, entries: []tar.Header{file("x"), link(tar.TypeLink, "manifest.json", "x")}, err: "manifest.json is in it more than once"},
		{name: "a hard link for the manifest", files: without(docker, "manifest.json"), entries: []tar.Header{file("x"), link(tar.TypeLink, "manifest.json", "x")}, err: "manifest.json is no regular file"},
		{name: "a symlink for the manifest", files: without(docker, "manifest.json"), entries: []tar.Header{file("x"), link(tar.TypeSymlink, "manifest.json", "x")}, err: "manifest.json is no regular file"},
		{name: "only an absolute manifest", files: without(docker, "manifest.json"), entries: []tar.Header{file("/manifest.json")}, err: "not an image archive"},

		{name: "a second layer file", files: docker, before: true, entries: []tar.Header{file("layer.tar")}, err: "layer layer.tar is in it more than once"},
		{name: "a second configuration", files: docker, entries: []tar.Header{file("./config.json")}, err: "configuration config.json is in it more than once"},
		{name: "a layer over which a symlink lies", files: docker, before: true, entries: []tar.Header{link(tar.TypeSymlink, "layer.tar", "config.json")}, err: "more than once"},
		{name: "a layer that is a directory", files: without(docker, "layer.tar"), entries: []tar.Header{{Typeflag: tar.TypeDir, Name: "layer.tar"}}, err: "layer.tar"},
		{name: "a layer that is a device", files: without(docker, "layer.tar"), entries: []tar.Header{{Typeflag: tar.TypeBlock, Name: "layer.tar"}}, err: "layer layer.tar is no regular file"},
		{name: "a layer that is a hard link", files: without(docker, "layer.tar"), entries: []tar.Header{file("x"), link(tar.TypeLink, "layer.tar", "x")}, err: "layer layer.tar is no regular file"},
		{name: "a layer that is a symlink to the host", files: without(docker, "layer.tar"), entries: []tar.Header{link(tar.TypeSymlink, "layer.tar", "/etc/passwd")}, err: "layer layer.tar is no regular file"},
		{name: "a layer that is a symlink out of it", files: without(docker, "layer.tar"), entries: []tar.Header{link(tar.TypeSymlink, "layer.tar", "../../etc/passwd")}, err: "layer layer.tar is no regular file"},
		{name: "a layer that is a symlink to a symlink", files: without(docker, "layer.tar"), entries: []tar.Header{file("y"), link(tar.TypeSymlink, "x", "y"), link(tar.TypeSymlink, "layer.tar", "x")}, err: "layer layer.tar is no regular file"},
		{name: "a configuration that is a symlink to the host", files: without(docker, "config.json"), entries: []tar.Header{link(tar.TypeSymlink, "config.json", "/etc/passwd")}, err: "configuration config.json is no regular file"},
		{name: "a layer with an absolute name", files: with("config.json", "/layer.tar"), entries: []tar.Header{file("/layer.tar")}, err: "layer /layer.tar: no such file"},
		{name: "a layer above", files: with("config.json", "../layer.tar"), entries: []tar.Header{file("../layer.tar")}, err: "layer ../layer.tar: no such file"},
		{name: "a layer of the host", files: with("config.json", "../../../../etc/passwd"), err: "no such file"},
		{name: "a configuration of the host", files: with("/etc/passwd", "layer.tar"), err: "configuration /etc/passwd: no such file"},
		{name: "a layer by a name that isn't its shortest", files: with("config.json", "a/../layer.tar"), err: "no such file"},
		{name: "a layer without a name", files: with("config.json", ""), err: "layer : no such file"},
		{name: "a configuration that is too large", files: big, err: "configuration config.json is too large"},
		{name: "layers without end", files: with("config.json", slices.Repeat([]string{"layer.tar"}, 501)...), err: "501 layers, want at most 500"},
		{name: "a digest that is none", files: badDigest("x"), err: "index.json: invalid checksum digest format"},
		{name: "a digest that leads elsewhere", files: badDigest("sha256:../../../manifest.json"), err: "index.json: invalid checksum digest"},
		{name: "a digest without an algorithm", files: badDigest(":x"), err: "index.json: invalid checksum digest format"},

		{name: "good: a layer twice", files: with("config.json", "layer.tar", "layer.tar")},
		{name: "good: the configuration is a layer", files: with("config.json", "config.json")},
		{name: "good: as docker save wrote a layer a second time", files: with("config.json", "layer.tar", "2/layer.tar"),
			entries: []tar.Header{{Typeflag: tar.TypeDir, Name: "2/"}, link(tar.TypeSymlink, "2/layer.tar", "../layer.tar")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			if err := fake.AddImage("victim:1", enginetest.Image{}); err != nil {
				t.Fatal(err)
			}
			victim, err := e.inspectImage(t.Context(), "victim:1")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			name := filepath.Join(dir, "app.tar")
			if err := os.WriteFile(name, packed(t, tt.files, tt.before, tt.entries...), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err = e.Ensure(t.Context(), job.Image{Sources: []job.Source{{Name: "boinc_ours", Archive: name}}, LockDir: dir}, nil)
			var ie *ImageError
			if tt.err == "" && err != nil || tt.err != "" && (!errors.As(err, &ie) || mayMend(err) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want *ImageError %q", err, tt.err)
			}
			if now, err := e.inspectImage(t.Context(), "victim:1"); err != nil || now.ID != victim.ID {
				t.Errorf("got %s, %v for the victim's name, want %s", now.ID, err, victim.ID)
			}
			want := []string{"boinc_ours:latest", "victim:1"}
			if tt.err != "" {
				want = want[1:]
			}
			if diff := cmp.Diff(want, fake.Images()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// An archive that unpacks to more than any computer has is read no further than to where it says so, and not
// at all when the job is cancelled.
func TestReadArchiveEnds(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 1<<40 + 1}); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		data []byte
		want string
	}{
		{name: "too much", ctx: t.Context(), data: b.Bytes(), want: "more than 1024 GiB, unpacked"},
		{name: "cancelled", ctx: cancelled, data: dockerArchive().tar(t), want: "context canceled"},
		{name: "cancelled, gzip", ctx: cancelled, data: gzipped(t, dockerArchive().tar(t)), want: "context canceled"},
	} {
		name := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(name, tt.data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readArchive(tt.ctx, name, "amd64"); fmt.Sprint(err) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

// What is in the archive for the engine: our manifest, and each file once.
func TestRewrite(t *testing.T) {
	files := dockerArchive("x:1")
	files["manifest.json"] = `[{"Config":"config.json","Layers":["layer.tar","2/layer.tar","a"]}]`
	files["a"], files["other"] = "aa", "other"
	name := filepath.Join(t.TempDir(), "x.tar")
	data := packed(t, files, true, tar.Header{Typeflag: tar.TypeSymlink, Name: "2/layer.tar", Linkname: "../layer.tar"}, tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"})
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := readArchive(t.Context(), name, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.rewrite(&out, bytes.NewReader(data), "ours:1"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for tr := tar.NewReader(&out); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %s %s", h.Typeflag, h.Name, text))
	}
	want := []string{`0 manifest.json [{"Config":"config.json","RepoTags":["ours:1"],"Layers":["layer-0.tar","layer-0.tar","layer-2.tar"]}]`,
		"0 layer-2.tar aa", "0 config.json " + files["config.json"], "0 layer-0.tar layer"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What the wrapper keeps in memory doesn't grow with an archive that was made to exhaust it.
func TestReadArchiveIsBounded(t *testing.T) {
	many := func(n int, text string) func(*tar.Writer) {
		return func(tw *tar.Writer) {
			for i := range n {
				err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("blobs/sha256/%064d", i), Size: int64(len(text)), Mode: 0o644})
				if err == nil {
					_, err = io.WriteString(tw, text)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	layer, object := strings.Repeat("\x00", 3<<20), "{"+strings.Repeat(" ", 3<<20)
	tests := []struct {
		name  string
		blobs func(*tar.Writer)
		rest  blobs
		err   string
	}{
		{name: "many small layers", blobs: many(12, layer), rest: layout(false, "amd64")},
		{name: "many configurations beside docker's manifest", blobs: many(12, object), rest: dockerArchive()},
		{name: "many configurations", blobs: many(12, object), rest: layout(false, "amd64"), err: "more than 32 MiB of manifests"},
		{name: "many entries", blobs: many(10_001, ""), rest: layout(false, "amd64"), err: "more than 10000 files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "x.tar")
			f, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			z := gzip.NewWriter(f)
			tw := tar.NewWriter(z)
			tt.blobs(tw)
			if err := tw.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := z.Write(tt.rest.tar(t)); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = readArchive(t.Context(), name, "amd64")
			runtime.ReadMemStats(&after)
			if got := fmt.Sprint(err); tt.err == "" && err != nil || !strings.Contains(got, tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 300<<20 {
				t.Errorf("got %d MiB allocated, want few", got>>20)
			}
		})
	}
}

func FuzzReadArchive(f *testing.F) {
	f.Add(dockerArchive("x:1").tar(f))
	f.Add(layout(true, "arm64", "amd64").tar(f))
	f.Add(gzipped(f, layout(false, "amd64").tar(f)))
	f.Add(zstandard(f, dockerArchive().tar(f)))
	f.Fuzz(func(t *testing.T, archive []byte) {
		name := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(name, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := readArchive(t.Context(), name, "amd64")
		if err != nil {
			return
		}
		r, err := openArchive(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := a.rewrite(io.Discard, r, "ours:1"); err != nil {
			t.Error(err)
		}
	})
}

// An archive that ends too early is found without an engine, wherever it ends and however it is packed.
func TestTruncatedArchives(t *testing.T) {
	noise := make([]byte, 64<<10) // which compression doesn't make shorter
	rand.Read(noise)
	files := dockerArchive("x:1")
	files["layer.tar"] = string(noise)
	whole := files.tar(t)
	for name, data := range map[string][]byte{"plain": whole, "gzip": gzipped(t, whole), "zstandard": zstandard(t, whole)} {
		file := filepath.Join(t.TempDir(), "x.tar")
		for _, end := range []int{len(data), len(data) / 2, len(data) / 8, 600, 5, 0} {
			if err := os.WriteFile(file, data[:end], 0o644); err != nil {
				t.Fatal(err)
			}
			err := CheckArchive(t.Context(), file)
			if end == len(data) && err != nil || end < len(data) && err == nil {
				t.Errorf("%s: %d of %d bytes: got %v", name, end, len(data), err)
			}
			if end == len(data)/2 && !strings.Contains(fmt.Sprint(err), "empty or truncated") {
				t.Errorf("%s: half of it: got %v", name, err)
			}
		}
	}
}
