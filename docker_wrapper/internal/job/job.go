package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Job is the plan: everything that will be done, decided before anything is touched, and never
// changed again. `docker_wrapper --plan` prints it as JSON. Engine facts that only the running
// engine knows (its architecture, whether it is rootless) are settled when it is carried out.
type Job struct {
	Standalone bool      `json:"standalone,omitempty"` // no BOINC client: nothing to protect the slot from
	Signed     bool      `json:"signed"`               // job.toml and Dockerfile are files of the app version
	Slot       Slot      `json:"slot"`
	Image      Image     `json:"image"`
	Container  Container `json:"container"`
	CopyIn     []Copy    `json:"copy_in,omitempty"`  // before the start
	CopyOut    []Copy    `json:"copy_out,omitempty"` // after exit 0

	OptionalOutputs []string `json:"optional_outputs,omitempty"` // slot names of outputs that the job need not make

	Logs       Logs       `json:"logs"`
	Progress   Progress   `json:"progress"`
	Checkpoint Checkpoint `json:"checkpoint"`
	Stop       Stop       `json:"stop"`
	TimeLimit  Seconds    `json:"time_limit,omitempty"` // of running, suspended time not counted; 0 means none
	Warnings   []string   `json:"warnings,omitempty"`
	Notes      []string   `json:"notes,omitempty"`   // what is different elsewhere
	Missing    []string   `json:"missing,omitempty"` // what the job lacks although it may need it; said if it fails

	// Refused is an [ErrRefused] unless the engine runs without root, as BOINC's user; nil for none.
	Refused *ConfigError `json:"refused,omitempty"`
}

// Seconds is a duration that JSON shows in seconds.
type Seconds time.Duration

// MarshalJSON gives a number such as 1.5.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// Slot says which side of the slot the container sees.
type Slot struct {
	Dir     string   `json:"dir"`
	Bound   int64    `json:"bound,omitempty"`   // bytes that all files of the job may have; 0 for no limit
	Payload string   `json:"payload,omitempty"` // stands for the slot in mounts; "" when nothing of the slot is mounted
	Move    bool     `json:"move,omitempty"`    // job files are moved into Payload and back; false when it is Dir itself
	Copied  []string `json:"copied,omitempty"`  // slot files that are copied, not moved, and never come back: the wrapper reads them itself
	Kept    []string `json:"kept,omitempty"`    // slot files that are the wrapper's alone
	Links   []Link   `json:"links,omitempty"`   // the slot's link files

	// MakeOutputs: output files are mounted one by one into the mounted project directory, so they
	// must be there before the start.
	MakeOutputs bool `json:"make_outputs,omitempty"`

	Mount  string `json:"-"` // where the container sees Payload; one of Container.Mounts
	Result string `json:"-"` // the result's name, with which the physical names of its outputs begin
}

// Link is a link file (or symlink) of the slot.
type Link struct {
	Name    string `json:"name"`   // in the slot, with /
	Target  string `json:"target"` // absolute host path
	Output  bool   `json:"output,omitempty"`
	Missing bool   `json:"missing,omitempty"` // Target isn't there

	Optional bool `json:"optional,omitempty"` // by job.toml, the job need not make this output
}

// Image says how the container's image is found or made. Sources are tried in order, first all
// for presence, then all for being obtainable.
type Image struct {
	Sources []Source          `json:"sources"`
	Labels  map[string]string `json:"labels,omitempty"`
	LockDir string            `json:"lock_dir"`          // where wrappers that want the same image wait for one another
	Collect *Collect          `json:"collect,omitempty"` // nil: nothing is noted, and nothing removed

	// BehindProxy: the client needs a proxy for the network, so the engine does too, which nobody but its
	// owner can tell it.
	BehindProxy bool `json:"behind_proxy,omitempty"`
}

// Source is one way to an image. Exactly one of Dockerfile, Archive and Pull is its kind.
type Source struct {
	Name       string     `json:"name"`                 // the image's name in the engine: tag of what is built, reference of what is pulled
	Dockerfile string     `json:"dockerfile,omitempty"` // slot name: build it
	Build      *BuildArgs `json:"build,omitempty"`
	Archive    string     `json:"archive,omitempty"` // host path: load it
	Pull       bool       `json:"pull,omitempty"`
	Keep       bool       `json:"keep,omitempty"`     // the project asked to keep it: never collected
	Fixed      bool       `json:"fixed,omitempty"`    // an image of this name will do, whatever it was built from
	Unsigned   bool       `json:"unsigned,omitempty"` // the Dockerfile, or the reference, comes with the workunit

	// Of a build. The engine itself fetches what ADD names by URL, in the host's own network, whatever
	// the network of the build is.
	NoFetch bool   `json:"no_fetch,omitempty"` // ADD takes nothing but files of the slot
	Cache   bool   `json:"cache,omitempty"`    // by hand: the builder of any engine may go on from steps that it carried out before
	Limits  Limits `json:"limits,omitzero"`    // as far as the builder knows them
	Proxy   *Proxy `json:"proxy,omitempty"`    // for the steps; no part of the image's identity
}

// Container is what the engine is asked to create.
type Container struct {
	Name       string            `json:"name"`
	Labels     map[string]string `json:"labels,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"` // nil keeps the image's
	Command    []string          `json:"command,omitempty"`    // nil keeps the image's
	AppendArgs []string          `json:"append_args,omitempty"`
	Env        []string          `json:"env,omitempty"` // NAME=VALUE, sorted
	User       User              `json:"user"`
	Mounts     []Mount           `json:"mounts,omitempty"` // ours, in the order of their targets
	SlotMount  string            `json:"-"`                // where the slot is mounted; "" if it isn't
	Binds      []Bind            `json:"binds,omitempty"`  // asked for in -v syntax
	Ports      []Port            `json:"ports,omitempty"`
	Network    string            `json:"network"` // "bridge", "none", "host" ...
	Proxy      *Proxy            `json:"proxy,omitempty"`
	Limits     Limits            `json:"limits"`
	GPU        *GPUGrant         `json:"gpu,omitempty"`
	DropCaps   bool              `json:"drop_caps,omitempty"` // all of them; else only those no job needs
	Extra      CreateArgs        `json:"extra,omitzero"`
	WebPort    int               `json:"web_port,omitempty"`   // container port of the web graphics
	AskSignal  string            `json:"ask_signal,omitempty"` // asks the job for a checkpoint: nobody ends it by that
}

// Mounted reports whether a file of the container is in a mount, and so remains after the container.
func (c Container) Mounted(name string) bool {
	in := func(target string) bool {
		return name == target || strings.HasPrefix(name, strings.TrimSuffix(target, "/")+"/")
	}
	return slices.ContainsFunc(c.Mounts, func(m Mount) bool { return in(m.Target) }) ||
		slices.ContainsFunc(c.Binds, func(b Bind) bool { return b.Source != "" && in(b.Target) })
}

// InContainer is the path in the container of a file or directory of the host that is mounted; "" if it isn't mounted.
func (c Container) InContainer(source string) string {
	for _, m := range c.Mounts {
		if m.Source == source {
			return m.Target
		}
	}
	return ""
}

// Mount is one file or directory of the host in the container.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// User says as whom the container runs. Files of UserImage and UserFixed are handed back to BOINC's user.
type User struct {
	Mode     string `json:"mode"` // one of the following
	UID, GID int    // of BOINC's user (UserBOINC)
	Fixed    string `json:",omitempty"` // as docker takes it (UserFixed)
}

// Modes of a User.
const (
	UserBOINC = "boinc" // BOINC's user, whom a rootless engine calls root
	UserImage = "image" // the image's USER
	UserFixed = "fixed"
)

// Limits are hard; 0 means no limit.
type Limits struct {
	CPUs       float64 `json:"cpus,omitempty"`
	CPUShares  int64   `json:"cpu_shares,omitempty"`      // weight; an ordinary container has 1024
	Memory     int64   `json:"memory,omitempty"`          // bytes, swap included
	MemoryFrom string  `json:"memory_from,omitempty"`     // who set Memory
	Reserved   int64   `json:"memory_reserved,omitempty"` // bytes, at most Memory: no limit, but what the kernel takes last when memory is short
	ShmSize    int64   `json:"shm_size,omitempty"`        // bytes
	Pids       int64   `json:"pids,omitempty"`
	Disk       int64   `json:"disk,omitempty"` // bytes that may be copied out
}

// MemoryLimit names the limit of memory and who set it.
func (l Limits) MemoryLimit() string {
	if l.MemoryFrom == "" {
		return fmt.Sprintf("%d MB", l.Memory>>20)
	}
	return fmt.Sprintf("%d MB (%s)", l.Memory>>20, l.MemoryFrom)
}

// Copy is one file or directory on its way in (Src is below Root, Dst in the container) or out (the
// other way round). Nothing outside Root is read or written, whatever symlinks say.
type Copy struct {
	Root string `json:"root"` // absolute host directory
	Src  string `json:"src"`
	Dst  string `json:"dst"`

	Optional bool `json:"optional,omitempty"` // by job.toml, the job need not make this output
}

// Logs says where the container's output goes. Empty names mean stderr.txt.
type Logs struct {
	Stdout string `json:"stdout,omitempty"` // host path
	Stderr string `json:"stderr,omitempty"` // host path

	// Writer is the host path of a static program that writes these files from inside the container: this program. "" if
	// there is none. Then they are read from the engine's log, which is text.
	Writer string `json:"-"`

	// Dir is where they are while the container may write to them: no other user of this computer gets there, and so can't run a program
	// with a set-user-ID bit that the job has made of them. "" by hand: they are where they belong from the beginning.
	Dir string `json:"-"`

	// Mounted says which of them the container also has as outputs in a mounted project directory. These stay where they are.
	Mounted [2]bool `json:"-"`
}

// Written are the files that the container writes itself, for stdout and stderr; those of Files where it doesn't.
func (l Logs) Written() [2]string {
	names := l.Files()
	if l.Writer == "" || l.Dir == "" {
		return names
	}
	for i, stream := range []string{"stdout", "stderr"} {
		if names[i] != "" && !l.Mounted[i] {
			names[i] = filepath.Join(l.Dir, stream)
		}
	}
	if l.Stdout == l.Stderr {
		names[1] = names[0]
	}
	return names
}

// Files are the files for the container's stdout and stderr; "" for none.
func (l Logs) Files() [2]string { return [2]string{l.Stdout, l.Stderr} }

// Progress says where the job writes how far it is. At most one is set.
type Progress struct {
	File          string `json:"file,omitempty"`           // payload name
	ContainerFile string `json:"container_file,omitempty"` // container path, read through the engine; a relative one is in the container's working directory
}

// Who checkpoints a job.
const (
	ByApp    = "app"    // itself
	ByEngine = "engine" // the engine, where it can: the container with all that runs in it
	IfAny    = "auto"   // the engine, where it can and the job is none the worse for it
	ByNobody = "none"
)

// Checkpoint says when the job has checkpointed. At most one of File and ContainerFile is set.
type Checkpoint struct {
	Method        string  `json:"method"`                   // one of the above
	File          string  `json:"file,omitempty"`           // payload name; its change is a checkpoint
	ContainerFile string  `json:"container_file,omitempty"` // likewise, a container path that is looked at through the engine
	Period        Seconds `json:"period,omitempty"`         // 0 means the user's preference
	Signal        string  `json:"signal,omitempty"`         // asks for one, such as "SIGUSR1"; "" when the job decides itself
	Timeout       Seconds `json:"timeout,omitempty"`        // how long it may take when asked for
	Copy          []Copy  `json:"copy,omitempty"`           // what is saved out of the container, below one directory of the wrapper's
}

// Whole reports that the engine is to checkpoint the job with all that runs in it, where it can.
func (c Checkpoint) Whole() bool { return c.Method == ByEngine || c.Method == IfAny }

// Stop says how the container ends early.
type Stop struct {
	OnQuit  string  `json:"on_quit"` // "pause", "stop", or "auto": stop where the job goes on from a checkpoint, else pause
	Signal  string  `json:"signal,omitempty"`
	Timeout Seconds `json:"timeout"`
}

// Exit is the end of a container's main process.
type Exit struct {
	Code       int
	OOMKilled  bool      // something in the container was killed for memory
	StartedAt  time.Time // zero when unknown
	FinishedAt time.Time // zero when unknown
	Err        string    // the engine's own words, when it could not run the program
	Gone       bool      // the container no longer exists: no exit code
	Witness    Witness   // what the engine knows about its end
	Outside    bool      // by the witness, the job didn't end it itself: its code is no verdict on the job
	Lost       bool      // the engine has not answered for so long that the job is left as it is
}

// ErrNoPause is wrapped when a container can't be paused in any way: it can only be stopped.
var ErrNoPause = errors.New("it can't be paused here")

// Usage is what a container has used up to now.
type Usage struct {
	CPU    time.Duration // user and system, since the container started; 0 means unknown
	Memory int64         // bytes resident, without page cache where the engine tells; 0 means unknown
}
