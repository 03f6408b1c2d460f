package engine

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"boincdocker/docker_wrapper/internal/job"
)

// base is an image that a Dockerfile starts from or copies out of, and where it says so.
type base struct {
	line int
	step string // as written
	name string // variables expanded

	platform string // as FROM has it; "" for the build's
}

// strangers finds out what a Dockerfile asks for that isn't for a job whose files aren't signed, or whose build has no
// network. Of one that isn't signed it lists the images that the engine fetches. What can't be known before it runs is refused.
func strangers(result *parser.Result, text []byte, s job.Source) ([]base, error) {
	r := &refuser{s: s, lex: shell.NewLex(result.EscapeToken), stages: []string{"scratch"}, args: variables{values: map[string]string{}}}
	if _, syntax, at, ok := parser.DetectSyntax(text); ok && !ownSyntax.MatchString(syntax) {
		r.refuse(at[0].Start.Line, "syntax="+syntax, "a Dockerfile of another kind")
	}
	if _, ok := s.Build.Args["BUILDKIT_SYNTAX"]; ok {
		r.err = &ImageError{Image: s.Name, Reason: "build_args: BUILDKIT_SYNTAX" + r.rule()}
	}
	for _, n := range result.AST.Children {
		if r.step(n, n); r.err != nil {
			return nil, r.err
		}
	}
	return r.bases, r.err
}

// maxStep is how many bytes a step may have. The builders of older engines read no longer lines.
const maxStep = 60_000

// strangersMark follows each FROM of a Dockerfile that isn't signed. A builder takes a step from its cache that follows on the same
// steps, so it takes none of these for a signed job's.
const strangersMark = "LABEL boinc.unsigned=1"

// plainDockerfile writes a Dockerfile anew that strangers has looked at: each step is one line, without directives, comments and
// continued lines. Builders differ in how they read those. What one of them takes for a comment or a part of a step, another
// may take for a step of its own, which has not been looked at.
func plainDockerfile(result *parser.Result, text []byte, s job.Source) ([]byte, error) {
	bad := func(n *parser.Node, reason string) error {
		return &ImageError{Image: s.Name, Step: fmt.Sprintf("%s:%d: %s", s.Dockerfile, n.StartLine, brief(n.Original)), Reason: reason}
	}
	if result.EscapeToken != '\\' {
		return nil, &ImageError{Image: s.Name, Reason: s.Dockerfile + ": an escape directive is not for a job whose files aren't signed, or whose build has no network"}
	}
	var out bytes.Buffer
	if _, syntax, _, ok := parser.DetectSyntax(text); ok {
		fmt.Fprintf(&out, "# syntax=%s\n", syntax)
	}
	for _, n := range result.AST.Children {
		line := strings.TrimRight(n.Original, " \t\r\n")
		switch {
		case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return nil, bad(n, "control characters in a step")
		case strings.HasSuffix(line, "\\"), strings.HasPrefix(strings.TrimLeft(line, " \t"), "#"):
			return nil, bad(n, "a step that builders read in different ways")
		case len(line) > maxStep:
			return nil, bad(n, fmt.Sprintf("a step of more than %d bytes", maxStep))
		}
		out.WriteString(line + "\n")
		for _, h := range n.Heredocs {
			out.WriteString(h.Content)
			if h.Content != "" && !strings.HasSuffix(h.Content, "\n") {
				out.WriteByte('\n')
			}
			out.WriteString(h.Name + "\n")
		}
		if s.Unsigned && strings.EqualFold(n.Value, "from") {
			out.WriteString(strangersMark + "\n")
		}
	}
	return out.Bytes(), nil
}

// refuser walks over a Dockerfile up to the first thing that it refuses.
type refuser struct {
	s      job.Source
	lex    *shell.Lex
	stages []string  // names so far, in lower case
	args   variables // ARG before the first FROM
	bases  []base
	err    error
}

func (r *refuser) rule() string {
	if r.s.Unsigned {
		return ": not for a job whose files aren't signed"
	}
	return ": not for a job whose build has no network"
}

func (r *refuser) refuse(line int, step, format string, args ...any) {
	if r.err == nil {
		r.err = &ImageError{Image: r.s.Name, Step: fmt.Sprintf("%s:%d: %s", r.s.Dockerfile, line, brief(step)), Reason: brief(fmt.Sprintf(format, args...)) + r.rule()}
	}
}

// step looks at an instruction. at is the line that it stands in: of a trigger, ONBUILD's.
func (r *refuser) step(n, at *parser.Node) {
	refuse := func(format string, args ...any) { r.refuse(at.StartLine, at.Original, format, args...) }
	flag := func(name string) (values []string) {
		for _, f := range n.Flags {
			if v, ok := strings.CutPrefix(f, "--"+name+"="); ok {
				values = append(values, v)
			} else if low := strings.ToLower(f); low == "--"+name || strings.HasPrefix(low, "--"+name+"=") {
				refuse("%s", f)
			}
		}
		return values
	}
	switch strings.ToLower(n.Value) {
	case "onbuild":
		for w := n.Next; w != nil; w = w.Next {
			for _, c := range w.Children {
				if strings.EqualFold(c.Value, "add") {
					refuse("ADD by a later build")
				}
				r.step(c, at)
			}
		}
	case "arg":
		if len(r.stages) > 1 {
			return // only those before the first FROM stand for parts of its image's name
		}
		for w := n.Next; w != nil; w = w.Next {
			name, value, _ := strings.Cut(w.Value, "=")
			value, ok := r.expand(value)
			if given := r.s.Build.Args[name]; given != nil {
				value, ok = *given, true
			}
			if delete(r.args.values, name); ok {
				r.args.set(name, value)
			}
		}
	case "from":
		r.from(n)
	case "add":
		flag("from")
		for w := n.Next; w != nil && w.Next != nil; w = w.Next { // the last is where it goes
			// What a variable stands for may come from the image that the build starts from.
			if strings.Contains(w.Value, "$") {
				refuse("ADD with a variable (COPY may have one)")
				return
			}
			word, _, err := r.lex.ProcessWord(w.Value, shell.EnvsFromSlice(nil))
			if err != nil || remote.MatchString(word) || remote.MatchString(w.Value) {
				refuse("%s is fetched by the engine, which reaches more than the job", w.Value)
				return
			}
		}
	case "copy":
		for _, from := range flag("from") {
			r.image(n, at, from)
		}
	case "run":
		for _, f := range n.Flags {
			name, value, _ := strings.Cut(f, "=")
			switch {
			case name == "--network" && value == "none", name != "--network" && !r.s.Unsigned:
			case name == "--mount":
				r.mount(n, at, value)
			default:
				refuse("RUN with %s", f)
			}
		}
	}
}

// from takes up the image that a stage begins with, and the stage's name.
func (r *refuser) from(n *parser.Node) {
	if n.Next == nil {
		return // the builder finds out
	}
	name, known := r.expand(n.Next.Value)
	if !known && r.s.Unsigned {
		r.refuse(n.StartLine, n.Original, "FROM %s can't be told before it is built", n.Next.Value)
	}
	before := len(r.bases)
	if r.image(n, n, name); len(r.bases) > before {
		platform := r.platform(n)
		if slices.ContainsFunc(r.bases[:before], func(b base) bool { return b.name == name && b.platform != platform }) {
			r.refuse(n.StartLine, n.Original, "%s for two platforms", name)
		}
		r.bases[before].platform = platform
	}
	stage := "\x00" // none that can be written
	if as := n.Next.Next; as != nil && as.Next != nil {
		stage = strings.ToLower(as.Next.Value)
		if !stageName.MatchString(stage) && r.s.Unsigned {
			r.refuse(n.StartLine, n.Original, "%s is no stage's name", as.Next.Value)
		}
	}
	r.stages = append(r.stages, stage)
}

// platform is what FROM's flag says, where that is known.
func (r *refuser) platform(n *parser.Node) string {
	for _, f := range n.Flags {
		switch value, ok := strings.CutPrefix(f, "--platform="); {
		case ok && platformText.MatchString(value):
			return value
		case ok && ownPlatform.MatchString(value) && !r.sets("BUILDPLATFORM") && !r.sets("TARGETPLATFORM"):
		default:
			r.refuse(n.StartLine, n.Original, "FROM with %s", f)
		}
	}
	return ""
}

// sets reports whether the Dockerfile or job.toml gives a value to a variable.
func (r *refuser) sets(name string) bool {
	_, here := r.args.values[name]
	_, given := r.s.Build.Args[name]
	return here || given
}

var (
	platformText = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?$`)
	ownPlatform  = regexp.MustCompile(`^\$(\{(BUILD|TARGET)PLATFORM\}|(BUILD|TARGET)PLATFORM)$`)
)

var number = regexp.MustCompile(`^[+-]?\d+$`)

// As BuildKit's parseBuildStageName has it; other builders take anything.
var stageName = regexp.MustCompile(`^[a-z][a-z0-9-_.]*$`)

// image takes up what a Dockerfile calls an image or a stage.
func (r *refuser) image(n, at *parser.Node, name string) {
	if !r.s.Unsigned {
		return
	}
	stages, isFrom := r.stages, strings.EqualFold(n.Value, "from")
	if !isFrom && len(stages) > 1 {
		stages = stages[:len(stages)-1] // in itself a stage's name is an image's
	}
	if slices.Contains(stages, strings.ToLower(name)) {
		return
	}
	if number.MatchString(name) && !isFrom {
		if i, err := strconv.Atoi(name); err != nil || i < 0 || i >= len(stages)-1 || strconv.Itoa(i) != name { // the first is scratch
			r.refuse(at.StartLine, at.Original, "%s is no stage before this one", name)
		}
		return
	}
	if _, err := job.Registry(name); err != nil {
		r.refuse(at.StartLine, at.Original, "%s: %v", name, err)
		return
	}
	r.bases = append(r.bases, base{line: at.StartLine, step: at.Original, name: name})
}

// mount looks at what RUN mounts. A cache is shared by all builds: it could plant files in another job's image. Secrets and
// ssh agents are given by builders' clients, and this one gives none.
func (r *refuser) mount(n, at *parser.Node, value string) {
	if !r.s.Unsigned {
		return
	}
	if !plainMount.MatchString(value) {
		r.refuse(at.StartLine, at.Original, "RUN with --mount=%s, which can't be told before it is built", value)
		return
	}
	for field := range strings.SplitSeq(value, ",") {
		key, v, _ := strings.Cut(field, "=")
		switch strings.ToLower(key) {
		case "type":
			if !slices.Contains([]string{"bind", "tmpfs", "secret", "ssh"}, v) {
				r.refuse(at.StartLine, at.Original, "RUN with a mount of type %s, which builds share", v)
			}
		case "from":
			r.image(n, at, v)
		}
	}
}

// plainMount has nothing that a builder expands, quotes or cuts otherwise.
var plainMount = regexp.MustCompile(`^[\w.:/@\[\]=,+~-]+$`)

// expand gives what a word of FROM, or of ARG before it, stands for. ok is whether that is known.
func (r *refuser) expand(word string) (string, bool) {
	if !strings.ContainsAny(word, `$"'\`+"`") {
		return word, true
	}
	if r.args.check(word) != nil {
		return "", false
	}
	out, unknown, err := r.lex.ProcessWord(word, &r.args)
	return out, err == nil && len(unknown) == 0
}

// brief cuts what is quoted of a Dockerfile.
func brief(s string) string {
	const most = 200 // bytes
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// lookUpPatience is how long a registry's addresses are waited for. Where they aren't found, the engine doesn't find them
// either, or it has a proxy that does.
const lookUpPatience = 5 * time.Second

// publicRegistry reports a registry in the volunteer's own network. What the reference itself says is the job's fault; where
// a public name leads may be the network's, as before a login page, and is ErrNetwork.
func (e *Engine) publicRegistry(ctx context.Context, reference string) error {
	host, err := job.Registry(reference)
	if err != nil {
		return err
	}
	if host == job.Hub {
		return nil // only the computer's owner can make this name lead elsewhere
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpPatience)
	defer cancel()
	addresses, _ := e.lookUp(ctx, host)
	for _, a := range addresses {
		if !job.PublicAddr(a) {
			return fmt.Errorf("%w: the registry %s is at %s, which is no public address: not for a job whose files aren't signed", ErrNetwork, host, a)
		}
	}
	return nil
}

// fetchBases gets the images that a stranger's Dockerfile names before the builder does, which would fetch them from anywhere.
// Those with triggers (ONBUILD) are refused: what these do has not been looked at.
func (e *Engine) fetchBases(ctx context.Context, im job.Image, s job.Source, b *buildContext) error {
	for _, f := range b.fetched {
		bad := func(reason string) error {
			return &ImageError{Image: s.Name, Step: fmt.Sprintf("%s:%d: %s", s.Dockerfile, f.line, brief(f.step)), Reason: reason}
		}
		if err := e.publicRegistry(ctx, f.name); errors.Is(err, ErrNetwork) {
			return fmt.Errorf("pull %s: %w", f.name, err)
		} else if err != nil {
			return bad(err.Error())
		}
		in, err := e.inspectImage(ctx, f.name)
		absent, platform := errors.Is(err, ErrNotFound), cmp.Or(f.platform, s.Build.Platform)
		if absent || err == nil && (s.Build.Pull || platform != "") {
			if err := e.pullAs(ctx, f.name, platform); err != nil {
				return imageError("pull "+f.name, s, err)
			}
			in, err = e.inspectImage(ctx, f.name)
		}
		if err != nil {
			return fmt.Errorf("look for image %s: %w", f.name, err)
		}
		if absent && im.Collect != nil {
			e.got(ctx, im, job.Got{Host: e.Info.Host, Name: f.name, Used: now()}, in.ID)
		}
		triggers := in.Config != nil && len(in.Config.OnBuild) > 0
		if e.Info.quirks.hidesTriggers {
			if triggers, err = e.savedTriggers(ctx, in.ID); errors.Is(err, errConfiguration) {
				return bad(f.name + ": " + err.Error())
			} else if err != nil {
				return fmt.Errorf("look for triggers of image %s: %w", f.name, err)
			}
		}
		if triggers {
			return bad(f.name + " has triggers (ONBUILD): not for a job whose files aren't signed")
		}
	}
	return nil
}

// errConfiguration: an image's maker has written something into it that no builder writes.
var errConfiguration = errors.New("its configuration can't be read")

// savedTriggers reports whether an image has triggers, by its configuration in an archive of it: an engine that doesn't
// tell of them carries them out.
func (e *Engine) savedTriggers(ctx context.Context, id string) (bool, error) {
	archive, err := e.api.ImageSave(ctx, []string{id})
	if err != nil {
		return false, wrap(err)
	}
	defer archive.Close()
	seen := false
	for tr := tar.NewReader(archive); ; {
		h, err := tr.Next()
		switch {
		case err == io.EOF && !seen:
			return false, errConfiguration
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, wrap(err)
		case h.Typeflag != tar.TypeReg || !strings.HasSuffix(h.Name, ".json") || h.Name == "manifest.json":
			continue
		}
		var config struct {
			Config struct{ OnBuild []string } `json:"config"`
			RootFS *struct{}                  `json:"rootfs"`
		}
		if err := json.NewDecoder(io.LimitReader(tr, maxManifest)).Decode(&config); err != nil {
			return false, fmt.Errorf("%w: %w", errConfiguration, err)
		}
		if seen = seen || config.RootFS != nil; len(config.Config.OnBuild) > 0 {
			return true, nil
		}
	}
}

// hasSyntax reports whether a Dockerfile names the program that BuildKit reads it with: Docker's own, or it was refused.
func hasSyntax(text []byte) bool {
	_, _, _, ok := parser.DetectSyntax(text)
	return ok
}

// hasHeredocs reports whether a Dockerfile has scripts in it that only some builders know: others take each of their lines for
// an instruction of its own, which has not been looked at.
func hasHeredocs(result *parser.Result) bool {
	return slices.ContainsFunc(result.AST.Children, func(n *parser.Node) bool { return len(n.Heredocs) > 0 })
}

var (
	// What ADD fetches: a URL, or a Git repository as ssh names it. BuildKit's gitutil has the pattern.
	remote = regexp.MustCompile(`://|^[\w-]+@[\w.-]+:`)

	// Another program in the place of the Dockerfile's reader could fetch what it likes.
	// Those before 1.4 know no heredocs.
	ownSyntax = regexp.MustCompile(`^(docker\.io/)?docker/dockerfile(:1(\.([4-9]|[1-9]\d)(\.\d+)?)?)?$`)
)

// Bounds of a Dockerfile and of what it copies. They come from a stranger, and what makes sense of them may need many times as
// much memory, and time. Each is beyond what any builder makes a useful image of.
const (
	maxDockerfile = 512 << 10 // bytes; scripts stand in heredocs
	maxLines      = 20_000
	maxBraces     = 2_000     // "${" in a step: each may be inside the one before
	maxTriggers   = 100       // ONBUILD: each may be inside the one before
	maxExpanded   = 256 << 10 // bytes of a word with its variables' values
	maxWork       = 64 << 20  // bytes of all words with their values, and of patterns times what they are looked for in
	maxSources    = 1_000     // what COPY and ADD name
	maxPattern    = 4_096     // bytes of one; systems take no longer path
	maxVisited    = 200_000   // files and directories that are looked at for it; each as often as it is named
	maxIgnore     = 64 << 10  // bytes of .dockerignore
	maxIgnored    = 1_000     // patterns in it
	maxMatching   = 64 << 20  // bytes of its wildcards times bytes of the names that they are matched with
)

// parseDockerfile reads the instructions of a Dockerfile within its bounds.
func parseDockerfile(text []byte) (*parser.Result, error) {
	for _, b := range []struct {
		what string
		most int
		got  int
	}{
		{"bytes", maxDockerfile, len(text)},
		{"lines", maxLines, bytes.Count(text, []byte("\n"))},
		{`times "${" in a step`, maxBraces, braces(text)},
		{"times ONBUILD", maxTriggers, len(onbuild.FindAllIndex(text, maxTriggers+1))},
	} {
		if b.got > b.most {
			return nil, fmt.Errorf("has more than %d %s", b.most, b.what)
		}
	}
	return parser.Parse(bytes.NewReader(text))
}

// braces is the most "${" that a step has, with the lines that it goes on in.
func braces(text []byte) (most int) {
	n := 0
	for line := range bytes.Lines(text) {
		n += bytes.Count(line, []byte("${"))
		most = max(most, n)
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.ContainsAny(line[len(line)-1:], "\\`") {
			n = 0
		}
	}
	return most
}

// onbuild finds the word, also where a line is continued inside it.
var onbuild = regexp.MustCompile("(?i)o[\\\\`\\s]*n[\\\\`\\s]*b[\\\\`\\s]*u[\\\\`\\s]*i[\\\\`\\s]*l[\\\\`\\s]*d")

// variables are what words of a stage may refer to.
type variables struct {
	values  map[string]string
	longest int // bytes of the longest value so far
	work    int // of maxWork
}

// Get makes variables a [shell.EnvGetter].
func (v *variables) Get(name string) (string, bool) { value, ok := v.values[name]; return value, ok }

// Keys makes variables a [shell.EnvGetter].
func (v *variables) Keys() []string { return nil }

// patterned finds a variable that is changed on its way: `${A#x}`, `${A%x}`, `${A/x/y}`.
var patterned = regexp.MustCompile(`\$\{\w+[#%/]`)

// check refuses a word before it is expanded that could become a bomb.
func (v *variables) check(word string) error {
	most := len(word) + strings.Count(word, "$")*v.longest
	if patterned.MatchString(word) {
		most = len(word) * max(v.longest, 1)
	}
	if v.work += most; most > maxExpanded || v.work > maxWork {
		return fmt.Errorf("variables come to more than %d KiB: %s", maxExpanded>>10, brief(word))
	}
	return nil
}

// set gives a variable its value.
func (v *variables) set(name, value string) {
	v.values[name] = value
	v.longest = max(v.longest, len(value))
}
