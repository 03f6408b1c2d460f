package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	recordPatience = 10 * time.Second
	recordRetry    = 20 * time.Millisecond
)

// record is what the wrappers of a data directory know of the images that they got.
type record struct {
	Collected time.Time `json:"collected,omitzero"` // when it was last looked for what may go
	Images    []job.Got `json:"images"`
	Steps     []step    `json:"steps,omitempty"` // left by builds that failed, the oldest first
}

// step is the last step of a build that failed, as the build's output has it.
type step struct {
	Host   string    `json:"host"` // the engine
	ID     string    `json:"id"`   // hexadecimal, often only its first digits
	Began  time.Time `json:"began"`
	Failed time.Time `json:"failed"`
	Cached bool      `json:"cached,omitempty"` // the next build goes on from it
}

const stepsKept = 16 // of builds that failed while the engine did not answer: more than one job makes

// find gives the place of an image in the record, or -1. One that has no name is known by its ID.
func (r *record) find(host, name, id string) int {
	return slices.IndexFunc(r.Images, func(g job.Got) bool {
		return g.Host == host && g.Name == name && (name != "" || g.ID == id)
	})
}

// put adds an image. One that had its name before stays in the record without it, until it is removed, too.
func (r *record) put(g job.Got) {
	if i := r.find(g.Host, "", g.ID); i >= 0 && g.ID != "" && g.Name != "" {
		r.drop(i)
	}
	i := r.find(g.Host, g.Name, g.ID)
	if i < 0 {
		r.Images = append(r.Images, g)
		return
	}
	old := r.Images[i]
	r.Images[i] = g
	if old.ID != "" && old.ID != g.ID {
		old.Name = ""
		r.put(old)
	}
}

func (r *record) drop(i int) { r.Images = slices.Delete(r.Images, i, i+1) }

// readRecord reads what is noted. What can't be understood is forgotten: that leaves images behind,
// and does no other harm.
func (e *Engine) readRecord(name string) record {
	var r record
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn().Err(err).Msg("the record of images can't be read and is begun anew")
		return record{}
	}
	return r
}

// change lets f change the record, one wrapper at a time. What f has changed is written also when it returns an error.
func (e *Engine) change(ctx context.Context, name string, f func(*record) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("note images: %w", err)
		}
	}()
	// What was begun is noted, also when the job was cancelled.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordPatience)
	defer cancel()
	l := flock.New(name+".lock", flock.SetPermissions(0o664))
	if _, err := l.TryLockContext(ctx, recordRetry); err != nil {
		return err
	}
	defer l.Close()
	r := e.readRecord(name)
	changeErr := f(&r)
	data, err := json.Marshal(r)
	if err == nil {
		err = host.WriteFile(name, data, 0o664)
	}
	return errors.Join(changeErr, err)
}

// now is in whole seconds, as the record has it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
