package engine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	serviceBegins = 20 * time.Second // the first service of a user account sets up its storage
	serviceEnds   = 5 * time.Second
	socketPath    = 107 // bytes at most (unix(7))
)

// openService starts a Podman service for this process alone: a child process with a socket that only this user
// account can use. All services of a user account share their containers, so each wrapper can have its own service. When it
// ends, containers go on: their monitors are not its children.
func openService(ctx context.Context, o Options) (*Engine, error) {
	program := podmanIn(o.Getenv("PATH"))
	if program == "" {
		return nil, fmt.Errorf("%w: there is no podman", ErrUnreachable)
	}
	dir, err := socketDir(o.Getenv("XDG_RUNTIME_DIR"))
	if err != nil {
		return nil, fmt.Errorf("make directory for podman's socket: %w", err)
	}
	host := "unix://" + filepath.Join(dir, "podman.sock")
	s, err := startService(program, host, dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w: start podman: %w", ErrUnreachable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, serviceBegins)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			said := lastLine(filepath.Join(dir, "log"))
			s.stop()
			return nil, fmt.Errorf("%w: podman system service: %s%s", ErrUnreachable, said, serviceHint(said))
		}
		e, err := open(ctx, host, o)
		if err == nil {
			s.answered.Store(true)
			e.Info.Host, e.stop = serviceHost, s.stop // the same in all episodes
			return e, nil
		}
	}
}

// podmanIn finds the program podman; "" when there is none. It skips relative directories, which would be in the slot.
func podmanIn(path string) string {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if program, err := exec.LookPath(filepath.Join(dir, "podman")); err == nil {
			return program
		}
	}
	return ""
}

// service is a running "podman system service". Once it has answered, it is started again when it ends.
type service struct {
	answered atomic.Bool
	ended    chan struct{} // closed when it has ended and won't be started again
	cancel   context.CancelFunc
	dir      string
}

func startService(program, host, dir string) (*service, error) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{ended: make(chan struct{}), cancel: cancel, dir: dir}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread ends that started the child
		defer runtime.UnlockOSThread()
		defer close(s.ended)
		defer log.Close()
		for {
			cmd := exec.CommandContext(ctx, program, "system", "service", "--time=0", host)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.WaitDelay = serviceEnds
			cmd.Dir = "/" // not the slot, where the job's files are
			cmd.Env = serviceEnv(os.Environ(), mayWrite)
			cmd.Stderr = log // not a pipe, which monitors of containers may keep open
			// It ends when this process ends, for any reason. Ctrl-C in a terminal doesn't reach it.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
			err := startUnlimited(cmd)
			select {
			case started <- err:
			default: // again
			}
			if err == nil {
				cmd.Wait() // the error only says that a signal ended it
			}
			if !s.answered.Load() {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(firstRetry):
			}
		}
	}()
	return s, <-started
}

// startUnlimited starts a program without this process's memory limit, which it would inherit. podman and its child processes
// need more.
func startUnlimited(cmd *exec.Cmd) error {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &own); err == nil && own.Cur != own.Max {
		if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: own.Max, Max: own.Max}); err == nil {
			defer unix.Setrlimit(unix.RLIMIT_DATA, &own)
		}
	}
	return cmd.Start()
}

// stop ends the service and waits until it has ended.
func (s *service) stop() {
	s.cancel()
	<-s.ended
	os.RemoveAll(s.dir)
}

// socketDir makes a directory for a socket that only this user account can enter.
func socketDir(runtimeDir string) (string, error) {
	for _, dir := range []string{runtimeDir, os.TempDir()} {
		if len(dir) > socketPath-len("/docker_wrapper0123456789/podman.sock") || dir == "" {
			continue
		}
		if made, err := os.MkdirTemp(dir, "docker_wrapper"); err == nil {
			return made, nil
		}
	}
	return os.MkdirTemp("/tmp", "docker_wrapper")
}

// serviceEnv is the environment without variables that would mislead podman: to another service, to libraries in the slot
// (LD_LIBRARY_PATH, from client/app_start.cpp), or to directories where this user account can't write. Podman fails with a
// HOME that it can't use. Without HOME it takes the home directory from the user database.
func serviceEnv(env []string, mayWrite func(dir string) bool) (kept []string) {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case "CONTAINER_HOST", "CONTAINER_CONNECTION", "DOCKER_HOST", "LD_PRELOAD":
			continue
		case "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME":
			if !mayWrite(value) {
				continue
			}
		case "LD_LIBRARY_PATH":
			var dirs []string
			for dir := range strings.SplitSeq(value, ":") {
				if filepath.IsAbs(dir) {
					dirs = append(dirs, dir)
				}
			}
			if len(dirs) == 0 {
				continue
			}
			e = name + "=" + strings.Join(dirs, ":")
		}
		kept = append(kept, e)
	}
	return kept
}

// mayWrite reports whether this user account can write to a directory.
func mayWrite(dir string) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// serviceHint says what podman's service may be missing: the package with newuidmap, which maps users, or a home directory, where
// it keeps images and containers.
func serviceHint(said string) string {
	if strings.Contains(said, "newuidmap") {
		return " (try: sudo apt install uidmap)"
	}
	u, err := user.LookupId(strconv.Itoa(os.Getuid())) // not by HOME
	if err != nil || mayWrite(u.HomeDir) {
		return ""
	}
	return fmt.Sprintf(" (podman needs a home directory that user %s can write to, and %s isn't one; try: sudo usermod -d DIRECTORY %s)", u.Username, u.HomeDir, u.Username)
}

// lastLine is the last line of the service's log. Podman's errors are one line each.
func lastLine(name string) string {
	data, err := os.ReadFile(name)
	text := strings.TrimSpace(string(data))
	if err != nil || text == "" {
		return "it didn't answer"
	}
	return text[strings.LastIndex(text, "\n")+1:]
}
