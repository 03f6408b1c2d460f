package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	collectEvery = 24 * time.Hour          // if no new image was recorded
	unfinished   = streamTotal + time.Hour // after that, a wrapper that was making an image has given up or died
	clocks       = time.Minute             // how far the engine's clock may be ahead of ours
	namesKept    = 4                       // further tags of an image, one for each workunit
)

// nameOf is the name by which the engine finds an image of this source.
func nameOf(s job.Source, b *buildContext) string {
	if b != nil && !s.Fixed {
		return contentTag(b.identity)
	}
	return s.Name
}

// collected reports whether an image of this source may be removed at all.
func collected(im job.Image, s job.Source) bool { return im.Collect != nil && !s.Keep && !s.Fixed }

// intend records that an image is about to be made, so that it is known even if the wrapper dies, and that its base
// images are used. It doesn't record a name that others may use too: the image that gets it may be theirs.
func (e *Engine) intend(ctx context.Context, im job.Image, s job.Source, b *buildContext) {
	if im.Collect == nil {
		return
	}
	there := map[string]string{}
	if b != nil {
		for _, base := range b.bases {
			if in, err := e.inspectImage(ctx, base.name); err == nil {
				there[base.name] = in.ID
			}
		}
	}
	old, _ := e.inspectImage(ctx, nameOf(s, b)) // the record may have lost it
	e.note(ctx, im, func(r *record) error {
		r.Collected = time.Time{} // a new image: collect soon
		if name := nameOf(s, b); collected(im, s) && job.OnlyOurs(name) {
			g := e.intention(s, name, b)
			g.ID = old.ID // recorded only so that it can be removed
			r.put(g)
		}
		for i, g := range r.Images {
			if g.Host == e.Info.Host && g.ID != "" && there[g.Name] == g.ID {
				r.Images[i].Used = now()
			}
		}
		return e.removeSteps(ctx, r)
	})
}

func (e *Engine) intention(s job.Source, name string, b *buildContext) job.Got {
	g := job.Got{Host: e.Info.Host, Name: name, Used: now()}
	if b != nil {
		g.Names = []string{s.Name}
	}
	return g
}

// settle completes what intend recorded: with the image's ID, or "" when no image was made.
func (e *Engine) settle(ctx context.Context, im job.Image, s job.Source, b *buildContext, id string) {
	name := nameOf(s, b)
	if !collected(im, s) || id == "" && !job.OnlyOurs(name) {
		return
	}
	g := e.intention(s, name, b)
	if id != "" {
		e.got(ctx, im, g, id)
		return
	}
	e.note(ctx, im, func(r *record) error {
		if i := r.find(g.Host, g.Name, ""); i >= 0 && r.Images[i].ID != "" { // another wrapper has made it
			return nil
		}
		r.put(g) // also when another wrapper had recorded the same intention and given up
		return e.finish(ctx, r, r.find(g.Host, g.Name, ""))
	})
}

// got records an image that this wrapper has just obtained.
func (e *Engine) got(ctx context.Context, im job.Image, g job.Got, id string) {
	e.note(ctx, im, func(r *record) (err error) {
		g.ID, g.Made = id, true
		g.Layers, err = e.layers(ctx, id)
		r.put(g)
		return err
	})
}

// note changes the record. If that fails, an image is never removed, or is made again.
func (e *Engine) note(ctx context.Context, im job.Image, f func(*record) error) {
	if err := e.change(ctx, im.Collect.Record, f); err != nil {
		e.log.Warn().Err(err).Msg("cannot write the record of images; an image may never be removed")
	}
}

// pullBases pulls the base images of a build that the engine doesn't have. Their IDs then tell that they came for a job, not
// for the owner. It leaves to the builder what it can't pull, and an image for which the Dockerfile chooses the platform.
func (e *Engine) pullBases(ctx context.Context, im job.Image, s job.Source, b *buildContext) {
	for _, base := range b.bases {
		if _, err := e.inspectImage(ctx, base.name); !errors.Is(err, ErrNotFound) || base.platform != "" || job.OnlyOurs(base.name) {
			continue
		}
		err := e.pullAs(ctx, base.name, s.Build.Platform)
		in := image.InspectResponse{}
		if err == nil {
			in, err = e.inspectImage(ctx, base.name)
		}
		if err != nil {
			e.log.Debug().Str("image", base.name).Err(err).Msg("cannot pull the base image; the builder tries")
		} else if im.Collect != nil {
			e.got(ctx, im, job.Got{Host: e.Info.Host, Name: base.name, Used: now()}, in.ID)
		}
	}
}

// finish completes the record of an image that was to be made, or removes it from the record when it doesn't exist.
func (e *Engine) finish(ctx context.Context, r *record, i int) error {
	in, err := e.inspectImage(ctx, r.Images[i].Name)
	if errors.Is(err, ErrNotFound) {
		r.drop(i)
		return nil
	} else if err != nil {
		return err
	}
	r.Images[i].ID = in.ID
	r.Images[i].Layers, err = e.layers(ctx, in.ID)
	return err
}

// used records that a job uses an image that the engine already had. It does so only if the record says that a wrapper
// obtained it; labels prove nothing, since the image's maker writes them.
func (e *Engine) used(ctx context.Context, im job.Image, s job.Source, b *buildContext, id string) {
	if im.Collect == nil {
		return
	}
	err := e.change(ctx, im.Collect.Record, func(r *record) error {
		i := r.find(e.Info.Host, nameOf(s, b), "")
		if i < 0 {
			return nil
		}
		if !collected(im, s) || r.Images[i].ID != id { // a project asks to keep it, or the name has been given to another image
			r.drop(i)
			return nil
		}
		g := &r.Images[i]
		g.Used = now()
		if b != nil && !slices.Contains(g.Names, s.Name) {
			g.Names = append(g.Names, s.Name)
		}
		if len(g.Names) <= namesKept {
			return nil
		}
		oldest := g.Names[0]
		g.Names = g.Names[1:]
		return e.untag(ctx, oldest, g.ID)
	})
	if err != nil {
		e.log.Warn().Err(err).Msg("cannot record that an image is used; it may be removed too early")
	}
}

// leftOver removes the last step of a build that failed, or records it until the engine answers again.
func (e *Engine) leftOver(ctx context.Context, im job.Image, s job.Source, id string, began time.Time) {
	if !collected(im, s) {
		return
	}
	err := e.change(ctx, im.Collect.Record, func(r *record) error {
		r.Steps = append(r.Steps, step{Host: e.Info.Host, ID: id, Began: began, Failed: now(), Cached: e.cached(s)})
		r.Steps = r.Steps[max(0, len(r.Steps)-stepsKept):]
		return e.removeSteps(ctx, r)
	})
	if err != nil {
		e.log.Debug().Err(err).Msg("cannot remove the last step of the failed build yet")
	}
}

// removeSteps removes the steps that leftOver recorded. A step that the next build continues from, or that the engine
// doesn't remove, is recorded as an unused image.
func (e *Engine) removeSteps(ctx context.Context, r *record) (err error) {
	r.Steps = slices.DeleteFunc(r.Steps, func(s step) bool {
		if s.Host != e.Info.Host || err != nil {
			return false
		}
		err = e.removeStep(ctx, r, s)
		return !errors.Is(err, ErrUnreachable)
	})
	return err
}

// removeStep removes a step or records it. The step's ID comes from the build's output, which the project can fake. So only
// an image that has no name and was made during the build counts as its step.
func (e *Engine) removeStep(ctx context.Context, r *record, s step) error {
	in, err := e.inspectImage(ctx, s.ID)
	if errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	g := job.Got{Host: s.Host, ID: in.ID, Used: now()}
	made, err := time.Parse(time.RFC3339Nano, in.Created)
	known := r.find(g.Host, "", g.ID) >= 0
	if !known && (err != nil || made.Before(s.Began) || made.After(s.Failed.Add(clocks))) || len(in.RepoTags)+len(in.RepoDigests) > 0 {
		return nil
	}
	if !s.Cached && e.removeUnused(ctx, g.ID) == nil {
		return nil
	}
	g.Layers, err = e.layers(ctx, g.ID)
	r.put(g)
	return err
}

// removeUnused removes an image that no container uses. It also removes containers of Podman's builder that use it, which
// stay when Podman's service is killed.
func (e *Engine) removeUnused(ctx context.Context, id string) error {
	if busy, err := e.imagesInUse(ctx); err != nil || busy[bareID(id)] {
		return cmp.Or(err, errors.New("a container uses it"))
	}
	ctx, cancel := e.call(ctx)
	defer cancel()
	_, err := e.api.ImageRemove(ctx, id, image.RemoveOptions{PruneChildren: true, Force: true})
	return wrap(err)
}

// layers identifies the layers of an image by its history: the same steps at the same times are the same layers.
// To ask the engine which layers images share would make it read its whole disk.
func (e *Engine) layers(ctx context.Context, id string) ([]job.Layer, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	steps, err := e.api.ImageHistory(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("history of image %s: %w", id, wrap(err))
	}
	var list []job.Layer
	below := sha256.New()
	for _, s := range slices.Backward(steps) { // those of the base first
		fmt.Fprintf(below, "%d %d %q\n", s.Created, s.Size, s.CreatedBy)
		if s.Size > 0 {
			list = append(list, job.Layer{ID: hex.EncodeToString(below.Sum(nil)[:8]), Size: s.Size})
		}
	}
	return list, nil
}

// Collect removes images that wrappers obtained, as im.Collect says. It does so when a new one was recorded since the last
// time, else once a day. It keeps what a container uses. It may run in parallel with all other calls.
func (e *Engine) Collect(ctx context.Context, im job.Image) error {
	if im.Collect == nil || now().Sub(e.readRecord(im.Collect.Record).Collected).Abs() < collectEvery {
		return nil
	}
	if _, err := e.collect(ctx, im, false); err != nil {
		return err
	}
	return e.change(ctx, im.Collect.Record, func(r *record) error {
		r.Collected = now()
		return nil
	})
}

// makeRoom removes all images that wrappers obtained and no container uses, and reports whether there
// were any.
func (e *Engine) makeRoom(ctx context.Context, im job.Image) bool {
	if im.Collect == nil {
		return false
	}
	e.log.Info().Msg("the engine's disk is full: removing images that no job uses")
	n, err := e.collect(ctx, im, true)
	if err != nil {
		e.log.Warn().Err(err).Msg("cannot remove all images that no job uses")
	}
	return n > 0
}

func (e *Engine) collect(ctx context.Context, im job.Image, hurry bool) (removed int, err error) {
	busy, err := e.imagesInUse(ctx)
	if err != nil {
		return 0, err
	}
	var here []job.Got
	err = e.change(ctx, im.Collect.Record, func(r *record) error {
		if err := e.removeSteps(ctx, r); err != nil {
			return err
		}
		for i := len(r.Images) - 1; i >= 0; i-- {
			switch g := &r.Images[i]; {
			case g.Host != e.Info.Host:
			case busy[bareID(g.ID)]:
				g.Used = now()
			case g.ID != "" || now().Sub(g.Used) <= unfinished:
			case !job.OnlyOurs(g.Name):
				r.drop(i)
			default:
				if err := e.finish(ctx, r, i); err != nil {
					return err
				}
			}
		}
		here = slices.DeleteFunc(slices.Clone(r.Images), func(g job.Got) bool { return g.Host != e.Info.Host })
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, g := range im.Collect.Choose(here, now(), hurry) {
		if ctx.Err() != nil {
			return removed, ctx.Err()
		}
		// Under the lock: a job that needs the image has either recorded that already, or will find it gone and make it again.
		err := e.change(ctx, im.Collect.Record, func(r *record) error {
			i := r.find(g.Host, g.Name, g.ID)
			if i < 0 || !r.Images[i].Used.Equal(g.Used) {
				return nil
			}
			gone, err := e.removeImage(ctx, g)
			if err != nil {
				return err
			}
			if gone {
				removed++
				e.log.Info().Str("image", cmp.Or(slices.Concat(g.Names, []string{g.Name, g.ID})...)).
					Stringer("unused", now().Sub(g.Used).Round(time.Hour)).Msg("removed an image that no job uses")
			}
			r.drop(i)
			return nil
		})
		if err != nil {
			e.log.Debug().Err(err).Msg("cannot remove the image yet")
		}
	}
	return removed, nil
}

// imagesInUse are the IDs of the images of all containers.
func (e *Engine) imagesInUse(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", wrap(err))
	}
	busy := map[string]bool{}
	for _, c := range list {
		busy[bareID(c.ImageID)] = true
	}
	return busy, nil
}

func bareID(id string) string { return strings.TrimPrefix(id, "sha256:") }

// removeImage removes the names that wrappers gave an image, and the image when it has no others. It fails when a
// container, another image or a builder that is just stopping uses it; the next collection tries again.
func (e *Engine) removeImage(ctx context.Context, g job.Got) (gone bool, err error) {
	if _, err := e.inspectImage(ctx, g.ID); errors.Is(err, ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	for _, name := range append(slices.Clone(g.Names), g.Name) {
		if name == "" {
			continue
		}
		if err := e.untag(ctx, name, g.ID); err != nil {
			return false, err
		}
	}
	in, err := e.inspectImage(ctx, g.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case err != nil, len(in.RepoTags)+len(in.RepoDigests) > 0: // it has other names now
		return false, err
	}
	err = e.untag(ctx, g.ID, g.ID)
	return err == nil, err
}

// RemoveByHand removes images that wrappers made without a client: those with one of these names, and those with these labels.
// Only the given names and names by content are removed; an image that has another one stays. It returns a line for each image.
func (e *Engine) RemoveByHand(ctx context.Context, labels map[string]string, names []string) (done []string, err error) {
	ids, err := e.labelled(ctx, labels)
	if err != nil {
		return nil, err
	}
	for _, name := range append(ids, names...) {
		in, err := e.inspectImage(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return done, fmt.Errorf("look for image %s: %w", name, err)
		}
		line, err := e.removeNames(ctx, in, names)
		if line != "" {
			done = append(done, line)
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// labelled gives the IDs of the images with these labels. Podman can't list images while one is being removed, so it is asked
// again.
func (e *Engine) labelled(ctx context.Context, labels map[string]string) (ids []string, err error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	f := filters.NewArgs()
	for k, v := range labels {
		f.Add("label", k+"="+v)
	}
	const tries, pause = 20, 200 * time.Millisecond
	for n := 1; ; n++ {
		list, err := e.api.ImageList(ctx, image.ListOptions{Filters: f})
		if err = wrap(err); err == nil {
			for _, im := range list {
				ids = append(ids, im.ID)
			}
			return ids, nil
		} else if n == tries || !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("list images: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("list images: %w", err)
		case <-time.After(pause):
		}
	}
}

// removeNames removes these names of an image, and with them the image if all its other names are by content.
func (e *Engine) removeNames(ctx context.Context, in image.InspectResponse, names []string) (line string, err error) {
	var own, contents, others []string
	for _, tag := range in.RepoTags {
		plain := tag
		for _, registry := range []string{"docker.io/library/", "localhost/"} { // which Podman adds
			plain = strings.TrimPrefix(plain, registry)
		}
		switch {
		case slices.Contains(names, strings.TrimSuffix(plain, ":latest")), slices.Contains(names, plain):
			own = append(own, tag)
		case strings.HasPrefix(plain, job.ContentRepository+":"):
			contents = append(contents, tag)
		default:
			others = append(others, tag)
		}
	}
	if len(others) == 0 {
		own = append(own, contents...)
	}
	if len(own) == 0 {
		return "", nil
	}
	for _, tag := range own {
		if err := e.untag(ctx, tag, in.ID); err != nil {
			return "", err
		}
	}
	if len(others) > 0 {
		return fmt.Sprintf("removed the name %s; its image stays, as %s", own[0], strings.Join(others, ", ")), nil
	}
	return "removed image " + own[0], nil
}

// untag removes a name of an image, if it has it. The engine removes an image with its last name, and layers that only
// this image uses; never an image that a container uses.
func (e *Engine) untag(ctx context.Context, name, id string) error {
	in, err := e.inspectImage(ctx, name)
	if errors.Is(err, ErrNotFound) || err == nil && in.ID != id {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	callCtx, cancel := e.call(ctx)
	defer cancel()
	_, err = e.api.ImageRemove(callCtx, name, image.RemoveOptions{PruneChildren: true})
	if errdefs.IsNotFound(err) { // or Podman means another image, which has just been removed
		if in, again := e.inspectImage(ctx, name); errors.Is(again, ErrNotFound) || again == nil && in.ID != id {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("remove image %s: %w", name, wrap(err))
	}
	return nil
}
