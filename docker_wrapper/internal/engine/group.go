package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// errNoCgroup: the container has no control group of its own that this program could see.
var errNoCgroup = errors.New("its control group can't be found from here")

// freezeTime is what the kernel may take to stop all processes of a container.
const freezeTime = 5 * time.Second

// freezers are the kernel's two kinds of freezer: the file that is written, what stops and lets go, and where
// it says that all has stopped (the kernel's cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst).
var freezers = []struct{ root, file, stop, goOn, said, stopped string }{
	{"/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN"},
	{"/sys/fs/cgroup", "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1"},
}

// freezeGroup stops all processes of the container by its control group, or lets them go on.
func (c *Container) freezeGroup(ctx context.Context, on bool) error {
	path, ok := c.ownCgroup(ctx)
	if !ok {
		return errNoCgroup
	}
	for _, f := range freezers {
		dir := filepath.Join(f.root, path)
		word := f.goOn
		if on {
			word = f.stop
		}
		file, err := os.OpenFile(filepath.Join(dir, f.file), os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		_, err = file.WriteString(word)
		if err = errors.Join(err, file.Close()); err != nil || !on {
			return err
		}
		return frozen(ctx, filepath.Join(dir, f.said), f.stopped)
	}
	return errNoCgroup
}

// frozen waits until the kernel says so.
func frozen(ctx context.Context, file, want string) error {
	ctx, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		said, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.Contains("\n"+string(said), "\n"+want) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the kernel doesn't stop its processes")
		}
	}
}
