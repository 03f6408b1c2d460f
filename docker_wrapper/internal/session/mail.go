package session

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/slot"
)

const (
	lastTrickles = 5 * time.Second // what the job's end waits for the client to take what the job said last
	trickleLook  = 100 * time.Millisecond
)

// mail carries what the job and the client tell each other in files: trickles, uploads before the job's end,
// and a sporadic app's two. A round of it is made once a second.
type mail struct {
	o   Options
	box *slot.Mail

	heard     [2]int    // of Status.TrickleDown and UploadStatus, when the client's were last delivered
	delivered bool      // they were, in this episode
	free      time.Time // since when the slot has no trickle-up message; zero while it has

	asks allowance // of the client
	says allowance // in the log
}

func openMail(o Options) (*mail, error) {
	box, err := slot.OpenMail(o.Job.Slot, o.Job.Container.Limits.Disk)
	if err != nil {
		return nil, err
	}
	return &mail{o: o, box: box, free: time.Now(), asks: allowance{burst: 10, every: 10 * time.Second},
		says: allowance{burst: 20, every: 10 * time.Minute}}, nil
}

// round carries what there is. A job that is suspended gets its mail, but may be in the middle of writing.
func (m *mail) round(ctx context.Context, st boincapi.Status) {
	if heard := [2]int{st.TrickleDown, st.UploadStatus}; !m.delivered || heard != m.heard {
		if m.deliver() {
			m.heard, m.delivered = heard, true
		}
	}
	m.sporadic()
	if st.Suspended {
		return
	}
	r, err := m.box.Requests()
	if err != nil {
		m.warn(err)
	}
	if r.Trickle {
		m.trickle(false)
	}
	for _, logical := range r.Uploads {
		if !m.asks.has(time.Now()) || ctx.Err() != nil {
			break // the next time
		}
		m.upload(ctx, logical)
	}
	for _, name := range r.Unwanted {
		m.warn(errors.Join(errors.New("upload of a file that is no linked output of this job: "+name), m.box.Refuse(name)))
	}
}

// deliver gives the job what the client has for it, and reports whether that went well.
func (m *mail) deliver() bool {
	names, err := m.box.Deliver()
	for _, name := range names {
		if m.mayLog() {
			m.o.Log.Info().Str("file", name).Msg("for the job")
		}
	}
	if err != nil {
		m.warn(err)
	}
	return err == nil
}

func (m *mail) sporadic() {
	if !m.o.Sporadic {
		return
	}
	if err := m.box.Sporadic(); err != nil {
		m.warn(err)
	}
}

// trickle gives the client a trickle-up message of the job, and reports whether one may be waiting. The client names it
// after the second in which it takes it: two in one second would be one.
func (m *mail) trickle(over bool) bool {
	variety, text, ok, err := m.box.Trickle(over)
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
	case m.free.IsZero() || m.free.Unix() == now.Unix() || !over && !m.asks.has(now):
		return true
	}
	if err := m.o.Client.SendTrickleUp(variety, text); errors.Is(err, boincapi.ErrBusy) {
		return true
	} else if err != nil {
		m.warn(err)
		return true
	}
	m.free = time.Time{}
	m.asks.spend(now)
	if m.mayLog() {
		m.o.Log.Info().Str("variety", variety).Int("bytes", len(text)).Msg("trickle-up")
	}
	if err := m.box.TrickleSent(); err != nil {
		m.warn(err)
	}
	return true
}

// upload asks the client to upload an output while the job goes on.
func (m *mail) upload(ctx context.Context, logical string) {
	err := m.box.BringOutput(ctx, logical)
	if ctx.Err() != nil {
		return // asked again in the next episode
	}
	if err == nil {
		err = m.o.Client.UploadFile(logical)
	}
	m.asks.spend(time.Now())
	if err := errors.Join(err, m.box.UploadAsked(logical)); err != nil {
		m.warn(err)
	} else if m.mayLog() {
		m.o.Log.Info().Str("file", logical).Msg("upload")
	}
}

// last gives the client what the job said just before its end. It fails only with ctx, and can then be called
// again.
func (m *mail) last(ctx context.Context) error {
	for deadline := time.Now().Add(lastTrickles); m.trickle(true); {
		if time.Now().After(deadline) {
			m.o.Log.Warn().Msg("the job's last trickle-up message is lost: the client doesn't take the one before it")
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
		m.o.Log.Warn().Err(err).Msg("the job's messages")
	}
}

// mayLog keeps a job from filling the log with its mail.
func (m *mail) mayLog() bool {
	now := time.Now()
	if !m.says.has(now) {
		return false
	}
	m.says.spend(now)
	return true
}

// allowance lets so many things happen at once, and one more each time that has passed.
type allowance struct {
	burst int
	every time.Duration
	until time.Time // by when what has happened would have, one at a time
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
