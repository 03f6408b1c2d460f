package job

import (
	"fmt"
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	const (
		unsigned = "reaches beyond the slot, and this file isn't signed (only files of the app version are)"
		refused  = "isn't allowed on this computer (its owner can allow it: "
		tail     = " in docker_wrapper.toml in BOINC's data directory)"
	)
	deny := func(key, what, mend string) string {
		return fmt.Sprintf("job.toml:1:%d: %s: %s %s%s%s", len(key)+4, key, what, refused, mend, tail)
	}
	args := func(what, mend string) string { return deny("create_args", what, mend) }
	for _, tt := range []struct {
		toml, policy string
		want         string // for a signed job; "" for none
		always       bool   // unsigned jobs get it too
	}{
		{toml: "", always: true},
		{toml: "memory = \"1g\"\npids = 5\nuser = \"image\"\nverbose = 2", always: true},
		{toml: `network = "none"`, always: true},
		{toml: `build_args = "--build-arg A=1 --network none"`, always: true},
		{toml: `mount = ["/data:/data"]`},
		{toml: `mount = ["/cvmfs:/cvmfs:rshared"]`},
		{toml: `mount = ["data:/data"]`},
		{toml: `mount = ["etc:/data"]`}, // a volume of the engine's, whatever it is called
		{toml: `mount = ["/etc/passwd:/x"]`, want: deny("mount", `"/etc/passwd:/x"`, `mounts = ["/etc/passwd"]`)},
		{toml: `mount = ["/etc/passwd:/x:ro"]`, policy: `mounts = ["/etc/"]`},
		{toml: `mount = ["/etcetera:/x"]`},
		{toml: `mount = ["/data:/x"]`, policy: `mounts = ["none"]`, want: deny("mount", `"/data:/x"`, `mounts = ["/data"]`)},
		{toml: `mount = ["/data/a:/x"]`, policy: `mounts = ["none", "/data"]`},
		{toml: `mount = ["/database:/x"]`, policy: `mounts = ["none", "/data"]`, want: deny("mount", `"/database:/x"`, `mounts = ["/database"]`)},
		{toml: `mount = ["data:/x"]`, policy: `mounts = ["none"]`},
		{toml: `create_args = "-v /:/x"`, want: args(`volume "/:/x"`, `mounts = ["/"]`)},
		{toml: `create_args = "--mount type=bind,src=/root/.ssh,dst=/x"`, want: args(`volume "/root/.ssh:/x"`, `mounts = ["/root/.ssh"]`)},
		{toml: `create_args = "-v /data:/x"`},
		{toml: `portmap = ["8080:80"]`},
		{toml: `build_args = "--network default"`, always: true},
		{toml: `build_args = "--network host"`, want: deny("build_args", "--network host", "host_network = true")},
		{toml: `build_args = "--network host"`, policy: "host_network = true"},
		{toml: `create_args = "--hostname h"`},
		{toml: `create_args = "--privileged"`, want: args("--privileged", "privileged = true")},
		{toml: `create_args = "--privileged"`, policy: "privileged = true"},
		{toml: `create_args = "--privileged"`, policy: "host_network = true\nsecurity_opts = true", want: args("--privileged", "privileged = true")},
		{toml: `create_args = "--runtime runc"`, want: args("--runtime or --sysctl", "privileged = true")},
		{toml: `create_args = "--sysctl net.core.somaxconn=1"`, want: args("--runtime or --sysctl", "privileged = true")},
		{toml: `create_args = "--sysctl net.core.somaxconn=1"`, policy: "privileged = true"},
		{toml: `create_args = "--cap-add CHOWN --cap-add cap_sys_ptrace"`},
		{toml: `create_args = "--cap-add=SYS_ADMIN"`, want: args("--cap-add SYS_ADMIN", `capabilities = ["SYS_ADMIN"]`)},
		{toml: `create_args = "--cap-add cap_sys_admin"`, policy: `capabilities = ["SYS_ADMIN"]`},
		{toml: `create_args = "--cap-add ALL"`, policy: `capabilities = ["SYS_ADMIN"]`, want: args("--cap-add ALL", `capabilities = ["ALL"]`)},
		{toml: `create_args = "--cap-drop ALL"`},
		{toml: `create_args = "--device /dev/fuse"`, want: args("--device /dev/fuse", `devices = ["/dev/fuse"]`)},
		{toml: `create_args = "--device /dev/fuse:/dev/x:r"`, policy: `devices = ["/dev/fuse"]`},
		{toml: `create_args = "--device /dev/sda:/dev/fuse"`, policy: `devices = ["/dev/fuse"]`, want: args("--device /dev/sda", `devices = ["/dev/sda"]`)},
		{toml: `create_args = "--network host"`, want: args("--network host", "host_network = true")},
		{toml: `create_args = "--network host"`, policy: "host_network = true"},
		{toml: `create_args = "--network container:db"`, want: args("--network container:db", "host_network = true")},
		{toml: `create_args = "--network other"`, want: args("--network other", "host_network = true")},
		{toml: `create_args = "--network bridge"`},
		{toml: `create_args = "--network none"`},
		{toml: `create_args = "--pid host"`, want: args("--pid host", "host_network = true")},
		{toml: `create_args = "--ipc host"`, want: args("--ipc host", "host_network = true")},
		{toml: `create_args = "--ipc private"`},
		{toml: `create_args = "--gpus all"`, policy: "privileged = true\nhost_network = true\nsecurity_opts = true",
			want: "job.toml:1:15: create_args: --gpus all (use_gpu = true gives the GPU that BOINC assigned) isn't allowed on this computer"},
		{toml: `create_args = "--security-opt no-new-privileges"`},
		{toml: `create_args = "--security-opt seccomp=unconfined"`, want: args("--security-opt seccomp=unconfined", "security_opts = true")},
		{toml: `create_args = "--security-opt label:disable"`, want: args("--security-opt label:disable", "security_opts = true")},
		{toml: `create_args = "--security-opt apparmor=unconfined"`, policy: "security_opts = true"},
	} {
		t.Run(tt.toml+" with "+tt.policy, func(t *testing.T) {
			p, err := ParsePolicy(PolicyFile, []byte(tt.policy))
			if err != nil {
				t.Fatal(err)
			}
			c := testInput(t, tt.toml).Config
			if got := p.check(c, true, "/boinc"); said(got) != tt.want {
				t.Errorf("signed:\ngot  %s\nwant %s", said(got), tt.want)
			}
			switch got := p.check(c, false, "/boinc"); {
			case tt.always && got != nil:
				t.Errorf("unsigned: got %v, want it allowed", got)
			case !tt.always && (got == nil || !strings.HasSuffix(got.Error(), unsigned) || got.Line != 1):
				t.Errorf("unsigned: got %v, want it refused", got)
			}
		})
	}
}

func said(e *ConfigError) string {
	if e == nil {
		return ""
	}
	return e.Error()
}

func TestMayMount(t *testing.T) {
	for source, want := range map[string]bool{
		"": true, "data": true, "etc": true, "/data": true, "/data/": true, "/opt/x": true, "/mnt": true, "/cvmfs/a.b": true, "/usrlocal": true,
		"/boinc_data": true, `D:\data`: true, "/srv/boinc": true,
		"/": false, "//": false, "/.": false, "/data/..": false, "/data/../etc": false, "//etc": false, "/etc/": false, "/etc/../etc/shadow": false, "/./root": false,
		"/boinc": false, "/boinc/": false, "/boinc/slots/0": false, "/boinc/../boinc": false, `\etc`: false, `/data\..\..\etc`: false,
	} {
		if got := (Policy{}).mayMount(source, "/boinc"); got != want {
			t.Errorf("%q: got %v, want %v", source, got, want)
		}
	}
	for _, d := range []string{"/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var/lib/docker",
		"/var/lib/containers", "/var/lib/containerd", "/var/run", "/var/spool/cron"} {
		for _, source := range []string{d, d + "/", d + "/x", d + "/.", "/data/.." + d, d + "/../" + d[1:]} {
			if (Policy{}).mayMount(source, "/boinc") {
				t.Errorf("%q: got allowed, want refused", source)
			}
			if !(Policy{Mounts: []string{d + "/"}}).mayMount(source, "/boinc") && !strings.HasSuffix(source, "/../"+d[1:]) {
				t.Errorf("%q with %s in the policy file: got refused, want allowed", source, d)
			}
		}
	}
	// BOINC's own directory, however it is written, and what holds it.
	for _, dataDir := range []string{"/srv/boinc", "/srv/boinc/", "/srv//boinc", `C:\ProgramData\BOINC`, `C:\ProgramData\BOINC\`} {
		for _, source := range []string{dataDir, dataDir + "/projects", strings.ReplaceAll(dataDir, `\`, "/") + "/x"} {
			if (Policy{}).mayMount(source, dataDir) {
				t.Errorf("%q in %q: got allowed, want refused", source, dataDir)
			}
		}
	}
	if (Policy{}).mayMount("/", "") || (Policy{}).mayMount("/srv", "/srv/boinc/") || (Policy{}).mayMount(`C:\ProgramData`, `C:\ProgramData\BOINC`) {
		t.Error("what holds BOINC's directory: got allowed, want refused")
	}
}

func TestParsePolicy(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"network = \"none\"\nunsigned = \"refuse\"":  "",
		"network = \"bridge\"\nunsigned = \"allow\"": "",
		"mount = [\"/data\"]":                        "read docker_wrapper.toml: mount: unknown key",
		"[extra]\nx = 1":                             "read docker_wrapper.toml: extra: unknown key",
		"network = \"host\"":                         `read docker_wrapper.toml: network: want "none" or "bridge"`,
		"unsigned = \"no\"":                          `read docker_wrapper.toml: unsigned: want "refuse" or "allow"`,
		"privileged = \"yes\"":                       "read docker_wrapper.toml: toml: ",
		"privileged = tru":                           "read docker_wrapper.toml: toml: ",
		"mounts = \"/data\"":                         "read docker_wrapper.toml: toml: ",
	} {
		p, err := ParsePolicy(PolicyFile, []byte(in))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: got %v", in, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%q: got %v, want %s", in, err, want)
		case want != "" && fmt.Sprint(p) != fmt.Sprint(Policy{}):
			t.Errorf("%q: got %+v beside the error, want nothing", in, p)
		}
	}
}

func TestNetwork(t *testing.T) {
	for _, tt := range []struct {
		toml, policy string
		signed       bool
		want         string
	}{
		{"", "", true, "bridge"},
		{"", "", false, "none"},
		{`network = "none"`, "", true, "none"},
		{`network = "bridge"`, "", true, "bridge"},
		{"network = \"none\"\ncreate_args = \"--network bridge\"", "", true, "bridge"},
		{`create_args = "--network host"`, "", true, "host"},
		{`network = "bridge"`, "none", true, "none"},
		{`create_args = "--network host"`, "none", true, "none"},
		{"", "bridge", false, "none"},
	} {
		if got := network(testInput(t, tt.toml).Config, Policy{Network: tt.policy}, tt.signed); got != tt.want {
			t.Errorf("%s, policy %q, signed %v: got %s, want %s", tt.toml, tt.policy, tt.signed, got, tt.want)
		}
	}
}
