//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"boincdocker/docker_wrapper/internal/engine/enginetest"
)

// Between a fake client and a fake engine the real program runs, as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"docker_wrapper": func() {
		patience, lockRetry = time.Millisecond, -1
		if id, err := strconv.Atoi(os.Getenv("TEST_UID")); err == nil {
			if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(id), syscall.Setuid(id)); err != nil {
				panic(err)
			}
		}
		main()
	}})
}

// limit is how long a condition is waited for.
const limit = 20 * time.Second

// bench is one program under test with what stands on both sides of it.
type bench struct {
	dir     string // its sub-directories app and in hold the files of the app version and of the job
	engine  *enginetest.Engine
	uid     int               // 0 for ours
	waiter  *exec.Cmd         // stands for the client where its death is played
	client  *boinctest.Client // nil until it is needed
	process *boinctest.Process
	change  func(*boincapi.InitData)
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
	launcher := fmt.Sprintf("#!/bin/sh\nDOCKER_HOST=%s HOME=/nonexistent; export DOCKER_HOST HOME\n", b.engine.Host())
	if b.uid != 0 {
		launcher += fmt.Sprintf("TEST_UID=%d; export TEST_UID\n", b.uid)
	}
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
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited in vain for %s", what)
		}
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
			b, err := newBench(env.WorkDir, enginetest.Options{BuildKit: true})
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
//	boinc set KEY VALUE       of init_data.xml
//	boinc output NAME         the slot has a link for this output
//	boinc fraction X          wait until this fraction is reported
//	boinc outcome KIND [CODE OR DELAY [REGEXP]]
//	                          wait for the end; the expression is for the message or reason
func (b *bench) boinc(args []string) error {
	rest := append(args[1:], "", "", "")
	switch args[0] {
	case "start":
		return b.start(args[1:]...)
	case "mortal":
		b.waiter = exec.Command("sleep", "1000")
		return b.waiter.Start()
	case "lost":
		b.client.SetHeartbeat(false)
		return errors.Join(b.waiter.Process.Kill(), ignoreExit(b.waiter.Wait()))
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
		_, err := b.client.AddOutput(0, rest[0], false)
		return err
	case "fraction":
		x, err := strconv.ParseFloat(rest[0], 64)
		if err != nil {
			return err
		}
		return await("fraction "+rest[0], func() bool { return b.client.Last().Fraction == x })
	case "outcome":
		r, err := b.end()
		if err != nil {
			return err
		}
		return judge(r, rest[0], rest[1], rest[2])
	}
	orders := map[string]func(){"suspend": b.client.Suspend, "resume": b.client.Resume, "quit": b.client.Quit,
		"abort": b.client.Abort, "reread": b.client.RereadAppInfo}
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
		case "authenticator":
			d.Authenticator, err = value, nil
		case "gpu_type":
			d.GPUType, err = value, nil
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
//	engine fault CALL STATUS MESSAGE   (STATUS may be stream, cut, hang or lost)
//	engine mend, down, up, crash CODE, deny
//	engine image NAME [STEPS], publish NAME [STEPS], forget NAME
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
		e.Inject(f)
		return err
	case "mend":
		e.Mend()
	case "down":
		e.Down()
	case "up":
		return e.Up()
	case "crash":
		code, err := strconv.Atoi(rest[0])
		e.Crash(code)
		return err
	case "deny":
		return b.deny()
	case "image":
		return e.AddImage(rest[0], enginetest.Image{Command: args[2:]})
	case "publish":
		return e.Publish(rest[0], enginetest.Image{Command: args[2:]})
	case "forget":
		e.RemoveImage(rest[0])
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
func (b *bench) leftovers() []string {
	found := b.engine.Containers()
	for _, root := range []string{b.slot(), b.project()} {
		filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			rel, relErr := filepath.Rel(b.data(), name)
			if err != nil || relErr != nil {
				found = append(found, errors.Join(err, relErr).Error())
				return nil
			}
			if strings.Contains(rel, ".docker_wrapper/payload") || strings.HasSuffix(rel, ".part") || strings.HasSuffix(rel, "/temp") {
				found = append(found, rel)
			}
			return nil
		})
	}
	return found
}

// secretEverywhere reports whether anything that the container could see holds the text.
func (b *bench) shows(secret string) bool {
	for _, c := range b.engine.Calls() {
		if bytes.Contains(c.Body, []byte(secret)) {
			return true
		}
	}
	return false
}
