package enginetest

import (
	"archive/tar"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is the part of a create request that the fake engine uses.
type request struct {
	config
	Image      string
	HostConfig struct {
		Mounts         []bind
		Binds          []string
		AutoRemove     bool
		Init           *bool
		Memory         int64
		Devices        []struct{ PathOnHost, PathInContainer string }
		DeviceRequests []struct {
			Driver    string
			DeviceIDs []string
		}
		PortBindings map[string][]struct{ HostIp, HostPort string }
	}
}

type bind struct {
	Source, Target string
	ReadOnly       bool
}

type container struct {
	id, name string
	number   int // counts up in the order of creation
	request  request
	image    string // ID
	mounts   []bind
	dir      string // its root file system on the host
	status   string // created, running, paused or exited
	runs     int
	exit     int
	oom      bool
	message  string // of a start that failed
	made     time.Time
	started  time.Time
	finished time.Time
	ran      time.Duration
	logs     []logLine
	traps    map[string]string // step by signal
	owners   map[string]string // UID:GID of what was copied in, by absolute path
}

type logLine struct {
	stream byte
	at     time.Time
	text   string
}

func (c *container) up() bool { return c.status == "running" || c.status == "paused" }

// File reads a file of the newest container, mounts included. owner is UID:GID if the file was copied in.
func (e *Engine) File(name string) (data, owner string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	newest := e.newestLocked()
	if newest == nil {
		return "", "", fs.ErrNotExist
	}
	host, _ := newest.resolve(name)
	b, err := os.ReadFile(host)
	return string(b), newest.owners[path.Clean(name)], err
}

// AddContainer makes a container that isn't the job's. It has no labels and isn't started.
func (e *Engine) AddContainer(name string) {
	id := e.newID()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[id] = &container{id: id, name: name, number: e.ids, status: "created", dir: filepath.Join(e.dir, id[:12])}
}

// BeginRemoval begins to remove the newest container, as if another program did it slowly. Its files are gone at once.
// Its name is free after finish.
func (e *Engine) BeginRemoval() (finish func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.newestLocked()
	if c == nil {
		return nil, fs.ErrNotExist
	}
	c.status = "removing"
	e.tell()
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.containers, c.id)
		e.tell()
	}, nil
}

// Meddle makes a call on the newest container, as if another program did: pause, unpause, stop, kill or remove.
func (e *Engine) Meddle(call string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.newestLocked()
	if c == nil {
		return fs.ErrNotExist
	}
	r, err := http.NewRequest(http.MethodPost, "/?force=1", nil)
	if err != nil {
		return err
	}
	return e.change(r, call, c)
}

func (e *Engine) newestLocked() *container {
	var newest *container
	for _, c := range e.containers {
		if newest == nil || c.number > newest.number {
			newest = c
		}
	}
	return newest
}

func (e *Engine) create(w http.ResponseWriter, r *http.Request) error {
	var req request
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	name := r.URL.Query().Get("name")
	id := e.newID()
	c := &container{id: id, name: name, request: req, status: "created", made: time.Now(), dir: filepath.Join(e.dir, id[:12]), owners: map[string]string{}}
	if m := req.HostConfig.Memory; m != 0 && m < 6<<20 {
		return refuse(http.StatusBadRequest, "Minimum memory limit allowed is 6MB")
	}
	c.mounts = slices.Clone(req.HostConfig.Mounts)
	for _, b := range c.mounts {
		if _, err := os.Stat(b.Source); err != nil {
			return refuse(http.StatusBadRequest, `invalid mount config for type "bind": bind source path does not exist: %s`, b.Source)
		}
	}
	for _, b := range req.HostConfig.Binds {
		f := append(strings.Split(b, ":"), "")
		c.mounts = append(c.mounts, bind{f[0], f[1], f[2] == "ro"})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.containers {
		if other.name == name {
			status := http.StatusConflict
			if e.o.Podman {
				status = http.StatusInternalServerError
			}
			return refuse(status, `Conflict. The container name "/%s" is already in use by container "%s". You have to remove (or rename) that container to be able to reuse that name.`, name, other.id)
		}
	}
	im := e.find(req.Image)
	if im == nil {
		return refuse(http.StatusNotFound, "No such image: %s", req.Image)
	}
	if c.request.Entrypoint == nil {
		c.request.Entrypoint = im.config.Entrypoint
		if c.request.Cmd == nil {
			c.request.Cmd = im.config.Cmd
		}
	}
	if c.request.User == "" {
		c.request.User = im.config.User
	}
	if c.request.WorkingDir == "" {
		c.request.WorkingDir = im.config.WorkingDir
	}
	c.request.Env = slices.Concat(c.request.Env, im.config.Env)
	if err := os.CopyFS(c.dir, os.DirFS(im.dir)); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	for _, m := range c.mounts {
		host := filepath.Join(c.dir, m.Target)
		if fi, err := os.Stat(m.Source); err == nil && fi.IsDir() {
			os.MkdirAll(host, 0o755) // so that ls shows the mount point
		}
	}
	c.number, c.image = e.ids, im.id
	e.containers[id] = c
	e.tell()
	writeJSON(w, http.StatusCreated, map[string]any{"Id": id, "Warnings": []string{}})
	return nil
}

func (e *Engine) listContainers(w http.ResponseWriter, r *http.Request) error {
	fits, err := labelFilter(r)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []any{}
	for _, c := range e.containers {
		if fits(c.request.Labels) {
			list = append(list, map[string]any{"Id": c.id, "Names": []string{"/" + c.name}, "State": c.status, "Labels": c.request.Labels,
				"ImageID": c.image, "Created": c.made.Unix()})
		}
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (e *Engine) ofContainer(w http.ResponseWriter, r *http.Request, call, target string) error {
	e.mu.Lock()
	var c *container
	for _, have := range e.containers {
		if have.id == target || have.name == target {
			c = have
		}
	}
	if c == nil {
		e.mu.Unlock()
		return refuse(http.StatusNotFound, "No such container: %s", target)
	}
	switch call {
	case "wait", "logs":
		e.mu.Unlock()
		if call == "wait" {
			return e.waitFor(w, r, c)
		}
		return e.follow(w, r, c)
	}
	defer e.mu.Unlock()
	switch call {
	case "inspect":
		writeJSON(w, http.StatusOK, e.inspect(c))
		return nil
	case "exec":
		return e.prepareExec(w, r, c)
	case "stats":
		writeJSON(w, http.StatusOK, e.stats(c))
		return nil
	case "changes":
		list, err := c.changes()
		if err == nil {
			writeJSON(w, http.StatusOK, list)
		}
		return err
	case "stat", "copy-out", "copy-in":
		return c.archive(w, r, call)
	}
	if err := e.change(r, call, c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// change carries out a call that changes a container's state. e.mu is held.
func (e *Engine) change(r *http.Request, call string, c *container) error {
	conflict := http.StatusConflict
	if e.o.Podman {
		conflict = http.StatusInternalServerError
	}
	switch call {
	case "start":
		if c.up() {
			return refuse(http.StatusNotModified, "")
		}
		return e.startOf(c)
	case "pause":
		if !c.up() {
			return refuse(conflict, "Container %s is not running", c.id)
		} else if c.status == "paused" {
			return refuse(conflict, "Container %s is already paused", c.id)
		}
		c.status = "paused"
		c.ran += e.now().Sub(c.started)
	case "unpause":
		if c.status != "paused" {
			return refuse(http.StatusInternalServerError, "Container %s is not paused", c.id)
		}
		c.status, c.started = "running", e.now()
	case "stop":
		if !c.up() {
			return refuse(http.StatusNotModified, "")
		} else if c.status == "paused" && e.o.Podman {
			return refuse(http.StatusInternalServerError, "can only stop created or running containers. %s is in state paused: container state improper", c.id)
		}
		e.happenedLocked(c, "kill", 15)
		c.status = "running"
		if code, trapped := e.trapLocked(c, "TERM"); trapped {
			e.endLocked(c, code, false)
			break
		}
		e.endLocked(c, 143, false)
	case "kill":
		if !c.up() {
			return refuse(conflict, "Cannot kill container: %s: Container %s is not running", c.id, c.id)
		}
		name := strings.TrimPrefix(r.URL.Query().Get("signal"), "SIG")
		number, ok := signals[name]
		if !ok {
			return refuse(http.StatusBadRequest, "Invalid signal: %s", name)
		}
		e.happenedLocked(c, "kill", number)
		if _, trapped := e.trapLocked(c, name); trapped {
			return nil
		}
		e.endLocked(c, 128+number, false)
	case "remove":
		if c.status == "removing" {
			return refuse(http.StatusConflict, "removal of container %s is already in progress", c.id)
		}
		if c.up() && r.URL.Query().Get("force") != "1" {
			return refuse(http.StatusConflict, "You cannot remove a running container %s. Stop the container before attempting removal or force remove", c.id)
		}
		c.status = "removed"
		delete(e.containers, c.id)
	}
	e.tell()
	return nil
}

func (e *Engine) startOf(c *container) error {
	if _, err := e.files(c); err != nil {
		c.exit = 128
		return err
	}
	steps := slices.Concat(c.request.Entrypoint, c.request.Cmd)
	init := c.request.HostConfig.Init
	if word, ok := known(steps); !ok && init != nil && *init {
		e.logLocked(c, standardErr, fmt.Sprintf("[FATAL tini (7)] exec %s failed: No such file or directory\n", word))
		c.status, c.started = "running", e.now()
		e.endLocked(c, 127, false)
		return nil
	} else if !ok {
		c.exit, c.message = 127, fmt.Sprintf(`OCI runtime create failed: container_linux.go:380: starting container process caused: exec: %q: executable file not found in $PATH: unknown`, word)
		if e.o.Podman {
			return refuse(http.StatusInternalServerError, "crun: executable file `%s` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found", word)
		}
		return refuse(http.StatusBadRequest, "failed to create shim: %s", c.message)
	}
	e.start(c)
	e.tell()
	return nil
}

func (e *Engine) inspect(c *container) any {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	ports := map[string]any{}
	for port := range c.request.HostConfig.PortBindings {
		ports[port] = []any{map[string]string{"HostIp": "127.0.0.1", "HostPort": "49153"}}
	}
	host := map[string]any{"Init": c.request.HostConfig.Init, "Devices": c.request.HostConfig.Devices, "DeviceRequests": c.request.HostConfig.DeviceRequests,
		"Memory": c.request.HostConfig.Memory}
	if e.o.Podman && c.up() { // Podman lists the devices that the container really has
		files, _ := e.files(c) // the start has already returned any error
		devices := []any{}
		for _, f := range files {
			devices = append(devices, map[string]string{"PathOnHost": f, "PathInContainer": f})
		}
		host["Devices"], host["DeviceRequests"] = devices, nil
	}
	program, _, _ := strings.Cut(append(slices.Concat(c.request.Entrypoint, c.request.Cmd), "")[0], " ")
	return map[string]any{"Id": c.id, "Name": "/" + c.name, "Path": program, "HostConfig": host, "Image": c.request.Image, "Config": c.request.config,
		"State": map[string]any{"Status": c.status, "Running": c.up(), "Paused": c.status == "paused", "ExitCode": c.exit,
			"OOMKilled": c.oom, "Error": c.message, "StartedAt": stamp(c.started), "FinishedAt": stamp(c.finished)},
		"NetworkSettings": map[string]any{"Ports": ports}}
}

// stats are zeros for a container that isn't running, as with Docker.
func (e *Engine) stats(c *container) any {
	if !c.up() {
		return map[string]any{"read": time.Time{}}
	}
	ran := c.ran
	if c.status == "running" {
		ran += e.now().Sub(c.started)
	}
	return map[string]any{"read": time.Now(),
		"cpu_stats":    map[string]any{"cpu_usage": map[string]any{"total_usage": ran.Nanoseconds()}},
		"memory_stats": map[string]any{"usage": 60 << 20, "stats": map[string]any{"inactive_file": 10 << 20}}}
}

func (e *Engine) waitFor(w http.ResponseWriter, r *http.Request, c *container) error {
	// Send the header at once, as real engines do.
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush() // the caller may be gone
	ended := func() bool { return !c.up() }
	if r.URL.Query().Get("condition") == "removed" {
		ended = func() bool { return e.containers[c.id] == nil }
	}
	if err := e.await(r.Context(), ended); err != nil {
		panic(http.ErrAbortHandler)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	code := c.exit
	if c.status == "created" && e.o.Podman {
		code = -1
	}
	json.NewEncoder(w).Encode(map[string]any{"StatusCode": code}) // the caller may be gone
	return nil
}

// event is something that happened to a container.
type event struct {
	id, action string
	signal     int
	at         time.Time
}

var signals = map[string]int{"HUP": 1, "INT": 2, "KILL": 9, "": 9, "USR1": 10, "USR2": 12, "TERM": 15}

func (e *Engine) happenedLocked(c *container, action string, signal int) {
	e.happened = append(e.happened, event{c.id, action, signal, e.now()})
}

// events lists a container's past events. The caller asks after the container has ended.
func (e *Engine) events(w http.ResponseWriter, r *http.Request) error {
	var filters map[string]map[string]bool
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	since, until := timeOf(r.URL.Query().Get("since")), timeOf(r.URL.Query().Get("until"))
	if until.Before(since) {
		return refuse(http.StatusBadRequest, "`since` time (%d) cannot be after `until` time (%d)", since.Unix(), until.Unix())
	}
	w.Header().Set("Content-Type", "application/json")
	e.mu.Lock()
	for _, ev := range e.happened {
		if filters["container"][ev.id] && !ev.at.Before(since) && !ev.at.After(until) {
			json.NewEncoder(w).Encode(map[string]any{"Type": "container", "Action": ev.action, "timeNano": ev.at.UnixNano(), "Actor": map[string]any{"Attributes": map[string]string{"signal": strconv.Itoa(ev.signal)}}}) // the caller may be gone
		}
	}
	e.mu.Unlock()
	http.NewResponseController(w).Flush()
	select { // a real engine would send events until then
	case <-time.After(until.Sub(e.now())):
	case <-r.Context().Done():
	}
	return nil
}

func (e *Engine) now() time.Time { return time.Now().Add(e.o.Ahead) }

// timeOf parses SECONDS.NANOSECONDS; "" is the zero time.
func timeOf(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	var sec, nano int64
	fmt.Sscanf(s, "%d.%d", &sec, &nano) // a missing part stays 0
	return time.Unix(sec, nano)
}

// follow sends the output in frames of Docker's stdcopy: stream, three zero bytes, length as big-endian uint32, text.
func (e *Engine) follow(w http.ResponseWriter, r *http.Request, c *container) error {
	q := r.URL.Query()
	since := timeOf(q.Get("since"))
	w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	rc.Flush() // the caller may be gone
	for sent := 0; ; {
		e.mu.Lock()
		lines, over := c.logs[sent:], !c.up()
		e.mu.Unlock()
		for _, l := range lines {
			if l.at.Before(since) {
				continue
			}
			text := l.text
			if q.Get("timestamps") == "1" {
				text = l.at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
			}
			head := []byte{l.stream, 0, 0, 0, 0, 0, 0, 0}
			binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
			if _, err := w.Write(append(head, text...)); err != nil {
				return nil
			}
		}
		sent += len(lines)
		rc.Flush() // likewise
		if q.Get("follow") != "1" || over {
			return nil
		}
		if e.await(r.Context(), func() bool { return len(c.logs) > sent || !c.up() }) != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func (c *container) archive(w http.ResponseWriter, r *http.Request, call string) error {
	name := path.Clean("/" + r.URL.Query().Get("path"))
	host, _ := c.resolve(name)
	fi, err := os.Lstat(host)
	if dir, word := path.Split(name); err != nil && call == "stat" && dir == "/bin/" && slices.Contains(words, word) {
		fi, err = os.Stat(os.Args[0]) // a program's words count as files in /bin
	}
	if err != nil {
		return refuse(http.StatusNotFound, "Could not find the file %s in container %s", name, c.id)
	}
	if call == "copy-in" {
		if fi.Mode()&fs.ModeSymlink != 0 {
			fi, err = os.Stat(host)
		}
		if err != nil || !fi.IsDir() {
			return refuse(http.StatusBadRequest, "extraction point is not a directory")
		}
		err := untar(r.Body, host, func(inside string, h *tar.Header) {
			c.owners[path.Join(name, inside)] = fmt.Sprintf("%d:%d", h.Uid, h.Gid)
		})
		if err == nil {
			w.WriteHeader(http.StatusOK)
		}
		return err
	}
	st := map[string]any{"name": path.Base(name), "size": fi.Size(), "mode": uint32(fi.Mode()), "mtime": fi.ModTime()}
	if fi.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(host)
		if err != nil {
			return err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		st["linkTarget"] = target
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(data))
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	if call == "stat" {
		return nil
	}
	if err := pack(w, host, path.Base(name)); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// changes lists all files of the container as added. A real engine leaves out those of the image.
func (c *container) changes() (list []map[string]any, err error) {
	err = filepath.WalkDir(c.dir, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && name != c.dir {
			list = append(list, map[string]any{"Path": strings.TrimPrefix(name, c.dir), "Kind": 1})
		}
		return err
	})
	return list, err
}

func pack(w io.Writer, host, base string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(host, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if fi.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(name); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(fi, link)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(host, name)
		if err != nil {
			return err
		}
		if h.Name = path.Join(base, rel); fi.IsDir() {
			h.Name += "/"
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if !fi.Mode().IsRegular() {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(tw, f)
		return err
	})
	return errors.Join(err, tw.Close())
}

// untar unpacks a tar archive. It refuses names outside dir.
func untar(r io.Reader, dir string, note func(name string, h *tar.Header)) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, r) // the padding after the archive
			return err
		} else if err != nil {
			return refuse(http.StatusInternalServerError, "Error processing tar file(exit status 1): %v", err)
		}
		if !filepath.IsLocal(h.Name) {
			return refuse(http.StatusInternalServerError, "Error processing tar file(exit status 1): invalid path %q", h.Name)
		}
		host := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(host, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, host)
		default:
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(host), 0o755), os.WriteFile(host, data, fs.FileMode(h.Mode)&0o777))
			}
		}
		if err != nil {
			return refuse(http.StatusInternalServerError, "Error processing tar file(exit status 1): %v", err)
		}
		if note != nil {
			note(h.Name, h)
		}
	}
}
