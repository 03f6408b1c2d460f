package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/gofrs/flock"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	streamSilence = 10 * time.Minute // a builder or registry without output for so long hangs
	streamTotal   = 3 * time.Hour

	lockRetry    = 200 * time.Millisecond
	lockPatience = 15 * time.Minute // long enough for a long build
)

// Ensure finds the image or obtains it, and returns its ID. fsys contains the slot's files for a Dockerfile.
// Of wrappers that need the same image at the same time, one obtains it and the others wait. When the
// engine's disk is full, it removes images that no job uses and tries once more.
//
// Errors: *ImageError when the project is at fault; ErrNetwork, ErrDiskFull or ErrUnreachable when a later
// try may succeed; ctx's error when it was cancelled, and then the engine has stopped building too.
func (e *Engine) Ensure(ctx context.Context, im job.Image, fsys fs.FS) (id string, err error) {
	contexts := make([]*buildContext, len(im.Sources))
	for i, s := range im.Sources {
		if s.Dockerfile != "" {
			if contexts[i], err = newBuildContext(fsys, s, e.platform(s)); err != nil {
				return "", err
			}
			contexts[i].identity = identityOf(im, contexts[i].identity)
		}
		if id, err := e.present(ctx, im, s, contexts[i]); err != nil {
			return "", err
		} else if id != "" {
			e.used(ctx, im, s, contexts[i], id)
			return id, nil
		}
	}
	var failed error
	for i, s := range im.Sources {
		id, err := e.obtain(ctx, im, s, contexts[i])
		var step *ImageError // only the engine's error makes room, not that of a step, which the project controls
		if errors.Is(err, ErrDiskFull) && !errors.As(err, &step) && ctx.Err() == nil && e.makeRoom(ctx, im) {
			id, err = e.obtain(ctx, im, s, contexts[i])
		}
		if err == nil {
			return id, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		e.log.Debug().Str("image", s.Name).Err(err).Msg("cannot get the image this way")
		failed = worse(failed, err)
	}
	return "", failed
}

// identityOf identifies an image built from this content. Under a client it depends on the data directory, whose record says
// which image it is.
func identityOf(im job.Image, content string) string {
	if im.Collect == nil {
		return content
	}
	return hexOf(fmt.Sprintf("%s %q", content, im.Labels[job.LabelDataDir]))
}

// worse chooses the error of several sources. One that may pass wins over a final one, so that a job isn't given
// up when a source only waits for the network.
func worse(a, b error) error {
	if a == nil || !mayMend(a) && mayMend(b) {
		return b
	}
	return a
}

func mayMend(err error) bool {
	return errors.Is(err, ErrNetwork) || errors.Is(err, ErrDiskFull) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrHost)
}

// present finds an image that the engine has; "" when it doesn't, or when the image isn't what its name says.
func (e *Engine) present(ctx context.Context, im job.Image, s job.Source, b *buildContext) (string, error) {
	if b != nil && !s.Fixed {
		return e.byIdentity(ctx, im, s, b.identity)
	}
	in, err := e.inspectImage(ctx, s.Name)
	if errors.Is(err, ErrNotFound) {
		return "", nil
	} else if errdefs.IsInvalidArgument(err) || err != nil && strings.Contains(err.Error(), "normalizing name") { // Podman
		return "", &ImageError{Image: s.Name, Reason: plain(err.Error())}
	} else if err != nil {
		return "", fmt.Errorf("look for image %s: %w", s.Name, err)
	}
	if s.Archive != "" && !e.trusted(im, s.Name, in.ID) {
		return "", nil
	}
	if err := e.fits(s, in); err != nil {
		return "", err
	}
	return in.ID, nil
}

// trusted reports whether an image with a name that only wrappers give got it from a wrapper of this data directory. By
// hand, without a client, the name is enough.
func (e *Engine) trusted(im job.Image, name, id string) bool {
	if im.Collect == nil {
		return true
	}
	r := e.readRecord(im.Collect.Record)
	i := r.find(e.Info.Host, name, "")
	return i >= 0 && r.Images[i].Made && r.Images[i].ID == id
}

// byIdentity finds an image that was built from the same content, and adds this job's name to it. The
// name says which job used it.
//
// It is found by a tag that only this package gives, and verified by the ID in the record. A label alone proves nothing:
// images built FROM the image inherit it, and the maker of an image that is pulled or loaded may write any label.
func (e *Engine) byIdentity(ctx context.Context, im job.Image, s job.Source, identity string) (string, error) {
	in, err := e.inspectImage(ctx, contentTag(identity))
	if errors.Is(err, ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("look for image %s: %w", s.Name, err)
	}
	if !e.trusted(im, contentTag(identity), in.ID) {
		return "", nil
	}
	callCtx, cancel := e.call(ctx)
	defer cancel()
	if err := wrap(e.api.ImageTag(callCtx, in.ID, s.Name)); errors.Is(err, ErrNotFound) {
		return "", nil // it was removed just now: build it again
	} else if err != nil {
		return "", fmt.Errorf("tag image %s: %w", s.Name, err)
	}
	return in.ID, nil
}

// contentTag is the name of an image by its content. [job.Plan] lets no job use such a name.
func contentTag(identity string) string { return job.ContentRepository + ":" + identity }

func (e *Engine) inspectImage(ctx context.Context, name string) (image.InspectResponse, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	const tries, pause = 10, 100 * time.Millisecond
	for n := 1; ; n++ {
		in, err := e.api.ImageInspect(ctx, name)
		// Podman fails like this while another image is being removed; the image of this name exists.
		if err == nil || n == tries || !strings.Contains(err.Error(), "failed to convert ImageData") {
			return in, wrap(err)
		}
		select {
		case <-ctx.Done():
			return in, wrap(err)
		case <-time.After(pause):
		}
	}
}

// fits returns an error when an image is for another architecture, which would fail in ways that are hard to
// understand. An image requested with a platform may be emulated, so it always fits.
func (e *Engine) fits(s job.Source, in image.InspectResponse) error {
	want := e.Info.Architecture
	if s.Build != nil && s.Build.Platform != "" || in.Architecture == "" || in.Architecture == want {
		return nil
	}
	return &ImageError{Image: s.Name, Reason: fmt.Sprintf("it is made for %s, and this computer's engine runs %s", in.Architecture, want)}
}

func (e *Engine) platform(s job.Source) string {
	if s.Build != nil && s.Build.Platform != "" {
		return s.Build.Platform
	}
	return "linux/" + e.Info.Architecture
}

// obtain obtains an image that the engine doesn't have. It holds the lock meanwhile, and first checks again
// whether the engine has the image.
func (e *Engine) obtain(ctx context.Context, im job.Image, s job.Source, b *buildContext) (string, error) {
	unlock, err := e.lock(ctx, im, s, b)
	if err != nil {
		return "", err
	}
	defer unlock()
	if id, err := e.present(ctx, im, s, b); err != nil {
		return "", err
	} else if id != "" {
		e.used(ctx, im, s, b, id)
		return id, nil
	}
	e.intend(ctx, im, s, b)
	in, err := e.makeAnew(ctx, im, s, b)
	e.settle(ctx, im, s, b, in.ID)
	if err != nil {
		return "", err
	}
	if err := e.fits(s, in); err != nil {
		return "", err
	}
	return in.ID, nil
}

// makeAnew makes an image and checks the result.
func (e *Engine) makeAnew(ctx context.Context, im job.Image, s job.Source, b *buildContext) (in image.InspectResponse, err error) {
	began := time.Now()
	verb, err := e.make(ctx, im, s, b)
	var verdict *ImageError
	if errors.As(err, &verdict) && ctx.Err() == nil { // a step may have failed because the engine is stopping
		if _, away := e.api.Ping(ctx); away != nil {
			return in, fmt.Errorf("%s image %s: %w", verb, s.Name, wrap(away))
		}
	}
	if err != nil {
		return in, e.hintProxy(im, s, err)
	}
	in, err = e.inspectImage(ctx, nameOf(s, b)) // not by the source's name, which another job may have taken; and not by the engine's success alone, since its answer may be cut off
	if err != nil {
		return in, fmt.Errorf("%s image %s: %w", verb, s.Name, err)
	}
	e.log.Info().Str("image", s.Name).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg(verb + ": done")
	return in, nil
}

// make pulls, loads or builds an image and returns which. It uses the network only while the client allows it.
func (e *Engine) make(ctx context.Context, im job.Image, s job.Source, b *buildContext) (verb string, err error) {
	verb = "load"
	switch {
	case b != nil:
		verb = "build"
	case s.Archive == "":
		verb = "pull"
	}
	if e.online != nil && (verb == "pull" || verb == "build" && e.needsNetwork(ctx, s, b)) {
		outer := ctx
		ctx, done, refused := e.online(outer)
		if refused != nil {
			return verb, offline(verb, s, refused)
		}
		defer done()
		defer func() {
			if err != nil && outer.Err() == nil && ctx.Err() != nil {
				err = offline(verb, s, context.Cause(ctx))
			}
		}()
		return verb, e.makeNow(ctx, im, s, b)
	}
	return verb, e.makeNow(ctx, im, s, b)
}

func (e *Engine) makeNow(ctx context.Context, im job.Image, s job.Source, b *buildContext) error {
	switch {
	case b != nil:
		if !s.Unsigned { // else build checks each of them first
			e.pullBases(ctx, im, s, b)
		}
		return e.build(ctx, im, s, b)
	case s.Archive != "":
		return e.load(ctx, s)
	default:
		return e.pull(ctx, s)
	}
}

func offline(verb string, s job.Source, why error) error {
	return fmt.Errorf("%s image %s: %w: %w", verb, s.Name, ErrNetwork, why)
}

// needsNetwork reports whether a build may use the network. What its RUN steps do is unknown, so they may.
func (e *Engine) needsNetwork(ctx context.Context, s job.Source, b *buildContext) bool {
	bases, steps, err := reaches(b.text)
	if err != nil || steps && s.Build.Network != "none" || s.Build.Pull {
		return true
	}
	for _, name := range bases {
		if _, err := e.inspectImage(ctx, name); err != nil {
			return true
		}
	}
	for _, f := range b.fetched {
		if _, err := e.inspectImage(ctx, f.name); err != nil || cmp.Or(f.platform, s.Build.Platform) != "" {
			return true
		}
	}
	return false
}

// lock waits until no other wrapper obtains an image of this identity. The lock ends with the process. All
// identities share sixteen files, so some wait for others without need.
func (e *Engine) lock(ctx context.Context, im job.Image, s job.Source, b *buildContext) (unlock func(), err error) {
	key := hexOf(s.Name)
	if b != nil && !s.Fixed {
		key = b.identity
	}
	if err := os.MkdirAll(im.LockDir, 0o775); err != nil {
		return nil, fmt.Errorf("make directory for image locks: %w", err)
	}
	l := flock.New(filepath.Join(im.LockDir, ".docker_wrapper_image_"+key[:1]+".lock"), flock.SetPermissions(0o664))
	if ok, err := l.TryLock(); err != nil {
		return nil, fmt.Errorf("lock image %s: %w", s.Name, err)
	} else if ok {
		return func() { l.Close() }, nil
	}
	e.log.Info().Str("image", s.Name).Msg("another job makes this image: waiting")
	waitCtx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	_, err = l.TryLockContext(waitCtx, lockRetry)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil: // go on without: a second build does no harm, and a container that sees the file could lock it for ever
		e.log.Warn().Str("image", s.Name).Msg("the other job takes too long; making the image without waiting")
		return func() {}, nil
	}
	return func() { l.Close() }, nil
}

func (e *Engine) pull(ctx context.Context, s job.Source) error {
	if s.Unsigned {
		if err := e.publicRegistry(ctx, s.Name); errors.Is(err, ErrNetwork) {
			return fmt.Errorf("pull image %s: %w", s.Name, err)
		} else if err != nil {
			return &ImageError{Image: s.Name, Reason: "pull: " + err.Error()}
		}
	}
	return imageError("pull", s, e.pullAs(ctx, s.Name, ""))
}

// pullAs pulls an image for a platform; "" means the engine's own.
func (e *Engine) pullAs(ctx context.Context, name, platform string) error {
	e.log.Info().Str("image", name).Msg("pull image")
	return e.stream(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		return e.api.ImagePull(ctx, name, image.PullOptions{Platform: platform})
	}, nil)
}

// stream makes a call whose answer is a stream of messages, and returns the error in them. It gives up after
// streamSilence without a message and after streamTotal in all.
func (e *Engine) stream(ctx context.Context, begin func(context.Context) (io.ReadCloser, error), line func(string)) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, streamTotal, fmt.Errorf("%w: not done after %v", ErrNetwork, streamTotal))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	watchdog := time.AfterFunc(streamSilence, func() {
		giveUp(fmt.Errorf("%w: the engine said nothing for %v", ErrNetwork, streamSilence))
	})
	defer func() {
		watchdog.Stop()
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		giveUp(nil)
	}()
	body, err := begin(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var m jsonmessage.JSONMessage
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the engine's answer: %w", err)
		}
		watchdog.Reset(streamSilence)
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if line == nil {
			continue
		}
		for l := range strings.Lines(m.Stream) {
			line(strings.TrimRight(l, "\r\n"))
		}
	}
}

// imageError classes an error of an image stream. What isn't known to pass by itself is the project's fault, an
// *ImageError.
func imageError(verb string, s job.Source, err error) error { return imageErrorFor(verb, s, err, "") }

// imageErrorFor is imageError for an error that may quote words that the job wrote.
func imageErrorFor(verb string, s job.Source, err error, words string) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if w := wrapFor(err, words); mayMend(w) || errors.Is(w, ErrPermission) {
		return fmt.Errorf("%s image %s: %w", verb, s.Name, w)
	}
	return &ImageError{Image: s.Name, Reason: verb + ": " + plain(err.Error())}
}
