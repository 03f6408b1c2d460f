package session

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// stateText has in the wrapper's directory what a link of the name [boincapi.TaskStateFile] leads to.
const stateText = "kept.xml"

// TellKept tells a client that doesn't listen any more how far the job is: it reads the file [boincapi.TaskStateFile] at its next
// start. Where the job is in a container that is left, the file is a link that leads through the container's control group.
// So it counts only if the container is still there when the client starts.
func (k *Keeper) TellKept(ctx context.Context, m job.Mark, inContainer bool) error {
	text, err := k.o.Init.TaskState(m.CPU, m.Ran)
	if err != nil {
		return err
	}
	name := filepath.Join(k.o.Dir, boincapi.TaskStateFile)
	if !inContainer {
		return host.WriteFile(name, []byte(text), 0o644)
	}
	if k.container == nil {
		return errors.New("there is no container")
	}
	kept := filepath.Join(k.stateDir(), stateText)
	path, ok := k.container.While(ctx, kept)
	if !ok {
		return errors.New("the container's control group can't be seen from here")
	}
	if err := host.WriteFile(kept, []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // what it says is in the client's own state, too
		return err
	}
	return os.Symlink(path, name)
}

// ForgetKept removes what TellKept has left in the slot dir: the client has read it. In place of a link the client can write
// of checkpoints that last.
func ForgetKept(dir string) error {
	name := filepath.Join(dir, boincapi.TaskStateFile)
	if fi, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) || err == nil && fi.Mode().Type() != fs.ModeSymlink {
		return nil
	}
	return errors.Join(os.Remove(name), os.Remove(filepath.Join(dir, job.WrapperDir, stateText)))
}
