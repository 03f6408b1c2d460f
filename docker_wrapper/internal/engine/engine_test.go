package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

func TestOpen(t *testing.T) {
	tests := []struct {
		name string
		o    enginetest.Options
		want Info
	}{
		{"Docker", enginetest.Options{}, Info{Kind: Docker, Version: "20.10.24", Architecture: "amd64", CPUs: 4}},
		{"Podman, rootless", enginetest.Options{Podman: true, Rootless: true}, Info{Kind: Podman, Version: "4.3.1", Architecture: "amd64", CPUs: 4, Rootless: true, Own: true}},
		{"SELinux, ARM, BuildKit", enginetest.Options{SELinux: true, Machine: "aarch64", CPUs: 2, BuildKit: true},
			Info{Kind: Docker, Version: "20.10.24", Architecture: "arm64", CPUs: 2, SELinux: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, tt.o)
			got := e.Info
			got.quirks = quirks{}
			tt.want.Host, tt.want.APIVersion = fake.Host(), "1.41"
			if got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// Every engine that is there is looked at, each once, and the one that a job would get is said.
func TestSurvey(t *testing.T) {
	_, docker := open1(t, enginetest.Options{})
	_, podman := open1(t, enginetest.Options{Podman: true})
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(podman.Socket(), dir+"/docker.sock"), os.Mkdir(dir+"/podman", 0o755), os.Symlink(docker.Socket(), dir+"/podman/podman.sock")); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"XDG_RUNTIME_DIR": dir, "CONTAINER_HOST": podman.Host()}
	found, err := Survey(t.Context(), Options{Getenv: environment1(env)})
	if err != nil {
		t.Fatal(err)
	}
	kinds, chosen := map[string]int{}, 0
	for _, f := range found {
		if f.Host != "unix:///var/run/docker.sock" && f.Host != "unix:///run/podman/podman.sock" { // this computer's own
			kinds[f.Kind]++
		}
		if f.Chosen {
			chosen++
		}
		if f.Problem == "" && (f.Version == "" || f.Cgroups == "" || f.Storage == "") {
			t.Errorf("got %+v, want more of it", f)
		}
	}
	if kinds[Docker] != 1 || kinds[Podman] != 1 || chosen != 1 || !found[0].Chosen {
		t.Errorf("got %+v, want each engine once, and the first chosen", found)
	}
	_, err = Survey(t.Context(), Options{Host: "unix:///nonexistent.sock"})
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
}

// DOCKER_HOST is the engine that was chosen: one that happens to answer elsewhere doesn't have the job's container.
func TestOpenPrefers(t *testing.T) {
	_, docker := open1(t, enginetest.Options{})
	_, podman := open1(t, enginetest.Options{Podman: true})
	dir := t.TempDir()
	if err := os.Symlink(docker.Socket(), dir+"/docker.sock"); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"XDG_RUNTIME_DIR": dir, "CONTAINER_HOST": podman.Host()}
	for kind, want := range map[string]string{Docker: Docker, Podman: Podman, "": Docker} {
		e, err := Open(t.Context(), Options{Kind: kind, Getenv: environment1(env)})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if e.Info.Kind != want {
			t.Errorf("%q preferred: got %s at %s", kind, e.Info.Kind, e.Info.Host)
		}
	}
	// What is named is taken, whatever kind it is.
	e, err := Open(t.Context(), Options{Kind: Podman, Getenv: environment1(map[string]string{"DOCKER_HOST": docker.Host()})})
	if err != nil || e.Info.Host != docker.Host() {
		t.Fatalf("got %v, %v", e, err)
	}
	e.Close()
}

func TestOpenKeepsToDockerHost(t *testing.T) {
	_, fake := open1(t, enginetest.Options{})
	env := map[string]string{"DOCKER_HOST": "unix:///nonexistent/docker.sock", "CONTAINER_HOST": fake.Host()}
	_, err := Open(t.Context(), Options{Getenv: environment1(env)})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "at unix:///nonexistent/docker.sock, which DOCKER_HOST names") {
		t.Errorf("got %v", err)
	}
}

func environment1(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// simple is a job whose program is these steps.
func simple(steps ...string) *job.Job {
	return &job.Job{Container: job.Container{Name: "c", Command: steps, User: job.User{Mode: "image"},
		Labels: map[string]string{job.LabelResult: "r", job.LabelDataDir: "/b"}}}
}

func made(t *testing.T, e *Engine, fake *enginetest.Engine, j *job.Job, im enginetest.Image) *Container {
	t.Helper()
	if err := fake.AddImage("im", im); err != nil {
		t.Fatal(err)
	}
	c, err := e.Create(t.Context(), j, "im")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnsureBuildsOnce(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	fsys := slotOf(map[string]string{"Dockerfile": "FROM scratch\nRUN hold\n"})
	im := job.Image{LockDir: t.TempDir(), Sources: []job.Source{{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}}}
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = e.Ensure(t.Context(), im, fsys); err != nil {
				t.Error(err)
			}
		})
	}
	if err := fake.Await(t.Context(), "inspect-image", len(ids)); err != nil { // all have looked and found none
		t.Fatal(err)
	}
	fake.Release("")
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("got images %q, want one", ids)
		}
	}
	if got := fake.Count("build"); got != 1 {
		t.Errorf("built %d times, want once", got)
	}
}

func TestEnsureIsCancelled(t *testing.T) {
	for _, call := range []string{"build", "pull", "load"} {
		t.Run(call, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			fake.Inject(enginetest.Fault{Call: call, Hang: true})
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a"), dockerArchive().tar(t), 0o644); err != nil {
				t.Fatal(err)
			}
			source := map[string]job.Source{"build": {Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}},
				"pull": {Name: "i", Pull: true}, "load": {Name: "i", Archive: filepath.Join(dir, "a")}}[call]
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := e.Ensure(ctx, job.Image{LockDir: dir, Sources: []job.Source{source}}, slotOf(map[string]string{"Dockerfile": "FROM scratch"}))
				failed <- err
			}()
			if err := fake.Await(t.Context(), call, 1); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
		})
	}
}

// What may mend is not given up because an alternative is hopeless.
func TestEnsureOfSeveral(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im := job.Image{LockDir: t.TempDir(), Sources: []job.Source{{Name: "a", Pull: true}, {Name: "b", Pull: true}}}
	for _, messages := range [][2]string{{"i/o timeout", "unauthorized"}, {"unauthorized", "i/o timeout"}} {
		for _, m := range messages {
			fake.Inject(enginetest.Fault{Call: "pull", Status: 500, Message: m, Times: 1})
		}
		if _, err := e.Ensure(t.Context(), im, nil); !errors.Is(err, ErrNetwork) {
			t.Errorf("%q: got %v, want %v", messages, err, ErrNetwork)
		}
	}
	if err := fake.AddImage("b", enginetest.Image{}); err != nil {
		t.Fatal(err)
	}
	pulls := fake.Count("pull")
	if _, err := e.Ensure(t.Context(), im, nil); err != nil || fake.Count("pull") != pulls {
		t.Errorf("got %v after %d pulls, want what is there already", err, fake.Count("pull")-pulls)
	}
}

// A stream that ends without an error has not always done what was asked.
func TestBuildThatOnlySaysSo(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	fake.Inject(enginetest.Fault{Call: "build", Status: 200, Message: "Successfully built 123"})
	_, err := e.Ensure(t.Context(), job.Image{LockDir: t.TempDir(), Sources: []job.Source{{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}}},
		slotOf(map[string]string{"Dockerfile": "FROM scratch"}))
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
}

func TestAskingTwiceIsHarmless(t *testing.T) {
	for _, o := range []enginetest.Options{{}, {Podman: true}} {
		t.Run(fmt.Sprintf("podman=%t", o.Podman), func(t *testing.T) {
			e, fake := open1(t, o)
			ctx := t.Context()
			c := made(t, e, fake, simple("hold"), enginetest.Image{})
			steps := []struct {
				name string
				do   func(context.Context) error
				want string
			}{
				{"start", c.Start, StateRunning}, {"start", c.Start, StateRunning},
				{"unpause", c.Unpause, StateRunning},
				{"pause", c.Pause, StatePaused}, {"pause", c.Pause, StatePaused},
				{"kill", c.Kill, StateExited}, {"kill", c.Kill, StateExited},
				{"pause", c.Pause, StateExited}, {"unpause", c.Unpause, StateExited},
				{"start", c.Start, StateRunning}, {"pause", c.Pause, StatePaused},
				{"stop", func(ctx context.Context) error { return c.Stop(ctx, time.Second) }, StateExited},
				{"stop", func(ctx context.Context) error { return c.Stop(ctx, time.Second) }, StateExited},
				{"start", c.Start, StateRunning},
				{"remove", c.Remove, ""}, {"remove", c.Remove, ""}, {"kill", c.Kill, ""}, {"pause", c.Pause, ""},
			}
			for i, s := range steps {
				if err := s.do(ctx); err != nil {
					t.Fatalf("%d: %s: %v", i, s.name, err)
				}
				if got := fake.State("c"); got != s.want {
					t.Fatalf("%d: %s: the container is %q, want %q", i, s.name, got, s.want)
				}
			}
		})
	}
}

// When the computer's clock was set back after a container's end, nobody waits until that time comes again.
func TestExitAfterTheClockWasSetBack(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	c := made(t, e, fake, simple("hold"), enginetest.Image{})
	began := time.Now()
	for _, ahead := range []time.Duration{0, time.Hour} { // of the start
		exit := job.Exit{Code: 3, StartedAt: began.Add(ahead), FinishedAt: began.Add(2 * time.Hour)}
		w, err := c.witness(t.Context(), exit, time.Time{})
		if exit.Witness = w; job.Whose(exit, job.Notes{}) != job.ByJob || err != nil {
			t.Errorf("got %+v, %v, want the job's own end", w, err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// An engine in a virtual machine has a clock of its own: what it saw is asked for by that.
func TestExitByTheEnginesClock(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, -3 * time.Second, 3 * time.Second, time.Hour} {
		e, fake := open1(t, enginetest.Options{Ahead: ahead})
		began := time.Now()
		c := made(t, e, fake, simple("exit 143"), enginetest.Image{})
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		exit := <-c.Wait(t.Context())
		exit.StartedAt = exit.StartedAt.Add(-2 * time.Hour) // it has run for longer than the clocks are apart
		w, err := c.witness(t.Context(), exit, time.Time{})
		if exit.Witness = w; job.Whose(exit, job.Notes{}) != job.ByJob || err != nil || exit.Code != 143 {
			t.Errorf("%v ahead: got %+v, %v, want the job's own 143", ahead, exit, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%v ahead: it took %v", ahead, took)
		}
	}
}

// A container that is just being removed is none, and its name is free when Find says so.
func TestFindWhileItIsRemoved(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	j := simple("hold")
	made(t, e, fake, j, enginetest.Image{})
	finish, err := fake.BeginRemoval()
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan error, 1)
	go func() {
		_, err := e.Find(t.Context(), j.Container)
		found <- err
	}()
	if err := fake.Await(t.Context(), "wait", 1); err != nil {
		t.Fatal(err)
	}
	finish()
	if err := <-found; !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	if _, err := e.Create(t.Context(), j, "im"); err != nil {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	j := simple("hold")
	if _, err := e.Find(t.Context(), j.Container); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	c := made(t, e, fake, j, enginetest.Image{})
	for _, s := range []struct {
		do   func(context.Context) error
		want string
	}{{func(context.Context) error { return nil }, StateCreated}, {c.Start, StateRunning}, {c.Pause, StatePaused}, {c.Kill, StateExited}} {
		if err := s.do(t.Context()); err != nil {
			t.Fatal(err)
		}
		found, err := e.Find(t.Context(), j.Container)
		if err != nil || found.State != s.want || found.ID != c.ID {
			t.Errorf("got %+v, %v, want %s", found, err, s.want)
		}
	}
	other := simple("hold")
	other.Container.Labels = map[string]string{job.LabelResult: "r", job.LabelDataDir: "/other client"}
	if _, err := e.Find(t.Context(), other.Container); !errors.Is(err, ErrNameTaken) {
		t.Errorf("another data directory's: got %v, want %v", err, ErrNameTaken)
	}
	if _, err := e.Create(t.Context(), other, "im"); !errors.Is(err, ErrNameTaken) {
		t.Errorf("create under a name that is taken: got %v, want %v", err, ErrNameTaken)
	}
	for _, tt := range []struct {
		labels map[string]string
		want   string
	}{
		{map[string]string{job.LabelDataDir: "/other client"}, `: it belongs to result "r" of another client`},
		{map[string]string{job.LabelProject: "p"}, `: it belongs to result "r" of project "", and this result waits until that has ended`},
		{map[string]string{job.LabelResult: "R"}, `: it belongs to result "r", and this result waits until that has ended`},
	} {
		other := simple("hold")
		other.Container.Labels = maps.Clone(j.Container.Labels)
		maps.Copy(other.Container.Labels, tt.labels)
		want := "find container " + j.Container.Name + ": " + ErrNameTaken.Error() + tt.want
		for what, ask := range map[string]func() error{
			"find":   func() error { _, err := e.Find(t.Context(), other.Container); return err },
			"create": func() error { _, err := e.Create(t.Context(), other, "im"); return err },
		} {
			if err := ask(); !errors.Is(err, ErrNameTaken) || err.Error() != want {
				t.Errorf("%s: got %v, want %s", what, err, want)
			}
		}
	}
}

func TestStartFailures(t *testing.T) {
	isRunError := func(err error) bool { var re *RunError; return errors.As(err, &re) }
	noInit := false
	for _, podman := range []bool{false, true} {
		e, fake := open1(t, enginetest.Options{Podman: podman})
		j := simple("nosuch")
		j.Container.Extra.Init = &noInit
		if err := made(t, e, fake, j, enginetest.Image{}).Start(t.Context()); !isRunError(err) || !strings.Contains(err.Error(), "nosuch") {
			t.Errorf("podman=%t: got %v, want *RunError", podman, err)
		}
	}
	e, fake := open1(t, enginetest.Options{})
	c := made(t, e, fake, simple("print x"), enginetest.Image{})
	for message, want := range map[string]error{
		`could not select device driver "nvidia" with capabilities: [[gpu]]`:    ErrHost,
		"starting container process caused: setting cgroup config: device busy": nil,
		"mkdir /run/x: no space left on device: unknown":                        ErrDiskFull,
	} {
		fake.Inject(enginetest.Fault{Call: "start", Status: 500, Message: message, Times: 1})
		if err := c.Start(t.Context()); err == nil || isRunError(err) || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", message, err, want)
		}
	}
}

func TestCopies(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	root := t.TempDir()
	for name, text := range map[string]string{"in": "1", "dir/a": "2", "dir/sub/b": "3"} {
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	c := made(t, e, fake, simple("hold"), enginetest.Image{User: "app", Files: map[string]string{"/etc/passwd": "app:x:7:8::/:/x\n", "/work/old": "o"}})
	in := func(src, dst string) job.Copy { return job.Copy{Root: root, Src: src, Dst: dst} }
	if err := c.CopyIn(t.Context(), []job.Copy{in("in", "/work"), in("in", "/new/deep/name"), in("dir", "/work/d")}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"/work/in": "1", "/new/deep/name": "1", "/work/d/a": "2", "/work/d/sub/b": "3", "/work/old": "o"} {
		data, owner, err := fake.File(name)
		if err != nil || data != want {
			t.Errorf("%s: got %q, %v, want %q", name, data, err, want)
		}
		if owner != "7:8" && name != "/work/old" {
			t.Errorf("%s belongs to %q, want 7:8", name, owner)
		}
	}
	out := t.TempDir()
	from := func(src, dst string) job.Copy { return job.Copy{Root: out, Src: src, Dst: dst} }
	leftOut, err := c.CopyOut(t.Context(), []job.Copy{from("/work/d/", "d"), from("/work/in", "x/in")}, 3)
	if err != nil || len(leftOut) > 0 {
		t.Fatalf("got %q, %v", leftOut, err)
	}
	if diff := cmp.Diff(map[string]string{"d/": "", "d/a": "2", "d/sub/": "", "d/sub/b": "3", "x/": "", "x/in": "1"}, tree(t, out)); diff != "" {
		t.Error(diff)
	}
	fails := []struct {
		name string
		err  error
		want CopyError
	}{
		{"no input", c.CopyIn(t.Context(), []job.Copy{in("nowhere", "/x")}), CopyError{Name: "nowhere", Missing: true, Reason: "no such file in the slot"}},
		{"no output", second(c.CopyOut(t.Context(), []job.Copy{from("/nowhere", "x")}, 0)), CopyError{Name: "/nowhere", Missing: true, Reason: "the job didn't make this output"}},
		{"too much output", second(c.CopyOut(t.Context(), []job.Copy{from("/work/d", "y"), from("/work/in", "z")}, 2)), CopyError{Name: "z", Reason: "more output than rsc_disk_bound allows"}},
	}
	for _, f := range fails {
		var ce *CopyError
		if !errors.As(f.err, &ce) || ce.Name != f.want.Name || ce.Missing != f.want.Missing || ce.Reason != f.want.Reason {
			t.Errorf("%s: got %v, want %v", f.name, f.err, &f.want)
		}
	}
	for _, call := range []string{"inspect", "copy-in"} {
		fake.Inject(enginetest.Fault{Call: call, Cut: true}) // again and again: Go's HTTP client tries a GET twice
		if err := c.CopyIn(t.Context(), []job.Copy{in("in", "/x")}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s is cut: got %v, want %v", call, err, ErrUnreachable)
		}
		fake.Mend()
	}
	fake.Mend()
	fake.Inject(enginetest.Fault{Call: "copy-out", Cut: true})
	if _, err := c.CopyOut(t.Context(), []job.Copy{from("/work/in", "z")}, 0); !errors.Is(err, ErrUnreachable) {
		t.Errorf("copy-out is cut: got %v, want %v", err, ErrUnreachable)
	}
	// Who the image's user is can't be asked just now: that is no mistake of the image's.
	if err := c.CopyIn(t.Context(), []job.Copy{in("in", "/x")}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("look-up of the user is cut: got %v, want %v", err, ErrUnreachable)
	}
}

func second[T any](_ T, err error) error { return err }

func TestUsage(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	c := made(t, e, fake, simple("hold"), enginetest.Image{})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := c.Usage(t.Context())
	if err != nil || u.CPU <= 0 || u.Memory <= 0 || u.Memory > 60<<20 {
		t.Errorf("got %+v, %v", u, err)
	}
	if err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u, err := c.Usage(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("of a container that has ended: got %+v, %v, want %v", u, err, ErrNotRunning)
	}
}

func TestWait(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	c := made(t, e, fake, simple("hold", "exit 3"), enginetest.Image{})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	exited := c.Wait(t.Context())
	fake.Release("")
	if x := <-exited; x.Code != 3 || x.Outside || x.Lost || x.Gone || x.FinishedAt.Before(x.StartedAt) {
		t.Errorf("got %+v", x)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x := <-c.Wait(t.Context()); !x.Gone {
		t.Errorf("removed: got %+v", x)
	}
}

// outage is an engine that can't be reached for a while, counted from the start, and that knows nothing of
// what was before.
type outage struct {
	began       time.Time
	from, to    time.Duration
	ends        time.Duration // when the container does
	code        int
	killed      time.Duration // when it was sent a signal; 0 for never
	liveRestore bool
}

func (o outage) RoundTrip(r *http.Request) (*http.Response, error) {
	now := func() time.Duration { return time.Since(o.began) }
	away := func() bool { return now() >= o.from && now() < o.to }
	unreachable := errors.New("dial unix /x: connect: connection refused")
	if away() {
		return nil, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, unreachable)
	}
	body := "{}"
	switch {
	case strings.HasSuffix(r.URL.Path, "/wait"):
		for now() < o.ends && !away() {
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(time.Second):
			}
		}
		if away() {
			return nil, io.ErrUnexpectedEOF
		}
		body = fmt.Sprintf(`{"StatusCode":%d}`, o.code)
	case strings.HasSuffix(r.URL.Path, "/json"):
		state := map[string]any{"Running": true, "StartedAt": o.began}
		if now() >= o.ends {
			state = map[string]any{"ExitCode": o.code, "StartedAt": o.began, "FinishedAt": o.began.Add(o.ends)}
		}
		data, err := json.Marshal(map[string]any{"Id": "c", "State": state})
		if err != nil {
			return nil, err
		}
		body = string(data)
	case strings.HasSuffix(r.URL.Path, "/events"):
		body = ""
		note := func(action string, at time.Duration) {
			if at > 0 && (now() < o.from || at >= o.to) {
				body += fmt.Sprintf(`{"Type":"container","Action":%q,"timeNano":%d,"Actor":{"Attributes":{"signal":"15"}}}`+"\n", action, o.began.Add(at).UnixNano())
			}
		}
		note("kill", o.killed)
		note("die", o.ends)
	case strings.HasSuffix(r.URL.Path, "/info"):
		body = fmt.Sprintf(`{"LiveRestoreEnabled":%t}`, o.liveRestore)
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func TestWaitOutlivesTheEngine(t *testing.T) {
	const second, minute, hour = time.Second, time.Minute, time.Hour
	never := outage{from: 10 * hour, to: 10 * hour}
	tests := []struct {
		name             string
		o                outage
		outside, lost    bool
		earliest, latest time.Duration
	}{
		{name: "always there", o: outage{from: never.from, to: never.to, ends: hour, code: 137}, earliest: hour, latest: hour + second},
		{name: "stopped by somebody", o: outage{from: never.from, to: never.to, ends: hour, code: 143, killed: hour - 10*second}, outside: true, earliest: hour, latest: hour + second},
		{name: "stopped by somebody, politely", o: outage{from: never.from, to: never.to, ends: hour, killed: hour - 10*second}, outside: true, earliest: hour, latest: hour + second},
		{name: "a signal that it outlived", o: outage{from: never.from, to: never.to, ends: hour, code: 3, killed: minute}, earliest: hour, latest: hour + second},
		{name: "the engine restarted while it runs", o: outage{from: minute, to: 2 * minute, ends: hour, code: 137, liveRestore: true}, earliest: hour, latest: hour + second},
		{name: "ended by the engine's stop", o: outage{from: minute, to: 3 * minute, ends: minute + second, code: 143}, outside: true, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "ended by the engine's stop, politely", o: outage{from: minute, to: 3 * minute, ends: minute + second}, outside: true, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "ended by itself while the engine was away", o: outage{from: minute, to: 3 * minute, ends: 2 * minute, code: 3}, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "lost by the engine", o: outage{from: minute, to: 3 * minute, ends: 2 * minute, code: 255}, outside: true, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "ended while an engine was away that ends none", o: outage{from: minute, to: 3 * minute, ends: minute + second, code: 3, liveRestore: true}, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "ended by the stop of an engine that just started it", o: outage{from: minute, to: 3 * minute, ends: minute + second, code: 143, liveRestore: true}, outside: true, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "ended by the engine that came back", o: outage{from: minute, to: 3 * minute, ends: 3*minute + second, code: 143, killed: 3 * minute}, outside: true, earliest: 3 * minute, latest: 3*minute + lastRetry},
		{name: "away for too long", o: outage{from: minute, to: hour, ends: minute}, lost: true, earliest: minute + patience, latest: minute + patience + lastRetry + second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.o.began = time.Now()
				api, err := client.NewClientWithOpts(client.WithHost("tcp://engine:1"), client.WithVersion("1.41"),
					client.WithHTTPClient(&http.Client{Transport: tt.o}))
				if err != nil {
					t.Fatal(err)
				}
				e := &Engine{api: api, timeout: 30 * time.Second}
				e.Info.quirks = quirksOf(Docker, infoFacts{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				x := <-(&Container{ID: "c", Name: "c", e: e}).Wait(ctx)
				took := time.Since(tt.o.began)
				if x.Outside != tt.outside || x.Lost != tt.lost || x.Gone || !x.Lost && x.Code != tt.o.code {
					t.Errorf("got %+v", x)
				}
				if took < tt.earliest || took > tt.latest {
					t.Errorf("after %v, want %v to %v", took, tt.earliest, tt.latest)
				}
			})
		})
	}
}

func TestStreamGivesUp(t *testing.T) {
	tests := []struct {
		name  string
		every time.Duration // between messages
		after time.Duration
	}{{"silence", time.Hour, streamSilence}, {"without end", time.Minute, streamTotal}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := new(Engine).stream(t.Context(), func(ctx context.Context) (io.ReadCloser, error) {
					pr, pw := io.Pipe()
					go func() {
						for {
							select {
							case <-ctx.Done():
								pw.CloseWithError(ctx.Err())
								return
							case <-time.After(tt.every):
								io.WriteString(pw, `{"stream":"on and on\n"}`)
							}
						}
					}()
					return pr, nil
				}, nil)
				if took := time.Since(began); !errors.Is(err, ErrNetwork) || took != tt.after {
					t.Errorf("got %v after %v, want %v after %v", err, took, ErrNetwork, tt.after)
				}
			})
		})
	}
}
