package job

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// word is one argument and its position.
type word struct {
	text string
	at   position
}

// words reads a command line: an array of words, or a string that is split as a shell would. Variables and
// patterns are not expanded.
func (v value) words() ([]word, bool) {
	if _, ok := v.v.(string); !ok {
		elements, ok := v.elements("a string or an array of strings", "")
		if !ok {
			return nil, false
		}
		var words []word
		for _, e := range elements {
			s, isString := e.str()
			if !isString {
				ok = false
				continue
			}
			words = append(words, word{s, e.position()})
		}
		return words, ok
	}
	s, ok := v.str()
	if !ok {
		return nil, false
	}
	parts, offsets, err := splitWords(s)
	var words []word
	for i, p := range parts {
		words = append(words, word{p, v.reader.position(v.inString(s, offsets[i]))})
	}
	if err != nil {
		p := v.reader.position(v.inString(s, offsets[len(parts)]))
		v.reader.mistake(p, v.key, "", "%s", err)
	}
	return words, err == nil
}

// splitWords splits s by the rules of a POSIX shell, XCU 2.2 and 2.3: blanks, quotes, backslashes,
// comments. It also gives the offset of each word. With an error, the last offset is that of the mistake.
// shlex packages give no offsets, and some remove the backslashes of "C:\x".
func splitWords(s string) (words []string, offsets []int, err error) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
			continue
		case c == '#':
			i += lineLen(s[i:])
			continue
		case strings.HasPrefix(s[i:], "\\\n"):
			i += 2
			continue
		}
		var w strings.Builder
		start := i
		for ; i < len(s) && strings.IndexByte(" \t\r\n", s[i]) < 0; i++ {
			switch s[i] {
			case '\\':
				if i++; i == len(s) {
					return words, append(offsets, i-1), errors.New("ends with a backslash")
				}
				if s[i] != '\n' {
					w.WriteByte(s[i])
				}
			case '\'', '"':
				n, ok := quoted(s[i:], &w)
				if !ok {
					return words, append(offsets, i), fmt.Errorf("quote %c is not closed", s[i])
				}
				i += n - 1
			default:
				w.WriteByte(s[i])
			}
		}
		words, offsets = append(words, w.String()), append(offsets, start)
	}
	return words, offsets, nil
}

// quoted unquotes the string at the beginning of s and gives its length there; false if its quote isn't closed.
func quoted(s string, to *strings.Builder) (int, bool) {
	q := s[0]
	for i := 1; i < len(s); i++ {
		if s[i] == q {
			return i + 1, true
		}
		if s[i] == '\\' && q == '"' && i+1 < len(s) && strings.IndexByte("$`\"\\\n", s[i+1]) >= 0 {
			if i++; s[i] == '\n' {
				continue
			}
		}
		to.WriteByte(s[i])
	}
	return 0, false
}

// flagOption is an option of a docker command.
type flagOption struct {
	name, short string
	set         func(string) error
	bool        bool
	ignored     string // the warning, for an option without effect
	refused     string // the mistake, for an option that isn't supported
}

// Set, String and Type make *flagOption a [pflag.Value].
func (o *flagOption) Set(s string) error { return o.set(s) }
func (o *flagOption) String() string     { return "" }
func (o *flagOption) Type() string       { return "string" }

func text(name, short string, set func(string) error) *flagOption {
	return &flagOption{name: name, short: short, set: set}
}

func flag(name, short string, set func(bool)) *flagOption {
	return &flagOption{name: name, short: short, bool: true, set: func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("want true or false")
		}
		set(b)
		return nil
	}}
}

// into gives a setter that parses a value into *to.
func into[T any](to *T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		t, err := parse(s)
		if err == nil {
			*to = t
		}
		return err
	}
}

func appendTo[T any](to *[]T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		t, err := parse(s)
		if err == nil {
			*to = append(*to, t)
		}
		return err
	}
}

// options reads words as docker would. command is the name for messages.
func (v value) options(words []word, command string, options []*flagOption) {
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	flags.Usage = func() {}
	var names []string
	for _, o := range options {
		if o.refused != "" {
			continue
		}
		f := flags.VarPF(o, o.name, o.short, "")
		if o.bool {
			f.NoOptDefVal = "true"
		}
		names = append(names, o.name)
	}
	if len(words) > maxWords {
		v.mistake("", "has more than %d words", maxWords)
		return
	}
	// Word by word, because pflag doesn't tell which word is wrong.
	for i := 0; i < len(words); i++ {
		w := words[i]
		if len(w.text) < 2 || w.text[0] != '-' || w.text == "--" {
			h := ""
			if v, isString := v.v.(string); isString && strings.Contains(v, "$") && strings.Contains(w.text, "$") {
				h = "variables are not expanded"
			}
			v.reader.mistake(w.at, v.key, h, "%s: want an option of %s", quote(w.text), command)
			continue
		}
		err := flags.Parse([]string{w.text})
		var missing *pflag.ValueRequiredError
		if errors.As(err, &missing) && i+1 < len(words) {
			i++
			err = flags.Parse([]string{w.text, words[i].text})
		}
		if err != nil {
			problem, h := explain(err, w.text, words[i].text, options, names)
			if errors.As(err, new(*pflag.InvalidValueError)) {
				w = words[i]
			}
			v.reader.mistake(w.at, v.key, h, "%s", problem)
			// The words that follow an unknown option are most likely its values.
			for errors.As(err, new(*pflag.NotExistError)) && i+1 < len(words) && !strings.HasPrefix(words[i+1].text, "-") {
				i++
			}
			continue
		}
		for _, o := range options {
			if o.ignored != "" && (nameOf(w.text) == "--"+o.name || o.short != "" && nameOf(w.text) == "-"+o.short) {
				v.warn(w.at, v.key, "", "%s: %s", nameOf(w.text), o.ignored)
			}
		}
	}
}

// nameOf gives "--volume" of "--volume=x", and "-v" of "-vx".
func nameOf(s string) string {
	if strings.HasPrefix(s, "--") {
		s, _, _ = strings.Cut(s, "=")
		return s
	}
	_, width := firstRune(s[1:])
	return s[:1+width]
}

func firstRune(s string) (r rune, width int) {
	for i, c := range s {
		if i > 0 {
			return r, i
		}
		r = c
	}
	return r, len(s)
}

func explain(err error, w, last string, options []*flagOption, names []string) (problem, h string) {
	var (
		invalid *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
		unknown *pflag.NotExistError
	)
	switch {
	case errors.As(err, &invalid):
		var hinted *hinted
		if errors.As(err, &hinted) {
			h = hinted.hint
		}
		if slices.Contains(names, nameOf("-" + w)[2:]) {
			h = didYouMean("-" + w)
		}
		return fmt.Sprintf("--%s %s: %s", invalid.GetFlag().Name, quote(invalid.GetValue()), invalid.Unwrap()), h
	case errors.As(err, &missing):
		return "--" + missing.GetFlag().Name + ": its value is missing", ""
	case errors.As(err, &unknown), errors.Is(err, pflag.ErrHelp):
		name := nameOf(w)
		if unknown != nil && unknown.GetSpecifiedShortnames() != "" {
			name = "-" + unknown.GetSpecifiedName() // of -it, the one that is unknown
		}
		for _, o := range options {
			if o.refused != "" && (name == "--"+o.name || o.short != "" && name == "-"+o.short) {
				return name + ": " + o.refused, ""
			}
		}
		if strings.ContainsAny(name, " \t") {
			h = "write each word as an element of its own"
		} else if long, ok := strings.CutPrefix(name, "--"); ok {
			if n := nearest(long, names); n != "" {
				h = didYouMean("--" + n)
			}
		} else if slices.Contains(names, nameOf("-" + w)[2:]) {
			h = didYouMean("-" + w)
		}
		return cut(name) + ": is not supported", h
	}
	return cut(w) + ": is not an option", ""
}

func cut(s string) string {
	q := quote(s)
	if plain := q[1 : len(q)-1]; plain == s {
		return s
	}
	return q
}

func (v value) createArgs() CreateArgs {
	words, ok := v.words()
	var c CreateArgs
	if ok {
		v.options(words, "docker create", createOptions(&c))
	}
	return c
}

func createOptions(c *CreateArgs) []*flagOption {
	list := []*flagOption{
		text("add-host", "", appendTo(&c.AddHosts, parseAddHost)),
		text("cap-add", "", appendTo(&c.CapAdd, parseCapability)),
		text("cap-drop", "", appendTo(&c.CapDrop, parseCapability)),
		text("cpus", "", into(&c.CPUs, parseCPUs)),
		text("cpuset-cpus", "", into(&c.CPUSet, matches(`[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*`, `CPU numbers such as "0-3,5"`))),
		text("device", "", appendTo(&c.Devices, parseDevice)),
		text("dns", "", appendTo(&c.DNS, parseIP)),
		text("entrypoint", "", func(s string) error { c.Entrypoint = &s; return nil }),
		text("env", "e", appendTo(&c.Env, parseEnv)),
		text("gpus", "", into(&c.GPUs, matches(`all|[0-9]+|"?[a-z]+=[A-Za-z0-9:_.,=/-]+"?`, `"all", a number or "device=…"`))),
		text("group-add", "", appendTo(&c.GroupAdd, matches(`[A-Za-z0-9_][A-Za-z0-9_.-]*`, "a group"))),
		text("hostname", "h", into(&c.Hostname, matches(`[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?`, "a host name"))),
		flag("init", "", func(b bool) { c.Init = &b }),
		text("ipc", "", into(&c.IPC, matches(`none|private|shareable|host|container:[A-Za-z0-9][A-Za-z0-9_.-]*`, `"none", "private", "shareable", "host" or "container:NAME"`))),
		text("label", "l", labelsTo(&c.Labels)),
		text("memory", "m", into(&c.Memory, func(s string) (int64, error) { return parseSize(s, minMemoryBytes) })),
		text("mount", "", c.mount),
		text("network", "", into(&c.Network, parseNetwork)),
		text("net", "", into(&c.Network, parseNetwork)),
		text("pid", "", into(&c.PIDMode, matches(`host|private|container:[A-Za-z0-9][A-Za-z0-9_.-]*`, `"host" or "container:NAME"`))),
		text("pids-limit", "", into(&c.PidsLimit, parsePidsLimit)),
		text("platform", "", into(&c.Platform, parsePlatform)),
		flag("privileged", "", func(b bool) { c.Privileged = b }),
		text("publish", "p", appendTo(&c.Publish, parsePort)),
		flag("read-only", "", func(b bool) { c.ReadOnly = b }),
		text("runtime", "", into(&c.Runtime, matches(`[A-Za-z0-9][A-Za-z0-9_./-]*`, "the name of a runtime"))),
		text("security-opt", "", appendTo(&c.SecurityOpts, matches(`(no-new-privileges|label|seccomp|apparmor|systempaths|mask|unmask|proc-opts)([:=].+)?`, `an option such as "no-new-privileges" or "label=disable"`))),
		text("shm-size", "", into(&c.ShmSize, func(s string) (int64, error) { return parseSize(s, 1) })),
		text("stop-signal", "", into(&c.StopSignal, parseSignal)),
		text("stop-timeout", "", func(s string) error {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil || n < 0 {
				return errors.New("want whole seconds")
			}
			seconds := int(n)
			c.StopTimeout = &seconds
			return nil
		}),
		text("sysctl", "", pairsTo(&c.Sysctls, `[a-z0-9_]+([./][A-Za-z0-9_-]+)+`)),
		text("tmpfs", "", func(s string) error {
			target, options, _ := strings.Cut(s, ":")
			target, err := mountPoint(target)
			if err == nil {
				put(&c.Tmpfs, target, options)
			}
			return err
		}),
		text("ulimit", "", appendTo(&c.Ulimits, parseUlimit)),
		text("user", "u", into(&c.User, matches(`[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?`, "USER[:GROUP]"))),
		text("volume", "v", appendTo(&c.Volumes, parseBind)),
		text("workdir", "w", into(&c.Workdir, containerPath)),
	}
	const (
		named   = "the wrapper names the container"
		started = "the wrapper starts the container and waits for it"
		noTTY   = "a job has no terminal"
		output  = "the wrapper keeps the container's output itself"
		limits  = "is not supported; BOINC's limits hold"
	)
	return append(list, refuse(map[string]string{
		"attach a": started, "detach d": started, "sig-proxy": started, "detach-keys": started,
		"interactive i": noTTY, "tty t": noTTY,
		"name": named, "cidfile": named,
		"rm":         "the wrapper removes the container",
		"restart":    "the wrapper restarts the container when the client asks for it",
		"log-driver": output, "log-opt": output,
		"env-file":      "would be read from the host; use [env]",
		"label-file":    "would be read from the host; use --label",
		"pull":          "the wrapper gets the image; use the key image",
		"cgroup-parent": limits, "cgroupns": limits, "cpu-period": limits, "cpu-quota": limits, "cpu-shares c": limits,
		"blkio-weight": limits, "memory-reservation": limits, "memory-swap": limits, "memory-swappiness": limits,
		"oom-kill-disable": "would let the job use up the volunteer's memory", "oom-score-adj": "would let the job use up the volunteer's memory",
		"userns":       "is the engine's choice; use the key user",
		"uts":          "would let the job rename the volunteer's computer",
		"volumes-from": "would need another container", "link": "would need another container",
		"volume-driver": "is not supported; use the key mount",
		"publish-all P": "would open every port of the image; use -p",
		"health-cmd":    "the wrapper checks no health", "no-healthcheck": "the wrapper checks no health",
		"device-cgroup-rule": "is not supported; use --device",
	})...)
}

// refuse gives the options that aren't supported. Keys are "name short"; values say why.
func refuse(reasons map[string]string) []*flagOption {
	var list []*flagOption
	for n, reason := range reasons {
		name, short, _ := strings.Cut(n, " ")
		list = append(list, &flagOption{name: name, short: short, refused: reason})
	}
	return list
}

func (v value) buildArgs() BuildArgs {
	var b BuildArgs
	if _, ok := v.v.(*table); ok {
		for _, f := range v.fields() {
			name := unquoteKey(strings.TrimPrefix(f.key, v.key+"."))
			if err := checkEnvName(name); err != nil {
				f.mistake("", "%s", err)
				continue
			}
			if s, ok := f.str(); ok {
				put(&b.Args, name, &s)
			}
		}
		return b
	}
	words, ok := v.words()
	if ok {
		v.options(words, "docker build", buildOptions(&b))
	}
	return b
}

func buildOptions(b *BuildArgs) []*flagOption {
	const (
		names  = "the wrapper names the image"
		noFile = "would need a file of the host"
		pushed = "the image stays in the engine"
	)
	list := []*flagOption{
		text("build-arg", "", func(s string) error {
			name, val, has := strings.Cut(s, "=")
			if err := checkEnvName(name); err != nil {
				return err
			}
			if has {
				put(&b.Args, name, &val)
			} else {
				put(&b.Args, name, nil)
			}
			return nil
		}),
		text("target", "", into(&b.Target, matches(`[A-Za-z0-9][A-Za-z0-9_.-]*`, "the name of a stage"))),
		text("network", "", into(&b.Network, oneOf("default", "none", "host"))),
		text("platform", "", into(&b.Platform, parsePlatform)),
		flag("pull", "", func(on bool) { b.Pull = on }),
		flag("no-cache", "", func(on bool) { b.NoCache = on }),
		text("add-host", "", appendTo(&b.ExtraHosts, parseAddHost)),
		text("label", "", labelsTo(&b.Labels)),
	}
	for _, o := range []*flagOption{
		flag("quiet", "q", func(bool) {}),
		text("progress", "", func(string) error { return nil }),
		flag("rm", "", func(bool) {}),
		flag("force-rm", "", func(bool) {}),
		text("retry", "", func(string) error { return nil }),
	} {
		o.ignored = "has no effect here"
		list = append(list, o)
	}
	return append(list, refuse(map[string]string{
		"tag t":  names,
		"file f": "the wrapper knows the Dockerfile",
		"secret": noFile, "ssh": noFile, "build-context": noFile, "iidfile": noFile, "metadata-file": noFile, "volume v": noFile,
		"output o": pushed, "push": pushed, "load": pushed, "cache-to": pushed, "cache-from": "is not supported",
		"memory m": "the build has BOINC's limits", "cpuset-cpus": "the build has BOINC's limits",
	})...)
}

// put writes into a map that may be nil.
func put[T any](m *map[string]T, name string, val T) {
	if *m == nil {
		*m = map[string]T{}
	}
	(*m)[name] = val
}

func labelsTo(to *map[string]string) func(string) error {
	return func(s string) error {
		name, val, _ := strings.Cut(s, "=")
		if name == "" || strings.ContainsAny(name, " \t\n") {
			return errors.New("want NAME=VALUE")
		}
		put(to, name, val)
		return nil
	}
}

func pairsTo(to *map[string]string, name string) func(string) error {
	re := whole(name)
	return func(s string) error {
		n, val, ok := strings.Cut(s, "=")
		if !ok || !re.MatchString(n) {
			return errors.New("want NAME=VALUE")
		}
		put(to, n, val)
		return nil
	}
}

func whole(re string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + re + `)$`) }

func matches(pattern, want string) func(string) (string, error) {
	re := whole(pattern)
	return func(s string) (string, error) {
		if !re.MatchString(s) {
			return "", errors.New("want " + want)
		}
		return s, nil
	}
}

// mount reads --mount type=bind,source=…,target=…
func (c *CreateArgs) mount(s string) error {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return errors.New("want fields NAME=VALUE with commas between")
	}
	var (
		kind     = "volume"
		b        Bind
		options  []string // of a bind or volume
		memory   []string // of a tmpfs
		bindOnly string
	)
	for _, f := range fields {
		name, val, has := strings.Cut(f, "=")
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "type":
			kind = val
		case "source", "src":
			b.Source = val
		case "target", "destination", "dst":
			b.Target = val
		case "readonly", "ro":
			on := true
			if has {
				if on, err = strconv.ParseBool(val); err != nil {
					return fmt.Errorf("%s: want true or false", name)
				}
			}
			if on {
				options = append(options, "ro")
			}
		case "bind-propagation", "consistency":
			bindOnly = name
			options = append(options, val)
		case "volume-nocopy":
			if !has || val == "true" || val == "1" {
				options = append(options, "nocopy")
			}
		case "tmpfs-size":
			n, err := parseSize(val, 1)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			memory = append(memory, fmt.Sprintf("size=%d", n))
		case "tmpfs-mode":
			if _, err := strconv.ParseUint(val, 8, 12); err != nil {
				return fmt.Errorf("%s: want an octal mode", name)
			}
			memory = append(memory, "mode="+val)
		default:
			return hint(didYouMean(nearest(name, []string{"type", "source", "target", "destination", "readonly"})), "%s is not supported", cut(name))
		}
	}
	switch kind {
	case "tmpfs":
		if b.Source != "" || bindOnly != "" {
			return errors.New("a tmpfs has no source")
		}
		target, err := mountPoint(b.Target)
		if err != nil {
			return fmt.Errorf("target %s: %w", quote(b.Target), err)
		}
		put(&c.Tmpfs, target, strings.Join(append(options, memory...), ","))
		return nil
	case "bind":
		if !isAbsolute(b.Source) {
			return errors.New("the source of a bind is an absolute path of the host")
		}
	case "volume":
		if isAbsolute(b.Source) || bindOnly != "" {
			return hint("type=bind mounts a path of the host", "the source of a volume is its name")
		}
	default:
		return fmt.Errorf("type %s: want bind, volume or tmpfs", quote(kind))
	}
	if len(memory) > 0 {
		return errors.New("tmpfs-size and tmpfs-mode are for type=tmpfs")
	}
	if strings.ContainsAny(b.Target, ":") || strings.Contains(strings.TrimPrefix(b.Source, drive(b.Source)), ":") {
		return errors.New("a path with a colon is not supported")
	}
	b.Options = strings.Join(options, ",")
	if b, err = parseBind(b.String()); err == nil {
		c.Volumes = append(c.Volumes, b)
	}
	return err
}

func drive(s string) string {
	if isDrive(s) {
		return s[:2]
	}
	return ""
}

func isAbsolute(s string) bool {
	return strings.HasPrefix(s, "/") || isDrive(s) && len(s) > 2 && (s[2] == '\\' || s[2] == '/')
}

var (
	volumeName   = whole(`[A-Za-z0-9][A-Za-z0-9_.-]+`)
	mountOptions = []string{"ro", "rw", "z", "Z", "shared", "rshared", "slave", "rslave", "private", "rprivate", "nocopy", "consistent", "cached", "delegated"}
	// At most one of each group may be given.
	mountOptionGroups = [][]string{{"ro", "rw"}, {"z", "Z"}, {"shared", "rshared", "slave", "rslave", "private", "rprivate"}, {"consistent", "cached", "delegated"}}
)

// parseBind reads the syntax of docker's -v.
//
// Format: the linux and windows parsers in moby's daemon/volume/mounts.
func parseBind(s string) (Bind, error) {
	const want = "want [SOURCE:]TARGET[:OPTIONS]"
	if s == "" {
		return Bind{}, errors.New(want)
	}
	parts := strings.Split(s, ":")
	if isDrive(s) && len(parts) >= 3 && isAbsolute(s) && strings.HasPrefix(parts[2], "/") {
		parts = append([]string{parts[0] + ":" + parts[1]}, parts[2:]...)
	}
	var b Bind
	switch len(parts) {
	case 1:
		b.Target = parts[0]
	case 2:
		b.Source, b.Target = parts[0], parts[1]
		if !strings.HasPrefix(b.Target, "/") && strings.HasPrefix(b.Source, "/") && allMountOptions(b.Target) {
			return Bind{}, hint("write "+quote(b.Source+":"+s), "has no target")
		}
	case 3:
		b.Source, b.Target, b.Options = parts[0], parts[1], parts[2]
		if b.Options == "" {
			return Bind{}, errors.New(want)
		}
	default:
		return Bind{}, errors.New(want)
	}
	if len(parts) > 1 {
		switch {
		case b.Source == "":
			return Bind{}, errors.New("its source is empty")
		case isAbsolute(b.Source):
			if slices.Contains(strings.FieldsFunc(b.Source, func(c rune) bool { return c == '/' || c == '\\' }), "..") {
				return Bind{}, errors.New(`its source contains ".."`)
			}
			if strings.HasPrefix(b.Source, "/") {
				b.Source = path.Clean(b.Source)
			}
			if err := CheckLength(strings.ReplaceAll(b.Source, `\`, "/")); err != nil {
				return Bind{}, fmt.Errorf("its source %w", err)
			}
		case strings.Contains(b.Source, "$"):
			return Bind{}, hint("variables are not expanded", "its source is neither an absolute path nor a volume's name")
		case !volumeName.MatchString(b.Source):
			return Bind{}, errors.New("its source is neither an absolute path nor a volume's name")
		case len(b.Source) > maxPathPart:
			return Bind{}, fmt.Errorf("its source is a name of more than %d bytes", maxPathPart)
		}
	}
	target, err := mountPoint(b.Target)
	if err != nil {
		return Bind{}, fmt.Errorf("target %s: %w", quote(b.Target), err)
	}
	b.Target = target
	return b, checkMountOptions(b)
}

func allMountOptions(s string) bool {
	for o := range strings.SplitSeq(s, ",") {
		if !slices.Contains(mountOptions, o) {
			return false
		}
	}
	return true
}

func checkMountOptions(b Bind) error {
	if b.Options == "" {
		return nil
	}
	options := strings.Split(b.Options, ",")
	for i, o := range options {
		if !slices.Contains(mountOptions, o) {
			return hint(didYouMean(nearest(o, mountOptions)), "%s is not a mount option", quote(o))
		}
		if slices.Contains(options[:i], o) {
			return fmt.Errorf("option %s is given twice", o)
		}
		for _, g := range mountOptionGroups {
			for _, other := range options[:i] {
				if slices.Contains(g, o) && slices.Contains(g, other) {
					return fmt.Errorf("options %s and %s exclude each other", other, o)
				}
			}
		}
		if o == "nocopy" && isAbsolute(b.Source) {
			return errors.New("option nocopy is for volumes")
		}
	}
	return nil
}

// parsePort reads the syntax of docker's -p.
func parsePort(s string) (Port, error) {
	const want = "want [IP:][HOST:]GUEST[/PROTO]"
	rest, protocol, has := strings.Cut(s, "/")
	p := Port{Protocol: "tcp"}
	if has {
		if p.Protocol = strings.ToLower(protocol); p.Protocol != "tcp" && p.Protocol != "udp" {
			return Port{}, fmt.Errorf("protocol %s: want tcp or udp", quote(protocol))
		}
	}
	if ip, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(ip, "[") {
		addr, err := netip.ParseAddr(ip[1:])
		if err != nil || !addr.Is6() {
			return Port{}, fmt.Errorf("%s is not an IPv6 address", quote(ip[1:]))
		}
		if p.HostIP = addr.String(); !strings.HasPrefix(after, ":") {
			return Port{}, errors.New(want)
		}
		rest = after[1:]
		if !strings.Contains(rest, ":") {
			return Port{}, hint("write "+quote(ip+"]::"+rest), "has an address, but no port of the host")
		}
	}
	parts := strings.Split(rest, ":")
	switch {
	case p.HostIP != "" && len(parts) != 2:
		return Port{}, errors.New(want)
	case len(parts) == 3:
		addr, err := netip.ParseAddr(parts[0])
		if err != nil {
			return Port{}, fmt.Errorf("%s is not an IP address", quote(parts[0]))
		}
		p.HostIP, parts = addr.String(), parts[1:]
	case len(parts) > 3:
		return Port{}, hint("put an IPv6 address in brackets", want)
	case len(parts) == 2 && p.HostIP == "" && strings.Contains(parts[0], "."):
		if _, err := netip.ParseAddr(parts[0]); err == nil {
			return Port{}, hint("write "+quote(parts[0]+"::"+parts[1]), "has an address, but no port of the host")
		}
	}
	number := func(s string) (int, error) {
		from, to, dash := strings.Cut(s, "-")
		if dash && isPort(from) && isPort(to) {
			return 0, hint("write each port by itself", "a range of ports is not supported")
		}
		if !isPort(s) {
			return 0, hint(want, "%s is not a port from 1 to 65535", quote(s))
		}
		return strconv.Atoi(s)
	}
	var err error
	if p.Guest, err = number(parts[len(parts)-1]); err != nil {
		return Port{}, err
	}
	if len(parts) == 1 {
		return p, nil
	}
	switch host := parts[0]; {
	case host == "" && p.HostIP == "":
		return Port{}, errors.New(want)
	case host == "" || host == "0":
		return p, nil
	default:
		p.Host, err = number(host)
		if err != nil {
			return Port{}, err
		}
		return p, nil
	}
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// Format: reference.go and regexp.go of github.com/distribution/reference.
var (
	imageDomain = `(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?`
	imagePart   = `[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*`
	imageName   = whole(`(` + imageDomain + `/)?` + imagePart + `(?:/` + imagePart + `)*(:[\w][\w.-]{0,127})?(@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?`)
	imageID     = whole(`[0-9a-f]{64}`)
)

func imageReference(s string) (string, error) {
	name, digest, hasDigest := strings.Cut(s, "@")
	switch {
	case strings.Contains(s, "://"):
		_, rest, _ := strings.Cut(s, "://")
		return "", hint("write "+quote(rest), "an image name has no scheme")
	case imageID.MatchString(s):
		return "", errors.New("is an image's ID, which other computers don't know; want a name")
	case imageName.MatchString(s):
		if hasDigest && strings.HasPrefix(digest, "sha256:") && len(digest) != len("sha256:")+64 {
			return "", errors.New("its digest must have 64 digits")
		}
		if tag := strings.LastIndexByte(name, ':'); tag > strings.LastIndexByte(name, '/') {
			name = name[:tag]
		}
		if len(name) > 255 {
			return "", errors.New("is longer than 255 characters")
		}
		return s, nil
	case imageName.MatchString(strings.ToLower(s)):
		return "", hint("write "+quote(strings.ToLower(s)), "image names are lower case")
	case hasDigest && imageName.MatchString(name):
		return "", errors.New("its digest isn't sha256: and 64 hexadecimal digits")
	}
	return "", errors.New("want [REGISTRY/]NAME[:TAG][@DIGEST]")
}

// parseSize reads a number of bytes with docker's units.
func parseSize(s string, least int64) (int64, error) {
	const want = `want a size such as "512m" or "2g"`
	if !sizeText.MatchString(s) {
		return 0, errors.New(want)
	}
	n, err := units.RAMInBytes(s)
	switch {
	case err != nil:
		return 0, errors.New(want)
	case n > maxBytes || n < 0:
		return 0, fmt.Errorf("want at most %s", units.BytesSize(maxBytes))
	case n == 0:
		return 0, errors.New("want more than 0")
	case n < least:
		h := ""
		if strings.Trim(s, "0123456789") == "" {
			h = fmt.Sprintf("a number alone is bytes; write \"%dm\"", n)
		}
		return 0, hint(h, "want at least %s", units.BytesSize(float64(least)))
	}
	return n, nil
}

var sizeText = whole(`[0-9]+(?:\.[0-9]+)? ?(?:[kKmMgGtTpP][iI]?)?[bB]?`)

// signals are Linux's, since containers run on Linux. Source: signal(7), for x86 and ARM.
var signals = []string{1: "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
	"STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS"}

// SignalNumber is the number of a signal on Linux, by its name such as "SIGUSR1"; -1 for another name.
func SignalNumber(name string) int {
	return slices.Index(signals, strings.TrimPrefix(name, "SIG"))
}

// parseSignal gives the name of a signal: "SIGUSR1" for "SIGUSR1", "usr1" and "10".
func parseSignal(s string) (string, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 1 && n < len(signals) {
			return "SIG" + signals[n], nil
		}
		return "", fmt.Errorf("want a signal, 1 to %d", len(signals)-1)
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if slices.Contains(signals[1:], name) || realTime.MatchString(name) {
		return "SIG" + name, nil
	}
	h := nearest(name, signals[1:])
	if h != "" {
		h = "SIG" + h
	}
	return "", hint(didYouMean(h), `want a signal such as "SIGUSR1"`)
}

var realTime = whole(`RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?`)

func catchable(s string) (string, error) {
	name, err := parseSignal(s)
	if name == "SIGKILL" || name == "SIGSTOP" {
		return "", errors.New("can't be caught")
	}
	return name, err
}

func parseCapability(s string) (string, error) {
	name := strings.ToUpper(s)
	if !capability.MatchString(name) {
		return "", errors.New(`want a capability such as "SYS_ADMIN"`)
	}
	return name, nil
}

var capability = whole(`[A-Z][A-Z_]+`)

func parseCPUs(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n < 0.01 || n > 4096 {
		return 0, errors.New("want a number of CPUs, 0.01 or more")
	}
	return n, nil
}

// parseDevice reads HOST[:CONTAINER][:rwm] or a name of the Container Device Interface (CDI).
func parseDevice(s string) (string, error) {
	if cdiName.MatchString(s) {
		return s, nil
	}
	parts := strings.Split(s, ":")
	mode := parts[len(parts)-1]
	if len(parts) > 1 && deviceMode.MatchString(mode) {
		parts = parts[:len(parts)-1]
	}
	if len(parts) > 2 {
		return "", errors.New("want HOST[:CONTAINER][:rwm]")
	}
	for _, p := range parts {
		if _, err := mountPoint(p); err != nil {
			if CheckLength(p) != nil {
				return "", CheckLength(p)
			}
			return "", hint("want HOST[:CONTAINER][:rwm]", "%s is not an absolute path without \"..\"", quote(p))
		}
	}
	return s, nil
}

var (
	cdiName    = whole(`[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*`)
	deviceMode = whole(`[rwm]{1,3}`)
)

func parseIP(s string) (string, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return "", errors.New("want an IP address")
	}
	return addr.String(), nil
}

// parseAddHost reads NAME:ADDRESS or NAME=ADDRESS and gives NAME:ADDRESS.
func parseAddHost(s string) (string, error) {
	i := strings.IndexAny(s, ":=")
	if i < 1 || strings.ContainsAny(s, " \t\n") {
		return "", errors.New("want NAME:ADDRESS")
	}
	name, addr := s[:i], s[i+1:]
	if inner, ok := strings.CutPrefix(addr, "["); ok {
		addr = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(addr); err != nil && addr != "host-gateway" {
		return "", fmt.Errorf("%s is not an IP address", quote(addr))
	}
	return name + ":" + addr, nil
}

func parseEnv(s string) (string, error) {
	name, _, ok := strings.Cut(s, "=")
	if err := checkEnvName(name); err != nil {
		return "", err
	}
	if !ok {
		return "", hint("write "+name+"=VALUE", "the host's environment isn't passed on")
	}
	return s, nil
}

func checkEnvName(name string) error {
	if !envName.MatchString(name) {
		return errors.New("want a name of letters, digits and \"_\"")
	}
	return nil
}

var envName = whole(`[A-Za-z_][A-Za-z0-9_.-]*`)

func parseNetwork(s string) (string, error) {
	if !networkName.MatchString(s) {
		return "", errors.New(`want "bridge", "none", "host" or a network's name`)
	}
	return s, nil
}

var networkName = whole(`(?:container:)?[A-Za-z0-9][A-Za-z0-9_.-]*`)

func parsePlatform(s string) (string, error) {
	if !platform.MatchString(s) {
		return "", errors.New(`want OS/ARCHITECTURE[/VARIANT], such as "linux/arm64"`)
	}
	return s, nil
}

var platform = whole(`[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?`)

func parsePidsLimit(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n != -1 && (n < 1 || n > maxPids) {
		return 0, fmt.Errorf("want 1 to %d, or -1 for no limit", maxPids)
	}
	return n, nil
}

func parseUlimit(s string) (Ulimit, error) {
	u, err := units.ParseUlimit(s)
	if err != nil || u.Soft < -1 || u.Hard < -1 {
		return Ulimit{}, errors.New("want NAME=SOFT[:HARD], such as nofile=1024:4096")
	}
	return Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}, nil
}
