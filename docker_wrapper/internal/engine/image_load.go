package engine

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/client"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"boincdocker/docker_wrapper/internal/job"
)

// maxWindow is how much memory zstd may need, in bytes: as for `zstd --long=27`.
const maxWindow = 128 << 20

// Bounds of an archive, which may have been made to exhaust the memory.
const (
	maxArchived     = 10_000   // files in it; an image has a few for each layer
	maxArchivedName = 1 << 10  // bytes of a name; an image needs no longer one
	maxUnpacked     = 1 << 40  // bytes of all files
	maxLayers       = 500      // of an image; no engine can stack more
	maxManifest     = 4 << 20  // bytes of one; manifests and configurations are small, layers aren't
	maxManifests    = 32 << 20 // bytes of all
)

// load loads an archive from the slot into the engine under the source's name. The engine gets an archive that is
// written here. So it never sees what else the original contains, nor the names in it.
func (e *Engine) load(ctx context.Context, s job.Source) error {
	name := path.Base(s.Archive)
	e.log.Info().Str("image", s.Name).Str("archive", name).Msg("load image")
	a, err := readArchive(ctx, s.Archive, e.Info.Architecture)
	if ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return archiveError(s, err)
	}
	f, err := openArchive(ctx, s.Archive)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.Archive, err)
	}
	defer f.Close()
	var written error
	err = e.loadTar(ctx, func(w io.Writer) error {
		written = a.rewrite(w, f, tagged(s.Name))
		return written
	})
	if written != nil && ctx.Err() == nil && !errors.Is(written, errAborted) && !errors.Is(written, io.ErrClosedPipe) {
		return archiveError(s, written)
	}
	return imageError("load", s, err)
}

// loadTar gives the engine an archive that pack writes, and returns when the engine and pack are done.
func (e *Engine) loadTar(ctx context.Context, pack func(io.Writer) error) error {
	pr, pw := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		pw.CloseWithError(pack(pw))
	}()
	defer func() {
		pr.CloseWithError(errAborted)
		<-packed
	}()
	return e.stream(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		resp, err := e.api.ImageLoad(ctx, pr, client.ImageLoadWithQuiet(true))
		return resp.Body, err
	}, nil)
}

// archiveError is an *ImageError, the project's fault, unless this computer can't read the archive.
func archiveError(s job.Source, err error) error {
	name := path.Base(s.Archive)
	if HostsFault(err) {
		return fmt.Errorf("read archive %s: %w", name, err)
	}
	return &ImageError{Image: s.Name, Reason: fmt.Sprintf("read archive %s: %v", name, explained(err))}
}

// explained says what the end of a file in its middle means.
func explained(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it is empty or truncated", err)
	}
	return bare(err)
}

// tagged adds the default tag to a name without one.
func tagged(name string) string {
	if strings.Contains(path.Base(name), ":") {
		return name
	}
	return name + ":latest"
}

// manifest is one element of a docker-archive's manifest.json
// (moby's image/spec, "Combined Image JSON + Filesystem Changeset Format").
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// archive is the part of an image archive that is used.
type archive struct {
	files  map[string]*archived // by name
	config *archived
	layers []*archived // from the lowest; one may occur more than once
}

// archived is a file of an archive.
type archived struct {
	kind  byte // as in tar's headers
	size  int64
	link  string
	count int    // of entries that have its name
	as    string // its name in the archive that is written; "" when it isn't used
}

// plainName is a name in an archive without the "./" that it may begin with. It is none that is absolute, that
// has ".." in it, or that is written in another way than it has to be.
func plainName(name string) (plain string, ok bool) {
	name = strings.TrimPrefix(name, "./")
	return name, len(name) <= maxArchivedName && name != "." && fs.ValidPath(name)
}

// readArchive reads an archive and finds the image's files in it. Without docker's manifest it must be an OCI image
// layout.
func readArchive(ctx context.Context, name, arch string) (*archive, error) {
	f, err := openArchive(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &archive{files: map[string]*archived{}}
	blobs, tooMuch, err := a.read(f)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(blobs, tooMuch, arch)
	if err != nil {
		return nil, err
	}
	return a, a.choose(m)
}

// read lists the files of an archive and keeps the content of those that may be manifests. tooMuch is whether that was more
// than maxManifests.
func (a *archive) read(r io.Reader) (blobs map[string][]byte, tooMuch bool, err error) {
	blobs = map[string][]byte{}
	kept, total := int64(0), int64(0)
	tr := tar.NewReader(r)
	for entries := 1; ; entries++ {
		h, err := tr.Next()
		if err == io.EOF {
			return blobs, tooMuch, nil
		} else if err != nil {
			return nil, false, err
		}
		if entries > maxArchived {
			return nil, false, fmt.Errorf("more than %d files", maxArchived)
		}
		if total += min(h.Size, maxUnpacked+1); total > maxUnpacked {
			return nil, false, fmt.Errorf("more than %d GiB, unpacked", int64(maxUnpacked>>30))
		}
		name, ok := plainName(h.Name)
		if !ok {
			continue // a directory, or a name that no manifest may contain
		}
		file := a.files[name]
		if file == nil {
			file = &archived{kind: h.Typeflag, size: h.Size}
			if len(h.Linkname) <= maxArchivedName {
				file.link = h.Linkname
			}
			for key := range h.PAXRecords {
				if strings.HasPrefix(key, "GNU.sparse.") {
					file.kind = tar.TypeGNUSparse
				}
			}
			a.files[name] = file
		}
		file.count++
		switch _, docker := blobs["manifest.json"]; {
		case name == "manifest.json" || name == "index.json":
			if err := file.single(name); err != nil {
				return nil, false, err
			}
			if h.Size > maxManifest {
				return nil, false, fmt.Errorf("%s is too large", name)
			}
			if blobs[name], err = io.ReadAll(tr); err != nil {
				return nil, false, err
			}
		case docker || tooMuch || file.single(name) != nil || h.Size >= maxManifest || !strings.HasPrefix(name, "blobs/"):
		default:
			data, err := readObject(tr)
			if err != nil {
				return nil, false, err
			}
			if data == nil {
				continue
			}
			if kept += int64(len(data)); kept > maxManifests {
				tooMuch = true
				continue
			}
			blobs[name] = data
		}
	}
}

// single returns an error unless the archive contains the file once, as a regular file.
func (f *archived) single(name string) error {
	switch {
	case f == nil:
		return fmt.Errorf("%s: no such file in it", name)
	case f.count > 1:
		return fmt.Errorf("%s is in it more than once", name)
	case f.kind != tar.TypeReg:
		return fmt.Errorf("%s is no regular file in it", name)
	}
	return nil
}

// readManifest reads docker's manifest, or makes one from OCI's.
func readManifest(blobs map[string][]byte, tooMuch bool, arch string) (manifest, error) {
	if data, ok := blobs["manifest.json"]; ok {
		var ms []manifest
		if err := json.Unmarshal(data, &ms); err != nil {
			return manifest{}, fmt.Errorf("manifest.json: %w", err)
		}
		if len(ms) != 1 {
			return manifest{}, fmt.Errorf("it holds %d images, want one", len(ms))
		}
		return ms[0], nil
	}
	if _, ok := blobs["index.json"]; !ok {
		return manifest{}, errors.New("neither manifest.json nor index.json in it: not an image archive")
	}
	if tooMuch {
		return manifest{}, fmt.Errorf("more than %d MiB of manifests", maxManifests>>20)
	}
	return fromLayout(blobs, arch)
}

// choose gives the files that a manifest names their new names.
func (a *archive) choose(m manifest) (err error) {
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%d layers, want at most %d", len(m.Layers), maxLayers)
	}
	if a.config, err = a.named(m.Config); err != nil {
		return fmt.Errorf("configuration %w", err)
	}
	if a.config.size > maxManifest {
		return fmt.Errorf("configuration %s is too large", m.Config)
	}
	a.config.as = "config.json"
	for i, name := range m.Layers {
		l, err := a.named(name)
		if err != nil {
			return fmt.Errorf("layer %w", err)
		}
		if l.as == "" {
			l.as = fmt.Sprintf("layer-%d.tar", i)
		}
		a.layers = append(a.layers, l)
	}
	return nil
}

// named finds a file that a manifest names. For a layer that occurs again, docker save writes a symlink to the first.
func (a *archive) named(name string) (*archived, error) {
	plain, ok := plainName(name)
	f := a.files[plain]
	if ok && f != nil && f.count == 1 && f.kind == tar.TypeSymlink {
		if to := path.Join(path.Dir(plain), f.link); !path.IsAbs(f.link) && a.files[to].single(to) == nil {
			return a.files[to], nil
		}
	}
	if !ok {
		f = nil
	}
	return f, f.single(brief(name))
}

// rewrite writes an archive with a new manifest and the chosen files under their new names.
func (a *archive) rewrite(w io.Writer, from io.Reader, tag string) error {
	// Not the image's name in the original: its maker chose it, and another image here may have it.
	m := manifest{Config: a.config.as, RepoTags: []string{tag}}
	for _, l := range a.layers {
		m.Layers = append(m.Layers, l.as)
	}
	data, err := json.Marshal([]manifest{m})
	if err != nil {
		return err
	}
	tw, tr := tar.NewWriter(w), tar.NewReader(from)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "manifest.json", Mode: 0o644, Size: int64(len(data))}); err != nil {
		return err
	}
	if _, err := tw.Write(data); err != nil {
		return err
	}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return tw.Close()
		} else if err != nil {
			return err
		}
		name, ok := plainName(h.Name)
		f := a.files[name]
		if !ok || f == nil || f.as == "" {
			continue
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.as, Mode: 0o644, Size: f.size}); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}

// readObject reads a blob that begins like a JSON object. It returns nil for others, which are small layers.
func readObject(r io.Reader) ([]byte, error) {
	br := bufio.NewReaderSize(r, 512)
	head, err := br.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		return nil, nil
	}
	return io.ReadAll(br)
}

// fromLayout reads an OCI image layout (image-layout.md of the OCI image specification).
func fromLayout(blobs map[string][]byte, arch string) (manifest, error) {
	name := "index.json"
	for range 4 { // an index may point to an index
		var index struct {
			Manifests []ocispec.Descriptor
			Config    *ocispec.Descriptor
			Layers    []ocispec.Descriptor
		}
		data, ok := blobs[name]
		if !ok {
			return manifest{}, fmt.Errorf("%s is missing", name)
		}
		if err := json.Unmarshal(data, &index); err != nil {
			return manifest{}, fmt.Errorf("%s: %w", name, err)
		}
		for _, d := range slices.Concat(index.Manifests, index.Layers) {
			if err := d.Digest.Validate(); err != nil {
				return manifest{}, fmt.Errorf("%s: %w", name, err)
			}
		}
		if index.Config != nil {
			if err := index.Config.Digest.Validate(); err != nil {
				return manifest{}, fmt.Errorf("%s: %w", name, err)
			}
			m := manifest{Config: blobName(*index.Config)}
			for _, l := range index.Layers {
				m.Layers = append(m.Layers, blobName(l))
			}
			return m, nil
		}
		name = ""
		for _, d := range index.Manifests {
			if d.Platform == nil && len(index.Manifests) == 1 || d.Platform != nil && d.Platform.Architecture == arch {
				name = blobName(d)
			}
		}
		if name == "" && len(index.Manifests) == 1 {
			name = blobName(index.Manifests[0]) // for another architecture: fits reports that later
		}
		if name == "" {
			return manifest{}, fmt.Errorf("it holds no image for %s", arch)
		}
	}
	return manifest{}, errors.New("too many indexes that point to indexes")
}

// blobName is the name of a descriptor's blob in a layout; "" when the descriptor is invalid.
func blobName(d ocispec.Descriptor) string {
	return "blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

// untilDone is a reader that ends with ctx, since a small archive may take long to unpack.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// openArchive opens a tar that may be compressed by gzip or zstd. Reading fails when ctx has ended.
func openArchive(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}, err, f.Close())
	}
	br := bufio.NewReaderSize(f, 1<<16)
	magic, err := br.Peek(4)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}): // RFC 1952
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &archiveFile{Reader: untilDone{ctx, z}, close: func() error { return errors.Join(z.Close(), f.Close()) }}, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &archiveFile{Reader: untilDone{ctx, z}, close: func() error { z.Close(); return f.Close() }}, nil
	}
	return &archiveFile{Reader: untilDone{ctx, br}, close: f.Close}, nil
}

type archiveFile struct {
	io.Reader
	close func() error
}

func (a *archiveFile) Close() error { return a.close() }
