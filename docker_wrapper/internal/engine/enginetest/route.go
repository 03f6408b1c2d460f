package enginetest

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

var versionPrefix = regexp.MustCompile(`^/v[14](\.[0-9]+)+`)

// routes names the calls: method, first path element, last path element.
var routes = map[[3]string]string{
	{"GET", "_ping", ""}: "ping", {"HEAD", "_ping", ""}: "ping",
	{"GET", "version", ""}: "version", {"GET", "info", ""}: "info", {"GET", "events", ""}: "events",
	{"POST", "build", ""}:           "build",
	{"GET", "images", "json"}:       "images", // "inspect-image" when it names one
	{"POST", "networks", "connect"}: "connect", {"POST", "networks", "disconnect"}: "disconnect",
	{"POST", "images", "tag"}:        "tag",
	{"GET", "images", "history"}:     "history",
	{"POST", "images", "create"}:     "pull",
	{"POST", "images", "load"}:       "load",
	{"POST", "containers", "create"}: "create", {"GET", "containers", "json"}: "inspect",
	{"POST", "containers", "start"}: "start", {"POST", "containers", "pause"}: "pause",
	{"POST", "containers", "unpause"}: "unpause", {"POST", "containers", "stop"}: "stop",
	{"POST", "containers", "kill"}: "kill", {"POST", "containers", "wait"}: "wait",
	{"GET", "containers", "stats"}: "stats", {"GET", "containers", "logs"}: "logs",
	{"GET", "libpod", "info"}:         "libpod-info",
	{"HEAD", "containers", "archive"}: "stat", {"GET", "containers", "archive"}: "copy-out",
	{"PUT", "containers", "archive"}: "copy-in", {"GET", "containers", "changes"}: "changes",
	{"POST", "containers", "exec"}: "exec", {"POST", "exec", "start"}: "exec-start",
}

// route returns a call's name and its container or image.
func route(r *http.Request) (name, target string) {
	path := strings.Trim(versionPrefix.ReplaceAllString(r.URL.Path, ""), "/")
	first, rest, _ := strings.Cut(path, "/")
	last := ""
	if i := strings.LastIndex(rest, "/"); i >= 0 {
		target, last = rest[:i], rest[i+1:]
	} else {
		last = rest
	}
	if r.Method == http.MethodDelete {
		return map[string]string{"containers": "remove", "images": "remove-image"}[first], rest
	}
	name = routes[[3]string{r.Method, first, last}]
	if name == "images" && target != "" {
		name = "inspect-image"
	}
	if name == "inspect" && target == "" {
		name = "list"
	}
	switch name {
	case "create":
		target = r.URL.Query().Get("name")
	case "build":
		target = r.URL.Query().Get("t")
	case "pull":
		target = r.URL.Query().Get("fromImage")
		if tag := r.URL.Query().Get("tag"); strings.HasPrefix(tag, "sha256:") {
			target += "@" + tag
		} else if tag != "" {
			target += ":" + tag
		}
	}
	return name, target
}

// ServeHTTP answers one call.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, target := route(r)
	if name == "" {
		writeError(w, refuse(http.StatusNotFound, "page not found"))
		return
	}
	call := Call{Name: name, Target: target, Query: r.URL.RawQuery}
	if name == "create" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		call.Body, r.Body = body, io.NopCloser(bytes.NewReader(body))
	}
	e.mu.Lock()
	e.calls = append(e.calls, call)
	fault := e.faultOf(name)
	e.tell()
	e.mu.Unlock()
	if fault != nil && e.fail(w, r, name, target, fault) {
		return
	}
	e.carryOut(w, r, name, target)
}

// faultOf returns the fault for a call, nil for none, and counts it. e.mu is held.
func (e *Engine) faultOf(name string) *Fault {
	for _, f := range e.faults {
		if f.Times != 0 && (f.Call == "" || f.Call == name) {
			f.Times--
			return f
		}
	}
	return nil
}

// fail makes a call fail. It reports whether the call is finished.
func (e *Engine) fail(w http.ResponseWriter, r *http.Request, name, target string, f *Fault) bool {
	switch {
	case f.After:
		e.carryOut(&lostAnswer{header: http.Header{}}, r, name, target)
		panic(http.ErrAbortHandler) // closes the connection
	case f.Cut:
		panic(http.ErrAbortHandler)
	case f.Hang:
		mended := func() bool {
			for _, g := range e.faults {
				if g == f {
					return false
				}
			}
			return true
		}
		return e.await(r.Context(), mended) != nil
	case f.Stream:
		io.Copy(io.Discard, r.Body) // otherwise the caller can't finish sending
		s := newStream(w)
		for _, line := range f.Output {
			s.say(line + "\n")
		}
		s.fail(f.Message)
		return true
	}
	io.Copy(io.Discard, r.Body)
	writeError(w, refuse(f.Status, "%s", f.Message))
	return true
}

// lostAnswer is a ResponseWriter that discards the answer.
type lostAnswer struct{ header http.Header }

func (l *lostAnswer) Header() http.Header         { return l.header }
func (l *lostAnswer) Write(p []byte) (int, error) { return len(p), nil }
func (l *lostAnswer) WriteHeader(int)             {}

func (e *Engine) carryOut(w http.ResponseWriter, r *http.Request, name, target string) {
	var err error
	switch name {
	case "ping":
		e.ping(w)
	case "version":
		writeJSON(w, http.StatusOK, e.version())
	case "info":
		writeJSON(w, http.StatusOK, e.info())
	case "libpod-info":
		writeJSON(w, http.StatusOK, e.libpodInfo())
	case "events":
		err = e.events(w, r)
	case "exec-start":
		err = e.startExec(w, r, target)
	case "connect", "disconnect":
		w.WriteHeader(http.StatusOK)
	case "build":
		err = e.build(w, r)
	case "pull":
		err = e.pull(w, target)
	case "load":
		err = e.load(w, r.Body)
	case "images":
		err = e.listImages(w, r)
	case "inspect-image":
		err = e.inspectImage(w, target)
	case "history":
		err = e.history(w, target)
	case "remove-image":
		err = e.removeImage(w, target)
	case "tag":
		err = e.tag(w, r, target)
	case "create":
		err = e.create(w, r)
	case "list":
		err = e.listContainers(w, r)
	default:
		err = e.ofContainer(w, r, name, target)
	}
	if err != nil {
		writeError(w, err)
	}
}

func (e *Engine) ping(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Api-Version", "1.41")
	h.Set("Docker-Experimental", "false")
	if !e.o.Podman {
		h.Set("Ostype", "linux")
	}
	if e.o.BuildKit {
		h.Set("Builder-Version", "2")
	}
	w.WriteHeader(http.StatusOK)
	io.WriteString(w, "OK") // the caller may be gone
}

func (e *Engine) version() any {
	component, version := "Engine", "20.10.24"
	if e.o.Podman {
		component, version = "Podman Engine", "4.3.1"
	}
	version = cmp.Or(e.o.Version, version)
	return map[string]any{"Version": version, "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": e.arch(),
		"Components": []any{map[string]any{"Name": component, "Version": version}}}
}

func (e *Engine) libpodInfo() any {
	return map[string]any{"host": map[string]any{"cgroupControllers": []string{}}}
}

func (e *Engine) info() any {
	security := []string{"name=seccomp,profile=default"}
	if e.o.Rootless && !e.o.Podman {
		security = append(security, "name=rootless")
	}
	if e.o.SELinux {
		security = append(security, "name=selinux")
	}
	info := map[string]any{"ID": "FAKE", "Architecture": e.o.Machine, "OSType": "linux", "NCPU": e.o.CPUs, "MemTotal": 16 << 30,
		"CgroupVersion": "2", "CgroupDriver": "cgroupfs", "Driver": "overlay2", "DockerRootDir": "/var/lib/docker", "CPUCfsQuota": true, "MemoryLimit": true, "PidsLimit": true, "SecurityOptions": security, "LiveRestoreEnabled": e.o.LiveRestore,
		"SystemTime": e.now().Format(time.RFC3339Nano), "Rootless": e.o.Rootless && e.o.Podman}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.offered(info)
	return info
}
