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

// strangers checks a Dockerfile of an unsigned job, or of a build without network, and returns an error for what such a job
// may not do. It refuses what isn't known before the build. For an unsigned job it lists the images that the engine fetches.
func strangers(result *parser.Result, text []byte, s job.Source) ([]base, error) {
	r := &refuser{s: s, lex: shell.NewLex(result.EscapeToken), stages: []string{"scratch"}, args: newVariables()}
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

// maxStep is the most bytes of a step. The builders of older engines read no longer lines.
const maxStep = 60_000

// strangersMark follows each FROM of an unsigned Dockerfile. A builder's cache finds a step by the steps before it, so a signed
// job's build never finds a step of an unsigned one.
const strangersMark = "LABEL boinc.unsigned=1"

// plainDockerfile rewrites a Dockerfile that strangers has checked: each step is one line, without directives, comments and
// continued lines. Builders read those differently. What one builder reads as a comment or a part of a step, another may
// execute as a step of its own, which has not been checked.
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
	stages []string  // names of the stages so far, in lower case
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

// step checks an instruction. at is the node with its line: for a trigger, that of ONBUILD.
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
			return // only an ARG before the first FROM can be part of a base image's name
		}
		for w := n.Next; w != nil; w = w.Next {
			name, value, _ := strings.Cut(w.Value, "=")
			value, ok := r.expand(value)
			if given := r.s.Build.Args[name]; given != nil {
				value, ok = *given, true
			}
			r.args.put(name, value, ok, false)
		}
	case "from":
		r.from(n)
	case "add":
		flag("from")
		for w := n.Next; w != nil && w.Next != nil; w = w.Next { // the last is where it goes
			// The variable's value may come from the base image.
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

// from checks and records the base image of a stage and the stage's name.
func (r *refuser) from(n *parser.Node) {
	if n.Next == nil {
		return // the builder reports the mistake
	}
	name, known := r.expand(n.Next.Value)
	if !known && r.s.Unsigned {
		r.refuse(n.StartLine, n.Original, "FROM %s isn't known before the build", n.Next.Value)
	}
	before := len(r.bases)
	if r.image(n, n, name); len(r.bases) > before {
		platform := r.platform(n)
		if slices.ContainsFunc(r.bases[:before], func(b base) bool { return b.name == name && b.platform != platform }) {
			r.refuse(n.StartLine, n.Original, "%s for two platforms", name)
		}
		r.bases[before].platform = platform
	}
	stage := "\x00" // no Dockerfile can contain this name
	if as := n.Next.Next; as != nil && as.Next != nil {
		stage = strings.ToLower(as.Next.Value)
		if !stageName.MatchString(stage) && r.s.Unsigned {
			r.refuse(n.StartLine, n.Original, "%s is no stage's name", as.Next.Value)
		}
	}
	r.stages = append(r.stages, stage)
}

// platform is the value of FROM's flag.
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

// As in BuildKit's parseBuildStageName; other builders accept any name.
var stageName = regexp.MustCompile(`^[a-z][a-z0-9-_.]*$`)

// image records the image that a name refers to, unless it is a stage.
func (r *refuser) image(n, at *parser.Node, name string) {
	if !r.s.Unsigned {
		return
	}
	stages, isFrom := r.stages, strings.EqualFold(n.Value, "from")
	if !isFrom && len(stages) > 1 {
		stages = stages[:len(stages)-1] // inside a stage, its own name is an image's
	}
	if slices.Contains(stages, strings.ToLower(name)) {
		return
	}
	if number.MatchString(name) && !isFrom {
		if i, err := strconv.Atoi(name); err != nil || i < 0 || i >= len(stages)-1 || strconv.Itoa(i) != name { // index 0 of stages is scratch
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

// mount checks a mount of RUN. All builds share a cache mount, so it could put files into another job's image. Secrets and
// ssh agents come from the builder's client, and this program provides none.
func (r *refuser) mount(n, at *parser.Node, value string) {
	if !r.s.Unsigned {
		return
	}
	if !plainMount.MatchString(value) {
		r.refuse(at.StartLine, at.Original, "RUN with --mount=%s, which isn't known before the build", value)
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

// plainMount matches a value that all builders read alike, without variables and quotes.
var plainMount = regexp.MustCompile(`^[\w.:/@\[\]=,+~-]+$`)

// expand expands the variables in a word of FROM, or of ARG before it. ok is whether all values are known.
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

// brief shortens a quotation of a Dockerfile.
func brief(s string) string {
	const most = 200 // bytes
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// lookUpPatience is the longest that looking up a registry may take. When it isn't found, the engine doesn't find it either, or
// it has a proxy that does.
const lookUpPatience = 5 * time.Second

// publicRegistry returns an error for a registry in the volunteer's own network. An address in the reference itself is the
// job's fault. A public name that leads there is ErrNetwork, since the network may do that, as before a login page.
func (e *Engine) publicRegistry(ctx context.Context, reference string) error {
	host, err := job.Registry(reference)
	if err != nil {
		return err
	}
	if host == job.Hub {
		return nil // only the owner can make this name lead elsewhere
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

// fetchBases pulls the images that an unsigned Dockerfile names, from public registries only. The builder would pull them from
// any registry. It refuses images with triggers (ONBUILD), which strangers hasn't checked.
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
		var triggers []string
		if in.Config != nil {
			triggers = in.Config.OnBuild
		}
		if e.Info.quirks.hidesTriggers {
			if triggers, err = e.savedTriggers(ctx, in.ID); errors.Is(err, errConfiguration) {
				return bad(f.name + ": " + err.Error())
			} else if err != nil {
				return fmt.Errorf("look for triggers of image %s: %w", f.name, err)
			}
		}
		if len(triggers) > 0 {
			return bad(f.name + " has triggers (ONBUILD): not for a job whose files aren't signed")
		}
	}
	return nil
}

// errConfiguration: the image's configuration isn't one that a builder writes.
var errConfiguration = errors.New("its configuration can't be read")

// savedTriggers are the triggers of an image. It reads the configuration in an archive that the engine saves, for
// engines that execute triggers but don't show them.
func (e *Engine) savedTriggers(ctx context.Context, id string) ([]string, error) {
	archive, err := e.api.ImageSave(ctx, []string{id})
	if err != nil {
		return nil, wrap(err)
	}
	defer archive.Close()
	seen := false
	for tr := tar.NewReader(archive); ; {
		h, err := tr.Next()
		switch {
		case err == io.EOF && !seen:
			return nil, errConfiguration
		case err == io.EOF:
			return nil, nil
		case err != nil:
			return nil, wrap(err)
		case h.Typeflag != tar.TypeReg || !strings.HasSuffix(h.Name, ".json") || h.Name == "manifest.json":
			continue
		}
		var config struct {
			Config struct{ OnBuild []string } `json:"config"`
			RootFS *struct{}                  `json:"rootfs"`
		}
		if err := json.NewDecoder(io.LimitReader(tr, maxManifest)).Decode(&config); err != nil {
			return nil, fmt.Errorf("%w: %w", errConfiguration, err)
		}
		if seen = seen || config.RootFS != nil; len(config.Config.OnBuild) > 0 {
			return config.Config.OnBuild, nil
		}
	}
}

// hasSyntax reports whether a Dockerfile names BuildKit's frontend. strangers has refused all but Docker's own.
func hasSyntax(text []byte) bool {
	_, _, _, ok := parser.DetectSyntax(text)
	return ok
}

// hasHeredocs reports whether a Dockerfile contains heredocs. Builders that don't support them execute each of their lines as an
// instruction, which in an unsigned Dockerfile has not been checked.
func hasHeredocs(result *parser.Result) bool {
	return slices.ContainsFunc(result.AST.Children, func(n *parser.Node) bool { return len(n.Heredocs) > 0 })
}

var (
	// What ADD fetches: a URL, or a Git repository in ssh's form (the pattern is from BuildKit's gitutil).
	remote = regexp.MustCompile(`://|^[\w-]+@[\w.-]+:`)

	// The only frontend that is allowed: another program could fetch anything. Before 1.4 it doesn't support heredocs.
	ownSyntax = regexp.MustCompile(`^(docker\.io/)?docker/dockerfile(:1(\.([4-9]|[1-9]\d)(\.\d+)?)?)?$`)
)

// Bounds of a Dockerfile and of what it copies. Neither is trusted, and parsing them may need many times their size in memory
// and much time. No useful image needs more.
const (
	maxDockerfile = 512 << 10 // bytes; heredocs contain scripts
	maxLines      = 20_000
	maxBraces     = 2_000     // "${" in a step: each may be inside the one before
	maxTriggers   = 100       // ONBUILD: each may be inside the one before
	maxExpanded   = 256 << 10 // bytes of a word with its variables' values
	maxWork       = 64 << 20  // bytes of all expanded words, and of patterns times the values that they are matched with
	maxSources    = 1_000     // names in COPY and ADD
	maxPattern    = 4_096     // bytes of one; no path is longer (PATH_MAX)
	maxVisited    = 200_000   // files and directories that are visited, each as often as a pattern names it
	maxIgnore     = 64 << 10  // bytes of .dockerignore
	maxIgnored    = 1_000     // patterns in it
	maxMatching   = 64 << 20  // bytes of its wildcards times bytes of the names that they are matched with
)

// parseDockerfile reads the instructions of a Dockerfile, or fails when it exceeds its bounds.
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

// braces is the largest number of "${" in one step, continued lines included.
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

// onbuild matches the word ONBUILD, also with a line break inside.
var onbuild = regexp.MustCompile("(?i)o[\\\\`\\s]*n[\\\\`\\s]*b[\\\\`\\s]*u[\\\\`\\s]*i[\\\\`\\s]*l[\\\\`\\s]*d")

// variables are the variables of a stage.
type variables struct {
	values  map[string]string
	env     map[string]bool // those of ENV
	longest int             // bytes of the longest value so far
	work    int             // of maxWork
}

func newVariables() variables { return variables{values: map[string]string{}, env: map[string]bool{}} }

// fresh are variables without a value, and with what is left of the bounds.
func (v *variables) fresh() variables {
	next := newVariables()
	next.longest, next.work = v.longest, v.work
	return next
}

// Get makes variables a [shell.EnvGetter].
func (v *variables) Get(name string) (string, bool) { value, ok := v.values[name]; return value, ok }

// Keys makes variables a [shell.EnvGetter].
func (v *variables) Keys() []string { return nil }

// patterned matches a variable whose value is edited: `${A#x}`, `${A%x}`, `${A/x/y}`.
var patterned = regexp.MustCompile(`\$\{\w+[#%/]`)

// check returns an error for a word whose expansion could be too large.
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

// put gives a variable its value, or none.
func (v *variables) put(name, value string, known, env bool) {
	if !known {
		delete(v.values, name)
		delete(v.env, name)
		return
	}
	v.values[name] = value
	v.longest = max(v.longest, len(value))
	if env {
		v.env[name] = true
	}
}

// take is put for a variable of a base image or another stage.
func (v *variables) take(name, value string, env bool) error {
	const each = 512 // bytes that a variable takes, and its copies
	if v.work += each + len(value); v.work > maxWork {
		return fmt.Errorf("stages hand on more than %d MiB of variables", maxWork>>20)
	}
	v.put(name, value, true, env)
	return nil
}

// inherit takes the variables of a stage: those of ENV, and perhaps those of ARG.
func (v *variables) inherit(from *variables, args bool) error {
	for name, value := range from.values {
		if args || from.env[name] {
			if err := v.take(name, value, from.env[name]); err != nil {
				return err
			}
		}
	}
	return nil
}
