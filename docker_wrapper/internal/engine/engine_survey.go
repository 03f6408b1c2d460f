package engine

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/job"
)

// Found is an engine on this computer, with what it reports about itself or why it can't be used.
type Found struct {
	Info
	Chosen  bool   `json:"chosen"`
	Problem string `json:"problem,omitempty"` // one sentence with the command that helps; "" for none

	Cgroups     string `json:"cgroups,omitempty"` // such as "2, systemd"
	Storage     string `json:"storage,omitempty"` // its driver
	Dir         string `json:"dir,omitempty"`     // where it keeps images and containers, as it reports it
	Images      int    `json:"images"`
	Containers  int    `json:"containers"`
	MemoryLimit bool   `json:"memory_limit"` // it can limit a container's memory
	CPULimit    bool   `json:"cpu_limit"`
	PidsLimit   bool   `json:"pids_limit"`
	LiveRestore bool   `json:"live_restore,omitempty"` // containers go on when it stops
}

// Survey describes every engine that [Open] would find, and which one Open would take. When none can be used, the error is
// Open's.
func Survey(ctx context.Context, o Options) ([]Found, error) {
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	var all []Found
	var sockets []os.FileInfo
	for _, host := range candidates(o) {
		path, isFile := strings.CutPrefix(host, "unix://")
		socket, err := os.Stat(path)
		if isFile && err == nil {
			if slices.ContainsFunc(sockets, func(have os.FileInfo) bool { return os.SameFile(have, socket) }) {
				continue // /var/run is /run
			}
			sockets = append(sockets, socket)
		}
		e, err := open(ctx, host, o)
		switch {
		case errors.Is(err, ErrPermission):
			all = append(all, Found{Info: Info{Host: host}, Problem: ErrPermission.Error() + " (" + permissionHint(host) + ")"})
		case err == nil:
			all = append(all, e.found(ctx))
			e.Close()
		}
	}
	first := slices.IndexFunc(all, func(f Found) bool { return f.Problem == "" })
	if first >= 0 {
		all[first].Chosen = true
		return all, nil
	}
	e, err := Open(ctx, o) // it may start Podman's service
	if err != nil {
		return all, err
	}
	defer e.Close()
	f := e.found(ctx)
	f.Chosen = true
	return append(all, f), nil
}

// found is what an engine reports about itself.
func (e *Engine) found(ctx context.Context) Found {
	ctx, cancel := e.call(ctx)
	defer cancel()
	info, err := e.api.Info(ctx)
	if err != nil {
		return Found{Info: e.Info, Problem: wrap(err).Error()}
	}
	f := Found{Info: e.Info, Storage: info.Driver, Dir: info.DockerRootDir, Images: info.Images, Containers: info.Containers,
		MemoryLimit: e.Info.quirks.memoryLimit, CPULimit: e.Info.quirks.cpuQuota, PidsLimit: e.Info.quirks.pidsLimit, LiveRestore: info.LiveRestoreEnabled}
	f.Cgroups = strings.Trim(info.CgroupVersion+", "+info.CgroupDriver, ", ")
	return f
}

// Asks describes the request for these GPUs to the engine; err is why the engine can't give them.
func (i Info) Asks(g *job.GPUGrant) (how string, err error) {
	r := request{Config: &container.Config{}, Host: &container.HostConfig{}}
	r.grant(g, i)
	switch {
	case len(r.Host.DeviceRequests) > 0 && r.Host.DeviceRequests[0].Driver == "cdi":
		how = "by CDI as " + strings.Join(r.Host.DeviceRequests[0].DeviceIDs, ", ")
	case len(r.Host.DeviceRequests) > 0:
		how = "by NVIDIA's toolkit as " + strings.Join(r.Host.DeviceRequests[0].DeviceIDs, ", ")
		if !i.quirks.nvidiaRuntime {
			how += ", which this Docker doesn't mention"
		}
	default:
		how = "as " + strings.Join(wanted(g), ", ")
	}
	if len(r.Host.GroupAdd) > 0 {
		how += ", group " + strings.Join(r.Host.GroupAdd, ", ")
	}
	return how, i.gives(g)
}
