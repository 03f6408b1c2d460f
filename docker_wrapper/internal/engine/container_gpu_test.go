//go:build unix

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/system"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// How engines give NVIDIA's GPUs, by what they say of themselves.
func TestGPUOffer(t *testing.T) {
	runtime := map[string]system.RuntimeWithStatus{"runc": {}, "nvidia": {}}
	dirs, devices := []string{"/etc/cdi", "/var/run/cdi"}, []system.DeviceInfo{{Source: "cdi", ID: "nvidia.com/gpu=0"}}
	for _, tt := range []struct {
		name, kind, version string
		info                system.Info
		want                gpuWay
	}{
		{"an old Docker, which says nothing", Docker, "20.10.24", system.Info{}, gpuByDriver},
		{"an old Docker with the toolkit", Docker, "20.10.24", system.Info{Runtimes: runtime}, gpuByDriver},
		{"the toolkit as the default", Docker, "24.0.0", system.Info{DefaultRuntime: "nvidia"}, gpuByDriver},
		{"CDI turned on in Docker 25", Docker, "25.0.0", system.Info{CDISpecDirs: dirs}, gpuByCDI},
		{"CDI that finds nothing", Docker, "28.5.2", system.Info{CDISpecDirs: dirs}, gpuByDriver},
		{"CDI", Docker, "28.5.2", system.Info{CDISpecDirs: dirs, DiscoveredDevices: devices}, gpuByCDI},
		{"both", Docker, "28.5.2", system.Info{Runtimes: runtime, CDISpecDirs: dirs, DiscoveredDevices: devices}, gpuByDriver},
		{"an old Podman", Podman, "4.3.1", system.Info{Runtimes: runtime}, gpuIgnored},
		{"Podman before the one that does", Podman, "5.4.2", system.Info{}, gpuIgnored},
		{"Podman", Podman, "5.5.0", system.Info{}, gpuByCDI},
	} {
		q := quirksOf(tt.kind, infoFacts{version: tt.version})
		q.offer(tt.kind, tt.version, tt.info)
		if q.gpus != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, gpuWays[q.gpus], gpuWays[tt.want])
		}
	}
}

// A Docker that lists other makers' devices alone may have NVIDIA's toolkit.
func TestGPUWayOfAGrant(t *testing.T) {
	g := &job.GPUGrant{Vendor: job.NVIDIA, Devices: []job.Device{{ID: "GPU-a", CDI: []string{"nvidia.com/gpu=GPU-a"}}}}
	for offered, want := range map[string]gpuWay{"": gpuByCDI, "intel.com/gpu=0\n": gpuByDriver, "intel.com/gpu=0\nnvidia.com/gpu=0\n": gpuByCDI} {
		if got := (quirks{gpus: gpuByCDI, cdi: offered}).way(g); got != want {
			t.Errorf("%q: got %s, want %s", offered, gpuWays[got], gpuWays[want])
		}
	}
}

// Of a GPU's names the engine's own is taken, and the best where it says nothing.
func TestCDINames(t *testing.T) {
	g := &job.GPUGrant{Vendor: job.NVIDIA, Devices: []job.Device{{ID: "GPU-a", CDI: []string{"nvidia.com/gpu=GPU-a", "nvidia.com/gpu=0"}}, {ID: "GPU-b"}}}
	for offered, want := range map[string]string{
		"":                   "nvidia.com/gpu=GPU-a nvidia.com/gpu=GPU-b",
		"nvidia.com/gpu=0\n": "nvidia.com/gpu=0 nvidia.com/gpu=GPU-b",
		"nvidia.com/gpu=0\nnvidia.com/gpu=GPU-a\n": "nvidia.com/gpu=GPU-a nvidia.com/gpu=GPU-b",
	} {
		if got := strings.Join(cdiNames(g, quirks{cdi: offered}), " "); got != want {
			t.Errorf("%q: got %s, want %s", offered, got, want)
		}
	}
}

// Whatever an engine says of a GPU is this computer's matter, with the command that mends it; what it says of something else isn't.
func TestGPUHints(t *testing.T) {
	g := &job.GPUGrant{Vendor: job.NVIDIA, Devices: []job.Device{{ID: "GPU-a", Nodes: []job.Node{{Path: "/dev/nvidia0"}, {Path: "/dev/dri/renderD128"}}}}}
	for _, tt := range []struct{ said, hint string }{
		{`Error response from daemon: could not select device driver "nvidia" with capabilities: [[gpu]]`, "Docker lacks NVIDIA's toolkit (sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker)"},
		{`could not select device driver "cdi" with capabilities: []`, `Docker has CDI turned off ("features": {"cdi": true} in /etc/docker/daemon.json, then sudo systemctl restart docker)`},
		{"CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0", "no CDI specification has it (sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)"},
		{"setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=0", "no CDI specification has it (sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)"},
		{"nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", "its driver isn't loaded (sudo modprobe nvidia && nvidia-smi)"},
		{"nvidia-container-cli: initialization error: nvml error: driver/library version mismatch", "the driver was updated, and the older one is still loaded (sudo reboot)"},
		{"nvidia-container-cli: device error: GPU-a: unknown device: unknown", "its driver doesn't list it any more (nvidia-smi -L; then sudo systemctl restart boinc-client)"},
		{"nvidia-container-cli: something new", "NVIDIA's toolkit fails (nvidia-smi says whether the driver works)"},
		{`error gathering device information while adding custom device "/dev/kfd": no such file or directory`, "its device file is gone (sudo dmesg says why)"},
		{"container create: stat /dev/nvidia0: no such file or directory", "its device file is gone (sudo dmesg says why)"},
		{"container create: stat /dev/dri/renderD128: no such file or directory", "its device file is gone (sudo dmesg says why)"},
		{`exec: "/opt/nvidia/run": stat /opt/nvidia/run: no such file or directory: unknown`, ""},
		{"no space left on device", ""},
	} {
		err := errors.New(tt.said)
		got := hinted(g, err)
		if tt.hint == "" {
			if got != err {
				t.Errorf("%s: got %v, want it as it was", tt.said, got)
			}
			continue
		}
		want := "the container can't have its GPU: " + tt.hint
		if !errors.Is(got, ErrGPU) || !strings.HasPrefix(got.Error(), want+": ") || len(want) > 255 {
			t.Errorf("got  %v\nwant ErrGPU: %s, in 255 bytes", got, want)
		}
		if hinted(nil, err) != err {
			t.Error("a job without a GPU is told of one")
		}
	}
}

func TestJudgeProof(t *testing.T) {
	want, others := []string{"/dev/nvidia0", "/dev/nvidiactl"}, []string{"/dev/nvidia1"}
	const rest = "/dev/nvidiactl: ok\n/dev/nvidia1: no such file or directory\n"
	for _, tt := range []struct {
		said, want string
		class      error
	}{
		{"/dev/nvidia0: ok\n" + rest, "", nil},
		{"/dev/nvidia0: device or resource busy\n" + rest, "", nil},
		{"/dev/nvidia0: no such file or directory\n" + rest, "it has no /dev/nvidia0 (sudo nvidia-ctk cdi generate", ErrGPU},
		{"/dev/nvidia0: operation not permitted\n" + rest, "its user may not use /dev/nvidia0: operation not permitted (ls -l /dev/nvidia0", ErrGPU},
		{"/dev/nvidia0: permission denied\n" + rest, "its user may not use /dev/nvidia0", ErrGPU},
		{"/dev/nvidia0: input/output error\n" + rest, "/dev/nvidia0 can't be used: input/output error (sudo dmesg says why)", ErrGPU},
		{"/dev/nvidia0: ok\n/dev/nvidiactl: ok\n/dev/nvidia1: ok\n", "it has /dev/nvidia1, too, which BOINC didn't assign", ErrGPU},
		{"/dev/nvidia0: ok\n/dev/nvidiactl: ok\n/dev/nvidia1: operation not permitted\n", "", nil},
		{"", `cannot look for the GPU in the container at /dev/nvidia0: it says ""`, ErrUnproven},
		{"exec failed", `cannot look for the GPU in the container at /dev/nvidia0: it says "exec failed"`, ErrUnproven},
	} {
		err := judgeProof(tt.said, want, others)
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: got %v, want %v: %s", tt.said, err, tt.class, tt.want)
		}
	}
}

// An engine that can't give a job its GPU is not asked to run it.
func TestGivesGPUs(t *testing.T) {
	nvidia := &job.GPUGrant{Vendor: job.NVIDIA, Devices: []job.Device{{ID: "GPU-a"}}}
	amd := func(everybody bool) *job.GPUGrant {
		return &job.GPUGrant{Vendor: job.AMD, Devices: []job.Device{{ID: "0000:03:00.0", Nodes: []job.Node{{Path: "/dev/kfd", GID: 109, Everybody: everybody}}}}}
	}
	for _, tt := range []struct {
		name, kind, version string
		rootless            bool
		g                   *job.GPUGrant
		want                string
	}{
		{"no GPU", Podman, "4.3.1", true, nil, ""},
		{"an old Podman", Podman, "4.3.1", false, nvidia, "Podman 4.3.1 gives no NVIDIA GPU through its API (5.5 and newer do;"},
		{"Podman", Podman, "5.8.6", false, nvidia, ""},
		{"AMD's on an old Podman", Podman, "4.3.1", false, amd(false), ""},
		{"AMD's on rootless Docker", Docker, "28.5.2", true, amd(false), "with rootless Docker, containers lack the group that may use /dev/kfd (sudo chmod o+rw /dev/kfd,"},
		{"AMD's for everybody on rootless Docker", Docker, "28.5.2", true, amd(true), ""},
		{"AMD's on rootless Podman", Podman, "5.8.6", true, amd(false), ""},
	} {
		i := Info{Kind: tt.kind, Version: tt.version, Rootless: tt.rootless, quirks: quirksOf(tt.kind, infoFacts{version: tt.version})}
		i.quirks.offer(tt.kind, tt.version, system.Info{})
		err := i.gives(tt.g)
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrGPU) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Eight jobs on a computer with eight GPUs ask for eight, and each of their containers has its own alone.
func TestEightJobsEightGPUs(t *testing.T) {
	for _, o := range []enginetest.Options{{}, {Podman: true, Version: "5.8.6"}} {
		e, fake := open1(t, o)
		files, gpus := map[string][]string{}, []job.GPU{}
		for i := range 8 {
			node := fmt.Sprintf("/dev/nvidia%d", i)
			uuid := fmt.Sprintf("GPU-%d", i)
			files[uuid], files["nvidia.com/gpu="+uuid] = []string{node}, []string{node}
			gpus = append(gpus, job.GPU{Vendor: job.NVIDIA, Index: i, UUID: uuid, Nodes: []job.Node{{Path: node}}})
		}
		fake.GPUs(files)
		e, err := Open(t.Context(), Options{Host: e.Info.Host}) // as it is now
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := fake.AddImage("app", enginetest.Image{Command: []string{"hold"}}); err != nil {
			t.Fatal(err)
		}
		var asked []string
		for i := range 8 {
			g := &job.GPUGrant{Vendor: job.NVIDIA, Prover: "/dev/null", Devices: []job.Device{{ID: gpus[i].UUID, Nodes: gpus[i].Nodes}}}
			for _, other := range gpus {
				if other.Index != i {
					g.Others = append(g.Others, other.Nodes[0].Path)
				}
			}
			c, err := e.Create(t.Context(), &job.Job{Container: job.Container{Name: fmt.Sprint("job", i), Network: "none", GPU: g}}, "app")
			if err == nil {
				err = c.Start(t.Context())
			}
			if err == nil {
				err = c.ProveGPUs(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, call := range fake.Calls() {
			if call.Name == "create" {
				for name := range files {
					if strings.Contains(string(call.Body), `"DeviceIDs":["`+name+`"]`) {
						asked = append(asked, name)
					}
				}
			}
		}
		slices.Sort(asked)
		if got := len(slices.Compact(asked)); got != 8 {
			t.Errorf("%+v: got requests for %q, want eight different ones", o, asked)
		}
	}
}
