package engine

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"boincdocker/docker_wrapper/internal/job"
)

// buildContext is what a Dockerfile needs of the slot, and no more.
type buildContext struct {
	fsys       fs.FS
	dockerfile string
	text       []byte
	files      []string // sorted: a directory before what is in it
	identity   string   // hexadecimal; see hash
}

// contextTime stands for the time of every file in a build context: when a client downloaded it is
// no property of the image.
var contextTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// newBuildContext finds out what the Dockerfile copies. fsys shows the slot as the job's author
// knows it: links followed, what is BOINC's left out. Mistakes are *ImageError.
func newBuildContext(fsys fs.FS, s job.Source, platform string) (*buildContext, error) {
	text, err := fs.ReadFile(fsys, s.Dockerfile)
	if HostsFault(err) {
		return nil, fmt.Errorf("read %s: %w", s.Dockerfile, err)
	} else if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: fmt.Sprintf("read %s: %v", s.Dockerfile, bare(err))}
	}
	sources, err := copiedBy(text, s)
	if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: s.Dockerfile + ": " + err.Error()}
	}
	if s.NoFetch {
		if err := fetches(text, s); err != nil {
			return nil, err
		}
	}
	ignored, err := ignoreRules(fsys, s.Dockerfile)
	if HostsFault(err) {
		return nil, fmt.Errorf("read .dockerignore: %w", err)
	} else if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: ".dockerignore: " + err.Error()}
	}
	b := &buildContext{fsys: fsys, dockerfile: s.Dockerfile, text: text}
	for _, src := range sources {
		found, err := b.add(src.pattern, ignored)
		if HostsFault(err) {
			return nil, fmt.Errorf("read %s, which %s copies: %w", src.pattern, s.Dockerfile, err)
		}
		if err == nil && !found {
			err = errors.New("no such file in the slot")
		}
		if err != nil {
			return nil, &ImageError{Image: s.Name, Step: fmt.Sprintf("%s:%d: %s", s.Dockerfile, src.line, src.step),
				Reason: src.pattern + ": " + bare(err).Error()}
		}
	}
	slices.Sort(b.files)
	b.files = slices.Compact(b.files)
	if b.identity, err = b.hash(s, platform); err != nil {
		return nil, fmt.Errorf("read build context of %s: %w", s.Name, err)
	}
	return b, nil
}

// CheckDockerfile reports what Ensure would find wrong with a Dockerfile before it is built. It needs no
// engine.
func CheckDockerfile(fsys fs.FS, s job.Source) error {
	_, err := newBuildContext(fsys, s, "")
	return err
}

// bare drops the operation and path that the os package adds.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// source is one thing that a Dockerfile copies out of its context, and where it says so.
type source struct {
	line    int
	step    string // as written
	pattern string // slash-separated, may have wildcards
}

// copiedBy lists the sources of every COPY and ADD that come from the context.
func copiedBy(dockerfile []byte, s job.Source) ([]source, error) {
	result, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, err
	}
	lex := shell.NewLex(result.EscapeToken)
	var list []source
	args := map[string]string{} // ARG before the first FROM
	var stage map[string]string // what words of this stage may refer to
	expand := func(word string) string {
		var env []string
		for k, v := range stage {
			env = append(env, k+"="+v)
		}
		if out, _, err := lex.ProcessWord(word, shell.EnvsFromSlice(env)); err == nil {
			return out
		}
		return word
	}
	for _, n := range result.AST.Children {
		var words []string
		for w := n.Next; w != nil; w = w.Next {
			words = append(words, w.Value)
		}
		switch strings.ToLower(n.Value) {
		case "from":
			stage = map[string]string{}
		case "arg":
			for _, w := range words {
				name, value, _ := strings.Cut(w, "=")
				value = expand(value)
				if v, ok := args[name]; ok && !strings.Contains(w, "=") {
					value = v
				}
				if given := s.Build.Args[name]; given != nil {
					value = *given
				}
				if stage == nil {
					args[name] = value
				} else {
					stage[name] = value
				}
			}
		case "env":
			for i := 0; i+1 < len(words) && stage != nil; i += 3 { // name, value, separator
				stage[words[i]] = expand(words[i+1])
			}
		case "copy", "add":
			if slices.ContainsFunc(n.Flags, func(f string) bool { return strings.HasPrefix(f, "--from") }) || len(words) < 2 {
				continue
			}
			for _, w := range words[:len(words)-1] {
				if strings.HasPrefix(w, "<<") || strings.Contains(w, "://") || strings.HasPrefix(w, "git@") {
					continue // a heredoc, a URL: not in the context
				}
				// As builders read it, "/x" and "../x" are x of the context.
				pattern := strings.TrimPrefix(path.Clean("/"+expand(w)), "/")
				list = append(list, source{n.StartLine, n.Original, cmpOr(pattern, ".")})
			}
		}
	}
	return list, nil
}

var (
	// What ADD fetches: a URL, or a Git repository as ssh names it. BuildKit's gitutil has the pattern.
	remote = regexp.MustCompile(`://|^[\w-]+@[\w.-]+:`)

	// Another program in the place of the Dockerfile's reader could fetch what it likes.
	ownSyntax = regexp.MustCompile(`^(docker\.io/)?docker/dockerfile(:[\w.-]+)?(@sha256:[0-9a-f]{64})?$`)
)

// fetches finds what would make the engine fetch something from where the job itself can't reach.
func fetches(dockerfile []byte, s job.Source) error {
	result, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return &ImageError{Image: s.Name, Reason: s.Dockerfile + ": " + err.Error()}
	}
	refuse := func(line int, step, format string, args ...any) error {
		return &ImageError{Image: s.Name, Step: fmt.Sprintf("%s:%d: %s", s.Dockerfile, line, step),
			Reason: fmt.Sprintf(format, args...) + ": not for a job that isn't signed, or whose build has no network"}
	}
	if _, syntax, at, ok := parser.DetectSyntax(dockerfile); ok && !ownSyntax.MatchString(syntax) {
		return refuse(at[0].Start.Line, "syntax="+syntax, "a Dockerfile of another kind")
	}
	if _, ok := s.Build.Args["BUILDKIT_SYNTAX"]; ok {
		return &ImageError{Image: s.Name, Reason: "build_args: BUILDKIT_SYNTAX: not for a job that isn't signed, or whose build has no network"}
	}
	lex := shell.NewLex(result.EscapeToken)
	for _, n := range result.AST.Children {
		trigger := strings.EqualFold(n.Value, "onbuild") && n.Next != nil && len(n.Next.Children) > 0
		if trigger && strings.EqualFold(n.Next.Children[0].Value, "add") {
			return refuse(n.StartLine, n.Original, "ADD by a later build")
		}
		if !strings.EqualFold(n.Value, "add") {
			continue
		}
		for w := n.Next; w != nil && w.Next != nil; w = w.Next { // the last is where it goes
			// What a variable stands for may come from the image that the build starts from.
			if strings.Contains(w.Value, "$") {
				return refuse(n.StartLine, n.Original, "ADD with a variable (COPY may have one)")
			}
			word, _, err := lex.ProcessWord(w.Value, shell.EnvsFromSlice(nil))
			if err != nil || remote.MatchString(word) || remote.MatchString(w.Value) {
				return refuse(n.StartLine, n.Original, "%s is fetched by the engine, which reaches more than the job", w.Value)
			}
		}
	}
	return nil
}

// reaches lists the images that a Dockerfile starts from, and says whether it has steps that may use the
// network.
func reaches(dockerfile []byte) (bases []string, steps bool, err error) {
	result, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, false, err
	}
	stages := []string{"scratch"}
	for _, n := range result.AST.Children {
		switch strings.ToLower(n.Value) {
		case "from":
			if n.Next == nil {
				continue
			}
			if base := n.Next.Value; !slices.Contains(stages, strings.ToLower(base)) {
				bases = append(bases, base) // a name with a variable is no image's
			}
			if as := n.Next.Next; as != nil && as.Next != nil {
				stages = append(stages, strings.ToLower(as.Next.Value))
			}
		case "run":
			steps = true
		case "add":
			for w := n.Next; w != nil && w.Next != nil; w = w.Next {
				steps = steps || remote.MatchString(w.Value) || strings.Contains(w.Value, "$")
			}
		case "copy":
			for _, f := range n.Flags {
				from, ok := strings.CutPrefix(f, "--from=")
				if _, err := strconv.Atoi(from); ok && err != nil && !slices.Contains(stages, strings.ToLower(from)) {
					bases = append(bases, from)
				}
			}
		}
	}
	return bases, steps, nil
}

func cmpOr(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// ignoreRules reads .dockerignore, or DOCKERFILE.dockerignore, which wins. Builders leave it to
// their clients.
func ignoreRules(fsys fs.FS, dockerfile string) (*patternmatcher.PatternMatcher, error) {
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		f, err := fsys.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		defer f.Close()
		patterns, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, err
		}
		return patternmatcher.New(patterns)
	}
	return patternmatcher.New(nil)
}

// add takes up what a pattern names and what is below it. found is whether it names anything.
func (b *buildContext) add(pattern string, ignored *patternmatcher.PatternMatcher) (found bool, err error) {
	names := []string{pattern}
	if strings.ContainsAny(pattern, `*?[\`) {
		if names, err = fs.Glob(b.fsys, pattern); err != nil {
			return false, err
		}
	}
	for _, name := range names {
		err := fs.WalkDir(b.fsys, name, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			skip, err := ignored.MatchesOrParentMatches(name)
			if err != nil || skip && !d.IsDir() {
				return err
			}
			if name == "." {
				found = true
				return nil
			}
			if !d.IsDir() && !d.Type().IsRegular() {
				return nil
			}
			if !skip {
				found = true
				b.files = append(b.files, name)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return found, nil
}

// hash is the identity of the image that comes out: of the Dockerfile, the names, modes and bytes of
// the files it copies, the build arguments and the platform. --pull and --no-cache are part of
// build_args, so that asking for them once makes one new image and not one per job.
func (b *buildContext) hash(s job.Source, platform string) (string, error) {
	h := sha256.New()
	args, err := json.Marshal(s.Build)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "1\n%s\n%d %s\n%s\n", platform, len(args), args, b.dockerfile)
	fmt.Fprintf(h, "%d\n%s\n", len(b.text), b.text)
	for _, name := range b.files {
		fi, err := fs.Stat(b.fsys, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %o %t", name, contextMode(fi), fi.IsDir())
		if fi.IsDir() {
			continue
		}
		fmt.Fprintf(h, " %d\n", fi.Size())
		if err := copyFile(h, b.fsys, name); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// contextMode is a file's mode as the image gets it: whether it can be executed is all that a slot
// keeps reliably.
func contextMode(fi fs.FileInfo) int64 {
	if fi.IsDir() || fi.Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// pack writes the context as the builder takes it.
func (b *buildContext) pack(w io.Writer) error {
	tw := tar.NewWriter(w)
	if !slices.Contains(b.files, b.dockerfile) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: b.dockerfile, Mode: 0o644, Size: int64(len(b.text)), ModTime: contextTime}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(b.text); err != nil {
			return err
		}
	}
	for _, name := range b.files {
		fi, err := fs.Stat(b.fsys, name)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: contextMode(fi), Size: fi.Size(), ModTime: contextTime}
		if fi.IsDir() {
			h.Typeflag, h.Name, h.Size = tar.TypeDir, name+"/", 0
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if fi.IsDir() {
			continue
		}
		if err := copyFile(tw, b.fsys, name); err != nil {
			return err
		}
	}
	return tw.Close()
}

func copyFile(w io.Writer, fsys fs.FS, name string) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
