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

// record is what the wrappers of a data directory know about the images that they obtained.
type record struct {
	Collected time.Time `json:"collected,omitzero"` // when images were last collected
	Images    []job.Got `json:"images"`
	Steps     []step    `json:"steps,omitempty"` // left by builds that failed, the oldest first
}

// step is the last step of a build that failed, as named in the build's output.
type step struct {
	Host   string    `json:"host"` // the engine
	ID     string    `json:"id"`   // hexadecimal, often only its first digits
	Began  time.Time `json:"began"`
	Failed time.Time `json:"failed"`
	Cached bool      `json:"cached,omitempty"` // the next build continues from it
}

const stepsKept = 16 // steps in the record; one job makes fewer while the engine doesn't answer

// find returns the index of an image in the record, or -1. An image without a name is found by its ID.
func (r *record) find(host, name, id string) int {
	return slices.IndexFunc(r.Images, func(g job.Got) bool {
		return g.Host == host && g.Name == name && (name != "" || g.ID == id)
	})
}

// put adds an image. Another image that had its name before stays in the record without the name, until it is removed.
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

// readRecord reads the record. It ignores one that can't be read: then some images are never removed, and no
// other harm is done.
func (e *Engine) readRecord(name string) record {
	var r record
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn().Err(err).Msg("cannot read the record of images; a new one is begun")
		return record{}
	}
	return r
}

// change lets f change the record, one wrapper at a time. What f has changed is written also when it returns an error.
func (e *Engine) change(ctx context.Context, name string, f func(*record) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("change the record of images: %w", err)
		}
	}()
	// Also when the job was cancelled.
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

// now is the time in whole seconds, as in the record.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
