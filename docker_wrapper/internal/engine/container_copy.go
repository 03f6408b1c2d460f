package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	maxEntries = 1_000_000 // of one copy out
	maxNested  = 64        // depth of its directories, from Copy.Root on; deeper ones are left out
)

// CopyIn copies files into a container that was not started. A directory's contents go into dst. A file
// goes into dst if that is a directory of the image, else it is named dst. The owner is the container's user.
//
// Archives are sent uncompressed: for compressed ones an engine older than 29.5.1 runs a decompressor from the
// container's own file system (CVE-2026-41567). The owner is in the archive's headers, the only way that all engines
// treat alike.
func (c *Container) CopyIn(ctx context.Context, copies []job.Copy) error {
	uid, gid, err := c.owner(ctx)
	if err != nil {
		return fmt.Errorf("copy into container %s: %w", c.Name, err)
	}
	for _, cp := range copies {
		if err := c.copyIn(ctx, cp, uid, gid); err != nil {
			var ce *CopyError
			if errors.As(err, &ce) {
				return ce
			}
			return fmt.Errorf("copy %s into container %s: %w", cp.Src, c.Name, wrap(err))
		}
	}
	return nil
}

func (c *Container) copyIn(ctx context.Context, cp job.Copy, uid, gid int) error {
	root, err := os.OpenRoot(cp.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	fi, err := root.Stat(cp.Src)
	if errors.Is(err, fs.ErrNotExist) {
		return &CopyError{Name: cp.Src, Missing: true, Reason: "no such file in the slot"}
	} else if host.MayPass(err) {
		return err
	} else if err != nil {
		return &CopyError{Name: cp.Src, Reason: host.Cause(err)}
	}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		return &CopyError{Name: cp.Src, Reason: "neither a file nor a directory"}
	}
	base, rest, isDir, err := c.deepestDir(ctx, cp.Dst)
	if err != nil {
		return err
	}
	if isDir && !fi.IsDir() {
		rest = path.Base(cp.Src)
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		tw := tar.NewWriter(pw)
		err := packParents(tw, rest, uid, gid)
		if err == nil {
			err = pack(ctx, tw, root, cp.Src, rest, uid, gid)
		}
		if err == nil {
			err = tw.Close()
		}
		pw.CloseWithError(err)
		packed <- err
	}()
	err = c.e.api.CopyToContainer(ctx, c.ID, base, pr, container.CopyToContainerOptions{})
	pr.CloseWithError(errAborted) // ends pack when the engine has stopped reading
	if packErr := <-packed; host.Final(packErr) {
		return &CopyError{Name: cp.Src, Reason: pathCause(packErr)}
	} else if host.MayPass(packErr) {
		return packErr
	}
	return err
}

// pathCause is the cause of an error, and the end of the name of the file that has it.
func pathCause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return path.Base(filepath.ToSlash(pe.Path)) + ": " + host.Cause(err)
	}
	return host.Cause(err)
}

var errAborted = errors.New("the engine stopped reading")

// deepestDir splits a container path: base is the deepest directory that exists, and rest what is below it. isDir
// is whether the whole path is a directory.
func (c *Container) deepestDir(ctx context.Context, dst string) (base, rest string, isDir bool, err error) {
	base = path.Clean(dst)
	for {
		callCtx, cancel := c.e.call(ctx)
		st, err := c.e.api.ContainerStatPath(callCtx, c.ID, base)
		dir := base
		if err == nil && st.Mode&fs.ModeSymlink != 0 && st.LinkTarget != "" {
			dir = st.LinkTarget // resolved by the engine, inside the container
			if to, err := c.e.api.ContainerStatPath(callCtx, c.ID, dir); err == nil {
				st = to
			}
		}
		cancel()
		switch {
		case err == nil && st.Mode.IsDir():
			return dir, strings.TrimPrefix(strings.TrimPrefix(path.Clean(dst), base), "/"), base == path.Clean(dst), nil
		case err != nil && !errors.Is(wrap(err), ErrNotFound):
			return "", "", false, err
		case base == "/":
			return "/", strings.TrimPrefix(path.Clean(dst), "/"), false, nil
		}
		base = path.Dir(base)
	}
}

// packParents writes the missing directories above name into the archive.
func packParents(tw *tar.Writer, name string, uid, gid int) error {
	for i, r := range name {
		if r != '/' {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name[:i+1], Mode: 0o755, Uid: uid, Gid: gid, ModTime: time.Now()}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}

// pack writes a file, or a directory with its contents, into an archive under name ("" for the directory where
// the archive is unpacked). Symlinks below a directory are kept as they are. What is neither file,
// directory nor symlink is left out.
func pack(ctx context.Context, tw *tar.Writer, root *os.Root, src, name string, uid, gid int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := root.OpenFile(src, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a FIFO would block
	if errors.Is(err, fs.ErrPermission) {                           // the job may have removed its permissions
		if fi, err := root.Stat(src); err == nil && fi.IsDir() {
			root.Chmod(src, fi.Mode().Perm()|0o500)
		} else if err == nil {
			root.Chmod(src, fi.Mode().Perm()|0o400)
		}
		f, err = root.OpenFile(src, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Mode().IsRegular() {
		if err := writeHeader(tw, fi, name, "", uid, gid); err != nil {
			return err
		}
		_, err := io.CopyN(tw, f, fi.Size())
		return err
	}
	if !fi.IsDir() {
		return nil
	}
	if name != "" {
		if err := writeHeader(tw, fi, name, "", uid, gid); err != nil {
			return err
		}
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		child, childName := filepath.Join(src, e.Name()), path.Join(name, e.Name())
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			target, err := root.Readlink(child)
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if err := writeHeader(tw, info, childName, target, uid, gid); err != nil {
				return err
			}
		case e.IsDir(), e.Type().IsRegular():
			if err := pack(ctx, tw, root, child, childName, uid, gid); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeHeader(tw *tar.Writer, fi fs.FileInfo, name, target string, uid, gid int) error {
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = name, uid, gid, "", ""
	if fi.IsDir() {
		h.Name += "/"
	}
	h.Mode &= 0o777
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.Format = tar.FormatPAX
	return tw.WriteHeader(h)
}

// Owner is the user that the container runs as, in numbers. *RunError when the image doesn't know the user's name.
func (c *Container) Owner(ctx context.Context) (uid, gid int, err error) {
	if uid, gid, err = c.owner(ctx); err != nil {
		return 0, 0, fmt.Errorf("look up the user of container %s: %w", c.Name, err)
	}
	return uid, gid, nil
}

func (c *Container) owner(ctx context.Context) (uid, gid int, err error) {
	callCtx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(callCtx, c.ID)
	if err != nil {
		return 0, 0, wrap(err)
	}
	name, group, hasGroup := strings.Cut(in.Config.User, ":")
	uid, gid, ok := numbers(name, group)
	if ok && (hasGroup || uid == 0) {
		return uid, gid, nil
	}
	passwd, err := c.readFile(ctx, "/etc/passwd", 1<<20)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, 0, err
	}
	if u, g, found := lookUser(string(passwd), name); found {
		uid, gid = u, g
	} else if uid, err = strconv.Atoi(name); err != nil {
		return 0, 0, &RunError{Reason: fmt.Sprintf("the image's user %q isn't in its /etc/passwd", name)}
	}
	if !hasGroup {
		return uid, gid, nil
	}
	if n, err := strconv.Atoi(group); err == nil {
		return uid, n, nil
	}
	groups, err := c.readFile(ctx, "/etc/group", 1<<20)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, 0, err
	}
	if gid, ok = lookGroup(string(groups), group); !ok {
		return 0, 0, &RunError{Reason: fmt.Sprintf("the image's group %q isn't in its /etc/group", group)}
	}
	return uid, gid, nil
}

// numbers reads a user and group that are given as numbers. Without a group it is 0, as in engines.
func numbers(user, group string) (uid, gid int, ok bool) {
	if user == "" || user == "root" {
		user = "0"
	}
	if group == "" || group == "root" {
		group = "0"
	}
	uid, err1 := strconv.Atoi(user)
	gid, err2 := strconv.Atoi(group)
	return uid, gid, err1 == nil && err2 == nil
}

// lookUser finds a user in the text of a passwd file (passwd(5)).
func lookUser(passwd, name string) (uid, gid int, ok bool) {
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 4 && (f[0] == name || f[2] == name) {
			return numbers(f[2], f[3])
		}
	}
	return 0, 0, false
}

// lookGroup finds a group in the text of a group file (group(5)).
func lookGroup(groups, name string) (gid int, ok bool) {
	for line := range strings.Lines(groups) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= 3 && f[0] == name {
			gid, err := strconv.Atoi(f[2])
			return gid, err == nil
		}
	}
	return 0, false
}

// ReadFile reads a regular file of the container, at most limit bytes of it. A relative name is in its working directory.
// The container may be running. ErrNotFound when it isn't there.
func (c *Container) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	name, err := c.absolute(ctx, name)
	if err != nil {
		return nil, err
	}
	data, err := c.readFile(ctx, name, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s of container %s: %w", name, c.Name, err)
	}
	return data, nil
}

// absolute is a path of the container, of which a relative one is in its working directory.
func (c *Container) absolute(ctx context.Context, name string) (string, error) {
	if path.IsAbs(name) {
		return name, nil
	}
	dir := c.workdir.Load()
	if dir == nil {
		in, err := c.inspect(ctx)
		if err != nil {
			return "", fmt.Errorf("inspect container %s: %w", c.Name, err)
		}
		dir = &in.Config.WorkingDir
		c.workdir.Store(dir)
	}
	return path.Join("/", *dir, name), nil
}

func (c *Container) readFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	body, st, err := c.e.api.CopyFromContainer(ctx, c.ID, name)
	if err != nil {
		return nil, wrap(err)
	}
	defer body.Close()
	if !st.Mode.IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	tr := tar.NewReader(body)
	if _, err := tr.Next(); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(tr, limit))
}

// ModTime is when a regular file of the container was last changed. ErrNotFound when it isn't there.
func (c *Container) ModTime(ctx context.Context, name string) (time.Time, error) {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	st, err := c.e.api.ContainerStatPath(ctx, c.ID, name)
	if err == nil && st.Mode&fs.ModeSymlink != 0 && st.LinkTarget != "" {
		st, err = c.e.api.ContainerStatPath(ctx, c.ID, st.LinkTarget)
	}
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("look at %s of container %s: %w", name, c.Name, wrap(err))
	case !st.Mode.IsRegular():
		return time.Time{}, fmt.Errorf("look at %s of container %s: not a regular file", name, c.Name)
	}
	return st.Mtime, nil
}

// tarEnd is how many zero bytes end an archive (pax, POSIX.1-2008).
const tarEnd = 1024

// trailer counts the zeros that a stream has ended with so far.
type trailer struct {
	r     io.Reader
	zeros int
}

func (t *trailer) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	zeros := n - len(bytes.TrimRight(p[:n], "\x00"))
	if zeros < n {
		t.zeros = 0
	}
	t.zeros += zeros
	return n, err
}

// CopyOut copies files out of a container that has ended or is paused. leftOut has what was not
// copied, see [job.LeftOut]: symlinks that lead out of what is copied, devices, directories more than 64 deep and the
// like. A file is there whole or not at all. A copy that isn't possible doesn't keep the others from being made: the error
// is [CopyErrors] then.
//
// The job made these files, so they are not trusted: names and links are checked, nothing is written outside
// Copy.Root, and at most limit bytes in all (0 for no limit).
func (c *Container) CopyOut(ctx context.Context, copies []job.Copy, limit int64) (leftOut []job.Left, err error) {
	u := &unpacker{left: limit, limited: limit > 0}
	var faults CopyErrors
	for _, cp := range copies {
		err := c.copyOutWhole(ctx, cp, u)
		var ce *CopyError
		switch {
		case errors.As(err, &ce):
			ce.Copy = cp
			faults = append(faults, ce)
		case err != nil:
			return u.leftOut.Files(), fmt.Errorf("copy %s out of container %s: %w", cp.Src, c.Name, wrap(err))
		}
	}
	if len(faults) > 0 {
		return u.leftOut.Files(), faults
	}
	return u.leftOut.Files(), nil
}

// cutTries is how often a copy is requested that the engine ends too early, as Podman 5.8 sometimes does on a busy computer.
const cutTries = 5

func (c *Container) copyOutWhole(ctx context.Context, cp job.Copy, u *unpacker) error {
	for try := 1; ; try++ {
		before := *u
		err := c.copyOut(ctx, cp, u)
		if !errors.Is(err, io.ErrUnexpectedEOF) || try == cutTries || ctx.Err() != nil {
			return err
		}
		c.e.log.Debug().Err(err).Str("file", cp.Src).Msg("the engine ended the copy too early")
		*u = before
	}
}

func (c *Container) copyOut(ctx context.Context, cp job.Copy, u *unpacker) error {
	src := path.Clean(cp.Src)
	callCtx, cancel := c.e.call(ctx)
	st, err := settled(callCtx, func() (st container.PathStat, err error) {
		return c.e.api.ContainerStatPath(callCtx, c.ID, src)
	})
	cancel()
	if err == nil && st.Mode&fs.ModeSymlink != 0 && st.LinkTarget != "" {
		src = st.LinkTarget // resolved by the engine, inside the container
	}
	// Any other error occurs again, with a clearer text, when the content is requested.
	body, err := settled(ctx, func() (body io.ReadCloser, err error) {
		body, st, err = c.e.api.CopyFromContainer(ctx, c.ID, src)
		return body, err
	})
	switch {
	case errors.Is(wrap(err), ErrNotFound), err != nil && strings.Contains(err.Error(), "not a directory"):
		return &CopyError{Name: cp.Src, Missing: true, Reason: "the job didn't make this output"}
	case err != nil && strings.Contains(err.Error(), "too many"): // links
		return &CopyError{Name: cp.Src, Reason: plain(err.Error())}
	case err != nil:
		return err
	}
	defer body.Close()
	if !st.Mode.IsDir() && !st.Mode.IsRegular() {
		return &CopyError{Name: cp.Src, Reason: "neither a file nor a directory"}
	}
	u.root, err = os.OpenRoot(cp.Root)
	if err != nil {
		return err
	}
	defer u.root.Close()
	return u.unpack(ctx, body, path.Base(src), cp.Dst)
}

// settled repeats a call that fails because the engine is still unmounting what an earlier call mounted, as Podman 4.3 does.
func settled[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	const tries, pause = 10, 100 * time.Millisecond
	for n := 1; ; n++ {
		got, err := ask()
		if err == nil || n == tries || !strings.Contains(err.Error(), "mounting storage for container") {
			return got, err
		}
		select {
		case <-ctx.Done():
			return got, err
		case <-time.After(pause):
		}
	}
}

// unpacker unpacks an archive that isn't trusted.
type unpacker struct {
	root    *os.Root
	left    int64 // bytes
	limited bool
	entries int
	links   map[string]bool // symlinks that it made; it writes nothing through them
	leftOut job.LeftOut
}

// unpack writes the archive's entry base, and those below it, under the name dst.
func (u *unpacker) unpack(ctx context.Context, archive io.Reader, base, dst string) error {
	if err := u.mkdirAll(path.Dir(dst)); host.Final(err) && !errors.Is(err, fs.ErrPermission) {
		return &CopyError{Name: dst, Reason: host.Cause(err)}
	} else if err != nil {
		return err
	}
	end := &trailer{r: archive}
	tr := tar.NewReader(end)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF && end.zeros < tarEnd {
			return io.ErrUnexpectedEOF // cut off between two files, which package tar accepts
		} else if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if u.entries++; u.entries > maxEntries {
			return &CopyError{Name: dst, Reason: fmt.Sprintf("more than %d files", maxEntries)}
		}
		name := strings.TrimSuffix(path.Clean(h.Name), "/")
		rest, ok := strings.CutPrefix(name, base)
		if !ok || rest != "" && rest[0] != '/' || !filepath.IsLocal(filepath.FromSlash(name)) {
			u.leftOut.Add(h.Name, leadsOut)
			continue
		}
		err = u.entry(tr, h, base, dst, strings.TrimPrefix(rest, "/"))
		if host.Final(err) && !errors.Is(err, fs.ErrPermission) { // permissions in the slot are the computer's
			return &CopyError{Name: path.Join(dst, rest), Reason: host.Cause(err)}
		} else if err != nil {
			return err
		}
	}
}

// entry writes one entry; rest is its name below dst.
func (u *unpacker) entry(tr *tar.Reader, h *tar.Header, base, dst, rest string) error {
	name := path.Join(dst, rest)
	if depth := strings.Count(name, "/"); depth > maxNested || depth == maxNested && h.Typeflag == tar.TypeDir {
		u.leftOut.Add(h.Name, fmt.Sprintf("more than %d directories deep", maxNested))
		return nil
	}
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if u.links[dir] {
			u.leftOut.Add(h.Name, leadsOut)
			return nil
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		delete(u.links, name)
	}
	mode := fs.FileMode(h.Mode) & 0o777
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.mkdirAll(name); err != nil {
			return err
		}
		return u.root.Chmod(name, mode|0o700)
	case tar.TypeReg:
		return u.file(tr, h.Size, name, mode|0o600)
	case tar.TypeSymlink:
		// A link may only point to what is copied with it, because the client follows links when it uploads. A ".." that
		// follows another name may climb out of another link, so it can't be checked by its text.
		if rest == "" || path.IsAbs(h.Linkname) || climbsLate(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(rest), h.Linkname)) {
			u.leftOut.Add(h.Name, leadsOut)
			return nil
		}
		if err := u.root.RemoveAll(name); err != nil {
			return err
		}
		if u.links == nil {
			u.links = map[string]bool{}
		}
		u.links[name] = true
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return u.hardLink(h, base, dst, name)
	default:
		u.leftOut.Add(h.Name, "neither a file nor a directory")
		return nil
	}
}

const leadsOut = "a symlink that leads out of what is copied"

// climbsLate reports a ".." after a name.
func climbsLate(target string) bool {
	named := false
	for part := range strings.SplitSeq(target, "/") {
		if part == ".." && named {
			return true
		}
		named = named || part != ".." && part != "." && part != ""
	}
	return false
}

// hardLink adds a name for a file that came earlier in the archive.
func (u *unpacker) hardLink(h *tar.Header, base, dst, name string) error {
	rest, ok := strings.CutPrefix(path.Clean(h.Linkname), base+"/")
	old := path.Join(dst, rest)
	if fi, err := u.root.Lstat(old); !ok || !filepath.IsLocal(rest) || err != nil || !fi.Mode().IsRegular() {
		u.leftOut.Add(h.Name, "a link to a file that isn't copied")
		return nil
	}
	if err := u.root.RemoveAll(name); err != nil {
		return err
	}
	return u.root.Link(old, name)
}

func (u *unpacker) mkdirAll(name string) error {
	if name == "." {
		return nil
	}
	return u.root.MkdirAll(name, 0o755)
}

func (u *unpacker) file(r io.Reader, size int64, name string, mode fs.FileMode) error {
	if u.left -= size; u.limited && u.left < 0 {
		return &CopyError{Name: name, Reason: "more output than rsc_disk_bound allows"}
	}
	if fi, err := u.root.Lstat(name); err == nil && fi.IsDir() {
		return &CopyError{Name: name, Reason: "a file can't take the place of a directory"}
	}
	// Not synced: there may be a million files. Checkpoints and outputs are synced when they are complete.
	return host.Replace(u.root, path.Join(path.Dir(name), host.Part(path.Base(name))), name, mode, func(f *os.File) error {
		_, err := io.Copy(f, r)
		return errors.Join(err, f.Chmod(mode))
	})
}
