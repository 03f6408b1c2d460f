package slot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	notAFile    = "neither a file nor a directory"
	isDirectory = "it is a directory, and BOINC uploads files"
	mayNotRead  = "BOINC's user may not read it"

	maxSymlinks = 40 // that lead to one file, as in Linux (path_resolution(7))
)

// notAnOutput says why what the job wrote under a link's name isn't taken.
func notAnOutput(s job.Slot, l job.Link) string {
	return fmt.Sprintf("it is linked to %s, which is not an output of this result: the names of its outputs begin with %s_",
		filepath.Base(l.Target), s.Result)
}

// outputs brings the outputs from the payload to their physical names. What can't be brought stays there, and m.lost
// says why. Of the other symlinks in the payload's top directory it makes files, if they lead to files of the job: one
// of them may be an output that the client moves itself (copy_file).
func (m *mover) outputs() error {
	for _, l := range m.slot.Links {
		if !l.Output {
			continue
		}
		if err := m.step(); err != nil {
			return err
		}
		why, err := m.bringOutput(payloadName, l)
		if err != nil {
			return fmt.Errorf("output %s: %w", l.Name, err)
		}
		if why != "" {
			m.lost[l.Name] = why
		}
	}
	entries, err := m.readDir(payloadName)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, isLink := m.links[e.Name()]; e.Type()&fs.ModeSymlink == 0 || isLink || m.belongsToUs(e.Name()) {
			continue
		}
		if err := m.step(); err != nil {
			return err
		}
		if err := unlessFinal(m.followLink(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// maxComponents is how many directories are passed in all to follow a job's symlinks. Each takes some microseconds, and a job could make a
// million long ways.
const maxComponents = 100_000

// followLink replaces a symlink in the payload by a second name of the file that it leads to, if that is one of the job's.
// It doesn't copy: a job could fill the disk with links to one large file.
func (m *mover) followLink(name string) error {
	f, at, _, err := m.openOutput(payloadName, name)
	if f == nil || err != nil {
		return err
	}
	defer f.Close()
	at = path.Clean(at)
	if _, isLink := m.links[at]; isLink || m.belongsToUs(at) {
		return nil
	}
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	// Directories among the symlinks can make another name of what was opened than it seems: also that of a file of BOINC's.
	for other := range m.links {
		if fi, err := m.root.Lstat(path.Join(payloadName, other)); err == nil && os.SameFile(fi, opened) {
			return nil
		}
	}
	if fi, err := m.root.Lstat(path.Join(payloadName, boincapi.InitDataFile)); err == nil && os.SameFile(fi, opened) {
		return nil
	}
	if err := m.root.RemoveAll(tempName); err != nil {
		return err
	}
	if err := m.root.Link(path.Join(payloadName, at), tempName); err != nil {
		return err
	}
	if fi, err := m.root.Lstat(tempName); err != nil || !os.SameFile(fi, opened) {
		return errors.Join(err, m.root.RemoveAll(tempName))
	}
	return m.root.Rename(tempName, path.Join(payloadName, name))
}

// bringOutput moves or copies an output that the job wrote under its logical name in base, the payload or the slot, to its
// physical name. why says what prevents that; it is "" if the job wrote none. An error is one of the computer.
func (m *mover) bringOutput(base string, l job.Link) (why string, err error) {
	f, at, why, err := m.openOutput(base, l.Name)
	if f == nil || err != nil {
		return why, err
	}
	defer f.Close()
	data, err := m.pastLink(f)
	own := at == l.Name
	switch {
	case err != nil:
		return "", err
	case data < 0 && own: // the link file, unchanged
		return "", nil
	case data < 0:
		return "it is a symlink to " + path.Clean(at) + ", a link file of BOINC's", nil
	}
	inside := path.Join(base, l.Name)
	if own && base == payloadName {
		if err := m.plainMode(inside); err == nil && data == 0 && os.Rename(filepath.Join(m.slot.Dir, filepath.FromSlash(inside)), l.Target) == nil {
			return "", nil
		} else if host.MayPass(err) {
			return "", err
		}
	}
	if fi, err := f.Stat(); err != nil {
		return "", err
	} else if why := tooLarge(fi.Size()-data, m.slot.Bound); why != "" { // a sparse file is small until it is copied
		return why, nil
	}
	// Copy: the job appended to the link file, or the project directory is on another file system, or the file isn't ours.
	if _, err := f.Seek(data, io.SeekStart); err != nil {
		return "", err
	}
	if err := writeWhole(l.Target, f); host.Final(err) && !errors.Is(err, fs.ErrPermission) { // permissions there are not the job's
		return fmt.Sprintf("it can't be written to %s: %s", l.Target, host.Cause(err)), nil
	} else if err != nil {
		return "", err
	}
	if err := m.step(); err != nil {
		return "", err
	}
	return "", unlessFinal(m.root.Remove(inside))
}

// openOutput opens the file of the job that name in base leads to, and returns its name below base. Symlinks are followed
// as in the container, but not out of base. Without a file, why is the reason; it is "" if there is nothing of this name.
func (m *mover) openOutput(base, name string) (f *os.File, at, why string, err error) {
	dir := filepath.Join(m.slot.Dir, filepath.FromSlash(base))
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, "", "", err
	}
	defer root.Close()
	at, said := name, ""
	for range maxSymlinks {
		if m.looked += 1 + strings.Count(at, "/"); m.looked > maxComponents {
			return nil, "", "the job has more, or longer, symlinks than are followed", nil
		}
		fi, err := root.Lstat(at)
		if errors.Is(err, fs.ErrPermission) {
			enterAbove(root, at)
			fi, err = root.Lstat(at)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			if said != "" {
				why = "it is a symlink to " + said + ", which isn't there"
			}
			return nil, "", why, nil
		case errors.Is(err, fs.ErrPermission):
			return nil, "", mayNotRead, nil
		case host.Final(err) && said != "":
			return nil, "", fmt.Sprintf("it is a symlink to %s, which leads out of the slot", said), nil
		case host.Final(err):
			return nil, "", host.Cause(err), nil
		case err != nil:
			return nil, "", "", err
		case fi.IsDir() && said != "":
			return nil, "", "it is a symlink to the directory " + said + ", and BOINC uploads files", nil
		case fi.IsDir():
			return nil, "", isDirectory, nil
		case fi.Mode().IsRegular():
			f, err := readable(root, at, fi)
			if host.Final(err) {
				return nil, "", mayNotRead, nil
			}
			return f, at, "", err
		case fi.Mode()&fs.ModeSymlink == 0:
			return nil, "", "it is " + notAFile, nil
		}
		target, err := root.Readlink(at)
		if err != nil {
			return nil, "", "", err
		}
		said = target
		target = filepath.ToSlash(target)
		if !path.IsAbs(target) {
			at = path.Dir(at) + "/" + target // not cleaned: the directory may be a link too
			continue
		}
		rest, ok := strings.CutPrefix(target, strings.TrimSuffix(m.slot.Mount, "/")+"/")
		if m.slot.Mount == "" || !ok {
			return nil, "", fmt.Sprintf("it is a symlink to %s, which is in the container and not in the slot", said), nil
		}
		at = rest
	}
	return nil, "", "its symlinks lead in a circle", nil
}

// tooLarge says why a file isn't copied; "" if it may be.
func tooLarge(size, bound int64) string {
	if bound <= 0 || size <= bound {
		return ""
	}
	return fmt.Sprintf("it has %d bytes, and the job may have %d (rsc_disk_bound)", size, bound)
}

// readable opens a regular file. If it is ours, the job can't prevent that by its mode.
func readable(root *os.Root, name string, fi fs.FileInfo) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	if err := root.Chmod(name, fi.Mode().Perm()|0o400); err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// enterAbove gives us access to the directories above a file, as far as they are ours.
func enterAbove(root *os.Root, name string) {
	for i, r := range name {
		if r != '/' || i == 0 {
			continue
		}
		if fi, err := root.Stat(name[:i]); err == nil && fi.IsDir() {
			enter(root, name[:i], fi) // the next call shows whether it helped
		}
	}
}

// MoveOutputs moves outputs that a job without a client wrote under their logical names to the targets of their links,
// and writes the link files again. lost says why others weren't moved.
func MoveOutputs(s job.Slot) (lost map[string]string, err error) {
	m, err := newMover(s)
	if err != nil {
		return nil, err
	}
	defer m.root.Close()
	for _, l := range s.Links {
		if !l.Output {
			continue
		}
		if err := m.moveOutput(l); err != nil {
			return m.lost, fmt.Errorf("move output %s to %s: %w", l.Name, l.Target, err)
		}
	}
	return m.lost, nil
}

func (m *mover) moveOutput(l job.Link) error {
	why, err := m.bringOutput(".", l)
	if err != nil {
		return err
	}
	if why != "" {
		m.lost[l.Name] = why
		return nil
	}
	if _, err := m.root.Lstat(l.Name); err == nil {
		return nil // the link file, unchanged
	}
	target, err := filepath.Rel(m.slot.Dir, l.Target)
	if err != nil {
		return err
	}
	link := boincapi.SoftLinkTag + escape(filepath.ToSlash(target)) + softLinkEnd + "\n"
	return m.root.WriteFile(l.Name, []byte(link), 0o644)
}

// Lost returns the outputs among the links that are not under their physical names, with the reasons that the functions
// above gave. An output without one is one that the job didn't write.
func Lost(s job.Slot, why map[string]string) (lost []job.Left) {
	for _, l := range s.Links {
		fi, err := os.Lstat(l.Target)
		switch there := err == nil && fi.Mode().IsRegular(); {
		case l.Output && !there, why[l.Name] != "":
			lost = append(lost, job.Left{Name: l.Name, Why: why[l.Name]})
		}
	}
	return lost
}

// untouched is the modification time of an output file that MakeOutputs made, until the job writes to it.
var untouched = time.Unix(0, 0)

// MakeOutputs makes the output files that a job writes in a mounted project directory. They are mounted one by one, and
// a file must exist to be mounted.
func MakeOutputs(s job.Slot) error {
	for _, l := range s.Links {
		if !l.Output {
			continue
		}
		f, err := os.OpenFile(l.Target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o664)
		if errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("make output file of %s: %w", l.Name, err)
		}
		if err := errors.Join(f.Close(), os.Chtimes(l.Target, untouched, untouched)); err != nil {
			return fmt.Errorf("make output file of %s: %w", l.Name, err)
		}
	}
	return nil
}

// DropOutputs removes the output files of MakeOutputs that the job has not written to, so that the client finds them
// missing and not empty. From the others it removes set-user-ID bits, write permission for others and attributes. One
// that BOINC's user can't read it removes too, and says so in lost.
func DropOutputs(s job.Slot, lost map[string]string) error {
	for _, l := range s.Links {
		if !l.Output {
			continue
		}
		if err := dropOutput(l, s.Bound, lost); err != nil {
			return fmt.Errorf("output file of %s: %w", l.Name, err)
		}
	}
	return nil
}

func dropOutput(l job.Link, bound int64, lost map[string]string) error {
	fi, err := os.Lstat(l.Target)
	if err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	if fi.Size() == 0 && fi.ModTime().Equal(untouched) {
		return os.Remove(l.Target)
	}
	err = TakeBack(l.Target, bound)
	if errors.Is(err, ErrUnusable) {
		lost[l.Name] = err.Error()
		return os.Remove(l.Target)
	}
	return err
}

// TakeBack removes from a file that a container wrote outside of the payload what the job may have given it: set-user-ID
// bits, write permission for others, attributes, another owner. It leaves anything but a regular file.
//
// A file whose owner doesn't let BOINC's user read it, or that would need more than bound bytes as a copy, 0 for no limit,
// is ErrUnusable.
func TakeBack(name string, bound int64) error {
	fi, err := os.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return err
	}
	if want := plain(fi.Mode()); fi.Mode() != want {
		if err := ignorePermission(os.Chmod(name, want)); err != nil {
			return err
		}
	}
	if err := ignorePermission(stripAttributes(name)); err != nil {
		return err
	}
	return takeOver(name, fi.Size(), bound)
}

// ErrUnusable: nobody can have a file as the job left it.
var ErrUnusable = errors.New("it can't be used")

// Deliver takes back a file that a container wrote, and moves it to its place.
func Deliver(from, to string, bound int64) error {
	if err := TakeBack(from, bound); err != nil || from == to {
		return err
	}
	if os.Rename(from, to) == nil {
		return nil
	}
	f, err := os.Open(from) // the project directory is on another file system
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(writeWhole(to, f), os.Remove(from))
}

// takeOver replaces another user's file by a copy that belongs to us. Only the owner can remove set-user-ID bits and
// attributes.
func takeOver(name string, size, bound int64) error {
	if !OthersOwn(name, os.Getuid()) {
		return nil
	}
	if why := tooLarge(size, bound); why != "" {
		return fmt.Errorf("%w: %s", ErrUnusable, why)
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %s", ErrUnusable, mayNotRead)
	} else if err != nil {
		return err
	}
	defer f.Close()
	return writeWhole(name, f)
}
