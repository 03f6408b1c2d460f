package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/rs/zerolog"
)

// Kinds of engines.
const (
	Docker = "docker"
	Podman = "podman"
)

// Options are for Open.
type Options struct {
	Host    string              // such as "unix:///run/podman/podman.sock"; "" looks where docker and podman would
	Kind    string              // of the engine that comes first, Docker or Podman; "" for none
	Timeout time.Duration       // per call; build, pull, load and copies excepted; 0 means 30 s
	Getenv  func(string) string // nil means os.Getenv
	Log     zerolog.Logger

	// Online is asked before an image is pulled, or built with the network's help. The context that it returns
	// ends when the network may no longer be used; release it when done. nil means that it always may.
	Online func(context.Context) (context.Context, context.CancelFunc, error)

	// LookUp resolves a registry's name before an image is pulled from it for an unsigned job. nil uses this computer's resolver.
	LookUp func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Engine is a container engine that answered.
type Engine struct {
	Info Info

	address string // where it listens; Info.Host names it
	stop    func() // stops the service that Open started; nil when it started none
	api     *client.Client
	online  func(context.Context) (context.Context, context.CancelFunc, error)
	lookUp  func(ctx context.Context, host string) ([]netip.Addr, error)
	timeout time.Duration
	log     zerolog.Logger

	saidRung atomic.Bool // how containers are paused has been logged
}

// Info describes an engine. Architecture is as images name it ("amd64").
type Info struct {
	Host         string `json:"host"`
	Kind         string `json:"kind"`
	Version      string `json:"version"`
	APIVersion   string `json:"api_version"`
	Architecture string `json:"architecture"`
	CPUs         int    `json:"cpus"`
	Rootless     bool   `json:"rootless"`
	Own          bool   `json:"-"` // rootless, and run by the user account of this process: its containers get no more rights than this process has
	SELinux      bool   `json:"selinux"`
	hasProxy     bool   // the engine uses a proxy for its pulls
	quirks       quirks
}

// quirks is where engines differ. Which engine it is decides only here: in [quirksOf], in [quirks.offer], and in
// [Engine.ask], which collects the facts for both. All else asks a quirk; Info.Kind is for people.
type quirks struct {
	logDriver     string
	init          bool // can give a container an init process
	cpuQuota      bool // can limit CPU time
	cpuShares     bool // can weigh CPU time between containers
	memoryLimit   bool
	pidsLimit     bool
	passesOver    bool       // ignores limits that it can't set, without an error
	ungrouped     bool       // a container may have no control group of its own: then the engine can't pause it or measure its usage
	unpauseToStop bool       // a paused container can't be stopped or killed
	strays        bool       // a container that it was making when it was killed keeps its name and isn't listed
	stopsToRemove bool       // asks a running container to stop, and waits, before it removes it by force
	buildKit      bool       // has BuildKit beside the classic builder
	hidesTriggers bool       // doesn't show an image's ONBUILD
	builders      [2]builder // Docker's classic one and its BuildKit; or Podman's alone
	daemon        bool       // when it stops, containers end and events are lost
	ownLimits     bool       // without explicit limits it asks for more open files and processes than its host allows
	forgedCache   bool       // its builder finds steps by the history of images, which whoever made an image wrote
	stepsOutlive  bool       // its builder carries a step out to the end when its client has gone
	hostsAsJSON   bool       // its builder takes extra hosts as one JSON list
	noRuntime     bool       // ignores which runtime a container is to have
	mountLinks    bool       // finds no file behind a link in a container's mount
	sharedUsage   bool       // a container without a control group of its own is said to use what all in its group use
	ownEvents     bool       // Docker's way of asking for events misses the latest; Podman's own way doesn't
	userStop      bool       // a container's state tells, by Podman's own API, that a user stopped it; no event does
	makesSources  bool       // creates a mount's source when it doesn't exist
	sharesAlone   bool       // mounts a directory with shared although its host doesn't share the mounts below it: without an error, and in vain
	mountsAsText  bool       // misreads a mount's source that contains a comma
	gpus          gpuWay
	keepsGroups   bool   // a container without root can have the groups of the user account that runs the engine
	showsDevices  bool   // inspection shows the device files that a container has, not the ones requested
	hidesDevices  bool   // inspection shows none of them
	nvidiaRuntime bool   // also gives the GPUs that an environment variable names, which images and jobs can set
	cdi           string // the names of CDI devices that it lists, one per line
	bridge        string // its name for the network "bridge"
	unpauseToPart bool   // can't disconnect a paused container from its network
	wholeSeconds  bool   // its log's times are whole seconds
	followSkips   bool   // drops parts of fast output while it is followed: of 50 MB in 3 s half and more
	maxOpen       int64  // open files that a container may have; 0 means maxOpenFiles
	cacheInMemory bool   // its memory usage includes the page cache
	oomUnsaid     bool   // doesn't tell that the kernel killed a program for its memory
	signalUnsaid  bool   // its events don't tell which signal was sent
	stopUnsaid    bool   // doesn't tell that a user stopped a container

	checkpoints    checkpointWay
	checkpointHint string // why it makes no checkpoints

	// The name by which containers reach this computer; "" for none.
	hostName, hostAlias string // hostAlias is the extra host that adds the name; "" when the engine does so itself
	proxyHint           string // where the engine's owner configures a proxy
}

func quirksOf(kind string, i infoFacts) quirks {
	q := quirks{logDriver: "json-file", init: true, bridge: "bridge", buildKit: true, builders: [2]builder{classic, newBuildKit}, daemon: true, cpuQuota: i.cpuQuota, cpuShares: true, memoryLimit: i.memoryLimit, pidsLimit: i.pidsLimit,
		passesOver: i.rootless, ungrouped: i.rootless,
		proxyHint: `HTTPS_PROXY in a drop-in of docker.service, or "proxies" in daemon.json`}
	if versions.LessThan(i.version, "23") {
		q.builders[1] = oldBuildKit
	}
	if q.checkpointHint = "dockerd was started without --experimental"; i.experimental {
		q.checkpoints = keptInside
	}
	q.oomUnsaid = true // containerd may report it too late
	if i.hostGateway {
		q.hostName, q.hostAlias = "host.docker.internal", "host.docker.internal:host-gateway"
	}
	if kind == Podman {
		old := versions.LessThan(i.version, "5")
		q = quirks{logDriver: "k8s-file", init: true, hidesTriggers: true, builders: [2]builder{podman5}, bridge: "podman", unpauseToStop: true, unpauseToPart: true, stopsToRemove: true, strays: true, makesSources: true, sharesAlone: true, mountsAsText: true,
			cacheInMemory: true, followSkips: true, signalUnsaid: true, ownLimits: old, wholeSeconds: old, oomUnsaid: old, stopUnsaid: old, cpuQuota: i.cpuQuota, cpuShares: !i.rootless || i.cpuQuota, memoryLimit: i.memoryLimit, pidsLimit: i.pidsLimit,
			passesOver: true, ungrouped: i.rootless, sharedUsage: i.rootless,
			forgedCache: true, stepsOutlive: true, hostsAsJSON: true, noRuntime: true, mountLinks: true, ownEvents: true, userStop: !old,
			keepsGroups: true, showsDevices: true, hidesDevices: i.rootless,
			hostName: "host.containers.internal", proxyHint: `env = ["HTTPS_PROXY=..."] under [engine] in containers.conf`}
		if old {
			q.builders[0] = podman4
		}
		if q.checkpointHint = "Podman checkpoints only what root runs"; !i.rootless {
			q.checkpoints = asArchive
		}
	}
	return q
}

type infoFacts struct {
	version                                                               string
	cpuQuota, memoryLimit, pidsLimit, hostGateway, rootless, experimental bool
}

// hostGateway reports whether Docker knows an address by which containers reach this computer: from 20.10 on, and not
// rootless, where it has a network namespace of its own.
func hostGateway(api string, rootless bool) bool {
	return versions.GreaterThanOrEqualTo(api, "1.41") && !rootless
}

// serviceHost is Info.Host of a Podman service that Open started. It is the same in all episodes of a job.
const serviceHost = "podman system service"

// Open finds an engine. With Options.Host it tries that alone, else with DOCKER_HOST that alone, since
// another engine doesn't have the job's container. Else it takes the first that answers of docker's
// context and the sockets of Docker and Podman. If none does, it starts a Podman service for this
// process alone, which Close stops. An engine of another kind than Options.Kind is taken if there is none of that.
//
// The error wraps ErrPermission when there is a socket that this user may not use, else ErrUnreachable.
// Its text says what was tried and which command helps.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.LookUp == nil {
		o.LookUp = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if o.Host == serviceHost {
		return openService(ctx, o)
	}
	hosts := candidates(o)
	var tried []string
	var denied string
	var other *Engine // the first of another kind
	for _, host := range hosts {
		tried = append(tried, host)
		e, err := open(ctx, host, o)
		switch {
		case err == nil && o.Kind != "" && e.Info.Kind != o.Kind && other == nil:
			other = e
			continue
		case err == nil && o.Kind != "" && e.Info.Kind != o.Kind:
			e.Close()
			continue
		case err == nil:
			other.closeIfAny()
			return e, nil
		}
		o.Log.Debug().Str("host", host).Err(err).Msg("engine doesn't answer")
		if errors.Is(err, ErrPermission) && denied == "" {
			denied = host
		}
		if ctx.Err() != nil {
			other.closeIfAny()
			return nil, ctx.Err()
		}
	}
	if other != nil {
		if o.Kind == Podman && len(hosts) > 1 {
			if e, err := openService(ctx, o); err == nil {
				other.Close()
				return e, nil
			}
		}
		return other, nil
	}
	if denied == "" && o.Host == "" && o.Getenv("DOCKER_HOST") != "" {
		return nil, fmt.Errorf("%w at %s, which DOCKER_HOST names (correct it, or unset it)", ErrUnreachable, o.Getenv("DOCKER_HOST"))
	}
	if len(hosts) > 1 { // no host was given
		e, err := openService(ctx, o)
		if err == nil {
			return e, nil
		}
		o.Log.Debug().Err(err).Msg("cannot start podman's service")
		if text := err.Error(); denied == "" && strings.Contains(text, "podman system service: ") { // podman is installed, so its error is the reason
			return nil, err
		}
	}
	if denied != "" {
		return nil, fmt.Errorf("%w: %s (%s)", ErrPermission, denied, permissionHint(denied))
	}
	hint := "is it started?"
	if o.Host == "" {
		hint = startHint(append(filepath.SplitList(o.Getenv("PATH")), "/usr/sbin")) // not in every PATH
	}
	return nil, fmt.Errorf("%w; tried %s (%s)", ErrUnreachable, strings.Join(tried, ", "), hint)
}

// startHint says how to start or install an engine, when none answers.
func startHint(path []string) string {
	if runtime.GOOS != "linux" {
		return "is Docker or Podman installed and started?"
	}
	for _, engine := range []struct{ program, hint string }{
		{"dockerd", "Docker is installed; try: sudo systemctl start docker"},
		{"podman", "Podman is installed; try: sudo systemctl start podman.socket"},
	} {
		for _, dir := range path {
			if _, err := os.Stat(filepath.Join(dir, engine.program)); err == nil {
				return engine.hint
			}
		}
	}
	return "neither Docker nor Podman seems to be installed; try: sudo apt install podman"
}

// Known reports whether Open tries host without being given it. A host read from a file is used only if it is known.
func Known(host string) bool {
	o := Options{Getenv: os.Getenv}
	found := candidates(o)
	o.Getenv = func(name string) string {
		if name == "DOCKER_HOST" { // Open tries no others when it is set
			return ""
		}
		return os.Getenv(name)
	}
	return host == serviceHost || slices.Contains(append(found, candidates(o)...), host)
}

// candidates are the addresses that Open tries, in order.
func candidates(o Options) (list []string) {
	if host := cmp.Or(o.Host, o.Getenv("DOCKER_HOST")); host != "" {
		return []string{host}
	}
	for _, host := range append([]string{contextHost(o.Getenv)}, endpoints(o.Getenv)...) {
		if host != "" && !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	return list
}

func open(ctx context.Context, host string, o Options) (*Engine, error) {
	wire := &http.Transport{}
	api, err := client.NewClientWithOpts(client.WithHTTPClient(&http.Client{Transport: wire, CheckRedirect: client.CheckRedirect}),
		client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	wire.Proxy = nil // the engine is on this computer: no proxy from the environment
	e := &Engine{address: host, api: api, online: o.Online, lookUp: o.LookUp, timeout: o.Timeout, log: o.Log}
	ctx, cancel := context.WithTimeout(ctx, min(o.Timeout, 10*time.Second))
	defer cancel()
	if err := e.ask(ctx, host); err != nil {
		api.Close()
		return nil, err
	}
	return e, nil
}

// ask fills in Info.
func (e *Engine) ask(ctx context.Context, host string) error {
	ping, err := e.api.Ping(ctx)
	if err != nil {
		return wrap(err)
	}
	e.api.NegotiateAPIVersionPing(ping)
	version, err := e.api.ServerVersion(ctx)
	if err != nil {
		return wrap(err)
	}
	kind, rootless := kindOf(version), false
	var info system.Info
	if kind == Podman {
		info, rootless, err = e.podmanInfo(ctx)
	} else {
		info, err = e.api.Info(ctx)
	}
	if err != nil {
		return wrap(err)
	}
	e.Info = Info{
		Host:         host,
		Kind:         kind,
		Rootless:     rootless,
		Version:      version.Version,
		APIVersion:   e.api.ClientVersion(),
		Architecture: architecture(info.Architecture),
		CPUs:         info.NCPU,
	}
	for _, s := range info.SecurityOptions {
		e.Info.Rootless = e.Info.Rootless || strings.HasPrefix(s, "name=rootless")
		e.Info.SELinux = e.Info.SELinux || strings.HasPrefix(s, "name=selinux")
	}
	e.Info.Own = e.Info.Rootless && ownsSocket(host)
	facts := infoFacts{version: e.Info.Version, cpuQuota: info.CPUCfsQuota, memoryLimit: info.MemoryLimit, pidsLimit: info.PidsLimit}
	if kind == Podman && e.Info.Rootless {
		may, err := e.controllers(ctx)
		if err != nil {
			return wrap(err)
		}
		facts.cpuQuota, facts.memoryLimit, facts.pidsLimit = slices.Contains(may, "cpu"), slices.Contains(may, "memory"), slices.Contains(may, "pids")
	}
	facts.rootless, facts.experimental = e.Info.Rootless, ping.Experimental
	facts.hostGateway = hostGateway(e.Info.APIVersion, e.Info.Rootless)
	e.Info.quirks = quirksOf(e.Info.Kind, facts)
	e.Info.quirks.maxOpen = ownOpenFiles()
	e.Info.quirks.offer(e.Info.Kind, e.Info.Version, info)
	e.Info.hasProxy = info.HTTPProxy != "" || info.HTTPSProxy != ""
	return nil
}

func (e *Engine) closeIfAny() {
	if e != nil {
		e.Close()
	}
}

// Close closes the connections to the engine, and stops it if Open started it. Its containers go on.
func (e *Engine) Close() error {
	err := e.api.Close()
	if e.stop != nil {
		e.stop()
	}
	return err
}

func kindOf(v types.Version) string {
	for _, c := range v.Components {
		if strings.Contains(c.Name, "Podman") {
			return Podman
		}
	}
	return Docker
}

// architecture translates a kernel's name of a machine into that of images.
func architecture(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "armv7l", "armv6l":
		return "arm"
	case "i386", "i686":
		return "386"
	default:
		return machine
	}
}

// permissionHint names the command that lets this user use the socket.
func permissionHint(host string) string {
	name := "boinc"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	path := strings.TrimPrefix(host, "unix://")
	group := groupOf(path)
	if group == "" || group == "root" {
		return fmt.Sprintf("user %s may not open it; its owner must allow it: ls -l %s", name, path)
	}
	return fmt.Sprintf("user %s isn't in the group %s; try: sudo usermod -aG %s %s, then restart the BOINC client", name, group, group, name)
}

// hurry is how long a call may go on after its context is cancelled. Several in a row must fit into the minute
// that the client gives a job to quit (client/client_state.h).
const hurry = 8 * time.Second

// call is a context for one ordinary call. It has its own deadline, or ctx's if that is earlier. When ctx is
// cancelled, it is so after hurry, so that the call can complete.
func (e *Engine) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return callWithin(ctx, e.timeout)
}

func callWithin(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	callCtx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(hurry, cancel) })
	return callCtx, func() { stop(); cancel() }
}
