//go:build clients || faults

package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// askerOf asks the engine at a socket.
func askerOf(socket string) *http.Client {
	return &http.Client{Timeout: 3 * time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
}

// ask asks an engine, and reports whether there is such a thing.
func ask(t *testing.T, asker *http.Client, path string, query url.Values, answer any) bool {
	t.Helper()
	var resp *http.Response
	var err error
	every(100*time.Millisecond, 10*time.Second, func() bool {
		if resp != nil {
			resp.Body.Close()
		}
		resp, err = asker.Get("http://engine" + path + "?" + query.Encode())
		return err != nil || resp.StatusCode != http.StatusInternalServerError // Podman's, when what is on a list is removed meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return false
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("ask the engine for %s: status %d, %v", path, resp.StatusCode, err)
	}
	return true
}
