package session

import (
	"context"
	"crypto/hmac"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// sweep removes the containers of jobs that this data directory's client no longer has. Clients before 8.2.9 only tell
// a job to quit when its project is reset or detached, and then clear its slot. The container stays parked, and no job
// uses it again. Other clients' containers are left alone.
func (k *Keeper) sweep(ctx context.Context) {
	if k.standalone() || k.swept {
		return
	}
	list, err := k.engine.List(ctx, map[string]string{job.LabelDataDir: k.o.Init.BoincDir})
	if err != nil {
		k.log.Debug().Err(err).Msg("cannot look for containers of forgotten jobs")
		return
	}
	k.swept = true
	for _, c := range list {
		if c.Name == k.o.Job.Container.Name || !madeByWrapper(c, k.o.Key) || !forgotten(c, time.Now()) {
			continue
		}
		if err := c.Remove(ctx); err != nil {
			k.log.Warn().Err(err).Msg("cannot remove the container of a job that the client has forgotten")
			continue
		}
		k.log.Info().Str("container", c.Name).Msg("removed the container of a job that the client has forgotten")
	}
}

// madeByWrapper reports whether a wrapper made the container, for a job or as a helper. Whoever builds an image or starts a container
// can write all labels but the proof.
func madeByWrapper(c *engine.Container, key Key) bool {
	proof := c.Labels[job.LabelProof]
	return hmac.Equal([]byte(proof), []byte(key.container(ofJob(c.Name), c.Labels)))
}

// ofJob is the name of the job's own container, for which a helper may work.
func ofJob(name string) string {
	for _, helper := range []string{engine.OwnerSuffix, engine.TrialSuffix} {
		name = strings.TrimSuffix(name, helper)
	}
	return name
}

// settling is the minimum age of a container that is removed because its slot has no init_data.xml. A newer one may
// belong to a wrapper that has not written its episode file yet.
const settling = time.Hour

// forgotten reports whether neither the episode file nor init_data.xml in a container's slot belongs to its job. The
// client removes init_data.xml for a moment while it rewrites it, so a missing one counts only for an old container.
func forgotten(c *engine.Container, now time.Time) bool {
	slot, result := c.Labels[job.LabelSlot], c.Labels[job.LabelResult]
	if slot == "" || result == "" {
		return false
	}
	if e, err := readEpisode(filepath.Join(slot, job.WrapperDir)); err != nil || e.Container == c.ID {
		return false
	}
	name := filepath.Join(slot, boincapi.InitDataFile)
	fi, err := os.Lstat(name)
	if err == nil && !fi.Mode().IsRegular() {
		return false
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) && now.Sub(c.Made) >= settling
	}
	defer f.Close()
	d, err := boincapi.ParseInitData(f)
	return err == nil && d.ResultName != result
}

// Clean removes the containers and images that jobs without a client have left, in a directory of which these are the names, and
// images of these archives. It returns a line for each. Labels prove nothing here, because images inherit them, and
// containers those of their images: names that only wrappers give must agree.
func Clean(ctx context.Context, dirs, archives []string, log zerolog.Logger) (done []string, err error) {
	e, err := engine.Open(ctx, engine.Options{Log: log})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	names := slices.Clone(archives)
	for _, dir := range dirs {
		names = append(names, job.ImageName(nil, dir, true))
		list, err := e.List(ctx, map[string]string{job.LabelWrapper: "1", job.LabelDataDir: dir, job.LabelSlot: dir})
		if err != nil {
			return done, err
		}
		for _, c := range list {
			if ofJob(c.Name) != job.ContainerName(nil, dir) {
				continue
			}
			if err := c.Remove(ctx); err != nil {
				return done, err
			}
			done = append(done, "removed container "+c.Name)
		}
	}
	for _, dir := range dirs {
		more, err := e.RemoveByHand(ctx, map[string]string{job.LabelDataDir: dir}, names)
		if done = append(done, more...); err != nil {
			return done, err
		}
	}
	return done, nil
}

// collectTime is longer than removing many images takes.
const collectTime = 10 * time.Minute

// collect removes images that no job needs, in a goroutine while the job runs. If the job ends first, the next job
// continues.
func (k *Keeper) collect(ctx context.Context) {
	e, im, log := k.engine, k.o.Job.Image, k.log
	go func() {
		defer func() {
			if r := recover(); r != nil { // a bug here must not end the job
				log.Error().Msgf("bug: %v\n%s", r, debug.Stack())
			}
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectTime)
		defer cancel()
		if err := e.Collect(ctx, im); err != nil {
			log.Warn().Err(err).Msg("cannot remove images that no job uses")
		}
	}()
}
