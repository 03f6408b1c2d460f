package engine

import (
	"cmp"
	"fmt"
	"maps"
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

// imageFacts is the part of an image's configuration that a request depends on.
type imageFacts struct {
	entrypoint, command, env []string // the image's own
	labels                   map[string]string
}

// emptied are the image's labels without their values. A container inherits the labels of its image, and no engine can remove
// them. With their values they could control other programs on this computer that manage containers by labels.
func (im imageFacts) emptied() map[string]string {
	labels := map[string]string{}
	for k := range im.labels {
		labels[k] = ""
	}
	return labels
}

// Bounds of an image's labels.
const (
	maxLabels     = 1_000
	maxLabelBytes = 64 << 10 // keys and values
)

// labelsError is an *ImageError when the image has too many labels.
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
	// How much of a container's output the engine keeps, for a later wrapper. Output for a file of the job's is kept
	// whole, up to a limit, because an engine that rotates its log loses some of fast output.
	logMaxSize, logMaxFile = 2 << 20, "2"
	logMaxWhole            = 1 << 30

	oomScore = 500 // of -1000 to 1000: when the host runs out of memory, the kernel kills BOINC's jobs first
)

// toRequest translates a plan into a request to the engine; no other function does. It is pure.
func toRequest(j *job.Job, imageID string, im imageFacts, info Info) request {
	c, x := j.Container, j.Container.Extra
	q := info.quirks
	proxyEnv, proxyHosts := throughProxy(c.Proxy, c.Network, info)
	r := request{Name: c.Name, Platform: x.Platform}
	r.Config = &container.Config{
		Image:        imageID,
		Hostname:     x.Hostname,
		User:         userOf(c.User, info.Rootless),
		Env:          slices.Concat(c.Env, proxyEnv, homeOf(c, im.env)),
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
	if canCheckpoint(q, j) == nil { // the engine can't restore a container with these
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
	if x.ReadOnly && slices.Contains(r.Config.Env, ownHome) { // see MakeHome
		r.Host.Tmpfs = maps.Clone(x.Tmpfs)
		if r.Host.Tmpfs == nil {
			r.Host.Tmpfs = map[string]string{}
		}
		r.Host.Tmpfs[ownHomeDir] = "mode=1777,exec"
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
		r.Host.SecurityOpt = append(r.Host.SecurityOpt, "label=disable") // else SELinux denies access to the mounts
	}
	r.Host.Resources = resourcesOf(c.Limits, x, info)
	r.grant(c.GPU, info)
	addMounts(r.Host, c.Mounts, q)
	for _, b := range c.Binds {
		if b.Source == "" { // as docker's command line does; in a bind, Docker 28 would lose the volume's name
			r.Config.Volumes[b.Target] = struct{}{}
			continue
		}
		r.Host.Binds = append(r.Host.Binds, b.String())
	}
	for _, p := range c.Ports {
		publish(&r, p)
	}
	r.throughWriter(j.Logs, im, q)
	return r
}

// OutputPath is this program in a job's container, where it starts the job's program and writes its output to files
// (main's writeOutput). Its arguments are the streams that have a file, "--", and the job's program with its arguments.
const OutputPath = "/.docker_wrapper_output"

// OutputFile is where a stream's file is in the container. stream is "stdout" or "stderr".
func OutputFile(stream string) string { return "/.docker_wrapper_" + stream }

// writerThreads is how many threads this program may need in a container besides the job's.
const writerThreads = 16

// throughWriter lets this program start the job's program, if a file of the job is to get its output.
func (r *request) throughWriter(l job.Logs, im imageFacts, q quirks) {
	program, command := []string(r.Config.Entrypoint), []string(r.Config.Cmd)
	if len(program) == 0 && len(command) == 0 { // as engines do: only an entrypoint keeps the image's command out
		command = im.command
	}
	switch {
	case program == nil:
		program = im.entrypoint
	case len(program) == 1 && program[0] == "":
		program = nil // as docker's command line and API have it, the image's entrypoint isn't used
	}
	if l.Writer == "" || len(program)+len(command) == 0 { // without a program the engine says so
		return
	}
	entrypoint := []string{OutputPath}
	mounts := []job.Mount{{Source: l.Writer, Target: OutputPath, ReadOnly: true}}
	for i, stream := range []string{"stdout", "stderr"} {
		if name := l.Written()[i]; name != "" {
			entrypoint = append(entrypoint, stream)
			mounts = append(mounts, job.Mount{Source: name, Target: OutputFile(stream)})
		}
	}
	addMounts(r.Host, mounts, q)
	r.Config.Entrypoint = slices.Concat(entrypoint, []string{"--"}, program)
	r.Config.Cmd = append([]string{}, command...) // never nil: the image's own would be appended
	r.Config.Labels[job.LabelOutput] = "files"
	if p := r.Host.PidsLimit; p != nil {
		more := *p + writerThreads
		r.Host.PidsLimit = &more
	}
}

// addMounts adds the plan's mounts.
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

// neverUnasked are capabilities that engines give by default and a job gets only if it asks for them. With them a job could
// forge packets on the volunteer's network, or leave device files and programs with capabilities among its output files.
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

// noHealthcheck turns an image's health check off. It would run beside the job, outside of its accounting, and its
// result isn't used.
var noHealthcheck = &container.HealthConfig{Test: []string{"NONE"}}

// logSize is how much of a container's output the engine keeps, in bytes.
func logSize(j *job.Job) int64 {
	switch {
	case !j.Standalone && (j.Logs == job.Logs{} || j.Logs.Writer != ""): // for stderr.txt, which keeps only a little
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
		r.Memory, r.MemorySwap = l.Memory, l.Memory // the same limit for both: no swap
		r.MemoryReservation = l.Reserved
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
	for _, u := range x.Ulimits {
		r.Ulimits = append(r.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	usual := []*container.Ulimit{{Name: "core"}, info.openFiles()}
	if info.quirks.ownLimits {
		for _, u := range host.Limits() {
			usual = append(usual, &container.Ulimit{Name: u.Name, Soft: u.Max, Hard: u.Max})
		}
	}
	for _, u := range usual {
		if !slices.ContainsFunc(r.Ulimits, func(o *container.Ulimit) bool { return o.Name == u.Name }) {
			r.Ulimits = append(r.Ulimits, u)
		}
	}
	return r
}

// maxOpenFiles is the hard limit that systemd gives services (DefaultLimitNOFILE since version 240), those of users' own engines
// included, and so what Docker 25 and newer give containers. Docker 23 and 24 gave 2^30, and a program that closes all files
// that may be open takes minutes for these.
const maxOpenFiles = 524288

// openFiles is a container's limit of open files. An engine without root can't give more than it has itself, which is taken to
// be what this process has.
func (i Info) openFiles() *container.Ulimit {
	most := cmp.Or(i.quirks.maxOpen, maxOpenFiles)
	return &container.Ulimit{Name: "nofile", Soft: most, Hard: most}
}

// ownOpenFiles is the hard limit of this process, at most maxOpenFiles.
func ownOpenFiles() int64 {
	most := int64(maxOpenFiles)
	for _, u := range host.Limits() {
		if u.Name == "nofile" && u.Max > 0 {
			most = min(most, u.Max)
		}
	}
	return most
}

// userOf is the user of a container, as the engine takes it; "" is the image's. The root of a rootless engine's containers is
// the user account that runs the engine. Any other user would leave files that BOINC can't delete.
func userOf(u job.User, rootless bool) string {
	switch {
	case u.Mode == job.UserFixed:
		return u.Fixed
	case u.Mode == job.UserImage:
		return ""
	case rootless:
		return "0:0"
	default:
		return fmt.Sprintf("%d:%d", u.UID, u.GID)
	}
}

// The HOME of BOINC's user in a container. The image knows no such user, and without HOME engines take "/".
const (
	ownHomeDir = "/home/boinc"
	ownHome    = homeEnv + ownHomeDir
	homeEnv    = "HOME="
)

// homeOf is HOME for BOINC's user, unless the job or the image sets another than "/".
func homeOf(c job.Container, imageEnv []string) []string {
	set := func(nv string) bool { return strings.HasPrefix(nv, homeEnv) }
	inImage := slices.IndexFunc(imageEnv, set)
	if c.User.Mode != job.UserBOINC || slices.ContainsFunc(c.Env, set) || inImage >= 0 && imageEnv[inImage] != homeEnv+"/" {
		return nil
	}
	return []string{ownHome}
}

// commandOf is the container's command; nil for the image's own.
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

// merged is under with the entries of over added or replaced.
func merged(under, over map[string]string) map[string]string {
	m := map[string]string{}
	for _, part := range []map[string]string{under, over} {
		for k, v := range part {
			m[k] = v
		}
	}
	return m
}
