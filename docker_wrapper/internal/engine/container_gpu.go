package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/pkg/stdcopy"

	"boincdocker/docker_wrapper/internal/job"
)

// gpuWay is how an engine gives NVIDIA's GPUs to a container. All engines give GPUs of other vendors as device files.
type gpuWay int

const (
	gpuByDriver gpuWay = iota // NVIDIA's toolkit, by UUID
	gpuByCDI                  // github.com/cncf-tags/container-device-interface
	gpuIgnored                // the engine ignores the request without an error
)

var gpuWays = [...]string{gpuByDriver: "NVIDIA's toolkit", gpuByCDI: "CDI", gpuIgnored: "not at all"}

// offer adds to the quirks how the engine gives GPUs. Docker lists its CDI devices from 28.2 on; from 25 on it lists the
// directories of CDI specifications, if CDI is turned on. With Docker's NVIDIA runtime, NVIDIA's toolkit is used: it asks
// the current driver, while a CDI specification may be older than the driver.
func (q *quirks) offer(kind, version string, info system.Info) {
	if kind == Podman {
		q.gpus = gpuByCDI
		if versions.LessThan(version, "5.5") {
			q.gpus = gpuIgnored
		}
		return
	}
	_, q.nvidiaRuntime = info.Runtimes["nvidia"]
	q.nvidiaRuntime = q.nvidiaRuntime || info.DefaultRuntime == "nvidia"
	for _, d := range info.DiscoveredDevices {
		if d.Source == "cdi" {
			q.cdi += d.ID + "\n"
		}
	}
	if !q.nvidiaRuntime && (q.cdi != "" || len(info.CDISpecDirs) > 0 && versions.LessThan(version, "28.2")) {
		q.gpus = gpuByCDI
	}
}

// way is how the engine gives these NVIDIA GPUs. A Docker that lists CDI devices, but none of NVIDIA's, may still have the
// toolkit.
func (q quirks) way(g *job.GPUGrant) gpuWay {
	if q.gpus != gpuByCDI || q.cdi == "" {
		return q.gpus
	}
	for _, name := range cdiNames(g, q) {
		kind, _, _ := strings.Cut(name, "=")
		if strings.Contains("\n"+q.cdi, "\n"+kind+"=") {
			return gpuByCDI
		}
	}
	return gpuByDriver
}

// GPUWay says in words how the engine gives these GPUs to a container.
func (i Info) GPUWay(g *job.GPUGrant) string {
	if g.Vendor != job.NVIDIA {
		return "device files"
	}
	return gpuWays[i.quirks.way(g)]
}

// grant adds the plan's GPUs and the program that proves that they work.
func (r *request) grant(g *job.GPUGrant, info Info) {
	q := info.quirks
	visible := "" // for NVIDIA's runtime, in place of what image and job set
	if g != nil && g.Vendor == job.NVIDIA && q.way(g) != gpuByCDI {
		ids := make([]string, len(g.Devices))
		for i, d := range g.Devices {
			ids[i] = d.ID
		}
		visible = strings.Join(ids, ",")
		r.Host.DeviceRequests = []container.DeviceRequest{{Driver: job.NVIDIA, DeviceIDs: ids, Capabilities: [][]string{{"gpu"}}}}
	} else if g != nil && g.Vendor == job.NVIDIA {
		r.Host.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: cdiNames(g, q)}}
	}
	if q.nvidiaRuntime {
		r.Config.Env = slices.DeleteFunc(r.Config.Env, func(nv string) bool { return strings.HasPrefix(nv, "NVIDIA_VISIBLE_DEVICES=") })
		r.Config.Env = append(r.Config.Env, "NVIDIA_VISIBLE_DEVICES="+cmp.Or(visible, "void"))
	}
	if g == nil {
		return
	}
	keep := false
	for _, d := range g.Devices {
		for _, n := range d.Nodes {
			if g.Vendor != job.NVIDIA && !slices.ContainsFunc(r.Host.Devices, func(have container.DeviceMapping) bool { return have.PathOnHost == n.Path }) {
				r.Host.Devices = append(r.Host.Devices, container.DeviceMapping{PathOnHost: n.Path, PathInContainer: n.Path, CgroupPermissions: "rw"})
			}
			if gid := strconv.Itoa(n.GID); !n.Everybody && n.GID > 0 && !slices.Contains(r.Host.GroupAdd, gid) {
				if keep = info.Rootless; !keep {
					r.Host.GroupAdd = append(r.Host.GroupAdd, gid)
				}
			}
		}
	}
	if keep && q.keepsGroups { // the container doesn't have the host's group numbers; with this annotation crun keeps the groups
		r.Host.Annotations = map[string]string{"run.oci.keep_original_groups": "1"}
	}
	if g.Prover != "" {
		r.Host.Mounts = append(r.Host.Mounts, mount.Mount{Type: mount.TypeBind, Source: g.Prover, Target: HelperPath, ReadOnly: true})
	}
}

// cdiNames are the GPUs' names in the engine's CDI specifications. When those are unknown, they are as NVIDIA's tool names
// them (nvidia-ctk cdi generate).
func cdiNames(g *job.GPUGrant, q quirks) (names []string) {
	offered := strings.Fields(q.cdi)
	for _, d := range g.Devices {
		name := g.Vendor + ".com/gpu=" + d.ID
		if len(d.CDI) > 0 {
			name = d.CDI[0]
		}
		for _, have := range d.CDI {
			if slices.Contains(offered, have) {
				name = have
				break
			}
		}
		names = append(names, name)
	}
	return names
}

// gives returns an error when the engine can't give these GPUs.
func (i Info) gives(g *job.GPUGrant) error {
	if g == nil {
		return nil
	}
	if g.Vendor == job.NVIDIA && i.quirks.gpus == gpuIgnored {
		return fmt.Errorf("%w: Podman %s gives no NVIDIA GPU through its API (5.5 and newer do; so does Docker: sudo apt-get install docker.io nvidia-container-toolkit)",
			ErrGPU, i.Version)
	}
	if g.Vendor == job.NVIDIA || !i.Rootless || i.quirks.keepsGroups {
		return nil
	}
	for _, d := range g.Devices {
		for _, n := range d.Nodes {
			if !n.Everybody {
				return fmt.Errorf("%w: with rootless Docker, containers lack the group that may use %s (sudo chmod o+rw %[2]s, until the next boot)",
					ErrGPU, n.Path)
			}
		}
	}
	return nil
}

// ErrGPU: the container can't have the GPU that it was granted. A later try may succeed.
var ErrGPU = errors.New("the container can't have its GPU")

// gpuHints maps engines' errors about GPUs to what the owner can do. The first match wins. A client shows 255 bytes
// (boinc_temporary_exit in api/boinc_api.cpp), so the hint comes before the engine's error.
var gpuHints = []struct{ text, hint string }{
	{`could not select device driver "cdi"`, `Docker has CDI turned off ("features": {"cdi": true} in /etc/docker/daemon.json, then sudo systemctl restart docker)`},
	{"could not select device driver", "Docker lacks NVIDIA's toolkit (sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker)"},
	{"cdi device", "no CDI specification has it (sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)"},
	{"driver/library version mismatch", "the driver was updated, and the older one is still loaded (sudo reboot)"},
	{"driver not loaded", "its driver isn't loaded (sudo modprobe nvidia && nvidia-smi)"},
	{"driver rpc error", "its driver doesn't answer (sudo modprobe nvidia && nvidia-smi)"},
	{"unknown device", "its driver doesn't list it any more (nvidia-smi -L; then sudo systemctl restart boinc-client)"},
	{"nvidia-container-cli", "NVIDIA's toolkit fails (nvidia-smi says whether the driver works)"},
	{"gathering device information", goneHint},
}

const goneHint = "its device file is gone (sudo dmesg says why)"

// hinted turns an engine's error about a GPU into ErrGPU, with the command that helps. It is this computer's fault, whatever
// class the engine gives the error.
func hinted(g *job.GPUGrant, err error) error {
	if g == nil || err == nil {
		return err
	}
	text, hint := strings.ToLower(err.Error()), ""
	for _, path := range wanted(g) {
		if strings.Contains(err.Error(), path) && strings.Contains(text, "no such file or directory") {
			hint = goneHint
		}
	}
	for _, h := range gpuHints {
		if strings.Contains(text, h.text) {
			hint = h.hint
			break
		}
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s: %s", ErrGPU, hint, plain(err.Error()))
}

// wanted are the device files of a grant.
func wanted(g *job.GPUGrant) (paths []string) {
	for _, d := range g.Devices {
		for _, n := range d.Nodes {
			if !slices.Contains(paths, n.Path) {
				paths = append(paths, n.Path)
			}
		}
	}
	return paths
}

// took returns an error when the engine ignored the grant, as far as inspection shows. A running container of Podman's shows
// the device files that it has, Docker's the ones requested. Rootless Podman mounts them and doesn't list them: there only
// the proof tells.
func (c *Container) took(in container.InspectResponse) error {
	if in.HostConfig == nil || c.e.Info.quirks.hidesDevices {
		return nil
	}
	if c.gpu.Vendor == job.NVIDIA && !c.e.Info.quirks.showsDevices {
		if len(in.HostConfig.DeviceRequests) == 0 {
			return fmt.Errorf("%w: %s has ignored the request", ErrGPU, c.e.Info.Kind)
		}
		return nil
	}
	for _, path := range wanted(c.gpu) {
		if !slices.ContainsFunc(in.HostConfig.Devices, func(d container.DeviceMapping) bool { return d.PathInContainer == path }) {
			return fmt.Errorf("%w: %s has ignored the request for %s (%s)", ErrGPU, c.e.Info.Kind, path, remake)
		}
	}
	return nil
}

// remake writes NVIDIA's CDI specification again, which may be older than the driver.
const remake = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"

// ProveCommand, as the value of HelperEnv, tells the prover to try the device files in its arguments and to print a line for
// each.
const ProveCommand = "gpus"

// ErrUnproven: the program that looks for the GPU can't run in the container.
var ErrUnproven = errors.New("cannot look for the GPU in the container")

// ProveGPUs checks from inside the running container that it has the GPUs that it was granted, that its user may use
// them, and that it has no others. It runs the grant's prover there, no program of the image. ErrGPU when a device isn't as it
// should be; ErrUnproven when that is unknown; ErrNotRunning when the container has ended.
func (c *Container) ProveGPUs(ctx context.Context) error {
	if c.gpu == nil {
		return nil
	}
	in, err := c.inspect(ctx)
	if err != nil {
		return fmt.Errorf("inspect container %s: %w", c.Name, err)
	}
	if in.State != nil && !in.State.Running {
		return fmt.Errorf("look for the GPU in container %s: %w", c.Name, ErrNotRunning)
	}
	if err := c.took(in); err != nil {
		return err
	}
	want := wanted(c.gpu)
	if c.gpu.Prover == "" || len(want) == 0 {
		return fmt.Errorf("%w: no device files are known on this system", ErrUnproven)
	}
	said, err := c.exec(ctx, slices.Concat([]string{HelperPath}, want, c.gpu.Others), HelperEnv+"="+ProveCommand)
	if err != nil {
		return fmt.Errorf("look for the GPU in container %s: %w", c.Name, err)
	}
	return judgeProof(said, want, c.gpu.Others)
}

// judgeProof compares the prover's lines, "PATH: ok" or "PATH: REASON", with what they should be.
func judgeProof(said string, want, others []string) error {
	answers := map[string]string{}
	for line := range strings.Lines(said) {
		if path, answer, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			answers[path] = answer
		}
	}
	for _, path := range want {
		switch answer := answers[path]; answer {
		case "ok", "device or resource busy": // a GPU in exclusive mode that another program uses
		case "":
			return fmt.Errorf("%w at %s: it says %.200q", ErrUnproven, path, said)
		case "no such file or directory":
			return fmt.Errorf("%w: it has no %s (%s)", ErrGPU, path, remake)
		case "permission denied", "operation not permitted":
			return fmt.Errorf("%w: its user may not use %s: %s (ls -l %[2]s says who may; with a rootless engine, no-cgroups = true in /etc/nvidia-container-runtime/config.toml)", ErrGPU, path, answer)
		default:
			return fmt.Errorf("%w: %s can't be used: %s (sudo dmesg says why)", ErrGPU, path, answer)
		}
	}
	for _, path := range others {
		if answer := answers[path]; answer == "ok" || answer == "device or resource busy" {
			return fmt.Errorf("%w: it has %s, too, which BOINC didn't assign (docker info -f '{{.DefaultRuntime}}' must not say nvidia)", ErrGPU, path)
		}
	}
	return nil
}

// exec runs a program in the container and returns what it prints.
func (c *Container) exec(ctx context.Context, command []string, env ...string) (string, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	made, err := c.e.api.ContainerExecCreate(ctx, c.ID, container.ExecOptions{Cmd: command, Env: env, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", wrap(err)
	}
	stream, err := c.e.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return "", wrap(err)
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	var out bytes.Buffer
	const most = 64 << 10 // bytes; it prints a few lines
	if _, err := stdcopy.StdCopy(&out, &out, io.LimitReader(stream.Reader, most)); err != nil && ctx.Err() != nil {
		return "", wrap(ctx.Err())
	} else if err != nil {
		return "", wrap(err)
	}
	return out.String(), nil
}
