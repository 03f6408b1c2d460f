package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// version is set by the release build.
var version = "0.1.0-dev"

// Limits of the wrapper's own memory in bytes, whatever a job's files contain. Near softMemory Go collects garbage more
// often. Beyond hardMemory Linux ends the process; Go reserves some of that without using it.
const (
	softMemory = 512 << 20
	hardMemory = 1536 << 20
)

func main() {
	if os.Args[0] == engine.OutputPath { // first: the job's program would inherit the limits that exit sets
		os.Exit(writeOutput(os.Args[1:], os.Stderr))
	}
	program{stdout: os.Stdout, stderr: os.Stderr, listGPUs: gpu.List, noHelper: !static}.exit()
}

// program is the environment of one run of the program. Tests change it.
type program struct {
	stdout, stderr io.Writer
	patience       time.Duration // how long temporary errors of this computer are retried; 0 for the usual times
	lockRetry      time.Duration // of the slot's lock; see boincapi.Options
	listGPUs       func() ([]job.GPU, error)
	noHelper       bool // this program can't run in a container of its own
}

// exit runs the program with the process's arguments, and ends the process.
func (p program) exit() {
	debug.SetMemoryLimit(softMemory)
	limitData(hardMemory)
	ctx, end := interruptible()
	p.stdout, p.stderr = pipe{os.Stdout, end}, pipe{os.Stderr, end}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// interruptible returns a context that ends with the signals that ask a process to end, or by end. A closed terminal is one of
// them, unless the process is to outlive it (nohup).
func interruptible() (ctx context.Context, end context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, _ = signal.NotifyContext(context.Background(), signals...)
	// SIGPIPE would end the process at once. It says nothing: a connection to the engine that broke gives it as well. The
	// write returns an error. Ignored, the signal would be ignored in child processes, too, so it goes where nobody listens.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return context.WithCancel(ctx)
}

// pipe is an output of the program. When its reader has gone (docker_wrapper | head -1), the program is interrupted.
type pipe struct {
	f      *os.File
	broken func()
}

func (p pipe) Fd() uintptr { return p.f.Fd() }

func (p pipe) Write(data []byte) (int, error) {
	n, err := p.f.Write(data)
	if errors.Is(err, syscall.EPIPE) {
		p.broken()
	}
	return n, err
}

// run is the program. It returns the exit code.
func (p program) run(ctx context.Context, argv []string) int {
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(p.stderr, "docker_wrapper: find the working directory:", err)
		return boincapi.ExitInitFailure
	}
	byHand := isByHand(dir, p.stderr)
	o, argErr := parseArgs(argv, byHand)
	switch {
	case o.help:
		fmt.Fprint(p.stdout, usage())
		return 0
	case o.showVersion:
		fmt.Fprintln(p.stdout, "docker_wrapper", version)
		return 0
	}
	if task := os.Getenv(engine.HelperEnv); task != "" && os.Args[0] == engine.HelperPath {
		return help(task, argv, p.stdout, p.stderr)
	}
	if o.doctor {
		return p.doctor(ctx, dir, o.json)
	}
	if meant := mistyped(argv, o); byHand && meant != "" {
		fmt.Fprintf(p.stderr, "docker_wrapper: %s: no such option (did you mean %s? An argument of the job's comes after --)\n", argv[0], meant)
		return boincapi.ExitInitFailure
	}
	w := newWrapper(p, o, dir, argErr)
	if o.plan || o.check {
		return w.show()
	}
	if o.clean && w.standalone {
		return w.clean(ctx)
	}
	return w.guarded(ctx, w.runJob)
}

// help runs this program as a helper in a container: it opens GPU devices, counts, or, as root, gives the files of a
// directory, all or those of these names, to a user (UID:GID:SHARED:SINCE). An environment variable selects the task, because a workunit can choose the
// command line.
func help(task string, args []string, stdout, stderr io.Writer) int {
	var err error
	switch task {
	case engine.ProveCommand:
		err = gpu.OpenDevices(args, stdout)
	case engine.HelperCounts:
		err = countForever(engine.HelperDir)
	default:
		var to slot.Owner
		if _, err = fmt.Sscanf(task, "%d:%d:%t:%d", &to.UID, &to.GID, &to.Shared, &to.Since); err == nil {
			err = slot.ChangeOwner(engine.HelperDir, to, args...)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "docker_wrapper:", err)
		return 1
	}
	return 0
}

// countForever is the program in the container of a checkpoint trial. It writes a random word, chosen once, and a growing
// number to a file until it is killed. They show whether a restored container has continued or begun again.
func countForever(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, engine.CountFile), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	word := rand.Text()
	tick := time.NewTicker(20 * time.Millisecond)
	for n := 1; ; n++ {
		if _, err := f.WriteAt(fmt.Appendf(nil, "%s %12d\n", word, n), 0); err != nil {
			return err
		}
		<-tick.C
	}
}

// guarded runs the job, and turns a panic into a temporary exit. A bug of the wrapper must not cost the project a result:
// Go exits with code 2 after a panic, which the client reports as the job's failure.
func (w *wrapper) guarded(ctx context.Context, run func(context.Context) int) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(w.stderr, "docker_wrapper: bug: %v\n%s", r, debug.Stack())
			code = w.temporaryExit(panicDelay, "the wrapper failed; it is tried again")
		}
	}()
	return run(ctx)
}
