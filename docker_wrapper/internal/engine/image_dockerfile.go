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
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"boincdocker/docker_wrapper/internal/job"
)

// buildContext is the files of the slot that a Dockerfile uses.
type buildContext struct {
	reading
	fsys       fs.FS
	dockerfile string
	text       []byte
	files      []string // sorted: a directory before what is in it
	notes      []string // what is odd in the Dockerfile
	identity   string   // hexadecimal; see hash
	fetched    []base   // of an unsigned Dockerfile: the images that the engine fetches
	buildKit   bool     // Docker's classic builder makes something else of the Dockerfile, or can't build it
	packed     string   // the Dockerfile's name in the context that the builder gets
}

const defaultDockerfile = "Dockerfile"

// maxMissing is how many files that a Dockerfile copies and that can't be read are named.
const maxMissing = 20

// contextTime is the time of every file in a build context, so that the image doesn't depend on when a client
// downloaded the file.
var contextTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// newBuildContext finds the files that the Dockerfile copies. fsys is the slot as the job's author knows it: with links
// followed and without BOINC's own files. Mistakes are *ImageError.
func newBuildContext(fsys fs.FS, s job.Source, at site) (*buildContext, error) {
	text, err := ReadFile(fsys, s.Dockerfile, maxDockerfile)
	if HostsFault(err) {
		return nil, fmt.Errorf("read %s: %w", s.Dockerfile, err)
	} else if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: fmt.Sprintf("read %s: %v", s.Dockerfile, bare(err))}
	}
	result, err := parseDockerfile(text)
	if err == nil && !s.Unsigned { // such names are refused to an unsigned job
		if full := withFullNames(result, text, s); !bytes.Equal(full, text) {
			text = full
			result, err = parseDockerfile(text)
		}
	}
	b := &buildContext{fsys: fsys, dockerfile: s.Dockerfile, packed: s.Dockerfile, text: text}
	if err == nil {
		b.reading, b.buildKit, err = choose(result, text, s, at)
	}
	if err != nil {
		return nil, &ImageError{Image: s.Name, Reason: s.Dockerfile + ": " + brief(err.Error())}
	}
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
	if err := b.collect(ignored, s); err != nil {
		return nil, err
	}
	if s.NoFetch || s.Unsigned { // Podman runs a preprocessor on a Dockerfile whose name ends in .in
		for b.packed = defaultDockerfile; slices.Contains(b.files, b.packed); b.packed += "_" {
		}
	}
	if b.identity, err = b.hash(s, cmp.Or(at.platform, at.own)); err != nil {
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

// collect finds the files that the sources name. Of the sources of a step, those with wildcards may match nothing when another
// one matches something.
func (b *buildContext) collect(ignored *ignoring, s job.Source) error {
	got := map[source]match{} // by name and wild
	key := func(src source) source { return source{name: src.name, wild: src.wild} }
	w := &walk{fsys: b.fsys, ignored: ignored, files: map[string]bool{}}
	var mistakes []error
	for len(b.sources) > 0 {
		n := 1
		for n < len(b.sources) && b.sources[n].line == b.sources[0].line && b.sources[n].step == b.sources[0].step {
			n++
		}
		step := b.sources[:n]
		b.sources = b.sources[n:]
		for _, src := range step {
			if _, before := got[key(src)]; before {
				continue
			}
			m, err := w.add(src.name, src.wild)
			if HostsFault(err) {
				return fmt.Errorf("read %s, which %s copies: %w", brief(src.name), s.Dockerfile, err)
			} else if err != nil {
				mistakes, m = append(mistakes, stepError(s, src, brief(src.name)+": "+bare(err).Error())), found
			}
			got[key(src)] = m
		}
		some := slices.ContainsFunc(step, func(src source) bool { return got[key(src)] == found })
		for _, src := range step {
			if src.empty {
				b.notes = append(b.notes, fmt.Sprintf("%s:%d: %s: %s is empty, so this is the whole slot (if it is meant, write a dot)", s.Dockerfile, src.line, brief(src.step), brief(src.word)))
			}
			switch m := got[key(src)]; {
			case m == found, src.wild && some:
			case m == excluded:
				mistakes = append(mistakes, stepError(s, src, fmt.Sprintf("%s: it is in the slot, but %s excludes it", brief(src.name), ignored.file)))
			default:
				mistakes = append(mistakes, stepError(s, src, brief(src.name)+": no such file in the slot"+b.hint(src)))
			}
		}
		if len(mistakes) >= maxMissing || w.visit(0, 0) != nil {
			break
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	b.files = slices.Sorted(maps.Keys(w.files))
	return nil
}

// hint says which value a platform argument has that a source names.
func (b *buildContext) hint(src source) string {
	if m := platformVariable.FindStringSubmatch(src.word); m != nil {
		return fmt.Sprintf(" (%s is %q here)", m[1], b.args[m[1]])
	}
	return ""
}

func stepError(s job.Source, src source, reason string) error {
	return &ImageError{Image: s.Name, Step: fmt.Sprintf("%s:%d: %s", s.Dockerfile, src.line, brief(src.step)), Reason: reason}
}

// checkContext returns the error that Ensure would find in a Dockerfile before the build, and what may be meant as it is. It needs
// no engine.
func checkContext(fsys fs.FS, s job.Source) (notes []string, err error) {
	b, err := newBuildContext(fsys, s, site{own: "linux/" + runtime.GOARCH, builders: []builder{classic, newBuildKit}})
	if err != nil {
		return nil, err
	}
	return b.notes, nil
}

// bare drops the operation and path that the os package adds.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// ignoring is .dockerignore.
type ignoring struct {
	*patternmatcher.PatternMatcher
	file string // its name
	wild int    // bytes of patterns with wildcards
}

// ignoreRules reads DOCKERFILE.dockerignore, else .dockerignore. Builders expect their clients to apply it.
func ignoreRules(fsys fs.FS, dockerfile string) (*ignoring, error) {
	var patterns []string
	i := &ignoring{}
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
		i.file = name
		break
	}
	if len(patterns) > maxIgnored {
		return nil, fmt.Errorf("has more than %d patterns", maxIgnored)
	}
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

// match is what the slot has for a pattern.
type match int

const (
	nothing  match = iota
	excluded       // only what .dockerignore excludes
	found
)

// add collects what a pattern matches and what is below it.
func (w *walk) add(pattern string, wild bool) (got match, err error) {
	names := []string{pattern}
	if wild {
		names, err = fs.Glob(w, pattern)
		if err = cmp.Or(err, w.visit(0, 0)); err != nil {
			return nothing, err
		}
		// BuildKit wants the directory in which nothing matches.
		if dir := path.Dir(pattern[:strings.IndexAny(pattern, `*?[\`)] + "x"); len(names) == 0 && dir != "." {
			if fi, err := fs.Stat(w.fsys, dir); err == nil && fi.IsDir() {
				w.files[dir] = true
			}
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
			if skip {
				got = max(got, excluded)
			}
			if err != nil || skip && !d.IsDir() {
				return err
			}
			if name == "." {
				got = found
				return nil
			}
			if !d.IsDir() && !d.Type().IsRegular() {
				return nil
			}
			if !skip {
				got = found
				w.files[name] = true
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nothing, err
		}
	}
	return got, nil
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
	build := *s.Build
	build.Args = b.buildArgs(s)
	args, err := json.Marshal(build)
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

// buildArgs are the arguments that the builder gets: the job's, and platform arguments that the Dockerfile declares. Podman takes
// one without a value for an empty one.
func (b *buildContext) buildArgs(s job.Source) map[string]*string {
	args := map[string]*string{}
	for name, value := range b.args {
		args[name] = &value
	}
	maps.Copy(args, s.Build.Args)
	maps.DeleteFunc(args, func(_ string, value *string) bool { return value == nil })
	return args
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
