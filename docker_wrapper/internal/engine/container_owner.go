package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/job"
)

// How this program recognises that it runs as the helper of [Container.RunHelper].
const (
	HelperPath = "/.docker_wrapper_helper"
	HelperDir  = "/.docker_wrapper_payload"
	HelperEnv  = "DOCKER_WRAPPER_HELPER"

	OwnerSuffix = "_owner" // appended to the name of the job's container to name a helper's container

	helperTime = 20 * time.Second // much less than a client waits after quit
)

// RunHelper runs a static program of the host in a container, as root with only the rights to change owners, on
// a directory of the host. This process may use the engine but isn't root. The image is the helper's, the labels are the
// job's. say is the value of HelperEnv.
func (c *Container) RunHelper(ctx context.Context, j *job.Job, program, dir, say string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), helperTime)
	defer cancel()
	if err := c.runHelper(ctx, j, program, dir, say); err != nil {
		return fmt.Errorf("run a helper on %s: %w", dir, err)
	}
	return nil
}

func (c *Container) runHelper(ctx context.Context, j *job.Job, program, dir, say string) error {
	image, err := c.e.helperImage(ctx, j.Image)
	if err != nil {
		return err
	}
	var limits container.Resources
	if pids := int64(32); c.e.Info.quirks.pidsLimit { // without the quirk the engine refuses limits
		limits.PidsLimit = &pids
	}
	config := &container.Config{
		Image:       image,
		Labels:      j.Container.Labels,
		User:        "0:0",
		Env:         []string{HelperEnv + "=" + say},
		Entrypoint:  []string{HelperPath},
		Cmd:         []string{},
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
	addMounts(host, []job.Mount{{Source: program, Target: HelperPath, ReadOnly: true}, {Source: dir, Target: HelperDir}}, c.e.Info.quirks)
	if c.e.Info.SELinux {
		host.SecurityOpt = append(host.SecurityOpt, "label=disable")
	}
	helper := &Container{ID: c.Name + OwnerSuffix, Name: c.Name + OwnerSuffix, e: c.e}
	if err := helper.Remove(ctx); err != nil { // of an earlier try
		return err
	}
	made, err := c.e.api.ContainerCreate(ctx, config, host, nil, nil, helper.Name)
	if err != nil {
		return wrap(err)
	}
	helper.ID = made.ID
	defer func() {
		if err := helper.Remove(ctx); err != nil {
			c.e.log.Warn().Err(err).Msg("cannot remove a helper container")
		}
	}()
	if err := c.e.api.ContainerStart(ctx, helper.ID, container.StartOptions{}); err != nil {
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
