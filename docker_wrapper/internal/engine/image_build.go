package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const outputKept = 20 // lines of the builder's output that an error quotes

// build runs the Dockerfile, by the builder that choose chose. What the classic builder refuses, BuildKit builds.
func (e *Engine) build(ctx context.Context, im job.Image, s job.Source, b *buildContext) error {
	e.log.Info().Str("image", s.Name).Str("content", b.identity[:12]).Int("files", len(b.files)).Msg("build image")
	for _, note := range b.notes {
		e.log.Warn().Msg(note)
	}
	e.sayProxy(s.Proxy, s.Build.Network)
	if s.Proxy != nil && !s.Proxy.Login.IsZero() && keepsProxy(b.text) {
		e.log.Warn().Msg("the Dockerfile puts a proxy variable into the image, so the build gets this computer's proxy without its password")
		p := *s.Proxy
		p.Login, s.Proxy = job.Secret{}, &p
	}
	if b.buildKit {
		return e.buildWith(ctx, build.BuilderBuildKit, im, s, b)
	}
	err := e.buildWith(ctx, build.BuilderV1, im, s, b)
	var ie *ImageError
	if errors.As(err, &ie) && needsBuildKit(ie.Reason) && e.Info.quirks.buildKit {
		e.log.Info().Msg("this Dockerfile needs BuildKit")
		return e.buildWith(ctx, build.BuilderBuildKit, im, s, b)
	}
	for range 2 {
		if !stepVanished(err) {
			return err
		}
		e.log.Info().Msg("an image in the builder's cache was removed during the build; building again")
		err = e.buildWith(ctx, build.BuilderV1, im, s, b)
	}
	if stepVanished(err) {
		return fmt.Errorf("build image %s: images in the builder's cache keep being removed", s.Name) // not the project's fault
	}
	return err
}

// stepVanished recognises that an image of the builder's cache was removed while the build used it,
// by the image collection of another wrapper or by the owner.
func stepVanished(err error) bool {
	var ie *ImageError
	return errors.As(err, &ie) && vanished.MatchString(ie.Reason) && !commandFailed.MatchString(ie.Reason)
}

// The first line is from Docker 20.10 and moby's builder/dockerfile, daemon/images and layer. The second is from Podman 4.3
// and 5.8, when images were removed or another service of the same user account started during the build.
var vanished = regexp.MustCompile(`(unable to find image|No such image:|destination image|set parent) "?sha256:[0-9a-f]{64}|layer does not exist` +
	`|layer not known|checking if cached image exists from a previous build: .*not known|adding layer with blob "sha256:.*no such file or directory`)

// needsBuildKit recognises the classic builder's errors about what only BuildKit supports.
func needsBuildKit(reason string) bool {
	return strings.Contains(reason, "BuildKit") || strings.Contains(reason, "unknown flag: ") ||
		strings.Contains(reason, "Unknown flag: ") || strings.Contains(reason, "unknown instruction: ")
}

// cached reports whether a build may take steps from the builder's cache. An unsigned job's build takes none. From a cache
// that can be forged, only a build by hand takes some.
func (e *Engine) cached(s job.Source) bool {
	return !s.Unsigned && (s.Cache || !e.Info.quirks.forgedCache)
}

func (e *Engine) buildWith(ctx context.Context, v build.BuilderVersion, im job.Image, s job.Source, b *buildContext) error {
	proxyEnv, proxyHosts := throughProxy(s.Proxy, s.Build.Network, e.Info)
	o := build.ImageBuildOptions{
		Version:     v,
		Tags:        []string{contentTag(b.identity), s.Name}, // Podman finds the image by the first to add the second, so the first must be unique
		Dockerfile:  b.packed,
		BuildArgs:   withArgs(b.buildArgs(s), proxyEnv),
		Target:      s.Build.Target,
		NetworkMode: s.Build.Network,
		Platform:    s.Build.Platform,
		PullParent:  s.Build.Pull && !s.Unsigned, // else fetchBases has pulled it
		NoCache:     s.Build.NoCache || !e.cached(s),
		ExtraHosts:  slices.Concat(s.Build.ExtraHosts, proxyHosts),
		Labels:      merged(s.Build.Labels, im.Labels),
		Remove:      true,
		ForceRemove: true,
	}
	o.Labels[job.LabelContent] = b.identity
	mark := "boinc-build-" + strings.ToLower(rand.Text()) // recognises the processes of this build
	if e.Info.quirks.stepsOutlive {
		o.ExtraHosts = append(slices.Clip(o.ExtraHosts), mark+":127.0.0.1")
	}
	if e.Info.quirks.hostsAsJSON && len(o.ExtraHosts) > 0 {
		list, err := json.Marshal(o.ExtraHosts)
		if err != nil {
			return err
		}
		o.ExtraHosts = []string{string(list)}
	}
	limitBuild(&o, s.Limits, e.Info)
	var tail []string
	step, made, began := "", "", now()
	err := e.stream(ctx, func(ctx context.Context) (io.ReadCloser, error) {
		pr, pw := io.Pipe()
		go func() { pw.CloseWithError(b.pack(pw)) }()
		resp, err := e.api.ImageBuild(ctx, pr, o)
		if err != nil {
			pr.CloseWithError(errAborted)
		}
		return resp.Body, err
	}, func(line string) {
		line = colours.ReplaceAllString(line, "") // the classic builder colours stderr red
		e.log.Debug().Str("builder", line).Msg("build")
		if m := stepMade.FindStringSubmatch(line); m != nil {
			made = m[1]
		}
		if line == "" {
			return
		}
		if strings.HasPrefix(line, "Step ") || strings.HasPrefix(line, "STEP ") {
			step, tail = line, nil // output of earlier steps is not the reason
			return
		}
		if tail = append(tail, line); len(tail) > outputKept {
			tail = tail[1:]
		}
	})
	if err != nil && e.Info.quirks.stepsOutlive && !commandFailed.MatchString(err.Error()) {
		host.EndBuild(mark)
	}
	if err != nil && made != "" {
		e.leftOver(ctx, im, s, made, began)
	}
	if err != nil && commandFailed.MatchString(err.Error()) {
		err = &ImageError{Image: s.Name, Reason: "build: " + plain(err.Error())}
	} else {
		err = imageErrorFor("build", s, err, string(b.text)+fmt.Sprint(o.BuildArgs))
	}
	var ie *ImageError
	if errors.As(err, &ie) {
		ie.Step, ie.Output = step, tail
		if limit := s.Limits.MemoryLimit(); v == build.BuilderV1 && o.Memory > 0 {
			switch {
			case killed.MatchString(ie.Reason), len(tail) > 0 && tail[len(tail)-1] == "container exited on killed": // Podman
				ie.OutOfMemory = true
				ie.Reason += ": it needed more memory than its limit of " + limit
			case slices.ContainsFunc(tail, func(line string) bool { return strings.Contains(line, "Killed") }): // shells, make, gcc
				ie.Reason += " (perhaps a program needed more memory than the build's limit of " + limit + ")"
			}
		}
		// Only the step's output says that it could not reach the network, or that the disk is full. But the project
		// controls that output, so it decides nothing else. The *ImageError in the chain tells the caller.
		if class := classOf(strings.Join(tail, "\n")); class == ErrNetwork || class == ErrDiskFull {
			return fmt.Errorf("%w: %w", class, err)
		}
	}
	return err
}

// limitBuild gives the steps of a build the limits of the job's container. BuildKit ignores them.
func limitBuild(o *build.ImageBuildOptions, l job.Limits, info Info) {
	const period = 100_000 // µs, the kernel's default
	if info.quirks.memoryLimit {
		o.Memory, o.MemorySwap = l.Memory, l.Memory
	}
	if cpus := min(l.CPUs, float64(info.CPUs)); info.quirks.cpuQuota {
		o.CPUShares = l.CPUShares
		if cpus > 0 {
			o.CPUPeriod, o.CPUQuota = period, int64(cpus*period)
		}
	}
	if info.quirks.buildKit { // Podman's builder refuses Docker's format
		o.Ulimits = []*container.Ulimit{{Name: "core"}, info.openFiles()}
	}
}

// commandFailed recognises that a step's command failed. The message quotes the command, which the project
// wrote, so its words say nothing about this computer.
var commandFailed = regexp.MustCompile(`returned a non-zero code: \d+$|did not complete successfully: exit code|: exit status \d+\s*$`)

// killed recognises that a step was killed. The classic builders end a step so only when they end themselves.
var killed = regexp.MustCompile(`(non-zero code: |exit status )137\s*$`)

// stepMade recognises the image that a step of the classic builder made.
var stepMade = regexp.MustCompile(`^ ?-{2,3}> ([0-9a-f]{11,64})$`)

var colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func hexOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
