package main

import (
	"context"
	"crypto/rand"
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

func main() { program{stdout: os.Stdout, stderr: os.Stderr, listGPUs: gpu.List}.exit() }

// program is the environment of one run of the program. Tests change it.
type program struct {
	stdout, stderr io.Writer
	patience       time.Duration // how long temporary errors of this computer are retried; 0 for the usual times
	lockRetry      time.Duration // of the slot's lock; see boincapi.Options
	listGPUs       func() ([]job.GPU, error)
}

// exit runs the program with the process's arguments, and ends the process.
func (p program) exit() {
	debug.SetMemoryLimit(softMemory)
	limitData(hardMemory)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is the program. It returns the exit code.
func (p program) run(ctx context.Context, argv []string) int {
	if os.Args[0] == engine.OutputPath {
		return writeOutput(argv, p.stderr)
	}
	o, argErr := parseArgs(argv)
	dir, err := os.Getwd()
	switch {
	case err != nil:
		fmt.Fprintln(p.stderr, "docker_wrapper: find the working directory:", err)
		return boincapi.ExitInitFailure
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
	if meant := mistyped(argv, o, dir); meant != "" {
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
// directory to a user (UID:GID:SHARED). An environment variable selects the task, because a workunit can choose the
// command line.
func help(task string, args []string, stdout, stderr io.Writer) int {
	var err error
	switch task {
	case engine.ProveCommand:
		err = gpu.OpenDevices(args, stdout)
	case engine.HelperCounts:
		err = countForever(engine.HelperDir)
	default:
		var uid, gid int
		var shared bool
		if _, err = fmt.Sscanf(task, "%d:%d:%t", &uid, &gid, &shared); err == nil {
			err = slot.ChangeOwner(engine.HelperDir, uid, gid, shared)
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
