package session

import (
	"context"
	"crypto/hmac"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// sweep removes the containers of jobs that the client of this data directory has forgotten. Clients
// before 8.2.9 only ask a job to quit when its project is reset or detached, and clear its slot then:
// the container, parked for the next time, is nobody's. Other clients' are left alone.
func (k *Keeper) sweep(ctx context.Context) {
	if k.byHand() || k.swept {
		return
	}
	list, err := k.engine.List(ctx, map[string]string{job.LabelDataDir: k.o.Init.BoincDir})
	if err != nil {
		k.log.Debug().Err(err).Msg("look for containers of forgotten jobs")
		return
	}
	k.swept = true
	for _, c := range list {
		if c.Name == k.o.Job.Container.Name || !wrappers(c, k.o.Key) || !forgotten(c, time.Now()) {
			continue
		}
		if err := c.Remove(ctx); err != nil {
			k.log.Warn().Err(err).Msg("the container of a job that the client has forgotten is left")
			continue
		}
		k.log.Info().Str("container", c.Name).Msg("removed the container of a job that the client has forgotten")
	}
}

// wrappers reports whether a wrapper made the container: for a job, or to help with it. Whoever builds an image or starts a
// container can write all labels but the proof.
func wrappers(c *engine.Container, key Key) bool {
	name := c.Name
	for _, helps := range []string{engine.OwnerSuffix, engine.TrialSuffix} {
		name = strings.TrimSuffix(name, helps)
	}
	proof := c.Labels[job.LabelProof]
	return hmac.Equal([]byte(proof), []byte(key.container(name, c.Labels)))
}

// settling is how long a container stays whose slot says nothing of its job: it may just be made, its
// episode not yet written.
const settling = time.Hour

// forgotten reports that a container's slot knows nothing of it: neither the wrapper's own notes nor
// init_data.xml. The client takes that away for a moment when it writes it anew, so a missing one says
// something only of a container that isn't new.
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

// collectTime is more than the removal of many images takes.
const collectTime = 10 * time.Minute

// collect removes images that no job needs, while the job runs: it waits for nothing of that. When it is
// over first, the next job goes on with it.
func (k *Keeper) collect(ctx context.Context) {
	e, im, log := k.engine, k.o.Job.Image, k.log
	go func() {
		defer func() {
			if r := recover(); r != nil { // the job shall not end by this
				log.Error().Msgf("bug: %v\n%s", r, debug.Stack())
			}
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), collectTime)
		defer cancel()
		if err := e.Collect(ctx, im); err != nil {
			log.Warn().Err(err).Msg("images that no job uses are left")
		}
	}()
}
