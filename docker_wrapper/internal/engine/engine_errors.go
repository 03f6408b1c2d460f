package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// What a caller must tell apart. The first four may pass by themselves; the others are the project's or the
// job's fault.
var (
	ErrUnreachable = errors.New("no container engine answers")
	ErrPermission  = errors.New("no permission to use the container engine")
	ErrNetwork     = errors.New("network or registry not reachable")
	ErrDiskFull    = errors.New("the engine's disk is full")
	ErrHost        = errors.New("this computer can't run the container as it is")
	ErrNotFound    = errors.New("not found")
	ErrNameTaken   = errors.New("a container that isn't ours has this name")
	ErrNotRunning  = errors.New("not running")
	ErrNotShared   = errors.New("the host doesn't share the mounts below a directory")
)

// ImageError says why an image can't be obtained. Retrying is useless: the project must correct something, or the image needs
// more memory than this computer has for it.
type ImageError struct {
	Image  string
	Step   string   // of the Dockerfile, as written; "" where none failed
	Reason string   // one line
	Output []string // the end of the builder's output, at most 20 lines

	OutOfMemory bool // a step was killed, because it needed more memory than the limit in Reason
}

func (e *ImageError) Error() string {
	s := "image " + e.Image + ": " + e.Reason
	if e.Step != "" {
		s = "image " + e.Image + ": " + e.Step + ": " + e.Reason
	}
	if len(e.Output) > 0 {
		s += "\nThe builder's last lines:\n    " + strings.Join(e.Output, "\n    ")
	}
	return s
}

// RunError says why the engine could not start the container's program: the image or job.toml
// names one that doesn't exist or can't be executed.
type RunError struct{ Reason string }

func (e *RunError) Error() string { return "start the job's program: " + e.Reason }

// CopyError says which file can't be copied.
type CopyError struct {
	Name    string
	Missing bool // it doesn't exist in the container or the slot
	Reason  string
	Copy    job.Copy // of which it is; zero for a copy into a container
}

func (e *CopyError) Error() string { return e.Name + ": " + e.Reason }

// CopyErrors are the copies out of a container that aren't possible, in their order.
type CopyErrors []*CopyError

func (e CopyErrors) Error() string {
	var texts []string
	for _, one := range e {
		texts = append(texts, one.Error())
	}
	return strings.Join(texts, "; ")
}

func (e CopyErrors) Unwrap() (errs []error) {
	for _, one := range e {
		errs = append(errs, one)
	}
	return errs
}

// wrap adds one of the errors above to an engine's error. It decides by the engine's error codes and, where they
// don't suffice, by phrases that engines were seen to use (their issue trackers and this package's tests).
func wrap(err error) error { return wrapFor(err, "") }

// wrapFor is wrap for an error that may quote words that the job wrote. A phrase in these words decides nothing.
func wrapFor(err error, words string) error {
	if err == nil {
		return nil
	}
	var opErr *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, os.ErrPermission), strings.Contains(err.Error(), "permission denied while trying to connect"):
		return fmt.Errorf("%w: %w", ErrPermission, err)
	case client.IsErrConnectionFailed(err), errors.As(err, &opErr), errors.Is(err, syscall.ECONNREFUSED),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if class := classFor(err.Error(), words); class != nil {
		return fmt.Errorf("%w: %w", class, err)
	}
	return err
}

// phrases maps phrases of engines, builders and registries to errors. The first match wins.
var phrases = []struct {
	text  string
	class error
}{
	{"for api route and version", ErrUnreachable}, // the engine is starting or stopping: its answer had no text
	{"image not known", ErrNotFound},              // Podman, when the image is being removed
	{"no space left on device", ErrDiskFull},
	{"disk quota exceeded", ErrDiskFull},
	{"is not running", ErrNotRunning},
	{"container not running", ErrNotRunning},
	{"can only kill running containers", ErrNotRunning},
	{"can only create exec sessions on running", ErrNotRunning},
	{"but it is not a shared", ErrNotShared},        // Docker, for a mount with shared or slave (moby's daemon/oci_linux.go). Podman mounts it
	{"error gathering device information", ErrHost}, // --device of a file that isn't there
	{"container create: stat /dev/", ErrHost},       // likewise, Podman
	{"could not select device driver", ErrHost},     // no GPU support in the engine
	{"nvidia-container-cli", ErrHost},
	{"unresolvable cdi devices", ErrHost},
	{"cdi device injection failed", ErrHost},
	{"unknown or invalid runtime name", ErrHost}, // --runtime
	{"unknown runtime specified", ErrHost},       // likewise, Docker 20
	{"bind source path does not exist", ErrHost}, // an engine in a virtual machine or sandbox that can't see BOINC's directory
	{"mounts denied", ErrHost},                   // Docker Desktop
	{"error while creating mount source path", ErrHost},
	{"cgroup mountpoint does not exist", ErrHost},
	{"port is already allocated", ErrHost},
	{"address already in use", ErrHost},
	{"cannot allocate memory", ErrHost},
	{"setting rlimit", ErrHost}, // runc: the engine may not give so much
	{"setrlimit", ErrHost},      // crun
	{"temporary failure in name resolution", ErrNetwork},
	{"no such host", ErrNetwork},
	{"could not resolve", ErrNetwork},
	{"temporary failure resolving", ErrNetwork},
	{"network is unreachable", ErrNetwork},
	{"no route to host", ErrNetwork},
	{"connection refused", ErrNetwork},
	{"connection reset by peer", ErrNetwork},
	{"connection timed out", ErrNetwork},
	{"i/o timeout", ErrNetwork},
	{"tls handshake timeout", ErrNetwork},
	{"client.timeout exceeded", ErrNetwork},
	{"net/http: request canceled", ErrNetwork},
	{"unable to copy from source docker://", ErrNetwork}, // Podman
	{"toomanyrequests", ErrNetwork},
	{"429 too many requests", ErrNetwork},
	{"500 internal server error", ErrNetwork},
	{"502 bad gateway", ErrNetwork},
	{"503 service unavailable", ErrNetwork},
	{"504 gateway", ErrNetwork},
	{"context deadline exceeded", ErrNetwork},
}

func classOf(text string) error { return classFor(text, "") }

// classFor is classOf without the phrases that words contains.
func classFor(text, words string) error {
	text, words = strings.ToLower(text), strings.ToLower(words)
	for _, p := range phrases {
		if strings.Contains(text, p.text) && !strings.Contains(words, p.text) {
			return p.class
		}
	}
	return nil
}

// ofImage is an image's configuration as a container has it.
func ofImage(in image.InspectResponse) *container.Config {
	if in.Config == nil {
		return nil
	}
	return &container.Config{User: in.Config.User, WorkingDir: in.Config.WorkingDir, Entrypoint: in.Config.Entrypoint, Cmd: in.Config.Cmd,
		Env: in.Config.Env, Volumes: in.Config.Volumes}
}

// wordsOf are the words of a container's configuration that come from the job, its image or the Dockerfile.
func wordsOf(configs ...*container.Config) string {
	var words []string
	for _, c := range configs {
		if c != nil {
			words = append(words, c.User, c.WorkingDir, c.Hostname, strings.Join(c.Entrypoint, " "), strings.Join(c.Cmd, " "), strings.Join(c.Env, " "))
			for v := range c.Volumes {
				words = append(words, v)
			}
		}
	}
	return strings.Join(words, "\n")
}

// HostsFault reports that a file which the client or the owner put there exists, and this computer can't read it,
// because of its disk, permissions or limits. A name that doesn't exist or is no file is the fault of whoever gave it.
// See [host.Final] for files of the job's own.
func HostsFault(err error) bool { return host.MayPass(err) || errors.Is(err, fs.ErrPermission) }
