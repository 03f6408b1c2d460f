//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
)

// suite is all tests, and what is removed after them.
type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	cleanUp()
	return code
}

var cleanUp = func() {}

// Between a fake client and a fake engine the real program runs, as a process of its own.
func TestMain(m *testing.M) {
	run := func() {
		p := program{stdout: os.Stdout, stderr: os.Stderr, patience: 300 * time.Millisecond, lockRetry: -1, listGPUs: gpu.List}
		if name := os.Getenv("TEST_GPUS"); name != "" {
			p.listGPUs = func() (gpus []job.GPU, err error) {
				data, err := os.ReadFile(name)
				if err == nil {
					err = json.Unmarshal(data, &gpus)
				}
				return gpus, err
			}
		}
		if id, err := strconv.Atoi(os.Getenv("TEST_UID")); err == nil {
			if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(id), syscall.Setuid(id)); err != nil {
				panic(err)
			}
		}
		p.exit()
	}
	// In a container the program has another name, where it helps the one outside.
	helper := func() {
		os.Args[0] = engine.HelperPath // which testscript cuts
		run()
	}
	testscript.Main(suite{m}, map[string]func(){"docker_wrapper": run, filepath.Base(engine.HelperPath): helper})
}

// limit is how long a condition is waited for.
const limit = 20 * time.Second

// gorace is an option of the race detector, which else lets each process sleep for a second at its end.
const gorace = "atexit_sleep_ms=0"

// bench is one program under test with what stands on both sides of it.
type bench struct {
	dir     string // its sub-directories app and in hold the files of the app version and of the job
	engine  *enginetest.Engine
	uid     int               // 0 for ours
	waiter  *exec.Cmd         // stands for the client where its death is played
	client  *boinctest.Client // nil until it is needed
	process *boinctest.Process
	change  func(*boincapi.InitData)
	gpus    string // file with this computer's, JSON; "" for those which it has
	lastly  string // shell, run in the slot just before the program
}

func newBench(dir string, o enginetest.Options) (*bench, error) {
	e, err := enginetest.New(o)
	return &bench{dir: dir, engine: e}, err
}

func (b *bench) close() error {
	if b.process != nil {
		syscall.Kill(b.process.PID, syscall.SIGKILL) // it may be gone
		b.process.Wait()
	}
	if b.waiter != nil {
		b.waiter.Process.Kill() // likewise
		b.waiter.Wait()
	}
	err := b.engine.Close()
	if b.client != nil {
		err = errors.Join(err, b.client.Close())
	}
	return err
}

func (b *bench) data() string    { return filepath.Join(b.dir, "boinc") }
func (b *bench) slot() string    { return filepath.Join(b.data(), "slots", "0") }
func (b *bench) project() string { return filepath.Join(b.data(), "projects", "example.org_proj") }

// open makes slot and project directory: app/F is a file of the app version, in/F one of the job's, each linked,
// and slot/F a copied one of the job's.
func (b *bench) open() error {
	if b.client != nil {
		return nil
	}
	pid := 0
	if b.waiter != nil {
		pid = b.waiter.Process.Pid
	}
	var err error
	b.client, err = boinctest.New(boinctest.Options{Dir: b.data(), Poll: 20 * time.Millisecond, ClientPID: pid, Init: b.change})
	if err != nil {
		return err
	}
	for _, kind := range []string{"app", "in", "slot"} {
		root := filepath.Join(b.dir, kind)
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			logical, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			physical := kind + "_" + filepath.Base(name)
			return b.client.AddAppFile(physical, logical, data, boinctest.FileOptions{Copy: kind == "slot", NotSigned: kind != "app"})
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	program, err := exec.LookPath("docker_wrapper")
	if err != nil {
		return err
	}
	launcher := fmt.Sprintf("#!/bin/sh\nDOCKER_HOST=%s HOME=/nonexistent GORACE=%s; export DOCKER_HOST HOME GORACE\n", b.engine.Host(), gorace)
	if b.uid != 0 {
		launcher += fmt.Sprintf("TEST_UID=%d; export TEST_UID\n", b.uid)
	}
	if b.gpus != "" {
		launcher += fmt.Sprintf("TEST_GPUS=%s; export TEST_GPUS\n", b.gpus)
	}
	launcher += b.lastly + "\n"
	launcher += fmt.Sprintf("exec %s \"$@\"\n", program)
	return os.WriteFile(filepath.Join(b.project(), "docker_wrapper"), []byte(launcher), 0o755)
}

// start begins an episode.
func (b *bench) start(args ...string) (err error) {
	if err := b.open(); err != nil {
		return err
	}
	b.process, err = b.client.Start(context.Background(), filepath.Join(b.project(), "docker_wrapper"), args...)
	return err
}

// end waits for the program's end.
func (b *bench) end() (boinctest.Result, error) {
	over := make(chan boinctest.Result, 1)
	p := b.process
	go func() { over <- p.Wait() }()
	select {
	case r := <-over:
		b.process = nil
		return r, nil
	case <-time.After(limit):
		return boinctest.Result{}, errors.New("the program doesn't end")
	}
}

// deny lets only a group use the engine that nobody of the test belongs to, and runs the program as somebody
// who is no root.
func (b *bench) deny() error {
	socket := b.engine.Socket()
	if os.Getuid() != 0 {
		return os.Chmod(socket, 0)
	}
	group, err := user.LookupGroup("daemon")
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	program, err := exec.LookPath("docker_wrapper")
	if err != nil {
		return err
	}
	const nobody = 65534
	b.uid = nobody
	if err := b.open(); err != nil {
		return err
	}
	err = errors.Join(os.Chown(socket, 0, gid), os.Chmod(socket, 0o660))
	for _, name := range []string{program, b.data()} {
		for dir := filepath.Dir(name); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			err = errors.Join(err, os.Chmod(dir, 0o755))
		}
	}
	return errors.Join(err, filepath.WalkDir(b.data(), func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, nobody, nobody))
	}))
}

// await polls, for things that nobody tells of.
func await(what string, done func() bool) error {
	if !every(10*time.Millisecond, limit, done) {
		return fmt.Errorf("waited in vain for %s", what)
	}
	return nil
}

func TestScripts(t *testing.T) {
	type key struct{}
	of := func(ts *testscript.TestScript) *bench { return ts.Value(key{}).(*bench) }
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			b, err := newBench(env.WorkDir, engineOf(filepath.Base(env.WorkDir)))
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := b.close(); err != nil {
					t.Error(err)
				}
			})
			env.Values[key{}] = b
			env.Setenv("DOCKER_HOST", b.engine.Host())
			env.Setenv("GORACE", gorace)
			env.Setenv("SLOT", b.slot())
			env.Setenv("PROJECT", b.project())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"boinc":  func(ts *testscript.TestScript, neg bool, args []string) { check(ts, neg, of(ts).boinc(args)) },
			"engine": func(ts *testscript.TestScript, neg bool, args []string) { check(ts, neg, of(ts).tellEngine(args)) },
			"file":   func(ts *testscript.TestScript, neg bool, args []string) { check(ts, neg, awaitFile(ts, args)) },
			"big":    func(ts *testscript.TestScript, neg bool, args []string) { check(ts, neg, isBig(ts, args)) },
		},
	})
}

// engineOf is the engine of a script: its name may say which.
func engineOf(script string) enginetest.Options {
	switch {
	case strings.HasSuffix(script, "_podman_4"):
		return enginetest.Options{Podman: true, Version: "4.3.1"}
	case strings.HasSuffix(script, "_podman_5"):
		return enginetest.Options{Podman: true, Version: "5.8.6"}
	case strings.HasSuffix(script, "_rootless"):
		return enginetest.Options{Rootless: true}
	default:
		return enginetest.Options{BuildKit: true}
	}
}

func check(ts *testscript.TestScript, neg bool, err error) {
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("unexpectedly so")
	}
}

// awaitFile is "file NAME REGEXP": wait until it holds that.
func awaitFile(ts *testscript.TestScript, args []string) error {
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	name := ts.MkAbs(args[0])
	err = await(args[0]+" with "+args[1], func() bool {
		data, err := os.ReadFile(name)
		return err == nil && re.Match(data)
	})
	if data, readErr := os.ReadFile(name); err != nil && readErr == nil {
		return fmt.Errorf("%w:\n%s", err, data)
	}
	return err
}

// isBig is "big NAME BYTES": the file has more.
func isBig(ts *testscript.TestScript, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	fi, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if fi.Size() <= n {
		return fmt.Errorf("%s has %d bytes", args[0], fi.Size())
	}
	return nil
}

// boinc is the client's side:
//
//	boinc start [ARGS]        begin an episode
//	boinc suspend, resume, quit, abort, reread
//	boinc lost                the client is dead ("boinc mortal" comes before the first start)
//	boinc kill                SIGKILL for the program
//	boinc hangup              SIGHUP for the program
//	boinc set KEY VALUE       of init_data.xml
//	boinc gpus FILE           the GPUs of this computer are those of the file, JSON
//	boinc output NAME ...     the slot has a link for each of these outputs
//	boinc offline, online     network activity is suspended, or not any more
//	boinc next                the job is done, the slot is the next one's
//	boinc later DAYS          all images were used so many days ago
//	boinc fraction X          wait until this fraction is reported
//	boinc checkpoint N        wait until N checkpoints were reported in this episode
//	boinc trickled REGEXP     wait until the trickle-up messages, each in [], are so
//	boinc trickle TEXT        a trickle-down message
//	boinc asked NAME          wait until the client is asked to upload this output
//	boinc uploaded NAME N     its upload has ended with this status
//	boinc sporadic N          wait until the job says this
//	boinc url REGEXP          wait until the web graphics are there
//	boinc outcome KIND [CODE OR DELAY [REGEXP]]
//	                          wait for the end; the expression is for the message or reason
func (b *bench) boinc(args []string) error {
	rest := append(args[1:], "", "", "")
	switch args[0] {
	case "start":
		return b.start(args[1:]...)
	case "gpus":
		b.gpus = filepath.Join(b.dir, rest[0])
		return nil
	case "mortal":
		b.waiter = exec.Command("sleep", "1000")
		return b.waiter.Start()
	case "lost":
		b.client.SetHeartbeat(false)
		return errors.Join(b.waiter.Process.Kill(), ignoreExit(b.waiter.Wait()))
	case "hangup":
		return syscall.Kill(b.process.PID, syscall.SIGHUP)
	case "kill":
		if err := syscall.Kill(b.process.PID, syscall.SIGKILL); err != nil {
			return err
		}
		_, err := b.end()
		return err
	case "set":
		if err := b.open(); err != nil {
			return err
		}
		return b.set(rest[0], rest[1])
	case "output":
		if err := b.open(); err != nil {
			return err
		}
		var errs []error
		for n, logical := range rest {
			if logical == "" { // no more of them
				break
			}
			_, err := b.client.AddOutput(n, logical, false)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	case "next":
		return b.next()
	case "later":
		days, err := strconv.Atoi(rest[0])
		return errors.Join(err, b.later(days))
	case "fraction":
		x, err := strconv.ParseFloat(rest[0], 64)
		if err != nil {
			return err
		}
		return await("fraction "+rest[0], func() bool { return b.client.Last().Fraction == x })
	case "trickled":
		re, err := regexp.Compile(rest[0])
		if err != nil {
			return err
		}
		got := func() string { return fmt.Sprintf("%q", b.client.Trickles()) }
		if err := await("trickle-ups "+rest[0], func() bool { return re.MatchString(got()) }); err != nil {
			return fmt.Errorf("%w: got %s", err, got())
		}
		return nil
	case "trickle":
		return b.client.TrickleDown(rest[0])
	case "asked":
		return await("a request to upload "+rest[0], func() bool { return slices.Contains(b.client.Uploads(), rest[0]) })
	case "uploaded":
		n, err := strconv.Atoi(rest[1])
		return errors.Join(err, b.client.UploadDone(rest[0], n))
	case "sporadic":
		return await("the job's "+rest[0], func() bool { return strconv.Itoa(b.client.Last().SporadicAC) == rest[0] })
	case "url":
		re, err := regexp.Compile(rest[0])
		if err != nil {
			return err
		}
		return await("web graphics at "+rest[0], func() bool { return re.MatchString(b.client.WebGraphicsURL()) })
	case "checkpoint":
		n, err := strconv.Atoi(rest[0])
		if err != nil {
			return err
		}
		return await("checkpoint "+rest[0], func() bool { return b.client.Last().Checkpoints >= n })
	case "reread":
		if err := b.client.WriteInitData(); err != nil {
			return err
		}
		b.client.RereadAppInfo()
		return nil
	case "outcome":
		r, err := b.end()
		if err != nil {
			return err
		}
		return judge(r, rest[0], rest[1], rest[2])
	}
	orders := map[string]func(){
		"offline": func() { b.client.SetNetworkSuspended(true) }, "online": func() { b.client.SetNetworkSuspended(false) },
		"suspend": b.client.Suspend, "resume": b.client.Resume, "quit": b.client.Quit,
		"abort": b.client.Abort}
	if err := b.open(); err != nil {
		return err
	}
	do, ok := orders[args[0]]
	if !ok {
		return fmt.Errorf("boinc %s: no such order", args[0])
	}
	do()
	return nil
}

func ignoreExit(err error) error {
	var x *exec.ExitError
	if errors.As(err, &x) {
		return nil
	}
	return err
}

func (b *bench) set(key, value string) error {
	number, err := strconv.ParseFloat(cmp.Or(value, "0"), 64)
	b.client.SetInitData(func(d *boincapi.InitData) {
		switch key {
		case "plan_class":
			d.PlanClass, err = value, nil
		case "result":
			d.ResultName, err = value, nil
		case "boinc_dir":
			d.BoincDir, err = value, nil
		case "project_dir":
			d.ProjectDir, err = value, nil
		case "workunit":
			d.WUName, err = value, nil
		case "authenticator":
			d.Authenticator, err = value, nil
		case "proxy": // http://USER:PASSWORD@HOST:PORT
			var u *url.URL
			if u, err = url.Parse(value); err != nil {
				return
			}
			password, _ := u.User.Password()
			d.ProxyInfo = boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: u.User != nil, HTTPServerName: u.Hostname(),
				HTTPUserName: u.User.Username(), HTTPUserPasswd: password}
			d.ProxyInfo.HTTPServerPort, err = strconv.Atoi(u.Port())
		case "gpu_type":
			d.GPUType, err = value, nil
		case "gpu_device_num":
			d.GPUDeviceNum = int(number)
		case "gpu_usage":
			d.GPUUsage = number
		case "gpu_at": // addresses of those which the client uses, in the order of its numbers
			c := boincapi.Coproc{Tag: "coproc_cuda"}
			for at := range strings.FieldsSeq(value) {
				var p boincapi.PCIInfo
				if _, err = fmt.Sscanf(at, "%x:%x:%x.0", &p.DomainID, &p.BusID, &p.DeviceID); err != nil {
					return
				}
				c.PCI = append(c.PCI, p)
			}
			c.Count, d.HostInfo.Coprocs, err = len(c.PCI), []boincapi.Coproc{c}, nil
		case "memory":
			d.RscMemoryBound = number
		case "disk":
			d.RscDiskBound = number
		default:
			err = fmt.Errorf("boinc set %s: no such key", key)
		}
	})
	return err
}

// next gives the slot to the next job of the same app version.
func (b *bench) next() error {
	slot := b.slot()
	b.client.SetInitData(func(d *boincapi.InitData) { d.WUName, d.ResultName = d.WUName+"x", d.WUName+"x_0" })
	return errors.Join(os.Remove(filepath.Join(slot, boincapi.FinishFileName)), os.RemoveAll(filepath.Join(slot, ".docker_wrapper")),
		os.Remove(filepath.Join(slot, boincapi.StderrFile)))
}

// later turns back what the record of images says of time.
func (b *bench) later(days int) error {
	name := filepath.Join(b.data(), "projects", ".docker_wrapper_images.json")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	data = regexp.MustCompile(`[0-9-]+T[0-9:]+Z`).ReplaceAllFunc(data, func(text []byte) []byte {
		at, parseErr := time.Parse(time.RFC3339, string(text))
		err = errors.Join(err, parseErr)
		return []byte(at.AddDate(0, 0, -days).Format(time.RFC3339))
	})
	return errors.Join(err, os.WriteFile(name, data, 0o644))
}

// judge compares an end with the one that is wanted.
func judge(r boinctest.Result, kind, number, text string) error {
	said := r.Message
	got := r.FinishCode
	if r.Outcome == boinctest.TemporaryExit {
		said, got = r.Reason, int(r.Delay.Seconds())
	} else if r.Outcome != boinctest.Error && r.Outcome != boinctest.Success {
		got = r.ExitCode
	} else if r.FinishCode != r.ExitCode {
		return fmt.Errorf("exit code %d, and in boinc_finish_called %d", r.ExitCode, r.FinishCode)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return err
	}
	if r.Outcome.String() != kind || number != "" && strconv.Itoa(got) != number || !re.MatchString(said) {
		return fmt.Errorf("got %v %d %q, want %s %s %q", r.Outcome, got, said, kind, number, text)
	}
	return nil
}

// tellEngine is the engine's side:
//
//	engine wait CALL [N]      until N calls came, 1 unless said
//	engine did CALL [N]       that many calls came; one or more unless said
//	engine state STATE        wait until the newest container is in this state; "" for gone
//	engine request REGEXP     the last create request, JSON
//	engine release [NAME]     programs that hold go on
//	engine fault CALL STATUS MESSAGE [TIMES]   (STATUS may be stream, cut, hang or lost)
//	engine mend, down, up, deny
//	engine stop CODE          it goes down, and its containers end with this code
//	engine remove, pause, unpause, halt   somebody else does that to the newest container
//	engine image NAME [STEPS], publish NAME [STEPS], forget NAME
//	engine has NAME           an image of this name is there
//	engine gpus NAME=FILE,... which GPUs it can give, by UUID or CDI's name, and their device files
//	engine node PATH ANSWER   what comes of opening this file in a container
func (b *bench) tellEngine(args []string) error {
	e := b.engine
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	rest := append(args[1:], "", "", "")
	n, err := strconv.Atoi(cmp.Or(rest[1], "1"))
	switch args[0] {
	case "wait":
		return errors.Join(err, e.Await(ctx, rest[0], n))
	case "did":
		if got := e.Count(rest[0]); got < n || rest[1] != "" && got != n {
			return fmt.Errorf("%d calls of %s, want %d", got, rest[0], n)
		}
		return err
	case "state":
		return e.AwaitState(ctx, "", rest[0])
	case "request":
		re, err := regexp.Compile(rest[0])
		if err != nil {
			return err
		}
		if body := b.lastRequest(); !re.Match(body) {
			return fmt.Errorf("not in the request: %s", body)
		}
	case "release":
		e.Release(rest[0])
	case "fault":
		f := enginetest.Fault{Call: rest[0], Message: rest[2], Stream: rest[1] == "stream", Cut: rest[1] == "cut",
			Hang: rest[1] == "hang", After: rest[1] == "lost"}
		if !f.Stream && !f.Cut && !f.Hang && !f.After {
			f.Status = n
		} else {
			err = nil
		}
		if len(args) > 4 {
			f.Times, err = strconv.Atoi(args[4])
		}
		e.Inject(f)
		return err
	case "mend":
		e.Mend()
	case "down":
		e.Down()
	case "up":
		return e.Up()
	case "stop":
		code, err := strconv.Atoi(rest[0])
		e.Stop(code)
		return err
	case "remove", "pause", "unpause":
		return e.Meddle(args[0])
	case "halt":
		return e.Meddle("stop")
	case "deny":
		return b.deny()
	case "image":
		return e.AddImage(rest[0], enginetest.Image{Command: args[2:]})
	case "publish":
		return e.Publish(rest[0], enginetest.Image{Command: args[2:]})
	case "forget":
		e.RemoveImage(rest[0])
	case "gpus":
		files := map[string][]string{}
		for _, a := range args[1:] {
			i := strings.LastIndex(a, "=")
			files[a[:i]] = strings.Split(a[i+1:], ",")
		}
		e.GPUs(files)
	case "node":
		e.Answer(rest[0], rest[1])
	case "has":
		if !slices.Contains(e.Images(), rest[0]) {
			return fmt.Errorf("images %q", e.Images())
		}
	default:
		return fmt.Errorf("engine %s: no such order", args[0])
	}
	return nil
}

func (b *bench) lastRequest() []byte {
	for _, c := range slices.Backward(b.engine.Calls()) {
		if c.Name == "create" {
			return c.Body
		}
	}
	return nil
}

// leftovers lists what an ended job must not leave: containers, a payload, half-written files.
func (b *bench) leftovers() ([]string, error) {
	found := b.engine.Containers()
	err := filepath.WalkDir(b.data(), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside := strings.Contains(name, "/.docker_wrapper/payload")
		if inside || strings.HasSuffix(name, ".part") || strings.HasSuffix(name, "/.docker_wrapper/temp") {
			found = append(found, name)
		}
		return nil
	})
	return found, err
}

const plainDockerfile = "FROM scratch\nCMD [\"print hello\"]\n"

type files map[string]string // below the bench's directory; app/Dockerfile is there unless it is "none"

// Whatever is wrong: one sentence that says what to do, the ending that fits whose fault it is, and nothing left.
func TestBadInput(t *testing.T) {
	t.Parallel()
	program := func(config string) files { return files{"app/job.toml": config} }
	dockerfile := func(text string) files { return files{"app/Dockerfile": text} }
	fault := func(call string, status int, message string) func(*bench) error {
		return func(b *bench) error {
			b.engine.Inject(enginetest.Fault{Call: call, Status: status, Stream: status == 0, Message: message})
			return nil
		}
	}
	const (
		failed = "Error"
		later  = "TemporaryExit"
	)
	tests := []struct {
		name   string
		files  files
		args   []string
		before func(*bench) error
		broken string // shell, run in the slot just before the program
		kind   string
		number int
		says   string // in message or reason
		taken  int    // containers that aren't the job's
		stderr string // in stderr.txt, besides
	}{
		// job.toml
		{name: "no Dockerfile and no image", files: files{"app/Dockerfile": "none"}, kind: failed, number: 206,
			says: "^Dockerfile: no such file in the slot, and job.toml names no image \\(add a Dockerfile, or "},
		{name: "a config file that isn't there", args: []string{"--config", "other.toml"}, kind: failed, number: 206,
			says: "^other.toml: no such file or directory \\(it is named by --config\\)"},
		{name: "a flag without its value", args: []string{"--dockerfile"}, kind: failed, number: 206,
			says: "^command line: --dockerfile: want a file name after it"},
		{name: "broken TOML", files: program("use_gpu = true\nworkdir = /app\n"), kind: failed, number: 206, says: "^job.toml:2:"},
		{name: "a key given twice", files: program("workdir = '/a'\nworkdir = '/b'\n"), kind: failed, number: 206, says: "^job.toml:2:.*workdir"},
		{name: "wrong type", files: program("use_gpu = 'yes'"), kind: failed, number: 206, says: "^job.toml:1:11: use_gpu: want a bool, got a string \\(write true\\)"},
		{name: "a negative time limit", files: program("time_limit = -1"), kind: failed, number: 206, says: "^job.toml:1:14: time_limit: "},
		{name: "a relative mount point", files: program("slot_dir_mount = 'app'"), kind: failed, number: 206, says: "^job.toml:1:18: slot_dir_mount: .*absolute"},
		{name: "a dst outside the container's root", files: program("copy_to_container = [{src = 'in', dst = '/../../etc'}]"), kind: failed, number: 206,
			says: `^job.toml:1:\d+: copy_to_container.*: .*\.\.`},
		{name: "a src outside the slot", files: program("copy_to_container = [{src = '../../x', dst = '/x'}]"), kind: failed, number: 206,
			says: `^job.toml:1:\d+: copy_to_container.*: .*\.\.`},
		{name: "an output outside the slot", files: program("copy_from_container = [{src = '/x', dst = 'a/../../x'}]"), kind: failed, number: 206,
			says: `^job.toml:1:\d+: copy_from_container.*: .*\.\.`},
		{name: "an output under a name of BOINC's", files: program("copy_from_container = [{src = '/x', dst = 'init_data.xml'}]"), kind: failed, number: 206,
			says: `^job.toml:1:\d+: copy_from_container.*init_data.xml`},
		{name: "a stdout file outside the slot", files: program("stdout_file = '../x'"), kind: failed, number: 206, says: `^job.toml:1:15: stdout_file: `},
		{name: "a port that is none", files: program("portmap = ['http:80']"), kind: failed, number: 206, says: "^job.toml:1:12: portmap: "},
		{name: "an option that isn't supported", files: program("create_args = '--frobnicate'"), kind: failed, number: 206, says: "^job.toml:1:\\d+: create_args: .*--frobnicate"},
		{name: "an option that the owner doesn't allow", files: program("create_args = '--privileged'"), kind: later, number: 1800,
			says: "^job.toml:1:\\d+: create_args: --privileged isn't allowed on this computer \\(its owner can allow it: write the line privileged = true into /.*/docker_wrapper.toml\\)$"},
		{name: "a mount asked for by a file that isn't signed", files: files{"in/job.toml": "mount = ['/data:/data']"}, kind: failed, number: 206,
			says: "^job.toml:1:\\d+: mount: .*isn't signed"},
		{name: "a build option that isn't supported", files: program("build_args = '--squash'"), kind: failed, number: 206, says: "^job.toml:1:\\d+: build_args: .*--squash"},
		{name: "a GPU job without a GPU", files: program("use_gpu = true"), kind: failed, number: 206, says: "^job.toml:1:11: use_gpu: BOINC assigned no GPU to this job"},
		{name: "a GPU of a kind that can't be given", files: program("use_gpu = true"), before: func(b *bench) error {
			b.change = func(d *boincapi.InitData) { d.GPUType, d.GPUDeviceNum = "apple_gpu", 0 }
			return nil
		}, kind: failed, number: 206, says: "^job.toml:1:11: use_gpu: GPUs of type \"apple_gpu\" can't"},
		{name: "all GPUs", files: program("create_args = '--gpus all'"), kind: failed, number: 206,
			says: "^job.toml:1:15: create_args: --gpus all may give this job the GPUs of other jobs \\(use_gpu = true gives the GPU that BOINC assigned\\)"},

		// The image.
		{name: "an unknown instruction", files: dockerfile("FROM scratch\nFROBNICATE\n"), kind: failed, number: 206,
			says: "^image boinc_.*: .*unknown instruction: FROBNICATE"},
		{name: "an empty Dockerfile", files: dockerfile("# nothing\n"), kind: failed, number: 206, says: "^image boinc_.*: Dockerfile: .*no instructions"},
		{name: "a file that isn't in the slot", files: dockerfile("FROM scratch\n\nCOPY nowhere /\n"), kind: failed, number: 206,
			says: "^image boinc_.*: Dockerfile:3: COPY nowhere /: nowhere: no such file in the slot"},
		{name: "a step that fails", files: dockerfile("FROM scratch\nRUN fill 4000 && exit 100\n"), kind: failed, number: 206,
			says: "^image boinc_.*: Step 2/2 : RUN fill 4000 && exit 100: .*returned a non-zero code: 100$", stderr: "The builder's last lines:\n(    .*\n){20}[^ ]"},
		{name: "a base image that isn't there", files: dockerfile("FROM example.org/nothing:1\n"), kind: failed, number: 206,
			says: "^image boinc_.*: Step 1/1 : FROM example.org/nothing:1: .*pull access denied for example.org/nothing:1"},
		{name: "a program that isn't in the image", files: dockerfile("FROM scratch\nCMD [\"nosuch\"]\n"), kind: failed, number: 206,
			says: "^start the job's program: nosuch: no such file in the image$"},
		{name: "an image for another kind of machine", files: program("image = 'example.org/app'"), before: func(b *bench) error {
			return b.engine.Publish("example.org/app", enginetest.Image{Architecture: "riscv64"})
		}, kind: failed, number: 206, says: "^image example.org/app: it is made for riscv64, and this computer's engine runs amd64"},
		{name: "an image that isn't in the registry", files: program("image = 'example.org/app'"), kind: failed, number: 206,
			says: "^image example.org/app: pull: .*repository does not exist"},
		{name: "an archive that is none", files: files{"app/job.toml": "image_archive = 'app.tar'", "app/app.tar": "rubbish"}, kind: failed, number: 206,
			says: "^image boinc_.*: read archive app_app.tar: "},
		{name: "an archive that isn't there", files: program("image_archive = 'app.tar'"), kind: failed, number: 206,
			says: "^image boinc_.*: read archive app.tar: no such file or directory"},

		// The container.
		{name: "an input that isn't there", files: program("copy_to_container = [{src = 'nowhere', dst = '/x'}]"), kind: failed, number: 206,
			says: "^nowhere: no such file in the slot"},
		{name: "an output that the job did not make", files: program("copy_from_container = [{src = '/out', dst = 'out'}]"), kind: failed, number: 195,
			says: "^copy_from_container: /out: the job didn't make this output"},
		{name: "more output than the workunit allows", files: program("copy_from_container = [{src = '/out', dst = 'out'}]\ncommand = ['write /out 12345678901']"),
			before: func(b *bench) error {
				b.change = func(d *boincapi.InitData) { d.RscDiskBound = 10 }
				return nil
			}, kind: failed, number: 195, says: "^copy_from_container: out: more output than rsc_disk_bound allows"},
		{name: "memory that is too little for anything", files: program("memory = '1m'"), kind: failed, number: 206, says: "^job.toml:1:10: memory: \"1m\": want at least 6MiB"},

		// The computer.
		{name: "init_data.xml is broken", broken: "printf broken > init_data.xml", kind: later, number: 180, says: "^read .*init_data.xml: "},
		{name: "no engine", before: func(b *bench) error { b.engine.Down(); return nil }, kind: later, number: 300,
			says: "^no container engine answers at unix:///.*, which DOCKER_HOST names"},
		{name: "no permission on the socket", before: (*bench).deny, kind: later, number: 1800,
			says: "^no permission to use the container engine: unix:///.*usermod -aG"},
		{name: "the policy file is broken", before: func(b *bench) error {
			return os.WriteFile(filepath.Join(b.data(), "docker_wrapper.toml"), []byte("privilegd = true"), 0o644)
		}, kind: later, number: 1800, says: "^the policy file of this computer: .*docker_wrapper.toml:1:13: privilegd: unknown key \\(did you mean privileged\\?\\)$"},
		{name: "no GPU support in the engine", files: program("use_gpu = true"), before: func(b *bench) error {
			b.change = func(d *boincapi.InitData) { d.GPUType, d.GPUDeviceNum = "NVIDIA", 0 }
			return nil
		}, kind: later, number: 1800, says: "could not select device driver|no GPU for this job"},
		{name: "no room for the image", before: fault("build", 0, "write /var/lib/docker/tmp/x: no space left on device"), kind: later, number: 3600,
			says: "^build image boinc_.*: the engine's disk is full"},
		{name: "no network for the base image", before: fault("build", 0, "Get \"https://registry-1.docker.io/v2/\": net/http: TLS handshake timeout"), kind: later, number: 600,
			says: "^build image boinc_.*: network or registry not reachable"},
		{name: "no network in a step", before: func(b *bench) error {
			b.engine.Inject(enginetest.Fault{Call: "build", Stream: true, Output: []string{"Step 2/2 : RUN apt-get update", "E: Temporary failure resolving 'deb.debian.org'"},
				Message: "The command '/bin/sh -c apt-get update' returned a non-zero code: 100"})
			return nil
		}, kind: later, number: 600, says: "^network or registry not reachable"},
		{name: "a registry that has had enough", files: program("image = 'example.org/app'"),
			before: fault("pull", 500, "toomanyrequests: You have reached your pull rate limit."), kind: later, number: 600, says: "^pull image example.org/app: network or registry not reachable"},
		{name: "an engine that fails", before: fault("create", 500, "layer does not exist"), kind: later, number: 180, says: "^create container .*layer does not exist"},
		{name: "an engine that talks nonsense", before: fault("inspect", 200, "hello"), kind: later, number: 180, says: "^find container .*: the engine's answer has no state in it"},
		{name: "an engine that goes away", before: func(b *bench) error {
			b.engine.Inject(enginetest.Fault{Call: "start", Cut: true})
			return nil
		}, kind: later, number: 300, says: "^start container .*: no container engine answers"},
		{name: "the runtime fails", before: fault("start", 500, "failed to create shim: OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux.go:508: setting cgroup config for procHooks process caused: failed to write: device or resource busy: unknown"),
			kind: later, number: 180, says: "^start container .*cgroup"},
		{name: "the engine doesn't see the slot", before: fault("create", 400, `invalid mount config for type "bind": bind source path does not exist: /var/lib/boinc/slots/0/.docker_wrapper/payload`),
			kind: later, number: 1800, says: "bind source path does not exist"},
		{name: "somebody else's container has the name", before: func(b *bench) error {
			b.engine.AddContainer("boinc__example.org_proj__wu_0")
			return nil
		}, taken: 1, kind: later, number: 1800, says: "a container that isn't ours has this name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := newBench(t.TempDir(), enginetest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.close(); err != nil {
					t.Error(err)
				}
			}()
			if tt.files["app/Dockerfile"] == "" {
				tt.files = maps.Clone(tt.files)
				if tt.files == nil {
					tt.files = files{}
				}
				tt.files["app/Dockerfile"] = plainDockerfile
			}
			for name, text := range tt.files {
				if text == "none" {
					continue
				}
				name = filepath.Join(b.dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(b.data(), 0o755); err != nil {
				t.Fatal(err)
			}
			b.lastly = tt.broken
			if tt.before != nil {
				if err := tt.before(b); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.start(tt.args...); err != nil {
				t.Fatal(err)
			}
			result, err := b.end()
			if err != nil {
				t.Fatal(err)
			}
			if err := judge(result, tt.kind, strconv.Itoa(tt.number), tt.says); err != nil {
				t.Error(err)
			}
			said, err := os.ReadFile(filepath.Join(b.slot(), boincapi.StderrFile))
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(tt.stderr).Match(said) {
				t.Errorf("stderr.txt, want %q in it:\n%s", tt.stderr, said)
			}
			if bytes.Contains(said, []byte("another user's")) {
				t.Errorf("stderr.txt tells of files that there aren't:\n%s", said)
			}
			left, err := b.leftovers()
			if tt.kind == later {
				left = b.engine.Containers()[tt.taken:] // the next episode goes on with the payload
			}
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}
