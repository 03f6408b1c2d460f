package engine

import (
	"bytes"
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
	"github.com/docker/docker/api/types/image"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	collectEvery = 24 * time.Hour          // unless something new came
	unfinished   = streamTotal + time.Hour // whoever was making an image has given up by then, or died
	clocks       = time.Minute             // by which the engine's may be ahead of ours
	namesKept    = 4                       // further tags of an image: workunits come and go
)

// nameOf is what an image of this source is found by.
func nameOf(s job.Source, b *buildContext) string {
	if b != nil && !s.Fixed {
		return contentTag(b.identity)
	}
	return s.Name
}

// collected reports whether an image of this source may be removed at all.
func collected(im job.Image, s job.Source) bool { return im.Collect != nil && !s.Keep && !s.Fixed }

// intend notes that an image is about to be made, so that a wrapper that dies leaves a trace of it, and that what it is
// built on is used. A name that others give, too, leaves no trace: by the time it has an image, that may be theirs.
func (e *Engine) intend(ctx context.Context, im job.Image, s job.Source, b *buildContext) {
	if im.Collect == nil {
		return
	}
	there := map[string]string{}
	for _, base := range b.bases() {
		if in, err := e.inspectImage(ctx, base); err == nil {
			there[base] = in.ID
		}
	}
	old, _ := e.inspectImage(ctx, nameOf(s, b)) // one that the record may have lost
	e.note(ctx, im, func(r *record) error {
		r.Collected = time.Time{} // something new makes it time to look what may go
		if name := nameOf(s, b); collected(im, s) && job.OnlyOurs(name) {
			g := e.intention(s, name, b)
			g.ID = old.ID // it may only be removed
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

// settle notes what has become of an intention: the image's ID, or "" where it came to nothing.
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
		if i := r.find(g.Host, g.Name, ""); i >= 0 && r.Images[i].ID != "" { // another wrapper has got it
			return nil
		}
		r.put(g) // also when another wrapper had the same intention and gave up
		return e.finish(ctx, r, r.find(g.Host, g.Name, ""))
	})
}

// got notes an image that this wrapper has just got.
func (e *Engine) got(ctx context.Context, im job.Image, g job.Got, id string) {
	e.note(ctx, im, func(r *record) (err error) {
		g.ID, g.Made = id, true
		g.Layers, err = e.layers(ctx, id)
		r.put(g)
		return err
	})
}

// note changes the record. Where that fails, an image stays for ever, or is made again.
func (e *Engine) note(ctx context.Context, im job.Image, f func(*record) error) {
	if err := e.change(ctx, im.Collect.Record, f); err != nil {
		e.log.Warn().Err(err).Msg("an image may stay for ever")
	}
}

// pullBases pulls the images that a build starts from and that aren't there: so it is known by their IDs which of them came for
// a job, and not for the computer's owner. What can't be pulled like that is the builder's business.
func (e *Engine) pullBases(ctx context.Context, im job.Image, s job.Source, b *buildContext) {
	if im.Collect == nil || bytes.Contains(b.text, []byte("--platform")) { // it has its own idea of what they are for
		return
	}
	for _, base := range b.bases() {
		if _, err := e.inspectImage(ctx, base); !errors.Is(err, ErrNotFound) || job.OnlyOurs(base) {
			continue
		}
		err := e.pullAs(ctx, base, s.Build.Platform)
		in := image.InspectResponse{}
		if err == nil {
			in, err = e.inspectImage(ctx, base)
		}
		if err != nil {
			e.log.Debug().Str("image", base).Err(err).Msg("the builder has to pull it")
			continue
		}
		e.got(ctx, im, job.Got{Host: e.Info.Host, Name: base, Used: now()}, in.ID)
	}
}

// bases are the images that a builder pulls where they aren't there, as far as they are written out.
func (b *buildContext) bases() []string {
	if b == nil {
		return nil
	}
	names, _, err := reaches(b.text)
	if err != nil {
		return nil // the builder will say so
	}
	return slices.DeleteFunc(names, func(name string) bool { return strings.Contains(name, "$") })
}

// finish completes the record of an image that was to be made, or drops it where there is none.
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

// used notes that a job uses an image that was there. It is noted only if a wrapper got it: its labels are its maker's
// to write.
func (e *Engine) used(ctx context.Context, im job.Image, s job.Source, b *buildContext, id string) {
	if im.Collect == nil {
		return
	}
	err := e.change(ctx, im.Collect.Record, func(r *record) error {
		i := r.find(e.Info.Host, nameOf(s, b), "")
		if i < 0 {
			return nil
		}
		if !collected(im, s) || r.Images[i].ID != id { // a project asks to keep it, or others have put another image there
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
		e.log.Warn().Err(err).Msg("an image may go too early")
	}
}

// leftOver removes the last step of a build that failed, or notes it until the engine answers again.
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
		e.log.Debug().Err(err).Msg("the last step of the build stays for now")
	}
}

// removeSteps removes the steps that leftOver noted. One that the next try goes on from, or that the engine keeps, is
// recorded as an image that no job uses.
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

// removeStep removes a step or records it. The job wrote the output that the step's ID was found in. So only an image
// that has no name and was made during the build is taken for a step of it.
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

// removeUnused removes an image that no container uses. The containers of Podman's builder don't count and are removed, too:
// they stay when its service is killed.
func (e *Engine) removeUnused(ctx context.Context, id string) error {
	if busy, err := e.imagesInUse(ctx); err != nil || busy[bareID(id)] {
		return cmp.Or(err, errors.New("a container uses it"))
	}
	ctx, cancel := e.call(ctx)
	defer cancel()
	_, err := e.api.ImageRemove(ctx, id, image.RemoveOptions{PruneChildren: true, Force: true})
	return wrap(err)
}

// layers tells what an image is made of, from its history: the same steps, done at the same times, are
// the same layers. Asking for what images share would have the engine read its disk.
func (e *Engine) layers(ctx context.Context, id string) ([]job.Layer, error) {
	ctx, cancel := e.call(ctx)
	defer cancel()
	steps, err := e.api.ImageHistory(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("history of image %s: %w", id, wrap(err))
	}
	var list []job.Layer
	below := sha256.New()
	for _, s := range slices.Backward(steps) { // the base's come first
		fmt.Fprintf(below, "%d %d %q\n", s.Created, s.Size, s.CreatedBy)
		if s.Size > 0 {
			list = append(list, job.Layer{ID: hex.EncodeToString(below.Sum(nil)[:8]), Size: s.Size})
		}
	}
	return list, nil
}

// Collect removes what im.Collect says of the images that wrappers got, where it is time to look: when
// one was got since, else once a day. What a container uses stays. It may be called beside anything else.
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

// makeRoom removes all images that wrappers got and that no container needs, and reports whether there
// were any.
func (e *Engine) makeRoom(ctx context.Context, im job.Image) bool {
	if im.Collect == nil {
		return false
	}
	e.log.Info().Msg("the engine's disk is full: removing images that no job uses")
	n, err := e.collect(ctx, im, true)
	if err != nil {
		e.log.Warn().Err(err).Msg("images that no job uses are left")
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
		// Under the lock: a job that wants it now either has noted so, or finds it gone and makes it anew.
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
			e.log.Debug().Err(err).Msg("the image stays")
		}
	}
	return removed, nil
}

// imagesInUse are the IDs of those that containers were made from.
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

// removeImage takes an image's names away that wrappers gave, and removes it when it has no others. The error
// says that a container uses it, or an image stands on it, or a builder that is just giving up holds it: it is tried
// again the next time.
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
	case err != nil, len(in.RepoTags)+len(in.RepoDigests) > 0: // others use it by now
		return false, err
	}
	err = e.untag(ctx, g.ID, g.ID)
	return err == nil, err
}

// untag takes a name from an image, if it has it. With its last name an image goes, and what it alone
// stands on: never one that a container uses.
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
	if errdefs.IsNotFound(err) { // or Podman means another, which somebody else has just removed
		if in, again := e.inspectImage(ctx, name); errors.Is(again, ErrNotFound) || again == nil && in.ID != id {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("remove image %s: %w", name, wrap(err))
	}
	return nil
}
