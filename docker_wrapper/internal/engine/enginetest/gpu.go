package enginetest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// GPUs sets the GPUs that the engine can give to containers: the device files of each, by UUID or CDI name. The engine
// reports them as real ones do: it lists CDI names in its info, and NVIDIA's runtime if there are UUIDs.
func (e *Engine) GPUs(files map[string][]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gpus = maps.Clone(files)
}

// Answer sets the result of opening a device file in a container, whether the container has the file or not: "ok", or an
// error.
func (e *Engine) Answer(path, answer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers[path] = answer
}

// offered adds GPUs to the engine's info. e.mu is held.
func (e *Engine) offered(info map[string]any) {
	runtimes := map[string]any{"runc": map[string]any{"path": "runc"}}
	var devices []map[string]string
	for _, name := range slices.Sorted(maps.Keys(e.gpus)) {
		if strings.Contains(name, "=") {
			devices = append(devices, map[string]string{"Source": "cdi", "ID": name})
		} else {
			runtimes["nvidia"] = map[string]any{"path": "nvidia-container-runtime"}
		}
	}
	if info["Runtimes"] = runtimes; !e.o.Podman && len(devices) > 0 {
		info["CDISpecDirs"], info["DiscoveredDevices"] = []string{"/etc/cdi", "/var/run/cdi"}, devices
	}
}

// files lists the device files that a container has. For an unknown GPU it returns an error, or nothing if this engine
// ignores such requests. e.mu is held.
func (e *Engine) files(c *container) ([]string, error) {
	var list []string
	for _, d := range c.request.HostConfig.Devices {
		list = append(list, d.PathInContainer)
	}
	for _, r := range c.request.HostConfig.DeviceRequests {
		if e.o.Podman && (r.Driver != "cdi" || e.old()) {
			continue // Podman ignores the request without an error
		}
		if r.Driver == "nvidia" && !slices.ContainsFunc(slices.Collect(maps.Keys(e.gpus)), func(name string) bool { return !strings.Contains(name, "=") }) {
			return nil, refuse(http.StatusInternalServerError, `could not select device driver "nvidia" with capabilities: [[gpu]]`)
		}
		for _, id := range r.DeviceIDs {
			files, ok := e.gpus[id]
			switch {
			case !ok && r.Driver == "cdi":
				return nil, refuse(http.StatusInternalServerError, "CDI device injection failed: unresolvable CDI devices %s", id)
			case !ok:
				return nil, refuse(http.StatusInternalServerError, "failed to create task for container: nvidia-container-cli: device error: %s: unknown device: unknown", id)
			}
			list = append(list, files...)
		}
	}
	return list, nil
}

// old reports whether this is a Podman that ignores requests for devices (version 4).
func (e *Engine) old() bool { return e.o.Version == "" || strings.HasPrefix(e.o.Version, "4.") }

// prepareExec answers the call that prepares a program in a running container.
func (e *Engine) prepareExec(w http.ResponseWriter, r *http.Request, c *container) error {
	var req struct{ Cmd, Env []string }
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	if c.status != "running" {
		return refuse(http.StatusConflict, "container %s is not running", c.id)
	}
	files, err := e.files(c)
	if err != nil {
		return err
	}
	e.execs++
	id := fmt.Sprintf("exec%d", e.execs)
	// The only program is the wrapper's own helper, which tries to open the device files in its arguments.
	for _, path := range req.Cmd[1:] {
		answer := "no such file or directory"
		if slices.Contains(files, path) {
			answer = "ok"
		}
		if said, ok := e.answers[path]; ok {
			answer = said
		}
		if answer != "" {
			e.said[id] += path + ": " + answer + "\n"
		}
	}
	writeJSON(w, http.StatusCreated, map[string]string{"Id": id})
	return nil
}

// startExec answers the call that runs the program. The connection becomes the program's output.
func (e *Engine) startExec(w http.ResponseWriter, r *http.Request, id string) error {
	io.Copy(io.Discard, r.Body) // otherwise the caller can't finish sending
	e.mu.Lock()
	text := e.said[id]
	e.mu.Unlock()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	head := []byte{standardOut, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n%s%s", head, text) // the caller may be gone
	return nil
}
