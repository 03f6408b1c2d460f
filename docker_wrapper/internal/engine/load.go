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
	"strings"

	"github.com/docker/docker/client"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"boincdocker/docker_wrapper/internal/job"
)

// maxWindow is what zstd may need of memory, in bytes: `zstd --long=27` and less.
const maxWindow = 128 << 20

// What is read of an archive, which may have been made to exhaust the memory.
const (
	maxArchived  = 10_000   // files in it; an image has a few for each layer
	maxManifest  = 4 << 20  // bytes of one; manifests and configurations are small, layers aren't
	maxManifests = 32 << 20 // bytes of all
)

// load brings a shipped archive into the engine under the source's name. It is unpacked here and
// sent plain, with docker's manifest beside OCI's: then every engine can read it.
func (e *Engine) load(ctx context.Context, s job.Source) error {
	e.log.Info().Str("image", s.Name).Str("archive", path.Base(s.Archive)).Msg("load image")
	m, err := readManifest(s.Archive, e.Info.Architecture)
	if HostsFault(err) {
		return fmt.Errorf("read archive %s: %w", path.Base(s.Archive), err)
	} else if err != nil {
		return &ImageError{Image: s.Name, Reason: fmt.Sprintf("read archive %s: %v", path.Base(s.Archive), bare(err))}
	}
	// The name inside the archive is its maker's, and may belong to another image here; the engine
	// is given ours instead.
	m.RepoTags = []string{tagged(s.Name)}
	f, err := openArchive(s.Archive)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.Archive, err)
	}
	defer f.Close()
	err = e.stream(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		pr, pw := io.Pipe()
		go func() { pw.CloseWithError(rewrite(pw, f, m)) }()
		resp, err := e.api.ImageLoad(ctx, pr, client.ImageLoadWithQuiet(true))
		if err != nil {
			pr.CloseWithError(errAborted)
		}
		return resp.Body, err
	}, nil)
	return imageError("load", s, err)
}

// tagged adds the tag that engines take when none is given.
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

// readManifest reads what an archive holds. One that is only an OCI image layout gets a manifest made.
func readManifest(archive, arch string) (manifest, error) {
	f, err := openArchive(archive)
	if err != nil {
		return manifest{}, err
	}
	defer f.Close()
	blobs := map[string][]byte{}
	kept, tooMuch := int64(0), false
	tr := tar.NewReader(f)
	for entries := 1; ; entries++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return manifest{}, err
		}
		if entries > maxArchived {
			return manifest{}, fmt.Errorf("more than %d files", maxArchived)
		}
		name := path.Clean(h.Name)
		switch _, docker := blobs["manifest.json"]; {
		case name == "manifest.json" || name == "index.json":
			if h.Size > maxManifest {
				return manifest{}, fmt.Errorf("%s is too large", name)
			}
			if blobs[name], err = io.ReadAll(tr); err != nil {
				return manifest{}, err
			}
		case docker || tooMuch || h.Size >= maxManifest || !strings.HasPrefix(name, "blobs/"):
		default:
			data, err := readObject(tr)
			if err != nil {
				return manifest{}, err
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

// readObject reads a blob that begins as a JSON object does, and gives nil for others: small layers.
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
		if index.Config != nil {
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
			name = blobName(index.Manifests[0]) // of another machine: said when the image is inspected
		}
		if name == "" {
			return manifest{}, fmt.Errorf("it holds no image for %s", arch)
		}
	}
	return manifest{}, errors.New("indexes of indexes")
}

func blobName(d ocispec.Descriptor) string {
	return "blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}

// rewrite copies an archive with another manifest.json, and without the files that would let an
// engine read other names out of it.
func rewrite(w io.Writer, archive io.Reader, m manifest) error {
	tw, tr := tar.NewWriter(w), tar.NewReader(archive)
	data, err := json.Marshal([]manifest{m})
	if err != nil {
		return err
	}
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
		switch path.Clean(h.Name) {
		case "manifest.json", "repositories", "index.json", "oci-layout":
			continue
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}

// openArchive opens a tar that may be compressed by gzip or zstd.
func openArchive(name string) (io.ReadCloser, error) {
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
		return &archiveFile{Reader: z, close: func() error { return errors.Join(z.Close(), f.Close()) }}, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &archiveFile{Reader: z, close: func() error { z.Close(); return f.Close() }}, nil
	}
	return &archiveFile{Reader: br, close: f.Close}, nil
}

type archiveFile struct {
	io.Reader
	close func() error
}

func (a *archiveFile) Close() error { return a.close() }
