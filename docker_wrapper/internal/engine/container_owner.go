package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/job"
)

// How this program recognises that it runs as the helper of [Engine.RunHelper].
const (
	HelperPath = "/.docker_wrapper_helper"
	HelperDir  = "/.docker_wrapper_payload"
	HelperEnv  = "DOCKER_WRAPPER_HELPER"

	OwnerSuffix = "_owner" // appended to the name of the job's container to name a helper's container

	// Both together are less than the minute that a client waits after quit.
	helperTime       = 20 * time.Second
	helperRemoveTime = 8 * time.Second
)

// MakeHome gives the HOME of a container that runs as BOINC's user, and that was not started, to this user. The image
// may lack the directory, or another user of the image may own it. A mounted directory stays as it is, and so does
// everything in a container with a read-only root: there toRequest has mounted the directory.
func (c *Container) MakeHome(ctx context.Context, j *job.Job) error {
	if j.Container.User.Mode != job.UserBOINC || j.Container.Extra.ReadOnly {
		return nil
	}
	if err := c.makeHome(ctx, j.Container); err != nil {
		return fmt.Errorf("make the home directory of container %s: %w", c.Name, wrap(err))
	}
	return nil
}

func (c *Container) makeHome(ctx context.Context, plan job.Container) error {
	in, err := c.inspect(ctx)
	if err != nil {
		return err
	}
	home := ""
	for _, nv := range in.Config.Env {
		if value, ok := strings.CutPrefix(nv, homeEnv); ok {
			home = path.Clean(value)
		}
	}
	if !path.IsAbs(home) || home == "/" || plan.Mounted(home) {
		return nil
	}
	uid, gid, err := c.owner(ctx)
	if err != nil {
		return err
	}
	base, rest, isDir, err := c.deepestDir(ctx, home)
	if err != nil {
		return err
	}
	mode := int64(0o700)
	if isDir {
		callCtx, cancel := c.e.call(ctx)
		st, err := c.e.api.ContainerStatPath(callCtx, c.ID, base)
		cancel()
		if err != nil {
			return err
		}
		if st.Mode&fs.ModeSticky != 0 {
			return nil // such as /tmp: everyone may write there
		}
		mode |= int64(st.Mode.Perm())
		base, rest = path.Dir(base), path.Base(base)
	}
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	if err := packParents(tw, rest, 0, 0); err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: rest + "/", Mode: mode, Uid: uid, Gid: gid, ModTime: time.Now()}); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	callCtx, cancel := c.e.call(ctx)
	defer cancel()
	return c.e.api.CopyToContainer(callCtx, c.ID, base, &archive, container.CopyToContainerOptions{})
}

// RunHelper runs a static program of the host in a container, as root with only the rights to change owners, on
// a directory of the host. This process may use the engine but isn't root. The image is the helper's, the labels are the
// job's. say is the value of HelperEnv, and args are the program's arguments.
func (e *Engine) RunHelper(ctx context.Context, j *job.Job, program, dir, say string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), helperTime)
	defer cancel()
	if err := e.runHelper(ctx, j, program, dir, say, args); err != nil {
		return fmt.Errorf("run a helper on %s: %w", dir, err)
	}
	return nil
}

func (e *Engine) runHelper(ctx context.Context, j *job.Job, program, dir, say string, args []string) error {
	image, err := e.helperImage(ctx, j.Image)
	if err != nil {
		return err
	}
	var limits container.Resources
	if pids := int64(32); e.Info.quirks.pidsLimit { // without the quirk the engine refuses limits
		limits.PidsLimit = &pids
	}
	config := &container.Config{
		Image:       image,
		Labels:      j.Container.Labels,
		User:        "0:0",
		Env:         []string{HelperEnv + "=" + say},
		Entrypoint:  []string{HelperPath},
		Cmd:         append([]string{}, args...),
		WorkingDir:  "/",
		Healthcheck: noHealthcheck,
	}
	host := &container.HostConfig{
		NetworkMode:    "none",
		CapDrop:        []string{"ALL"},
		CapAdd:         []string{"CHOWN", "DAC_OVERRIDE", "FOWNER"},
		SecurityOpt:    []string{"no-new-privileges"},
		ReadonlyRootfs: true,
		Resources:      limits,
	}
	addMounts(host, []job.Mount{{Source: program, Target: HelperPath, ReadOnly: true}, {Source: dir, Target: HelperDir}}, e.Info.quirks)
	if e.Info.SELinux {
		host.SecurityOpt = append(host.SecurityOpt, "label=disable")
	}
	name := j.Container.Name + OwnerSuffix
	helper := &Container{ID: name, Name: name, e: e}
	if err := helper.Remove(ctx); err != nil { // of an earlier try
		return err
	}
	made, err := e.api.ContainerCreate(ctx, config, host, nil, nil, helper.Name)
	if err != nil {
		return wrap(err)
	}
	helper.ID = made.ID
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), helperRemoveTime) // also when it took too long
		defer cancel()
		if err := helper.Remove(ctx); err != nil {
			e.log.Warn().Err(err).Msg("cannot remove a helper container")
		}
	}()
	if err := e.api.ContainerStart(ctx, helper.ID, container.StartOptions{}); err != nil {
		return wrap(err)
	}
	if err := helper.waitOnce(ctx); err != nil {
		return err
	}
	exit, err := helper.Exit(ctx)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("it ended with code %d", exit.Code)
	}
	return err
}
