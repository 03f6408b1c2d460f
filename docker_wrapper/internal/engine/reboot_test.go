package engine

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"boincdocker/docker_wrapper/internal/job"
)

// What Podman says of a container that ran when the computer lost its power, measured on 5.8.6 and 4.3.1: that it has
// ended well, or was never started. It began, and no end of it is known: nobody's verdict.
func TestPodmanAfterReboot(t *testing.T) {
	for version, status := range map[string]string{"5.8.6": "exited", "4.3.1": "created"} {
		t.Run(version, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/wait"):
					fmt.Fprint(w, `{"StatusCode":0,"Error":{"Message":"getting exit code of container c from DB: no such exit code"}}`)
				case strings.HasSuffix(r.URL.Path, "/containers/c/json"):
					fmt.Fprintf(w, `{"Id":"c","Config":{},"State":{"Status":%q,"Running":false,"ExitCode":0,"StartedAt":"2026-11-25T17:51:22.75Z","FinishedAt":"0001-01-01T00:00:00Z"}}`, status)
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			api, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
			if err != nil {
				t.Fatal(err)
			}
			e := &Engine{api: api, address: "tcp://" + server.Listener.Addr().String(), timeout: 10 * time.Second, Info: Info{Kind: Podman, Version: version}}
			e.Info.quirks = quirksOf(Podman, infoFacts{version: version})
			c, err := e.Find(t.Context(), job.Container{Name: "c"})
			if err != nil || c.State != StateExited {
				t.Fatalf("got %+v, %v, want a container that has ended", c, err)
			}
			if exit, err := c.Exit(t.Context()); err != nil || !exit.Outside {
				t.Errorf("got %+v, %v, want that it did not end by itself", exit, err)
			}
			if exit := <-c.Wait(t.Context()); !exit.Outside || exit.Lost {
				t.Errorf("got %+v, want that it did not end by itself", exit)
			}
		})
	}
}
