package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/klauspost/compress/zstd"

	"boincdocker/docker_wrapper/internal/job"
)

// checkpointWay is where an engine keeps a checkpoint of a container with all its processes. All engines use CRIU
// (criu.org) through their runtime.
type checkpointWay int

const (
	noCheckpoints checkpointWay = iota
	keptInside                  // Docker: with the container, and removed with it
	asArchive                   // Podman: in a file of the wrapper's, from which it makes another container
)

// Files of a checkpoint in the directory that Checkpoint is given.
const (
	podmansFile = "container.tar.zst"
	dockersFile = "container.json"
)

// How often a restore is tried, and the pause between. For a moment Docker's containerd may still have the checkpoint open
// from when it was made or from an earlier try, and refuses it (moby#42900; on 28.5.2 the second try always worked).
const restoreTries, restorePause = 10, 300 * time.Millisecond

// restoreTime is the longest that a restore may take: 64 GB from a disk that reads 100 MB/s.
const restoreTime = 15 * time.Minute

// ErrLate: a trial took too long. The computer may be busy.
var ErrLate = errors.New("the program in a small test container is too slow")

// ErrNoRestore: the checkpoint can never be restored. The job starts from the beginning.
var ErrNoRestore = errors.New("the checkpoint can't be restored")

// inside is where Docker keeps a checkpoint.
type inside struct {
	Container  string `json:"container"`
	Checkpoint string `json:"checkpoint"`
}

// NoCheckpoints says why this engine can't checkpoint any container; "" when it may be able to.
func (i Info) NoCheckpoints() string {
	if i.quirks.checkpoints == noCheckpoints {
		return i.quirks.checkpointHint
	}
	return ""
}

// CanCheckpoint says why this job's containers can't be checkpointed with all their processes. It is nil when they may
// be; TryCheckpoint finds out.
func (e *Engine) CanCheckpoint(j *job.Job) error { return canCheckpoint(e.Info.quirks, j) }

// No engine can restore a container with an init process (measured: Docker 28.5.2, Podman 5.8.6), so such containers get
// none. Docker from 28.0 on can't restore a container with its own network either (containerd#12141). It also doesn't save
// the file system: what the program wrote after the checkpoint would still be there. So with Docker a job must ask for it.
func canCheckpoint(q quirks, j *job.Job) error {
	c := j.Container
	switch inside := q.checkpoints == keptInside; {
	case !j.Checkpoint.Whole():
		return errors.New("the job doesn't ask for it")
	case q.checkpoints == noCheckpoints:
		return errors.New(q.checkpointHint)
	case c.Extra.Init != nil && *c.Extra.Init:
		return errors.New("an init process can't be restored")
	case c.GPU != nil || len(c.Extra.Devices) > 0:
		return errors.New("what a device holds can't be saved")
	case inside && j.Checkpoint.Method != job.ByEngine:
		return errors.New(`with Docker such a container has no network and no init process; checkpoint.method = "engine" asks for that`)
	case inside && c.Network != "none":
		return errors.New(`a container that has a network can't be restored by Docker; network = "none" asks for none`)
	case inside && !c.Extra.ReadOnly:
		return errors.New(`what a job writes outside of its mounts isn't saved by Docker; create_args = "--read-only --tmpfs /tmp" keeps it from that`)
	}
	for _, b := range c.Binds {
		if !b.ReadOnly() && (b.Source != "" || q.checkpoints == keptInside) {
			return fmt.Errorf("what the job writes to %s would not be saved", b.Target)
		}
	}
	return nil
}

// Hold freezes the container until Release, so that the checkpoint matches the files that the job writes.
// Podman can't checkpoint a container that it has paused, so there the kernel freezes its control group.
func (c *Container) Hold(ctx context.Context) error {
	if c.e.Info.quirks.checkpoints != asArchive {
		return c.Pause(ctx)
	}
	if err := c.Unpause(ctx); err != nil {
		return err
	}
	if err := c.groups(ctx).Freeze(ctx); err != nil {
		return fmt.Errorf("hold container %s: %w", c.Name, err)
	}
	return nil
}

// Release lets the container run again after Hold. It does nothing to a container that isn't held.
func (c *Container) Release(ctx context.Context) error {
	if c.e.Info.quirks.checkpoints != asArchive {
		return c.Unpause(ctx)
	}
	state, err := c.libpodState(ctx)
	if err == nil && state.Status == "running" { // if Podman has paused it, thawing it here would keep Podman from unpausing it
		err = c.groups(ctx).Thaw()
	}
	if err != nil {
		return fmt.Errorf("release container %s: %w", c.Name, err)
	}
	return nil
}

// Checkpoint saves the container with all its processes. It must be held, and is still held afterwards. It writes what
// Restore needs into dir, at most room bytes (0 for no limit).
func (c *Container) Checkpoint(ctx context.Context, dir string, room int64) error {
	began := time.Now()
	var err error
	switch c.e.Info.quirks.checkpoints {
	case keptInside:
		err = c.checkpointInside(ctx, dir)
	case asArchive:
		err = c.checkpointArchive(ctx, dir, room)
	default:
		err = errors.New(c.e.Info.quirks.checkpointHint)
	}
	c.e.log.Debug().Str("call", "checkpoint").Stringer("took", time.Since(began).Round(time.Millisecond)).Err(err).Msg("engine")
	if err != nil {
		return fmt.Errorf("checkpoint container %s: %w", c.Name, wrap(err))
	}
	return nil
}

// checkpointInside uses a new name each time, since Docker refuses one that was used before.
func (c *Container) checkpointInside(ctx context.Context, dir string) error {
	found, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	for _, m := range found.Mounts {
		if m.Type == mount.TypeVolume && m.RW { // of the image or of a user
			return fmt.Errorf("what the job writes to the volume %s would not be saved", m.Destination)
		}
	}
	in := inside{Container: c.ID, Checkpoint: "boinc" + strconv.FormatInt(time.Now().UnixNano(), 10)}
	if err := c.e.api.CheckpointCreate(ctx, c.ID, checkpoint.CreateOptions{CheckpointID: in.Checkpoint}); err != nil {
		return err
	}
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, dockersFile), data, 0o660)
}

func (c *Container) checkpointArchive(ctx context.Context, dir string, room int64) (err error) {
	body, err := c.e.raw(ctx, http.MethodPost, libpodRoot+"/containers/"+c.ID+"/checkpoint", url.Values{"export": {"true"}, "leaveRunning": {"true"}}, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.OpenFile(filepath.Join(dir, podmansFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o660)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	enc, err := zstd.NewWriter(&bounded{w: f, left: room, limited: room > 0}, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	end := &trailer{r: body}
	if _, err := io.Copy(enc, end); err != nil {
		return errors.Join(err, enc.Close())
	}
	if err := enc.Close(); err != nil {
		return err
	}
	if end.zeros < tarEnd {
		return fmt.Errorf("the archive is cut off: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// bounded writes at most left bytes when it is limited, then returns errNoRoom.
type bounded struct {
	w       io.Writer
	left    int64
	limited bool
}

var errNoRoom = errors.New("it is larger than rsc_disk_bound allows")

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.limited && b.left < 0 {
		return 0, errNoRoom
	}
	return b.w.Write(p)
}

// KeepCheckpoint removes all checkpoints that the engine keeps of this container, except the one that dir describes; "" removes all.
func (c *Container) KeepCheckpoint(ctx context.Context, dir string) error {
	if c.e.Info.quirks.checkpoints != keptInside {
		return nil
	}
	keep := ""
	if dir != "" {
		in, err := readInside(dir)
		if err != nil {
			return err
		}
		keep = in.Checkpoint
	}
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	list, err := c.e.api.CheckpointList(ctx, c.ID, checkpoint.ListOptions{})
	for _, l := range list {
		if l.Name != keep && err == nil {
			err = c.e.api.CheckpointDelete(ctx, c.ID, checkpoint.DeleteOptions{CheckpointID: l.Name})
		}
	}
	if err != nil {
		return fmt.Errorf("remove older checkpoints of container %s: %w", c.Name, wrap(err))
	}
	return nil
}

func readInside(dir string) (in inside, err error) {
	data, err := os.ReadFile(filepath.Join(dir, dockersFile))
	if err == nil {
		err = json.Unmarshal(data, &in)
	}
	if err != nil {
		return in, fmt.Errorf("read checkpoint: %w", err)
	}
	return in, nil
}

// Restore brings the job's container back to its state when the checkpoint in dir was made, and runs it. A container of
// this name that still exists must not run; what it has done since the checkpoint is lost.
//
// since is when, by the engine's clock, the output of the restored container begins; zero when the output continues
// at the checkpoint.
//
// ErrNoRestore when the checkpoint can never be restored. A container of this name may still exist then, and is of no use.
func (e *Engine) Restore(ctx context.Context, j *job.Job, dir string) (c *Container, since time.Time, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, restoreTime)
	defer cancel()
	restore := e.restoreArchive
	switch e.Info.quirks.checkpoints {
	case noCheckpoints:
		return nil, since, fmt.Errorf("restore container %s: %w: %s", j.Container.Name, ErrNoRestore, e.Info.quirks.checkpointHint)
	case keptInside:
		restore = e.restoreInside
		if since, err = e.clock(ctx); err != nil {
			return nil, since, fmt.Errorf("restore container %s: %w", j.Container.Name, err)
		}
	}
	for try := 1; ; try++ {
		if c, err = restore(ctx, j.Container, dir); err == nil || engineMends(err) || errors.Is(err, ErrNotFound) || try == restoreTries {
			break
		}
		select {
		case <-time.After(restorePause):
			continue
		case <-ctx.Done():
		}
		break
	}
	e.log.Debug().Str("call", "restore").Stringer("took", time.Since(began).Round(time.Millisecond)).Err(err).Msg("engine")
	switch {
	case err == nil:
		return c, since, nil
	case ctx.Err() != nil || engineMends(err):
		return nil, since, fmt.Errorf("restore container %s: %w", j.Container.Name, err)
	default:
		return nil, since, fmt.Errorf("restore container %s: %w: %w", j.Container.Name, ErrNoRestore, err)
	}
}

// engineMends reports an error that a later try may not meet.
func engineMends(err error) bool {
	for _, e := range []error{ErrUnreachable, ErrPermission, ErrDiskFull, ErrNetwork, ErrHost} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (e *Engine) restoreInside(ctx context.Context, jc job.Container, dir string) (*Container, error) {
	in, err := readInside(dir)
	if err != nil {
		return nil, err
	}
	c, err := e.Find(ctx, jc)
	switch {
	case err != nil:
		return nil, err
	case c.ID != in.Container:
		return nil, fmt.Errorf("the checkpoint is of another container: %w", ErrNotFound)
	case c.State == StateRunning || c.State == StatePaused: // Docker would do nothing and report success
		return nil, errStillRunning
	}
	callCtx, cancel := callWithin(ctx, restoreTime)
	defer cancel()
	if err := e.api.ContainerStart(callCtx, c.ID, container.StartOptions{CheckpointID: in.Checkpoint}); err != nil {
		return nil, wrap(err)
	}
	c.State = StateRunning
	return c, nil
}

func (e *Engine) restoreArchive(ctx context.Context, jc job.Container, dir string) (*Container, error) {
	if old, err := e.Find(ctx, jc); err == nil {
		if err := old.Remove(ctx); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, ErrNotFound) {
		return nil, err
	} else if err := e.RemoveStray(ctx, jc); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, podmansFile))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer f.Close()
	dec, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer dec.Close()
	archive := &witnessed{r: dec}
	body, err := e.raw(ctx, http.MethodPost, libpodRoot+"/containers/"+url.PathEscape(jc.Name)+"/restore", url.Values{"import": {"true"}, "name": {jc.Name}}, archive)
	if err == nil {
		err = body.Close()
	}
	if archive.err != nil && archive.err != io.EOF {
		err = fmt.Errorf("read checkpoint: %v", archive.err) // our own error, not the engine's
	}
	c, found := e.Find(ctx, jc)
	switch {
	case err == nil:
		return c, found
	case found == nil && c.State != StateRunning: // the restore made it and failed later
		err = errors.Join(err, c.Remove(ctx))
	}
	return nil, wrap(err)
}

// witnessed is a reader that remembers its error.
type witnessed struct {
	r   io.Reader
	err error
}

func (w *witnessed) Read(p []byte) (n int, err error) {
	if n, err = w.r.Read(p); err != nil {
		w.err = err
	}
	return n, err
}

// How this program, run as a helper in a container, is told by TryCheckpoint to count.
const (
	HelperCounts = "count" // value of HelperEnv
	CountFile    = "count" // in HelperDir: a random word of the process, and a growing number
)

const (
	trialTime  = time.Minute
	trialPoll  = 20 * time.Millisecond
	trialGrace = 10 * time.Second // for the helper to begin counting
)

// TryCheckpoint finds out whether containers like this job's can be checkpointed and restored on this computer. It does so
// with a small container of the helper's image, which runs program (this one) and counts into a file in dir. dir must be
// empty. It takes some seconds. The error says what failed. It wraps ErrUnreachable when the engine stopped answering, which
// decides nothing.
func (e *Engine) TryCheckpoint(ctx context.Context, j *job.Job, program, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	t := *j
	t.Container = job.Container{
		Name: trialOf(j), Labels: j.Container.Labels, Network: j.Container.Network, User: helperUser(j.Container.User),
		Limits: j.Container.Limits, DropCaps: j.Container.DropCaps, Extra: job.CreateArgs{ReadOnly: j.Container.Extra.ReadOnly, Tmpfs: j.Container.Extra.Tmpfs}, Entrypoint: []string{HelperPath}, Command: []string{},
		Env:    []string{HelperEnv + "=" + HelperCounts},
		Mounts: []job.Mount{{Source: program, Target: HelperPath, ReadOnly: true}, {Source: dir, Target: HelperDir}},
	}
	t.Logs = job.Logs{}
	save := filepath.Join(dir, "checkpoint")
	if err := errors.Join(os.Mkdir(save, 0o700), os.Chmod(dir, 0o777)); err != nil {
		return err
	}
	if err := e.RemoveTrial(ctx, j); err != nil { // of an earlier trial that was interrupted
		return err
	}
	image, err := e.helperImage(ctx, j.Image)
	if err != nil {
		return err
	}
	c, err := e.Create(ctx, &t, image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.RemoveTrial(context.WithoutCancel(ctx), j)) }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	before, err := counted(ctx, dir, func(count) bool { return true })
	if err != nil {
		return err
	}
	if err := errors.Join(c.Hold(ctx), c.Checkpoint(ctx, save, 0)); err != nil {
		return err
	}
	if err := errors.Join(c.Kill(ctx), c.Release(ctx), c.waitOnce(ctx)); err != nil {
		return err
	}
	if err := renewFile(filepath.Join(dir, CountFile)); err != nil {
		return err
	}
	if _, _, err = e.Restore(ctx, &t, save); err != nil {
		return err
	}
	after, err := counted(ctx, dir, func(now count) bool { return now.word != before.word || now.number > before.number+1 })
	if err == nil && after.word != before.word {
		err = errors.New("the restored program started from the beginning")
	}
	return err
}

// TrialSuffix is appended to the name of the job's container to name a trial's container.
const TrialSuffix = "_trial"

func trialOf(j *job.Job) string { return j.Container.Name + TrialSuffix }

// RemoveTrial removes what an interrupted trial has left, for instance when the engine stopped.
func (e *Engine) RemoveTrial(ctx context.Context, j *job.Job) error {
	c, err := e.Find(ctx, job.Container{Name: trialOf(j), Labels: j.Container.Labels})
	if err == nil {
		err = c.Remove(ctx)
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// renewFile replaces a file by another with the same content, as restoring a snapshot does. CRIU requires the same
// size and mode.
func renewFile(name string) error {
	fi, err := os.Stat(name)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(name, data, 0o600), os.Chmod(name, fi.Mode().Perm()))
}

// count reads what the helper has written.
type count struct {
	word   string
	number int
}

// counted waits until the helper has counted far enough.
func counted(ctx context.Context, dir string, enough func(count) bool) (now count, _ error) {
	ctx, cancel := context.WithTimeout(ctx, trialGrace)
	defer cancel()
	tick := time.NewTicker(trialPoll)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(filepath.Join(dir, CountFile))
		if err == nil {
			if n, _ := fmt.Sscanf(string(text), "%s %d", &now.word, &now.number); n == 2 && enough(now) {
				return now, nil
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return now, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now, ErrLate
		}
	}
}
