package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// errNoCgroup: the container has no control group of its own that this program could see.
var errNoCgroup = errors.New("its control group can't be found from here")

const (
	lookEach = 2 * time.Millisecond

	// Groups of v1 in which processes keep appearing may never come to be frozen, unless they go on for a moment after
	// so many looks; that is also how runc does it (libcontainer/cgroups/fs/freezer.go).
	thawEach = 25
)

// freezer is a control group's switch: what to write to it, and what another file says then.
type freezer struct{ set, on, off, state, frozen string }

// freezerOf is that of a container whose group of the freezer's hierarchy, or of cgroup v2, is this directory; "" for none.
func freezerOf(v1, v2 string) (freezer, bool) {
	if v1 != "" { // the kernel's cgroup-v1/freezer-subsystem.rst
		name := filepath.Join(v1, "freezer.state")
		return freezer{set: name, on: "FROZEN", off: "THAWED", state: name, frozen: "FROZEN"}, true
	}
	if v2 != "" { // cgroup-v2.rst
		return freezer{set: filepath.Join(v2, "cgroup.freeze"), on: "1", off: "0", state: filepath.Join(v2, "cgroup.events"), frozen: "frozen 1"}, true
	}
	return freezer{}, false
}

func (f freezer) isFrozen() bool {
	text, err := os.ReadFile(f.state)
	return err == nil && strings.Contains(string(text), f.frozen)
}

// freeze stops all processes of the group. The error wraps errNoFreezer when this user may not.
func (f freezer) freeze(ctx context.Context) error {
	for looked := 1; ; looked++ {
		if err := os.WriteFile(f.set, []byte(f.on), 0); err != nil {
			return fmt.Errorf("%w: %w", errNoFreezer, err)
		}
		if f.isFrozen() {
			return nil
		}
		err := pass(ctx)
		if looked%thawEach == 0 || err != nil {
			err = errors.Join(err, f.thaw())
		}
		if err != nil {
			return fmt.Errorf("freeze %s: %w", f.set, err)
		}
	}
}

// thaw undoes freeze; what isn't frozen is left alone.
func (f freezer) thaw() error {
	text, err := os.ReadFile(f.set)
	if err != nil || strings.TrimSpace(string(text)) == f.off { // it is gone, or has none
		return nil
	}
	return os.WriteFile(f.set, []byte(f.off), 0)
}

// pass lets a moment pass.
func pass(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lookEach):
		return nil
	}
}

// group is the freezer of the group that Podman has made for the container.
func (c *Container) group(ctx context.Context) (freezer, error) {
	path, ok := c.ownCgroup(ctx)
	if !ok {
		return freezer{}, errNoCgroup
	}
	in := func(root string) string {
		dir := filepath.Join(root, path)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			return ""
		}
		return dir
	}
	f, ok := freezerOf(in("/sys/fs/cgroup/freezer"), in("/sys/fs/cgroup"))
	if !ok {
		return f, errNoCgroup
	}
	return f, nil
}
