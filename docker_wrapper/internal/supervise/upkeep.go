package supervise

import (
	"context"
	"time"

	"boincdocker/boincapi"
)

// keepEvery is how often it is made sure that the container is as the client wants it.
const keepEvery = 10 * time.Second

// joiner disconnects the container from its network while the client has suspended network activity. Only the watch's goroutine
// uses it.
type joiner struct {
	off    bool      // the container is disconnected
	unsure bool      // an earlier episode may have done that or not
	said   bool      // the log tells of it
	retry  time.Time // not before; zero after a success
}

// join makes the container's network as the client wants it.
func (r *runner) join(now time.Time) {
	j := &r.joiner
	if !r.o.Joins || r.o.Network == nil || !r.state.up() {
		return
	}
	off := r.o.Network.Suspended()
	if off == j.off && !j.unsure || now.Before(j.retry) {
		return
	}
	err := r.quick(func(ctx context.Context) error { return r.session.Connect(ctx, !off) })
	switch {
	case err != nil:
		if j.retry.IsZero() {
			r.log.Warn().Err(err).Bool("suspended", off).Msg("the container's network could not be changed; tried again")
		}
		j.retry = time.Now().Add(keepEvery)
		return
	case off:
		r.log.Info().Msg("network suspended")
	case j.said:
		r.log.Info().Msg("network resumed")
	}
	*j = joiner{off: off, said: off}
}

// keep makes sure, now and then, that nobody else has paused the container or let it run. One whose CPU time grows is seen to
// run.
func (r *runner) keep(now time.Time) {
	paused := r.state == Paused
	stands := r.state == Running && !r.cp.held && r.meter.still()
	if !paused && !stands || now.Sub(r.keptAt) < keepEvery-tickTime/2 {
		return
	}
	r.keptAt = now
	var changed bool
	err := r.quick(func(ctx context.Context) (err error) {
		changed, err = r.session.Keep(ctx, paused)
		return err
	})
	switch {
	case err != nil:
		r.log.Debug().Err(err).Msg("look whether the container is paused")
	case changed && paused:
		r.log.Warn().Msg("somebody else had resumed the container; it is suspended again")
	case changed:
		r.log.Warn().Msg("somebody else had paused the container; it is resumed")
	}
}

// carried is the end of a round of messages.
type carried struct{}

// carry has messages carried between job and client, beside the watch: a large file doesn't stop it.
func (r *runner) carry() {
	if !r.state.up() || r.carrying || r.cp.held { // what is saved isn't written to
		return
	}
	r.carrying = true
	session, ctx, status := r.session, r.watch, r.status
	r.beside(func() any {
		session.Carry(ctx, status)
		return carried{}
	})
}

// rereader knows whether the container has the client's newest init_data.xml.
type rereader struct {
	heard int  // how often the client had reported that it rewrote it
	stale bool // the container hasn't got the newest
}

func (n *rereader) listen(st boincapi.Status) {
	if st.Reread > n.heard {
		n.heard, n.stale = st.Reread, true
	}
}

func (r *runner) renew() {
	if r.rereader.stale && r.state.up() && !r.cp.held {
		r.rereader.stale = false
		r.session.Renew()
	}
}

// interruptions counts how often the container was ended from outside within an hour of running.
type interruptions struct {
	n     int
	first time.Duration // running time of this episode at the first of them
}

// maxAgain: a container that is ended from outside more often than this within an hour of running is left for later.
const maxAgain = 3

func (i *interruptions) add(up time.Duration) int {
	if up-i.first > time.Hour {
		i.n, i.first = 0, up
	}
	i.n++
	return i.n
}
