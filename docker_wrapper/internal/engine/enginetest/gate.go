package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"sync"
)

// Gate is a proxy in front of a real engine. It passes on everything, including streams and upgraded connections. It can
// hold a call, so that a test acts at exactly that moment. It can be shut, as if the engine were gone. All methods are
// safe for concurrent use.
type Gate struct {
	dir   string
	proxy *httputil.ReverseProxy

	mu     sync.Mutex // guards what follows
	server *http.Server
	holds  []*Hold
}

// Hold is a call that is being held or will be.
type Hold struct {
	call    string
	after   bool
	reached chan struct{}
	free    chan struct{}
	once    sync.Once
}

type holdKey struct{} // key of the Hold in a request's context

// NewGate opens a gate to the engine at a socket, which need not be there yet. Close must be called.
func NewGate(socket string) (*Gate, error) {
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableCompression: true,
		DisableKeepAlives:  true, // a kept connection would outlive the engine
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	g := &Gate{dir: dir, proxy: &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		ModifyResponse: func(r *http.Response) error {
			if h, ok := r.Request.Context().Value(holdKey{}).(*Hold); ok {
				return h.wait(r.Request.Context())
			}
			return nil
		},
		// Close the connection without an answer, like an engine that isn't there.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	if err := g.Open(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return g, nil
}

// Close shuts the gate for good.
func (g *Gate) Close() error {
	g.Shut()
	return os.RemoveAll(g.dir)
}

// Host is the gate's address in the form of DOCKER_HOST.
func (g *Gate) Host() string { return "unix://" + g.socket() }

func (g *Gate) socket() string { return filepath.Join(g.dir, "docker.sock") }

// Open lets calls pass again after Shut.
func (g *Gate) Open() error {
	l, err := net.Listen("unix", g.socket())
	if err != nil {
		return err
	}
	server := &http.Server{Handler: g}
	g.mu.Lock()
	g.server = server
	g.mu.Unlock()
	go server.Serve(l) // ends with ErrServerClosed
	return nil
}

// Shut cuts all connections except upgraded ones, and refuses new ones. The engine keeps running.
func (g *Gate) Shut() {
	g.mu.Lock()
	server := g.server
	g.server = nil
	g.mu.Unlock()
	if server != nil {
		server.Close() // the error is about the socket file, which is already removed
	}
}

// HoldBefore holds the next call of this name (see route) before it is passed on.
func (g *Gate) HoldBefore(call string) *Hold { return g.hold(call, false) }

// HoldAfter holds the answer to the next call of this name. By then the engine has carried the call out, or has begun to
// stream its answer.
func (g *Gate) HoldAfter(call string) *Hold { return g.hold(call, true) }

func (g *Gate) hold(call string, after bool) *Hold {
	h := &Hold{call: call, after: after, reached: make(chan struct{}), free: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds = append(g.holds, h)
	return h
}

// Reached is closed when the call has come and is being held.
func (h *Hold) Reached() <-chan struct{} { return h.reached }

// LetGo lets the call pass, now or when it comes.
func (h *Hold) LetGo() { h.once.Do(func() { close(h.free) }) }

// wait waits for LetGo. It returns ctx's error if the client hangs up first.
func (h *Hold) wait(ctx context.Context) error {
	close(h.reached)
	select {
	case <-h.free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take removes and returns the hold for a call of this name, nil for none.
func (g *Gate) take(call string) *Hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, h := range g.holds {
		if h.call == call {
			g.holds = append(g.holds[:i:i], g.holds[i+1:]...)
			return h
		}
	}
	return nil
}

// ServeHTTP passes one call on.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, _ := route(r)
	h := g.take(name)
	switch {
	case h == nil:
	case h.after:
		r = r.WithContext(context.WithValue(r.Context(), holdKey{}, h))
	default:
		body, err := io.ReadAll(r.Body) // net/http notices that the client hangs up only after the whole body was read
		if err != nil || h.wait(r.Context()) != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	g.proxy.ServeHTTP(w, r)
}
