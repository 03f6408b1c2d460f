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
	"boincdocker/docker_wrapper/internal/host"
)

// Snapshot is a copy of the host's directories and files that a container can change. It belongs to a checkpoint of the
// container: the restored programs expect their files unchanged.
//
// The copy of Trees[i] is named i and lies in Dir, beside files.json, which describes each copied file.
type Snapshot struct {
	Dir   string   // absolute
	Trees []string // absolute paths of the host, the same in the same order each time

	// Keep reports whether PutBack keeps a file of this name that isn't in the snapshot; nil keeps none.
	Keep func(name string) bool
}

// FromClient reports whether a file of the payload is a message from the client to the job. Such a message is delivered
// once.
func FromClient(name string) bool {
	return strings.HasPrefix(name, boincapi.TrickleDownPrefix) || strings.HasPrefix(name, boincapi.UploadStatPrefix) || name == boincapi.SporadicCAFile
}

const listFile = "files.json"

// copied describes a file, directory or symlink of a tree when it was copied.
type copied struct {
	Name    rawName     `json:"name"` // below the tree; "." is the tree itself
	Mode    fs.FileMode `json:"mode"`
	Owner   [2]int      `json:"owner"` // user and group; -1 where there are none (Windows)
	Size    int64       `json:"size,omitempty"`
	Changed time.Time   `json:"changed,omitzero"`
	Link    rawName     `json:"link,omitempty"` // target of a symlink
	Mark    [2]int64    `json:"mark,omitzero"`  // inode number and change time, which only the kernel can set
}

// rawName is a name as the job gave it, encoded in base64: as a JSON string, a name that isn't UTF-8 would change.
type rawName string

func (n rawName) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(n)) }

func (n *rawName) UnmarshalJSON(data []byte) error {
	var b []byte
	err := json.Unmarshal(data, &b)
	*n = rawName(b)
	return err
}

// allBits are the mode bits that are saved.
const allBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// Take copies the trees, in which nothing may change meanwhile, at most room bytes (0 for no limit). Files that have not
// changed since the snapshot in before ("" for none) become hard links to it. Devices, sockets and FIFOs are ignored,
// here and in PutBack.
//
// Writing to a file through a memory mapping updates its change time only when the file is synced, so Take syncs each
// file that it copies. In a file system without a disk such changes may be missed.
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
		err := s.takeTree(tree, func(root *os.Root, name, as string, fi fs.FileInfo) error {
			k, err := look(root, name, as, fi)
			if err = errors.Join(err, ctx.Err()); err != nil || k == nil {
				return err
			}
			if !canRestoreOwner(k.Owner) {
				return fmt.Errorf("%s belongs to another user, and only root could restore that", name)
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

// takeTree walks a tree of a container that goes on later: directories that the job has closed are closed again.
func (s Snapshot) takeTree(tree string, visit func(root *os.Root, name, as string, fi fs.FileInfo) error) (err error) {
	var closed []string
	modes := map[string]fs.FileMode{}
	err = walk(tree, func(root *os.Root, name, as string, fi fs.FileInfo) error {
		if fi.IsDir() && fi.Mode().Perm()&0o500 != 0o500 && enter(root, name, fi) == nil {
			closed = append(closed, name)
			modes[name] = fi.Mode()
		}
		return visit(root, name, as, fi)
	})
	if len(closed) == 0 {
		return err
	}
	root, rootErr := os.OpenRoot(tree)
	if rootErr != nil {
		return errors.Join(err, rootErr)
	}
	defer root.Close()
	for _, name := range slices.Backward(closed) { // the deepest first
		err = errors.Join(err, root.Chmod(name, modes[name]&allBits))
	}
	return err
}

// PutBack restores the trees to their state in the snapshot. It can be interrupted and repeated.
func (s Snapshot) PutBack(ctx context.Context) error {
	lists, err := s.lists()
	if err == nil && len(lists) != len(s.Trees) {
		err = fmt.Errorf("the snapshot has %d trees, want %d", len(lists), len(s.Trees))
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
			if fi.IsDir() { // its mode is restored last
				return enter(root, name, fi)
			}
			if was.same(*k) || k.Link != "" && was.Link == k.Link {
				delete(want, as) // unchanged
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
	part := unfinished // extended to a name that no file has
	for bases[part] {
		part += "_"
	}
	if file != "" {
		part = host.Part(file)
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
	for _, k := range slices.Backward(list) { // directories get their modes last, the deepest first
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

// walk visits a tree from the top down and follows no links. name is the path below root, as the name in a list of copied.
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

// enter gives us access to a directory, in case the job has removed permissions.
func enter(root *os.Root, name string, fi fs.FileInfo) error {
	if fi.Mode().Perm()&0o700 == 0o700 {
		return nil
	}
	return root.Chmod(name, fi.Mode().Perm()|0o700)
}

// remove removes a file or directory, even if the job has removed permissions.
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

// look describes a file. It returns nil for a device, socket or FIFO.
func look(root *os.Root, name, as string, fi fs.FileInfo) (*copied, error) {
	k := &copied{Name: rawName(as), Mode: fi.Mode() & (fs.ModeType | allBits)}
	k.Owner, k.Mark = ownerAndMark(fi)
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

// same reports whether both describe the same unchanged file.
func (k copied) same(other copied) bool {
	return k.Mode.IsRegular() && k.Mark != [2]int64{} && k.Mark == other.Mark && k.Size == other.Size &&
		k.Mode == other.Mode && k.Changed.Equal(other.Changed)
}

// copier copies files until its context ends or the limit is reached.
type copier struct {
	ctx     context.Context
	left    int64 // bytes that may still be copied, if limited
	limited bool
	part    string   // temporary name of a file that is being restored
	saved   *os.Root // the snapshot to restore from
}

// ErrNoRoom: with the copy the slot would be larger than rsc_disk_bound.
var ErrNoRoom = errors.New("no room: the slot would be larger than rsc_disk_bound")

// take copies a file of a tree to the path to on the host, and describes the file at that moment.
func (c *copier) take(root *os.Root, name, as, to string) (k copied, err error) {
	seen, err := root.Lstat(name)
	if err != nil {
		return k, err
	}
	f, err := readable(root, name, seen)
	if err != nil {
		return k, err
	}
	defer f.Close()
	if now, err := f.Stat(); err == nil && now.Mode() != seen.Mode() { // the job has closed it, and expects that
		if err := f.Chmod(seen.Mode() & allBits); err != nil {
			return k, err
		}
	}
	if err := f.Sync(); err != nil { // a later write through a memory mapping updates the change time again
		return k, err
	}
	fi, err := f.Stat()
	if err != nil {
		return k, err
	}
	if !fi.Mode().IsRegular() {
		return k, fmt.Errorf("%s is no longer a regular file", name)
	}
	if c.left -= fi.Size(); c.limited && c.left < 0 {
		return k, ErrNoRoom
	}
	k = copied{Name: rawName(as), Mode: fi.Mode() & (fs.ModeType | allBits), Size: fi.Size(), Changed: fi.ModTime()}
	k.Owner, k.Mark = ownerAndMark(fi)
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o660)
	if err != nil {
		return k, err
	}
	return k, errors.Join(c.copy(out, f, k.Size), out.Close())
}

// restore makes name in a tree as k describes it, with the data of the snapshot's file from.
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
		if err = c.restoreFile(root, name, k, from); err == nil {
			err = root.Chtimes(name, k.Changed, k.Changed)
		}
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
	// Not synced: after a loss of power the checkpoint is put back again, and it is still there.
	return host.Replace(root, part, name, 0o600, func(out *os.File) error { return c.copy(out, in, k.Size) })
}

// copyPiece is how many bytes are copied between two checks whether the context has ended.
const copyPiece = 64 << 20

func (c *copier) copy(to, from *os.File, size int64) error {
	for size > 0 {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(size, copyPiece)) // uses copy_file_range(2), by which some file systems share the data
		if size -= n; err != nil {
			return err
		}
	}
	return nil
}
