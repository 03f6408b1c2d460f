//go:build integration

package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// What this package promises about an engine, one row per fact, against the real one that
// TEST_ENGINE_HOST names ("unix:///run/podman/podman.sock"), else the one that Open finds. Nothing
// here depends on what else the engine has, no registry is needed, and nothing is left behind.
//
// What comes out is checked through Docker's SDK where it can be: not by the code under test.

// contract is an engine, an image with the payload of testdata/contract, and a mark for all that
// this run makes.
type contract struct {
	e       *engine.Engine
	api     *client.Client
	run     string // part of every name, value of job.LabelDataDir
	dir     string // traversable by everybody
	payload []byte // static program, see testdata/contract/payload
	image   string // ID
	made    atomic.Int64
	built   sync.Once // the whole program
}

type contractRow struct {
	fact  string
	alone bool // not beside others
	check func(*testing.T, *contract)
}

func TestContract(t *testing.T) {
	if host := os.Getenv("TEST_CONTRACT_OPEN"); host != "" { // the second self of openDenied
		_, err := engine.Open(t.Context(), engine.Options{Host: host})
		fmt.Println("denied:", errors.Is(err, engine.ErrPermission), err)
		return
	}
	k := openContract(t)
	t.Run("engine", func(t *testing.T) {
		for _, rows := range [][]contractRow{openRows, imageRows, dockerfileRows, containerRows, freezeRows, exitRows, logRows, copyRows, proxyRows, checkpointRows, gpuRows} {
			for _, r := range rows {
				t.Run(r.fact, func(t *testing.T) {
					if !r.alone {
						t.Parallel()
					}
					r.check(t, k)
				})
			}
		}
	})
	k.clean(t)
}

func openContract(t *testing.T) *contract {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{Host: os.Getenv("TEST_ENGINE_HOST")})
	if err != nil {
		t.Fatalf("this test needs a container engine, and none answers: %v", err)
	}
	t.Cleanup(func() { e.Close() })
	api, err := client.NewClientWithOpts(client.WithHost(e.Address()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	dir, err := os.MkdirTemp("", "contract")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	k := &contract{e: e, api: api, dir: dir, run: fmt.Sprintf("contract%d", time.Now().UnixNano())}
	t.Logf("%s %s at %s", e.Info.Kind, e.Info.Version, e.Info.Host)

	binaries := os.Getenv("TEST_BINARIES") // where there is no compiler
	if binaries == "" {
		binaries = dir
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/payload", "./testdata/contract/payload")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the payload: %v\n%s", err, out)
		}
	}
	k.payload, err = os.ReadFile(binaries + "/payload")
	if err = errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.clean(t) }) // also when something fails before the end
	im, fsys := k.source("payload", `
COPY shadow /etc/shadow
RUN ["/payload", "mkdir=/tmp", "chmod=1777:/tmp", "mkdir=/data/sub", "write=/data/old:old", "symlink=/data:/linked"]
`)
	fsys["shadow"] = &fstest.MapFile{Data: []byte("of the container")}
	k.image = k.ensure(t, im, fsys)
	return k
}

// clean removes what this run has made, and complains about containers: rows remove their own.
func (k *contract) clean(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // Podman 4 takes a second for each image on a busy computer
	defer cancel()
	list, err := k.api.ContainerList(ctx, container.ListOptions{All: true, Filters: k.label()})
	if err != nil {
		t.Errorf("look for what is left: %v", err)
	}
	for _, c := range list {
		t.Errorf("container %s is left behind", c.Names)
		if err := k.api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Error(err)
		}
	}
	for _, im := range k.images(t, job.LabelDataDir+"="+k.run, true) {
		names := im.RepoTags
		if len(names) == 0 || names[0] == "<none>:<none>" {
			names = []string{im.ID}
		}
		for _, name := range names {
			_, err := k.api.ImageRemove(ctx, name, image.RemoveOptions{Force: true, PruneChildren: true})
			if err != nil && !imageGone(err) && !strings.Contains(err.Error(), "cannot be forced") {
				t.Errorf("remove image %s: %v", name, err)
			}
		}
	}
}

// images lists images with this label; with steps, also those that others stand on. Podman 4 can't make the list while
// another row removes an image, so it is asked again.
func (k *contract) images(t *testing.T, label string, steps bool) (list []image.Summary) {
	t.Helper()
	k.eventually(t, "a list of images", func() bool {
		var err error
		list, err = k.api.ImageList(context.Background(), image.ListOptions{All: steps, Filters: filters.NewArgs(filters.Arg("label", label))})
		if err != nil && !imageGone(err) {
			t.Fatal(err)
		}
		return err == nil
	})
	return list
}

// imageGone reports that the engine looked for an image that had just been removed.
func imageGone(err error) bool {
	for _, text := range []string{"No such image", "image not known", "locating image with ID", "failed to convert ImageData"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func (k *contract) label() filters.Args {
	return filters.NewArgs(filters.Arg("label", job.LabelDataDir+"="+k.run))
}

// source is a Dockerfile with the payload and what is appended to it.
func (k *contract) source(name, more string) (job.Image, fstest.MapFS) {
	text := "FROM scratch\nLABEL " + job.LabelDataDir + "=" + k.run + "\nCOPY payload /payload\n" +
		strings.TrimPrefix(more, "\n") + "ENTRYPOINT [\"/payload\"]\n"
	fsys := fstest.MapFS{"Dockerfile": {Data: []byte(text)}, "payload": {Data: k.payload, Mode: 0o755}}
	im := job.Image{
		Sources: []job.Source{{Name: k.name(name), Dockerfile: "Dockerfile", Build: &job.BuildArgs{Network: "none"}}},
		Labels:  map[string]string{job.LabelDataDir: k.run},
		LockDir: k.dir,
	}
	return im, fsys
}

// name is one that nobody else has.
func (k *contract) name(what string) string {
	return fmt.Sprintf("boinc_%s_%s_%d", what, k.run, k.made.Add(1))
}

func (k *contract) ensure(t *testing.T, im job.Image, fsys fstest.MapFS) string {
	t.Helper()
	id, err := k.e.Ensure(t.Context(), im, fsys)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// job runs the payload with arguments.
func (k *contract) job(args ...string) *job.Job {
	name := k.name("row")
	return &job.Job{
		Container: job.Container{
			Name:    name,
			Labels:  map[string]string{job.LabelDataDir: k.run, job.LabelResult: name},
			Command: args,
			User:    job.User{Mode: "image"},
			Network: "none",
			Limits:  job.Limits{Memory: 256 << 20, Pids: 200},
		},
		Stop: job.Stop{Timeout: job.Seconds(10 * time.Second)},
	}
}

// create makes a container that is removed when the row ends.
func (k *contract) create(t *testing.T, j *job.Job) *engine.Container {
	t.Helper()
	c, err := k.e.Create(t.Context(), j, k.image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.mustRemove(t, c) })
	return c
}

func (k *contract) mustRemove(t *testing.T, c *engine.Container) {
	t.Helper()
	if err := c.Remove(context.Background()); err != nil {
		t.Error(err)
	}
}

func (k *contract) start(t *testing.T, j *job.Job) *engine.Container {
	t.Helper()
	c := k.create(t, j)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// result is what a container left.
type contractResult struct {
	exit        job.Exit
	out, errOut string
}

// finish waits for the end of a container.
func (k *contract) finish(t *testing.T, c *engine.Container) contractResult {
	t.Helper()
	var out, errOut bytes.Buffer
	logs := c.Logs(t.Context(), time.Time{}, &out, &errOut)
	exit := k.wait(t, c)
	if err := logs.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	return contractResult{exit, out.String(), errOut.String()}
}

func (k *contract) do(t *testing.T, j *job.Job) contractResult {
	t.Helper()
	return k.finish(t, k.start(t, j))
}

func (k *contract) wait(t *testing.T, c *engine.Container) job.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case exit := <-c.Wait(ctx):
		return exit
	case <-ctx.Done():
		t.Fatalf("container %s: no exit after a minute", c.Name)
		return job.Exit{}
	}
}

// libpod asks Podman in its own API.
func (k *contract) libpod(t *testing.T, path string, answer any) {
	t.Helper()
	resp, err := k.api.HTTPClient().Get("http://" + client.DummyHost + "/v4.0.0/libpod" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

func (k *contract) inspect(t *testing.T, c *engine.Container) container.InspectResponse {
	t.Helper()
	in, err := k.api.ContainerInspect(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// paused reports whether a container stands: by its engine's word, or, where that can't pause, by its processes.
func (k *contract) paused(t *testing.T, c *engine.Container) bool {
	t.Helper()
	in := k.inspect(t, c)
	if in.State.Paused || in.State.Pid == 0 {
		return in.State.Paused
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.State.Pid))
	return err == nil && strings.HasPrefix(field(string(status), "State:"), "T") || strings.TrimSpace(k.freezer(in.State.Pid, c)) == "FROZEN"
}

// freezer is the state of a container's own control group (v1); "" when it has none.
func (k *contract) freezer(pid int, c *engine.Container) string {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(groups)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":freezer:"); ok && err == nil && strings.Contains(path, c.ID) {
			text, err := os.ReadFile("/sys/fs/cgroup/freezer" + path + "/freezer.state")
			if err == nil {
				return string(text)
			}
		}
	}
	return ""
}

// says runs a container and wants its output.
func (k *contract) says(t *testing.T, j *job.Job, want string) {
	t.Helper()
	if got := k.do(t, j); got.out != want || got.errOut != "" {
		t.Errorf("%q: got %q and on stderr %q, want %q", j.Container.Command, got.out, got.errOut, want)
	}
}

// eventually polls a condition.
func (k *contract) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		began := time.Now()
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: " + what)
		}
		time.Sleep(max(20*time.Millisecond, min(4*time.Since(began), time.Second))) // the engine has other things to do
	}
}

// wrapper is the whole program, which runs in containers, too.
func (k *contract) wrapper(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("TEST_BINARIES"); dir != "" {
		return filepath.Join(dir, "docker_wrapper")
	}
	name := filepath.Join(k.dir, "wrapper")
	k.built.Do(func() {
		build := exec.Command("go", "build", "-trimpath", "-o", name, "boincdocker/docker_wrapper")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("build the wrapper: %v\n%s", err, out)
		}
	})
	return name
}

// pause tries again, as the supervision does: now and then runc 1.1 can't freeze a control group of the older kind on a
// computer that is busy.
func (k *contract) pause(t *testing.T, c *engine.Container) {
	t.Helper()
	for try := 1; ; try++ {
		err := c.Pause(t.Context())
		if err == nil {
			return
		}
		if t.Log(err); try == 3 {
			t.FailNow()
		}
	}
}

// within fails when f takes longer.
func (k *contract) within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Errorf("took %v, want at most %v", took.Round(time.Millisecond), limit)
	}
}

var openRows = []contractRow{
	{fact: "open: the engine is described", check: func(t *testing.T, k *contract) {
		info, err := k.api.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := k.e.Info
		if got.Kind != engine.Docker && got.Kind != engine.Podman || got.Host == "" || got.APIVersion == "" {
			t.Errorf("got %+v, want kind, host and API version", got)
		}
		if got.Version != info.ServerVersion || got.CPUs != info.NCPU || got.Architecture != runtime.GOARCH {
			t.Errorf("got %+v, want version %s, %d CPUs, %s", got, info.ServerVersion, info.NCPU, runtime.GOARCH)
		}
	}},
	{fact: "open: a host that was asked for is the only one tried", check: func(t *testing.T, k *contract) {
		host := "unix://" + k.dir + "/nothing.sock"
		k.within(t, 5*time.Second, func() {
			_, err := engine.Open(t.Context(), engine.Options{Host: host})
			if !errors.Is(err, engine.ErrUnreachable) || !strings.Contains(fmt.Sprint(err), host) {
				t.Errorf("got %v, want ErrUnreachable naming %s", err, host)
			}
		})
	}},
	{fact: "open: a DOCKER_HOST is the only one tried", check: func(t *testing.T, k *contract) {
		dead := "unix://" + k.dir + "/dead.sock"
		_, err := engine.Open(t.Context(), engine.Options{Getenv: func(name string) string { return map[string]string{"DOCKER_HOST": dead}[name] }})
		if !errors.Is(err, engine.ErrUnreachable) || !strings.Contains(fmt.Sprint(err), dead) {
			t.Errorf("got %v, want ErrUnreachable naming %s", err, dead)
		}
	}},
	{fact: "open: a dead context doesn't hide a living engine", check: func(t *testing.T, k *contract) {
		socket, ok := strings.CutPrefix(k.e.Address(), "unix://")
		if !ok {
			t.Fatalf("this test needs an engine on a unix socket, not %s", k.e.Address())
		}
		dir := t.TempDir()
		meta := fmt.Sprintf("%s/contexts/meta/%x", dir, sha256.Sum256([]byte("dead")))
		err := errors.Join(os.MkdirAll(meta, 0o755), os.Symlink(socket, dir+"/docker.sock"),
			os.WriteFile(meta+"/meta.json", fmt.Appendf(nil, `{"Endpoints":{"docker":{"Host":"unix://%s/dead.sock"}}}`, dir), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		env := map[string]string{"DOCKER_CONFIG": dir, "DOCKER_CONTEXT": "dead", "XDG_RUNTIME_DIR": dir}
		e, err := engine.Open(t.Context(), engine.Options{Getenv: func(name string) string { return env[name] }})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if strings.HasSuffix(e.Info.Host, "dead.sock") || e.Info.Version == "" {
			t.Errorf("got %+v, want a living one", e.Info)
		}
	}},
	{fact: "open: a socket without permission names itself, the group and the command", check: openDenied},
	{fact: "open: what listens but says nothing is given up", check: func(t *testing.T, k *contract) {
		l := k.listen(t, "mute.sock")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { c.Close() })
			}
		}()
		k.within(t, 5*time.Second, func() {
			_, err := engine.Open(t.Context(), engine.Options{Host: "unix://" + k.dir + "/mute.sock", Timeout: time.Second})
			if !errors.Is(err, engine.ErrUnreachable) {
				t.Errorf("got %v, want ErrUnreachable", err)
			}
		})
	}},
}

// openDenied asks as another user, when it can: nothing is denied to root.
func openDenied(t *testing.T, k *contract) {
	k.listen(t, "denied.sock")
	socket := filepath.Join(k.dir, "denied.sock")
	const daemon, nobody = 1, 65534 // fixed in Debian and its kin
	exe := filepath.Join(k.dir, "test")
	if err := errors.Join(os.Chmod(socket, 0o660), copyTo(exe, "/proc/self/exe")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestContract$")
	cmd.Dir = k.dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "TEST_CONTRACT_OPEN=unix://"+socket)
	if os.Getuid() == 0 {
		if err := os.Chown(socket, 0, daemon); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	} else if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{"denied: true", socket}
	if os.Getuid() == 0 {
		want = append(want, "usermod -aG daemon nobody")
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("got %s, want %q in it", out, w)
		}
	}
}

func copyTo(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
