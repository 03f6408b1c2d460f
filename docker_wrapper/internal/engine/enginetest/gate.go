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

// Gate stands in front of a real engine and passes everything on, streams and upgraded connections
// too. It can hold a call, so that a test acts at exactly that moment, and it can be shut, as if the
// engine were gone. All methods are safe for concurrent use.
type Gate struct {
	dir   string
	proxy *httputil.ReverseProxy

	mu     sync.Mutex // guards what follows
	server *http.Server
	holds  []*Hold
}

// Hold is a call that is held, or will be.
type Hold struct {
	call    string
	after   bool
	reached chan struct{}
	free    chan struct{}
	once    sync.Once
}

type holdKey struct{} // of a request's context

// NewGate opens a gate to the engine at a socket, which need not be there yet. Close must be called.
func NewGate(socket string) (*Gate, error) {
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DisableCompression: true,
		DisableKeepAlives:  true, // a connection that is kept would outlive the engine
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
		// No answer, as from an engine that isn't there.
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

// Host is the engine behind the gate as DOCKER_HOST names it.
func (g *Gate) Host() string { return "unix://" + g.socket() }

func (g *Gate) socket() string { return filepath.Join(g.dir, "docker.sock") }

// Open lets calls pass; a new gate does.
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

// Shut cuts all connections but upgraded ones, and refuses new ones. The engine knows nothing of it.
func (g *Gate) Shut() {
	g.mu.Lock()
	server := g.server
	g.server = nil
	g.mu.Unlock()
	if server != nil {
		server.Close() // its error is that of the socket file, which is gone
	}
}

// HoldBefore holds the next call of this name (see route) before it is passed on.
func (g *Gate) HoldBefore(call string) *Hold { return g.hold(call, false) }

// HoldAfter holds the answer to the next call of this name: the engine has carried it out, or has
// begun to answer it by a stream.
func (g *Gate) HoldAfter(call string) *Hold { return g.hold(call, true) }

func (g *Gate) hold(call string, after bool) *Hold {
	h := &Hold{call: call, after: after, reached: make(chan struct{}), free: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holds = append(g.holds, h)
	return h
}

// Reached is closed when the call is held.
func (h *Hold) Reached() <-chan struct{} { return h.reached }

// LetGo lets the call go on, now or when it comes.
func (h *Hold) LetGo() { h.once.Do(func() { close(h.free) }) }

// wait returns ctx's error when the client hangs up first.
func (h *Hold) wait(ctx context.Context) error {
	close(h.reached)
	select {
	case <-h.free:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns the hold that waits for a call of this name, nil for none.
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
		body, err := io.ReadAll(r.Body) // net/http notices that a client hangs up only when it has sent all
		if err != nil || h.wait(r.Context()) != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	g.proxy.ServeHTTP(w, r)
}
