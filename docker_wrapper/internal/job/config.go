package job

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is job.toml as it was written: every key is parsed and checked by itself. [Plan] decides what
// the keys mean together. The zero value is a missing file.
type Config struct {
	File string // the name it was read from, for error messages

	// Files.
	SlotDirMount      string // container path
	ProjectDirMount   string // container path
	CopyToContainer   []CopyPair
	CopyFromContainer []CopyPair
	Workdir           string // container path; "" means not written
	Links             string // "files", "links" or "" (not written)

	// Image.
	ImageName    string
	Image        string
	ImageArchive string // logical name in the slot
	Images       []ImageChoice
	Build        BuildArgs

	// Run.
	Entrypoint           []string
	Command              []string
	Env                  map[string]string
	UseGPU               bool
	Network              string // "bridge", "none" or "" (not written)
	Mounts               []Bind
	Ports                []Port
	WebGraphicsGuestPort int // 1 to 65535; 0 means none
	Create               CreateArgs
	User                 string // "auto", "image", "UID:GID" or "" (not written)
	Memory               int64  // bytes; 0 means not written
	ShmSize              int64  // bytes; 0 means not written
	Pids                 int64  // 0 means not written
	TimeLimit            time.Duration
	OptionalOutputs      []string // slot names
	StdoutFile           string   // slot name
	StderrFile           string   // slot name
	FractionDoneFile     string   // slot name, or an absolute container path; "" means not written
	Verbose              int      // 0, 1 or 2; 1 when not written
	AppendCmdlineArgs    bool

	// Checkpoint.
	CheckpointPeriod time.Duration // 0 means the user's preference
	Checkpoint       CheckpointConfig
	OnQuit           string // "auto", "pause", "stop" or "" (not written)
	StopSignal       string // such as "SIGTERM"; "" means the image's
	StopTimeout      time.Duration

	// Warnings are mistakes that don't end a job, such as unknown keys, which newer wrappers may know.
	// With --check they are errors.
	Warnings []*ConfigError

	Unread bool // a mistake of syntax: no key was read
	wrong  bool // the file has mistakes: their values are missing

	at map[string]position // where each key, and each end of a copy as "copy_to_container.src NAME", was written, for errors found later
}

// CheckpointConfig is the table [checkpoint].
type CheckpointConfig struct {
	Method  string        // "auto", "app", "engine", "none" or "" (not written)
	File    string        // slot name
	Signal  string        // such as "SIGUSR1"
	Timeout time.Duration // 0 means not written
	Copy    []CopyPair
}

// CopyPair is one {src, dst} of a copy list. One is a slot name and the other a container path; the
// list's direction decides which.
type CopyPair struct{ Src, Dst string }

// ImageChoice is one of the alternatives of the key images: a reference to pull, or the logical
// name of an archive to load. Exactly one is set.
type ImageChoice struct{ Image, Archive string }

// BuildArgs is build_args: the options of `docker build` that have a meaning here.
type BuildArgs struct {
	Args       map[string]*string `json:"args,omitempty"` // --build-arg; nil for a name without a value, which docker leaves unset
	Target     string             `json:"target,omitempty"`
	Network    string             `json:"network,omitempty"`
	Platform   string             `json:"platform,omitempty"` // such as "linux/arm64"
	Pull       bool               `json:"pull,omitempty"`
	NoCache    bool               `json:"no_cache,omitempty"`
	ExtraHosts []string           `json:"extra_hosts,omitempty"` // "NAME:ADDRESS"
	Labels     map[string]string  `json:"labels,omitempty"`
}

// Bind is a mount in `-v` syntax: [SOURCE:]TARGET[:OPTIONS].
type Bind struct {
	Source  string // host path or volume name; "" for an anonymous volume
	Target  string // container path
	Options string // such as "ro" or "rshared,z"; may be empty
}

// String gives the `-v` form.
func (b Bind) String() string {
	s := b.Target
	if b.Source != "" {
		s = b.Source + ":" + s
	}
	if b.Options != "" {
		s += ":" + b.Options
	}
	return s
}

// Weaker gives the mount with the next weaker propagation: slave for shared, private for slave. ok is false if there is none
// that is weaker.
func (b Bind) Weaker() (weaker Bind, ok bool) {
	options := strings.Split(b.Options, ",")
	for i, o := range options {
		if to := map[string]string{"shared": "slave", "rshared": "rslave", "slave": "private", "rslave": "rprivate"}[o]; to != "" {
			options[i], ok = to, true
		}
	}
	b.Options = strings.Join(options, ",")
	return b, ok
}

// Shared reports whether mounts below it are to appear on both sides.
func (b Bind) Shared() bool {
	return slices.ContainsFunc(strings.Split(b.Options, ","), func(o string) bool { return o == "shared" || o == "rshared" })
}

// ReadOnly reports whether the container can't write there.
func (b Bind) ReadOnly() bool { return slices.Contains(strings.Split(b.Options, ","), "ro") }

// Port is a port mapping in `-p` syntax: [IP:][HOST:]GUEST[/PROTO].
type Port struct {
	HostIP   string
	Host     int    // 0 lets the engine choose
	Guest    int    // 1 to 65535
	Protocol string // "tcp" or "udp"
}

// CreateArgs is create_args: the supported options of `docker create`. Zero values mean not given.
type CreateArgs struct {
	AddHosts     []string          `json:"add_hosts,omitempty"`
	CapAdd       []string          `json:"cap_add,omitempty"`
	CapDrop      []string          `json:"cap_drop,omitempty"`
	CPUs         float64           `json:"cpus,omitempty"`
	CPUSet       string            `json:"cpuset,omitempty"`
	Devices      []string          `json:"devices,omitempty"` // HOST[:CONTAINER[:rwm]]
	DNS          []string          `json:"dns,omitempty"`
	Entrypoint   *string           `json:"entrypoint,omitempty"`
	Env          []string          `json:"env,omitempty"` // NAME=VALUE
	GPUs         string            `json:"gpus,omitempty"`
	GroupAdd     []string          `json:"group_add,omitempty"`
	Hostname     string            `json:"hostname,omitempty"`
	Init         *bool             `json:"init,omitempty"`
	IPC          string            `json:"ipc,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Memory       int64             `json:"memory,omitempty"` // bytes
	Network      string            `json:"network,omitempty"`
	PIDMode      string            `json:"pid,omitempty"`
	PidsLimit    int64             `json:"pids_limit,omitempty"`
	Platform     string            `json:"platform,omitempty"`
	Privileged   bool              `json:"privileged,omitempty"`
	Publish      []Port            `json:"publish,omitempty"`
	ReadOnly     bool              `json:"read_only,omitempty"`
	Runtime      string            `json:"runtime,omitempty"`
	SecurityOpts []string          `json:"security_opts,omitempty"`
	ShmSize      int64             `json:"shm_size,omitempty"` // bytes
	StopSignal   string            `json:"stop_signal,omitempty"`
	StopTimeout  *int              `json:"stop_timeout,omitempty"` // s
	Sysctls      map[string]string `json:"sysctls,omitempty"`
	Tmpfs        map[string]string `json:"tmpfs,omitempty"`
	Ulimits      []Ulimit          `json:"ulimits,omitempty"`
	User         string            `json:"user,omitempty"`
	Volumes      []Bind            `json:"volumes,omitempty"`
	Workdir      string            `json:"workdir,omitempty"`
}

// Ulimit is one --ulimit NAME=SOFT[:HARD]; -1 is unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// ConfigError is a mistake in job.toml or another file of the job, with its position.
type ConfigError struct {
	File      string
	Line, Col int    // from 1; 0 if the mistake has no position
	Key       string // "" for a mistake of syntax
	Problem   string // what is wrong, lower case
	Hint      string // what may have been meant, or what to do; "" for none
	refused   bool   // it is an ErrRefused
}

// Is reports whether the error is an [ErrRefused].
func (e *ConfigError) Is(target error) bool { return target == ErrRefused && e.refused }

// MarshalText gives the error's text.
func (e *ConfigError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

func (e *ConfigError) Error() string {
	s := e.File
	if e.Line > 0 {
		s += fmt.Sprintf(":%d:%d", e.Line, e.Col)
	}
	s += ": "
	if e.Key != "" {
		s += e.Key + ": "
	}
	s += e.Problem
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

type position struct{ line, col int }

// Written reports whether job.toml has the key; tables are written as "checkpoint.file".
func (c *Config) Written(key string) bool {
	_, ok := c.at[key]
	return ok
}

// mistaken reports whether the file has mistakes and one of these keys, whose value may be one of them.
func (c *Config) mistaken(keys ...string) bool {
	return c.wrong && slices.ContainsFunc(keys, c.Written)
}

// Errorf makes a [ConfigError] that points at key.
func (c *Config) Errorf(key, format string, args ...any) *ConfigError {
	return c.errorIn(c.at[key], key, format, args...)
}

// ErrorAt makes a [ConfigError] that points at the element of the list key that has this value.
func (c *Config) ErrorAt(key, value, format string, args ...any) *ConfigError {
	p, ok := c.at[key+" "+value]
	if !ok {
		p = c.at[key]
	}
	return c.errorIn(p, key, format, args...)
}

func (c *Config) errorIn(p position, key, format string, args ...any) *ConfigError {
	file := c.File
	if file == "" {
		file = "job.toml"
	}
	return &ConfigError{File: file, Line: p.line, Col: p.col, Key: key, Problem: fmt.Sprintf(format, args...)}
}
