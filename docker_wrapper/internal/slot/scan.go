package slot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/resolve"
)

const (
	payloadName = job.WrapperDir + "/payload"
	maxDepth    = 16      // of directories in a slot; logical names have few
	maxLooked   = 100_000 // files of a slot that are examined
)

// Links lists the slot's links that the client made, sorted by name: link files and symlinks whose target lies directly
// in the project directory. Not listed are link files and symlinks
//   - with another target;
//   - that the job made: after the first MoveIn or NoteLinks only links from before it are listed;
//   - that are copies of an input with the form of a link file: see [forgedLinks].
//
// With an empty projectDir (standalone) all link files are listed, and no symlinks.
//
// appFiles are the physical names of the app version's files.
func Links(dir, projectDir string, appFiles []string) ([]job.Link, error) {
	var links []job.Link
	looked := 0
	var walk func(rel string, depth int) error
	walk = func(rel string, depth int) error {
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(rel)))
		if errors.Is(err, fs.ErrPermission) && rel != "." {
			return nil // the job has removed our permissions
		} else if err != nil {
			return fmt.Errorf("read slot: %w", err)
		}
		for _, e := range entries {
			if looked++; looked > maxLooked {
				return nil
			}
			name := path.Join(rel, e.Name())
			switch {
			case rel == "." && job.Reserved(e.Name()), projectDir == "" && e.Type()&fs.ModeSymlink != 0:
			case e.IsDir() && depth < maxDepth:
				if err := walk(name, depth+1); err != nil {
					return err
				}
			default:
				if target, ok := linkTarget(dir, name, e.Type()); ok && allowed(target, projectDir) {
					_, err := os.Stat(target)
					links = append(links, job.Link{Name: name, Target: target, Missing: errors.Is(err, fs.ErrNotExist)})
				}
			}
		}
		return nil
	}
	if err := walk(".", 0); err != nil {
		return nil, err
	}
	if projectDir == "" {
		return links, nil
	}
	forged, err := forgedLinks(dir, projectDir, links, appFiles)
	if err != nil {
		return nil, err
	}
	links = slices.DeleteFunc(links, func(l job.Link) bool { return forged[l.Name] })
	first, err := readNoted(dir)
	if err != nil {
		return nil, err
	} else if first == nil {
		return links, nil
	}
	valid := func(s string) string { return string([]rune(s)) } // JSON, too, replaces what isn't UTF-8
	return slices.DeleteFunc(links, func(l job.Link) bool { return first[valid(l.Name)] != valid(filepath.Base(l.Target)) }), nil
}

// forgedLinks finds link files that are really copies of an input. An input can have the form of a link file, and the
// client may copy it into the slot. A copy has the same bytes as some file in the project directory.
//
// The client's own link to a file of the app version is never taken for a copy, even if a workunit has an input with the
// same bytes: it is the only name in the slot that leads to that file.
func forgedLinks(dir, projectDir string, links []job.Link, appFiles []string) (map[string]bool, error) {
	bytesOf := map[string]string{}
	sizes := map[int64]bool{}
	led := map[string]int{} // number of links to a target
	for _, l := range links {
		led[l.Target]++
		name := filepath.Join(dir, filepath.FromSlash(l.Name))
		fi, err := os.Lstat(name)
		if err != nil || !fi.Mode().IsRegular() { // a symlink can't be a copy
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read slot: %w", err)
		}
		bytesOf[l.Name], sizes[int64(len(data))] = string(data), true
	}
	if len(bytesOf) == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir(projectDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read project directory: %w", err)
	}
	inputs := map[string]bool{} // contents of the project's files that have the size of a link
	for _, e := range entries {
		if fi, err := e.Info(); err != nil || !fi.Mode().IsRegular() || !sizes[fi.Size()] {
			continue
		}
		data, err := os.ReadFile(filepath.Join(projectDir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read project directory: %w", err)
		}
		inputs[string(data)] = true
	}
	copied := map[string]bool{}
	for _, l := range links {
		if data, regular := bytesOf[l.Name]; regular && inputs[data] {
			own := led[l.Target] == 1 && slices.Contains(appFiles, filepath.Base(l.Target)) && !copiedInto(dir, l.Target)
			copied[l.Name] = !own
		}
	}
	return copied, nil
}

// copiedInto reports whether a file of the slot has the same bytes as target, because the client copied it.
func copiedInto(dir, target string) bool {
	return len(sameAs(dir, target)) > 0
}

// sameAs lists the files of the slot with the same bytes as a file of the project. It lists none for an empty file: files
// that were moved into the payload leave empty placeholders.
func sameAs(dir, target string) (names []string) {
	fi, err := os.Stat(target)
	if err != nil || fi.Size() == 0 {
		return nil
	}
	looked := 0
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(dir, name)
		if looked++; looked > maxLooked {
			return fs.SkipAll
		}
		switch {
		case err != nil || relErr != nil:
			return nil
		case d.IsDir():
			if job.Reserved(filepath.ToSlash(rel)) || strings.Count(rel, string(filepath.Separator)) >= maxDepth {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() && info.Size() == fi.Size() && same(name, target, fi.Size()) {
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	return names
}

// readNoted reads the list of links that the slot had before the job's first start: name and physical name of each. It
// returns nil if no link in the slot can be the job's: there is no list yet, or the list is damaged (a loss of power may
// do that) but the job's files are still in the payload. A damaged list without a payload is a *job.ConfigError: nothing
// else can tell the client's links from the job's.
func readNoted(dir string) (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(linksName)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read slot: %w", err)
	}
	noted := map[string]string{}
	if err = json.Unmarshal(data, &noted); err == nil && noted != nil {
		return noted, nil
	}
	if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(payloadName))); errors.Is(err, fs.ErrNotExist) {
		return nil, &job.ConfigError{File: linksName, Problem: "it is damaged, so the client's links can't be told from the job's"}
	} else if err != nil {
		return nil, fmt.Errorf("read slot: %w", err)
	}
	return nil, nil
}

func allowed(target, projectDir string) bool {
	return projectDir == "" || filepath.Dir(target) == filepath.Clean(projectDir)
}

// linkTarget returns the target of a link in the slot; ok is false if the file is no link.
func linkTarget(dir, name string, mode fs.FileMode) (string, bool) {
	full := filepath.Join(dir, filepath.FromSlash(name))
	var target string
	switch {
	case mode&fs.ModeSymlink != 0:
		var err error
		if target, err = os.Readlink(full); err != nil {
			return "", false
		}
		if !filepath.IsAbs(target) { // relative to the directory of the symlink
			target = filepath.Join(filepath.Dir(full), target)
		}
	case mode.IsRegular():
		if fi, err := os.Lstat(full); err != nil || fi.Size() > resolve.MaxLinkSize {
			return "", false
		}
		f, err := os.Open(full)
		if err != nil {
			return "", false
		}
		defer f.Close()
		head, err := io.ReadAll(io.LimitReader(f, resolve.MaxLinkSize))
		if err != nil {
			return "", false
		}
		var ok bool
		if target, ok = resolve.Target(head); !ok {
			return "", false
		}
		if target = filepath.FromSlash(target); !filepath.IsAbs(target) {
			target = filepath.Join(dir, target) // relative to the slot, also if the link lies in a sub-directory
		}
	default:
		return "", false
	}
	return filepath.Clean(target), true
}

// Signed reports whether a file of the slot belongs to the app version. The client has checked the project's signature of
// the app version's files. Either the file is a link to one of appFiles in the project directory, or it is a copy with
// the same bytes. links are those of [Links].
//
// The client puts each file of the app version into the slot once. So if two names lead to the same file, a workunit has
// chosen one of them, and neither is signed. A link file with the same bytes as a file of the project isn't signed either.
func Signed(dir, projectDir, name string, links []job.Link, appFiles []string) bool {
	leading := func(target string) (n int) { // number of links to target
		for _, l := range links {
			if l.Target == target {
				n++
			}
		}
		return n
	}
	for _, l := range links {
		if l.Name == name {
			return slices.Contains(appFiles, filepath.Base(l.Target)) && leading(l.Target) == 1 && !copiedInto(dir, l.Target) && !copiedFrom(projectDir, dir, name)
		}
	}
	fi, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil || !fi.Mode().IsRegular() {
		return false
	}
	alike, led := 0, 0 // number of the app version's files with these bytes, and of links to them
	var copied []string
	for _, app := range appFiles {
		target := filepath.Join(projectDir, app)
		if app != filepath.Base(app) || !same(filepath.Join(dir, filepath.FromSlash(name)), target, fi.Size()) {
			continue
		}
		alike++
		led += leading(target)
		copied = sameAs(dir, target)
	}
	return alike > 0 && led+len(copied) <= alike
}

// copiedFrom reports whether a link file in the slot has the same bytes as a file of the project. The client may have
// copied that over its own link to a file of the app version; then no other name leads to the file.
func copiedFrom(projectDir, dir, name string) bool {
	full := filepath.Join(dir, filepath.FromSlash(name))
	fi, err := os.Lstat(full)
	entries, readErr := os.ReadDir(projectDir)
	if err != nil || readErr != nil {
		return true
	}
	return fi.Mode().IsRegular() && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		info, err := e.Info()
		return err == nil && info.Mode().IsRegular() && info.Size() == fi.Size() && same(full, filepath.Join(projectDir, e.Name()), fi.Size())
	})
}

// same reports whether two files hold the same bytes.
func same(a, b string, size int64) bool {
	if fi, err := os.Stat(b); err != nil || fi.Size() != size || !fi.Mode().IsRegular() {
		return false
	}
	fa, err := os.Open(a)
	if err != nil {
		return false
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(fa, bufA)
		m, errB := io.ReadFull(fb, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return ended(errA) && ended(errB)
		}
	}
}

func ended(err error) bool { return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) }

// Files is the slot as the job's author sees it: links are followed, files that were moved into the payload are found
// under their names, and BOINC's files are hidden. Files in the payload are untrusted: no link is followed out of it.
func Files(s job.Slot) fs.FS {
	f := files{slot: s, links: map[string]string{}}
	for _, l := range s.Links {
		f.links[l.Name] = l.Target
	}
	return f
}

type files struct {
	slot  job.Slot
	links map[string]string
}

var (
	_ fs.ReadDirFS = files{}
	_ fs.StatFS    = files{}
)

func (f files) Open(name string) (fs.File, error) {
	if err := f.check("open", name); err != nil {
		return nil, err
	}
	if target, ok := f.links[name]; ok {
		file, err := os.Open(target)
		if err != nil {
			return nil, err
		}
		return linked{file, path.Base(name)}, nil
	}
	root, err := os.OpenRoot(f.side(name))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fi, err := root.Stat(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() && !fi.IsDir() { // opening a FIFO would block until there is a writer
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	file, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return file, nil
	}
	return &directory{File: file, all: func() ([]fs.DirEntry, error) { return f.ReadDir(name) }}, nil
}

// linked is an open linked file with its logical name.
type linked struct {
	*os.File
	name string
}

func (l linked) Stat() (fs.FileInfo, error) {
	fi, err := l.File.Stat()
	if err != nil {
		return nil, err
	}
	return named{fi, l.name}, nil
}

// directory is an open directory with the entries of both slot and payload.
type directory struct {
	*os.File
	all  func() ([]fs.DirEntry, error) // nil after the first call
	rest []fs.DirEntry
}

func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.all != nil {
		var err error
		if d.rest, err = d.all(); err != nil {
			return nil, err
		}
		d.all = nil
	}
	if n > 0 && len(d.rest) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.rest) {
		n = len(d.rest)
	}
	list := d.rest[:n]
	d.rest = d.rest[n:]
	return list, nil
}

func (f files) Stat(name string) (fs.FileInfo, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

func (f files) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.check("readdir", name); err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, side := range []string{f.slot.Dir, f.slot.Payload} {
		if side == "" {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(side, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			found[e.Name()] = true
		}
	}
	var list []fs.DirEntry
	for n := range found {
		fi, err := f.Stat(path.Join(name, n))
		if err != nil {
			continue // hidden, gone, or neither file nor directory
		}
		list = append(list, fs.FileInfoToDirEntry(named{fi, n}))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// named is the FileInfo of a linked file with its logical name.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string { return n.name }

func (f files) check(op, name string) error {
	top, _, _ := strings.Cut(name, "/")
	switch {
	case !fs.ValidPath(name):
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	case job.Reserved(top):
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return nil
}

// side is the directory that holds a file's data: the payload if the file was moved there and the slot has only its
// placeholder, else the slot.
func (f files) side(name string) string {
	if !f.slot.Move || slices.Contains(f.slot.Copied, name) {
		return f.slot.Dir
	}
	rel := filepath.FromSlash(name)
	if fi, err := os.Lstat(filepath.Join(f.slot.Dir, rel)); err == nil && (fi.IsDir() || fi.Size() > 0) {
		return f.slot.Dir
	}
	if _, err := os.Lstat(filepath.Join(f.slot.Payload, rel)); err == nil {
		return f.slot.Payload
	}
	return f.slot.Dir
}
