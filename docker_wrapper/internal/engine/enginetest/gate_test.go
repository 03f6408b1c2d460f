package enginetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// engineBehind is an engine behind a gate. It counts the create calls that it carries out, and streams the lines from its
// channel as logs.
type engineBehind struct {
	creates atomic.Int64
	lines   chan string
}

func (e *engineBehind) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch name, _ := route(r); name {
	case "create":
		body, _ := io.ReadAll(r.Body)
		e.creates.Add(1)
		fmt.Fprintf(w, "made %s", body)
	case "logs":
		w.(http.Flusher).Flush()
		for line := range e.lines {
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
	case "wait":
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		line, _ := buf.ReadString('\n')
		fmt.Fprint(conn, "heard "+line)
	}
}

func openGate(t *testing.T) (*Gate, *engineBehind, *http.Client) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	e := &engineBehind{lines: make(chan string)}
	server := &http.Server{Handler: e}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	g, err := NewGate(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", g.socket())
	}}}
	t.Cleanup(client.CloseIdleConnections)
	return g, e, client
}

func create(ctx context.Context, c *http.Client) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/v1.41/containers/create", io.MultiReader(strings.NewReader("it")))
	if err != nil {
		return "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestGatePassesOn(t *testing.T) {
	_, e, c := openGate(t)
	if got, err := create(t.Context(), c); got != "made it" || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, "made it")
	}
	resp, err := c.Get("http://engine/v1.41/containers/x/logs?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"one", "two"} {
		e.lines <- want // the next line only after this one has arrived
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	close(e.lines)
}

func TestGatePassesUpgradesOn(t *testing.T) {
	g, _, _ := openGate(t)
	conn, err := net.Dial("unix", g.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /containers/x/wait HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %+v, %v", resp, err)
	}
	fmt.Fprintln(conn, "you")
	if got, err := in.ReadString('\n'); got != "heard you\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGateHolds(t *testing.T) {
	tests := []struct {
		name   string
		after  bool
		hangUp bool
		held   int64 // create calls carried out while the call is held
		done   int64 // and at the end
	}{
		{name: "before", done: 1},
		{name: "before, and the client hangs up", hangUp: true},
		{name: "after", after: true, held: 1, done: 1},
		{name: "after, and the client hangs up", after: true, hangUp: true, held: 1, done: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, e, c := openGate(t)
			h := g.HoldBefore("create")
			if tt.after {
				g.take("create")
				h = g.HoldAfter("create")
			}
			ctx, hangUp := context.WithCancel(t.Context())
			defer hangUp()
			failed := make(chan error, 1)
			go func() {
				_, err := create(ctx, c)
				failed <- err
			}()
			<-h.Reached()
			if got := e.creates.Load(); got != tt.held {
				t.Errorf("while it is held: %d created, want %d", got, tt.held)
			}
			if tt.hangUp {
				hangUp()
				if err := <-failed; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			} else {
				h.LetGo()
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
			if got := e.creates.Load(); got != tt.done {
				t.Errorf("%d created, want %d", got, tt.done)
			}
			if got, err := create(t.Context(), c); got != "made it" || err != nil { // only one call is held
				t.Errorf("the next call: got %q, %v", got, err)
			}
		})
	}
}

func TestGateShut(t *testing.T) {
	g, e, c := openGate(t)
	h := g.HoldBefore("create")
	failed := make(chan error, 1)
	go func() {
		_, err := create(t.Context(), c)
		failed <- err
	}()
	<-h.Reached()
	g.Shut()
	if err := <-failed; err == nil {
		t.Error("the call in progress got an answer")
	}
	if _, err := create(t.Context(), c); err == nil {
		t.Error("a call passed the shut gate")
	}
	if err := g.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := create(t.Context(), c); err != nil {
		t.Error(err)
	}
	if got := e.creates.Load(); got != 1 {
		t.Errorf("%d created, want 1", got)
	}
}

// A gate without an engine closes the connection without an answer.
func TestGateWithoutEngine(t *testing.T) {
	g, err := NewGate(filepath.Join(t.TempDir(), "missing"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	conn, err := net.Dial("unix", g.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /_ping HTTP/1.1\r\nHost: engine\r\n\r\n")
	if got, err := io.ReadAll(conn); len(got) != 0 || err != nil {
		t.Errorf("got %q, %v, want the connection closed", got, err)
	}
}
