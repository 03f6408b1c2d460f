package engine

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
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

// buildContext is the files of the slot that a Dockerfile uses.
type buildContext struct {
	fsys       fs.FS
	dockerfile string
	text       []byte
	files      []string // sorted: a directory before what is in it
	identity   string   // hexadecimal; see hash
	fetched    []base   // of an unsigned Dockerfile: the images that the engine fetches
	heredocs   bool
	packed     string // the Dockerfile's name in the context that the builder gets
}

const defaultDockerfile = "Dockerfile"

// maxMissing is how many files that a Dockerfile copies and that can't be read are named.
const maxMissing = 20

// contextTime is the time of every file in a build context, so that the image doesn't depend on when a client
// downloaded the file.
var contextTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// newBuildContext finds the files that the Dockerfile copies. fsys is the slot as the job's author knows it: with links
// followed and without BOINC's own files. Mistakes are *ImageError.
func newBuildContext(fsys fs.FS, s job.Source, platform string) (*buildContext, error) {
	text, err := ReadFile(fsys, s.Dockerfile, maxDockerfile)
	if HostsFault(err) {
		return nil, fmt.Errorf("read %s: %w", s.Dockerfile, err)
	} else if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: fmt.Sprintf("read %s: %v", s.Dockerfile, bare(err))}
	}
	result, err := parseDockerfile(text)
	var sources []source
	if err == nil {
		sources, err = copiedBy(result, s)
	}
	if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: s.Dockerfile + ": " + brief(err.Error())}
	}
	b := &buildContext{fsys: fsys, dockerfile: s.Dockerfile, packed: s.Dockerfile, text: text, heredocs: hasHeredocs(result)}
	if s.NoFetch || s.Unsigned {
		if b.fetched, err = strangers(result, text, s); err != nil {
			return nil, err
		}
		if b.text, err = plainDockerfile(result, text, s); err != nil {
			return nil, err
		}
	}
	ignored, err := ignoreRules(fsys, s.Dockerfile)
	if HostsFault(err) {
		return nil, fmt.Errorf("read .dockerignore: %w", err)
	} else if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: ".dockerignore: " + brief(err.Error())}
	}
	if err := b.collect(sources, ignored, s); err != nil {
		return nil, err
	}
	if s.NoFetch || s.Unsigned { // Podman runs a preprocessor on a Dockerfile whose name ends in .in
		for b.packed = defaultDockerfile; slices.Contains(b.files, b.packed); b.packed += "_" {
		}
	}
	if b.identity, err = b.hash(s, platform); err != nil {
		return nil, fmt.Errorf("read build context of %s: %w", s.Name, err)
	}
	return b, nil
}

// ReadFile reads a file that may be of any size. It fails when there are more than most bytes.
func ReadFile(fsys fs.FS, name string, most int) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(data) > most {
		return nil, fmt.Errorf("it is larger than %d KiB", most>>10)
	}
	return data, err
}

// collect finds the files that sources name.
func (b *buildContext) collect(sources []source, ignored *ignoring, s job.Source) error {
	found := map[string]bool{}
	w := &walk{fsys: b.fsys, ignored: ignored, files: map[string]bool{}}
	var mistakes []error
	for _, src := range sources {
		var err error
		if _, before := found[src.pattern]; !before {
			found[src.pattern], err = w.add(src.pattern)
		}
		if HostsFault(err) {
			return fmt.Errorf("read %s, which %s copies: %w", brief(src.pattern), s.Dockerfile, err)
		}
		if err == nil && !found[src.pattern] {
			err = errors.New("no such file in the slot")
		}
		if err != nil {
			mistakes = append(mistakes, &ImageError{Image: s.Name, Step: fmt.Sprintf("%s:%d: %s", s.Dockerfile, src.line, brief(src.step)),
				Reason: brief(src.pattern) + ": " + bare(err).Error()})
		}
		if len(mistakes) == maxMissing || w.visit(0, 0) != nil {
			break
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	b.files = slices.Sorted(maps.Keys(w.files))
	return nil
}

// CheckDockerfile returns the error that Ensure would find in a Dockerfile before the build. It needs no engine.
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

// source is a name or pattern that a Dockerfile copies out of its context, and the step that does it.
type source struct {
	line    int
	step    string // as written
	pattern string // slash-separated, may have wildcards
}

// copiedBy lists the sources in the context of every COPY and ADD.
func copiedBy(result *parser.Result, s job.Source) ([]source, error) {
	lex := shell.NewLex(result.EscapeToken)
	var list []source
	args := map[string]string{} // ARG before the first FROM
	stage := &variables{}       // variables of this stage
	expand := func(word string) (string, error) {
		if err := stage.check(word); err != nil {
			return "", err
		}
		if out, _, err := lex.ProcessWord(word, stage); err == nil {
			return out, nil
		}
		return word, nil
	}
	for _, n := range result.AST.Children {
		fail := func(err error) error { return fmt.Errorf("line %d: %w", n.StartLine, err) }
		var words []string
		for w := n.Next; w != nil; w = w.Next {
			words = append(words, w.Value)
		}
		switch strings.ToLower(n.Value) {
		case "from":
			stage.values = map[string]string{}
		case "arg":
			for _, w := range words {
				name, value, _ := strings.Cut(w, "=")
				value, err := expand(value)
				if err != nil {
					return nil, fail(err)
				}
				if v, ok := args[name]; ok && !strings.Contains(w, "=") {
					value = v
				}
				if given := s.Build.Args[name]; given != nil {
					value = *given
				}
				if stage.values == nil {
					args[name] = value
				} else {
					stage.set(name, value)
				}
			}
		case "env":
			for i := 0; i+1 < len(words) && stage.values != nil; i += 3 { // name, value, separator
				value, err := expand(words[i+1])
				if err != nil {
					return nil, fail(err)
				}
				stage.set(words[i], value)
			}
		case "copy", "add":
			if slices.ContainsFunc(n.Flags, func(f string) bool { return strings.HasPrefix(f, "--from") }) || len(words) < 2 {
				continue
			}
			for _, w := range words[:len(words)-1] {
				if strings.HasPrefix(w, "<<") || strings.Contains(w, "://") || strings.HasPrefix(w, "git@") {
					continue // a heredoc, a URL: not in the context
				}
				out, err := expand(w)
				if err == nil && len(out) > maxPattern {
					err = fmt.Errorf("a name is longer than %d bytes: %s", maxPattern, brief(out))
				} else if err == nil && len(list) == maxSources {
					err = fmt.Errorf("COPY and ADD name more than %d files", maxSources)
				}
				if err != nil {
					return nil, fail(err)
				}
				// For builders, "/x" and "../x" are x in the context.
				pattern := strings.TrimPrefix(path.Clean("/"+out), "/")
				list = append(list, source{n.StartLine, n.Original, cmpOr(pattern, ".")})
			}
		}
	}
	return list, nil
}

// reaches lists the base images of a Dockerfile and reports whether it has steps that may use the network.
func reaches(dockerfile []byte) (bases []string, steps bool, err error) {
	result, err := parseDockerfile(dockerfile)
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
				bases = append(bases, base) // names with variables are left out
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

// ignoring is .dockerignore.
type ignoring struct {
	*patternmatcher.PatternMatcher
	wild int // bytes of patterns with wildcards
}

// ignoreRules reads DOCKERFILE.dockerignore, else .dockerignore. Builders expect their clients to apply it.
func ignoreRules(fsys fs.FS, dockerfile string) (*ignoring, error) {
	var patterns []string
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		text, err := ReadFile(fsys, name, maxIgnore)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if patterns, err = ignorefile.ReadAll(bytes.NewReader(text)); err != nil {
			return nil, err
		}
		break
	}
	if len(patterns) > maxIgnored {
		return nil, fmt.Errorf("has more than %d patterns", maxIgnored)
	}
	i := &ignoring{}
	for _, p := range patterns {
		if len(p) > maxPattern {
			return nil, fmt.Errorf("a pattern is longer than %d bytes: %s", maxPattern, brief(p))
		}
		if strings.ContainsAny(p, `*?[\`) {
			i.wild += len(p)
		}
	}
	var err error
	i.PatternMatcher, err = patternmatcher.New(patterns)
	return i, err
}

// walk collects the files that patterns match.
type walk struct {
	fsys              fs.FS
	ignored           *ignoring
	files             map[string]bool
	visited, matching int // used up of maxVisited and maxMatching
}

// add collects what a pattern matches and what is below it. found is whether it matches anything.
func (w *walk) add(pattern string) (found bool, err error) {
	names := []string{pattern}
	if strings.ContainsAny(pattern, `*?[\`) {
		names, err = fs.Glob(w, pattern)
		if err = cmp.Or(err, w.visit(0, 0)); err != nil {
			return false, err
		}
	}
	for _, name := range names {
		err := fs.WalkDir(w.fsys, name, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if err := w.visit(1, len(name)*w.ignored.wild); err != nil {
				return err
			}
			skip, err := w.ignored.MatchesOrParentMatches(name)
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
				w.files[name] = true
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return found, nil
}

func (w *walk) visit(files, matching int) error {
	w.visited, w.matching = w.visited+files, w.matching+matching
	switch {
	case w.visited > maxVisited:
		return fmt.Errorf("what the Dockerfile copies comes to more than %d files, each counted as often as it is named", maxVisited)
	case w.matching > maxMatching:
		return errors.New(".dockerignore has too many wildcards for so many files")
	}
	return nil
}

// Open makes walk an [fs.FS] that counts what [fs.Glob] reads. Glob ignores all errors except those of patterns.
func (w *walk) Open(name string) (fs.File, error) { return w.fsys.Open(name) }

// ReadDir makes walk an [fs.ReadDirFS].
func (w *walk) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := w.visit(1, 0); err != nil {
		return nil, err
	}
	list, err := fs.ReadDir(w.fsys, name)
	w.visited += len(list)
	return list, err
}

// hash is the identity of the image: a hash of the Dockerfile, the names, modes and contents of the files it copies, the
// build arguments, the platform, whether the files are signed, and whether it is built by hand. A build by hand uses the
// cache of any builder, so a client's job doesn't use its image. --pull and --no-cache are part of build_args, so that
// asking for them makes one new image and not one per job.
func (b *buildContext) hash(s job.Source, platform string) (string, error) {
	h := sha256.New()
	args, err := json.Marshal(s.Build)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "2\n%t %t\n%s\n%d %s\n%s\n", s.Unsigned, s.Cache, platform, len(args), args, b.dockerfile)
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

// contextMode is a file's mode in the image. Whether it is executable is the only part that a slot keeps reliably.
func contextMode(fi fs.FileInfo) int64 {
	if fi.IsDir() || fi.Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// pack writes the context as an archive for the builder.
func (b *buildContext) pack(w io.Writer) error {
	tw := tar.NewWriter(w)
	if !slices.Contains(b.files, b.packed) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: b.packed, Mode: 0o644, Size: int64(len(b.text)), ModTime: contextTime}
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
