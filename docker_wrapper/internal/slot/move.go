package slot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	// populated is a file that exists from the end of the move into the payload to the beginning of the move out.
	// Meanwhile the payload belongs to the job, and nothing is moved into it.
	populated = job.WrapperDir + "/populated"

	tempName = job.WrapperDir + "/temp"

	trashPrefix = "trash-" // of directories in job.WrapperDir with files of the job that are to be removed

	// linksName is the list of the slot's links before the job's first start: name and physical name of each.
	linksName = job.WrapperDir + "/links.json"

	softLinkEnd = "</soft_link>"

	maxNested  = 64      // depth of the job's directories; deeper ones aren't moved
	maxDropped = 200_000 // files of the trash that one move removes; the next move or the client removes the rest
)

// mover is one move, into the payload or out of it. step is called before each change to the file system; tests
// interrupt the move there.
type mover struct {
	slot  job.Slot
	root  *os.Root // the slot
	links map[string]job.Link
	link  func(oldname, newname string) error // makes a hard link; some file systems have none
	step  func() error
	left  job.LeftOut       // files that weren't moved out
	lost  map[string]string // why an output wasn't delivered, by its logical name
	note  func(lost map[string]string) error

	looked int // components of paths that openOutput has passed
	trash  int // number of files removed from the trash
}

func newMover(s job.Slot) (*mover, error) {
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("open slot: %w", err)
	}
	m := &mover{slot: s, root: root, links: map[string]job.Link{}, link: root.Link, lost: map[string]string{},
		step: func() error { return nil }}
	for _, l := range s.Links {
		m.links[l.Name] = l
	}
	return m, nil
}

// MoveIn moves the job's files from the slot into the payload, where the container will see them. Each leaves an empty
// placeholder, so that a client before 8.2 doesn't copy it again. Link files, and files that the wrapper reads itself,
// are copied. redacted is the container's init_data.xml; nil for none.
//
// Called again before MoveOut, it only renews init_data.xml.
func MoveIn(s job.Slot, redacted []byte) error {
	m, err := newMover(s)
	if err != nil {
		return err
	}
	defer m.root.Close()
	if err := m.moveIn(); err != nil {
		return fmt.Errorf("move the job's files into %s: %w", payloadName, err)
	}
	return WriteInitData(s, redacted)
}

// NoteLinks writes the list of the slot's links when nothing is moved into a payload. See [Links].
func NoteLinks(s job.Slot) error {
	m, err := newMover(s)
	if err != nil {
		return err
	}
	defer m.root.Close()
	if err := m.noteLinks(); err != nil {
		return fmt.Errorf("note the slot's links: %w", err)
	}
	return nil
}

func (m *mover) moveIn() error {
	if _, err := m.root.Stat(populated); err == nil {
		return nil
	}
	if err := m.root.MkdirAll(job.WrapperDir, stateMode); err != nil {
		return err
	}
	if err := m.root.MkdirAll(payloadName, 0o771); err != nil {
		return err
	}
	if err := m.noteLinks(); err != nil {
		return err
	}
	if err := m.eachIn("."); err != nil {
		return err
	}
	if err := m.step(); err != nil {
		return err
	}
	if err := m.root.RemoveAll(tempName); err != nil {
		return err
	}
	return m.root.WriteFile(populated, nil, 0o644)
}

// noteLinks writes the list of the slot's links before the job's first start. Links that appear later are the job's own.
// A damaged list is written again.
func (m *mover) noteLinks() error {
	if noted, err := readNoted(m.slot.Dir); noted != nil || err != nil {
		return err
	}
	targets := map[string]string{}
	for _, l := range m.slot.Links {
		targets[l.Name] = filepath.Base(l.Target)
	}
	data, err := json.Marshal(targets)
	if err != nil {
		return err
	}
	return m.write(linksName, bytes.NewReader(append(data, '\n')), 0o644)
}

func (m *mover) eachIn(dir string) error {
	entries, err := m.readDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if dir == "." && job.Reserved(e.Name()) || slices.Contains(m.slot.Kept, name) || tooDeep(name, e) {
			continue
		}
		if err := m.in(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) in(name string, e fs.DirEntry) error {
	inside := path.Join(payloadName, name)
	_, isLink := m.links[name]
	switch {
	case e.IsDir():
		if err := m.step(); err != nil {
			return err
		}
		if fi, err := m.root.Lstat(inside); err == nil && !fi.IsDir() {
			return nil // in an earlier attempt the job put something else there
		}
		if err := m.root.MkdirAll(inside, 0o771); err != nil {
			return err
		}
		if err := m.enter(inside); err != nil {
			return err
		}
		return m.eachIn(name)
	case isLink:
		return m.copyLink(name, inside)
	case !e.Type().IsRegular():
		return nil // the client doesn't put such files into a slot
	case slices.Contains(m.slot.Copied, name):
		return m.copyIn(name, inside)
	}
	fi, err := m.root.Lstat(name)
	if err != nil {
		return err
	}
	if moved, err := m.root.Lstat(inside); err == nil {
		if fi.Size() == 0 && !os.SameFile(fi, moved) {
			return nil // moved before
		}
		return m.placeholder(name) // the earlier move was interrupted between the two steps
	}
	// Link first, then replace the old name by the placeholder: the file always has a name.
	if err := m.step(); err != nil {
		return err
	}
	if err := m.link(name, inside); err == nil {
		return m.placeholder(name)
	}
	if err := m.root.Rename(name, inside); err != nil { // a file system without hard links
		return err
	}
	return m.placeholder(name)
}

// placeholder replaces name by an empty file, atomically. It isn't synced: the file has no data, and thousands of them
// would take long. A move that a loss of power undid is made again.
func (m *mover) placeholder(name string) error {
	if err := m.step(); err != nil {
		return err
	}
	return host.Replace(m.root, tempName, name, 0o644, func(*os.File) error { return m.step() })
}

// copyLink copies a link into the payload. A symlink would dangle there, so it becomes a link file.
func (m *mover) copyLink(name, inside string) error {
	if _, err := m.root.Lstat(inside); err == nil {
		return nil
	}
	fi, err := m.root.Lstat(name)
	if err != nil {
		return err
	}
	if fi.Mode().IsRegular() {
		return m.copyIn(name, inside)
	}
	target, err := filepath.Rel(m.slot.Dir, m.links[name].Target)
	if err != nil {
		return err
	}
	return m.write(inside, strings.NewReader(boincapi.SoftLinkTag+escape(filepath.ToSlash(target))+softLinkEnd+"\n"), 0o644)
}

// escape escapes the target of a link file.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(s)
}

func (m *mover) copyIn(name, inside string) error {
	if _, err := m.root.Lstat(inside); err == nil {
		return nil
	}
	f, err := m.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return m.write(inside, f, fi.Mode().Perm())
}

// write makes a file, complete or not at all, and syncs it: a file that has its name isn't written again.
func (m *mover) write(name string, r io.Reader, mode fs.FileMode) error {
	if err := m.step(); err != nil {
		return err
	}
	return host.ReplaceSynced(m.root, tempName, name, mode, func(f *os.File) error {
		_, err := io.Copy(f, r)
		return errors.Join(err, f.Chmod(mode), m.step())
	})
}

// WriteInitData writes the container's redacted init_data.xml; the client rewrites the original now and then. nil
// removes it. Without a payload, as after MoveOut, WriteInitData does nothing.
func WriteInitData(s job.Slot, redacted []byte) error {
	m, err := newMover(s)
	if err != nil {
		return err
	}
	defer m.root.Close()
	name := path.Join(payloadName, boincapi.InitDataFile)
	if err := m.enter(payloadName); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("write the container's %s: %w", boincapi.InitDataFile, err)
	}
	// The job may have put anything under this name. A rename can't replace a directory, so drop it first.
	if fi, err := m.root.Lstat(name); err == nil && (redacted == nil || fi.IsDir()) {
		if err := m.drop(name); err != nil {
			return fmt.Errorf("remove the container's %s: %w", boincapi.InitDataFile, err)
		}
	}
	if redacted == nil {
		return nil
	}
	if err := m.write(name, strings.NewReader(string(redacted)), 0o644); err != nil {
		return fmt.Errorf("write the container's %s: %w", boincapi.InitDataFile, err)
	}
	return nil
}

// Moved is what MoveOut didn't move.
type Moved struct {
	LeftOut []job.Left        // removed, at most 20, see [job.LeftOut]
	Lost    map[string]string // why an output wasn't delivered, by its logical name
}

// MoveOut moves all of the job's files from the payload back into the slot: new, changed and unchanged ones. An output
// that the job wrote under its logical name goes to its physical name in the project directory, also if it is a symlink
// to another file of the payload.
//
// It doesn't move files under BOINC's or the wrapper's names, and directories more than 64 deep. A symlink is moved if
// it and its target lie in the same top directory of the payload. Of others it moves the file that they lead to, if
// that is one of the payload, because the client follows symlinks. The rest is removed, and so is what can't be moved
// because of its name, kind or permissions: see [Moved]. Files lose their set-user-ID bits, and BOINC's user may read
// them. An error is one of the computer.
//
// note is given the outputs that can't be delivered, as [Moved.Lost], before the payload is removed: then nothing shows any more
// why.
func MoveOut(s job.Slot, note func(lost map[string]string) error) (Moved, error) {
	m, err := newMover(s)
	if err != nil {
		return Moved{}, err
	}
	defer m.root.Close()
	m.note = note
	if err = m.moveOut(); err != nil {
		err = fmt.Errorf("move the job's files out of %s: %w", payloadName, err)
	}
	return Moved{m.left.Files(), m.lost}, err
}

// tooDeep reports whether a directory is nested too deeply to be moved.
func tooDeep(name string, e fs.DirEntry) bool {
	return e.IsDir() && strings.Count(name, "/") >= maxNested
}

func (m *mover) moveOut() error {
	if _, err := m.root.Lstat(payloadName); errors.Is(err, fs.ErrNotExist) {
		return m.emptyTrash()
	}
	if err := m.noteLinks(); err != nil { // before the job's own links come into the slot
		return err
	}
	if err := m.step(); err != nil {
		return err
	}
	if err := m.root.RemoveAll(populated); err != nil {
		return err
	}
	if err := m.enter(payloadName); err != nil {
		return err
	}
	if err := m.outputs(); err != nil { // before the files that symlinks lead to are moved
		return err
	}
	if err := m.eachOut("."); err != nil {
		return err
	}
	if len(m.lost) > 0 {
		if err := m.note(m.lost); err != nil {
			return err
		}
	}
	if err := m.step(); err != nil {
		return err
	}
	if err := m.drop(payloadName); err != nil {
		return err
	}
	return m.emptyTrash()
}

func (m *mover) eachOut(dir string) error {
	entries, err := m.readDir(path.Join(payloadName, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		var err error
		switch {
		case m.belongsToUs(name):
			err = m.leave(name, "a name that belongs to BOINC or the wrapper")
		case tooDeep(name, e):
			err = m.leave(name, fmt.Sprintf("more than %d directories deep", maxNested))
		default:
			if err = m.out(name, e); host.Final(err) {
				err = m.leave(name, host.Cause(err))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// belongsToUs reports whether the job may not have a file of this name.
func (m *mover) belongsToUs(name string) bool {
	return job.Reserved(name) || slices.Contains(m.slot.Kept, name) || slices.Contains(m.slot.Copied, name)
}

// leave removes a file that isn't moved out, and notes it unless the wrapper put it into the payload. What can't be
// removed now goes into the trash with the payload.
func (m *mover) leave(name, why string) error {
	if err := m.step(); err != nil {
		return err
	}
	if name != boincapi.InitDataFile && !slices.Contains(m.slot.Copied, name) && !given(name) {
		m.left.Add(name, why)
	}
	if err := m.drop(path.Join(payloadName, name)); !host.Final(err) {
		return err
	}
	return nil
}

// given reports whether the wrapper puts a file of this name into the payload for the job to read.
func given(name string) bool {
	return forJob(name) || name == boincapi.SporadicACFile || name == boincapi.SporadicCAFile
}

// enter gives us access to a directory of the payload, in case the job has removed permissions.
func (m *mover) enter(dir string) error {
	fi, err := m.root.Lstat(dir)
	if err != nil || !fi.IsDir() || fi.Mode().Perm()&0o700 == 0o700 {
		return err
	}
	return m.root.Chmod(dir, fi.Mode().Perm()|0o700)
}

// drop removes a file of the job. A directory it moves into the trash, which takes the same short time whatever the
// directory contains.
func (m *mover) drop(name string) error {
	fi, err := m.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if !fi.IsDir() {
		return m.root.Remove(name)
	}
	if m.root.Remove(name) == nil { // empty
		return nil
	}
	if err := m.enter(name); err != nil { // the rename changes its "..", which needs write permission
		return err
	}
	return m.root.Rename(name, trashName())
}

func trashName() string {
	return job.WrapperDir + "/" + trashPrefix + strconv.FormatUint(rand.Uint64(), 36)
}

// emptyTrash removes the files in the trash, at most maxDropped. It moves each nested directory up into the trash first,
// so that deep directories cost no more than others.
//
// Another user's files may stay. The client, which empties the slot later, may be able to remove them.
func (m *mover) emptyTrash() error {
	for {
		entries, err := m.readDir(job.WrapperDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		emptied := 0
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), trashPrefix) {
				continue
			}
			ok, err := m.emptyDir(path.Join(job.WrapperDir, e.Name()))
			if err != nil {
				return err
			}
			if ok {
				emptied++
			}
		}
		if emptied == 0 {
			return nil
		}
	}
}

// emptyDir removes one directory of the trash, and reports whether it could.
func (m *mover) emptyDir(dir string) (bool, error) {
	if m.trash++; m.trash > maxDropped {
		return false, nil
	}
	if err := m.enter(dir); err != nil {
		return false, unlessFinal(err)
	}
	for {
		names, err := m.someNames(dir)
		if err != nil {
			return false, unlessFinal(err)
		}
		removed := 0
		for _, n := range names {
			if m.trash++; m.trash > maxDropped {
				return false, nil
			}
			if err := m.step(); err != nil {
				return false, err
			}
			if err := m.drop(path.Join(dir, n)); err == nil {
				removed++
			} else if unlessFinal(err) != nil {
				return false, err
			}
		}
		if removed == 0 { // empty, or nothing in it can be removed
			return m.root.Remove(dir) == nil, nil
		}
	}
}

// someNames lists the first files of a directory.
func (m *mover) someNames(dir string) ([]string, error) {
	f, err := m.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(4096)
	if err == io.EOF {
		return nil, nil
	}
	return names, err
}

// unlessFinal ignores an error that comes from the job's file itself.
func unlessFinal(err error) error {
	if host.Final(err) {
		return nil
	}
	return err
}

func ignorePermission(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

func (m *mover) out(name string, e fs.DirEntry) error {
	inside := path.Join(payloadName, name)
	if l, isLink := m.links[name]; isLink {
		return m.linkOut(l, inside, e)
	}
	switch {
	case e.IsDir():
		if err := m.step(); err != nil {
			return err
		}
		if err := m.makeDir(name, e); err != nil {
			return err
		}
		if err := m.eachOut(name); err != nil {
			return err
		}
		return m.drop(inside)
	case e.Type()&fs.ModeSymlink != 0 && !m.staysBelow(name):
		return m.leave(name, "a symlink that leads to no file of the job")
	case e.Type()&fs.ModeSymlink == 0 && !e.Type().IsRegular():
		return m.leave(name, notAFile)
	}
	if fi, err := m.root.Lstat(name); err == nil && fi.IsDir() {
		if m.holdsOurs(name) {
			return m.leave(name, "a file in place of a directory with files of BOINC's")
		}
		if err := m.step(); err != nil {
			return err
		}
		if err := m.drop(name); err != nil {
			return err
		}
	}
	if e.Type().IsRegular() {
		if err := m.plainMode(inside); err != nil {
			return err
		}
	}
	if err := m.step(); err != nil {
		return err
	}
	return m.root.Rename(inside, name)
}

// plainMode removes a file's set-user-ID, set-group-ID and sticky bits, write permission for others, and extended
// attributes. With them others could act as its owner or write the file. Its owner, BOINC's user, may read it: the
// client uploads it.
func (m *mover) plainMode(inside string) error {
	fi, err := m.root.Lstat(inside)
	if err != nil {
		return err
	}
	if want := plain(fi.Mode()); fi.Mode() != want {
		if err := m.step(); err != nil {
			return err
		}
		if err := m.root.Chmod(inside, want); err != nil {
			return err
		}
	}
	full := filepath.Join(m.slot.Dir, filepath.FromSlash(inside))
	if len(full) < maxPath {
		return stripAttributes(full)
	}
	dir, err := m.root.Open(path.Dir(inside))
	if err != nil {
		return err
	}
	defer dir.Close()
	return stripAttributes(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), path.Base(inside)))
}

// plain is the mode of a file outside of the payload, from its mode in it.
func plain(mode fs.FileMode) fs.FileMode { return mode.Perm()&^othersWrite | 0o400 }

const maxPath = 4096 // bytes of a path in a system call (PATH_MAX in limits.h), with the NUL at its end

// othersWrite is the mode bit by which the container's users can write files in the payload. Outside the payload no file
// of the job has it.
const othersWrite = 0o002

// holdsOurs reports whether a directory of the slot contains files that the job may not replace.
func (m *mover) holdsOurs(dir string) bool {
	below := func(name string) bool { return strings.HasPrefix(name, dir+"/") }
	return slices.ContainsFunc(m.slot.Copied, below) || slices.ContainsFunc(m.slot.Kept, below) ||
		slices.ContainsFunc(m.slot.Links, func(l job.Link) bool { return below(l.Name) })
}

// makeDir makes a directory of the payload in the slot too, and gives us access to both.
func (m *mover) makeDir(name string, e fs.DirEntry) error {
	inside := path.Join(payloadName, name)
	fi, err := e.Info()
	if err != nil {
		return err
	}
	if err := m.enter(inside); err != nil {
		return err
	}
	if old, err := m.root.Lstat(name); err == nil && !old.IsDir() {
		if err := m.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return m.root.MkdirAll(name, fi.Mode().Perm()&^othersWrite|0o700)
}

// staysBelow reports whether a symlink's target is below the same top directory of the payload. Only the beginning of
// the target may be "..": after the name of another symlink ".." can lead anywhere.
func (m *mover) staysBelow(name string) bool {
	target, err := m.root.Readlink(path.Join(payloadName, name))
	if err != nil || filepath.IsAbs(target) {
		return false
	}
	target = filepath.ToSlash(target)
	down := target
	for strings.HasPrefix(down, "../") {
		down = strings.TrimLeft(down[len("../"):], "/")
	}
	if down != ".." && slices.Contains(strings.Split(down, "/"), "..") {
		return false
	}
	_, rest, ok := strings.Cut(name, "/")
	return ok && filepath.IsLocal(path.Join(path.Dir(rest), target))
}

// linkOut removes what the payload has under a link's name. The outputs among the links are delivered already.
func (m *mover) linkOut(l job.Link, inside string, e fs.DirEntry) error {
	if l.Output { // what was not delivered stays until the payload is removed, so that the next episode sees why
		return nil
	}
	if e.Type().IsRegular() {
		f, err := m.root.Open(inside)
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := m.pastLink(f)
		if err != nil {
			return err
		}
		if data < 0 {
			if err := m.step(); err != nil {
				return err
			}
			return m.root.Remove(inside)
		}
	}
	why := notAnOutput(m.slot, l)
	if l.Missing { // nothing else is there that the link could lead to
		m.lost[l.Name] = why
	}
	return m.leave(l.Name, why)
}

// pastLink returns where the job's data begins in a payload file that was a link file: 0 if the job replaced the file,
// -1 if it wrote nothing.
func (m *mover) pastLink(f *os.File) (int64, error) {
	head, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || !strings.HasPrefix(string(head), boincapi.SoftLinkTag) {
		return 0, err
	}
	_, data, ok := strings.Cut(string(head), softLinkEnd)
	if !ok {
		return 0, nil
	}
	data, _ = strings.CutPrefix(data, "\n")
	if data == "" {
		return -1, nil
	}
	return int64(len(head) - len(data)), nil
}

// writeWhole replaces a file outside the slot, complete or not at all, and syncs it: the job's own file is removed next.
func writeWhole(name string, r io.Reader) error {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer root.Close()
	base := filepath.Base(name)
	return host.ReplaceSynced(root, host.Part(base), base, 0o644, func(f *os.File) error {
		_, err := io.Copy(f, r)
		return err
	})
}

func (m *mover) readDir(dir string) ([]fs.DirEntry, error) {
	f, err := m.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}
