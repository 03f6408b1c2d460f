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
	serviceBegins = 20 * time.Second // a user's first one sets up his storage
	serviceEnds   = 5 * time.Second
	socketPath    = 107 // bytes at most (unix(7))
)

// openService starts a Podman service for this process alone: a child, on a socket that only this user can
// reach. Services of one user know the same containers, so each wrapper may have its own. Containers
// don't end with it: their monitors are nobody's children.
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

// podmanIn finds the program; "" when it isn't there. What isn't an absolute path would lead to the slot.
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

// service is a podman that serves. It is started again when it ends, once it has answered: nobody else would.
type service struct {
	answered atomic.Bool
	ended    chan struct{} // closed when it has, for good
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
		runtime.LockOSThread() // whose end it would be told of
		defer runtime.UnlockOSThread()
		defer close(s.ended)
		defer log.Close()
		for {
			cmd := exec.CommandContext(ctx, program, "system", "service", "--time=0", host)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.WaitDelay = serviceEnds
			cmd.Dir = "/" // not the slot, whose files are the job's
			cmd.Env = serviceEnv(os.Environ(), mayWrite)
			cmd.Stderr = log // no pipe: monitors of containers may keep it open
			// It ends with us, however we end, and an interrupt at the keyboard is ours to answer.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
			err := startUnlimited(cmd)
			select {
			case started <- err:
			default: // again
			}
			if err == nil {
				cmd.Wait() // its error is that a signal ended it
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

// startUnlimited starts a program without this process's own limit of memory, which it would inherit: podman and what it starts
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

// stop ends it, and is back when it has ended.
func (s *service) stop() {
	s.cancel()
	<-s.ended
	os.RemoveAll(s.dir)
}

// socketDir makes a directory of this user's for a socket.
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

// serviceEnv is the environment without what would lead podman elsewhere: to another service, by the
// client's LD_LIBRARY_PATH (client/app_start.cpp) to libraries in the slot, or to directories that a service's user doesn't
// have. Podman fails with a HOME that it can't use, and without one takes the user's own, as he is known to the computer.
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

// mayWrite reports whether a directory is there that this user may write to.
func mayWrite(dir string) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// serviceHint says what keeps podman from serving: it can't map users without a program of its own package, and it keeps
// images and containers in its user's home.
func serviceHint(said string) string {
	if strings.Contains(said, "newuidmap") {
		return " (try: sudo apt install uidmap)"
	}
	u, err := user.LookupId(strconv.Itoa(os.Getuid())) // not by HOME
	if err != nil || mayWrite(u.HomeDir) {
		return ""
	}
	return fmt.Sprintf(" (podman needs a home directory that user %s may write to, and %s is none; try: sudo usermod -d DIRECTORY %s)", u.Username, u.HomeDir, u.Username)
}

// lastLine of what the service said; podman's errors are one line each.
func lastLine(name string) string {
	data, err := os.ReadFile(name)
	text := strings.TrimSpace(string(data))
	if err != nil || text == "" {
		return "it didn't answer"
	}
	return text[strings.LastIndex(text, "\n")+1:]
}
