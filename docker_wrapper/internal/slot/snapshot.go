package slot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"boincdocker/boincapi"
)

// Snapshot is a copy of what a container may change of the host's files: directories, and single files. It goes with a
// checkpoint of the container itself, whose programs expect their files as they were.
//
// Trees[i] is kept under the name i in Dir, and the list of all that is in it beside it.
type Snapshot struct {
	Dir   string   // absolute
	Trees []string // absolute paths of the host, the same in the same order each time

	// Keep says of a name that isn't in the snapshot whether PutBack leaves it; nil leaves none.
	Keep func(name string) bool
}

// FromClient reports that a file of the payload is a message of the client's to the job, which is delivered once.
func FromClient(name string) bool {
	return strings.HasPrefix(name, boincapi.TrickleDownPrefix) || strings.HasPrefix(name, boincapi.UploadStatPrefix) || name == boincapi.SporadicCAFile
}

const listFile = "files.json" // of a snapshot

// copied is one file, directory or symlink of a tree, as it was when it was copied.
type copied struct {
	Name    rawName     `json:"name"` // below the tree; "." is the tree itself
	Mode    fs.FileMode `json:"mode"`
	Owner   [2]int      `json:"owner"` // user and group; -1 where there are none (Windows)
	Size    int64       `json:"size,omitempty"`
	Changed time.Time   `json:"changed,omitzero"`
	Link    rawName     `json:"link,omitempty"` // target of a symlink
	Mark    [2]int64    `json:"mark,omitzero"`  // what nobody but the kernel writes: number and time of change
}

// rawName is a name as the job gave it. JSON itself would make another of one that isn't UTF-8.
type rawName string

func (n rawName) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(n)) }

func (n *rawName) UnmarshalJSON(data []byte) error {
	var b []byte
	err := json.Unmarshal(data, &b)
	*n = rawName(b)
	return err
}

// allBits are those of a mode that are kept.
const allBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// Take copies the trees, in which nothing may change meanwhile, at most room bytes (0 for no limit). What has not changed
// since the snapshot in before ("" for none) shares its bytes. Devices, sockets and FIFOs are left alone, here and
// in PutBack.
//
// A file that is written through a mapping is found to have changed only because it is written to the disk first, so in a
// file system that has no disk such changes may be missed.
func (s Snapshot) Take(ctx context.Context, before string, room int64) error {
	old := map[string]copied{}
	if before != "" {
		lists, err := Snapshot{Dir: before}.lists()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the snapshot before: %w", err)
		}
		for i, list := range lists {
			for _, k := range list {
				old[filepath.Join(strconv.Itoa(i), string(k.Name))] = k
			}
		}
	}
	c := copier{ctx: ctx, left: room, limited: room > 0}
	lists := make([][]copied, len(s.Trees))
	for i, tree := range s.Trees {
		err := walk(tree, func(root *os.Root, name, as string, fi fs.FileInfo) error {
			k, err := look(root, name, as, fi)
			if err = errors.Join(err, ctx.Err()); err != nil || k == nil {
				return err
			}
			if !givesBack(k.Owner) {
				return fmt.Errorf("%s is another user's, and only root could make it so again", name)
			}
			to := filepath.Join(strconv.Itoa(i), as)
			switch was, ok := old[to]; {
			case fi.IsDir():
				err = os.MkdirAll(filepath.Join(s.Dir, to), 0o770)
			case !fi.Mode().IsRegular():
			case ok && was.same(*k) && os.Link(filepath.Join(before, to), filepath.Join(s.Dir, to)) == nil:
			default:
				*k, err = c.take(root, name, as, filepath.Join(s.Dir, to))
			}
			lists[i] = append(lists[i], *k)
			return err
		})
		if err != nil {
			return fmt.Errorf("copy %s: %w", filepath.Base(tree), err)
		}
	}
	data, err := json.Marshal(lists)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.Dir, listFile), data, 0o660)
	}
	if err != nil {
		return fmt.Errorf("list what was copied: %w", err)
	}
	return nil
}

// PutBack makes the trees what they were when the snapshot was taken. It can be broken off and repeated.
func (s Snapshot) PutBack(ctx context.Context) error {
	lists, err := s.lists()
	if err == nil && len(lists) != len(s.Trees) {
		err = fmt.Errorf("%d trees were copied, and there are %d", len(lists), len(s.Trees))
	}
	if err != nil {
		return fmt.Errorf("put the job's files back: %w", err)
	}
	for i, tree := range s.Trees {
		if err := s.putBack(ctx, i, tree, lists[i]); err != nil {
			return fmt.Errorf("put the job's files back: %w", err)
		}
	}
	return nil
}

func (s Snapshot) putBack(ctx context.Context, i int, tree string, list []copied) error {
	want, bases := map[string]copied{}, map[string]bool{}
	for _, k := range list {
		want[string(k.Name)] = k
		bases[filepath.Base(string(k.Name))] = true
	}
	var gone []string
	err := walk(tree, func(root *os.Root, name, as string, fi fs.FileInfo) error {
		k, err := look(root, name, as, fi)
		was, ok := want[as]
		switch err = errors.Join(err, ctx.Err()); {
		case err != nil || k == nil && !ok:
			return err
		case ok && k != nil && was.Mode.Type() == k.Mode.Type():
			if fi.IsDir() { // its own mode comes last
				return enter(root, name, fi)
			}
			if was.same(*k) || k.Link != "" && was.Link == k.Link {
				delete(want, as) // as it was
			}
			return nil
		}
		if !ok && s.Keep != nil && s.Keep(as) {
			return nil
		}
		gone = append(gone, name)
		if fi.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, file := tree, ""
	if len(list) > 0 && !list[0].Mode.IsDir() {
		dir, file = filepath.Split(tree)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range gone {
		if err := remove(root, name); err != nil {
			return err
		}
	}
	part := unfinished // a name that nothing has
	for bases[part] {
		part += "_"
	}
	if file != "" {
		part = file + unfinished
	}
	c := copier{ctx: ctx, part: part}
	if c.saved, err = os.OpenRoot(s.Dir); err != nil {
		return err
	}
	defer c.saved.Close()
	for _, k := range list { // directories come before what is in them
		name := string(k.Name)
		from := filepath.Join(strconv.Itoa(i), name)
		if _, changed := want[name]; !changed {
			continue
		}
		if file != "" {
			name = file
		}
		if err := c.restore(root, name, k, from); err != nil {
			return err
		}
	}
	for _, k := range slices.Backward(list) { // and get their modes when all is in them
		if !k.Mode.IsDir() {
			continue
		}
		if err := errors.Join(giveTo(root, string(k.Name), k.Owner), root.Chmod(string(k.Name), k.Mode&allBits)); err != nil {
			return err
		}
	}
	return nil
}

func (s Snapshot) lists() (lists [][]copied, err error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, listFile))
	if err == nil {
		err = json.Unmarshal(data, &lists)
	}
	for _, list := range lists {
		for _, k := range list {
			if !filepath.IsLocal(string(k.Name)) {
				return nil, fmt.Errorf("%s: %q is outside of the snapshot", listFile, k.Name)
			}
		}
	}
	return lists, err
}

// walk visits a tree from its top down: name is below root, and as what it is called in a list. Nothing is
// followed out of it.
func walk(tree string, visit func(root *os.Root, name, as string, fi fs.FileInfo) error) error {
	fi, err := os.Lstat(tree)
	if err != nil {
		return err
	}
	dir, name := tree, "."
	if !fi.IsDir() {
		dir, name = filepath.Split(tree)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return walkRoot(root, name, func(name string, fi fs.FileInfo) error {
		if dir == tree {
			return visit(root, name, name, fi)
		}
		return visit(root, name, ".", fi)
	})
}

// walkRoot is fs.WalkDir for names that need not be UTF-8.
func walkRoot(root *os.Root, name string, visit func(name string, fi fs.FileInfo) error) error {
	fi, err := root.Lstat(name)
	if err == nil {
		err = visit(name, fi)
	}
	if errors.Is(err, fs.SkipDir) {
		return nil
	} else if err != nil || !fi.IsDir() {
		return err
	}
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := walkRoot(root, filepath.Join(name, n), visit); err != nil {
			return err
		}
	}
	return nil
}

// enter makes a directory one that can be read and changed, whatever the job made of its permissions.
func enter(root *os.Root, name string, fi fs.FileInfo) error {
	if fi.Mode().Perm()&0o700 == 0o700 {
		return nil
	}
	return root.Chmod(name, fi.Mode().Perm()|0o700)
}

// remove removes what is there, whatever the job made of its permissions.
func remove(root *os.Root, name string) error {
	err := root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	err = walkRoot(root, name, func(name string, fi fs.FileInfo) error {
		if !fi.IsDir() {
			return nil
		}
		return enter(root, name, fi)
	})
	return errors.Join(err, root.RemoveAll(name))
}

// look describes a file; nil for one that is left alone.
func look(root *os.Root, name, as string, fi fs.FileInfo) (*copied, error) {
	k := &copied{Name: rawName(as), Mode: fi.Mode() & (fs.ModeType | allBits)}
	k.Owner, k.Mark = kernelsWord(fi)
	switch {
	case fi.Mode().IsRegular():
		k.Size, k.Changed = fi.Size(), fi.ModTime()
	case fi.Mode()&fs.ModeSymlink != 0:
		link, err := root.Readlink(name)
		if err != nil {
			return nil, err
		}
		k.Link = rawName(link)
	case !fi.IsDir():
		return nil, nil
	}
	return k, nil
}

// same reports that it is the same file, unchanged.
func (k copied) same(other copied) bool {
	return k.Mode.IsRegular() && k.Mark != [2]int64{} && k.Mark == other.Mark && k.Size == other.Size &&
		k.Mode == other.Mode && k.Changed.Equal(other.Changed)
}

// copier copies files until its context ends, or its room.
type copier struct {
	ctx     context.Context
	left    int64
	limited bool
	part    string   // what a file is called that is being put back
	saved   *os.Root // the snapshot that it is put back from
}

// ErrNoRoom: the slot would be larger than the job's bound.
var ErrNoRoom = errors.New("no room: the slot would be larger than rsc_disk_bound")

// take copies a file of a tree to the host path to, and describes it as it is then.
func (c *copier) take(root *os.Root, name, as, to string) (k copied, err error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return k, err
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // what is written through a mapping after this changes the file's times again
		return k, err
	}
	fi, err := f.Stat()
	if err != nil {
		return k, err
	}
	if !fi.Mode().IsRegular() {
		return k, fmt.Errorf("%s is no file any more", name)
	}
	if c.left -= fi.Size(); c.limited && c.left < 0 {
		return k, ErrNoRoom
	}
	k = copied{Name: rawName(as), Mode: fi.Mode() & (fs.ModeType | allBits), Size: fi.Size(), Changed: fi.ModTime()}
	k.Owner, k.Mark = kernelsWord(fi)
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o660)
	if err != nil {
		return k, err
	}
	return k, errors.Join(c.copy(out, f, k.Size), out.Close())
}

// restore makes name in a tree what k says, with the bytes of the file from in the snapshot.
func (c *copier) restore(root *os.Root, name string, k copied, from string) (err error) {
	switch {
	case k.Mode.IsDir():
		if err = root.Mkdir(name, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return errors.Join(err, root.Chmod(name, k.Mode.Perm()|0o700))
	case k.Mode&fs.ModeSymlink != 0:
		if err = root.RemoveAll(name); err == nil {
			err = root.Symlink(string(k.Link), name)
		}
		if err == nil {
			err = giveTo(root, name, k.Owner)
		}
		return err
	default:
		err = c.restoreFile(root, name, k, from)
	}
	if err != nil {
		return err
	}
	return errors.Join(giveTo(root, name, k.Owner), root.Chmod(name, k.Mode&allBits))
}

func (c *copier) restoreFile(root *os.Root, name string, k copied, from string) error {
	in, err := c.saved.OpenFile(from, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if fi, err := in.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(err, &fs.PathError{Op: "read", Path: from, Err: fs.ErrInvalid})
	}
	part := filepath.Join(filepath.Dir(name), c.part)
	if err := root.RemoveAll(part); err != nil {
		return err
	}
	out, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(c.copy(out, in, k.Size), out.Close())
	if err == nil {
		err = root.Chtimes(part, k.Changed, k.Changed)
	}
	if err == nil {
		err = root.Rename(part, name)
	}
	if err != nil {
		err = errors.Join(err, root.RemoveAll(part))
	}
	return err
}

// copyPiece is how much is copied before it is asked whether that is still wanted.
const copyPiece = 64 << 20

func (c *copier) copy(to, from *os.File, size int64) error {
	for size > 0 {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(size, copyPiece)) // by the kernel, which may share the bytes
		if size -= n; err != nil {
			return err
		}
	}
	return nil
}
