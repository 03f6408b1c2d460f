package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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
		{name: "a layer is missing", bytes: lost.tar(t), err: "load: .*layer.tar: no such file"},
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

// What the wrapper keeps in memory doesn't grow with an archive that was made to exhaust it.
func TestReadManifestIsBounded(t *testing.T) {
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
			_, err = readManifest(name, "amd64")
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

func FuzzReadManifest(f *testing.F) {
	f.Add(dockerArchive("x:1").tar(f))
	f.Add(layout(true, "arm64", "amd64").tar(f))
	f.Add(gzipped(f, layout(false, "amd64").tar(f)))
	f.Add(zstandard(f, dockerArchive().tar(f)))
	f.Fuzz(func(t *testing.T, archive []byte) {
		name := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(name, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := readManifest(name, "amd64")
		if err != nil {
			return
		}
		r, err := openArchive(name)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := rewrite(io.Discard, r, m); err != nil {
			t.Logf("%v", err) // what can be read can't always be written again
		}
	})
}
