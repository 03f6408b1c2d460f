//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/samples"
)

// The host seems to have two GPUs, which CUDA counts in the opposite order. Their device files are /dev/zero and /dev/full
// under other names, in a CDI specification in the engine's directory (scripts/engines.sh). The test binary acts as the
// wrapper and reads the list of GPUs from TEST_GPUS; everything else is real. If the engine can't give these GPUs to a
// container, the wrapper must say so and not run the job.
func TestGPU(t *testing.T) {
	t.Parallel()
	e, err := engine.Open(t.Context(), engine.Options{Host: os.Getenv("DOCKER_HOST")})
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	kind := fmt.Sprintf("gpu%d", os.Getpid())
	grant := &job.GPUGrant{Vendor: job.NVIDIA, Devices: []job.Device{{ID: "GPU-0", CDI: []string{"boinc.test/" + kind + "=0"}}}}
	dir := filepath.Join(filepath.Dir(strings.TrimPrefix(e.Info.Host, "unix://")), "cdi")
	gives := e.Info.Kind == engine.Podman && e.Info.GPUWay(grant) == "CDI"
	if _, err := os.Stat(dir); err == nil {
		const spec = "cdiVersion: 0.5.0\nkind: boinc.test/%s\ndevices:\n" +
			"- {name: '0', containerEdits: {deviceNodes: [{path: /dev/boinc_gpu0, hostPath: /dev/zero}]}}\n" +
			"- {name: '1', containerEdits: {deviceNodes: [{path: /dev/boinc_gpu1, hostPath: /dev/full}]}}\n"
		file := filepath.Join(dir, kind+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, spec, kind), 0o644); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file)
		if e.Info.Kind == engine.Docker && !strings.HasPrefix(e.Info.Version, "20.") {
			gives = true
			if err := await("the engine to read the specification", func() bool {
				e, err := engine.Open(t.Context(), engine.Options{Host: e.Info.Host})
				if err != nil {
					return false
				}
				defer e.Close()
				return e.Info.GPUWay(grant) == "CDI"
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := newJob(t, fmt.Sprintf("gpu_%d", os.Getpid()), "use_gpu = true", func(d *boincapi.InitData) {
		d.GPUType, d.GPUDeviceNum, d.GPUUsage = "NVIDIA", 0, 1
		d.HostInfo.Coprocs = []boincapi.Coproc{{Tag: "coproc_cuda", Count: 2, PCI: []boincapi.PCIInfo{{BusID: 2}, {BusID: 1}}}}
	})
	var gpus []string
	for i := range 2 {
		gpus = append(gpus, fmt.Sprintf(`{"vendor": "nvidia", "index": %[1]d, "uuid": "GPU-%[1]d", "pci": "0000:0%[2]d:00.0", "cdi": ["boinc.test/%[3]s=%[1]d"], `+
			`"nodes": [{"path": "/dev/boinc_gpu%[1]d", "gid": 0, "everybody": true}]}`, i, i+1, kind))
	}
	list := filepath.Join(t.TempDir(), "gpus.json")
	if err := os.WriteFile(list, []byte("["+strings.Join(gpus, ",")+"]"), 0o644); err != nil {
		t.Fatal(err)
	}
	command := []string{"env", "TEST_GPUS=" + list, asProjects(t, c), "open=/dev/boinc_gpu1", "open=/dev/boinc_gpu0", "sleep=3s"}
	if os.Getuid() == 0 { // as a user who is only in the engine's group
		const uid = 64321
		giveTo(t, c.DataDir(), uid)
		giveTo(t, filepath.Dir(list), uid)
		fi, err := os.Stat(strings.TrimPrefix(e.Info.Host, "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		command = append([]string{"setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), fmt.Sprintf("--groups=%d", fi.Sys().(*syscall.Stat_t).Gid)}, command...)
	}
	if command[0], err = exec.LookPath(command[0]); err != nil {
		t.Fatal(err)
	}
	r, err := c.Run(t.Context(), command[0], command[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	said := stderrOf(t, c)
	if !gives {
		if want := "the container can't have its GPU: "; r.Outcome != boinctest.TemporaryExit || !strings.HasPrefix(r.Reason, want) {
			t.Errorf("got %+v, want a temporary exit: %s\n%s", r, want, said)
		}
		return
	}
	if r.Outcome != boinctest.Success {
		t.Fatalf("got %+v, want success\n%s", r, said)
	}
	want := []string{"/dev/boinc_gpu1 ok\n", "/dev/boinc_gpu0 no such file or directory\n"}
	if static {
		want = append(want, "the container has its GPU")
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("want %q in:\n%s", w, said)
		}
	}
}

// asProjects copies the test's wrapper to the project directory, where a client has it.
func asProjects(t *testing.T, c *boinctest.Client) string {
	t.Helper()
	program, err := exec.LookPath("docker_wrapper")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(c.ProjectDir(), "docker_wrapper")
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// With a GPU the samples make the expected outputs. Without one they don't run, and the reason says what is missing.
func TestGPUSample(t *testing.T) {
	t.Parallel()
	there := false
	gpus, err := gpu.List()
	for _, g := range gpus {
		there = there || g.Vendor == job.NVIDIA && g.Trouble == ""
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gpu", "gpu_copy"} {
		s, err := samples.Load(filepath.Join("..", "samples", name))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		c, err := s.Client(dir, "sample_"+name)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer removeImages(t, dir)
		if there {
			runJob(t, c, s.Args()...)
			if err := c.CopyOutputs(); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(c); err != nil {
				t.Error(err)
			}
			continue
		}
		r, err := c.Run(t.Context(), binary(t, "docker_wrapper"), s.Args()...)
		if err != nil {
			t.Fatal(err)
		}
		if want := "no GPU for this job: "; r.Outcome != boinctest.TemporaryExit || !strings.HasPrefix(r.Reason, want) || !strings.HasSuffix(r.Reason, ")") {
			t.Errorf("got %+v, want a temporary exit: %s... (COMMAND)", r, want)
		}
	}
}
