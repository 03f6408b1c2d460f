package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"boincdocker/docker_wrapper/internal/job"
)

// CheckArchive returns the error that Ensure would find in an image archive, which is read to its end. It needs no engine.
func CheckArchive(ctx context.Context, name string) error {
	if _, err := readArchive(ctx, name, runtime.GOARCH); err != nil {
		return explained(err)
	}
	return nil
}

// Check lists what is wrong with a Dockerfile, as far as it can be seen without an engine. notes are what may be meant as it is.
func Check(fsys fs.FS, s job.Source, c job.Container) (mistakes []error, notes []string) {
	text, err := ReadFile(fsys, s.Dockerfile, maxDockerfile)
	var result *parser.Result
	if err == nil {
		result, err = parseDockerfile(text)
	}
	if err != nil {
		_, err := checkContext(fsys, s)
		return bareOf(err), nil
	}
	k := &checker{fsys: fsys, s: s, c: c, lex: shell.NewLex(result.EscapeToken)}
	for _, n := range result.AST.Children {
		k.step(n)
	}
	if len(k.mistakes) == 0 || len(k.stages) > 0 { // else its first mistake is the FROM that isn't one
		found, err := checkContext(fsys, s)
		k.notes = append(k.notes, found...)
		k.mistakes = append(k.mistakes, bareOf(err)...)
		k.finish()
	}
	return k.mistakes, k.notes
}

// bareOf lists the errors that err joins, without the image's name: nobody gave it.
func bareOf(err error) (list []error) {
	var image *ImageError
	switch joined, ok := err.(interface{ Unwrap() []error }); {
	case err == nil:
	case ok:
		for _, e := range joined.Unwrap() {
			list = append(list, bareOf(e)...)
		}
	case errors.As(err, &image) && image.Step != "":
		list = append(list, errors.New(image.Step+": "+image.Reason))
	case errors.As(err, &image):
		list = append(list, errors.New(image.Reason))
	default:
		list = append(list, err)
	}
	return list
}

// checker reads a Dockerfile.
type checker struct {
	fsys     fs.FS
	s        job.Source
	c        job.Container
	lex      *shell.Lex
	stages   []stage
	mistakes []error
	notes    []string
}

// stage is what a stage of a Dockerfile makes of its base, as far as it is known.
type stage struct {
	name       string // in lower case
	bare       bool   // made from scratch: all of it is known
	workdir    string // "" if the base decides
	env        variables
	entrypoint []string
	command    []string
	last       *parser.Node // that sets one of the two
	copies     []copied
}

// copied is a file that a stage copies.
type copied struct {
	n   *parser.Node
	to  string // absolute
	own bool   // it isn't from the slot
}

func (k *checker) add(n *parser.Node, format string, args ...any) {
	k.mistakes = append(k.mistakes, fmt.Errorf("%s: %s", k.at(n), fmt.Sprintf(format, args...)))
}

func (k *checker) at(n *parser.Node) string {
	return fmt.Sprintf("%s:%d: %s", k.s.Dockerfile, n.StartLine, brief(n.Original))
}

// step checks an instruction.
func (k *checker) step(n *parser.Node) {
	if word := misquoted(n); word != "" {
		k.add(n, "%s is no list of strings, so a shell would get it as it stands (write it with plain double quotes, as in [\"a\", \"b\"])", brief(word))
		return
	}
	parsed, err := instructions.ParseInstruction(n)
	var unknown *instructions.UnknownInstructionError
	if errors.As(err, &unknown) {
		meant := job.Nearest(unknown.Instruction, slices.Sorted(maps.Keys(command.Commands)))
		if err = unknown; meant != "" {
			err = fmt.Errorf("%w (did you mean %s?)", err, strings.ToUpper(meant))
		}
	}
	if err != nil {
		k.add(n, "%s", brief(err.Error()))
		return
	}
	if from, ok := parsed.(*instructions.Stage); ok {
		k.from(from)
		return
	}
	if len(k.stages) == 0 {
		if _, ok := parsed.(*instructions.ArgCommand); !ok && len(k.mistakes) == 0 {
			k.add(n, "stands before the first FROM")
		}
		return
	}
	st := &k.stages[len(k.stages)-1]
	abs := func(name string) string {
		if st.env.check(name) == nil {
			if out, _, err := k.lex.ProcessWord(name, &st.env); err == nil {
				name = out
			}
		}
		if path.IsAbs(name) || st.workdir == "" && !st.bare {
			return name
		}
		return joinDir(st.workdir, name)
	}
	switch i := parsed.(type) {
	case *instructions.EnvCommand:
		for _, kv := range i.Env {
			if size := len(kv.Key) + 1 + len(kv.Value); size > job.MaxArgument {
				k.add(n, "%s is %d bytes long with its name; Linux allows a variable %d", brief(kv.Key), size, job.MaxArgument)
				continue
			}
			st.env.put(kv.Key, kv.Value, true, true)
		}
	case *instructions.ArgCommand:
		for _, a := range i.Args {
			if given := k.s.Build.Args[a.Key]; given != nil {
				st.env.put(a.Key, *given, true, false)
			} else if a.Value != nil {
				st.env.put(a.Key, *a.Value, true, false)
			}
		}
	case *instructions.WorkdirCommand:
		st.workdir = abs(i.Path)
	case *instructions.CmdCommand:
		st.command, st.last = commandLine(i.ShellDependantCmdLine), n
	case *instructions.EntrypointCommand:
		st.entrypoint, st.last = commandLine(i.ShellDependantCmdLine), n
	case *instructions.CopyCommand:
		st.copied(n, i.SourcesAndDest, i.From != "", abs)
	case *instructions.AddCommand:
		st.copied(n, i.SourcesAndDest, false, abs)
	}
}

func (k *checker) from(f *instructions.Stage) {
	st := stage{name: strings.ToLower(f.Name), bare: f.BaseName == "scratch", env: newVariables()}
	for _, before := range k.stages {
		if before.name != "" && before.name == strings.ToLower(f.BaseName) {
			st, st.name = before, strings.ToLower(f.Name)
			st.copies, st.env.values, st.env.env = slices.Clone(before.copies), maps.Clone(before.env.values), maps.Clone(before.env.env)
		}
	}
	k.stages = append(k.stages, st)
}

// copied notes where the files of a COPY or ADD go.
func (st *stage) copied(n *parser.Node, what instructions.SourcesAndDest, own bool, abs func(string) string) {
	to := abs(what.DestPath)
	if !path.IsAbs(to) {
		return
	}
	for _, src := range what.SourcePaths {
		name := to
		if strings.HasSuffix(what.DestPath, "/") || what.DestPath == "." || len(what.SourcePaths) > 1 {
			name = path.Join(to, path.Base(src))
		}
		if !strings.ContainsAny(src, "*?[$") {
			st.copies = append(st.copies, copied{n, path.Clean(name), own})
		}
	}
}

// misquoted returns the arguments of an instruction that were perhaps meant as a list of strings; "" if they are none or well
// written.
func misquoted(n *parser.Node) string {
	word, rest, _ := strings.Cut(strings.TrimSpace(n.Original), " ")
	rest = strings.TrimSpace(rest)
	if n.Attributes["json"] || !strings.HasPrefix(rest, "[") || !strings.HasSuffix(rest, "]") {
		return ""
	}
	switch strings.ToLower(word) {
	case "cmd", "entrypoint":
		return rest
	case "run", "copy", "add", "shell", "volume":
		if strings.ContainsAny(rest, job.TypographicQuotes) {
			return rest
		}
	}
	return ""
}

func commandLine(c instructions.ShellDependantCmdLine) []string {
	if c.PrependShell {
		return []string{"/bin/sh", "-c", strings.Join(c.CmdLine, " ")}
	}
	return c.CmdLine
}

// finish checks the stage of which the image is made.
func (k *checker) finish() {
	if len(k.stages) == 0 {
		return
	}
	st := k.stages[len(k.stages)-1]
	for _, before := range k.stages {
		if t := k.s.Build.Target; t != "" && before.name == strings.ToLower(t) {
			st = before
		}
	}
	entrypoint, command := k.c.Entrypoint, k.c.Command
	own := entrypoint != nil || command != nil && st.entrypoint == nil // the program is job.toml's
	if entrypoint == nil {
		if entrypoint = st.entrypoint; command == nil {
			command = st.command
		}
	}
	words := slices.Concat(entrypoint, command)
	if len(words) == 0 {
		if st.bare {
			k.mistakes = append(k.mistakes, errors.New(k.s.Dockerfile+": no program is named (write CMD or ENTRYPOINT, or command or entrypoint in job.toml)"))
		}
		return
	}
	dir := cmp.Or(k.c.Extra.Workdir, st.workdir)
	program := programOf(words)
	if strings.Contains(program, "/") && (path.IsAbs(program) || dir != "" || st.bare) {
		name := joinDir(dir, program)
		if hidden := k.c.Hidden(name); hidden != "" && !k.inSlot(name) {
			if at := st.last; !own && at != nil {
				k.add(at, "%s: %s", name, hidden)
			} else {
				k.mistakes = append(k.mistakes, fmt.Errorf("job.toml's program %s: %s", name, hidden))
			}
		}
	}
	for _, c := range st.copies {
		if hidden := k.c.Hidden(c.to); hidden != "" && !k.inSlot(c.to) && (c.own || !k.isDir(c)) {
			k.notes = append(k.notes, fmt.Sprintf("%s: %s: %s", k.at(c.n), c.to, hidden))
		}
	}
}

// programOf is the program that a command line starts: of a shell's, the first word that it reads.
func programOf(words []string) string {
	if len(words) > 2 && words[1] == "-c" && slices.Contains([]string{"sh", "bash", "dash", "ash"}, path.Base(words[0])) {
		if text := strings.Fields(strings.TrimPrefix(strings.TrimSpace(words[2]), "exec ")); len(text) > 0 && !strings.ContainsAny(text[0], "\"'\\`$|&;<>()*?[~=") {
			return text[0]
		}
	}
	return words[0]
}

// inSlot reports whether the slot, where it is mounted, has a file of that name itself.
func (k *checker) inSlot(name string) bool {
	rel, ok := strings.CutPrefix(name, strings.TrimSuffix(k.c.SlotMount, "/")+"/")
	if !ok || k.c.SlotMount == "" {
		return name == k.c.SlotMount
	}
	_, err := fs.Stat(k.fsys, rel)
	return !errors.Is(err, fs.ErrNotExist)
}

// isDir reports whether what is copied is a directory of the slot: then its files are in the slot, too.
func (k *checker) isDir(c copied) bool {
	fi, err := fs.Stat(k.fsys, path.Base(c.to))
	return err == nil && fi.IsDir()
}

func joinDir(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join("/", dir, name)
}
