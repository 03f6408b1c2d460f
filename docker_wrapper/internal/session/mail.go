package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/slot"
)

const (
	lastTrickles = 5 * time.Second // how long the job's end waits for the client to take the job's last trickle-up messages
	trickleLook  = 100 * time.Millisecond
)

// mail carries the messages that the job and the client exchange in files: trickles, upload requests, and the two files
// of a sporadic app. round is called once a second.
type mail struct {
	o   Options
	box *slot.Mail

	heard     [2]int    // Status.TrickleDown and UploadStatus when the client's messages were last delivered
	delivered bool      // they were delivered in this episode
	free      time.Time // since when the slot has no trickle-up message; zero while it has one

	// own gives files of the payload to BOINC's user, and lets the container's user keep using them.
	own func(ctx context.Context, names ...string) error

	owns     allowance // calls of own
	requests allowance // to the client
	lines    allowance // in the log
}

func openMail(o Options, own func(context.Context, ...string) error) (*mail, error) {
	box, err := slot.OpenMail(o.Job.Slot, o.Job.Container.Limits.Disk)
	if err != nil {
		return nil, err
	}
	return &mail{o: o, box: box, free: time.Now(), own: own, owns: allowance{burst: 10, every: time.Minute}, requests: allowance{burst: 10, every: 10 * time.Second},
		lines: allowance{burst: 20, every: 10 * time.Minute}}, nil
}

// round carries all new messages. A suspended job gets messages, but none are taken from it: it may have been suspended
// while it wrote one.
func (m *mail) round(ctx context.Context, st boincapi.Status) {
	if heard := [2]int{st.TrickleDown, st.UploadStatus}; !m.delivered || heard != m.heard {
		if m.deliver(ctx) {
			m.heard, m.delivered = heard, true
		}
	}
	m.sporadic(ctx)
	if st.Suspended {
		return
	}
	var r slot.Requests
	err := m.allowed(ctx, nil, func() (err error) {
		r, err = m.box.Requests()
		return err
	})
	if err != nil {
		m.warn(err)
	}
	if r.Trickle {
		m.trickle(ctx, false)
	}
	for _, logical := range r.Uploads {
		if !m.requests.has(time.Now()) || ctx.Err() != nil {
			break // until the next round
		}
		m.upload(ctx, logical)
	}
	for _, name := range r.Unwanted {
		m.warn(errors.Join(errors.New("the job requests the upload of a file that is not one of its linked outputs: "+name), m.box.Refuse(name)))
	}
}

// allowed calls f, which works on files of these names in the payload. The job may run as another user: if its files
// can't be used, they are given to BOINC's user, and f is called again.
func (m *mail) allowed(ctx context.Context, names []string, f func() error) error {
	err := f()
	now := time.Now()
	if !errors.Is(err, fs.ErrPermission) || !m.owns.has(now) {
		return err
	}
	m.owns.spend(now)
	if err := m.own(ctx, append(names, ".")...); err != nil {
		return fmt.Errorf("%w: %w", errNotNow, err)
	}
	return f()
}

// errNotNow: the job's files could not be given to BOINC's user just now. The next round tries it again.
var errNotNow = errors.New("it belongs to another user")

// deliver moves the client's messages to the job, and reports whether it could.
func (m *mail) deliver(ctx context.Context) bool {
	var names []string
	err := m.allowed(ctx, nil, func() error {
		more, err := m.box.Deliver()
		names = append(names, more...)
		return err
	})
	for _, name := range names {
		if m.mayLog() {
			m.o.Log.Info().Str("file", name).Msg("delivered to the job")
		}
	}
	if err != nil {
		m.warn(err)
	}
	return err == nil
}

func (m *mail) sporadic(ctx context.Context) {
	if !m.o.Sporadic {
		return
	}
	if err := m.allowed(ctx, []string{boincapi.SporadicACFile}, m.box.Sporadic); err != nil {
		m.warn(err)
	}
}

// trickle gives the client a trickle-up message of the job, and reports whether another may be waiting. The client
// names a message by the second in which it takes it, so two in one second would become one. over: the job has ended.
func (m *mail) trickle(ctx context.Context, over bool) bool {
	var variety, text string
	var ok bool
	err := m.allowed(ctx, []string{boincapi.TrickleUpFile}, func() (err error) {
		variety, text, ok, err = m.box.Trickle(over)
		return err
	})
	if err != nil {
		m.warn(err)
		return true
	}
	now := time.Now()
	switch waits := exists(filepath.Join(m.o.Dir, boincapi.TrickleUpFile)); {
	case waits:
		m.free = time.Time{}
	case m.free.IsZero():
		m.free = now
	}
	switch {
	case !ok:
		return false
	case m.free.IsZero() || m.free.Unix() == now.Unix() || !over && !m.requests.has(now):
		return true
	}
	if err := m.o.Client.SendTrickleUp(variety, text); errors.Is(err, boincapi.ErrBusy) {
		return true
	} else if err != nil {
		m.warn(err)
		return true
	}
	m.free = time.Time{}
	m.requests.spend(now)
	if m.mayLog() {
		m.o.Log.Info().Str("variety", variety).Int("bytes", len(text)).Msg("trickle-up")
	}
	if err := m.box.TrickleSent(); err != nil {
		m.warn(err)
	}
	return true
}

// upload asks the client to upload an output while the job runs.
func (m *mail) upload(ctx context.Context, logical string) {
	names := []string{logical}
	for dir := path.Dir(logical); dir != "."; dir = path.Dir(dir) {
		names = append(names, dir)
	}
	err := m.allowed(ctx, names, func() error { return m.box.BringOutput(ctx, logical) })
	switch {
	case ctx.Err() != nil:
		return // the next episode asks again
	case errors.Is(err, errNotNow):
		m.warn(err)
		return
	}
	if err == nil {
		err = m.o.Client.UploadFile(logical)
	}
	m.requests.spend(time.Now())
	if err := errors.Join(err, m.box.UploadAsked(logical)); err != nil {
		m.warn(err)
	} else if m.mayLog() {
		m.o.Log.Info().Str("file", logical).Msg("upload")
	}
}

// last gives the client the job's messages from just before its end. It returns an error only if ctx ends, and can then
// be called again.
func (m *mail) last(ctx context.Context) error {
	for deadline := time.Now().Add(lastTrickles); m.trickle(ctx, true); {
		if time.Now().After(deadline) {
			m.o.Log.Warn().Msg("the job's last trickle-up message is lost: the client has not taken the one before it")
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(trickleLook):
		}
	}
	if err := errors.Join(m.box.Last(), m.box.Close()); err != nil {
		m.warn(err)
	}
	return nil
}

func (m *mail) warn(err error) {
	if m.mayLog() {
		m.o.Log.Warn().Err(err).Msg("cannot carry the job's messages")
	}
}

// mayLog reports whether a line may be logged, so that a job can't fill the log with its messages.
func (m *mail) mayLog() bool {
	now := time.Now()
	if !m.lines.has(now) {
		return false
	}
	m.lines.spend(now)
	return true
}

// allowance limits a rate: burst events at once, then one for each time every.
type allowance struct {
	burst int
	every time.Duration
	until time.Time // the end of the past events if each took the time every
}

func (a *allowance) has(now time.Time) bool {
	return a.until.Sub(now) <= time.Duration(a.burst-1)*a.every
}

func (a *allowance) spend(now time.Time) {
	if a.until.Before(now) {
		a.until = now
	}
	a.until = a.until.Add(a.every)
}
