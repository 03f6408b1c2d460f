package engine

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/strslice"
)

// RunAsRoot runs a static program of the host's on a directory of the host's, as root with the rights
// to change owners and none else, in a container of this one's image: a user who may use the engine is
// not root, and an image may have no program of its own for it. The directory is the program's last
// argument.
func (c *Container) RunAsRoot(ctx context.Context, program, dir string, args ...string) error {
	const programPath, dirPath = "/docker_wrapper", "/payload"
	err := c.runAsRoot(ctx, &container.Config{
		User:       "0:0",
		Entrypoint: strslice.StrSlice{programPath},
		Cmd:        append(append(strslice.StrSlice{}, args...), dirPath),
		WorkingDir: "/",
	}, &container.HostConfig{
		NetworkMode: "none",
		CapDrop:     strslice.StrSlice{"ALL"},
		CapAdd:      strslice.StrSlice{"CHOWN", "DAC_OVERRIDE", "FOWNER"},
		SecurityOpt: []string{"no-new-privileges"},
		Mounts: []mount.Mount{
			{Type: mount.TypeBind, Source: program, Target: programPath, ReadOnly: true},
			{Type: mount.TypeBind, Source: dir, Target: dirPath},
		},
	})
	if err != nil {
		return fmt.Errorf("run %s as root on %s: %w", program, dir, err)
	}
	return nil
}

func (c *Container) runAsRoot(ctx context.Context, config *container.Config, host *container.HostConfig) error {
	callCtx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(callCtx, c.ID)
	if err != nil {
		return wrap(err)
	}
	config.Image, config.Labels = in.Image, in.Config.Labels
	if c.e.Info.SELinux {
		host.SecurityOpt = append(host.SecurityOpt, "label=disable")
	}
	made, err := c.e.api.ContainerCreate(callCtx, config, host, nil, nil, c.Name+"_owner")
	if err != nil {
		return wrap(err)
	}
	helper := &Container{ID: made.ID, Name: c.Name + "_owner", e: c.e}
	defer func() {
		if err := helper.Remove(ctx); err != nil {
			c.e.log.Warn().Err(err).Msg("a helper container is left behind")
		}
	}()
	if err := helper.Start(ctx); err != nil {
		return err
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
