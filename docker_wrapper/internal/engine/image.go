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
			if contexts[i], err = e.read(ctx, im, s, fsys, false); err != nil {
				return "", err
			}
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
	if b != nil {
		known := b.identity
		if err := e.withBases(ctx, im, s, b); err != nil {
			return "", e.verdict(ctx, im, s, "build", err)
		}
		if b.identity != known {
			if id, err := e.present(ctx, im, s, b); err != nil {
				return "", err
			} else if id != "" {
				e.used(ctx, im, s, b, id)
				return id, nil
			}
		}
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
	if err != nil {
		return in, e.verdict(ctx, im, s, verb, err)
	}
	in, err = e.inspectImage(ctx, nameOf(s, b)) // not by the source's name, which another job may have taken; and not by the engine's success alone, since its answer may be cut off
	if err != nil {
		return in, fmt.Errorf("%s image %s: %w", verb, s.Name, err)
	}
	e.log.Info().Str("image", s.Name).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg(verb + ": done")
	return in, nil
}

// verdict is what an error in getting an image means. A step may have failed because the engine is stopping.
func (e *Engine) verdict(ctx context.Context, im job.Image, s job.Source, verb string, err error) error {
	var ie *ImageError
	if errors.As(err, &ie) && ctx.Err() == nil {
		if _, away := e.api.Ping(ctx); away != nil {
			return fmt.Errorf("%s image %s: %w", verb, s.Name, wrap(away))
		}
	}
	return e.hintProxy(im, s, err)
}

// make pulls, loads or builds an image and returns which.
func (e *Engine) make(ctx context.Context, im job.Image, s job.Source, b *buildContext) (verb string, err error) {
	switch {
	case b != nil:
		return "build", e.whileOnline(ctx, "build", s, e.needsNetwork(ctx, s, b), func(ctx context.Context) error { return e.build(ctx, im, s, b) })
	case s.Archive != "":
		return "load", e.load(ctx, s)
	default:
		return "pull", e.whileOnline(ctx, "pull", s, true, func(ctx context.Context) error { return e.pull(ctx, s) })
	}
}

// whileOnline does what may use the network, which it does only while the client allows it.
func (e *Engine) whileOnline(ctx context.Context, verb string, s job.Source, needed bool, do func(context.Context) error) error {
	if e.online == nil || !needed {
		return do(ctx)
	}
	inner, done, refused := e.online(ctx)
	if refused != nil {
		return offline(verb, s, refused)
	}
	defer done()
	err := do(inner)
	if err != nil && ctx.Err() == nil && inner.Err() != nil {
		return offline(verb, s, context.Cause(inner))
	}
	return err
}

// withBases gets the base images of a Dockerfile that the engine doesn't have, and reads it again: their variables and triggers
// decide what it copies.
func (e *Engine) withBases(ctx context.Context, im job.Image, s job.Source, b *buildContext) error {
	err := e.whileOnline(ctx, "build", s, e.lacksBases(ctx, s, b), func(ctx context.Context) error {
		if s.Unsigned {
			return e.fetchBases(ctx, im, s, b)
		}
		e.pullBases(ctx, im, s, b)
		return ctx.Err()
	})
	if err != nil || !b.unsure && (s.Unsigned || !e.Info.quirks.hidesTriggers || len(b.bases) == 0) {
		return err
	}
	again, err := e.read(ctx, im, s, b.fsys, true)
	if err == nil {
		*b = *again
	}
	return err
}

// read reads a Dockerfile and what it copies. final is whether the base images that can be had are there.
func (e *Engine) read(ctx context.Context, im job.Image, s job.Source, fsys fs.FS, final bool) (*buildContext, error) {
	var failed error
	known := map[string]*baseConfig{}
	builders := e.Info.quirks.builders[:]
	if !e.Info.quirks.buildKit {
		builders = builders[:1]
	}
	b, err := newBuildContext(fsys, s, site{platform: s.Build.Platform, own: "linux/" + e.Info.Architecture, builders: builders, final: final, image: func(b base) *baseConfig {
		config, ok := known[b.name]
		if !ok {
			var err error
			if config, err = e.baseConfig(ctx, s, b.name, final); err != nil {
				failed = cmp.Or(failed, err)
			}
			known[b.name] = config
		}
		return config
	}})
	if failed != nil {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	b.identity = identityOf(im, b.identity)
	return b, nil
}

// baseConfig is what a build takes over from an image; nil when the engine doesn't have the image. Finding triggers takes long
// where the engine doesn't show them, so that is left out before the last reading. An unsigned job's base has none.
func (e *Engine) baseConfig(ctx context.Context, s job.Source, name string, final bool) (*baseConfig, error) {
	in, err := e.inspectImage(ctx, name)
	if err != nil && mayMend(err) {
		return nil, fmt.Errorf("look for image %s: %w", name, err)
	} else if err != nil || in.Config == nil {
		return nil, nil
	}
	c := &baseConfig{in.Config.Env, in.Config.OnBuild}
	if e.Info.quirks.hidesTriggers && final && !s.Unsigned {
		if c.triggers, err = e.savedTriggers(ctx, in.ID); err != nil && mayMend(err) {
			return nil, fmt.Errorf("look for triggers of image %s: %w", name, err)
		} else if err != nil {
			e.log.Debug().Str("image", name).Err(err).Msg("cannot look for its triggers")
		}
	}
	return c, nil
}

func offline(verb string, s job.Source, why error) error {
	return fmt.Errorf("%s image %s: %w: %w", verb, s.Name, ErrNetwork, why)
}

// needsNetwork reports whether a build may use the network. What its RUN steps do is unknown, so they may. BuildKit fetches the
// program that a syntax line names.
func (e *Engine) needsNetwork(ctx context.Context, s job.Source, b *buildContext) bool {
	return b.steps && s.Build.Network != "none" || b.fetches || e.Info.quirks.buildKit && hasSyntax(b.text) || e.lacksBases(ctx, s, b)
}

// lacksBases reports whether base images must be pulled.
func (e *Engine) lacksBases(ctx context.Context, s job.Source, b *buildContext) bool {
	if s.Build.Pull {
		return true
	}
	bases := b.bases
	if s.Unsigned {
		bases = b.fetched
	}
	for _, base := range bases {
		if _, err := e.inspectImage(ctx, base.name); err != nil || s.Unsigned && cmp.Or(base.platform, s.Build.Platform) != "" {
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
