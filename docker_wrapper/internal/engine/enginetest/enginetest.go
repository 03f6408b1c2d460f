// Package enginetest is a fake container engine. It serves Docker's Engine API 1.41 on a unix socket and answers like
// Docker 20.10, or like Podman where they differ. It records every call, and tests can inject faults.
//
// A container's program is its entrypoint and command. Each element is one step of a tiny language (see program.go), so
// a Dockerfile's CMD says what the job does.
//
// A [Gate] is a proxy in front of a real engine. It can hold or cut the calls that a test names.
package enginetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options chooses the engine; the zero value is Docker 20.10 on a PC without a GPU.
type Options struct {
	Podman   bool
	Machine  string // the output of uname -m; "" means "x86_64"
	CPUs     int    // 0 means 4
	Rootless bool
	SELinux  bool
	BuildKit bool   // builds also what the classic builder refuses
	Version  string // "" means Docker's 20.10.24 or Podman's 4.3.1

	LiveRestore bool // reports that containers survive a restart of the engine

	Ahead time.Duration // how far the engine's clock is ahead, as in a virtual machine
}

// Call is the record of one call.
type Call struct {
	Name   string // such as "create", "start", "copy-in"; see route
	Target string // container or image, as in the call
	Query  string
	Body   []byte // of a create request, unchanged
}

// Fault describes how a call fails.
type Fault struct {
	Call    string // name; "" means any
	Times   int    // number of calls; 0 means until Mend
	Status  int    // HTTP status of the answer; 0 with Stream
	Message string
	Output  []string // with Stream: the builder's lines before Message
	Stream  bool     // answer 200 and report Message inside the stream
	Hang    bool     // don't answer until Mend, or until the caller gives up
	Cut     bool     // close the connection without an answer
	After   bool     // carry the call out, but don't answer
}

// Engine is a fake engine. All methods are safe for concurrent use.
type Engine struct {
	o    Options
	dir  string
	stop context.CancelFunc
	ctx  context.Context
	runs sync.WaitGroup // programs

	mu         sync.Mutex // guards what follows
	changed    chan struct{}
	server     *http.Server
	calls      []Call
	faults     []*Fault
	containers map[string]*container // by ID
	images     map[string]*image     // by ID
	registry   map[string]*image     // by reference
	ids        int
	released   map[string]bool // names of holds
	happened   []event
	gpus       map[string][]string // device files of each GPU, by UUID or CDI name
	answers    map[string]string   // results of opening a device file, by path; see Answer
	said       map[string]string   // output of programs run by exec, by exec ID
	execs      int
	lastLog    time.Time
}

// New starts an engine. Close must be called.
func New(o Options) (*Engine, error) {
	if o.Machine == "" {
		o.Machine = "x86_64"
	}
	if o.CPUs == 0 {
		o.CPUs = 4
	}
	// A short path: a socket's path has 107 bytes at most (unix(7)).
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	e := &Engine{o: o, dir: dir, changed: make(chan struct{}), containers: map[string]*container{},
		images: map[string]*image{}, registry: map[string]*image{}, released: map[string]bool{},
		answers: map[string]string{}, said: map[string]string{}}
	e.ctx, e.stop = context.WithCancel(context.Background())
	if err := e.Up(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return e, nil
}

// Close ends all programs and removes what the engine has written.
func (e *Engine) Close() error {
	e.stop()
	e.Down()
	e.runs.Wait()
	return os.RemoveAll(e.dir)
}

// Socket is the path of the engine's socket.
func (e *Engine) Socket() string { return filepath.Join(e.dir, "docker.sock") }

// Host is the engine's address in the form of DOCKER_HOST.
func (e *Engine) Host() string { return "unix://" + e.Socket() }

// Up makes the engine reachable again after Down or Stop.
func (e *Engine) Up() error {
	l, err := net.Listen("unix", e.Socket())
	if err != nil {
		return err
	}
	server := &http.Server{Handler: e}
	e.mu.Lock()
	e.server = server
	e.mu.Unlock()
	go server.Serve(l) // ends with ErrServerClosed
	return nil
}

// Down makes the engine unreachable and cuts all connections. Containers keep running.
func (e *Engine) Down() {
	e.mu.Lock()
	server := e.server
	e.server = nil
	e.mu.Unlock()
	if server != nil {
		server.Close() // the error is about the socket file, which is already removed
	}
}

// Stop is Down, and every running container ends with the exit code, as when an engine is stopped or the host is switched
// off. After Up the engine has forgotten all past events.
func (e *Engine) Stop(code int) {
	e.Down()
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() { e.happened = nil }()
	for _, c := range e.containers {
		if c.up() {
			e.endLocked(c, code, false)
		}
	}
}

// Release lets every program continue that is in a hold step of this name, now or later.
func (e *Engine) Release(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.released[name] = true
	e.tell()
}

// Inject makes calls fail. A call takes the oldest fault that fits.
func (e *Engine) Inject(f Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.Times == 0 {
		f.Times = -1
	}
	e.faults = append(e.faults, &f)
}

// Mend removes all faults.
func (e *Engine) Mend() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = nil
	e.tell()
}

// Calls are the recorded calls, oldest first.
func (e *Engine) Calls() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

// Count is the number of calls of this name so far.
func (e *Engine) Count(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count(name)
}

func (e *Engine) count(name string) int {
	n := 0
	for _, c := range e.calls {
		if c.Name == name {
			n++
		}
	}
	return n
}

// Await waits until there have been n calls of this name.
func (e *Engine) Await(ctx context.Context, name string, n int) error {
	if err := e.await(ctx, func() bool { return e.count(name) >= n }); err != nil {
		return fmt.Errorf("wait for call %d of %s: %w", n, name, err)
	}
	return nil
}

// State is the state of the container with this name; "" for none. An empty name means the newest container.
func (e *Engine) State(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state(name)
}

func (e *Engine) state(name string) string {
	var newest *container
	for _, c := range e.containers {
		if (name == "" || c.name == name) && (newest == nil || c.number > newest.number) {
			newest = c
		}
	}
	if newest == nil {
		return ""
	}
	return newest.status
}

// AwaitState waits until State is want.
func (e *Engine) AwaitState(ctx context.Context, name, want string) error {
	if err := e.await(ctx, func() bool { return e.state(name) == want }); err != nil {
		return fmt.Errorf("wait for container to be %q, it is %q: %w", want, e.State(name), err)
	}
	return nil
}

// Containers are the names of all containers, sorted.
func (e *Engine) Containers() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for _, c := range e.containers {
		names = append(names, c.name)
	}
	slices.Sort(names)
	return names
}

// Images are the tags of all images, sorted.
func (e *Engine) Images() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var tags []string
	for _, im := range e.images {
		tags = append(tags, im.tags...)
	}
	slices.Sort(tags)
	return tags
}

// ImageCount counts the images, including those without a tag.
func (e *Engine) ImageCount() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.images)
}

// Image describes an image that a test puts into the engine or into its registry.
type Image struct {
	Command      []string
	Entrypoint   []string
	Env          []string // NAME=VALUE
	Triggers     []string // ONBUILD; the fake builder doesn't carry them out
	User         string
	Architecture string // such as "amd64"; "" means the engine's own
	Labels       map[string]string
	Files        map[string]string // absolute path to contents
}

// AddImage puts an image into the engine. With an empty name it has no tag, like a step of a build.
func (e *Engine) AddImage(name string, i Image) error {
	im, err := e.newImage(i)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if name != "" {
		im.tags = []string{tagged(name)}
	}
	e.images[im.id] = im
	return nil
}

// Publish makes an image available to pull.
func (e *Engine) Publish(name string, i Image) error {
	im, err := e.newImage(i)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.registry[tagged(name)] = im
	return nil
}

// RemoveImage removes an image, as the host's owner might.
func (e *Engine) RemoveImage(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.images, func(_ string, im *image) bool { return slices.Contains(im.tags, tagged(name)) })
}

// Tag gives an image another name, as the host's owner might.
func (e *Engine) Tag(name, another string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if im := e.find(name); im != nil {
		e.name(im, another)
	}
}

func (e *Engine) newImage(i Image) (*image, error) {
	id := e.newID()
	im := &image{id: "sha256:" + id, arch: i.Architecture, dir: filepath.Join(e.dir, "i"+id[:12]), made: time.Now()}
	im.layers = []layer{{id, layerSize}}
	im.config = config{Cmd: i.Command, Entrypoint: i.Entrypoint, Env: i.Env, OnBuild: i.Triggers, User: i.User, Labels: maps.Clone(i.Labels)}
	if im.arch == "" {
		im.arch = e.arch()
	}
	if err := os.MkdirAll(im.dir, 0o755); err != nil {
		return nil, err
	}
	for name, text := range i.Files {
		name = filepath.Join(im.dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return im, nil
}

func (e *Engine) arch() string {
	return map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[e.o.Machine]
}

func (e *Engine) newID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ids++
	sum := sha256.Sum256([]byte(fmt.Sprint(e.dir, e.ids)))
	return hex.EncodeToString(sum[:])
}

// tell wakes all callers of await. e.mu is held.
func (e *Engine) tell() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// await waits until done returns true. It calls done with e.mu held.
func (e *Engine) await(ctx context.Context, done func() bool) error {
	for {
		e.mu.Lock()
		ok, changed := done(), e.changed
		e.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// tagged is an image name in Docker's form, such as "debian:latest".
func tagged(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
	if strings.Contains(filepath.Base(name), ":") || strings.Contains(name, "@") {
		return name
	}
	return name + ":latest"
}

// answerError is an error answer of the API.
type answerError struct {
	status  int
	message string
}

func (a *answerError) Error() string { return a.message }

func refuse(status int, format string, args ...any) error {
	return &answerError{status, fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var a *answerError
	if errors.As(err, &a) {
		status = a.status
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, map[string]string{"message": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the caller may be gone
}
