package engine

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// Memory of gigabytes takes longer to come back than an engine has for any other call.
func TestRestoreTakesItsTime(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	fake.AddContainer("large")
	j := &job.Job{Container: job.Container{Name: "large"}}
	c, err := e.Find(t.Context(), j.Container)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data, err := json.Marshal(inside{Container: c.ID, Checkpoint: "boinc1"})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, dockersFile), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.timeout, e.Info.quirks.checkpoints = time.Second, keptInside
	fake.Inject(enginetest.Fault{Call: "start", Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	mended := make(chan struct{})
	go func() {
		defer close(mended)
		fake.Await(ctx, "start", 1)
		time.Sleep(3 * e.timeout)
		fake.Mend()
	}()
	if _, _, err := e.Restore(t.Context(), j, dir); err != nil {
		t.Error(err)
	}
	cancel()
	<-mended
	if n := fake.Count("start"); n != 1 {
		t.Errorf("it was asked for %d times, want once", n)
	}
}

func TestCanCheckpoint(t *testing.T) {
	docker := quirksOf(Docker, infoFacts{version: "28.5.2", experimental: true})
	podman := quirksOf(Podman, infoFacts{version: "5.8.6"})
	for _, tt := range []struct {
		name   string
		engine quirks
		change func(*job.Job)
		want   string // part of why not; "" for can
		plain  bool   // the container is made as any other
	}{
		{name: "Docker, as it is asked for", engine: docker},
		{name: "Docker without experiments", engine: quirksOf(Docker, infoFacts{version: "28.5.2"}), want: "--experimental", plain: true},
		{name: "Docker, not asked for", engine: docker, change: func(j *job.Job) { j.Checkpoint.Method = job.IfAny }, want: "asks for that", plain: true},
		{name: "Docker, with a network", engine: docker, change: func(j *job.Job) { j.Container.Network = "bridge" }, want: `network = "none"`, plain: true},
		{name: "Docker, where the job writes anywhere", engine: docker, change: func(j *job.Job) { j.Container.Extra.ReadOnly = false }, want: "--read-only", plain: true},
		{name: "Docker, a volume", engine: docker, change: func(j *job.Job) { j.Container.Binds = []job.Bind{{Target: "/v"}} }, want: "to /v would", plain: true},
		{name: "not wanted", engine: podman, change: func(j *job.Job) { j.Checkpoint.Method = job.ByApp }, want: "ask", plain: true},
		{name: "an init process is wanted", engine: podman, change: func(j *job.Job) { j.Container.Extra.Init = new(true) }, want: "init", plain: true},
		{name: "Podman", engine: podman},
		{name: "Podman, not asked for, with all that it likes", engine: podman,
			change: func(j *job.Job) {
				j.Checkpoint.Method, j.Container.Network, j.Container.Extra.ReadOnly = job.IfAny, "bridge", false
			}},
		{name: "Podman, a volume of its own", engine: podman, change: func(j *job.Job) { j.Container.Binds = []job.Bind{{Target: "/v"}} }},
		{name: "Podman, a place of the host's", engine: podman, change: func(j *job.Job) { j.Container.Binds = []job.Bind{{Source: "/data", Target: "/d"}} }, want: "to /d would", plain: true},
		{name: "Podman, a place of the host's, to read", engine: podman, change: func(j *job.Job) { j.Container.Binds = []job.Bind{{Source: "/data", Target: "/d", Options: "z,ro"}} }},
		{name: "a GPU", engine: podman, change: func(j *job.Job) { j.Container.GPU = &job.GPUGrant{Vendor: "nvidia"} }, want: "device", plain: true},
		{name: "Podman without root", engine: quirksOf(Podman, infoFacts{version: "5.8.6", rootless: true}), want: "root", plain: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := simple()
			j.Checkpoint.Method, j.Container.Network, j.Container.Extra.ReadOnly = job.ByEngine, "none", true
			if tt.change != nil {
				tt.change(j)
			}
			err := canCheckpoint(tt.engine, j)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			r := toRequest(j, "im", imageFacts{}, Info{quirks: tt.engine})
			if disabled := !tt.plain && tt.engine.checkpoints == keptInside; r.Config.NetworkDisabled != disabled || *r.Host.Init != tt.plain {
				t.Errorf("got network disabled %v, init %v, want %v, %v", r.Config.NetworkDisabled, *r.Host.Init, disabled, tt.plain)
			}
		})
	}
}
