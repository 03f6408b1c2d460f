package engine

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"boincdocker/docker_wrapper/internal/job"
)

// builder is where builders read a Dockerfile differently. Measured with Docker 20.10 and 28.5, Podman 4.3 and 5.8.
type builder struct {
	buildKit   bool // it is BuildKit: also carries out what Docker's classic builder refuses or ignores
	heredocs   bool // reads heredocs
	skips      bool // carries out no stage that the wanted one doesn't need
	inherits   bool // a stage has the ARGs of the stage that it starts from
	argLast    bool // an ARG after an ENV of the same name replaces it; else ENV always wins
	argKept    bool // ARG NAME without a value keeps an earlier value of the stage
	argInTurn  bool // a value in ARG sees the values before it in the same step
	fromKnows  bool // FROM knows TARGETARCH and its like without ARG
	ownDefault bool // TARGETARCH and its like have the platform's value even where the Dockerfile gives a default
}

// The builders of Docker and Podman.
var (
	classic     = builder{}
	oldBuildKit = builder{buildKit: true, skips: true, inherits: true, argLast: true, argKept: true, fromKnows: true}
	newBuildKit = builder{buildKit: true, heredocs: true, skips: true, inherits: true, argLast: true, argKept: true, argInTurn: true, fromKnows: true}
	podman4     = builder{skips: true, argKept: true, ownDefault: true}
	podman5     = builder{heredocs: true, skips: true, inherits: true, argKept: true, fromKnows: true, ownDefault: true}
)

// site is what a build depends on beside its files.
type site struct {
	platform string // of the image, such as "linux/arm64"; "" for own
	own      string // of the engine
	builders []builder
	image    func(base) *baseConfig // nil when not known; the func may be nil
	final    bool                   // no more than this will be known of base images
}

// baseConfig is the part of a base image's configuration that decides what a Dockerfile copies.
type baseConfig struct{ env, triggers []string }

// base is an image that a Dockerfile starts from or copies out of, and the step that names it.
type base struct {
	line int
	step string // as written
	name string // variables expanded

	platform string // from FROM's flag; "" for the build's
}

// source is a name or pattern that a Dockerfile copies out of its context, and the step that does it.
type source struct {
	line  int
	step  string // as written
	word  string // as written
	name  string // slash-separated, variables expanded; "." for everything
	wild  bool   // has wildcards: may match nothing, when another source of the step matches something
	empty bool   // its variables are empty, so it is everything
}

// reading is what a builder makes of a Dockerfile.
type reading struct {
	sources  []source
	bases    []base            // images that it starts from or copies out of
	steps    bool              // it has steps that may use the network of the build
	fetches  bool              // the engine itself fetches what ADD names
	buildKit string            // the first step that Docker's classic builder refuses or ignores; "" for none
	args     map[string]string // platform arguments that it declares; not every builder sets them
	unsure   bool              // a base image isn't known, and may decide what is copied
}

// readAs reads a Dockerfile as builder k does.
func readAs(k builder, result *parser.Result, s job.Source, at site) (reading, error) {
	r := &reader{builder: k, s: s, at: at, lex: shell.NewLex(result.EscapeToken), platform: platformArgs(at),
		withDefault: map[string]bool{}, args: map[string]string{}, named: map[string]*stageReading{}, vars: newVariables()}
	for _, n := range result.AST.Children {
		for w := n.Next; w != nil && strings.EqualFold(n.Value, "arg"); w = w.Next {
			if name, _, ok := strings.Cut(w.Value, "="); ok {
				r.withDefault[name] = true
			}
		}
	}
	for _, n := range result.AST.Children {
		if err := r.step(n, n, n.Original); err != nil {
			return reading{}, fmt.Errorf("line %d: %w", n.StartLine, err)
		}
	}
	return r.result(), nil
}

// reader walks over a Dockerfile.
type reader struct {
	builder
	s           job.Source
	at          site
	lex         *shell.Lex
	platform    map[string]string // values of platform arguments
	withDefault map[string]bool   // arguments that the Dockerfile itself gives a value somewhere
	args        map[string]string // platform arguments that it declares
	global      map[string]string // ARG before the first FROM
	vars        variables         // of this stage
	stages      []*stageReading
	named       map[string]*stageReading // by name in lower case
	later       []assignment             // of a step whose words don't see each other's values
	sources     int                      // of maxSources
	triggers    int                      // of maxLines
}

type assignment struct {
	name, value string
	known       bool
}

// stageReading is what a builder makes of a stage.
type stageReading struct {
	reading
	name     string // in lower case
	needs    []*stageReading
	vars     variables
	triggers []*parser.Node
	known    bool // its base image's configuration is
}

// result puts together what the builder carries out: all stages up to the wanted one, or those which that needs.
func (r *reader) result() reading {
	wanted := r.stages
	for i, st := range r.stages {
		if r.s.Build.Target != "" && (st.name == strings.ToLower(r.s.Build.Target) || strconv.Itoa(i) == r.s.Build.Target) {
			wanted = r.stages[:i+1]
			break
		}
	}
	needed := map[*stageReading]bool{}
	var need func(*stageReading)
	need = func(st *stageReading) {
		if !needed[st] {
			needed[st] = true
			for _, other := range st.needs {
				need(other)
			}
		}
	}
	for i, st := range wanted {
		if !r.skips || i == len(wanted)-1 {
			need(st)
		}
	}
	all := reading{args: r.args}
	for _, st := range wanted {
		if needed[st] {
			all.sources = append(all.sources, st.sources...)
			all.bases = append(all.bases, st.bases...)
			all.steps = all.steps || st.steps
			all.fetches = all.fetches || st.fetches
			all.unsure = all.unsure || st.unsure
		}
		all.buildKit = cmp.Or(all.buildKit, st.buildKit)
	}
	return all
}

// step reads an instruction. at is the node that has its line, text what a message shows of it; both are others for a trigger.
func (r *reader) step(n, at *parser.Node, text string) error {
	var words []string
	for w := n.Next; w != nil; w = w.Next {
		words = append(words, w.Value)
	}
	what := strings.ToLower(n.Value)
	if what == "from" {
		return r.from(n, words)
	}
	if len(r.stages) == 0 {
		if what == "arg" {
			return r.arg(words)
		}
		return nil // the builder reports the mistake
	}
	st := r.stages[len(r.stages)-1]
	if len(n.Heredocs) > 0 {
		st.buildKit = cmp.Or(st.buildKit, text)
	}
	switch what {
	case "arg":
		return r.arg(words)
	case "env":
		return r.env(words)
	case "onbuild":
		for w := n.Next; w != nil; w = w.Next {
			st.triggers = append(st.triggers, w.Children...)
		}
	case "run":
		st.steps = true
		for _, f := range n.Flags {
			st.buildKit = cmp.Or(st.buildKit, text)
			if value, ok := strings.CutPrefix(f, "--mount="); ok {
				if err := r.mount(st, at, text, value); err != nil {
					return err
				}
			}
		}
	case "copy", "add":
		from := ""
		for _, f := range n.Flags {
			if value, ok := strings.CutPrefix(f, "--from="); ok {
				from = value
			} else if !strings.HasPrefix(f, "--chown=") {
				st.buildKit = cmp.Or(st.buildKit, text)
			}
		}
		if from != "" {
			r.refer(st, at, text, from)
			return nil
		}
		for _, w := range words[:max(len(words)-1, 0)] {
			if err := r.source(st, at, text, w, what == "add"); err != nil {
				return err
			}
		}
	}
	return nil
}

// Get makes reader a [shell.EnvGetter] for FROM, which sees the ARGs before the first FROM.
func (r *reader) Get(name string) (string, bool) {
	value, ok := r.global[name]
	if !ok && r.fromKnows {
		value, ok = r.platform[name]
	}
	return value, ok
}

// Keys makes reader a [shell.EnvGetter].
func (r *reader) Keys() []string { return nil }

// from begins a stage.
func (r *reader) from(n *parser.Node, words []string) error {
	if len(words) == 0 {
		words = []string{""} // the builder reports the mistake
	}
	if len(r.stages) == 0 {
		r.global = r.vars.values
	}
	r.vars = r.vars.fresh()
	b := base{line: n.StartLine, step: n.Original}
	st := &stageReading{}
	for _, word := range append(slices.Clone(n.Flags), words[0]) {
		for _, m := range platformVariable.FindAllStringSubmatch(word, -1) {
			if _, ok := r.Get(m[1]); !ok && len(r.at.builders) == 1 && word == words[0] {
				return fmt.Errorf("%s: this engine's builder knows %s in FROM only after a line ARG %s before the first FROM", brief(n.Original), m[1], m[1])
			}
			st.buildKit = cmp.Or(st.buildKit, n.Original)
		}
		out := word
		if err := r.vars.check(word); err != nil {
			return err
		} else if expanded, _, err := r.lex.ProcessWord(word, r); err == nil {
			out = expanded
		}
		if platform, ok := strings.CutPrefix(out, "--platform="); ok {
			b.platform = platform
			if platform == cmp.Or(r.at.platform, r.at.own) {
				b.platform = ""
			}
		}
		b.name = out // the last word is the name
	}
	triggers, whose := []*parser.Node(nil), words[0]
	if below := r.named[strings.ToLower(b.name)]; below != nil {
		if err := r.vars.inherit(&below.vars, r.inherits); err != nil {
			return err
		}
		st.known, st.unsure, triggers = below.known, below.unsure, below.triggers
		st.needs = append(st.needs, below)
	} else if b.name == "scratch" {
		st.known = true
	} else {
		st.bases = append(st.bases, b)
		config, err := r.config(b)
		if err != nil {
			return err
		}
		st.known = config != nil || r.at.final
		st.unsure, whose = !st.known, "image "+b.name
		if config != nil {
			triggers = config
		}
	}
	r.stages = append(r.stages, st)
	for _, t := range triggers {
		if r.triggers++; r.triggers > maxLines {
			return fmt.Errorf("carries out more than %d triggers", maxLines)
		}
		if strings.EqualFold(t.Value, "from") || strings.EqualFold(t.Value, "onbuild") {
			continue // no builder carries these out
		}
		if err := r.step(t, n, fmt.Sprintf("ONBUILD %s (of %s)", t.Original, whose)); err != nil {
			return err
		}
	}
	st.vars = r.vars // the maps are this stage's until the next FROM
	if len(words) > 2 && strings.EqualFold(words[1], "as") {
		st.name = strings.ToLower(words[2])
		r.named[st.name] = st
	}
	return nil
}

// config takes over the variables of a base image and returns its triggers; nil when the image isn't known.
func (r *reader) config(b base) (triggers []*parser.Node, err error) {
	if r.at.image == nil {
		return nil, nil
	}
	config := r.at.image(b)
	if config == nil {
		return nil, nil
	}
	for _, nv := range config.env {
		name, value, _ := strings.Cut(nv, "=")
		if err := r.vars.take(name, value, true); err != nil {
			return nil, err
		}
	}
	triggers = []*parser.Node{}
	for _, text := range config.triggers {
		result, err := parseDockerfile([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("trigger %s of image %s: %w", brief(text), b.name, err)
		}
		triggers = append(triggers, result.AST.Children...)
	}
	return triggers, nil
}

// refer notes a stage or an image that a step copies out of.
func (r *reader) refer(st *stageReading, at *parser.Node, text, from string) {
	if other := r.named[strings.ToLower(from)]; other != nil {
		st.needs = append(st.needs, other)
	} else if i, err := strconv.Atoi(from); err == nil && i >= 0 && i < len(r.stages) {
		st.needs = append(st.needs, r.stages[i])
	} else if err != nil && from != "scratch" {
		st.bases = append(st.bases, base{line: at.StartLine, step: text, name: from})
	}
}

// arg reads the words of ARG.
func (r *reader) arg(words []string) error {
	r.later = r.later[:0]
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		value, known, err := r.expand(value)
		if err != nil {
			return err
		}
		given, own, global := r.s.Build.Args[name], r.platform[name], r.global[name]
		_, isPlatform := r.platform[name]
		_, isGlobal := r.global[name]
		switch supplied := isPlatform && (r.ownDefault || !r.withDefault[name]); {
		case given != nil:
			value, known = *given, true
		case supplied:
			value, known, r.args[name] = own, true, own
		case ok:
		case isGlobal:
			value, known = global, true
		case r.argKept:
			continue
		default:
			known = false
		}
		if r.vars.env[name] && !r.argLast {
			continue
		}
		if r.argInTurn {
			r.vars.put(name, value, known, false)
		} else {
			r.later = append(r.later, assignment{name, value, known})
		}
	}
	for _, a := range r.later {
		r.vars.put(a.name, a.value, a.known, false)
	}
	return nil
}

// env reads the words of ENV: name, value and separator of each.
func (r *reader) env(words []string) error {
	r.later = r.later[:0]
	for i := 0; i+1 < len(words); i += 3 {
		name, _, err := r.expand(words[i])
		if err != nil {
			return err
		}
		value, known, err := r.expand(words[i+1])
		if err != nil {
			return err
		}
		r.later = append(r.later, assignment{name, value, known})
	}
	for _, a := range r.later {
		r.vars.put(a.name, a.value, a.known, true)
	}
	return nil
}

// expand expands the variables in a word. known is false when it has one whose value the base image decides.
func (r *reader) expand(word string) (out string, known bool, err error) {
	if err := r.vars.check(word); err != nil {
		return "", false, err
	}
	if !strings.ContainsAny(word, `$"'\`+"`") {
		return word, true, nil
	}
	out, missing, err := r.lex.ProcessWord(word, &r.vars)
	if err != nil {
		return word, true, nil
	}
	sure := len(r.stages) == 0 || r.stages[len(r.stages)-1].known
	return out, sure || len(missing) == 0, nil
}

// source notes a word of COPY or ADD.
func (r *reader) source(st *stageReading, at *parser.Node, text, word string, fetches bool) error {
	if strings.HasPrefix(word, "<<") {
		return nil // a heredoc
	}
	out, known, err := r.expand(word)
	if err != nil {
		return err
	}
	if fetches && (remote.MatchString(word) || remote.MatchString(out) || !known) {
		st.fetches = true
	}
	if remote.MatchString(word) || remote.MatchString(out) {
		if !strings.HasPrefix(out, "http") || gitURL.MatchString(out) {
			st.buildKit = cmp.Or(st.buildKit, text)
		}
		return nil
	}
	return r.file(st, known, source{line: at.StartLine, step: text, word: word, name: out, wild: isWild(out), empty: out == "" && strings.Contains(word, "$")})
}

// file notes a source.
func (r *reader) file(st *stageReading, known bool, src source) error {
	if !known {
		return nil // the base image will be known before the build
	}
	if len(src.name) > maxPattern {
		return fmt.Errorf("a name is longer than %d bytes: %s", maxPattern, brief(src.name))
	} else if r.sources++; r.sources > maxSources {
		return fmt.Errorf("COPY and ADD name more than %d files", maxSources)
	}
	// For builders, "/x" and "../x" are x in the context.
	src.name = cmp.Or(strings.TrimPrefix(path.Clean("/"+src.name), "/"), ".")
	st.sources = append(st.sources, src)
	return nil
}

// mount reads a mount of RUN.
func (r *reader) mount(st *stageReading, at *parser.Node, text, value string) error {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return nil // the builder reports the mistake
	}
	kind, from, src, required := "bind", "", "", false
	for _, f := range fields {
		key, v, ok := strings.Cut(f, "=")
		switch strings.ToLower(key) {
		case "type":
			kind = strings.ToLower(v)
		case "from":
			from = v
		case "source", "src":
			src = v
		case "required":
			required = !ok || v != "false"
		}
	}
	if (kind == "secret" || kind == "ssh") && required {
		// Podman 4's service crashes.
		return fmt.Errorf("%s: this build gets no secrets and no ssh agent, and the mount requires one", brief(text))
	}
	if from != "" {
		r.refer(st, at, text, from)
		return nil
	}
	if kind != "bind" {
		return nil
	}
	out, known, err := r.expand(src)
	if err != nil {
		return err
	}
	return r.file(st, known, source{line: at.StartLine, step: text, word: src, name: out, empty: out == "" && strings.Contains(src, "$")})
}

// isWild reports whether a pattern has wildcards.
func isWild(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// gitURL matches a Git repository, which BuildKit clones. The classic builder copies what the URL's page says.
var gitURL = regexp.MustCompile(`\.git(#|$)`)

// platformVariable matches a variable with a platform argument's name.
var platformVariable = regexp.MustCompile(`\$\{?((?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT))\b`)

// platformArgs are the arguments that BuildKit and Podman's builder set once a stage declares them. The classic builder doesn't,
// so this program gives them to every builder.
func platformArgs(at site) map[string]string {
	args := map[string]string{}
	for prefix, platform := range map[string]string{"TARGET": cmp.Or(at.platform, at.own), "BUILD": at.own} {
		p := strings.Split(platform, "/")
		if len(p) < 2 {
			continue
		}
		args[prefix+"PLATFORM"], args[prefix+"OS"], args[prefix+"ARCH"] = platform, p[0], p[1]
		if len(p) > 2 {
			args[prefix+"VARIANT"] = p[2]
		} else if p[1] != "arm" { // whose variant the engine doesn't tell
			args[prefix+"VARIANT"] = ""
		}
	}
	return args
}

// choose reads a Dockerfile as the builder that will build it, and returns whether that is BuildKit. Docker has two builders. Its own
// client uses the classic one before Docker 23 and BuildKit since. This program prefers the classic one, whose output it
// understands, where that makes the same of the Dockerfile.
func choose(result *parser.Result, text []byte, s job.Source, at site) (r reading, buildKit bool, err error) {
	last := at.builders[len(at.builders)-1]
	if hasHeredocs(result) && !last.heredocs && !(last.buildKit && hasSyntax(text)) {
		helps := "Podman does from version 5 on"
		if last.buildKit {
			helps = `Docker does from version 23 on, or with a first line "# syntax=docker/dockerfile:1"`
		}
		return r, false, fmt.Errorf("this computer's engine doesn't support heredocs (%s; RUN can do without, by && and \\)", helps)
	}
	r, err = readAs(at.builders[0], result, s, at)
	if !last.buildKit || err == nil && r.buildKit == "" && !last.heredocs {
		return r, false, err
	}
	modern, modernErr := readAs(last, result, s, at)
	if err == nil && modernErr == nil && r.buildKit == "" && slices.Equal(r.sources, modern.sources) {
		return r, false, nil
	}
	return modern, true, modernErr
}
