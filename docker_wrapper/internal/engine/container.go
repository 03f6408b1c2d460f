package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// Container states, as [Container.State] gives them.
const (
	StateCreated = "created"
	StateRunning = "running"
	StatePaused  = "paused"
	StateExited  = "exited"
)

// Container is one container of the engine. Its methods may be called at any time and more than
// once: pausing what is paused, or removing what is gone, is no error.
type Container struct {
	ID     string
	Name   string
	State  string // when it was found
	Labels map[string]string
	Made   time.Time // likewise, by the engine's clock
	Image  string    // ID, without its algorithm; "" where it isn't known

	e       *Engine
	spec    job.Container // as it was planned; zero where it was only listed
	gpu     *job.GPUGrant
	ask     string                 // the signal that asks the job for a checkpoint; "" for none
	asked   atomic.Int64           // how often this wrapper sent it
	cgroup  atomic.Pointer[string] // its path below the hierarchies' roots, once it is known
	workdir atomic.Pointer[string] // likewise

	rung      atomic.Int32                 // how it is paused
	processes atomic.Pointer[host.Payload] // once they are known
	oomKills  atomic.Pointer[int64]        // the kernel's count before the container was started, or before this wrapper first watched it
}

// WritesFiles reports whether the files for the container's output are written inside of it, and not from its logs.
func (c *Container) WritesFiles() bool { return c.Labels[job.LabelOutput] != "" }

// List lists the containers, ended ones too, that carry all these labels.
func (e *Engine) List(ctx context.Context, labels map[string]string) ([]*Container, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	f := filters.NewArgs()
	for k, v := range labels {
		f.Add("label", k+"="+v)
	}
	found, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: f})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", wrap(err))
	}
	var list []*Container
	for _, c := range found {
		name := ""
		if len(c.Names) > 0 {
			name = strings.TrimPrefix(c.Names[0], "/")
		}
		list = append(list, &Container{ID: c.ID, Name: name, State: c.State, Labels: c.Labels, Made: time.Unix(c.Created, 0), e: e})
	}
	return list, nil
}

// holder says which job owns a container whose name this job needs, as the end of an error. Results whose names differ only in
// case get the same container name, since the client makes it lower case.
func holder(mine, its map[string]string) string {
	result := its[job.LabelResult]
	switch {
	case result == "":
		return ""
	case mine[job.LabelDataDir] != its[job.LabelDataDir]:
		return fmt.Sprintf(": it belongs to result %.80q of another client", result)
	case mine[job.LabelProject] != its[job.LabelProject]:
		return fmt.Sprintf(": it belongs to result %.80q of project %.80q, and this result waits until that has ended", result, its[job.LabelProject])
	default:
		return fmt.Sprintf(": it belongs to result %.80q, and this result waits until that has ended", result)
	}
}

// Find looks a container up by its exact name. ErrNotFound when there is none; ErrNameTaken when
// its labels don't name this job.
func (e *Engine) Find(ctx context.Context, c job.Container) (*Container, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	in, err := e.api.ContainerInspect(ctx, c.Name)
	if err != nil {
		return nil, fmt.Errorf("find container %s: %w", c.Name, wrap(err))
	}
	if in.ContainerJSONBase == nil || in.State == nil || in.Config == nil {
		return nil, fmt.Errorf("find container %s: the engine's answer has no state in it", c.Name)
	}
	for _, l := range []string{job.LabelDataDir, job.LabelProject, job.LabelResult, job.LabelProof} {
		if got := in.Config.Labels[l]; got != c.Labels[l] {
			return nil, fmt.Errorf("find container %s: %w%s", c.Name, ErrNameTaken, holder(c.Labels, in.Config.Labels))
		}
	}
	if in.State.Status == "removing" || in.State.Dead {
		return nil, e.outlast(ctx, in.ID, c.Name)
	}
	state := StateExited
	switch {
	case in.State.Paused:
		state = StatePaused
	case in.State.Running || in.State.Restarting:
		state = StateRunning
	case !parseTime(in.State.StartedAt).IsZero(): // whatever its status: Podman 4 says "created" after a loss of power
	case in.State.Status == StateCreated || in.State.Status == "configured" || in.State.Status == "initialized":
		state = StateCreated
	}
	found := &Container{ID: in.ID, Name: c.Name, State: state, Labels: in.Config.Labels, Image: bareID(in.Image), e: e, spec: c, gpu: c.GPU, ask: c.AskSignal}
	if state == StateRunning && found.held(ctx, false) {
		found.State = StatePaused
	}
	return found, nil
}

// outlast waits for the end of a container's removal, and removes it if an earlier removal failed. Its files are gone, but its
// name is still taken. It returns ErrNotFound when the name is free.
func (e *Engine) outlast(ctx context.Context, id, name string) error {
	c := &Container{ID: id, Name: name, e: e}
	if err := c.Remove(ctx); err != nil { // does nothing while another removal is in progress
		return err
	}
	ctx, cancel := context.WithCancel(ctx) // an abandoned wait would leak
	defer cancel()
	removed, errs := e.api.ContainerWait(ctx, id, container.WaitConditionRemoved)
	select {
	case <-removed:
	case err := <-errs:
		if err = wrap(err); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("wait for the removal of container %s: %w", name, err)
		}
	}
	return fmt.Errorf("find container %s: %w", name, ErrNotFound)
}

// Create makes the container, not started. ErrNotFound when the image is gone; *ImageError when it has too many labels.
func (e *Engine) Create(ctx context.Context, j *job.Job, imageID string) (*Container, error) {
	in, err := e.inspectImage(ctx, imageID)
	if err != nil {
		return nil, fmt.Errorf("create container %s: %w", j.Container.Name, err)
	}
	var im imageFacts
	if in.Config != nil {
		im = imageFacts{in.Config.Entrypoint, in.Config.Cmd, in.Config.Env, in.Config.Labels}
	}
	if err := im.labelsError(imageID); err != nil {
		return nil, fmt.Errorf("create container %s: %w", j.Container.Name, err)
	}
	e.sayProxy(j.Container.Proxy, j.Container.Network)
	e.sayUnshared(j.Container.Binds)
	for _, m := range j.Container.Mounts {
		if e.Info.quirks.mountsAsText && strings.Contains(m.Source, ",") && strings.Contains(m.Source, ":") {
			return nil, fmt.Errorf("%w: Podman can't mount %s, because the path has both a comma and a colon in it: move BOINC's data directory", ErrHost, m.Source)
		}
	}
	r := toRequest(j, imageID, im, e.Info)
	if err := startable(r.Config, ofImage(in)); err != nil {
		return nil, fmt.Errorf("create container %s: %w", j.Container.Name, err)
	}
	if err := e.Info.gives(j.Container.GPU); err != nil {
		return nil, err
	}
	if err := e.possible(r); err != nil {
		return nil, fmt.Errorf("create container %s: %w", r.Name, err)
	}
	ctx, cancel := e.call(ctx)
	defer cancel()
	var platform *ocispec.Platform
	if os, arch, ok := strings.Cut(r.Platform, "/"); ok {
		platform = &ocispec.Platform{OS: os, Architecture: arch}
	}
	resp, err := e.api.ContainerCreate(ctx, r.Config, r.Host, r.Network, platform, r.Name)
	if err != nil && strings.Contains(err.Error(), "init binary") && j.Container.Extra.Init == nil {
		r.Host.Init = new(bool) // Podman's init program is in a package of its own
		resp, err = e.api.ContainerCreate(ctx, r.Config, r.Host, r.Network, platform, r.Name)
	}
	if err != nil && e.Info.quirks.strays && strings.Contains(err.Error(), "is already in use") {
		if _, found := e.Find(ctx, j.Container); errors.Is(found, ErrNotFound) {
			if err := e.RemoveStray(ctx, j.Container); err != nil {
				return nil, err
			}
			resp, err = e.api.ContainerCreate(ctx, r.Config, r.Host, r.Network, platform, r.Name)
		}
	}
	if err != nil {
		// The engine may have made the container although its answer was lost, and engines differ in how
		// they report that a name is taken. So look for the name.
		if c, found := e.Find(ctx, j.Container); found == nil {
			return c, nil
		} else if errors.Is(found, ErrNameTaken) {
			return nil, found
		}
		if hint := hinted(j.Container.GPU, err); errors.Is(hint, ErrGPU) {
			return nil, hint
		}
		return nil, fmt.Errorf("create container %s: %w", r.Name, createError(err, wordsOf(r.Config, ofImage(in))))
	}
	for _, w := range resp.Warnings {
		e.log.Debug().Str("warning", w).Msg("create")
	}
	e.log.Debug().Str("name", r.Name).Str("id", resp.ID[:12]).Msg("created container")
	c := &Container{ID: resp.ID, Name: r.Name, State: StateCreated, Labels: r.Config.Labels, Image: bareID(imageID), e: e, spec: j.Container, gpu: j.Container.GPU, ask: j.Container.AskSignal}
	if e.Info.quirks.passesOver {
		c.sayUnlimited(ctx, j.Container.Limits)
	}
	return c, nil
}

// startable is a *RunError if no program can start with these configurations, whatever the engine says of it.
func startable(asked, image *container.Config) error {
	if image == nil {
		image = &container.Config{}
	}
	entrypoint, command := asked.Entrypoint, asked.Cmd // how engines merge them: moby's daemon/commit.go
	if len(entrypoint) == 0 && len(command) == 0 {
		command = image.Cmd
	}
	if entrypoint == nil {
		entrypoint = image.Entrypoint
	}
	if strings.Join(slices.Concat(entrypoint, command), "") == "" {
		return &RunError{Reason: "neither the image nor job.toml names a program (write CMD or ENTRYPOINT in the Dockerfile, or command or entrypoint in job.toml)"}
	}
	for _, nv := range image.Env {
		if len(nv) > job.MaxArgument {
			name, _, _ := strings.Cut(nv, "=")
			return &RunError{Reason: fmt.Sprintf("the image's variable %s is %d bytes long with its name; Linux allows %d", brief(name), len(nv), job.MaxArgument)}
		}
	}
	return nil
}

// RemoveStray removes what is left of a container of this name that Podman was making when it or the computer stopped. It is
// in Podman's storage and not in its list of containers, and no other container can get the name (measured on 4.3.1 and 5.8.6).
func (e *Engine) RemoveStray(ctx context.Context, c job.Container) error {
	if !e.Info.quirks.strays {
		return nil
	}
	ctx, cancel := e.call(ctx)
	defer cancel()
	err := e.api.ContainerRemove(ctx, c.Name, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove what is left of container %s: %w", c.Name, wrap(err))
	}
	return nil
}

// sayUnlimited warns of limits that the engine ignored or can't set, for instance because its user account has no control
// group.
func (c *Container) sayUnlimited(ctx context.Context, asked job.Limits) {
	in, err := c.inspect(ctx)
	if err != nil || in.HostConfig == nil {
		c.e.log.Debug().Err(err).Msg("cannot read the container's limits")
		return
	}
	var lost []string
	got := in.HostConfig.Resources
	if asked.Memory > 0 && got.Memory == 0 {
		lost = append(lost, "memory")
	}
	if asked.CPUs > 0 && asked.CPUs < float64(c.e.Info.CPUs) && got.NanoCPUs == 0 && got.CPUQuota == 0 {
		lost = append(lost, "CPUs")
	}
	if asked.Pids > 0 && (got.PidsLimit == nil || *got.PidsLimit <= 0) {
		lost = append(lost, "processes")
	}
	if len(lost) > 0 {
		c.e.log.Warn().Str("name", c.Name).Msg("this engine doesn't limit the container's " + strings.Join(lost, ", "))
	}
}

// sayUnshared warns of mounts that the host doesn't share as the job asks, where the engine itself doesn't refuse them. It
// decides by the mounts that this process sees.
func (e *Engine) sayUnshared(binds []job.Bind) {
	if !e.Info.quirks.sharesAlone {
		return
	}
	for _, b := range binds {
		if shared, known := host.Shared(b.Source); b.Shared() && known && !shared {
			e.log.Warn().Stringer("mount", b).Msgf("the host doesn't share its mounts below %s: the container gets those that are there now", b.Source)
		}
	}
}

// possible returns an error for requests that the engine would ignore without an error.
func (e *Engine) possible(r request) error {
	if e.Info.quirks.noRuntime && r.Host.Runtime != "" {
		return fmt.Errorf("%w: through its API, Podman ignores a container's runtime (%s)", ErrHost, r.Host.Runtime)
	}
	if !e.Info.quirks.makesSources {
		return nil
	}
	var sources []string
	for _, m := range r.Host.Mounts {
		sources = append(sources, m.Source)
	}
	for _, b := range r.Host.Binds {
		if source, _, _ := strings.Cut(b, ":"); path.IsAbs(source) {
			sources = append(sources, source)
		}
	}
	for _, s := range sources {
		if _, err := os.Stat(s); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: mount %s: it doesn't exist", ErrHost, s)
		}
	}
	return nil
}

// createError is a *RunError, the project's mistake, when the engine refuses a parameter.
func createError(err error, words string) error {
	if wrapped := wrapFor(err, words); classFor(err.Error(), words) != nil || !errdefs.IsInvalidArgument(err) && !isRunFailure(err.Error()) {
		return wrapped
	}
	return &RunError{Reason: err.Error()}
}

// Start starts it. *RunError when its program isn't there or can't be executed.
func (c *Container) Start(ctx context.Context) error {
	before, in, err := c.beforeStart(ctx)
	if err != nil {
		return err
	}
	words := wordsOf(in.Config)
	kills := host.OOMKills()
	c.oomKills.Store(&kills)
	callCtx, cancel := c.e.call(ctx)
	defer cancel()
	err = c.e.api.ContainerStart(callCtx, c.ID, container.StartOptions{})
	switch {
	case err == nil:
		return nil
	case errors.Is(hinted(c.gpu, err), ErrGPU):
		return hinted(c.gpu, err)
	case classFor(err.Error(), words) == nil && (errdefs.IsInvalidArgument(err) || isRunFailure(err.Error())):
		if why := c.programFault(ctx, in); why != "" {
			return &RunError{Reason: why}
		}
		return &RunError{Reason: plain(err.Error())}
	}
	if err = wrapFor(err, words); errors.Is(err, ErrUnreachable) && c.startedAfter(ctx, before) {
		return nil // only the answer was lost or late
	}
	return fmt.Errorf("start container %s: %w", c.Name, err)
}

// startedAfter reports that the container was started after that time, by the engine's clock.
func (c *Container) startedAfter(ctx context.Context, before time.Time) bool {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(ctx, c.ID)
	return err == nil && (in.State.Running || parseTime(in.State.StartedAt).After(before))
}

// defaultPath is where engines look when the image has no PATH (moby's oci/defaults.go).
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// beforeStart inspects the container and returns when it was last started, zero for never. With an init process the engine
// doesn't notice that the program can't be executed: the container would start and end with code 126 or 127, which could be
// the program's own; nor does it with this program as the writer of the job's output. So it is looked for.
func (c *Container) beforeStart(ctx context.Context) (started time.Time, in container.InspectResponse, err error) {
	if in, err = c.inspect(ctx); err != nil {
		return time.Time{}, in, fmt.Errorf("start container %s: %w", c.Name, err)
	}
	ours := in.Path == OutputPath || in.HostConfig.Init != nil && *in.HostConfig.Init // the first program isn't the job's
	if ours && !in.State.Running {
		if why := c.programFault(ctx, in); why != "" {
			return time.Time{}, in, &RunError{Reason: why}
		}
	}
	return parseTime(in.State.StartedAt), in, nil
}

// programFault says why the container's program can't be executed; "" if it can, or if that isn't known.
func (c *Container) programFault(ctx context.Context, in container.InspectResponse) string {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	reason := "no such file in the image"
	program, args := in.Path, in.Args
	if program == podmansInit && len(args) > 1 && args[0] == "--" {
		program, args = args[1], args[2:]
	}
	if i := slices.Index(args, "--"); program == OutputPath && i >= 0 && i+1 < len(args) {
		program = args[i+1]
	}
	for _, name := range programNames(program, in.Config) {
		if hidden := c.spec.Hidden(name); hidden != "" {
			reason = "no such file: " + hidden
		}
		st, err := c.e.api.ContainerStatPath(ctx, c.ID, name)
		if err == nil && st.Mode&fs.ModeSymlink != 0 && st.LinkTarget != "" {
			st, err = c.e.api.ContainerStatPath(ctx, c.ID, st.LinkTarget)
		}
		switch {
		case errors.Is(wrap(err), ErrNotFound) && c.e.Info.quirks.mountLinks && mounted(name, in.Mounts) && !absent(name, c.spec.Mounts):
			return ""
		case errors.Is(wrap(err), ErrNotFound):
		case err == nil && st.Mode.IsDir():
			reason = "is a directory"
		case err == nil && st.Mode.IsRegular() && st.Mode&0o111 == 0:
			reason = "isn't executable (chmod +x it before it is packed, RUN chmod +x in the Dockerfile, or call its interpreter)"
		default:
			return ""
		}
	}
	return program + ": " + reason
}

// mounted reports that a path of the container leads into a mount.
func mounted(name string, mounts []container.MountPoint) bool {
	return slices.ContainsFunc(mounts, func(m container.MountPoint) bool {
		return strings.HasPrefix(name, strings.TrimSuffix(m.Destination, "/")+"/")
	})
}

// absent reports that a path isn't in the mount of ours that it leads into. Behind a link it can't be told.
func absent(name string, mounts []job.Mount) bool {
	at := job.Mount{}
	for _, m := range mounts {
		if strings.HasPrefix(name, strings.TrimSuffix(m.Target, "/")+"/") && len(m.Target) > len(at.Target) {
			at = m
		}
	}
	host := at.Source
	if fi, err := os.Stat(host); at.Source == "" || err != nil || !fi.IsDir() {
		return false
	}
	for part := range strings.SplitSeq(strings.Trim(name[len(at.Target):], "/"), "/") {
		host = filepath.Join(host, part)
		switch fi, err := os.Lstat(host); {
		case errors.Is(err, fs.ErrNotExist):
			return true
		case err != nil || !fi.IsDir():
			return false
		}
	}
	return false
}

// podmansInit is the program that Podman reports for a container with an init process (libpod's container_internal_common.go).
const podmansInit = "/run/podman-init"

// programNames lists the paths that a program may have in a container.
func programNames(program string, c *container.Config) (names []string) {
	if strings.Contains(program, "/") {
		if !path.IsAbs(program) {
			program = path.Join("/", c.WorkingDir, program)
		}
		return []string{program}
	}
	dirs := defaultPath
	for _, env := range c.Env {
		if v, ok := strings.CutPrefix(env, "PATH="); ok {
			dirs = v
		}
	}
	for dir := range strings.SplitSeq(dirs, ":") {
		names = append(names, path.Join("/", dir, program))
	}
	return names
}

// isRunFailure recognises that the OCI runtime could not execute the program, when the engine has no
// error code for it. Runtimes begin all errors with "starting container process caused", also those
// about the host's control groups: that text decides nothing.
func isRunFailure(text string) bool {
	if execFailed.MatchString(text) {
		return true
	}
	for _, s := range []string{"executable file not found", "no such file or directory: unknown", "exec format error",
		"permission denied: unknown", "crun: executable file", "unable to find user", "unable to find group", "no matching entries in passwd file"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// execFailed is how runc reports a program that it could not execute.
var execFailed = regexp.MustCompile(`: exec: "[^"]*": `)

// plain removes the prefixes of runtime and engine from an error and leaves the reason.
func plain(text string) string {
	for _, s := range []string{"caused: ", "starting container process caused: ", "unable to start container process: ", "error during container init: ", "Error response from daemon: "} {
		if i := strings.LastIndex(text, s); i >= 0 {
			text = text[i+len(s):]
		}
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), ": OCI ") // Podman's name for the kind of error
	return strings.TrimSuffix(text, ": unknown")
}

// Connect connects the container to a network, or disconnects it. It is no error when that is so already.
func (c *Container) Connect(ctx context.Context, network string, on bool) (err error) {
	if network == "bridge" {
		network = c.e.Info.quirks.bridge
	}
	if c.e.Info.quirks.unpauseToPart {
		in, err := c.inspect(ctx)
		if err != nil {
			return fmt.Errorf("inspect container %s: %w", c.Name, err)
		}
		if _, joined := in.NetworkSettings.Networks[network]; joined == on {
			return nil
		}
		if in.State.Paused {
			if err := c.Unpause(ctx); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, c.Pause(ctx)) }()
		}
	}
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	verb := "part"
	if on {
		verb, err = "join", c.e.api.NetworkConnect(ctx, network, c.ID, nil)
	} else {
		err = c.e.api.NetworkDisconnect(ctx, network, c.ID, true)
	}
	c.e.log.Debug().Str("call", verb).Str("network", network).Err(err).Msg("engine")
	if err == nil || ended(wrap(err)) && !errors.Is(wrap(err), ErrNotFound) {
		return nil
	}
	for _, already := range []string{"already exists in network", "already connected", "is not connected to"} {
		if strings.Contains(err.Error(), already) {
			return nil
		}
	}
	return fmt.Errorf("%s container %s and network %s: %w", verb, c.Name, network, wrap(err))
}

// Kill kills the container, paused or not.
func (c *Container) Kill(ctx context.Context) error {
	if c.e.Info.quirks.unpauseToStop || c.e.Info.quirks.ungrouped {
		if err := c.Unpause(ctx); err != nil {
			return err
		}
	}
	err := c.do(ctx, "kill", "", func(ctx context.Context, id string) error {
		return c.e.api.ContainerKill(ctx, id, "SIGKILL")
	})
	c.letDie(ctx)
	return err
}

// letDie releases a container that an earlier wrapper held when it was killed: frozen processes don't end.
func (c *Container) letDie(ctx context.Context) {
	if c.e.Info.quirks.checkpoints != asArchive {
		return
	}
	if err := c.Release(ctx); err != nil && !errors.Is(err, ErrNotFound) {
		c.e.log.Debug().Err(err).Msg("cannot release the container")
	}
}

// Signal sends its program a signal, such as "SIGUSR1".
func (c *Container) Signal(ctx context.Context, signal string) error {
	c.asked.Add(1)
	return c.do(ctx, "signal", "", func(ctx context.Context, id string) error {
		return c.e.api.ContainerKill(ctx, id, signal)
	})
}

// Stop unpauses the container, since a paused process can't handle signals, sends its stop signal, and kills
// it after grace.
func (c *Container) Stop(ctx context.Context, grace time.Duration) error {
	if err := c.Unpause(ctx); err != nil {
		return err
	}
	ctx, cancel := callWithin(ctx, hurry+grace)
	defer cancel()
	seconds := int(math.Ceil(grace.Seconds())) // rounded down to 0, it would be killed at once
	err := wrap(c.e.api.ContainerStop(ctx, c.ID, container.StopOptions{Timeout: &seconds}))
	if err != nil && !ended(err) {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	return nil
}

// Remove removes it with its anonymous volumes, running or not.
func (c *Container) Remove(ctx context.Context) error {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	c.letDie(ctx)
	if q := c.e.Info.quirks; q.stopsToRemove || q.ungrouped { // frozen processes can't be killed, and for stopped ones the engine waits
		if err := c.Kill(ctx); err != nil {
			c.e.log.Debug().Err(err).Msg("cannot kill the container before its removal")
		}
	}
	err := c.e.api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !strings.Contains(err.Error(), "already in progress") {
		return fmt.Errorf("remove container %s: %w", c.Name, wrap(err))
	}
	c.e.log.Debug().Str("name", c.Name).Msg("removed container")
	return nil
}

// do makes one call on the container. An error that contains already, or that it has ended, is none.
func (c *Container) do(ctx context.Context, verb, already string, f func(context.Context, string) error) error {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	start := time.Now()
	err := f(ctx, c.ID)
	c.e.log.Debug().Str("call", verb).Stringer("took", time.Since(start).Round(time.Millisecond)).Err(err).Msg("engine")
	if err == nil || already != "" && strings.Contains(err.Error(), already) || ended(wrap(err)) {
		return nil
	}
	return fmt.Errorf("%s container %s: %w", verb, c.Name, wrap(err))
}

// ended reports whether a call failed only because the container has ended, or is gone.
func ended(err error) bool {
	return errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNotFound) || errors.Is(err, host.ErrEnded)
}

// HostPort is where the host reaches the container's TCP port; 0 when nowhere.
func (c *Container) HostPort(ctx context.Context, guest int) (int, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(ctx, c.ID)
	if err != nil {
		return 0, fmt.Errorf("inspect container %s: %w", c.Name, wrap(err))
	}
	for _, b := range in.NetworkSettings.Ports[nat.Port(strconv.Itoa(guest)+"/tcp")] {
		if n, err := strconv.Atoi(b.HostPort); err == nil {
			return n, nil
		}
	}
	return 0, nil
}
