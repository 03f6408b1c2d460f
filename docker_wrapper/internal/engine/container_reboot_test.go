package engine

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
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

// When the computer loses its power while Podman makes a container, the name is taken by what nobody lists.
func TestStrayIsRemoved(t *testing.T) {
	e, fake := open1(t, enginetest.Options{Podman: true, Version: "5.8.6"})
	if err := fake.AddImage("r/a:1", enginetest.Image{}); err != nil {
		t.Fatal(err)
	}
	j := simple("hold")
	fake.Inject(enginetest.Fault{Call: "create", Times: 1, Status: 500, Message: `container create: creating container storage: the container name "` + j.Container.Name +
		`" is already in use by 2805a3268bab. You have to remove that container to be able to reuse that name: that name is already in use by an external entity`})
	if _, err := e.Create(t.Context(), j, "r/a:1"); err != nil {
		t.Error(err)
	}
	removed := false
	for _, c := range fake.Calls() {
		removed = removed || c.Name == "remove" && c.Target == j.Container.Name
	}
	if !removed {
		t.Error("what keeps the name was not removed")
	}
}
