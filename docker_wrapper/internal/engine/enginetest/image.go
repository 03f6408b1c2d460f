package enginetest

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

type config struct {
	Cmd, Entrypoint []string
	Env, OnBuild    []string
	User            string
	WorkingDir      string
	Labels          map[string]string
}

type image struct {
	id     string
	tags   []string
	arch   string
	config config
	dir    string // its files
	layers []layer
	diffs  []string // digests of its layers' archives, if it was loaded
	made   time.Time
}

// layer is a layer in the history of an image.
type layer struct {
	by   string
	size int
}

const layerSize = 1e6 // bytes that each step of a Dockerfile adds

// find looks an image up by ID or name. e.mu is held.
func (e *Engine) find(name string) *image {
	for _, im := range e.images {
		if im.id == name || len(name) >= 11 && strings.HasPrefix(im.id, "sha256:"+name) || slices.Contains(im.tags, tagged(name)) {
			return im
		}
	}
	return nil
}

func (e *Engine) listImages(w http.ResponseWriter, r *http.Request) error {
	fits, err := labelFilter(r)
	if err != nil {
		return err
	}
	dangling := strings.Contains(r.URL.Query().Get("filters"), `"dangling":{"true":true}`)
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []any{}
	for _, im := range e.images {
		if fits(im.config.Labels) && (!dangling || len(im.tags) == 0) {
			list = append(list, map[string]any{"Id": im.id, "RepoTags": im.tags, "Labels": im.config.Labels, "Created": im.made.Unix()})
		}
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// labelFilter parses the label filter of a request for a list.
func labelFilter(r *http.Request) (fits func(map[string]string) bool, err error) {
	var filters struct{ Label map[string]bool }
	if f := r.URL.Query().Get("filters"); f != "" {
		if err := json.Unmarshal([]byte(f), &filters); err != nil {
			return nil, refuse(http.StatusBadRequest, "invalid filter")
		}
	}
	return func(labels map[string]string) bool {
		for want := range filters.Label {
			k, v, hasValue := strings.Cut(want, "=")
			if have, ok := labels[k]; !ok || hasValue && have != v {
				return false
			}
		}
		return true
	}, nil
}

func (e *Engine) inspectImage(w http.ResponseWriter, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	im := e.find(name)
	if im == nil {
		return refuse(http.StatusNotFound, "No such image: %s", tagged(name))
	}
	writeJSON(w, http.StatusOK, map[string]any{"Id": im.id, "RepoTags": im.tags, "Architecture": im.arch, "Os": "linux", "Config": im.config,
		"Created": im.made.Format(time.RFC3339Nano), "RootFS": map[string]any{"Type": "layers", "Layers": im.diffs}})
	return nil
}

func (e *Engine) history(w http.ResponseWriter, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	im := e.find(name)
	if im == nil {
		return refuse(http.StatusNotFound, "No such image: %s", tagged(name))
	}
	list := []any{}
	for _, l := range slices.Backward(im.layers) {
		list = append(list, map[string]any{"CreatedBy": l.by, "Size": l.size})
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// removeImage removes a name, and the image with its last name. By ID it removes an image that has at most one name.
func (e *Engine) removeImage(w http.ResponseWriter, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	im := e.find(name)
	if im == nil {
		return refuse(http.StatusNotFound, "No such image: %s", tagged(name))
	}
	byID := name == im.id
	if byID && len(im.tags) > 1 {
		return refuse(http.StatusConflict, "conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", name)
	}
	if len(im.tags) <= 1 {
		for _, c := range e.containers {
			if c.image == im.id {
				return refuse(http.StatusConflict, "conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
					name, c.id[:12], im.id[7:19])
			}
		}
	}
	im.tags = slices.DeleteFunc(im.tags, func(t string) bool { return byID || t == tagged(name) })
	if len(im.tags) == 0 {
		delete(e.images, im.id)
	}
	writeJSON(w, http.StatusOK, []any{map[string]string{"Untagged": name}})
	return nil
}

func (e *Engine) tag(w http.ResponseWriter, r *http.Request, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	im := e.find(name)
	if im == nil {
		return refuse(http.StatusNotFound, "No such image: %s", name)
	}
	tag := r.URL.Query().Get("repo")
	if t := r.URL.Query().Get("tag"); t != "" {
		tag += ":" + t
	}
	e.name(im, tag)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// name gives an image a tag and removes the tag from other images. e.mu is held.
func (e *Engine) name(im *image, tag string) {
	tag = tagged(tag)
	for _, other := range e.images {
		other.tags = slices.DeleteFunc(other.tags, func(t string) bool { return t == tag })
	}
	im.tags = append(im.tags, tag)
}

// stream is a streamed answer: one JSON object per message.
type stream struct {
	enc *json.Encoder
	rc  *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	return &stream{json.NewEncoder(w), http.NewResponseController(w)}
}

func (s *stream) send(v any) {
	s.enc.Encode(v) // the caller may be gone
	s.rc.Flush()    // likewise
}

func (s *stream) say(text string) { s.send(map[string]string{"stream": text}) }

func (s *stream) fail(message string) {
	s.send(map[string]any{"errorDetail": map[string]string{"message": message}, "error": message})
}

func (e *Engine) pull(w http.ResponseWriter, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	im := e.registry[tagged(name)]
	if im == nil {
		return refuse(http.StatusNotFound, "pull access denied for %s, repository does not exist or may require 'docker login': "+
			"denied: requested access to the resource is denied", name)
	}
	e.images[im.id] = im
	e.name(im, name)
	s := newStream(w)
	s.send(map[string]string{"status": "Pulling from " + name})
	s.send(map[string]string{"status": "Status: Downloaded newer image for " + tagged(name)})
	return nil
}

// load reads a docker-archive. It reports errors in the archive inside the stream.
func (e *Engine) load(w http.ResponseWriter, body io.Reader) error {
	files, links := map[string][]byte{}, map[string]string{}
	unpacked := func(name string) string { // where Docker unpacks it: inside its directory, with links resolved
		name = strings.TrimPrefix(path.Clean("/"+name), "/")
		dir, base := path.Split(name)
		if to, ok := links[path.Clean(dir)]; ok {
			return path.Join(to, base)
		}
		return name
	}
	tr := tar.NewReader(body)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return refuse(http.StatusInternalServerError, "Error processing tar file(exit status 1): %v", err)
		}
		name := unpacked(h.Name)
		switch h.Typeflag {
		case tar.TypeSymlink:
			to := unpacked(path.Join(path.Dir(name), h.Linkname))
			links[name], files[name] = to, files[to]
		case tar.TypeLink:
			files[name] = files[unpacked(h.Linkname)]
		case tar.TypeReg:
			if files[name], err = io.ReadAll(tr); err != nil {
				return refuse(http.StatusInternalServerError, "Error processing tar file(exit status 1): %v", err)
			}
		}
	}
	var manifests []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifests); err != nil {
		return refuse(http.StatusInternalServerError, "open /var/lib/docker/tmp/docker-import-1/repositories: no such file or directory")
	}
	s := newStream(w)
	for _, m := range manifests {
		var c struct {
			Architecture string
			Config       config
		}
		if err := json.Unmarshal(files[m.Config], &c); err != nil {
			s.fail("invalid image configuration")
			return nil
		}
		for _, l := range m.Layers {
			if _, ok := files[l]; !ok {
				s.fail(fmt.Sprintf("open /var/lib/docker/tmp/docker-import-1/%s: no such file or directory", l))
				return nil
			}
		}
		im, err := e.newImage(Image{Command: c.Config.Cmd, Entrypoint: c.Config.Entrypoint, User: c.Config.User,
			Architecture: c.Architecture, Labels: c.Config.Labels})
		if err != nil {
			return err
		}
		for _, l := range m.Layers {
			im.diffs = append(im.diffs, fmt.Sprintf("sha256:%x", sha256.Sum256(files[l])))
		}
		e.mu.Lock()
		e.images[im.id] = im
		for _, t := range m.RepoTags {
			e.name(im, t)
		}
		e.mu.Unlock()
		s.say("Loaded image: " + strings.Join(m.RepoTags, ", ") + "\n")
	}
	return nil
}

// build builds a Dockerfile as the classic builder does: FROM, COPY and ADD of files, RUN, and instructions that change
// the configuration.
func (e *Engine) build(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	id := e.newID()
	dir := filepath.Join(e.dir, "c"+id[:12])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := untar(r.Body, dir, nil); err != nil {
		return err
	}
	name := q.Get("dockerfile")
	if name == "" {
		name = "Dockerfile"
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return refuse(http.StatusBadRequest, "Cannot locate specified Dockerfile: %s", name)
	}
	lines := instructions(string(text))
	for i, l := range lines {
		word, rest, _ := strings.Cut(l, " ")
		if !slices.Contains(builderWords, strings.ToUpper(word)) {
			return refuse(http.StatusBadRequest, "dockerfile parse error line %d: unknown instruction: %s", i+1, strings.ToUpper(word))
		}
		if i == 0 && len(lines) > 0 && !slices.Contains([]string{"FROM", "ARG"}, strings.ToUpper(word)) {
			return refuse(http.StatusBadRequest, "no build stage in current context")
		}
		if strings.HasPrefix(rest, "--mount") && q.Get("version") != "2" {
			s := newStream(w)
			s.fail("the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled")
			return nil
		}
	}
	if len(lines) == 0 {
		return refuse(http.StatusBadRequest, "the Dockerfile (%s) cannot be empty", name)
	}
	s := newStream(w)
	im := &image{id: "sha256:" + id, arch: e.arch(), dir: filepath.Join(e.dir, "i"+id[:12]), config: config{Labels: map[string]string{}}, made: time.Now()}
	if err := os.MkdirAll(im.dir, 0o755); err != nil {
		return err
	}
	for i, l := range lines {
		s.say(fmt.Sprintf("Step %d/%d : %s\n", i+1, len(lines), l))
		if err := e.instruction(r.Context(), im, dir, l, s); err != nil {
			s.fail(err.Error())
			return nil
		}
		s.say(fmt.Sprintf(" ---> %s\n", id[:12]))
		if i > 0 {
			im.layers = append(im.layers, layer{l, layerSize})
		}
	}
	labels := map[string]string{}
	if err := json.Unmarshal([]byte(q.Get("labels")), &labels); err == nil {
		maps.Copy(im.config.Labels, labels)
	}
	e.mu.Lock()
	e.images[im.id] = im
	for _, t := range q["t"] {
		e.name(im, t)
	}
	e.mu.Unlock()
	s.send(map[string]any{"aux": map[string]string{"ID": im.id}})
	s.say("Successfully built " + id[:12] + "\n")
	return nil
}

var builderWords = []string{"FROM", "ARG", "ENV", "LABEL", "COPY", "ADD", "RUN", "CMD", "ENTRYPOINT", "USER", "WORKDIR", "EXPOSE", "VOLUME", "SHELL"}

// instructions are the lines of a Dockerfile without comments, with continuation lines joined.
func instructions(text string) []string {
	var list []string
	more := ""
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		if rest, goesOn := strings.CutSuffix(l, `\`); goesOn {
			more += rest
			continue
		}
		list = append(list, more+l)
		more = ""
	}
	return list
}

func (e *Engine) instruction(ctx context.Context, im *image, dir, line string, s *stream) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	var list []string
	if json.Unmarshal([]byte(rest), &list) != nil {
		list = []string{rest}
	}
	switch strings.ToUpper(word) {
	case "FROM":
		return e.from(im, strings.Fields(rest)[0])
	case "CMD":
		im.config.Cmd = list
	case "ENTRYPOINT":
		im.config.Entrypoint = list
	case "USER":
		im.config.User = rest
	case "WORKDIR":
		im.config.WorkingDir = rest
	case "LABEL":
		k, v, _ := strings.Cut(rest, "=")
		im.config.Labels[k] = strings.Trim(v, `"`)
	case "ENV":
		im.config.Env = append(im.config.Env, strings.Replace(rest, " ", "=", 1))
	case "COPY", "ADD":
		f := list
		if len(f) == 1 {
			f = strings.Fields(os.Expand(rest, func(name string) string {
				for _, nv := range im.config.Env {
					if value, ok := strings.CutPrefix(nv, name+"="); ok {
						return value
					}
				}
				return ""
			}))
		}
		return copyInto(im.dir, dir, strings.ToUpper(word), slices.DeleteFunc(f, func(w string) bool { return strings.HasPrefix(w, "--") }))
	case "RUN":
		if rest[0] == '-' {
			_, rest, _ = strings.Cut(rest, " ")
		}
		if x := e.runStep(ctx, im.dir, im.config.Env, rest, s.say); x.code != 0 {
			return errors.New("The command '/bin/sh -c " + rest + "' returned a non-zero code: " + strconv.Itoa(x.code))
		}
	}
	return nil
}

func (e *Engine) from(im *image, name string) error {
	if name == "scratch" {
		return nil
	}
	e.mu.Lock()
	base := e.find(name)
	if base == nil {
		if base = e.registry[tagged(name)]; base != nil {
			e.images[base.id] = base
			e.name(base, name)
		}
	}
	e.mu.Unlock()
	if base == nil {
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", name)
	}
	im.config.Cmd, im.config.Entrypoint, im.config.User = base.config.Cmd, base.config.Entrypoint, base.config.User
	im.config.Env = slices.Clone(base.config.Env)
	im.arch, im.layers = base.arch, slices.Clone(base.layers)
	return os.CopyFS(im.dir, os.DirFS(base.dir))
}

func copyInto(image, context, word string, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%s requires at least two arguments", word)
	}
	dst := args[len(args)-1]
	for _, src := range args[:len(args)-1] {
		names, err := filepath.Glob(filepath.Join(context, path.Clean("/"+src)))
		if err != nil || len(names) == 0 {
			return fmt.Errorf("%s failed: file not found in build context or excluded by .dockerignore: stat %s: file does not exist", word, src)
		}
		for _, n := range names {
			to := filepath.Join(image, path.Clean("/"+dst))
			fi, err := os.Stat(n)
			switch {
			case err != nil:
				return err
			case fi.IsDir():
				err = os.CopyFS(to, os.DirFS(n))
			default:
				if strings.HasSuffix(dst, "/") || dst == "." || len(args) > 2 || len(names) > 1 {
					to = filepath.Join(to, filepath.Base(n))
				}
				err = copyFile(to, n)
			}
			if err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
	}
	return nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
