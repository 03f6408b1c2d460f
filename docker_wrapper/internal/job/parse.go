package job

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/go-units"
)

// MaxFile is the most bytes that job.toml or the policy file may have. job.toml comes from strangers, and reading it takes
// many times its size in memory. Files that people write are far smaller.
const MaxFile = 1 << 20

// MaxArgument is the most bytes of an argument, or of a variable as NAME=VALUE, with which Linux starts a program:
// MAX_ARG_STRLEN in include/uapi/linux/binfmts.h, which counts the NUL at its end.
const MaxArgument = 128<<10 - 1

const (
	maxNesting     = 32     // brackets and dotted parts
	maxValues      = 10_000 // keys and elements of arrays
	maxWords       = 2000   // of docker's options, which are checked one by one
	maxKeyBytes    = 128    // of a dotted key
	maxMistakes    = 20     // shown of each kind; people read no more
	maxSeconds     = 1e9    // about 31 years
	maxBytes       = 1 << 46
	minMemoryBytes = 6 << 20 // docker refuses less: runconfig's linuxMinMemory in moby's daemon/daemon_unix.go
	minShmBytes    = 1 << 20 // engines take less, but so small a number lacks its unit
	maxPids        = 1 << 22 // PID_MAX_LIMIT in linux's include/linux/threads.h
	maxID          = 1<<31 - 1

	// Linux allows paths of 4096 bytes, NUL included, and names of 255: PATH_MAX and NAME_MAX in
	// include/uapi/linux/limits.h. Half of PATH_MAX leaves room for the directory that the slot or the engine puts in front.
	maxPath     = 2048
	maxPathPart = 255
)

var tooManyValues = fmt.Sprintf("has more than %d keys and values", maxValues)

// KeyInfo describes one key of job.toml for the manual.
type KeyInfo struct {
	Name    string // tables as "checkpoint.file"; "env.*" stands for any name
	Type    string
	Default string // "" if there is none
	Meaning string
}

type key struct {
	KeyInfo
	read func(*Config, value)
}

// Keys lists every key that job.toml may have, in the order of the manual.
func Keys() []KeyInfo {
	var infos []KeyInfo
	for _, k := range keys() {
		infos = append(infos, k.KeyInfo)
	}
	return infos
}

// keys is a function because the readers refer to it: a variable would depend on itself.
func keys() []key {
	return []key{
		{KeyInfo{"slot_dir_mount", "string", "", "mount the slot directory here"},
			func(c *Config, v value) { scalar(v, &c.SlotDirMount, mountPoint) }},
		{KeyInfo{"project_dir_mount", "string", "", "mount the project directory here, read-only but for this job's output files; unsigned jobs see what the slot links to"},
			func(c *Config, v value) { scalar(v, &c.ProjectDirMount, mountPoint) }},
		{KeyInfo{"copy_to_container", "array of {src, dst}", "", "copy slot files into the container before the start"},
			func(c *Config, v value) { c.CopyToContainer = v.pairs(slotName, copyInto) }},
		{KeyInfo{"copy_from_container", "array of {src, dst}", "", "copy container paths to names in the slot after exit 0"},
			func(c *Config, v value) { c.CopyFromContainer = v.pairs(copySource, slotName) }},
		{KeyInfo{"optional_outputs", "array of string", "", "outputs that the job need not make: logical names, or dst of copy_from_container"},
			func(c *Config, v value) { c.OptionalOutputs = each(v, slotName) }},
		{KeyInfo{"workdir", "string", "/app", "mount the slot here if neither slot_dir_mount nor a copy list is given"},
			func(c *Config, v value) { scalar(v, &c.Workdir, containerPath) }},
		{KeyInfo{"links", `"files" or "links"`, "files without project_dir_mount", "show each linked input as the file itself, or leave link files as they are"},
			func(c *Config, v value) { scalar(v, &c.Links, oneOf("files", "links")) }},

		{KeyInfo{"image_name", "string", "", "use this image name and keep the image after the job"},
			func(c *Config, v value) { scalar(v, &c.ImageName, imageReference) }},
		{KeyInfo{"image", "string", "", "image to pull if absent, best with its digest"},
			func(c *Config, v value) { scalar(v, &c.Image, imageReference) }},
		{KeyInfo{"image_archive", "string", "", "logical name of an image archive to load if absent"},
			func(c *Config, v value) { scalar(v, &c.ImageArchive, slotName) }},
		{KeyInfo{"images", "array of string, {image} or {archive}", "", "alternatives; the first that is present or can be had wins"},
			func(c *Config, v value) { c.Images = v.images() }},
		{KeyInfo{"build_args", "string, array of string or table", "", "options as for docker build, or a table of build arguments"},
			func(c *Config, v value) { c.Build = v.buildArgs() }},

		{KeyInfo{"entrypoint", "array of string", "the image's", "override the entry point"},
			func(c *Config, v value) { c.Entrypoint = each(v, anArgument) }},
		{KeyInfo{"command", "array of string", "the image's", "override the command"},
			func(c *Config, v value) { c.Command = each(v, anArgument) }},
		{KeyInfo{"env.*", "string", "", "an environment variable; may use $NTHREADS, $GPU_DEVICE_NUM, $PROJECT_DIR, $SLOT_DIR"},
			func(c *Config, v value) { v.environment(c) }},
		{KeyInfo{"use_gpu", "bool", "false", "give the container the GPU that BOINC assigned"},
			func(c *Config, v value) { v.boolean(&c.UseGPU) }},
		{KeyInfo{"network", `"bridge" or "none"`, "bridge for signed jobs, else none", "what the container sees of the network, while the client allows network activity"},
			func(c *Config, v value) {
				if on, ok := v.v.(bool); ok {
					word := map[bool]string{true: "bridge", false: "none"}[on]
					v.mistake(fmt.Sprintf("write %q", word), `want "bridge" or "none", got a bool`)
					return
				}
				scalar(v, &c.Network, oneOf("bridge", "none"))
			}},
		{KeyInfo{"mount", "array of string", "", "mounts, each as for docker's -v"},
			func(c *Config, v value) { c.Mounts = each(v, parseBind) }},
		{KeyInfo{"portmap", "array of string", "", "ports, each as for docker's -p"},
			func(c *Config, v value) { c.Ports = each(v, parsePort) }},
		{KeyInfo{"web_graphics_guest_port", "int", "", "port of the container's web graphics; the client is told where to find it"},
			func(c *Config, v value) {
				if n, ok := v.integer(0, 65535); ok {
					c.WebGraphicsGuestPort = int(n)
				}
			}},
		{KeyInfo{"create_args", "string or array of string", "", "options as for docker create"},
			func(c *Config, v value) { c.Create = v.createArgs() }},
		{KeyInfo{"user", `"auto", "image" or "UID[:GID]"`, "auto", "who runs in the container; auto: the image's user, or BOINC's if the job isn't signed; all files end up owned by BOINC's user"},
			func(c *Config, v value) { scalar(v, &c.User, userID) }},
		{KeyInfo{"memory", "size", "what the volunteer lets BOINC use", "hard limit, at most the default"},
			func(c *Config, v value) { v.size(&c.Memory, minMemoryBytes) }},
		{KeyInfo{"shm_size", "size", "64m", "size of /dev/shm"},
			func(c *Config, v value) { v.size(&c.ShmSize, minShmBytes) }},
		{KeyInfo{"pids", "int", "512 or more", "limit of processes and threads"},
			func(c *Config, v value) {
				if n, ok := v.integer(1, maxPids); ok {
					c.Pids = n
				}
			}},
		{KeyInfo{"time_limit", "seconds", "", "running time; suspended time isn't counted"},
			func(c *Config, v value) { v.seconds(&c.TimeLimit) }},
		{KeyInfo{"stdout_file", "string", "", "slot file for the container's output; without it, stderr.txt"},
			func(c *Config, v value) { scalar(v, &c.StdoutFile, slotName) }},
		{KeyInfo{"stderr_file", "string", "", "slot file for the container's error output; without it, stderr.txt"},
			func(c *Config, v value) { scalar(v, &c.StderrFile, slotName) }},
		{KeyInfo{"fraction_done_file", "string", "fraction_done", "slot file or container path that holds one number from 0 to 1"},
			func(c *Config, v value) { scalar(v, &c.FractionDoneFile, slotNameOrContainerPath) }},
		{KeyInfo{"verbose", "0, 1 or 2", "1", "log errors; changes of state; every call"},
			func(c *Config, v value) {
				if n, ok := v.integer(0, 2); ok {
					c.Verbose = int(n)
				}
			}},
		{KeyInfo{"append_cmdline_args", "bool", "false", "append the job's command-line arguments to command"},
			func(c *Config, v value) { v.boolean(&c.AppendCmdlineArgs) }},

		{KeyInfo{"checkpoint_period", "seconds", "the user's preference", "how often to checkpoint"},
			func(c *Config, v value) { v.seconds(&c.CheckpointPeriod) }},
		{KeyInfo{"checkpoint.method", `"auto", "app", "engine" or "none"`, "auto", "who saves the state: the application itself, the engine, or nobody"},
			func(c *Config, v value) { scalar(v, &c.Checkpoint.Method, oneOf("auto", "app", "engine", "none")) }},
		{KeyInfo{"checkpoint.file", "string", "", "slot file or container path whose change is a checkpoint"},
			func(c *Config, v value) { scalar(v, &c.Checkpoint.File, slotNameOrContainerPath) }},
		{KeyInfo{"checkpoint.signal", "string", "", "sent each period to ask for a checkpoint"},
			func(c *Config, v value) { v.signal(&c.Checkpoint.Signal, catchable) }},
		{KeyInfo{"checkpoint.timeout", "seconds", "60", "how long to wait for a checkpoint"},
			func(c *Config, v value) { v.seconds(&c.Checkpoint.Timeout) }},
		{KeyInfo{"checkpoint.copy", "array of {src, dst}", "", "container files to save in the slot at each checkpoint and to put back into a fresh container"},
			func(c *Config, v value) { c.Checkpoint.Copy = v.pairs(copySource, slotName) }},
		{KeyInfo{"on_quit", `"auto", "pause" or "stop"`, "auto", "what becomes of the container when the client quits"},
			func(c *Config, v value) { scalar(v, &c.OnQuit, oneOf("auto", "pause", "stop")) }},
		{KeyInfo{"stop_signal", "string", "the image's", "asks the container to stop"},
			func(c *Config, v value) { v.signal(&c.StopSignal, parseSignal) }},
		{KeyInfo{"stop_timeout", "seconds", "10", "how long a stop may take before the container is killed"},
			func(c *Config, v value) { v.seconds(&c.StopTimeout) }},
	}
}

// ParseConfig reads job.toml. nil stands for a missing file and gives the defaults. Messages call the
// file name, or job.toml if name is empty.
//
// The error joins a *[ConfigError] for every mistake, in the order of the file. A mistake of syntax ends the
// reading. Unknown keys go to Config.Warnings. With an error the Config is not nil and lacks what is wrong, so that [Plan]
// can find more mistakes; no job may run with it. At most 20 errors and 20 warnings are listed; one more says how many are left out.
func ParseConfig(name string, data []byte) (*Config, error) {
	if name == "" {
		name = "job.toml"
	}
	r := newReader(name, data)
	root := r.decode()
	if root != nil {
		r.readAll(root)
	}
	inFileOrder(r.config.Warnings)
	if r.unwarned > 0 {
		r.config.Warnings = append(r.config.Warnings, r.more(r.unwarned, "warnings"))
	}
	r.config.Unread, r.config.wrong = root == nil, len(r.mistakes) > 0
	return r.config, r.err()
}

func inFileOrder(es []*ConfigError) {
	slices.SortStableFunc(es, func(a, b *ConfigError) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
}

// reader reads one file.
type reader struct {
	config   *Config // for the policy file, only its name is used
	text     string  // without byte order mark
	mistakes []*ConfigError

	unsaid, unwarned int // mistakes and warnings beyond the most that are shown

	// The last position asked for. Positions are asked for nearly in the order of the file, so counting
	// continues from here.
	offset int
	here   position
}

func newReader(name string, data []byte) *reader {
	c := &Config{File: name, Verbose: 1, at: map[string]position{}}
	return &reader{config: c, text: strings.TrimPrefix(string(data), "\ufeff")}
}

// err joins the mistakes, in the order of the file; nil for none.
func (r *reader) err() error {
	inFileOrder(r.mistakes)
	if r.unsaid > 0 {
		r.mistakes = append(r.mistakes, r.more(r.unsaid, "mistakes"))
		r.unsaid = 0
	}
	errs := make([]error, len(r.mistakes))
	for i, e := range r.mistakes {
		errs[i] = e
	}
	return errors.Join(errs...)
}

func (r *reader) more(n int, what string) *ConfigError {
	return &ConfigError{File: r.config.File, Problem: fmt.Sprintf("%d more %s", n, what)}
}

// position counts lines and characters, both from 1; a tab is one character.
func (r *reader) position(offset int) position {
	offset = max(0, min(offset, len(r.text)))
	if offset < r.offset || r.here.line == 0 {
		r.offset, r.here = 0, position{1, 1}
	}
	for part := r.text[r.offset:offset]; ; {
		line, rest, more := strings.Cut(part, "\n")
		if !more {
			r.here.col += utf8.RuneCountInString(line)
			break
		}
		r.here = position{r.here.line + 1, 1}
		part = rest
	}
	r.offset = offset
	return r.here
}

func (r *reader) mistake(p position, key, hint, format string, args ...any) {
	if len(r.mistakes) == maxMistakes {
		r.unsaid++
		return
	}
	r.mistakes = append(r.mistakes, &ConfigError{File: r.config.File, Line: p.line, Col: p.col, Key: key, Problem: fmt.Sprintf(format, args...), Hint: hint})
}

func (r *reader) warn(p position, key, hint, format string, args ...any) {
	w := &r.config.Warnings
	if len(*w) == maxMistakes {
		r.unwarned++
		return
	}
	*w = append(*w, &ConfigError{File: r.config.File, Line: p.line, Col: p.col, Key: key, Problem: fmt.Sprintf(format, args...), Hint: hint})
}

// unknown warns of a key. meant is slow, and called only if the warning is shown.
func (v value) unknown(meant func() string) {
	if len(v.config.Warnings) == maxMistakes {
		v.unwarned++
		return
	}
	v.warn(v.position(), v.key, meant(), "unknown key")
}

// readAll reads the keys in the order of the file.
func (r *reader) readAll(root *table) {
	known, tables := map[string]key{}, map[string]bool{}
	for _, k := range keys() {
		known[k.Name] = k
		if table, _, ok := strings.Cut(k.Name, "."); ok {
			tables[table] = true
		}
	}
	var read func(value, string)
	read = func(v value, name string) {
		k, ok := known[name]
		switch {
		case ok:
			r.config.at[v.key] = v.position()
			k.read(r.config, v)
		case tables[name]:
			r.config.at[v.key] = v.position()
			for _, sub := range v.fields() {
				n := sub.key
				if _, any := known[name+".*"]; any {
					n = name + ".*"
				}
				read(sub, n)
			}
		default:
			v.unknown(func() string { return suggestKey(name) })
		}
	}
	for _, v := range (value{reader: r, node: node{v: root}}).fields() {
		read(v, v.key)
	}
}

// value is one value of the file and where it stands.
type value struct {
	*reader
	key string // for messages, such as "checkpoint.copy.dst"
	node
}

func (v value) position() position { return v.reader.position(v.at) }

func (v value) mistake(hint, format string, args ...any) {
	if len(v.mistakes) == maxMistakes {
		v.unsaid++
		return
	}
	v.reader.mistake(v.position(), v.key, hint, format, args...)
}

// bad reports err, which says what is wrong with text.
func (v value) bad(text string, err error) {
	var h *hinted
	hint := ""
	if errors.As(err, &h) {
		hint = h.hint
	}
	v.mistake(hint, "%s: %s", quote(text), err)
}

func (v value) mistyped(want, hint string) {
	v.mistake(hint, "want %s, got %s", want, typeName(v.v))
}

func typeName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a bool"
	case *array:
		return "an array"
	case *table:
		return "a table"
	case date:
		return "a date or time"
	}
	return fmt.Sprintf("%T", v)
}

const maxQuoted = 80 // bytes

// quote quotes s and cuts it to a length that suits a log.
func quote(s string) string {
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return strconv.Quote(s)
}

// hinted is an error with the hint of a [ConfigError].
type hinted struct{ problem, hint string }

func (h *hinted) Error() string { return h.problem }

func hint(h, format string, args ...any) error { return &hinted{fmt.Sprintf(format, args...), h} }

// str gives a string that may become a file name or an environment variable.
func (v value) str() (string, bool) {
	s, ok := v.v.(string)
	if !ok {
		h := ""
		switch x := v.v.(type) {
		case int64, float64, bool:
			h = fmt.Sprintf(`write "%v"`, x)
		}
		v.mistyped("a string", h)
		return "", false
	}
	if strings.Contains(s, "\x00") {
		v.mistake("", "%s: contains a NUL byte", quote(s))
		return "", false
	}
	return s, true
}

// scalar sets *to if the value is a string that parse takes.
func scalar[T any](v value, to *T, parse func(string) (T, error)) {
	s, ok := v.str()
	if !ok {
		return
	}
	if s == "" {
		v.mistake("leave the key out", "is empty")
		return
	}
	t, err := parse(s)
	if err != nil {
		v.bad(s, err)
		return
	}
	*to = t
}

// each reads an array of strings; it is nil only after a mistake.
func each[T any](v value, parse func(string) (T, error)) []T {
	h := ""
	if s, ok := v.v.(string); ok {
		h = "write [" + strings.Join(v.wordsQuoted(s), ", ") + "]"
	}
	elements, ok := v.elements("an array of strings", h)
	if !ok {
		return nil
	}
	list := make([]T, 0, len(elements))
	for _, e := range elements {
		s, ok := e.str()
		if !ok {
			continue
		}
		t, err := parse(s)
		if err != nil {
			e.bad(s, err)
			continue
		}
		list = append(list, t)
	}
	return list
}

// forShells are the characters of a command line that mean something to a shell (POSIX, XCU 2.2).
const forShells = "\"'\\`$|&;<>()*?[~\n"

// wordsQuoted gives the words of a command line as quoted strings. What a shell must read stays one word: a command is
// given to one.
func (v value) wordsQuoted(s string) []string {
	words := []string{s}
	switch {
	case v.key == "command" && strings.ContainsAny(s, forShells):
		words = []string{"sh", "-c", s}
	case !strings.ContainsAny(s, forShells) && len(s) <= maxQuoted && strings.TrimSpace(s) != "":
		words = strings.Fields(s)
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	return words
}

func (v value) elements(want, hint string) ([]value, bool) {
	a, ok := v.v.(*array)
	if !ok {
		v.mistyped(want, hint)
		return nil, false
	}
	values := make([]value, len(a.elements))
	for i, e := range a.elements {
		values[i] = value{v.reader, v.key, e}
	}
	return values, true
}

// fields gives the fields of a table in the order of the file.
func (v value) fields() []value {
	t, ok := v.v.(*table)
	if !ok {
		v.mistyped("a table", "write ["+v.key+"]")
		return nil
	}
	var fields []value
	for name, n := range t.fields {
		fields = append(fields, value{v.reader, joinKey(v.key, name), *n})
	}
	slices.SortFunc(fields, func(a, b value) int { return cmp.Or(a.from-b.from, strings.Compare(a.key, b.key)) })
	return fields
}

// members gives a table's fields by name and warns of unknown ones. If an unknown name resembles a known one that is
// missing, it is a mistake, and its value is read as that one's.
func (v value) members(known ...string) map[string]value {
	m := map[string]value{}
	var unknown []value
	for _, f := range v.fields() {
		if name := f.key[len(v.key)+1:]; slices.Contains(known, name) {
			m[name] = f
		} else {
			unknown = append(unknown, f)
		}
	}
	for _, f := range unknown {
		meant := meantMember(f.key[len(v.key)+1:], known)
		if _, there := m[meant]; there || meant == "" {
			f.unknown(func() string { return didYouMean(meant) })
			continue
		}
		v.reader.mistake(f.position(), f.key, didYouMean(meant), "unknown key")
		m[meant] = f
	}
	return m
}

func (v value) boolean(to *bool) {
	b, ok := v.v.(bool)
	if !ok {
		h := ""
		switch strings.ToLower(fmt.Sprint(v.v)) {
		case "true", "yes", "on", "1":
			h = "write true"
		case "false", "no", "off", "0":
			h = "write false"
		}
		v.mistyped("a bool", h)
		return
	}
	*to = b
}

func (v value) integer(least, most int64) (int64, bool) {
	n, ok := v.v.(int64)
	if !ok {
		h := ""
		if s, ok := v.v.(string); ok {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= least && n <= most {
				h = fmt.Sprintf("write %d", n)
			}
		}
		v.mistyped("an integer", h)
		return 0, false
	}
	if n < least || n > most {
		v.mistake("", "%d: want %d to %d", n, least, most)
		return 0, false
	}
	return n, true
}

// number is an integer or a float.
func (v value) number() (f float64, ok bool) {
	switch x := v.v.(type) {
	case int64:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

func (v value) seconds(to *time.Duration) {
	s, ok := v.number()
	if !ok {
		h := ""
		if text, ok := v.v.(string); ok {
			if d, err := time.ParseDuration(text); err == nil && d > 0 {
				h = fmt.Sprintf("write %v", d.Seconds())
			} else if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 {
				h = fmt.Sprintf("write %v", n)
			}
		}
		v.mistyped("a number of seconds", h)
		return
	}
	d := time.Duration(math.Round(s * float64(time.Second)))
	if math.IsNaN(s) || s <= 0 || s > maxSeconds || d <= 0 {
		v.mistake("", "%v: want seconds, more than 0 and at most %d", v.v, int64(maxSeconds))
		return
	}
	*to = d
}

func (v value) size(to *int64, least int64) {
	var n int64
	switch x := v.v.(type) {
	case int64:
		n = x
		if n > 0 && n < least {
			v.mistake(fmt.Sprintf("a number alone is bytes; write \"%dm\"", n), "%d: want at least %s", n, units.BytesSize(float64(least)))
			return
		}
		if n < 1 || n > maxBytes {
			v.mistake("", "%d: want more than 0 and at most %s", n, units.BytesSize(maxBytes))
			return
		}
	case string:
		s, ok := v.str()
		if !ok {
			return
		}
		var err error
		if n, err = parseSize(s, least); err != nil {
			v.bad(s, err)
			return
		}
	default:
		v.mistyped(`a size such as "512m"`, "")
		return
	}
	*to = n
}

func (v value) signal(to *string, parse func(string) (string, error)) {
	if n, ok := v.v.(int64); ok {
		v.v = strconv.FormatInt(n, 10)
	}
	scalar(v, to, parse)
}

// pairs reads a copy list.
func (v value) pairs(src, dst func(string) (string, error)) []CopyPair {
	example := `{src = "…", dst = "…"}`
	if s, ok := v.v.(string); ok {
		example = examplePair(v.key, s)
	}
	elements, ok := v.elements("an array of {src, dst}", "write ["+example+"]")
	if !ok {
		return nil
	}
	var pairs []CopyPair
	seen := map[string]bool{}
	for _, e := range elements {
		if _, ok := e.v.(*table); !ok {
			h := ""
			if s, ok := e.v.(string); ok {
				h = "write " + examplePair(v.key, s)
			}
			e.mistyped("a table {src, dst}", h)
			continue
		}
		m := e.members("src", "dst")
		var p CopyPair
		for _, end := range []struct {
			name  string
			to    *string
			parse func(string) (string, error)
		}{{"src", &p.Src, src}, {"dst", &p.Dst, dst}} {
			f, ok := m[end.name]
			if !ok {
				e.mistake("", "%s is missing", end.name)
				continue
			}
			scalar(f, end.to, end.parse)
		}
		if p.Src == "" || p.Dst == "" {
			continue
		}
		if strings.HasSuffix(p.Dst, "/") {
			p.Dst += path.Base(p.Src)
			if err := CheckLength(p.Dst); err != nil {
				m["dst"].bad(p.Dst, err)
				continue
			}
		}
		if seen[p.Dst] {
			m["dst"].mistake("", "%s: is the dst of two copies", quote(p.Dst))
			continue
		}
		seen[p.Dst] = true
		m["src"].located(p.Src)
		m["dst"].located(p.Dst)
		pairs = append(pairs, p)
	}
	return pairs
}

// located notes where one end of a copy stands, and warns of wildcards in it.
func (v value) located(name string) {
	v.config.at[v.key+" "+name] = v.position()
	if i := strings.IndexAny(name, "*?["); i >= 0 && (name[i] != '[' || strings.Contains(name[i:], "]")) {
		v.warn(v.position(), v.key, "copy the directory", "%s: wildcards aren't known here: it names one file", quote(name))
	}
}

// examplePair guesses which pair was meant by a lone file name in a copy list.
func examplePair(key, name string) string {
	inSlot, inContainer := name, path.Join(defaultWorkdir, name)
	if strings.HasPrefix(name, "/") {
		inSlot, inContainer = path.Base(name), name
	}
	if key == "copy_to_container" {
		return fmt.Sprintf("{src = %s, dst = %s}", quote(inSlot), quote(inContainer))
	}
	return fmt.Sprintf("{src = %s, dst = %s}", quote(inContainer), quote(inSlot))
}

func (v value) images() []ImageChoice {
	elements, ok := v.elements("an array of images", "")
	if !ok {
		return nil
	}
	var images []ImageChoice
	for _, e := range elements {
		var choice ImageChoice
		switch e.v.(type) {
		case string:
			scalar(e, &choice.Image, imageReference)
		case *table:
			m := e.members("image", "archive")
			image, hasImage := m["image"]
			archive, hasArchive := m["archive"]
			switch {
			case hasImage == hasArchive:
				e.mistake("", "want either image or archive")
			case hasImage:
				scalar(image, &choice.Image, imageReference)
			default:
				scalar(archive, &choice.Archive, slotName)
			}
		default:
			e.mistyped("a string, {image} or {archive}", "")
		}
		if choice != (ImageChoice{}) {
			images = append(images, choice)
		}
	}
	return images
}

func (v value) environment(c *Config) {
	name := unquoteKey(strings.TrimPrefix(v.key, "env."))
	if err := checkEnvName(name); err != nil {
		v.mistake("", "%s", err)
		return
	}
	if _, ok := v.v.(string); !ok && isKey(name) {
		v.mistyped("a string", name+" is a key of its own; write it above the first [table]")
		return
	}
	s, ok := v.str()
	if !ok {
		return
	}
	if c.Env == nil {
		c.Env = map[string]string{}
	}
	c.Env[name] = s
}

// anArgument reads an argument of the container's program.
func anArgument(s string) (string, error) {
	if len(s) > MaxArgument {
		return "", fmt.Errorf("is longer than %d bytes, which Linux allows an argument", MaxArgument)
	}
	return s, nil
}

func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = strconv.Quote(w)
		}
		last := len(words) - 1
		return "", hint(didYouMean(nearest(s, words)), "want %s or %s", strings.Join(quoted[:last], ", "), quoted[last])
	}
}

// CheckLength refuses a path that is too long for the kernel, or would be with its directory in front.
func CheckLength(s string) error {
	if len(s) > maxPath {
		return fmt.Errorf("is a path of more than %d bytes", maxPath)
	}
	for part := range strings.SplitSeq(s, "/") {
		if len(part) > maxPathPart {
			return fmt.Errorf("has a name of more than %d bytes in it", maxPathPart)
		}
	}
	return nil
}

// containerPath reads an absolute path and drops a slash at its end.
func containerPath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", errors.New("want an absolute path in the container")
	}
	if escapes(s[1:]) {
		return "", errors.New("is outside the container's root")
	}
	clean := path.Clean(s)
	if s != clean && s != clean+"/" {
		return "", hint("write "+quote(clean), "want a path without \"..\", \".\" and \"//\"")
	}
	return clean, CheckLength(clean)
}

// escapes reports whether a relative path leaves the directory it starts in.
func escapes(s string) bool {
	clean := path.Clean(s)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return true
	}
	depth := 0
	for part := range strings.SplitSeq(s, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

func mountPoint(s string) (string, error) {
	p, err := containerPath(s)
	if p == "/" {
		return "", errors.New("would hide the whole image")
	}
	return p, err
}

// copyInto keeps a slash at the end: it means "into this directory".
func copyInto(s string) (string, error) {
	p, err := containerPath(s)
	if err == nil && strings.HasSuffix(s, "/") && p != "/" {
		p += "/"
	}
	return p, err
}

func copySource(s string) (string, error) {
	p, err := containerPath(s)
	if p == "/" {
		return "", errors.New("would copy the whole container")
	}
	return p, err
}

// slotName reads a path inside the slot. Paths of the client's and the wrapper's own files are refused.
func slotName(s string) (string, error) {
	switch {
	case strings.HasPrefix(s, "/") || isDrive(s):
		return "", errors.New("want a name in the slot, got an absolute path")
	case strings.Contains(s, `\`):
		return "", hint("write "+quote(strings.ReplaceAll(s, `\`, "/")), "contains a backslash")
	case strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "", errors.New("contains a control character")
	case escapes(s):
		return "", errors.New("is outside the slot")
	case path.Clean(s) == ".":
		return "", errors.New("want a name in the slot, got the slot itself")
	case path.Clean(s) != s:
		return "", hint("write "+quote(path.Clean(s)), "want a path without \"..\", \".\" and \"//\"")
	case Reserved(s):
		return "", errors.New("belongs to BOINC or to the wrapper")
	}
	return s, CheckLength(s)
}

func slotNameOrContainerPath(s string) (string, error) {
	if strings.HasPrefix(s, "/") {
		return copySource(s)
	}
	return slotName(s)
}

func isDrive(s string) bool {
	return len(s) >= 2 && s[1] == ':' && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z')
}

func userID(s string) (string, error) {
	if s == "auto" || s == "image" {
		return s, nil
	}
	uid, gid, both := strings.Cut(s, ":")
	for _, id := range []string{uid, gid} {
		n, err := strconv.ParseUint(id, 10, 64)
		if id == gid && !both {
			break
		}
		if err != nil || n > maxID || id[0] == '+' {
			return "", errors.New(`want "auto", "image" or numbers UID[:GID]`)
		}
	}
	return s, nil
}
