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
	"strings"
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

// The wrapper's memory in bytes, whatever a job's files make it read. Near enoughMemory Go collects garbage more often. Beyond
// mostMemory, some of which Go only sets aside, Linux ends the process.
const (
	enoughMemory = 512 << 20
	mostMemory   = 1536 << 20
)

func main() { program{stdout: os.Stdout, stderr: os.Stderr, listGPUs: gpu.List}.exit() }

// program is what a run of the program has around it. Tests change it.
type program struct {
	stdout, stderr io.Writer
	patience       time.Duration // with what may pass on this computer; 0 for the usual
	lockRetry      time.Duration // of the slot's lock; see boincapi.Options
	listGPUs       func() ([]job.GPU, error)
}

// exit runs the program with the process's arguments, and ends the process.
func (p program) exit() {
	debug.SetMemoryLimit(enoughMemory)
	limitData(mostMemory)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// options are the command line.
type options struct {
	config, dockerfile                                              string
	verbose, sporadic, plan, check, doctor, json, showVersion, help bool
	args                                                            []string // the job's
}

// parseArgs reads BOINC's own wrapper's command line (samples/docker_wrapper in BOINC) and what was
// added to it. What it doesn't know is the job's.
func parseArgs(argv []string) (options, error) {
	var o options
	for i := 0; i < len(argv); i++ {
		if argv[i] == "--" {
			o.args = append(o.args, argv[i+1:]...)
			break
		}
		name, value, hasValue := strings.Cut(argv[i], "=")
		str := map[string]*string{"--config": &o.config, "--dockerfile": &o.dockerfile}[name]
		flag := map[string]*bool{"--verbose": &o.verbose, "--sporadic": &o.sporadic}[argv[i]]
		if i == 0 && flag == nil { // a job may have such arguments of its own
			flag = map[string]*bool{"--plan": &o.plan, "--check": &o.check, "--doctor": &o.doctor, "--version": &o.showVersion, "--help": &o.help, "-h": &o.help}[argv[i]]
		}
		if i == 1 && o.doctor && argv[i] == "--json" {
			flag = &o.json
		}
		switch {
		case str != nil && hasValue:
			*str = value
		case str != nil:
			if i++; i == len(argv) {
				return o, fmt.Errorf("%s: want a file name after it", name)
			}
			*str = argv[i]
		case flag != nil:
			*flag = true
		default:
			o.args = append(o.args, argv[i])
		}
	}
	return o, nil
}

const usage = `Usage: docker_wrapper [flags] [the job's arguments]

Runs the job in the current directory in a container: as the main program of a BOINC app when
init_data.xml is there, else by itself.

  --config F       the job's file (default job.toml; a missing one means defaults)
  --dockerfile F   what its image is built from (default Dockerfile)
  --verbose        log every call
  --sporadic       keep the files of BOINC's sporadic apps
  --               what follows is the job's

As the first argument:

  --plan           print what would be done, as JSON, and touch nothing
  --check          check job.toml, unknown keys included, and the files it names; touch nothing
  --doctor         print what is seen of this computer, engines and GPUs; --doctor --json as JSON; the exit code
                   is 0 if a job could run
  --version        print the version
  --help           print this

Everything else reaches the container in the variable ARGS. By hand, the project directory is ./project, and a first
argument that looks like one of these mistyped is refused.
`

// mistyped is the option that a person has meant by a first argument which looks like it, "" for none. What a client passes
// is the job's, whatever it looks like.
func mistyped(argv []string, o options, dir string) string {
	if len(argv) == 0 || len(o.args) == 0 || o.args[0] != argv[0] {
		return ""
	}
	name, isOption := strings.CutPrefix(argv[0], "--")
	if _, err := os.Stat(filepath.Join(dir, boincapi.InitDataFile)); err == nil || !isOption {
		return ""
	}
	name, _, _ = strings.Cut(name, "=")
	if meant := job.Nearest(name, []string{"config", "dockerfile", "verbose", "sporadic", "plan", "check", "doctor", "version", "help"}); meant != "" {
		return "--" + meant
	}
	return ""
}

// run is the program. It returns the exit code.
func (p program) run(ctx context.Context, argv []string) int {
	stdout, stderr := p.stdout, p.stderr
	o, err := parseArgs(argv)
	dir, dirErr := os.Getwd()
	switch {
	case dirErr != nil:
		fmt.Fprintln(stderr, "docker_wrapper: find the working directory:", dirErr)
		return boincapi.ExitInitFailure
	case o.help:
		fmt.Fprint(stdout, usage)
		return 0
	case o.showVersion:
		fmt.Fprintln(stdout, "docker_wrapper", version)
		return 0
	}
	if say := os.Getenv(engine.HelperEnv); say != "" && os.Args[0] == engine.HelperPath {
		return help(say, argv, stdout, stderr)
	}
	if o.doctor {
		return p.doctor(ctx, dir, o.json)
	}
	if meant := mistyped(argv, o, dir); meant != "" {
		fmt.Fprintf(stderr, "docker_wrapper: %s: no such option (did you mean %s? An argument of the job's comes after --)\n", argv[0], meant)
		return boincapi.ExitInitFailure
	}
	w := newWrapper(p, o, dir, err)
	if o.plan || o.check {
		return w.show()
	}
	return w.guarded(ctx, w.runJob)
}

// help is the wrapper as a helper of itself in a container: it looks for GPUs, counts, or runs as root and gives the files of a
// directory to a user, UID:GID:SHARED. No command line leads here, because a workunit's is the job's.
func help(say string, args []string, stdout, stderr io.Writer) int {
	var err error
	switch say {
	case engine.ProveCommand:
		err = gpu.OpenDevices(args, stdout)
	case engine.HelperCounts:
		err = countAloud(engine.HelperDir)
	default:
		var uid, gid int
		var shared bool
		if _, err = fmt.Sscanf(say, "%d:%d:%t", &uid, &gid, &shared); err == nil {
			err = slot.ChangeOwner(engine.HelperDir, uid, gid, shared)
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "docker_wrapper:", err)
		return 1
	}
	return 0
}

// countAloud is this program in the container of a trial: it counts into a file until it is ended, whose word it has chosen
// when it began.
func countAloud(dir string) error {
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

// guarded runs the job. A bug of ours must not cost the project a result: a bare panic exits with 2,
// which the client takes for the job's failure.
func (w *wrapper) guarded(ctx context.Context, run func(context.Context) int) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(w.stderr, "docker_wrapper: bug: %v\n%s", r, debug.Stack())
			code = w.temporaryExit(panicDelay, "the wrapper failed; it is tried again")
		}
	}()
	return run(ctx)
}
