//go:build unix

package engine

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What the engine is asked to create, for plans as they come. Read the diff of a golden file.
func TestCreateRequests(t *testing.T) {
	docker := Info{Kind: Docker, Architecture: "amd64", CPUs: 8, quirks: quirksOf(Docker, infoFacts{"5.8.6", true, true, true, true, false})}
	podman := Info{Kind: Podman, Architecture: "amd64", CPUs: 8, quirks: quirksOf(Podman, infoFacts{"5.8.6", true, true, true, true, false})}
	rootless, selinux, poor := docker, docker, docker
	rootless.Rootless, selinux.SELinux = true, true
	poor.quirks = quirksOf(Docker, infoFacts{})
	poor.CPUs = 2
	nvidia := func(d *boincapi.InitData) { d.GPUType, d.GPUDeviceNum = "NVIDIA", 1 }
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
		init         func(*boincapi.InitData)
		standalone   bool
		imageCommand []string
		info         Info
	}{
		{name: "default", info: docker},
		{name: "podman", info: podman},
		{name: "rootless", info: rootless},
		{name: "selinux", info: selinux},
		{name: "unsigned", unsigned: true, info: docker},
		{name: "standalone", standalone: true, info: docker},
		{name: "copy_mode", config: `copy_to_container = [{src = "in", dst = "/in"}]`, info: docker},
		{name: "gpu_by_uuid", config: "use_gpu = true", init: nvidia, info: docker},
		{name: "project_dir", config: `project_dir_mount = "/project"
slot_dir_mount = "/slot"`, info: docker},
		{name: "options", config: full, info: docker},
		{name: "options_podman", config: full, info: podman},
		{name: "engine_without_limits", config: `create_args = "--cpus 6"`, info: poor},
		{name: "threads", args: []string{"--nthreads", "16"}, init: func(d *boincapi.InitData) { d.NCPUs = 16 }, info: docker},
		{name: "appended_args", config: "append_cmdline_args = true", args: []string{"-x", "two words"}, imageCommand: []string{"run"}, info: docker},
		{name: "proxy", init: proxied, info: docker},
		{name: "proxy_on_host_podman", init: proxiedHere, info: podman},
		{name: "proxy_on_host", config: `create_args = "--add-host a:1.2.3.4"`, init: proxiedHere, info: docker},
		{name: "web_graphics", config: "web_graphics_guest_port = 8000", info: docker},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := job.ParseConfig("job.toml", []byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			in := job.Input{Config: c, Dir: "/b/slots/0", ProjectDir: "/b/projects/p", Args: tt.args, HasDockerfile: true, Signed: !tt.unsigned, Policy: job.Policy{Mounts: []string{"/data"}},
				Host:  job.Host{UID: 120, GID: 130, CPUs: 8, GPUs: []job.GPU{{Vendor: "nvidia", Index: 0, UUID: "GPU-0"}, {Vendor: "nvidia", Index: 1, UUID: "GPU-1"}}},
				Links: []job.Link{{Name: "in", Target: "/b/projects/p/wu_in"}, {Name: "out", Target: "/b/projects/p/wu_0_r1_0"}}}
			if !tt.standalone {
				in.Init = &boincapi.InitData{AppName: "app", AppVersion: 100, PlanClass: "docker", WUName: "wu", ResultName: "wu_0", ProjectDir: "/b/projects/p",
					BoincDir: "/b", NCPUs: 1, RscMemoryBound: 1e9, RscDiskBound: 1e9, HostInfo: boincapi.HostInfo{DockerVersion: "20.10"}}
				if tt.init != nil {
					tt.init(in.Init)
				}
			}
			j, err := job.Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(toRequest(j, "sha256:abc", tt.imageCommand, tt.info), "", "  ")
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
