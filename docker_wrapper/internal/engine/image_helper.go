package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/docker/docker/api/types/image"

	"boincdocker/docker_wrapper/internal/job"
)

// helper is the image in which this program runs as its own helper. It contains only mount points. In a job's image they
// could be anything.
type helper struct {
	name, arch, diffID string
	archive            []byte // docker-archive
}

// newHelper makes the image for an architecture. It is always the same, and its name is a hash of it.
func newHelper(arch string) (h helper, err error) {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	for _, name := range []string{"dev/", "etc/", "proc/", "run/", "sys/", "tmp/", "var/", "var/tmp/", HelperDir[1:] + "/", HelperPath[1:]} {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, ModTime: contextTime}
		if name[len(name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := tw.WriteHeader(header); err != nil {
			return h, err
		}
	}
	if err := tw.Close(); err != nil {
		return h, err
	}
	h.arch, h.diffID = arch, "sha256:"+hexOf(layer.String())
	type step struct {
		Created   time.Time `json:"created"`
		CreatedBy string    `json:"created_by"`
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux", "created": contextTime, "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{h.diffID}}, "history": []step{{contextTime, "docker_wrapper"}},
	})
	if err != nil {
		return h, err
	}
	h.name = job.HelperRepository + ":" + hexOf(string(config))
	manifest, err := json.Marshal([]manifest{{Config: "config.json", RepoTags: []string{h.name}, Layers: []string{"layer.tar"}}})
	if err != nil {
		return h, err
	}
	var archive bytes.Buffer
	tw = tar.NewWriter(&archive)
	for _, f := range []struct {
		name string
		data []byte
	}{{"manifest.json", manifest}, {"config.json", config}, {"layer.tar", layer.Bytes()}} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			return h, err
		}
		if _, err := tw.Write(f.data); err != nil {
			return h, err
		}
	}
	if err := tw.Close(); err != nil {
		return h, err
	}
	h.archive = archive.Bytes()
	return h, nil
}

// is reports whether an image is this one: it has this layer and an empty configuration.
func (h helper) is(in image.InspectResponse) bool {
	if c := in.Config; c != nil {
		words := slices.Concat([]string(c.Entrypoint), c.Cmd, c.Env, c.OnBuild, c.Shell)
		if len(words)+len(c.Labels)+len(c.Volumes)+len(c.ExposedPorts) > 0 || c.User+c.StopSignal != "" || c.Healthcheck != nil || c.WorkingDir != "" && c.WorkingDir != "/" {
			return false
		}
	}
	return in.Architecture == h.arch && slices.Equal(in.RootFS.Layers, []string{h.diffID})
}

// helperImage returns the ID of the image that helpers run in. It loads the image if the engine doesn't have it.
func (e *Engine) helperImage(ctx context.Context, im job.Image) (id string, err error) {
	h, err := newHelper(e.Info.Architecture)
	if err != nil {
		return "", fmt.Errorf("make the helper's image: %w", err)
	}
	for loaded := false; ; loaded = true {
		in, err := e.inspectImage(ctx, h.name)
		switch {
		case err == nil && h.is(in):
			if im.Collect != nil {
				e.got(ctx, im, job.Got{Host: e.Info.Host, Name: h.name, Used: now()}, in.ID)
			}
			return in.ID, nil
		case err != nil && !errors.Is(err, ErrNotFound):
			return "", fmt.Errorf("look for image %s: %w", h.name, err)
		case loaded && err != nil:
			return "", fmt.Errorf("load image %s: %w", h.name, err)
		case loaded:
			return "", fmt.Errorf("load image %s: the engine has another image of this name", h.name)
		}
		err = e.loadTar(ctx, func(w io.Writer) error {
			_, err := w.Write(h.archive)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("load image %s: %w", h.name, wrap(err))
		}
	}
}

// helperUser is the user of a trial's container. A user name that only the job's image has becomes root, because Podman can't
// restore a container whose user its image doesn't have.
func helperUser(u job.User) job.User {
	if u.Mode == "fixed" && !numericUser.MatchString(u.Fixed) {
		return job.User{Mode: "image"}
	}
	return u
}

var numericUser = regexp.MustCompile(`^\d+(:\d+)?$`)
