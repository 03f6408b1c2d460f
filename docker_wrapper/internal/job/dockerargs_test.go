package job

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitWords(t *testing.T) {
	for _, tt := range []struct {
		in      string
		want    []string
		offsets []int
	}{
		{"", nil, nil},
		{"  a  b\t", []string{"a", "b"}, []int{2, 5}},
		{`a'b c'"d e"f g`, []string{"ab cd ef", "g"}, []int{0, 13}},
		{`"C:\x" 'C:\x' C:\\x`, []string{`C:\x`, `C:\x`, `C:\x`}, []int{0, 7, 14}},
		{`"a\"b" "" x\ y`, []string{`a"b`, "", "x y"}, []int{0, 7, 10}},
		{"a \\\n b # c\n d#e", []string{"a", "b", "d#e"}, []int{0, 5, 12}},
		{"$HOME `id`; *", []string{"$HOME", "`id`;", "*"}, []int{0, 6, 12}},
	} {
		got, offsets, err := splitWords(tt.in)
		if err != nil || !slices.Equal(got, tt.want) || !slices.Equal(offsets, tt.offsets) {
			t.Errorf("%q: got %q %d, %v; want %q %d", tt.in, got, offsets, err, tt.want, tt.offsets)
		}
	}
}

func parseArgs(t *testing.T, key, args string) (*Config, []string) {
	t.Helper()
	c, err := ParseConfig("", []byte(key+" = "+tomlString(args)))
	return c, mistakesOf(t, err)
}

// tomlString quotes what strconv.Quote would escape in ways that TOML doesn't know.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range strings.ToValidUTF8(s, "?") {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			b.WriteString(`\u` + "00" + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func TestCreateArgs(t *testing.T) {
	yes, ten, shell := true, 10, "sh -c"
	for _, tt := range []struct {
		in   string
		want CreateArgs
	}{
		{"", CreateArgs{}},
		{"-v/a:/b -v=/c:/d --volume /e:/f:ro,rslave", CreateArgs{Volumes: []Bind{{"/a", "/b", ""}, {"/c", "/d", ""}, {"/e", "/f", "ro,rslave"}}}},
		{"-e A=1 --env=B= -m 1g -u 1:2 -w /x -h host -l a=b -p 80:80", CreateArgs{Env: []string{"A=1", "B="}, Memory: 1 << 30, User: "1:2",
			Workdir: "/x", Hostname: "host", Labels: map[string]string{"a": "b"}, Publish: []Port{{"", 80, 80, "tcp"}}}},
		{"--gpus all --cpus 1.5 --shm-size=1g --ulimit nofile=1:2 --tmpfs /t:size=1m --sysctl net.core.somaxconn=1", CreateArgs{GPUs: "all", CPUs: 1.5,
			ShmSize: 1 << 30, Ulimits: []Ulimit{{"nofile", 1, 2}}, Tmpfs: map[string]string{"/t": "size=1m"}, Sysctls: map[string]string{"net.core.somaxconn": "1"}}},
		{"--privileged --init --read-only=true --stop-timeout 10 --stop-signal hup --pids-limit -1", CreateArgs{Privileged: true, Init: &yes, ReadOnly: true,
			StopTimeout: &ten, StopSignal: "SIGHUP", PidsLimit: -1}},
		{"--entrypoint 'sh -c' --net host --pid host --ipc=private --runtime runc --platform linux/arm64/v8", CreateArgs{Entrypoint: &shell, Network: "host",
			PIDMode: "host", IPC: "private", Runtime: "runc", Platform: "linux/arm64/v8"}},
		{"--add-host a:1.2.3.4 --add-host b=[::1] --dns 8.8.8.8 --group-add video --cpuset-cpus 0-3,5 --cap-drop all --security-opt label=disable --device nvidia.com/gpu=0", CreateArgs{
			AddHosts: []string{"a:1.2.3.4", "b:::1"}, DNS: []string{"8.8.8.8"}, GroupAdd: []string{"video"}, CPUSet: "0-3,5", CapDrop: []string{"ALL"},
			SecurityOpts: []string{"label=disable"}, Devices: []string{"nvidia.com/gpu=0"}}},
		{"--mount type=bind,src=/a,dst=/b,readonly --mount type=volume,source=data,target=/d --mount type=tmpfs,dst=/t,tmpfs-size=1k,tmpfs-mode=1777", CreateArgs{
			Volumes: []Bind{{"/a", "/b", "ro"}, {"data", "/d", ""}}, Tmpfs: map[string]string{"/t": "size=1024,mode=1777"}}},
	} {
		c, got := parseArgs(t, "create_args", tt.in)
		if diff := cmp.Diff(tt.want, c.Create); got != nil || diff != "" {
			t.Errorf("%s: %q; want -, got +:\n%s", tt.in, got, diff)
		}
	}
}

func TestBuildArgs(t *testing.T) {
	one := "1"
	want := BuildArgs{Args: map[string]*string{"A": &one, "B": nil}, Target: "run", Network: "none", Platform: "linux/amd64", Pull: true, NoCache: true,
		ExtraHosts: []string{"h:::1"}, Labels: map[string]string{"l": ""}}
	c, got := parseArgs(t, "build_args", "--build-arg A=1 --build-arg=B --target run --network=none --platform linux/amd64 --pull --no-cache --add-host h:::1 --label l -q --progress plain --rm --force-rm --retry 0")
	if diff := cmp.Diff(want, c.Build); got != nil || diff != "" {
		t.Errorf("%q; want -, got +:\n%s", got, diff)
	}
	var warned []string
	for _, w := range c.Warnings {
		warned = append(warned, strconv.Itoa(w.Col)+" "+w.Problem)
	}
	wantWarned := []string{"141 -q: has no effect here", "144 --progress: has no effect here", "161 --rm: has no effect here", "166 --force-rm: has no effect here", "177 --retry: has no effect here"}
	if !slices.Equal(warned, wantWarned) {
		t.Errorf("warnings: got %q, want %q", warned, wantWarned)
	}
}

func FuzzCreateArgs(f *testing.F) {
	f.Add("-v /cvmfs:/cvmfs:shared --cap-add=SYS_ADMIN --device /dev/fuse")
	f.Add("--mount type=bind,src=/a,dst=/b --ulimit nofile=1 -it 'x\\' \"é\" --add-host a:::1")
	f.Fuzz(func(t *testing.T, args string) {
		c, mistakes := parseArgs(t, "create_args", args)
		if mistakes != nil {
			return
		}
		for _, b := range c.Create.Volumes { // what is planned must read back the same
			if again, err := parseBind(b.String()); err != nil || again != b {
				t.Errorf("%q: got %v, %v; want %v", args, again, err, b)
			}
		}
	})
}

func FuzzBuildArgs(f *testing.F) {
	f.Add("--build-arg A=1 --target run --platform linux/amd64 -q --retry 0")
	f.Add("--add-host=h:::1 --label 'a=b c' --pull=false -t x")
	f.Fuzz(func(t *testing.T, args string) {
		_, mistakes := parseArgs(t, "build_args", args)
		for _, m := range mistakes {
			if !strings.HasPrefix(m, "job.toml:1:") {
				t.Errorf("%q: got %q; want it on line 1", args, m)
			}
		}
	})
}

func TestWeaker(t *testing.T) {
	for options, want := range map[string]string{
		"shared": "slave", "slave": "private", "private": "", "rshared": "rslave", "rslave": "rprivate", "rprivate": "",
		"": "", "ro": "", "ro,rshared,z": "ro,rslave,z",
	} {
		got, ok := Bind{"/a", "/b", options}.Weaker()
		if ok != (want != "") || got.Options != first(want, options) || got.Source != "/a" || got.Target != "/b" {
			t.Errorf("%q: got %+v, %v, want %q", options, got, ok, want)
		}
	}
}
