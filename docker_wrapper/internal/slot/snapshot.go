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
	Name    string      `json:"name"` // below the tree; "." is the tree itself
	Mode    fs.FileMode `json:"mode"`
	Owner   [2]int      `json:"owner"` // user and group; -1 where there are none (Windows)
	Size    int64       `json:"size,omitempty"`
	Changed time.Time   `json:"changed,omitzero"`
	Link    string      `json:"link,omitempty"` // target of a symlink
	Mark    [2]int64    `json:"mark,omitzero"`  // what nobody but the kernel writes: number and time of change
}

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
				old[filepath.Join(strconv.Itoa(i), k.Name)] = k
			}
		}
	}
	c := copier{ctx: ctx, left: room, limited: room > 0}
	lists := make([][]copied, len(s.Trees))
	for i, tree := range s.Trees {
		err := walk(tree, func(root *os.Root, name, as string, fi fs.FileInfo) error {
			k, err := look(root, name, as, fi)
			if err != nil || k == nil {
				return err
			}
			to := filepath.Join(strconv.Itoa(i), k.Name)
			switch was, ok := old[to]; {
			case fi.IsDir():
				err = os.MkdirAll(filepath.Join(s.Dir, to), 0o770)
			case !fi.Mode().IsRegular():
			case ok && was.same(*k) && os.Link(filepath.Join(before, to), filepath.Join(s.Dir, to)) == nil:
			default:
				*k, err = c.take(root, name, k.Name, filepath.Join(s.Dir, to))
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
	want := map[string]copied{}
	for _, k := range list {
		want[k.Name] = k
	}
	var gone []string
	err := walk(tree, func(root *os.Root, name, as string, fi fs.FileInfo) error {
		k, err := look(root, name, as, fi)
		if err != nil || k == nil {
			return err
		}
		was, ok := want[as]
		if ok && was.Mode.Type() == k.Mode.Type() {
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
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	c := copier{ctx: ctx}
	for _, k := range list { // directories come before what is in them
		if _, changed := want[k.Name]; !changed {
			continue
		}
		name := k.Name
		if file != "" {
			name = file
		}
		if err := c.restore(root, name, k, filepath.Join(s.Dir, strconv.Itoa(i), k.Name)); err != nil {
			return err
		}
	}
	for _, k := range slices.Backward(list) { // and get their modes when all is in them
		if !k.Mode.IsDir() {
			continue
		}
		if err := errors.Join(giveTo(root, k.Name, k.Owner), root.Chmod(k.Name, k.Mode.Perm())); err != nil {
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
	return fs.WalkDir(root.FS(), filepath.ToSlash(name), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		name = filepath.FromSlash(name)
		if dir == tree {
			return visit(root, name, name, fi)
		}
		return visit(root, name, ".", fi)
	})
}

// look describes a file; nil for one that is left alone.
func look(root *os.Root, name, as string, fi fs.FileInfo) (*copied, error) {
	k := &copied{Name: as, Mode: fi.Mode() & (fs.ModeType | fs.ModePerm)}
	k.Owner, k.Mark = kernelsWord(fi)
	switch {
	case fi.Mode().IsRegular():
		k.Size, k.Changed = fi.Size(), fi.ModTime()
	case fi.Mode()&fs.ModeSymlink != 0:
		var err error
		if k.Link, err = root.Readlink(name); err != nil {
			return nil, err
		}
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
	k = copied{Name: as, Mode: fi.Mode() & (fs.ModeType | fs.ModePerm), Size: fi.Size(), Changed: fi.ModTime()}
	k.Owner, k.Mark = kernelsWord(fi)
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o660)
	if err != nil {
		return k, err
	}
	return k, errors.Join(c.copy(out, f, k.Size), out.Close())
}

// restore makes name in a tree what k says, with the bytes of the host file from.
func (c *copier) restore(root *os.Root, name string, k copied, from string) (err error) {
	switch {
	case k.Mode.IsDir():
		if err = root.Mkdir(name, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return errors.Join(err, root.Chmod(name, k.Mode.Perm()|0o700))
	case k.Mode&fs.ModeSymlink != 0:
		if err = root.RemoveAll(name); err == nil {
			err = root.Symlink(k.Link, name)
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
	return errors.Join(giveTo(root, name, k.Owner), root.Chmod(name, k.Mode.Perm()))
}

func (c *copier) restoreFile(root *os.Root, name string, k copied, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	part := name + unfinished
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
