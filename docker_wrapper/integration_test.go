//go:build integration

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/samples"
)

// These tests run the release binary between a client and a real engine. A missing engine is a
// failure: scripts/test.sh provides one.

// newJob makes a client with one job. Its image is the worker of testdata on scratch.
func newJob(t *testing.T, result, config string, change func(*boincapi.InitData)) *boinctest.Client {
	t.Helper()
	return withJob(t, newClient(t, result, change), config)
}

// withJob gives a client the files of a job.
func withJob(t *testing.T, c *boinctest.Client, config string) *boinctest.Client {
	t.Helper()
	worker, err := os.ReadFile(binary(t, "worker"))
	if err != nil {
		t.Fatal(err)
	}
	add(t, c, "Dockerfile", dockerfileOf(c, ""))
	add(t, c, "worker", worker)
	add(t, c, "job.toml", []byte(config))
	return c
}

// runJob runs the wrapper to its end and asserts success.
func runJob(t *testing.T, c *boinctest.Client, args ...string) {
	t.Helper()
	r, err := c.Run(t.Context(), binary(t, "docker_wrapper"), args...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != boinctest.Success {
		t.Fatalf("got %+v, want success\n%s", r, stderrOf(t, c))
	}
}

func TestEngineAnswers(t *testing.T) {
	e, err := engine.Open(t.Context(), engine.Options{})
	if err != nil {
		t.Fatalf("the integration tests need a container engine: %v", err)
	}
	t.Logf("%+v", e.Info)
	e.Close()
}

func TestSamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hello", "universal", "buda", "docking", "render", "checkpoint", "checkpoint_copy"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := samples.Load(filepath.Join("..", "samples", name))
			if err != nil {
				t.Fatal(err)
			}
			if built := os.Getenv("TEST_BINARIES"); built != "" {
				s.Built = filepath.Join(built, "samples")
			}
			dir := t.TempDir()
			c, err := s.Client(dir, "sample_"+name)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			defer removeImages(t, dir)
			runJob(t, c, s.Args()...)
			if err := c.CopyOutputs(); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(c); err != nil {
				t.Error(err)
			}
			cleanAfterwards(t, c, os.Getuid())
			// universal ends before the wrapper first measures its CPU time.
			if last := c.Last(); last.CPU <= 0 && name != "universal" || last.Fraction != 1 {
				t.Errorf("last status: got %+v, want CPU time and fraction 1", last)
			}
			if strings.HasPrefix(name, "checkpoint") && c.Last().Checkpoints == 0 {
				t.Errorf("no checkpoint was reported\n%s", stderrOf(t, c))
			}
			if name == "docking" || name == "render" {
				if n := distinctFractions(c.Statuses()); n < 3 {
					t.Errorf("progress: got %d different fractions, want at least 3", n)
				}
			}
		})
	}
}

func distinctFractions(statuses []boinctest.AppStatus) int {
	seen := map[float64]bool{}
	for _, s := range statuses {
		seen[s.Fraction] = true
	}
	return len(seen)
}

// If the image exists, 5.0 s of work take at most 5.6 s from the wrapper's start to the finish file, and at most 60 ms of
// the wrapper's CPU time. On a busy host the engine itself takes longer. There the limit is 5 s and twice the time of a
// `docker run`.
func TestOverhead(t *testing.T) {
	var walls, cpus, bare []time.Duration
	dir := t.TempDir()
	for i := range 4 { // the first builds the image of this data directory
		c := withJob(t, newClientIn(t, dir, i, fmt.Sprintf("overhead_%d", i), nil), "")
		begin := time.Now()
		p, err := c.Start(t.Context(), binary(t, "docker_wrapper"), "sleep=5s")
		if err != nil {
			t.Fatal(err)
		}
		finish := filepath.Join(c.Slot(), boincapi.FinishFileName)
		eventually(t, "the finish file", func() bool { _, err := os.Stat(finish); return err == nil })
		wall := time.Since(begin)
		if r := p.Wait(); r.Outcome != boinctest.Success {
			t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
		}
		if i > 0 {
			walls = append(walls, wall)
			cpus = append(cpus, p.CPU())
			begin = time.Now()
			docker(t, "run", "--rm", "-e", "ARGS=sleep=0s", "boinc_example.org_proj_test_docker_100")
			bare = append(bare, time.Since(begin))
		}
	}
	slices.Sort(walls)
	slices.Sort(cpus)
	slices.Sort(bare)
	limit := max(5600*time.Millisecond, 5*time.Second+2*bare[1])
	t.Logf("start to finish file of 5.0 s of work: %v; CPU of the wrapper: %v; docker run of no work: %v", walls, cpus, bare)
	if got := walls[1]; got > limit {
		t.Errorf("median: got %v, want at most %v", got, limit)
	}
	if got := cpus[1]; got > 60*time.Millisecond {
		t.Errorf("median of the wrapper's CPU time: got %v, want at most 60 ms", got)
	}
}

// Twenty wrappers that are started in the same second with the same Dockerfile build once.
func TestOneBuild(t *testing.T) {
	t.Parallel()
	const n = 20
	dir := t.TempDir()
	worker := []byte(read(t, binary(t, "worker")))
	var clients []*boinctest.Client
	for i := range n {
		c, err := boinctest.New(boinctest.Options{Dir: dir, Slot: i, Init: func(d *boincapi.InitData) {
			d.AppName, d.PlanClass, d.WUName, d.ResultName = "test", "docker", fmt.Sprint("one_build_", i), fmt.Sprintf("one_build_%d_0", i)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		add(t, c, "Dockerfile", dockerfileOf(c, ""))
		add(t, c, "worker", worker)
		clients = append(clients, c)
	}
	defer removeImages(t, dir)
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			if r, err := c.Run(context.WithoutCancel(t.Context()), binary(t, "docker_wrapper"), "sleep=100ms"); err != nil || r.Outcome != boinctest.Success {
				t.Errorf("%s: got %+v, %v\n%s", c.InitData().ResultName, r, err, stderrOf(t, c))
			}
		})
	}
	wg.Wait()
	builds, trials := 0, 0
	for _, c := range clients {
		builds += strings.Count(stderrOf(t, c), "build: done")
		trials += strings.Count(stderrOf(t, c), "tried it out can=true") // a trial that ended too late is repeated
	}
	if builds != 1 || trials > 1 {
		t.Errorf("got %d builds, want 1; %d trials of checkpoints, want 1 at most", builds, trials)
	}
}

// While a job runs, an image that no job has used for a month is removed. The job's own image stays.
func TestUnusedImageGoes(t *testing.T) {
	t.Parallel()
	c := newJob(t, "images_1", "", nil)
	runJob(t, c)
	record := filepath.Join(c.DataDir(), "projects", ".docker_wrapper_images.json")
	text, first := read(t, record), ""
	for _, id := range images(t, job.LabelDataDir, c.DataDir()) { // Podman lists build steps, too
		if strings.Contains(text, id) {
			first = id
		}
	}
	if strings.Count(text, first) != 1 || !strings.HasPrefix(first, "sha256:") {
		t.Fatalf("images %q, noted %s", images(t, job.LabelDataDir, c.DataDir()), text)
	}
	year := time.Now().UTC().Format("2006-")
	aged := strings.ReplaceAll(text, `"`+year, `"2020-`)
	if err := os.WriteFile(record, []byte(aged), 0o644); err != nil {
		t.Fatal(err)
	}
	next, err := boinctest.New(boinctest.Options{Dir: c.DataDir(), Slot: 1, Init: func(d *boincapi.InitData) {
		d.AppName, d.PlanClass, d.WUName, d.ResultName = "other", "docker", "images_2", "images_2_0"
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := next.AddAppFile("Dockerfile_2", "Dockerfile", dockerfileOf(c, "LABEL two=yes\n"),
		boinctest.FileOptions{Copy: true}); err != nil {
		t.Fatal(err)
	}
	add(t, next, "worker", []byte(read(t, binary(t, "worker"))))
	p, err := next.Start(t.Context(), binary(t, "docker_wrapper"), "sleep=30s")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the unused image is removed", func() bool { return !strings.Contains(read(t, record), first) })
	if got := images(t, job.LabelDataDir, c.DataDir()); slices.Contains(got, first) || len(got) == 0 {
		t.Errorf("got images %q, want another than %s", got, first)
	}
	next.Abort()
	p.Wait()
}

// A job that prints every file that it can see never prints the account key, also after the client has rewritten
// init_data.xml.
func TestAccountKeyStaysHidden(t *testing.T) {
	t.Parallel()
	const key = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
	c := newJob(t, "spy", "stdout_file = \"seen\"\nproject_dir_mount = \"/project\"\n", func(d *boincapi.InitData) {
		d.Authenticator, d.UserName, d.TeamName = key, "Jane Volunteer", "Team Volunteers"
		d.ProxyInfo.UseHTTPProxy, d.ProxyInfo.HTTPServerName, d.ProxyInfo.HTTPUserPasswd = true, "proxy.example", "proxypassword"
	})
	p, err := c.Start(t.Context(), binary(t, "docker_wrapper"), "dump", "wait=go_on", "dump")
	if err != nil {
		t.Fatal(err)
	}
	seen := filepath.Join(c.Slot(), "seen")
	payload := filepath.Join(c.Slot(), job.WrapperDir, "payload")
	eventually(t, "the job waits", func() bool { return bytes.Contains(mayRead(seen), []byte("waiting for go_on")) })
	if err := c.WriteInitData(); err != nil {
		t.Fatal(err)
	}
	c.RereadAppInfo()
	if err := os.WriteFile(filepath.Join(payload, "go_on"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); r.Outcome != boinctest.Success {
		t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
	}
	got := read(t, seen)
	if n := strings.Count(got, "<wu_name>spy</wu_name>"); n < 2 {
		t.Errorf("the redacted init_data.xml was seen %d times, want at least 2", n)
	}
	for _, secret := range []string{key, "Jane Volunteer", "Team Volunteers", "proxypassword"} {
		if i := strings.Index(got, secret); i >= 0 {
			t.Errorf("the job saw %q: ...%q", secret, got[max(0, i-200):min(len(got), i+100)])
		}
	}
	if !strings.Contains(read(t, filepath.Join(c.Slot(), boincapi.InitDataFile)), key) {
		t.Error("the client's own init_data.xml was changed")
	}
	cleanAfterwards(t, c, os.Getuid())
}

// Even with every call logged, and whatever fails, the project never gets the proxy's password.
func TestProxyPasswordStaysHidden(t *testing.T) {
	t.Parallel()
	const password = "hush%/hush"
	for _, tt := range []struct{ name, step, config, want string }{
		{"all goes well", `RUN ["/worker", "check"]`, "", "http_proxy is http://***@proxy.example:3128"},
		{"the image would keep it", "ARG http_proxy\nENV THROUGH=$http_proxy", "", "gets this computer's proxy without its password"},
		{"the build fails", `RUN ["/nosuch"]`, "", "/nosuch"},
		{"create fails", "", `create_args = "--cpuset-cpus 4000"`, "create container"},
		{"start fails", "", `entrypoint = ["/nosuch"]`, "start the job's program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, "proxy", func(d *boincapi.InitData) {
				d.ProxyInfo = boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "proxy.example", HTTPServerPort: 3128,
					HTTPUserName: "jane", HTTPUserPasswd: password}
			})
			add(t, c, "Dockerfile", dockerfileOf(c, tt.step+"\n"))
			add(t, c, "worker", []byte(read(t, binary(t, "worker"))))
			add(t, c, "job.toml", []byte("verbose = 2\n"+tt.config))
			r, err := c.Run(t.Context(), binary(t, "docker_wrapper"), "env=http_proxy")
			if err != nil {
				t.Fatal(err)
			}
			said := stderrOf(t, c) + r.Message + r.Reason
			if !strings.Contains(said, tt.want) {
				t.Errorf("got %+v, want %q in\n%s", r, tt.want, said)
			}
			for _, id := range images(t, labelTest, c.DataDir(), "-a") {
				said += docker(t, "history", "--no-trunc", id) + docker(t, "inspect", id)
			}
			if i := strings.Index(said, "hush"); i >= 0 {
				t.Errorf("the password is in ...%q", said[max(0, i-200):min(len(said), i+100)])
			}
			if got := containers(t, c); got != "" {
				t.Errorf("containers left: %s", got)
			}
		})
	}
}

// The wrapper runs as a user who is only in the engine's group. Whoever the container runs as, all files belong to that
// user in the end.
func TestServiceUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("this test changes its user, which only root can")
	}
	const uid = 64321
	var group uint32
	if fi, err := os.Stat("/var/run/docker.sock"); err != nil {
		t.Fatal(err)
	} else {
		group = fi.Sys().(*syscall.Stat_t).Gid
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"auto", "image", "1234:1234"} {
		t.Run(user, func(t *testing.T) {
			c := newJob(t, "service_user", fmt.Sprintf("user = %q\n", user), nil)
			giveTo(t, c.DataDir(), uid)
			if _, err := c.AddOutput(0, "linked", false); err != nil {
				t.Fatal(err)
			}
			if err := os.Lchown(filepath.Join(c.Slot(), "linked"), uid, uid); err != nil {
				t.Fatal(err)
			}
			r, err := c.Run(t.Context(), setpriv, fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), fmt.Sprintf("--groups=%d", group),
				binary(t, "docker_wrapper"), "write=out", "write=linked", "mkdir=dir/sub", "write=dir/sub/file")
			if err != nil || r.Outcome != boinctest.Success {
				t.Fatalf("got %+v, %v\n%s", r, err, stderrOf(t, c))
			}
			for _, name := range []string{"out", "dir", "dir/sub", "dir/sub/file", "boinc_finish_called"} {
				fi, err := os.Stat(filepath.Join(c.Slot(), name))
				if err != nil {
					t.Fatalf("%v\n%s", err, stderrOf(t, c))
				}
				if got := fi.Sys().(*syscall.Stat_t).Uid; got != uid {
					t.Errorf("%s is owned by user %d, want %d", name, got, uid)
				}
			}
			if got := string(mayRead(filepath.Join(c.ProjectDir(), "service_user_0_r123_0"))); got != "linked\n" {
				t.Errorf("the linked output: got %q", got)
			}
			if got := containers(t, c); got != "" {
				t.Errorf("containers left: %s", got)
			}
		})
	}
}

// giveTo gives a data directory to a user, and lets everyone enter the directories above it.
func giveTo(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, fi.Mode()|0o011); err != nil {
			t.Fatal(err)
		}
	}
}

// The client quits and comes back. The container is taken over, and its program has started once.
func TestQuitAndComeBack(t *testing.T) {
	t.Parallel()
	c := newJob(t, "quit", "checkpoint.method = \"none\"\n", nil) // a restored checkpoint would lack the file that this test adds to the payload
	p, err := c.Start(t.Context(), binary(t, "docker_wrapper"), "append=began", "wait=go_on", "exit=3")
	if err != nil {
		t.Fatal(err)
	}
	payload := filepath.Join(c.Slot(), job.WrapperDir, "payload")
	eventually(t, "the job began", func() bool { return len(mayRead(filepath.Join(payload, "began"))) > 0 })
	c.Quit()
	if r := p.Wait(); r.ExitCode != 0 || r.FinishCode != -1 {
		t.Fatalf("quit: got %+v, want exit code 0 and no finish file\n%s", r, stderrOf(t, c))
	}
	if got := docker(t, "ps", "-a", "--format", "{{.State}}", "--filter", "label="+job.LabelDataDir+"="+c.DataDir()); got != "paused" && !stands(t, c) {
		t.Errorf("after quit the container is %q, want paused", got)
	}
	if p, err = c.Start(t.Context(), binary(t, "docker_wrapper"), "append=began", "wait=go_on", "exit=3"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(payload, "go_on"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); r.ExitCode != 3 || r.FinishCode != 3 {
		t.Fatalf("got %+v, want exit and finish code 3\n%s", r, stderrOf(t, c))
	}
	if got := read(t, filepath.Join(c.Slot(), "began")); got != "began\n" {
		t.Errorf("the payload began %d times, want once", strings.Count(got, "\n"))
	}
	cleanAfterwards(t, c, os.Getuid())
}

// stands reports whether all processes of a container are stopped or frozen, although its engine reports it as running.
// So it is with a Podman without control groups.
func stands(t *testing.T, c *boinctest.Client) bool {
	t.Helper()
	if !strings.Contains(stderrOf(t, c), "this engine can't pause the container") {
		return false
	}
	states := strings.Fields(docker(t, "top", containers(t, c), "state"))
	return len(states) > 1 && !slices.ContainsFunc(states[1:], func(s string) bool { return s != "T" && s != "D" })
}

// A job in a container sends trickle-ups, receives a trickle-down, has an output uploaded before its end, and receives the
// result of the upload. It writes the output under its logical name or in the mounted project directory.
func TestMail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, config, first, out string }{
		{"slot", "", "sleep=0s", "out"},
		{"project", "project_dir_mount = \"/app/project\"\n", "sleep=0s", "project/mail_project_0_r123_0"},
		{"another user", "user = \"1234:1234\"\n", "remove=out", "out"}, // the link file belongs to another user
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newJob(t, "mail_"+strings.ReplaceAll(tt.name, " ", "_"), tt.config, nil)
			out, err := c.AddOutput(0, "out", false)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.Start(t.Context(), binary(t, "docker_wrapper"), "trickle=1", "gone=trickle_up.xml", "trickle=2", "gone=trickle_up.xml",
				tt.first, "append="+tt.out, "upload=out", "wait=boinc_ufs_out", "gone=boinc_ufr_out", "wait=trickle_down_*", "append="+tt.out, "trickle=3")
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Log(stderrOf(t, c))
				}
			}()
			eventually(t, "a request to upload", func() bool { return slices.Contains(c.Uploads(), "out") })
			part := tt.out + "\n"
			if got := read(t, out); got != part {
				t.Errorf("what the client uploads: got %q, want %q", got, part)
			}
			if err := errors.Join(c.UploadDone("out", 1), c.TrickleDown("well done")); err != nil {
				t.Fatal(err)
			}
			if r := p.Wait(); r.Outcome != boinctest.Success {
				t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
			}
			said := func(n string) string { return "<variety>worker</variety>\n<said>" + n + "</said>\n" }
			if got, want := c.Trickles(), []string{said("1"), said("2"), said("3")}; !slices.Equal(got, want) {
				t.Errorf("trickle-ups: got %q, want %q", got, want)
			}
			if got := read(t, out); got != part+part {
				t.Errorf("output at the end: got %q, want %q", got, part+part)
			}
			stderr := stderrOf(t, c)
			for _, want := range []string{"boinc_ufs_out: <status>1< /status>", ": well done"} {
				if !strings.Contains(stderr, want) {
					t.Errorf("the job did not see %q:\n%s", want, stderr)
				}
			}
			if strings.Contains(strings.ReplaceAll(stderr, "WARN: this engine doesn't limit", ""), "WARN") { // that warning is about the engine
				t.Errorf("a warning:\n%s", stderr)
			}
			cleanAfterwards(t, c, os.Getuid())
		})
	}
}

// Each episode reports the URL of the web graphics: a restarted client has forgotten it, and a restarted container has
// another port.
func TestWebGraphics(t *testing.T) {
	t.Parallel()
	for _, quit := range []string{"pause", "stop"} {
		t.Run(quit, func(t *testing.T) {
			t.Parallel()
			c := newJob(t, "graphics_"+quit, "web_graphics_guest_port = 8080\nstop_timeout = 1\non_quit = \""+quit+"\"\n", nil)
			page := func(url string) bool {
				r, err := http.Get(url)
				if err != nil {
					return false
				}
				defer r.Body.Close()
				text, err := io.ReadAll(r.Body)
				return err == nil && string(text) == "graphics\n"
			}
			var said []string
			for range 2 {
				// A new client with the same directories, as after a restart.
				again, err := boinctest.New(boinctest.Options{Dir: c.DataDir(), Init: func(d *boincapi.InitData) { *d = c.InitData() }})
				if err != nil {
					t.Fatal(err)
				}
				p, err := again.Start(t.Context(), binary(t, "docker_wrapper"), "serve=8080", "wait=go_on")
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, "web graphics", func() bool { return again.WebGraphicsURL() != "" && page(again.WebGraphicsURL()) })
				said = append(said, again.WebGraphicsURL())
				if len(said) == 2 {
					write := filepath.Join(c.Slot(), job.WrapperDir, "payload", "go_on")
					if err := os.WriteFile(write, nil, 0o644); err != nil {
						t.Fatal(err)
					}
				} else {
					again.Quit()
				}
				if r := p.Wait(); r.ExitCode != 0 {
					t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
				}
				again.Close()
			}
			t.Logf("reported: %q", said)
			cleanAfterwards(t, c, os.Getuid())
		})
	}
}

// A client that throttles suspends and resumes the job each second. The job runs half of the time, its CPU time is
// reported correctly, and the wrapper uses little CPU time.
func TestThrottled(t *testing.T) {
	const burnt = 10 * time.Second
	c := newJob(t, "throttled", "", nil)
	p, err := c.Start(t.Context(), binary(t, "docker_wrapper"), "append=began", "burn="+burnt.String())
	if err != nil {
		t.Fatal(err)
	}
	began := filepath.Join(c.Slot(), job.WrapperDir, "payload", "began")
	eventually(t, "the job began", func() bool { return len(mayRead(began)) > 0 })
	start := time.Now()
	over := make(chan boinctest.Result, 1)
	go func() { over <- p.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	rounds := 0
	for ; ; rounds++ {
		if rounds%2 == 0 {
			c.Suspend()
		} else {
			c.Resume()
		}
		select {
		case <-tick.C:
			continue
		case r := <-over:
			if r.Outcome != boinctest.Success {
				t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
			}
		case <-time.After(3 * time.Minute):
			t.Fatal("it doesn't end")
		}
		break
	}
	took := time.Since(start)
	share := burnt.Seconds() / took.Seconds()
	t.Logf("%v of CPU time in %v (%.0f %%), %d messages; reported %.2f s; CPU time of the wrapper %v", burnt, took, 100*share, rounds, c.Last().CPU, p.CPU())
	if share > 0.6 {
		t.Errorf("the job ran %.0f %% of the time, want about half", 100*share)
	}
	if got := c.Last().CPU; got < 0.95*burnt.Seconds() || got > 1.1*burnt.Seconds() {
		t.Errorf("reported CPU time: got %.2f s, want %v", got, burnt)
	}
	if limit := 60*time.Millisecond + time.Duration(rounds)*10*time.Millisecond; p.CPU() > limit {
		t.Errorf("CPU time of the wrapper: got %v, want at most %v", p.CPU(), limit)
	}
	if got := read(t, filepath.Join(c.Slot(), "began")); got != "began\n" {
		t.Errorf("the payload began %d times, want once\n%s", strings.Count(got, "\n"), stderrOf(t, c))
	}
	cleanAfterwards(t, c, os.Getuid())
}

// The file of stdout_file is complete, however fast the job prints. It may be the job's result.
func TestFastOutputIsWhole(t *testing.T) {
	t.Parallel()
	const lines = 500_000
	c := newJob(t, "fast_output", "stdout_file = \"out\"\n", nil)
	runJob(t, c, fmt.Sprintf("count=%d", lines))
	want := &strings.Builder{}
	for i := range lines {
		fmt.Fprintln(want, i, strings.Repeat("x", 90))
	}
	got := read(t, filepath.Join(c.Slot(), "out"))
	if got != want.String() {
		t.Errorf("got %d lines, %d bytes, want %d lines, %d bytes, in order", strings.Count(got, "\n"), len(got), lines, want.Len())
	}
}

// A workunit's command line goes to the job unchanged. It can't call the wrapper's internal commands.
func TestCommandLineIsTheJobs(t *testing.T) {
	t.Parallel()
	victim := t.TempDir()
	if err := os.Chmod(victim, 0o755); err != nil {
		t.Fatal(err)
	}
	c := newJob(t, "command_line", "", nil)
	c2, err := c.Run(t.Context(), binary(t, "docker_wrapper"), "--own-files", "64399:64399", victim)
	if err != nil {
		t.Fatal(err)
	}
	if c2.FinishCode != 99 { // the worker fails, because it has no such step
		t.Errorf("got %+v, want the worker's code 99\n%s", c2, stderrOf(t, c))
	}
	fi, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Sys().(*syscall.Stat_t).Uid; int(got) != os.Getuid() {
		t.Errorf("the directory belongs to user %d now", got)
	}
}

// The HEALTHCHECK of an image is not run, neither in the job's container nor, as root, in the helper's.
func TestNoHealthcheckRuns(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("this test changes its user, which only root can")
	}
	const uid = 64321
	c := newJob(t, "healthcheck", "user = \"0:0\"\n", nil)
	add(t, c, "Dockerfile", dockerfileOf(c, "HEALTHCHECK --interval=1ms CMD [\"/worker\", \"check\"]\n"))
	if err := os.WriteFile(filepath.Join(c.Slot(), "Dockerfile"), []byte(read(t, filepath.Join(c.ProjectDir(), "Dockerfile_1"))), 0o644); err != nil {
		t.Fatal(err)
	}
	giveTo(t, c.DataDir(), uid)
	fi, err := os.Stat("/var/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Run(t.Context(), "/usr/bin/setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid),
		fmt.Sprintf("--groups=%d", fi.Sys().(*syscall.Stat_t).Gid), binary(t, "docker_wrapper"), "mkdir=d", "write=d/f", "sleep=500ms")
	if err != nil || r.Outcome != boinctest.Success {
		t.Fatalf("got %+v, %v\n%s", r, err, stderrOf(t, c))
	}
	if _, err := os.Lstat(filepath.Join(c.Slot(), "checked")); err == nil {
		t.Error("the image's HEALTHCHECK was run")
	}
	if fi, err = os.Stat(filepath.Join(c.Slot(), "d", "f")); err != nil || fi.Sys().(*syscall.Stat_t).Uid != uid {
		t.Errorf("the job's file: got %v, %v, want it to belong to user %d", fi, err, uid)
	}
}
