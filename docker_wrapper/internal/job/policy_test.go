package job

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	const (
		unsigned = "reaches beyond the slot, and this file isn't signed (only files of the app version are signed)"
		refused  = "isn't allowed on this computer (its owner can allow it: write the line "
		tail     = " into /boinc/docker_wrapper.toml)"
	)
	deny := func(key, what, mend string) string {
		return fmt.Sprintf("job.toml:1:%d: %s: %s %s%s%s", len(key)+4, key, what, refused, mend, tail)
	}
	args := func(what, mend string) string { return deny("create_args", what, mend) }
	at := hostPaths{dataDir: "/boinc", realPath: func(name string) string {
		switch name {
		case "/cvmfs/link":
			return "/etc"
		case "/cvmfs/broken":
			return ""
		}
		return name
	}}
	for _, tt := range []struct {
		toml, policy string
		want         string // for a signed job; "" for none
		always       bool   // unsigned jobs get it too
		never        bool   // the owner can't allow it
		rootless     bool   // an engine without root gives it to signed jobs, whatever want says
	}{
		{toml: "", always: true},
		{toml: "memory = \"1g\"\npids = 5\nuser = \"image\"\nverbose = 2", always: true},
		{toml: `network = "none"`, always: true},
		{toml: `optional_outputs = ["log"]`, always: true},
		{toml: `build_args = "--build-arg A=1 --network none"`, always: true},
		{toml: `mount = ["/cvmfs:/cvmfs:rshared"]`},
		{toml: `mount = ["/cvmfs/a.b:/x:ro"]`},
		{toml: `mount = ["/cvmfs:/cvmfs"]`, policy: `mounts = ["none"]`, want: deny("mount", `"/cvmfs:/cvmfs"`, `mounts = ['none', '/cvmfs']`)},
		{toml: `mount = ["/data:/data"]`, want: deny("mount", `"/data:/data"`, `mounts = ['/data']`)},
		{toml: `mount = ["/data/a:/data"]`, policy: `mounts = ["/data/"]`},
		{toml: `mount = ["/database:/x"]`, policy: `mounts = ["none", "/data"]`, want: deny("mount", `"/database:/x"`, `mounts = ['none', '/data', '/database']`)},
		{toml: `mount = ["/data"]`}, // an anonymous volume
		{toml: `mount = ["postgres:/x"]`, want: deny("mount", `"postgres:/x"`, `mounts = ['postgres']`)},
		{toml: `mount = ["cache:/x"]`, policy: `mounts = ["none", "cache"]`},
		{toml: `create_args = "-v /:/x"`, want: args(`volume "/:/x"`, `mounts = ['/']`)},
		{toml: `create_args = "--mount type=bind,src=/root/.ssh,dst=/x"`, want: args(`volume "/root/.ssh:/x"`, `mounts = ['/root/.ssh']`)},
		{toml: `create_args = "--mount src=postgres,dst=/x"`, want: args(`volume "postgres:/x"`, `mounts = ['postgres']`)},
		{toml: `create_args = "-v /data:/x"`, policy: `mounts = ["/data"]`},
		{toml: `mount = ["/cvmfs/link:/x"]`, want: deny("mount", `"/cvmfs/link:/x", which leads to /etc,`, `mounts = ['/etc']`)},
		{toml: `mount = ["/cvmfs/broken:/x"]`, want: `job.toml:1:9: mount: "/cvmfs/broken:/x", whose target can't be determined, isn't allowed on this computer (its owner must correct the symlink, or let BOINC's user search the directories that it leads through)`},
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
		{toml: `create_args = "--cap-add=SYS_ADMIN"`, want: args("--cap-add SYS_ADMIN", `capabilities = ['SYS_ADMIN']`), rootless: true},
		{toml: `create_args = "--cap-add NET_ADMIN"`, want: args("--cap-add NET_ADMIN", `capabilities = ['NET_ADMIN']`)},
		{toml: `create_args = "--cap-add NET_RAW"`, want: args("--cap-add NET_RAW", `capabilities = ['NET_RAW']`)},
		{toml: `create_args = "--cap-add MKNOD"`, policy: `capabilities = ["SYS_ADMIN"]`, want: args("--cap-add MKNOD", `capabilities = ['SYS_ADMIN', 'MKNOD']`)},
		{toml: `create_args = "--cap-add NOT_YET"`, want: "job.toml:1:15: create_args: --cap-add NOT_YET isn't allowed on any computer", never: true},
		{toml: `create_args = "--device nvidia.com/gpu=0"`, want: "job.toml:1:15: create_args: --device nvidia.com/gpu=0 isn't allowed on any computer", never: true},
		{toml: `create_args = "--privileged -v /boinc/slots:/x"`, want: "job.toml:1:15: create_args: volume \"/boinc/slots:/x\" and --privileged aren't allowed on this computer (its owner can allow them: " +
			`write the lines mounts = ['/boinc/slots'] and privileged = true into /boinc/docker_wrapper.toml)`},
		{toml: `mount = ["/it's:/x"]`, want: deny("mount", `"/it's:/x"`, `mounts = ["/it's"]`)},
		{toml: `create_args = "--cap-add=SYS_ADMIN --cap-add CAP_SYS_ADMIN --device /dev/fuse"`, rootless: true,
			want: "job.toml:1:15: create_args: --cap-add SYS_ADMIN and --device /dev/fuse aren't allowed on this computer (its owner can allow them: " +
				`write the lines capabilities = ['SYS_ADMIN'] and devices = ['/dev/fuse'] into /boinc/docker_wrapper.toml)`},
		{toml: `create_args = "--privileged --device /dev/a --device /dev/fuse --device /dev/b --sysctl net.a=1"`, policy: `devices = ["/dev/b"]`,
			want: "job.toml:1:15: create_args: --privileged, --device /dev/a, --device /dev/fuse and --runtime or --sysctl aren't allowed on this computer (its owner can allow them: " +
				`write the lines privileged = true and devices = ['/dev/b', '/dev/a', '/dev/fuse'] into /boinc/docker_wrapper.toml)`},
		{toml: `create_args = "--cap-add cap_sys_admin"`, policy: `capabilities = ["SYS_ADMIN"]`},
		{toml: `create_args = "--cap-add ALL"`, policy: `capabilities = ["SYS_ADMIN"]`, want: args("--cap-add ALL", `capabilities = ['SYS_ADMIN', 'ALL']`)},
		{toml: `create_args = "--cap-drop ALL"`},
		{toml: `create_args = "--device /dev/fuse"`, want: args("--device /dev/fuse", `devices = ['/dev/fuse']`), rootless: true},
		{toml: `create_args = "--device /dev/net/tun:/dev/tun:rw"`, want: args("--device /dev/net/tun", `devices = ['/dev/net/tun']`), rootless: true},
		{toml: `create_args = "--device /dev/nvidia0"`, want: args("--device /dev/nvidia0", `devices = ['/dev/nvidia0']`)},
		{toml: `create_args = "--device /dev/fuse:/dev/x:r"`, policy: `devices = ["/dev/fuse"]`},
		{toml: `create_args = "--device /dev/sda:/dev/fuse"`, policy: `devices = ["/dev/fuse"]`, want: args("--device /dev/sda", `devices = ['/dev/fuse', '/dev/sda']`)},
		{toml: `create_args = "--network host"`, want: args("--network host", "host_network = true")},
		{toml: `create_args = "--network host"`, policy: "host_network = true"},
		{toml: `create_args = "--network container:db"`, want: args("--network container:db", "host_network = true")},
		{toml: `create_args = "--network other"`, want: args("--network other", "host_network = true")},
		{toml: `create_args = "--network bridge"`},
		{toml: `create_args = "--network none"`},
		{toml: `create_args = "--pid host"`, want: args("--pid host", "host_network = true")},
		{toml: `create_args = "--ipc host"`, want: args("--ipc host", "host_network = true")},
		{toml: `create_args = "--ipc private"`},
		{toml: `create_args = "--security-opt no-new-privileges"`},
		{toml: `create_args = "--security-opt no-new-privileges=true --security-opt no-new-privileges:true"`},
		{toml: `create_args = "--security-opt no-new-privileges=false"`, want: args("--security-opt no-new-privileges=false", "security_opts = true")},
		{toml: `create_args = "--security-opt no-new-privileges:false"`, want: args("--security-opt no-new-privileges:false", "security_opts = true")},
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
			got := p.check(c, true, false, at)
			if said(got) != tt.want {
				t.Errorf("signed:\ngot  %s\nwant %s", said(got), tt.want)
			}
			if got != nil && errors.Is(got, ErrRefused) == tt.never {
				t.Errorf("signed: the owner can allow it: got %v, want %v", tt.never, !tt.never)
			}
			if lines := linesFor(said(got)); len(lines) > 0 { // they stand for those of the same keys
				for line := range strings.Lines(tt.policy) {
					key, _, _ := strings.Cut(line, " =")
					if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, key+" =") }) {
						lines = append(lines, strings.TrimSpace(line))
					}
				}
				allowing, err := ParsePolicy(PolicyFile, []byte(strings.Join(lines, "\n")))
				if got := allowing.check(c, true, false, at); err != nil || got != nil {
					t.Errorf("with the lines that it asks for: got %v, %v", got, err)
				}
			}
			if got := p.check(c, true, true, at); (got == nil) != (tt.want == "" || tt.rootless) {
				t.Errorf("signed, without root: got %v, want it allowed: %v", got, tt.rootless)
			}
			if got := p.check(c, false, true, at); got != nil && errors.Is(got, ErrRefused) {
				t.Errorf("unsigned: got %v, want an error that the owner can't mend", got)
			}
			switch got := p.check(c, false, true, at); {
			case tt.always && got != nil:
				t.Errorf("unsigned: got %v, want it allowed", got)
			case !tt.always && (got == nil || !strings.HasSuffix(got.Error(), unsigned) || got.Line != 1):
				t.Errorf("unsigned: got %v, want it refused", got)
			}
		})
	}
}

// linesFor are the lines of the policy file in an error.
func linesFor(text string) []string {
	_, text, _ = strings.Cut(text, "write the line")
	return regexp.MustCompile(`\w+ = (\[[^]]*\]|true)`).FindAllString(text, -1)
}

func said(e *ConfigError) string {
	if e == nil {
		return ""
	}
	return e.Error()
}

func TestMayMount(t *testing.T) {
	const windows = `C:\ProgramData\BOINC`
	real := map[string]string{"/cvmfs/etc": "/etc", "/cvmfs/boinc": "/srv/boinc/slots", "/cvmfs/other": "/cvmfs/a.b", "/cvmfs/lost": "", "/big": "/mnt/disk1",
		"/home/boinc": "/srv/boinc", "postgres": "/cvmfs"}
	for _, tt := range []struct {
		source, dataDir, policy string // policy: separated by spaces
		want                    bool
	}{
		{source: "", want: true},
		{source: "/cvmfs", want: true},
		{source: "/cvmfs/", want: true},
		{source: "/cvmfs/a.b/c", want: true},
		{source: "/cvmfs/other", want: true},
		{source: "/cvmfs", policy: "none"},
		{source: "/cvmfs", policy: "none /cvmfs", want: true},
		{source: "/cvmfs/a.b", policy: "/data", want: true},
		{source: "/cvmfsx"}, {source: "/cvm"}, {source: "cvmfs"}, {source: "/cvmfs/../etc"}, {source: `/cvmfs\..\..\etc`}, {source: `\\cvmfs\x`}, {source: "//cvmfs/x"}, {source: "/CVMFS"},
		{source: "/cvmfs/etc"}, {source: "/cvmfs/lost"},
		{source: "/cvmfs/etc", policy: "/etc", want: true},
		{source: "/cvmfs/lost", policy: "/cvmfs"},
		{source: "/cvmfs/etc", policy: "/cvmfs"},
		{source: "/"}, {source: "/data"}, {source: "/mnt"}, {source: "/media/stick"}, {source: "/srv"}, {source: "/opt"}, {source: "/Users"}, {source: "C:/"}, {source: `C:\Users`}, {source: "D:/data"},
		{source: "/etc"}, {source: "/var/lib/docker"}, {source: "postgres"}, {source: "none"}, {source: "none", policy: "none"},
		{source: "postgres", policy: "postgres", want: true},
		{source: "postgres", policy: "/ /postgres ."},
		{source: "/data/a", policy: "/data", want: true},
		{source: "/database", policy: "/data"},
		{source: "/", policy: "/data"},
		{source: "/", policy: "/", want: true},
		{source: "/etc", policy: "/", want: true},
		{source: `D:\data\a`, policy: "D:/data", want: true},
		{source: "D:/x", policy: `D:\`, want: true},
		{source: "/big/x", policy: "/big"}, // nothing says that /big/x leads where /big does
		{source: "/mnt/disk1/x", policy: "/big", want: true},
		{source: "/big", policy: "/mnt/disk1", want: true},
		// BOINC's own directory, however it is written, and what holds it.
		{source: "/srv/boinc", dataDir: "/srv/boinc/", policy: "/srv"},
		{source: "/srv/boinc/slots/0", dataDir: "/srv/boinc", policy: "/srv"},
		{source: "/srv/../srv/boinc", dataDir: "/srv//boinc", policy: "/"},
		{source: "/srv", dataDir: "/srv/boinc", policy: "/"},
		{source: "/srv", dataDir: "/srv/boinc", policy: "/srv", want: true},
		{source: "/srv/boinc", dataDir: "/srv/boinc", policy: "/srv/boinc/", want: true},
		{source: "/srv/boinc/slots", dataDir: "/srv/boinc", policy: "/srv/boinc"},
		{source: "/srv/boincx", dataDir: "/srv/boinc", policy: "/srv", want: true},
		{source: "/cvmfs/boinc", dataDir: "/srv/boinc", policy: "/srv"},
		{source: "/srv/boinc", dataDir: "/home/boinc", policy: "/srv"},
		{source: "/cvmfs/boinc", dataDir: "/cvmfs/boinc"},
		{source: `C:\ProgramData`, dataDir: windows, policy: `C:\`},
		{source: "c:/programdata/boinc/slots", dataDir: windows, policy: "c:/"},
		{source: `C:\Data`, dataDir: windows, policy: `C:\`, want: true},
	} {
		at := hostPaths{dataDir: first(tt.dataDir, "/boinc"), realPath: func(name string) string {
			if to, ok := real[name]; ok {
				return to
			}
			return name
		}}
		if got := (Policy{Mounts: strings.Fields(tt.policy)}).mayMount(tt.source, at); got != tt.want {
			t.Errorf("%q, data directory %q, policy %q: got %v, want %v", tt.source, tt.dataDir, tt.policy, got, tt.want)
		}
	}
}

// What is mounted is what was checked.
func TestBinds(t *testing.T) {
	in := testInput(t, "mount = [\"/cvmfs/link:/a:ro\", \"/b\"]\ncreate_args = \"-v cache:/c\"")
	in.Policy.Mounts = []string{"/data", "cache"}
	in.RealPath = func(name string) string {
		if name == "/cvmfs/link" {
			return "/data/real"
		}
		return name
	}
	j, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(j.Container.Binds), "[/data/real:/a:ro /b cache:/c]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParsePolicy(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil,
		"network = \"none\"\nunsigned = \"refuse\"":   nil,
		"network = \"bridge\"\nunsigned = \"allow\"":  nil,
		"build_network = \"none\"":                    nil,
		"build_network = \"default\"":                 nil,
		"root = false":                                nil,
		"root = \"no\"":                               {"1:8: root: want a bool, got a string (write false)"},
		"images_gb = 50\nimages_days = 0.5":           nil,
		"images_gb = inf\nimages_days = 0":            nil,
		"mounts = []\ndevices = [\"/dev/fuse\"]":      nil,
		"capabilities = [\"sys_admin\", \"CAP_BPF\"]": nil,
		"# a rule\nmount = [\"/data\"]":               {"2:9: mount: unknown key (did you mean mounts?)"},
		"[extra]\nx = 1":                              {"1:2: extra: unknown key"},
		"build_network = \"bridge\"":                  {`1:17: build_network: "bridge": want "default" or "none"`},
		"network = \"host\"":                          {`1:11: network: "host": want "bridge" or "none"`},
		"unsigned = \"no\"":                           {`1:12: unsigned: "no": want "allow" or "refuse"`},
		"images_gb = -1":                              {"1:13: images_gb: -1: want a number from 0, or inf"},
		"images_days = nan":                           {"1:15: images_days: NaN: want a number from 0, or inf"},
		"images_gb = \"20 GB\"":                       {"1:13: images_gb: want a number from 0, or inf, got a string (write 20)"},
		"privileged = \"yes\"\nhost_network = 0":      {"1:14: privileged: want a bool, got a string (write true)", "2:16: host_network: want a bool, got an integer (write false)"},
		"privileged = tru":                            {"1:14: want a value, got \"tru\" (put strings in quotes)"},
		"mounts = \"/data\"":                          {`1:10: mounts: want an array of strings, got a string (write ["/data"])`},
		"mounts = [\"\"]":                             {`1:11: mounts: "": is empty`},
		"devices = [\"fuse\"]":                        {`1:12: devices: "fuse": want an absolute path of the host`},
		"capabilities = [\"SYS_ADMN\", \"WINGS\"]":    {`1:17: capabilities: "SYS_ADMN": is not a capability (did you mean SYS_ADMIN?)`, `1:29: capabilities: "WINGS": is not a capability`},
		"unsigned = \"refuse\"\nunsigned = \"allow\"": {"2:1: unsigned: written twice (first on line 1)"},
	} {
		p, err := ParsePolicy(PolicyFile, []byte(in))
		got := mistakesOf(t, err)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], PolicyFile+":")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", in, got, want)
		}
		if err != nil && fmt.Sprint(p) != fmt.Sprint(Policy{}) {
			t.Errorf("%s: got %+v beside the error, want nothing", in, p)
		}
	}
}

func TestPolicyWords(t *testing.T) {
	p, err := ParsePolicy(PolicyFile, []byte("capabilities = [\"cap_sys_admin\", \"BPF\"]\nmounts = \"none\"\nimages_gb = 3"))
	if got, want := fmt.Sprint(p.Capabilities, p.Mounts, *p.ImagesGB), "[SYS_ADMIN BPF] [none] 3"; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestUser(t *testing.T) {
	const (
		mounts  = "an unsigned job that mounts files of the host must run as BOINC's user or its image's (leave the key out, or copy files instead of mounting them)"
		project = "an unsigned job with project_dir_mount must run as BOINC's user (leave the key out)"
		refused = "isn't allowed on this computer (its owner can allow it: write the line root = true into /boinc/docker_wrapper.toml)"
		copies  = "\ncopy_to_container = [{src = \"in\", dst = \"/in\"}]"
		dir     = "\nproject_dir_mount = \"/project\""
	)
	boinc, image := User{Mode: UserBOINC, UID: 1000, GID: 1001}, User{Mode: UserImage}
	fixed := func(s string) User { return User{Mode: UserFixed, Fixed: s} }
	for _, tt := range []struct {
		toml         string
		signed       User
		unsigned     User
		mistake      string // of the unsigned job
		noRoot       User   // of the signed job, on a computer whose owner wants no root
		noRootDenied string
	}{
		{toml: "", signed: image, unsigned: boinc, noRoot: boinc},
		{toml: copies, signed: image, unsigned: image, noRoot: boinc},
		{toml: dir, signed: image, unsigned: boinc, noRoot: boinc},
		{toml: `user = "auto"`, signed: image, unsigned: boinc, noRoot: boinc},
		{toml: `user = "image"`, signed: image, unsigned: image, noRootDenied: `1:8: user: "image" ` + refused},
		{toml: `user = "image"` + copies, signed: image, unsigned: image, noRootDenied: `1:8: user: "image" ` + refused},
		{toml: `user = "image"` + dir, signed: image, mistake: `1:8: user: "image": ` + project, noRootDenied: `1:8: user: "image" ` + refused},
		{toml: `user = "0"`, signed: fixed("0"), mistake: `1:8: user: "0": ` + mounts, noRootDenied: `1:8: user: "0" ` + refused},
		{toml: `user = "5:6"`, signed: fixed("5:6"), mistake: `1:8: user: "5:6": ` + mounts, noRootDenied: `1:8: user: "5:6" ` + refused},
		{toml: `user = "5:6"` + copies, signed: fixed("5:6"), unsigned: fixed("5:6"), noRootDenied: `1:8: user: "5:6" ` + refused},
		{toml: `user = "1000"`, signed: fixed("1000"), unsigned: boinc, noRoot: boinc},
		{toml: `user = "1000:1001"`, signed: fixed("1000:1001"), unsigned: boinc, noRoot: boinc},
	} {
		for what, want := range map[string]struct {
			user    User
			mistake string
		}{"signed": {user: tt.signed}, "unsigned": {tt.unsigned, tt.mistake}, "no root": {tt.noRoot, tt.noRootDenied}} {
			in := testInput(t, tt.toml)
			in.Signed, in.Policy.NoRoot, in.HasDockerfile, in.Host = what != "unsigned", what == "no root", true, Host{UID: 1000, GID: 1001}
			j, err := Plan(in)
			switch {
			case want.mistake != "" && (err == nil || err.Error() != "job.toml:"+want.mistake):
				t.Errorf("%s, %s: got %v, want %s", tt.toml, what, err, want.mistake)
			case want.mistake == "" && err != nil:
				t.Errorf("%s, %s: %v", tt.toml, what, err)
			case want.mistake == "" && j.Container.User != want.user:
				t.Errorf("%s, %s: got %+v, want %+v", tt.toml, what, j.Container.User, want.user)
			}
		}
	}
	// A program that can't hand files back runs no one else.
	for toml, want := range map[string]User{"": boinc, `user = "image"`: image, `user = "5:6"`: fixed("5:6"), "copy_to_container = [{src = \"in\", dst = \"/in\"}]": image} {
		in := testInput(t, toml)
		in.Signed, in.NoHelper, in.HasDockerfile, in.Host = true, true, true, Host{UID: 1000, GID: 1001}
		j, err := Plan(in)
		if err != nil || j.Container.User != want || strings.Contains(strings.Join(j.Notes, "\n"), "hand back") != (want == boinc) {
			t.Errorf("%q, no helper: got %+v, %v, want %+v", toml, j, err, want)
		}
	}
	// The option says it for the key. On Windows BOINC's user has no number.
	in := testInput(t, `create_args = "--user root"`)
	in.Signed, in.Policy.NoRoot, in.HasDockerfile = true, true, true
	if _, err := Plan(in); err == nil || err.Error() != `job.toml:1:15: create_args: "root" `+refused {
		t.Errorf("--user root: got %v", err)
	}
	in = testInput(t, "")
	in.Signed, in.Policy.NoRoot, in.HasDockerfile, in.Host = true, true, true, Host{UID: -1, GID: -1}
	if j, err := Plan(in); err != nil || j.Container.User != (User{Mode: UserBOINC, UID: nobody, GID: nobody}) {
		t.Errorf("Windows: got %v, %v", j, err)
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

func TestBoundBuild(t *testing.T) {
	for _, tt := range []struct {
		network string // build_args
		policy  Policy
		signed  bool
		want    string
		noFetch bool
	}{
		{signed: true},
		{signed: false, noFetch: true},
		{signed: true, policy: Policy{BuildNetwork: "none"}},
		{signed: false, policy: Policy{BuildNetwork: "none"}, want: "none", noFetch: true},
		{signed: false, policy: Policy{BuildNetwork: "default", Network: "bridge"}, noFetch: true},
		{signed: true, policy: Policy{Network: "none"}, want: "none", noFetch: true},
		{signed: false, policy: Policy{Network: "none", BuildNetwork: "default"}, want: "none", noFetch: true},
		{network: "host", signed: true, want: "host"},
		{network: "host", signed: true, policy: Policy{Network: "none"}, want: "none", noFetch: true},
		{network: "none", signed: true, want: "none", noFetch: true},
	} {
		given := BuildArgs{Network: tt.network, Target: "x"}
		s, bounds := Source{Build: &given}, Limits{CPUs: 2, Memory: 3}
		boundBuild(&s, tt.policy, tt.signed, bounds)
		if s.Build.Network != tt.want || s.NoFetch != tt.noFetch || s.Limits != bounds || s.Build.Target != "x" || given.Network != tt.network {
			t.Errorf("%+v: got %+v of %+v", tt, *s.Build, s)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("privileged = true\ncapabilities = [\"SYS_ADMN\"]\nmounts = \"none\"\nimages_gb = inf\n[x]\ny = 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePolicy(PolicyFile, data)
		if mistakes := mistakesOf(t, err); len(mistakes) > 0 && fmt.Sprint(p) != fmt.Sprint(Policy{}) {
			t.Errorf("got %+v beside %q, want nothing", p, mistakes)
		}
	})
}
