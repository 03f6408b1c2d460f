package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/google/go-cmp/cmp"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// A helper runs in an image of ours, whatever the job's image is and whatever the engine has under the name of ours.
func TestHelperImage(t *testing.T) {
	h, err := newHelper("amd64")
	if err != nil {
		t.Fatal(err)
	}
	other, err := newHelper("riscv64")
	if err != nil || other.name == h.name {
		t.Fatalf("got %s for both architectures, %v", other.name, err)
	}
	// with is the image's archive with something more in its configuration.
	with := func(more string) func(*testing.T, *Engine, *enginetest.Engine) {
		return func(t *testing.T, e *Engine, fake *enginetest.Engine) {
			name := filepath.Join(t.TempDir(), "x.tar")
			layer := "a layer of another's"
			config := `{"architecture":"amd64","config":{` + more + `}}`
			b := blobs{"manifest.json": `[{"Config":"c","Layers":["l"]}]`, "c": config, "l": layer}
			if err := os.WriteFile(name, b.tar(t), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := e.load(t.Context(), job.Source{Name: h.name, Archive: name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name   string
		before func(*testing.T, *Engine, *enginetest.Engine)
		loads  int
	}{
		{name: "absent", before: func(*testing.T, *Engine, *enginetest.Engine) {}, loads: 1},
		{name: "there", before: func(t *testing.T, e *Engine, _ *enginetest.Engine) {
			if _, err := e.helperImage(t.Context(), job.Image{}); err != nil {
				t.Fatal(err)
			}
		}, loads: 1},
		{name: "another under its name", before: func(t *testing.T, _ *Engine, fake *enginetest.Engine) {
			fake.AddImage(h.name, enginetest.Image{})
		}, loads: 1},
		{name: "another with labels", before: with(`"Labels":{"a":"b"}`), loads: 2},
		{name: "another with an entrypoint", before: with(`"Entrypoint":["/x"]`), loads: 2},
		{name: "another layer", before: with(``), loads: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			tt.before(t, e, fake)
			im, _ := collectable(t, "x", "")
			id, err := e.helperImage(t.Context(), im)
			if err != nil {
				t.Fatal(err)
			}
			in, err := e.inspectImage(t.Context(), h.name)
			if err != nil || in.ID != id || !h.is(in) || fake.Count("load") != tt.loads {
				t.Errorf("got %s, %+v, %v after %d loads, want %d", id, in, err, fake.Count("load"), tt.loads)
			}
			if got := noted(t, im); got != h.name {
				t.Errorf("noted %q, want %s", got, h.name)
			}
			age(t, e, im, 31*24*time.Hour)
			if err := e.Collect(t.Context(), im); err != nil || noted(t, im) != "" {
				t.Errorf("a month later: %v, noted %q", err, noted(t, im))
			}
			if got := strings.Join(fake.Images(), " "); strings.Contains(got, job.HelperRepository) {
				t.Errorf("images %s", got)
			}
		})
	}
}

func TestHelperIs(t *testing.T) {
	h, err := newHelper("amd64")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		json string
		want bool
	}{
		"ours":            {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"WorkingDir":"/"}}`, true},
		"no config":       {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]}}`, true},
		"no layers":       {`{"Architecture":"amd64"}`, false},
		"another layer":   {`{"Architecture":"amd64","RootFS":{"Layers":["sha256:0"]}}`, false},
		"a layer above":   {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER","sha256:0"]}}`, false},
		"another machine": {`{"Architecture":"arm64","RootFS":{"Layers":["LAYER"]}}`, false},
		"environment":     {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"Env":["LD_PRELOAD=/x"]}}`, false},
		"volumes":         {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"Volumes":{"/x":{}}}}`, false},
		"user":            {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"User":"x"}}`, false},
		"labels":          {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"Labels":{"a":""}}}`, false},
		"a command":       {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"Cmd":["x"]}}`, false},
		"a directory":     {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"WorkingDir":"/x"}}`, false},
		"a check":         {`{"Architecture":"amd64","RootFS":{"Layers":["LAYER"]},"Config":{"Healthcheck":{"Test":["CMD","x"]}}}`, false},
	} {
		in := image.InspectResponse{}
		if err := json.Unmarshal([]byte(strings.Replace(tt.json, "LAYER", h.diffID, 1)), &in); err != nil {
			t.Fatal(err)
		}
		if got := h.is(in); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// What the engine is asked for has nothing of the job's image in it.
func TestRunHelper(t *testing.T) {
	for _, podman := range []bool{false, true} {
		e, fake := open1(t, enginetest.Options{Podman: podman})
		err := fake.AddImage("hostile:1", enginetest.Image{Command: []string{"print x"}, Labels: map[string]string{"traefik.enable": "true", job.LabelResult: "x"},
			Files: map[string]string{HelperPath + "/x": "", HelperDir: "a file"}})
		if err != nil {
			t.Fatal(err)
		}
		j := simple("print x")
		j.Container.Labels = map[string]string{job.LabelDataDir: "/b"}
		in, err := e.inspectImage(t.Context(), "hostile:1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Create(t.Context(), j, in.ID); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "a,b")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		e.RunHelper(t.Context(), j, os.Args[0], dir, "1:1") // what was asked for says more
		type request struct {
			Image      string
			Labels     map[string]string
			HostConfig struct {
				Mounts []struct{ Source, Target string }
				Binds  []string
			}
		}
		var asked []request
		for _, call := range fake.Calls() {
			if call.Name == "create" {
				asked = append(asked, request{})
				if err := json.Unmarshal(call.Body, &asked[len(asked)-1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(asked) != 2 {
			t.Fatalf("got %d containers, want 2", len(asked))
		}
		if diff := cmp.Diff(map[string]string{"traefik.enable": "", job.LabelResult: "", job.LabelDataDir: "/b"}, asked[0].Labels); diff != "" {
			t.Errorf("the job: %s", diff)
		}
		id, err := e.helperImage(t.Context(), job.Image{})
		if err != nil || asked[1].Image != id {
			t.Errorf("got image %s, %v, want %s", asked[1].Image, err, id)
		}
		if diff := cmp.Diff(map[string]string{job.LabelDataDir: "/b"}, asked[1].Labels); diff != "" {
			t.Errorf("the helper: %s", diff)
		}
		if podman != (len(asked[1].HostConfig.Binds) == 1) || podman != (len(asked[1].HostConfig.Mounts) == 1) {
			t.Errorf("Podman %v: got %+v", podman, asked[1].HostConfig)
		}
	}
}

func TestHelperUser(t *testing.T) {
	for _, tt := range []struct{ user, want job.User }{
		{job.User{Mode: "boinc", UID: 1, GID: 2}, job.User{Mode: "boinc", UID: 1, GID: 2}},
		{job.User{Mode: "image"}, job.User{Mode: "image"}},
		{job.User{Mode: "fixed", Fixed: "1"}, job.User{Mode: "fixed", Fixed: "1"}},
		{job.User{Mode: "fixed", Fixed: "1:2"}, job.User{Mode: "fixed", Fixed: "1:2"}},
		{job.User{Mode: "fixed", Fixed: "app"}, job.User{Mode: "image"}},
		{job.User{Mode: "fixed", Fixed: "1:app"}, job.User{Mode: "image"}},
		{job.User{Mode: "fixed", Fixed: "1:"}, job.User{Mode: "image"}},
	} {
		if got := helperUser(tt.user); got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.user, got, tt.want)
		}
	}
}
