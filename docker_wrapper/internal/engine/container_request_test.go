//go:build unix

package engine

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/system"
	"github.com/google/go-cmp/cmp"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var testGPUs = []job.GPU{
	{Vendor: job.NVIDIA, Index: 0, UUID: "GPU-0", Nodes: []job.Node{{Path: "/dev/nvidia0", Everybody: true}, {Path: "/dev/nvidiactl", Everybody: true}}},
	{Vendor: job.NVIDIA, Index: 1, UUID: "GPU-1", CDI: []string{"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=1"},
		Nodes: []job.Node{{Path: "/dev/nvidia1", Everybody: true}, {Path: "/dev/nvidiactl", Everybody: true}}},
	{Vendor: job.NVIDIA, Index: 2, UUID: "GPU-2", MIG: true, Parts: []job.Instance{{UUID: "MIG-a", Name: "2:0", CDI: []string{"nvidia.com/gpu=MIG-a"}}},
		Nodes: []job.Node{{Path: "/dev/nvidia2", GID: 44}}},
	{Vendor: job.AMD, Index: 0, PCI: "0000:03:00.0", Nodes: []job.Node{{Path: "/dev/dri/renderD128", GID: 109}, {Path: "/dev/kfd", GID: 109}}},
	{Vendor: job.Intel, Index: 0, PCI: "0000:00:02.0", Nodes: []job.Node{{Path: "/dev/dri/renderD129", Everybody: true, GID: 109}}},
}

// What the engine is asked to create, for plans as they come. Read the diff of a golden file.
func TestCreateRequests(t *testing.T) {
	docker := Info{Kind: Docker, Architecture: "amd64", CPUs: 8, quirks: quirksOf(Docker, infoFacts{"5.8.6", true, true, true, true, false, false})}
	podman := Info{Kind: Podman, Architecture: "amd64", CPUs: 8, quirks: quirksOf(Podman, infoFacts{"5.8.6", true, true, true, true, false, false})}
	rootless, selinux, poor := docker, docker, docker
	rootless.Rootless, selinux.SELinux = true, true
	poor.quirks = quirksOf(Docker, infoFacts{})
	poor.CPUs = 2
	offers := func(to Info, kind, version string, info system.Info) Info {
		to.Kind, to.Version = kind, version
		to.quirks.offer(kind, version, info)
		return to
	}
	toolkit := offers(docker, Docker, "27.0.0", system.Info{Runtimes: map[string]system.RuntimeWithStatus{"nvidia": {}}})
	cdi := offers(docker, Docker, "28.5.2", system.Info{CDISpecDirs: []string{"/etc/cdi"},
		DiscoveredDevices: []system.DeviceInfo{{Source: "cdi", ID: "nvidia.com/gpu=0"}, {Source: "cdi", ID: "nvidia.com/gpu=1"}}})
	podman5 := offers(podman, Podman, "5.8.6", system.Info{})
	rootlessPodman := podman5
	rootlessPodman.Rootless = true
	assigned := func(kind string, number int) func(d *boincapi.InitData) {
		return func(d *boincapi.InitData) {
			d.GPUType, d.GPUDeviceNum, d.GPUOpenCLDevIndex, d.GPUUsage = kind, number, -1, 1
		}
	}
	nvidia := assigned("NVIDIA", 1)
	proxied := func(d *boincapi.InitData) {
		d.ProxyInfo = boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "proxy.example", HTTPServerPort: 3128, HTTPUserName: "u", HTTPUserPasswd: "p w"}
	}
	proxiedHere := func(d *boincapi.InitData) {
		d.ProxyInfo = boincapi.ProxyInfo{UseSOCKSProxy: true, SOCKSServerName: "127.0.0.1", SOCKSServerPort: 1080}
	}
	const full = `create_args = "--cap-drop CHOWN --init=false --read-only --tmpfs /tmp:size=1m --ulimit nofile=10:20 --shm-size 1g --workdir /w --hostname h --env A=B"
mount = ["/data:/data:ro"]
portmap = ["8080:80"]
memory = "1g"
pids = 100
stop_signal = "SIGUSR1"
stop_timeout = 7
entrypoint = ["/bin/x"]
command = ["a", "b"]
`
	tests := []struct {
		name         string // of testdata/request/NAME.json
		config       string
		args         []string
		unsigned     bool
		static       bool
		init         func(*boincapi.InitData)
		standalone   bool
		imageCommand []string
		imageLabels  map[string]string
		info         Info
	}{
		{name: "default", info: docker},
		{name: "podman", info: podman},
		{name: "rootless", info: rootless},
		{name: "selinux", info: selinux},
		{name: "unsigned", unsigned: true, info: docker},
		{name: "standalone", standalone: true, info: docker},
		{name: "copy_mode", config: `copy_to_container = [{src = "in", dst = "/in"}]`, info: docker},
		{name: "gpu_toolkit", config: "use_gpu = true\nenv.NVIDIA_VISIBLE_DEVICES = 'all'", init: nvidia, info: toolkit},
		{name: "gpu_toolkit_unsaid", config: "use_gpu = true", init: nvidia, info: docker},
		{name: "gpu_toolkit_two", config: "use_gpu = true", args: []string{"--device", "1", "--device", "0"}, init: func(d *boincapi.InitData) {
			nvidia(d)
			d.GPUUsage = 2
		}, info: toolkit},
		{name: "gpu_toolkit_half", config: "use_gpu = true", init: func(d *boincapi.InitData) {
			nvidia(d)
			d.GPUUsage = 0.5
		}, info: toolkit},
		{name: "gpu_toolkit_mig", config: "use_gpu = true", init: assigned("NVIDIA", 2), info: toolkit},
		{name: "gpu_toolkit_not_for_this_job", config: "env.NVIDIA_VISIBLE_DEVICES = 'all'", init: nvidia, info: toolkit},
		{name: "gpu_cdi", config: "use_gpu = true", init: nvidia, info: cdi},
		{name: "gpu_cdi_mig", config: "use_gpu = true", init: assigned("NVIDIA", 2), info: cdi},
		{name: "gpu_podman", config: "use_gpu = true", init: nvidia, info: podman5},
		{name: "gpu_amd", config: "use_gpu = true\ncreate_args = '--group-add 44'", init: assigned("ATI", 0), info: docker},
		{name: "gpu_amd_podman", config: "use_gpu = true", init: assigned("ATI", 0), info: podman5},
		{name: "gpu_amd_podman_rootless", config: "use_gpu = true", init: assigned("ATI", 0), info: rootlessPodman},
		{name: "gpu_intel_beside_nvidia_runtime", config: "use_gpu = true", init: assigned("intel_gpu", 0), info: toolkit},
		{name: "project_dir", config: `project_dir_mount = "/project"
slot_dir_mount = "/slot"`, info: docker},
		{name: "options", config: full, info: docker},
		{name: "options_podman", config: full, info: podman},
		{name: "engine_without_limits", config: `create_args = "--cpus 6"`, info: poor},
		{name: "threads", args: []string{"--nthreads", "16"}, init: func(d *boincapi.InitData) { d.NCPUs = 16 }, info: docker},
		{name: "appended_args", config: "append_cmdline_args = true", args: []string{"-x", "two words"}, imageCommand: []string{"run"}, info: docker},
		{name: "image_labels", config: `create_args = "--label a=b"`, info: docker, imageLabels: map[string]string{"a": "x", "traefik.enable": "true",
			"com.centurylinklabs.watchtower.lifecycle.pre-update": "/x", "com.docker.compose.project": "p", "boinc.gpu": "all", "boinc.result": "other"}},
		{name: "capabilities", config: `create_args = "--cap-add cap_mknod --cap-add NET_RAW"`, info: docker},
		{name: "capabilities_all", config: `create_args = "--cap-add ALL --cap-drop SETFCAP"`, info: docker},
		{name: "proxy", init: proxied, info: docker},
		{name: "proxy_on_host_podman", init: proxiedHere, info: podman},
		{name: "proxy_on_host", config: `create_args = "--add-host a:1.2.3.4"`, init: proxiedHere, info: docker},
		{name: "output_files", config: "stdout_file = 'o'\nstderr_file = 'e'\npids = 9", imageCommand: []string{"run", "it"}, static: true, info: docker},
		{name: "output_file_podman", config: "stderr_file = 'e'\nentrypoint = ['/bin/prog']", imageCommand: []string{"run", "it"}, static: true, info: podman},
		{name: "output_file_no_entrypoint", config: "stdout_file = 'o'\ncreate_args = '--entrypoint=\"\"'\ncommand = ['a', 'b']", static: true, info: docker},
		{name: "output_file_mounted", config: "stdout_file = 'out'\nstderr_file = 'e'\nproject_dir_mount = '/project'", imageCommand: []string{"run"}, static: true, info: docker},
		{name: "output_file_entrypoint_reset", config: "stdout_file = 'o'\nentrypoint = []", imageCommand: []string{"run", "it"}, static: true, info: docker},
		{name: "output_file_no_command", config: "stdout_file = 'o'", static: true, info: docker},
		{name: "web_graphics", config: "web_graphics_guest_port = 8000", info: docker},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := job.ParseConfig("job.toml", []byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			in := job.Input{Config: c, Dir: "/b/slots/0", ProjectDir: "/b/projects/p", Args: tt.args, HasDockerfile: true, Signed: !tt.unsigned, Policy: job.Policy{Mounts: []string{"/data"}, Capabilities: []string{"MKNOD", "NET_RAW", "ALL"}},
				Host: job.Host{UID: 120, GID: 130, CPUs: 8, GPUs: testGPUs}, Self: "/b/projects/p/docker_wrapper", Static: tt.static,
				Links: []job.Link{{Name: "in", Target: "/b/projects/p/wu_in"}, {Name: "out", Target: "/b/projects/p/wu_0_r1_0"}}}
			if !tt.standalone {
				in.Init = &boincapi.InitData{AppName: "app", AppVersion: 100, PlanClass: "docker", WUName: "wu", ResultName: "wu_0", ProjectDir: "/b/projects/p",
					BoincDir: "/b", NCPUs: 1, RscMemoryBound: 1e9, RscDiskBound: 1e9, HostInfo: boincapi.HostInfo{DockerVersion: "20.10", MemBytes: 16e9}}
				if tt.init != nil {
					tt.init(in.Init)
				}
			}
			j, err := job.Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(toRequest(j, "sha256:abc", imageFacts{command: tt.imageCommand, labels: tt.imageLabels}, tt.info), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			name := filepath.Join("testdata", "request", tt.name+".json")
			if *update {
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLabelsAreBounded(t *testing.T) {
	many := func(n int) map[string]string {
		labels := map[string]string{}
		for i := range n {
			labels[fmt.Sprint(i)] = ""
		}
		return labels
	}
	for _, tt := range []struct {
		name   string
		labels map[string]string
		want   string
	}{
		{name: "none"},
		{name: "as many as may be", labels: many(1000)},
		{name: "too many", labels: many(1001), want: "image i: it has 1001 labels, want at most 1000"},
		{name: "as much as may be", labels: map[string]string{"k": strings.Repeat("x", 64<<10-1)}},
		{name: "too much", labels: map[string]string{"k": strings.Repeat("x", 64<<10)}, want: "image i: it has 65537 bytes of labels, want at most 65536"},
		{name: "too long a name", labels: map[string]string{strings.Repeat("x", 64<<10+1): ""}, want: "image i: it has 65537 bytes of labels, want at most 65536"},
	} {
		got := ""
		if err := (imageFacts{labels: tt.labels}).labelsError("i"); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
