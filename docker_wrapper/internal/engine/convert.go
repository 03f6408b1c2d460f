package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// request is a container as the engine is asked to create it.
type request struct {
	Config   *container.Config
	Host     *container.HostConfig
	Network  *network.NetworkingConfig
	Name     string
	Platform string
}

// imageFacts is what of an image's configuration decides about a request.
type imageFacts struct {
	command []string // what the image runs by itself, for arguments that are appended to it
	labels  map[string]string
}

// emptied are the image's labels without their values. A container has the labels of its image, which could so steer programs that
// watch over the computer's other containers, and no engine can take them away.
func (im imageFacts) emptied() map[string]string {
	labels := map[string]string{}
	for k := range im.labels {
		labels[k] = ""
	}
	return labels
}

// What an image's labels may amount to.
const (
	maxLabels     = 1_000
	maxLabelBytes = 64 << 10 // keys and values
)

// labelsError finds more labels than an image has any use for.
func (im imageFacts) labelsError(image string) error {
	size := 0
	for k, v := range im.labels {
		size += len(k) + len(v)
	}
	switch {
	case len(im.labels) > maxLabels:
		return &ImageError{Image: image, Reason: fmt.Sprintf("it has %d labels, want at most %d", len(im.labels), maxLabels)}
	case size > maxLabelBytes:
		return &ImageError{Image: image, Reason: fmt.Sprintf("it has %d bytes of labels, want at most %d", size, maxLabelBytes)}
	}
	return nil
}

const (
	// The engine keeps this much of a container's output, for a wrapper that comes back to it. What goes
	// to a file of the job's is kept whole, up to a limit, because an engine that rotates a log loses some of
	// what is written fast.
	logMaxSize, logMaxFile = 2 << 20, "2"
	logMaxWhole            = 1 << 30

	oomScore = 500 // of -1000 to 1000: when the host runs out of memory, BOINC's jobs go first
)

// toRequest is the only place that speaks the SDK's words for what a plan says. It is pure.
// im is the image's configuration.
func toRequest(j *job.Job, imageID string, im imageFacts, info Info) request {
	c, x := j.Container, j.Container.Extra
	q := info.quirks
	proxyEnv, proxyHosts := throughProxy(c.Proxy, c.Network, info)
	r := request{Name: c.Name, Platform: x.Platform}
	r.Config = &container.Config{
		Image:        imageID,
		Hostname:     x.Hostname,
		User:         userOf(c.User, info.Rootless),
		Env:          slices.Concat(c.Env, proxyEnv),
		Entrypoint:   c.Entrypoint,
		Cmd:          commandOf(c, im.command),
		WorkingDir:   x.Workdir,
		Labels:       merged(im.emptied(), merged(x.Labels, c.Labels)),
		StopSignal:   j.Stop.Signal,
		Healthcheck:  noHealthcheck,
		ExposedPorts: nat.PortSet{},
		Volumes:      map[string]struct{}{},
	}
	grace := int(time.Duration(j.Stop.Timeout).Seconds())
	r.Config.StopTimeout = &grace

	initProcess := q.init
	if x.Init != nil {
		initProcess = *x.Init
	}
	if canCheckpoint(q, j) == nil { // it is to be restored, too
		initProcess, r.Config.NetworkDisabled = false, q.checkpoints == keptInside
	}
	r.Host = &container.HostConfig{
		NetworkMode:    container.NetworkMode(c.Network),
		PortBindings:   nat.PortMap{},
		Init:           &initProcess,
		LogConfig:      container.LogConfig{Type: q.logDriver, Config: map[string]string{"max-size": strconv.FormatInt(logSize(j), 10)}},
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		CapAdd:         x.CapAdd,
		CapDrop:        x.CapDrop,
		SecurityOpt:    append([]string{"no-new-privileges"}, x.SecurityOpts...),
		Privileged:     x.Privileged,
		ExtraHosts:     slices.Concat(x.AddHosts, proxyHosts),
		DNS:            x.DNS,
		GroupAdd:       x.GroupAdd,
		IpcMode:        container.IpcMode(x.IPC),
		PidMode:        container.PidMode(x.PIDMode),
		ReadonlyRootfs: x.ReadOnly,
		Runtime:        x.Runtime,
		ShmSize:        c.Limits.ShmSize,
		Sysctls:        x.Sysctls,
		Tmpfs:          x.Tmpfs,
		OomScoreAdj:    oomScore,
	}
	if q.logDriver == "json-file" {
		r.Host.LogConfig.Config["max-file"] = logMaxFile
	}
	if c.DropCaps {
		r.Host.CapDrop = []string{"ALL"}
	} else {
		r.Host.CapDrop = append(slices.Clone(x.CapDrop), neverUnasked(x)...)
	}
	if info.SELinux {
		r.Host.SecurityOpt = append(r.Host.SecurityOpt, "label=disable") // else the mounts can't be read
	}
	r.Host.Resources = resourcesOf(c.Limits, x, info)
	r.grant(c.GPU, info)
	addMounts(r.Host, c.Mounts, q)
	for _, b := range c.Binds {
		if b.Source == "" { // as docker's command line does it; else Docker 28 forgets the volume's name
			r.Config.Volumes[b.Target] = struct{}{}
			continue
		}
		r.Host.Binds = append(r.Host.Binds, b.String())
	}
	for _, p := range c.Ports {
		publish(&r, p)
	}
	return r
}

// addMounts adds mounts of ours.
func addMounts(host *container.HostConfig, mounts []job.Mount, q quirks) {
	for _, m := range mounts {
		if q.mountsAsText && strings.Contains(m.Source+m.Target, ",") {
			mode := ""
			if m.ReadOnly {
				mode = ":ro"
			}
			host.Binds = append(host.Binds, m.Source+":"+m.Target+mode)
			continue
		}
		host.Mounts = append(host.Mounts, mount.Mount{
			Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly,
			BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate},
		})
	}
}

// neverUnasked are the capabilities that engines give and that a container gets only when it is asked for them: forging
// packets on the volunteer's network, and leaving device files and programs with capabilities in the files that are handed back.
func neverUnasked(x job.CreateArgs) (drop []string) {
	for _, c := range []string{"NET_RAW", "MKNOD", "SETFCAP"} {
		asked := slices.ContainsFunc(x.CapAdd, func(add string) bool {
			add = strings.TrimPrefix(strings.ToUpper(add), "CAP_")
			return add == c || add == "ALL"
		})
		if !asked && !x.Privileged {
			drop = append(drop, c)
		}
	}
	return drop
}

// noHealthcheck: an image's own check would run beside the job, unseen and unbounded, and is nobody's
// business here.
var noHealthcheck = &container.HealthConfig{Test: []string{"NONE"}}

// logSize is how much of a container's output the engine keeps, in bytes.
func logSize(j *job.Job) int64 {
	switch {
	case j.Logs == job.Logs{}:
		return logMaxSize
	case j.Container.Limits.Disk > 0:
		return max(logMaxSize, j.Container.Limits.Disk)
	default:
		return logMaxWhole
	}
}

func resourcesOf(l job.Limits, x job.CreateArgs, info Info) container.Resources {
	r := container.Resources{CpusetCpus: x.CPUSet}
	if info.quirks.cpuShares {
		r.CPUShares = l.CPUShares
	}
	if info.quirks.memoryLimit {
		r.Memory, r.MemorySwap = l.Memory, l.Memory // no swap: the volunteer's disk isn't memory
	}
	if cpus := min(l.CPUs, float64(info.CPUs)); info.quirks.cpuQuota && cpus > 0 {
		r.NanoCPUs = int64(cpus * 1e9)
	}
	if info.quirks.pidsLimit && l.Pids > 0 {
		r.PidsLimit = &l.Pids
	}
	for _, d := range x.Devices {
		m := container.DeviceMapping{CgroupPermissions: "rw"}
		parts := strings.SplitN(d, ":", 3)
		m.PathOnHost, m.PathInContainer = parts[0], parts[0]
		if len(parts) > 1 {
			m.PathInContainer = parts[1]
		}
		if len(parts) > 2 {
			m.CgroupPermissions = parts[2]
		}
		r.Devices = append(r.Devices, m)
	}
	r.Ulimits = []*container.Ulimit{{Name: "core", Soft: 0, Hard: 0}}
	for _, u := range x.Ulimits {
		r.Ulimits = append(r.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	if info.quirks.ownLimits {
		for _, u := range host.Limits() {
			if !slices.ContainsFunc(r.Ulimits, func(o *container.Ulimit) bool { return o.Name == u.Name }) {
				r.Ulimits = append(r.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Max, Hard: u.Max})
			}
		}
	}
	return r
}

// userOf: where the engine is rootless, its root is the user that runs it, and any other user
// would leave files that BOINC can't delete.
func userOf(u job.User, rootless bool) string {
	switch {
	case u.Mode == "fixed":
		return u.Fixed
	case u.Mode == "image":
		return ""
	case rootless:
		return "0:0"
	default:
		return fmt.Sprintf("%d:%d", u.UID, u.GID)
	}
}

// commandOf is nil when the image's own command is wanted.
func commandOf(c job.Container, imageCommand []string) []string {
	command := c.Command
	if len(c.AppendArgs) > 0 && command == nil && c.Entrypoint == nil {
		command = imageCommand
	}
	if len(c.AppendArgs) == 0 {
		return command
	}
	return append(append([]string{}, command...), c.AppendArgs...)
}

func publish(r *request, p job.Port) {
	port := nat.Port(strconv.Itoa(p.Guest) + "/" + p.Protocol)
	r.Config.ExposedPorts[port] = struct{}{}
	b := nat.PortBinding{HostIP: p.HostIP}
	if p.Host > 0 {
		b.HostPort = strconv.Itoa(p.Host)
	}
	r.Host.PortBindings[port] = append(r.Host.PortBindings[port], b)
}

// merged lays over over under.
func merged(under, over map[string]string) map[string]string {
	m := map[string]string{}
	for _, part := range []map[string]string{under, over} {
		for k, v := range part {
			m[k] = v
		}
	}
	return m
}
