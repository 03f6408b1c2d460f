package supervise

import (
	"context"
	"errors"
	"sync"
	"time"

	"boincdocker/boincapi"
)

// ErrNetworkSuspended: the client lets no job use the network at present.
var ErrNetworkSuspended = errors.New("the BOINC client has suspended network activity")

// toldTime is how long a client may take for its first word on the network: heartbeats come each second.
const toldTime = 5 * time.Second

// Network is whether the client lets jobs use the network. [Run] keeps it up to date; before the first
// heartbeat nothing is known.
type Network struct {
	told chan struct{} // closed when something is known

	mu    sync.Mutex // guards what follows
	known bool
	open  context.Context // while it may be used; nil else
	shut  context.CancelCauseFunc
}

// NewNetwork is one of which nothing is known.
func NewNetwork() *Network { return &Network{told: make(chan struct{})} }

// Allow says that it may be used, where there is no client to say so.
func (n *Network) Allow() { n.set(false) }

func (n *Network) listen(st boincapi.Status) {
	if st.Heartbeats > 0 {
		n.set(st.NetworkSuspended)
	}
}

func (n *Network) set(suspended bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case suspended && n.open != nil:
		n.shut(ErrNetworkSuspended)
		n.open = nil
	case !suspended && n.open == nil:
		n.open, n.shut = context.WithCancelCause(context.Background())
	}
	if !n.known {
		n.known = true
		close(n.told)
	}
}

// Suspended reports that it is known not to be allowed.
func (n *Network) Suspended() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known && n.open == nil
}

// Use is asked before the network is used. The context that it returns ends, with ErrNetworkSuspended as
// its cause, when that is no longer allowed; release it when done. A client that says nothing for 5 s has
// nothing against it.
func (n *Network) Use(ctx context.Context) (context.Context, context.CancelFunc, error) {
	select {
	case <-n.told:
	case <-time.After(toldTime):
		n.Allow()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	n.mu.Lock()
	open := n.open
	n.mu.Unlock()
	if open == nil {
		return nil, nil, ErrNetworkSuspended
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(open, func() { cancel(ErrNetworkSuspended) })
	return ctx, func() { stop(); cancel(nil) }, nil
}
