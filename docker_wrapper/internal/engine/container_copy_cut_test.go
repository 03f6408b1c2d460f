package engine

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"boincdocker/docker_wrapper/internal/job"
)

// A copy that an engine cuts off is asked for again, so often; its bytes count against the limit once.
func TestCopyOutCutOff(t *testing.T) {
	whole := archiveOf(t, "out=made")
	for cuts, want := range map[int]error{0: nil, 1: nil, cutTries - 1: nil, cutTries: io.ErrUnexpectedEOF} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			stat := `{"name":"out","size":4,"mode":420,"mtime":"2026-01-01T00:00:00Z","linkTarget":""}`
			w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString([]byte(stat)))
			if r.Method == http.MethodHead {
				return
			}
			part := whole
			if asked++; asked <= cuts {
				part = whole[:len(whole)-tarEnd]
			}
			if _, err := w.Write(part); err != nil {
				t.Error(err)
			}
		}))
		api, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		c := &Container{ID: "c", Name: "c", e: &Engine{api: api, timeout: 10 * time.Second}}
		_, err = c.CopyOut(t.Context(), []job.Copy{{Root: dir, Src: "/out", Dst: "out"}}, 4)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("cut off %d times: got %v, want %v", cuts, err, want)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "out")); want == nil && string(data) != "made" {
			t.Errorf("cut off %d times: got %q, %v", cuts, data, err)
		}
		server.Close()
	}
}
