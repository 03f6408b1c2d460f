//go:build integration

package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

var containerRows = []contractRow{
	{fact: "create: twice gives the same container", check: func(t *testing.T, k *contract) {
		j := k.job("sleep=1m")
		first := k.create(t, j)
		second, err := k.e.Create(t.Context(), j, k.image)
		if err != nil || second.ID != first.ID {
			t.Errorf("got %+v, %v, want %s", second, err, first.ID)
		}
	}},
	{fact: "create: a stranger's name is taken, and his container stays", check: func(t *testing.T, k *contract) {
		j := k.job()
		his := k.create(t, j)
		mine := k.job()
		mine.Container.Name = j.Container.Name
		if c, err := k.e.Create(t.Context(), mine, k.image); !errors.Is(err, engine.ErrNameTaken) {
			t.Errorf("got %+v, %v, want ErrNameTaken", c, err)
		}
		if _, err := k.e.Find(t.Context(), mine.Container); !errors.Is(err, engine.ErrNameTaken) {
			t.Errorf("find: got %v, want ErrNameTaken", err)
		}
		k.inspect(t, his)
	}},
	{fact: "create: of two results that differ in case, the second hears of the first", check: func(t *testing.T, k *contract) {
		his := k.job()
		k.create(t, his)
		mine := k.job()
		mine.Container.Name = his.Container.Name
		mine.Container.Labels = maps.Clone(his.Container.Labels)
		mine.Container.Labels[job.LabelResult] = strings.ToUpper(his.Container.Labels[job.LabelResult]) + "X"
		want := fmt.Sprintf("it belongs to result %q, and this result waits until that has ended", his.Container.Labels[job.LabelResult])
		if c, err := k.e.Create(t.Context(), mine, k.image); !errors.Is(err, engine.ErrNameTaken) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %+v, %v, want ErrNameTaken: %s", c, err, want)
		}
	}},
	{fact: "create: what was being made when the computer lost its power is in nobody's way", check: func(t *testing.T, k *contract) {
		if !k.e.Info.Strays() {
			t.Skip("this engine lists every container that has a name")
		}
		j := k.job("exit=3")
		k.stray(t, j.Container.Name)
		_, err := k.api.ContainerCreate(t.Context(), &container.Config{Image: k.image}, nil, nil, nil, j.Container.Name)
		if err == nil || !strings.Contains(err.Error(), "in use") {
			t.Fatalf("got %v, want the name in use", err)
		}
		if _, err := k.e.Find(t.Context(), j.Container); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if got := k.do(t, j); got.exit.Code != 3 {
			t.Errorf("got %+v, want 3", got.exit)
		}
		k.stray(t, j.Container.Name+"_2") // and nobody wants it any more
		j.Container.Name += "_2"
		k.must(t, k.e.RemoveStray(t.Context(), j.Container))
		made, err := k.api.ContainerCreate(t.Context(), &container.Config{Image: k.image}, nil, nil, nil, j.Container.Name)
		k.must(t, err)
		k.must(t, k.api.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{}))
	}},
	{fact: "create: an image that is gone", check: func(t *testing.T, k *contract) {
		_, err := k.e.Create(t.Context(), k.job(), "sha256:"+strings.Repeat("0", 64))
		if !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}},
	{fact: "find: there is none", check: func(t *testing.T, k *contract) {
		if _, err := k.e.Find(t.Context(), k.job().Container); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}},
	{fact: "find: every state has its name", check: func(t *testing.T, k *contract) {
		j := k.job("sleep=1m")
		c := k.create(t, j)
		for _, step := range []struct {
			do   func() error
			want string
		}{
			{func() error { return nil }, engine.StateCreated},
			{func() error { return c.Start(t.Context()) }, engine.StateRunning},
			{func() error { return c.Pause(t.Context()) }, engine.StatePaused},
			{func() error { return c.Kill(t.Context()) }, engine.StateExited},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			k.eventually(t, "the container is "+step.want, func() bool {
				found, err := k.e.Find(t.Context(), j.Container)
				return err == nil && found.State == step.want && found.ID == c.ID
			})
		}
	}},

	{fact: "limits: memory, pids, CPU and no swap", check: func(t *testing.T, k *contract) {
		j := k.job("cgroup")
		j.Container.Limits = job.Limits{Memory: 64 << 20, Reserved: 32 << 20, Pids: 77, CPUs: 0.5}
		if !k.e.Info.LimitsMemory() {
			k.unlimited(t, j)
			return
		}
		c := k.start(t, j)
		if got, want := k.finish(t, c).out, "67108864 77 50\n"; got != want {
			t.Errorf("in the container: got %q, want %q", got, want)
		}
		if h := k.inspect(t, c).HostConfig; h.Memory != 64<<20 || h.MemorySwap != h.Memory || h.MemoryReservation != 32<<20 {
			t.Errorf("got memory %d, with swap %d, %d of it reserved", h.Memory, h.MemorySwap, h.MemoryReservation)
		}
	}},
	{fact: "limits: all of the memory may be reserved, and some without a limit", check: func(t *testing.T, k *contract) {
		if !k.e.Info.LimitsMemory() {
			return
		}
		for _, l := range []job.Limits{{Memory: 64 << 20, Reserved: 64 << 20}, {Reserved: 64 << 20}} {
			j := k.job("out=ran")
			j.Container.Limits = l
			k.says(t, j, "ran\n")
		}
	}},
	{fact: "limits: more CPUs than there are", check: func(t *testing.T, k *contract) {
		j := k.job("out=ran")
		j.Container.Limits.CPUs = 10_000
		k.says(t, j, "ran\n")
	}},
	{fact: "limits: shared memory", check: func(t *testing.T, k *contract) {
		j := k.job("size=/dev/shm")
		j.Container.Limits.ShmSize = 32 << 20
		k.says(t, j, "33554432\n")
	}},
	{fact: "limits: open files are bounded, and the job may say otherwise", check: func(t *testing.T, k *contract) {
		var own syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
			t.Fatal(err)
		}
		most := fmt.Sprint(min(own.Max, 524288))
		for _, tt := range []struct {
			ulimits []job.Ulimit
			want    [2]string
		}{
			{nil, [2]string{most, most}},
			{[]job.Ulimit{{Name: "nofile", Soft: 200, Hard: 200}}, [2]string{"200", "200"}},
		} {
			j := k.job("cat=/proc/self/limits")
			j.Container.Extra.Ulimits = tt.ulimits
			out := k.finish(t, k.start(t, j)).out
			_, line, _ := strings.Cut(out, "Max open files")
			if got := strings.Fields(line); len(got) < 2 || got[0] != tt.want[0] || got[1] != tt.want[1] {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		}
	}},
	{fact: "limits: more open files than the kernel allows are this computer's fault", check: func(t *testing.T, k *contract) {
		j := k.job("out=ran")
		j.Container.Extra.Ulimits = []job.Ulimit{{Name: "nofile", Soft: 1 << 31, Hard: 1 << 31}} // more than any fs.nr_open
		if err := k.create(t, j).Start(t.Context()); !errors.Is(err, engine.ErrHost) {
			t.Errorf("got %v, want ErrHost", err)
		}
	}},
	{fact: "limits: jobs go first when the host runs out of memory", check: func(t *testing.T, k *contract) {
		k.says(t, k.job("cat=/proc/self/oom_score_adj"), "500\n")
	}},
	{fact: "limits: no core files", check: func(t *testing.T, k *contract) {
		if got := field(k.do(t, k.job("cat=/proc/self/limits")).out, "Max core file size"); strings.Fields(got)[0] != "0" {
			t.Errorf("got %q, want 0", got)
		}
	}},
	{fact: "rights: no capability when they are dropped", check: func(t *testing.T, k *contract) {
		j := k.job("cat=/proc/self/status")
		j.Container.DropCaps = true
		out := k.do(t, j).out
		for _, set := range []string{"CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:"} {
			if got := field(out, set); got != "0000000000000000" {
				t.Errorf("%s got %q, want none", set, got)
			}
		}
	}},
	{fact: "rights: never raw sockets, never new privileges", check: func(t *testing.T, k *contract) {
		out := k.do(t, k.job("cat=/proc/self/status")).out
		const netRaw = 1 << 13 // capabilities(7)
		var caps uint64
		if _, err := fmt.Sscanf(field(out, "CapBnd:"), "%x", &caps); err != nil || caps == 0 || caps&netRaw != 0 {
			t.Errorf("got %x (%v), want some without %x", caps, err, netRaw)
		}
		if got := field(out, "NoNewPrivs:"); got != "1" {
			t.Errorf("NoNewPrivs: got %q, want 1", got)
		}
	}},
	{fact: "rights: no device files and no file capabilities unasked, also for root", check: func(t *testing.T, k *contract) {
		const mknod, setfcap = 1 << 27, 1 << 31 // capabilities(7)
		for _, tt := range []struct {
			add  []string
			want uint64
		}{{nil, 0}, {[]string{"CHOWN"}, 0}, {[]string{"cap_mknod"}, mknod}, {[]string{"SETFCAP", "MKNOD"}, mknod | setfcap}} {
			j := k.job("cat=/proc/self/status")
			j.Container.User, j.Container.Extra.CapAdd = job.User{Mode: "fixed", Fixed: "0:0"}, tt.add
			out := k.do(t, j).out
			for _, set := range []string{"CapEff:", "CapBnd:"} {
				caps, err := strconv.ParseUint(field(out, set), 16, 64)
				if got := caps & (mknod | setfcap); err != nil || caps == 0 || got != tt.want {
					t.Errorf("--cap-add %q: %s got %x (%v), want %x of these", tt.add, set, caps, err, tt.want)
				}
			}
		}
	}},
	{fact: "labels: those of the image are emptied", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("labels", "LABEL traefik.enable=true io.containers.autoupdate=registry com.docker.compose.project=x "+job.LabelResult+"=other "+job.LabelGPU+"=all theirs=image\n")
		id := k.ensure(t, im, fsys)
		j := k.job("exit=0")
		j.Container.Extra.Labels = map[string]string{"theirs": "job"}
		c, err := k.e.Create(t.Context(), j, id)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.mustRemove(t, c) })
		got := k.inspect(t, c).Config.Labels
		for label, want := range map[string]string{"traefik.enable": "", "io.containers.autoupdate": "", "com.docker.compose.project": "", job.LabelGPU: "",
			job.LabelResult: j.Container.Labels[job.LabelResult], job.LabelDataDir: k.run, "theirs": "job"} {
			if got[label] != want {
				t.Errorf("%s: got %q, want %q", label, got[label], want)
			}
		}
		list, err := k.e.List(t.Context(), map[string]string{job.LabelResult: j.Container.Labels[job.LabelResult], "traefik.enable": "true"})
		if err != nil || len(list) > 0 {
			t.Errorf("got %v, %v by the image's label, want none", list, err)
		}
	}},
	{fact: "labels: too many are the project's mistake", check: func(t *testing.T, k *contract) {
		many := make([]string, 1001)
		for i := range many {
			many[i] = fmt.Sprintf("l%d=x", i)
		}
		for what, text := range map[string]string{"number": strings.Join(many, " "), "size": "big=" + strings.Repeat("x", 65<<10)} {
			config := map[string]string{job.LabelDataDir: k.run}
			for l := range strings.FieldsSeq(text) {
				name, value, _ := strings.Cut(l, "=")
				config[name] = value
			}
			layer := tarOf("payload", k.payload, "what", []byte(what))
			data, err := json.Marshal(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Labels": config},
				"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digestOf(layer)}}})
			k.must(t, err)
			id := k.ensure(t, k.shipped(t, "labels.tar", tarOf("layer.tar", layer, "config.json", data,
				"manifest.json", []byte(`[{"Config":"config.json","Layers":["layer.tar"]}]`))), nil)
			var ie *engine.ImageError
			if c, err := k.e.Create(t.Context(), k.job("exit=0"), id); !errors.As(err, &ie) {
				t.Errorf("%s: got %+v, %v, want *ImageError", what, c, err)
			}
		}
	}},
	{fact: "helper: whatever the job's image has, files are handed back", check: func(t *testing.T, k *contract) {
		program := k.wrapper(t)
		for what, more := range map[string]string{
			"nothing":                           "",
			"a directory and a file":            `"mkdir=` + engine.HelperPath + `", "write=` + engine.HelperDir + `:x"`,
			"a directory that isn't empty":      `"mkdir=` + engine.HelperPath + `/x"`,
			"symlinks":                          `"symlink=/etc:` + engine.HelperDir + `", "symlink=/payload:` + engine.HelperPath + `"`,
			"a file where the host's should be": `"write=/proc:x", "write=/dev:x"`,
		} {
			id := k.image
			if more != "" {
				im, fsys := k.source("hostile", "LABEL traefik.enable=true\nENV LD_PRELOAD=/x\nRUN [\"/payload\", "+more+"]\n")
				if strings.Contains(more, "/proc") { // no step can write there
					im, fsys = k.source("hostile", "COPY x /proc\nCOPY x /dev\n")
					fsys["x"] = &fstest.MapFile{Data: []byte("x")}
				}
				var err error
				if id, err = k.e.Ensure(t.Context(), im, fsys); err != nil {
					t.Logf("%s: no such image can be: %v", what, err)
					continue
				}
			}
			j := k.job("exit=0")
			c, err := k.e.Create(t.Context(), j, id)
			if err != nil {
				t.Logf("%s: no such container can be: %v", what, err)
				continue
			}
			t.Cleanup(func() { k.mustRemove(t, c) })
			dir := slotWith(t, "file", nil, 0o600)
			k.must(t, os.Chmod(dir, 0o700))
			owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
			if os.Getuid() == 0 && !k.e.Info.Rootless {
				owner = "4321:1234"
			} else if k.e.Info.Rootless {
				owner = "0:0"
			}
			if err := k.e.RunHelper(t.Context(), j, program, dir, owner+":false:0"); err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			fi, err := os.Stat(filepath.Join(dir, "file"))
			k.must(t, err)
			st := fi.Sys().(*syscall.Stat_t)
			if got := fmt.Sprintf("%d:%d", st.Uid, st.Gid); owner != "0:0" && got != owner {
				t.Errorf("%s: the file is %s's, want %s", what, got, owner)
			}
		}
	}},
	{fact: "helper: another image under the name of its own is not used", alone: true, check: func(t *testing.T, k *contract) {
		name := k.e.HelperName()
		first, err := k.e.HelperImage(t.Context(), job.Image{})
		k.must(t, err)
		for _, tag := range k.inspectImage(t, name).RepoTags {
			k.must(t, k.api.ImageTag(t.Context(), k.image, tag))
		}
		im := job.Image{}
		k.collectable(t, &im)
		got, err := k.e.HelperImage(t.Context(), im)
		if err != nil || got != first {
			t.Errorf("got %s, %v, want %s", got, err, first)
		}
		in := k.inspectImage(t, name)
		if in.ID != first || len(in.Config.Labels)+len(in.Config.Entrypoint)+len(in.Config.Env) > 0 {
			t.Errorf("got %s with %+v under the name", in.ID, in.Config)
		}
		k.age(t, im, 31)
		k.must(t, k.e.Collect(t.Context(), im))
		if _, err := k.api.ImageInspect(t.Context(), name); err == nil {
			t.Error("unused, it stays")
		}
	}},
	{fact: "network: none is the loopback alone", check: func(t *testing.T, k *contract) {
		k.says(t, k.job("interfaces"), "lo\n")
	}},
	{fact: "user: BOINC's", check: func(t *testing.T, k *contract) {
		j := k.job("id")
		j.Container.User = job.User{Mode: job.UserBOINC, UID: 4321, GID: 1234}
		want := "4321:1234\n"
		if k.e.Info.Rootless {
			want = "0:0\n" // the engine's user
		}
		k.says(t, j, want)
	}},
	{fact: "user: BOINC's has a home that it can write to", check: func(t *testing.T, k *contract) {
		boinc := job.User{Mode: job.UserBOINC, UID: 4321, GID: 1234}
		owner := "4321:1234"
		if k.e.Info.Rootless {
			owner = "0:0" // the engine's user
		}
		for _, tt := range []struct {
			image    string // lines of its Dockerfile
			readOnly bool
			env      []string
			home     string
			stat     string
		}{
			{home: "/home/boinc", stat: "40700 " + owner},
			{image: "ENV HOME=/\n", home: "/home/boinc", stat: "40700 " + owner},
			{image: "ENV HOME=/other/deep\n", home: "/other/deep", stat: "40700 " + owner},
			{image: "COPY etc /root/etc\nENV HOME=/root\n", home: "/root", stat: "40755 " + owner},
			{image: "COPY etc /home/etc\n", home: "/home/boinc", stat: "40700 " + owner},
			{env: []string{"HOME=/mine"}, home: "/mine", stat: "40700 " + owner},
			{readOnly: true, home: "/home/boinc", stat: "41777 0:0"},
		} {
			image := k.image
			if tt.image != "" {
				im, fsys := k.source("home", tt.image)
				fsys["etc/x"] = &fstest.MapFile{Mode: 0o644}
				image = k.ensure(t, im, fsys)
			}
			j := k.job("env=HOME", "stat="+tt.home, "mkdir="+tt.home+"/.cache/x", "write="+tt.home+"/.cache/x/y:z")
			j.Container.User, j.Container.DropCaps, j.Container.Env, j.Container.Extra.ReadOnly = boinc, true, tt.env, tt.readOnly
			c, err := k.e.Create(t.Context(), j, image)
			k.must(t, err)
			t.Cleanup(func() { k.mustRemove(t, c) })
			k.must(t, c.MakeHome(t.Context(), j))
			k.must(t, c.Start(t.Context()))
			got := k.finish(t, c)
			if want := fmt.Sprintf("%q\n%s %q\n", tt.home, tt.stat, tt.home); !strings.HasPrefix(got.out, want) || got.errOut != "" {
				t.Errorf("%+v: got %+v, want %s", tt, got, want)
			}
		}
	}},
	{fact: "user: a fixed one", check: func(t *testing.T, k *contract) {
		j := k.job("id")
		j.Container.User = job.User{Mode: "fixed", Fixed: "55:66"}
		k.says(t, j, "55:66\n")
	}},
	{fact: "environment: values keep all their characters", check: func(t *testing.T, k *contract) {
		j := k.job("env=A", "env=B")
		j.Container.Env = []string{"A=x=\"y\" $Z\n'ü'", "B="}
		k.says(t, j, fmt.Sprintf("%q\n%q\n", "x=\"y\" $Z\n'ü'", ""))
	}},
	{fact: "command: appended arguments follow the image's own", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("cmd", "CMD [\"out=image's\"]\n")
		j := k.job()
		j.Container.Command, j.Container.AppendArgs = nil, []string{"out=job's $(x) ;"}
		c, err := k.e.Create(t.Context(), j, k.ensure(t, im, fsys))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.mustRemove(t, c) })
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := k.finish(t, c).out, "image's\njob's $(x) ;\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}},
	{fact: "command: an entrypoint of the job's", check: func(t *testing.T, k *contract) {
		j := k.job("out=yes")
		j.Container.Entrypoint = []string{"/payload", "pwd"}
		j.Container.Extra.Workdir = "/data/sub"
		k.says(t, j, "/data/sub\nyes\n")
	}},

	{fact: "mounts: what the job writes is on the host at once", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		j := k.job("write=/m/out:here", "stat=/m/out")
		j.Container.Mounts = []job.Mount{{Source: dir, Target: "/m"}}
		k.do(t, j)
		if data, err := os.ReadFile(filepath.Join(dir, "out")); string(data) != "here" {
			t.Errorf("got %q, %v, want here", data, err)
		}
	}},
	{fact: "mounts: read-only is", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		j := k.job("write=/m/out:x", "chmod=777:/m")
		j.Container.Mounts = []job.Mount{{Source: dir, Target: "/m", ReadOnly: true}}
		if got := k.do(t, j).errOut; strings.Count(got, "read-only file system") != 2 {
			t.Errorf("got %q, want both refused", got)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Error("it was written")
		}
	}},
	{fact: "mounts: single files lie over a mounted directory", check: func(t *testing.T, k *contract) {
		dir, other := t.TempDir(), t.TempDir()
		err := errors.Join(os.WriteFile(dir+"/in", []byte("link"), 0o644), os.WriteFile(dir+"/result", nil, 0o644),
			os.WriteFile(other+"/in", []byte("physical"), 0o644), os.WriteFile(other+"/result", nil, 0o666))
		if err != nil {
			t.Fatal(err)
		}
		j := k.job("cat=/m/in", "write=/m/result:made", "write=/m/in:spoilt")
		j.Container.Mounts = []job.Mount{{Source: dir, Target: "/m"}, {Source: other + "/in", Target: "/m/in", ReadOnly: true},
			{Source: other + "/result", Target: "/m/result"}}
		got := k.do(t, j)
		result, err := os.ReadFile(other + "/result")
		if got.out != "physical" || !strings.Contains(got.errOut, "read-only") || string(result) != "made" {
			t.Errorf("got %+v, result %q (%v)", got, result, err)
		}
	}},
	{fact: "mounts: a source that isn't there", check: func(t *testing.T, k *contract) {
		j := k.job("out=ran")
		missing := k.dir + "/" + k.name("missing")
		j.Container.Mounts = []job.Mount{{Source: missing, Target: "/m"}}
		c, err := k.e.Create(t.Context(), j, k.image)
		if err == nil {
			t.Cleanup(func() { k.mustRemove(t, c) })
			err = c.Start(t.Context())
		}
		if !errors.Is(err, engine.ErrHost) || !strings.Contains(err.Error(), missing) {
			t.Errorf("got %v, want ErrHost naming %s", err, missing)
		}
		if _, err := os.Stat(missing); err == nil {
			t.Error("the engine made it")
		}
	}},
	{fact: "ports: one of the host's loopback leads in", check: func(t *testing.T, k *contract) {
		j := k.job("serve=8080", "sleep=1m")
		j.Container.Network = "bridge"
		j.Container.Ports = []job.Port{{HostIP: "127.0.0.1", Guest: 8080, Protocol: "tcp"}}
		c := k.start(t, j)
		port, err := c.HostPort(t.Context(), 8080)
		if err != nil || port == 0 {
			t.Fatalf("got port %d, %v", port, err)
		}
		var got []byte
		k.eventually(t, "the port answers", func() bool {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return false
			}
			defer conn.Close()
			got, _ = io.ReadAll(conn)
			return len(got) > 0
		})
		if string(got) != "hello" {
			t.Errorf("got %q, want hello", got)
		}
		if b := k.inspect(t, c).NetworkSettings.Ports["8080/tcp"]; len(b) != 1 || b[0].HostIP != "127.0.0.1" {
			t.Errorf("got %v, want the loopback alone", b)
		}
		if port, err := c.HostPort(t.Context(), 9); port != 0 || err != nil {
			t.Errorf("a port that isn't published: got %d, %v, want 0", port, err)
		}
	}},
	{fact: "ports: one that is in use may mend", check: func(t *testing.T, k *contract) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		j := k.job("sleep=1m")
		j.Container.Network = "bridge"
		j.Container.Ports = []job.Port{{HostIP: "127.0.0.1", Host: l.Addr().(*net.TCPAddr).Port, Guest: 80, Protocol: "tcp"}}
		if err := k.create(t, j).Start(t.Context()); !errors.Is(err, engine.ErrHost) {
			t.Errorf("got %v, want ErrHost", err)
		}
	}},
	{fact: "logs are kept small, in a form that can be read again", check: func(t *testing.T, k *contract) {
		c := k.create(t, k.job())
		if k.e.Info.Kind == engine.Podman { // Docker's API says what a Docker would have
			var in struct {
				HostConfig struct{ LogConfig struct{ Type, Size string } }
			}
			k.libpod(t, "/containers/"+c.ID+"/json", &in)
			if l := in.HostConfig.LogConfig; l.Type != "k8s-file" || l.Size == "" || l.Size == "0B" {
				t.Errorf("got %+v", l)
			}
			return
		}
		if l := k.inspect(t, c).HostConfig.LogConfig; l.Type != "json-file" || l.Config["max-size"] == "" {
			t.Errorf("got %+v", l)
		}
	}},
	{fact: "start: a program that isn't there", check: func(t *testing.T, k *contract) { k.cannotRun(t, "/no/such", "no such file in the image") }},
	{fact: "start: a program that isn't in the path", check: func(t *testing.T, k *contract) { k.cannotRun(t, "nosuch", "no such file in the image") }},
	{fact: "start: a directory for a program", check: func(t *testing.T, k *contract) { k.cannotRun(t, "/data", "is a directory") }},
	{fact: "start: a file that isn't executable", check: func(t *testing.T, k *contract) { k.cannotRun(t, "/data/old", "isn't executable (chmod +x") }},
	{fact: "start: a program that a mount hides", check: func(t *testing.T, k *contract) {
		for _, program := range []string{"/data/prog", "./prog", "sub/prog"} {
			j := k.job()
			j.Container.Entrypoint, j.Container.Extra.Workdir = []string{program}, "/data"
			j.Container.Mounts, j.Container.SlotMount = []job.Mount{{Source: t.TempDir(), Target: "/data"}}, "/data"
			c, err := k.e.Create(t.Context(), j, k.image)
			if err == nil {
				t.Cleanup(func() { k.mustRemove(t, c) })
				err = c.Start(t.Context())
			}
			var re *engine.RunError
			if !errors.As(err, &re) || !strings.HasPrefix(re.Reason, program+": no such file: the slot is mounted at /data and hides what the image has there (") {
				t.Errorf("%s: got %v", program, err)
			}
		}
	}},
	{fact: "start: neither entrypoint nor command", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("nothing", "")
		text := string(fsys["Dockerfile"].Data)
		fsys["Dockerfile"].Data = []byte(strings.Replace(text, "ENTRYPOINT [\"/payload\"]\n", "", 1))
		j := k.job()
		j.Container.Command = nil
		c, err := k.e.Create(t.Context(), j, k.ensure(t, im, fsys))
		if err == nil {
			t.Cleanup(func() { k.mustRemove(t, c) })
			err = c.Start(t.Context())
		}
		var re *engine.RunError
		if !errors.As(err, &re) || !strings.Contains(re.Reason, "neither the image nor job.toml names a program") {
			t.Errorf("got %v", err)
		}
	}},
	{fact: "start: a variable that is too long for Linux", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("big", "ENV BIG="+strings.Join(slices.Repeat([]string{strings.Repeat("x", 1<<15-1)}, 4), "\\\n")+"\n") // no line may have more than 65535 bytes
		c, err := k.e.Create(t.Context(), k.job(), k.ensure(t, im, fsys))
		if err == nil {
			t.Cleanup(func() { k.mustRemove(t, c) })
			err = c.Start(t.Context())
		}
		var re *engine.RunError
		if !errors.As(err, &re) || re.Reason != "the image's variable BIG is 131072 bytes long with its name; Linux allows 131071" {
			t.Errorf("got %v", err)
		}
		j := k.job()
		j.Container.Env = []string{"BIG=" + strings.Repeat("x", 128<<10-5)}
		if got := k.do(t, j); got.exit.Code != 0 || got.errOut != "" {
			t.Errorf("one byte less: got %+v", got)
		}
	}},
	{fact: "start: a program for another machine", check: func(t *testing.T, k *contract) {
		j := k.job()
		j.Container.Entrypoint = []string{"/data/alien"}
		c := k.create(t, j)
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: slotWith(t, "alien", alienProgram(), 0o755), Src: "alien", Dst: "/data"}}))
		// The engine says it, or an init process in the container's output.
		said := ""
		if err := c.Start(t.Context()); err != nil {
			var re *engine.RunError
			if !errors.As(err, &re) {
				t.Errorf("got %v, want *RunError", err)
			}
			said = err.Error()
		} else {
			got := k.finish(t, c)
			if got.exit.Code == 0 {
				t.Errorf("got %+v, want a failure", got)
			}
			said = got.errOut
		}
		if !strings.Contains(said, "alien") && !strings.Contains(said, "catatonit") { // which names none
			t.Errorf("got %q, want the program named", said)
		}
	}},
	{fact: "start: programs of a mounted directory, behind a link, in the path", check: func(t *testing.T, k *contract) {
		dir := slotWith(t, "run", k.payload, 0o755)
		k.must(t, errors.Join(os.Chmod(dir, 0o755), os.Symlink("/m/run", dir+"/abs"), os.Symlink("run", dir+"/rel")))
		for _, program := range []string{"/m/run", "/m/abs", "/m/rel", "./run", "run"} {
			j := k.job("out=ran")
			j.Container.Entrypoint, j.Container.Env, j.Container.Extra.Workdir = []string{program}, []string{"PATH=/none:/m"}, "/m"
			j.Container.Mounts = []job.Mount{{Source: dir, Target: "/m"}}
			k.says(t, j, "ran\n")
		}
	}},
	{fact: "start: what runs already is no error", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		if err := c.Start(t.Context()); err != nil {
			t.Error(err)
		}
	}},

	{fact: "calls: each in every state, twice", check: callsInStates},
	{fact: "stop: the program has its grace", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("trap=5", "write=/ready:", "sleep=1m"))
		k.within(t, 5*time.Second, func() { k.must(t, c.Stop(t.Context(), 20*time.Second)) })
		if got := k.finish(t, c); got.exit.Code != 5 || got.out != "got terminated\n" {
			t.Errorf("got %+v, want SIGTERM and 5", got)
		}
	}},
	{fact: "stop: the job's own signal", check: func(t *testing.T, k *contract) {
		j := k.job("trap=6", "write=/ready:", "sleep=1m")
		j.Stop.Signal = "SIGUSR1"
		c := k.ready(t, j)
		k.must(t, c.Stop(t.Context(), 20*time.Second))
		if got := k.finish(t, c); got.exit.Code != 6 || got.out != "got user defined signal 1\n" {
			t.Errorf("got %+v, want SIGUSR1 and 6", got)
		}
	}},
	{fact: "stop: what ignores the signal is killed after its grace", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("ignore=15", "write=/ready:", "sleep=1m"))
		began := time.Now()
		k.must(t, c.Stop(t.Context(), 2*time.Second))
		if took := time.Since(began); took < 1900*time.Millisecond || took > 8*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
		if got := k.wait(t, c); got.Code != 137 || got.OOMKilled && !k.e.Info.OOMUnsaid() {
			t.Errorf("got %+v, want 137", got)
		}
	}},
	{fact: "stop: less than a second of grace is still one", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("trap=5", "write=/ready:", "sleep=1m"))
		k.must(t, c.Stop(t.Context(), 900*time.Millisecond))
		if got := k.wait(t, c); got.Code != 5 {
			t.Errorf("got %+v, want 5", got)
		}
	}},
	{fact: "stop: a paused program can answer", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("trap=5", "write=/ready:", "sleep=1m"))
		k.pause(t, c)
		k.must(t, c.Stop(t.Context(), 20*time.Second))
		if got := k.wait(t, c); got.Code != 5 {
			t.Errorf("got %+v, want 5", got)
		}
	}},
	{fact: "kill: a paused program ends", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		k.pause(t, c)
		k.must(t, c.Kill(t.Context()))
		k.within(t, 5*time.Second, func() {
			if got := k.wait(t, c); got.Code != 137 || got.OOMKilled {
				t.Errorf("got %+v, want 137", got)
			}
		})
	}},
	{fact: "pause: nothing goes on", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("burn=1h"))
		k.pause(t, c)
		before, err := c.Usage(t.Context())
		k.must(t, err)
		settled := time.Now().Add(300 * time.Millisecond)
		k.eventually(t, "time passes", func() bool { return time.Now().After(settled) })
		after, err := c.Usage(t.Context())
		k.must(t, err)
		if after.CPU-before.CPU > 20*time.Millisecond {
			t.Errorf("paused, it used %v", after.CPU-before.CPU)
		}
		k.must(t, c.Unpause(t.Context()))
		k.eventually(t, "it goes on", func() bool {
			u, err := c.Usage(t.Context())
			return err == nil && u.CPU > after.CPU+50*time.Millisecond
		})
	}},
	{fact: "pause: a path through a paused container's control group leads on until the container ends", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("sleep=1m"))
		name := filepath.Join(t.TempDir(), "kept")
		k.must(t, os.WriteFile(name, []byte("text"), 0o644))
		k.pause(t, c)
		path, ok := c.While(t.Context(), name)
		if pid := k.inspect(t, c).State.Pid; !ok && (k.e.Info.Rootless || k.e.Info.Kind == engine.Docker && !seen(pid, c.ID)) {
			return // it has no control group of its own, or the engine has process numbers of its own
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
			t.Fatalf("read %s: got %q, %v", path, text, err)
		}
		k.must(t, c.Kill(t.Context()))
		k.eventually(t, "the path leads nowhere", func() bool {
			_, err := os.ReadFile(path)
			return errors.Is(err, fs.ErrNotExist)
		})
	}},
	{fact: "options: each of create_args reaches the container", check: func(t *testing.T, k *contract) {
		j := k.job("cat=/proc/self/status", "cat=/proc/self/limits", "cat=/etc/hosts", "cat=/etc/resolv.conf", "cat=/proc/sys/kernel/hostname",
			"cat=/proc/sys/kernel/msgmax", "pwd", "stat=/dev/mine", "groups", "write=/scratch/f:in scratch", "cat=/scratch/f", "size=/scratch", "write=/f:x")
		j.Container.Network = "bridge"
		own, err := os.ReadFile("/proc/self/status")
		k.must(t, err)
		cpu := regexp.MustCompile(`^\d+`).FindString(field(string(own), "Cpus_allowed_list:"))
		if k.e.Info.Rootless { // it has no control group for that
			cpu = ""
		}
		j.Container.Extra = job.CreateArgs{
			AddHosts: []string{"elsewhere:192.0.2.7"}, CapAdd: []string{"SYS_PTRACE"}, CapDrop: []string{"CHOWN"}, CPUSet: cpu, Devices: []string{"/dev/null:/dev/mine"},
			DNS: []string{"192.0.2.53"}, GroupAdd: []string{"4321"}, Hostname: "guest", IPC: "private", Labels: map[string]string{"theirs": "x"},
			ReadOnly: true, Sysctls: map[string]string{"kernel.msgmax": "12345"}, Tmpfs: map[string]string{"/scratch": "size=1m"},
			Ulimits: []job.Ulimit{{Name: "nofile", Soft: 99, Hard: 100}}, Workdir: "/data",
		}
		c := k.start(t, j)
		got := k.finish(t, c)
		nofile := `99\s+100`
		if k.e.Info.Rootless && strings.HasPrefix(k.e.Info.Version, "4.") { // it takes no notice
			nofile = `\d+\s+\d+`
		}
		for option, want := range map[string]string{
			"--add-host": `(?m)^192\.0\.2\.7\s+elsewhere\b`, "--cpuset-cpus": `(?m)^Cpus_allowed_list:\s+` + cpu + `\b`, "--device": `"/dev/mine"`,
			"--dns": `(?m)^nameserver 192\.0\.2\.53$`, "--group-add": `\b4321\b`, "--hostname": `(?m)^guest$`, "--sysctl": `(?m)^12345$`,
			"--tmpfs": `in scratch\D*1048576\b`, "--ulimit": `(?m)^Max open files\s+` + nofile + `\s`, "--workdir": `(?m)^/data$`, "no-new-privileges": `(?m)^NoNewPrivs:\s+1$`,
		} {
			if !regexp.MustCompile(want).MatchString(got.out) {
				t.Errorf("%s: want %s in what the container sees", option, want)
			}
		}
		const chown, ptrace = 1 << 0, 1 << 19 // capabilities(7)
		if caps, err := strconv.ParseUint(field(got.out, "CapBnd:"), 16, 64); err != nil || caps&chown != 0 || caps&ptrace == 0 {
			t.Errorf("--cap-add, --cap-drop: got %x, %v", caps, err)
		}
		if !strings.Contains(got.errOut, "read-only") {
			t.Errorf("--read-only: got %q", got.errOut)
		}
		if got := k.inspect(t, c).Config.Labels["theirs"]; got != "x" {
			t.Errorf("--label: got %q", got)
		}
		if t.Failed() {
			t.Logf("%s\n%s", got.out, got.errOut)
		}
	}},
	{fact: "options: a runtime is chosen, or nothing runs", check: func(t *testing.T, k *contract) {
		j := k.job()
		j.Container.Extra.Runtime = "nosuch"
		c, err := k.e.Create(t.Context(), j, k.image)
		if err == nil {
			t.Cleanup(func() { k.mustRemove(t, c) })
			err = c.Start(t.Context())
		}
		if !errors.Is(err, engine.ErrHost) {
			t.Errorf("got %v, want ErrHost", err)
		}
	}},
	{fact: "remove: at once, whatever the program makes of signals", check: func(t *testing.T, k *contract) {
		for _, state := range []string{engine.StateRunning, engine.StatePaused} {
			c := k.start(t, k.job("ignore=15", "write=/ready:", "sleep=1m"))
			k.eventually(t, "it is ready", func() bool { _, err := c.ReadFile(t.Context(), "/ready", 1); return err == nil })
			if state == engine.StatePaused {
				k.pause(t, c)
			}
			k.within(t, 5*time.Second, func() { k.mustRemove(t, c) })
		}
	}},
	{fact: "start: a device file that the host doesn't have is the host's fault", check: func(t *testing.T, k *contract) {
		j := k.job()
		j.Container.Extra.Devices = []string{"/dev/boinc_nonesuch"}
		c, err := k.e.Create(t.Context(), j, k.image)
		if err == nil {
			defer k.mustRemove(t, c)
			err = c.Start(t.Context())
		}
		if !errors.Is(err, engine.ErrHost) || !strings.Contains(err.Error(), "/dev/boinc_nonesuch") {
			t.Errorf("got %v, want ErrHost and the device", err)
		}
	}},
	{fact: "start: Docker refuses shared mounts of a directory that the host doesn't share, Podman makes them", check: func(t *testing.T, k *contract) {
		dir := t.TempDir()
		shared, known := host.Shared(dir)
		bind, refusals := job.Bind{Source: dir, Target: "/x", Options: "rshared"}, 0
		for ok := true; ok; refusals++ {
			j := k.job()
			j.Container.Binds = []job.Bind{bind}
			c := k.create(t, j)
			err := c.Start(t.Context())
			if err == nil {
				break
			}
			if !errors.Is(err, engine.ErrNotShared) || !strings.Contains(err.Error(), "path "+dir+" is mounted on") {
				t.Fatalf("%s: got %v, want ErrNotShared and the directory", bind.Options, err)
			}
			bind, ok = bind.Weaker()
		}
		if known && !shared && (refusals > 0) != (k.e.Info.Kind == engine.Docker) || refusals > 2 {
			t.Errorf("got %d refusals, mounted as %s at last", refusals, bind.Options)
		}
	}},
	{fact: "remove: anonymous volumes go too, others stay", check: func(t *testing.T, k *contract) {
		name := k.name("volume")
		if _, err := k.api.VolumeCreate(t.Context(), volume.CreateOptions{Name: name}); err != nil {
			t.Fatal(err)
		}
		defer func() { k.must(t, k.api.VolumeRemove(t.Context(), name, true)) }()
		j := k.job("write=/v/x:x", "sleep=1m")
		j.Container.Binds = []job.Bind{{Target: "/v"}, {Source: name, Target: "/named"}}
		c := k.start(t, j)
		anonymous := ""
		for _, m := range k.inspect(t, c).Mounts {
			if m.Destination == "/v" {
				anonymous = filepath.Base(filepath.Dir(m.Source)) // some Dockers don't give its name
			}
		}
		k.mustRemove(t, c)
		left, err := k.api.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs()})
		k.must(t, err)
		var names []string
		for _, v := range left.Volumes {
			names = append(names, v.Name)
		}
		all := strings.Join(names, " ")
		if anonymous == "" || strings.Contains(all, anonymous) || !strings.Contains(all, name) {
			t.Errorf("got volumes %s, want %q gone and %s there", all, anonymous, name)
		}
	}},
}

// stray makes what only the engine's storage knows of: with a Podman that has the same storage, and a memory of its own.
func (k *contract) stray(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "containers.conf")
	k.must(t, os.WriteFile(conf, fmt.Appendf(nil, "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nstatic_dir = %q\ntmp_dir = %q\n",
		filepath.Join(dir, "static"), filepath.Join(dir, "tmp")), 0o644))
	words := append(strings.Fields(os.Getenv("FAULTS_PODMAN")), "create", "--name", name, k.image)
	if len(words) == 4 {
		words = append([]string{"podman"}, words...)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", words, err, out)
	}
}

// unlimited wants it said that an engine without control groups limits nothing, and wants the job to run all the same.
func (k *contract) unlimited(t *testing.T, j *job.Job) {
	t.Helper()
	var log syncBuffer
	e, err := engine.Open(t.Context(), engine.Options{Host: k.e.Address(), Log: zerolog.New(&log).Level(zerolog.WarnLevel)})
	k.must(t, err)
	defer e.Close()
	c, err := e.Create(t.Context(), j, k.image)
	k.must(t, err)
	defer k.mustRemove(t, c)
	if want := "this engine doesn't limit the container's memory, CPUs, processes"; strings.Count(log.String(), want) != 1 {
		t.Errorf("got %q, want %q in it", log.String(), want)
	}
	k.must(t, c.Start(t.Context()))
	if got := k.wait(t, c); got.Code != 0 {
		t.Errorf("got %+v, want 0", got)
	}
}

// callsInStates goes through what a wrapper may ask at any time.
func callsInStates(t *testing.T, k *contract) {
	ctx := t.Context()
	states := []struct {
		name string
		get  func(*engine.Container) error
	}{
		{engine.StateCreated, func(c *engine.Container) error { return nil }},
		{engine.StateRunning, func(c *engine.Container) error { return c.Start(ctx) }},
		{engine.StatePaused, func(c *engine.Container) error { return errors.Join(c.Start(ctx), c.Pause(ctx)) }},
		{engine.StateExited, func(c *engine.Container) error { return errors.Join(c.Start(ctx), c.Kill(ctx)) }},
		{"removed", func(c *engine.Container) error { return c.Remove(ctx) }},
	}
	calls := []struct {
		name string
		call func(*engine.Container) error
		to   map[string]string // where the state changes
	}{
		{"pause", func(c *engine.Container) error { return c.Pause(ctx) }, map[string]string{"running": "paused"}},
		{"unpause", func(c *engine.Container) error { return c.Unpause(ctx) }, map[string]string{"paused": "running"}},
		{"stop", func(c *engine.Container) error { return c.Stop(ctx, time.Second) }, map[string]string{"running": "exited", "paused": "exited"}},
		{"kill", func(c *engine.Container) error { return c.Kill(ctx) }, map[string]string{"running": "exited", "paused": "exited"}},
		{"remove", func(c *engine.Container) error { return c.Remove(ctx) },
			map[string]string{"created": "removed", "running": "removed", "paused": "removed", "exited": "removed"}},
	}
	for _, s := range states {
		for _, call := range calls {
			t.Run(s.name+" "+call.name, func(t *testing.T) {
				t.Parallel()
				j := k.job("sleep=1m")
				c := k.create(t, j)
				k.must(t, s.get(c))
				state := func() string {
					found, err := k.e.Find(ctx, j.Container)
					if errors.Is(err, engine.ErrNotFound) {
						return "removed"
					}
					k.must(t, err)
					return found.State
				}
				k.eventually(t, "the container is "+s.name, func() bool { return state() == s.name })
				want := s.name
				if to, ok := call.to[s.name]; ok {
					want = to
				}
				for range 2 {
					k.must(t, call.call(c))
					k.eventually(t, "the container is "+want, func() bool { return state() == want })
				}
			})
		}
	}
}

// cannotRun wants a program that can't be run to be the project's fault, by a reason that names it.
func (k *contract) cannotRun(t *testing.T, program, why string) {
	t.Helper()
	j := k.job()
	j.Container.Entrypoint = []string{program}
	c := k.create(t, j)
	err := c.Start(t.Context())
	var re *engine.RunError
	if !errors.As(err, &re) || !strings.HasPrefix(re.Reason, program+": "+why) || strings.Contains(re.Reason, "\n") || len(re.Reason) > 200 {
		t.Errorf("got %v, want *RunError: %s: %s", err, program, why)
	}
	if in := k.inspect(t, c); in.State.Running || in.State.Status == container.StateRunning {
		t.Errorf("it runs: %+v", in.State)
	}
}

// alienProgram is an ELF file whose machine nobody has.
func alienProgram() []byte {
	data := make([]byte, 4096)
	copy(data, "\x7fELF\x02\x01\x01")
	data[16], data[18], data[19] = 2, 0xfe, 0xca // ET_EXEC; e_machine of the Application Vendor range
	return data
}

// slotWith is a directory with one file.
func slotWith(t *testing.T, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, name), data, mode), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (k *contract) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ready starts a container and waits for its file /ready.
func (k *contract) ready(t *testing.T, j *job.Job) *engine.Container {
	t.Helper()
	c := k.start(t, j)
	k.eventually(t, "the program is ready", func() bool {
		_, err := c.ReadFile(t.Context(), "/ready", 1)
		return err == nil
	})
	return c
}

// field finds what follows a name in the lines of a file of /proc.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// seen reports that a process number of the engine's is one of this host's, in the control group of the container with this ID.
func seen(pid int, id string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(text), id)
}
