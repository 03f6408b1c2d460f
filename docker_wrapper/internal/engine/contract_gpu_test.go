//go:build integration

package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// What a CDI specification of the test's own says stands for a GPU: device files of every kernel's under other names, and a
// variable each. To the engine they are nothing else than NVIDIA's.
const testSpec = `cdiVersion: "0.5.0"
kind: boinc.test/%[1]s
devices:
- name: one
  containerEdits:
    env: [GPU_TEST=one]
    deviceNodes:
    - {path: /dev/boinc_gpu1, hostPath: /dev/zero, permissions: rw}
- name: two
  containerEdits:
    env: [GPU_TEST=two]
    deviceNodes:
    - {path: /dev/boinc_gpu2, hostPath: /dev/null, permissions: rw}
`

// gpuRun is the engine with the specification, as scripts/engines.sh has a place for it, and the wrapper as the prover.
type gpuRun struct {
	e            *engine.Engine
	kind, prover string
	gives        bool // NVIDIA's GPUs, by CDI
	described    bool // the specification is where the engine reads it: a user's own has no such place here
}

func (k *contract) gpus(t *testing.T) gpuRun {
	t.Helper()
	g := gpuRun{kind: strings.TrimPrefix(k.name("gpu"), "boinc_"), prover: k.wrapper(t)}
	dir := filepath.Join(filepath.Dir(strings.TrimPrefix(k.e.Info.Host, "unix://")), "cdi")
	if _, err := os.Stat(dir); err == nil {
		name := filepath.Join(dir, g.kind+".yaml")
		if err := os.WriteFile(name, fmt.Appendf(nil, testSpec, g.kind), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(name) })
		g.described = true
	}
	var err error
	k.eventually(t, "the engine reads the specification, or never does", func() bool {
		if g.e != nil {
			g.e.Close()
		}
		if g.e, err = engine.Open(t.Context(), engine.Options{Host: k.e.Info.Host}); err != nil {
			t.Fatal(err)
		}
		g.gives = g.e.Info.GPUWay(g.grant("one")) == "CDI"
		return g.gives || !k.knowsCDI(t)
	})
	t.Cleanup(func() { g.e.Close() })
	return g
}

// knowsCDI reports what the engine's version and its own word promise.
func (k *contract) knowsCDI(t *testing.T) bool {
	t.Helper()
	info, err := k.api.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k.e.Info.Kind == engine.Docker && len(info.CDISpecDirs) > 0
}

// grant is the first device of the specification, and what a job with it is not to see.
func (g gpuRun) grant(names ...string) *job.GPUGrant {
	grant := &job.GPUGrant{Vendor: job.NVIDIA, Prover: g.prover, Others: []string{"/dev/boinc_gpu2"}}
	for _, name := range names {
		grant.Devices = append(grant.Devices, job.Device{ID: "GPU-00000000-0000-0000-0000-000000000000", CDI: []string{"boinc.test/" + g.kind + "=" + name},
			Nodes: []job.Node{{Path: "/dev/boinc_gpu1", Everybody: true}}})
	}
	return grant
}

// wantsDescription leaves a row out where the engine gives what a specification describes, and none can be written.
func (g gpuRun) wantsDescription(t *testing.T) {
	t.Helper()
	if g.gives && !g.described {
		t.Skip("there is no place for a specification")
	}
}

// try makes a container, starts it and looks for its GPU.
func (g gpuRun) try(t *testing.T, k *contract, j *job.Job) (*engine.Container, error) {
	t.Helper()
	c, err := g.e.Create(t.Context(), j, k.image)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { k.mustRemove(t, c) })
	if err = c.Start(t.Context()); err == nil {
		err = c.ProveGPUs(t.Context())
	}
	return c, err
}

var gpuRows = []contractRow{
	{fact: "gpu: the container has the assigned one and no other, or it isn't started", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("env=GPU_TEST", "open=/dev/boinc_gpu1", "open=/dev/boinc_gpu2", "sleep=1m")
		j.Container.GPU = g.grant("one")
		g.wantsDescription(t)
		j.Container.User, j.Container.DropCaps = job.User{Mode: "fixed", Fixed: "1000:1000"}, true
		c, err := g.try(t, k, j)
		if !g.gives {
			refused(t, k, err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := k.finish(t, c).out, "\"one\"\n/dev/boinc_gpu1: ok\n/dev/boinc_gpu2: no such file or directory\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}},
	{fact: "gpu: one that no specification has may mend", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("out=ran without")
		j.Container.GPU = g.grant("three")
		if _, err := g.try(t, k, j); g.gives {
			is(t, err, engine.ErrGPU, "no CDI specification has it (sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)")
		} else {
			refused(t, k, err)
		}
	}},
	{fact: "gpu: a specification without its device file is found out", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("sleep=1m")
		j.Container.GPU = g.grant("two") // which has another's
		g.wantsDescription(t)
		j.Container.GPU.Others = nil
		if _, err := g.try(t, k, j); g.gives {
			is(t, err, engine.ErrGPU, "/dev/boinc_gpu1 (sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)")
		} else {
			refused(t, k, err)
		}
	}},
	{fact: "gpu: another job's is found out", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("sleep=1m")
		j.Container.GPU = g.grant("one", "two") // as a default runtime might
		g.wantsDescription(t)
		if _, err := g.try(t, k, j); g.gives {
			is(t, err, engine.ErrGPU, "it has /dev/boinc_gpu2, too, which BOINC didn't assign")
		} else {
			refused(t, k, err)
		}
	}},
	{fact: "gpu: device files and groups of other makers", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("open=/dev/full", "open=/dev/kmsg", "groups=", "sleep=1m")
		j.Container.GPU = &job.GPUGrant{Vendor: job.AMD, Prover: g.prover, Others: []string{"/dev/kmsg"},
			Devices: []job.Device{{ID: "0000:03:00.0", Nodes: []job.Node{{Path: "/dev/full", GID: 109}}}}}
		j.Container.User, j.Container.DropCaps = job.User{Mode: "fixed", Fixed: "1000:1000"}, true
		c, err := g.try(t, k, j)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := k.finish(t, c).out; !strings.HasPrefix(got, "/dev/full: ok\n/dev/kmsg: no such file or directory\n") || !k.e.Info.Rootless && !strings.Contains(got, "109") {
			t.Errorf("got %q, want the device, no other, and the group 109", got)
		}
	}},
	{fact: "gpu: a device file that is gone may mend", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("out=ran without")
		j.Container.GPU = &job.GPUGrant{Vendor: job.AMD, Prover: g.prover, Devices: []job.Device{{ID: "0000:03:00.0", Nodes: []job.Node{{Path: "/dev/dri/renderD199"}}}}}
		_, err := g.try(t, k, j)
		is(t, err, engine.ErrGPU, "its device file is gone (sudo dmesg says why)")
	}},
	{fact: "gpu: one that its user may not use is found out", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("sleep=1m")
		secret := filepath.Join(k.dir, "secret") // /dev/null under another name, for root alone
		const char, null = syscall.S_IFCHR, 1<<8 | 3
		if os.Getuid() != 0 {
			t.Skip("device files are for root to make")
		}
		if err := syscall.Mknod(secret, char|0o600, null); err != nil {
			t.Fatal(err)
		}
		j.Container.GPU = &job.GPUGrant{Vendor: job.AMD, Prover: g.prover, Devices: []job.Device{{ID: "0000:03:00.0", Nodes: []job.Node{{Path: secret}}}}}
		j.Container.User, j.Container.DropCaps = job.User{Mode: "fixed", Fixed: "1000:1000"}, true
		_, err := g.try(t, k, j)
		is(t, err, engine.ErrGPU, "its user may not use "+secret)
	}},
	{fact: "gpu: a container that has ended proves nothing", check: func(t *testing.T, k *contract) {
		g := k.gpus(t)
		j := k.job("out=done")
		j.Container.GPU = &job.GPUGrant{Vendor: job.AMD, Prover: g.prover, Devices: []job.Device{{ID: "0000:03:00.0", Nodes: []job.Node{{Path: "/dev/full"}}}}}
		c, err := g.e.Create(t.Context(), j, k.image)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.mustRemove(t, c) })
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.wait(t, c)
		if err := c.ProveGPUs(t.Context()); !errors.Is(err, engine.ErrNotRunning) {
			t.Errorf("got %v, want ErrNotRunning", err)
		}
	}},
}

// refused wants the clear message of an engine that can't give a GPU of NVIDIA's.
func refused(t *testing.T, k *contract, err error) {
	t.Helper()
	if k.e.Info.Kind == engine.Podman {
		is(t, err, engine.ErrGPU, "Podman "+k.e.Info.Version+" gives no NVIDIA GPU through its API")
	} else {
		is(t, err, engine.ErrGPU, "Docker lacks NVIDIA's toolkit (sudo apt-get install nvidia-container-toolkit")
	}
}

// is wants an error of this class, with this text near enough to its beginning for a client to show it; never one that
// makes it the job's fault.
func is(t *testing.T, err, class error, text string) {
	t.Helper()
	var re *engine.RunError
	said := fmt.Sprint(err)
	if !errors.Is(err, class) || errors.As(err, &re) || !strings.Contains(said[:min(len(said), 255)], text) {
		t.Errorf("got %v, want %v ... %s", err, class, text)
	}
}
