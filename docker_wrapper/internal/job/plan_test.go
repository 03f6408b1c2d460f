package job

import (
	"bytes"
	"encoding/json"
	"errors"
	commandline "flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"boincdocker/boincapi"
)

var update = commandline.Bool("update", false, "rewrite the plans in testdata/plan")

const (
	testSlot    = "/boinc/slots/0"
	testProject = "/boinc/projects/p.org_x"
)

// TestPlan compares plans with those in testdata/plan. A file there has job.toml, what the client
// says (init_data.xml; none when standalone), what else is known (input.json), and the plan or the
// error that comes of it.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v; want files", files, err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sections := map[string][]byte{}
			for _, f := range a.Files {
				sections[f.Name] = f.Data
			}
			got := planOf(t, sections)
			if *update {
				a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "plan.json" })
				a.Files = append(a.Files, txtar.File{Name: "plan.json", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(sections["plan.json"]), got); diff != "" {
				t.Errorf("want -, got + (go test -update, and read the diff):\n%s", diff)
			}
		})
	}
}

func planOf(t *testing.T, sections map[string][]byte) string {
	t.Helper()
	var given struct {
		Args          []string
		Dockerfile    string
		HasDockerfile bool
		Links         map[string]string
		Signed        bool
		Policy        string
		Host          Host
	}
	if data := sections["input.json"]; data != nil {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&given); err != nil {
			t.Fatalf("input.json: %v", err)
		}
	}
	in := Input{Dir: testSlot, ProjectDir: testProject, Args: given.Args, Dockerfile: given.Dockerfile, HasDockerfile: given.HasDockerfile,
		Signed: given.Signed, Host: given.Host}
	in.Host.Memory = 16e9
	for _, name := range slices.Sorted(maps.Keys(given.Links)) {
		in.Links = append(in.Links, Link{Name: name, Target: filepath.Join(testProject, given.Links[name])})
	}
	var err error
	if in.Config, err = ParseConfig("job.toml", sections["job.toml"]); err != nil {
		t.Fatal(err)
	}
	if in.Policy, err = ParsePolicy(PolicyFile, []byte(given.Policy)); err != nil {
		t.Fatal(err)
	}
	if data := sections["init_data.xml"]; data != nil {
		d, err := boincapi.ParseInitData(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		in.Init = &d
	}
	j, err := Plan(in)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(j); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// testInit is a job of the client that knows Docker.
func testInit() *boincapi.InitData {
	return &boincapi.InitData{ProjectDir: testProject, BoincDir: "/boinc", AppName: "worker", PlanClass: "docker", AppVersion: 101,
		WUName: "wu", ResultName: "wu_0", NCPUs: 1, GPUDeviceNum: -1, GPUOpenCLDevIndex: -1, HostInfo: boincapi.HostInfo{DockerVersion: "28.5.2"}}
}

func testInput(t testing.TB, toml string) Input {
	t.Helper()
	c, err := ParseConfig("job.toml", []byte(toml))
	if err != nil {
		t.Fatal(err)
	}
	return Input{Config: c, Init: testInit(), Dir: testSlot, ProjectDir: testProject, HasDockerfile: true, Signed: true}
}

// A link that leads nowhere, and to no output by its name, may be one of an output that BOINC's server named otherwise.
func TestLinkToNoOutput(t *testing.T) {
	in := testInput(t, "")
	in.Links = []Link{{Name: "in", Target: testProject + "/in_0"}, {Name: "out", Target: testProject + "/wu_0_0", Missing: true},
		{Name: "log", Target: testProject + "/my_log", Missing: true}}
	j, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"log is linked to my_log, which isn't there and is not an output of this result: the names of its outputs begin with wu_0_, so the job can't write it"}
	if !slices.Equal(j.Notes, want) {
		t.Errorf("got %q, want %q", j.Notes, want)
	}
}

func TestPlanMistakes(t *testing.T) {
	both := []Link{{Name: "in", Target: testProject + "/in_0"}, {Name: "out", Target: testProject + "/wu_0_0"}}
	for _, tt := range []struct {
		name, toml string
		set        func(*Input)
		want       string // "" for none
	}{
		{name: "the helper's image", toml: `image = "docker.io/library/boinc_helper:0a"`, want: `job.toml:1:9: image: "docker.io/library/boinc_helper:0a": such names are reserved for the wrapper`},
		{name: "a wrapper's image by digest", toml: `image = "localhost/boinc_content@sha256:` + strings.Repeat("0", 64) + `"`,
			want: `job.toml:1:9: image: "localhost/boinc_content@sha256:` + strings.Repeat("0", 64) + `": such names are reserved for the wrapper`},
		{name: "the helper's image in a list", toml: `images = [{image = "boinc_helper"}]`, want: `job.toml:1:10: images: "boinc_helper": such names are reserved for the wrapper`},
		{name: "the helper's image by name", toml: `image_name = "x/boinc_helper:1"`, want: `job.toml:1:14: image_name: "x/boinc_helper:1": such names are reserved for the wrapper`},
		{name: "no image", set: func(in *Input) { in.HasDockerfile = false },
			want: "Dockerfile: no such file in the slot, and job.toml names no image (add a Dockerfile, or one of the keys image, image_archive, image_name)"},
		{name: "copy out over an input", toml: `copy_from_container = [{src = "/x", dst = "in"}]`, set: func(in *Input) { in.Links = both },
			want: `job.toml:1:23: copy_from_container: dst "in" is an input of this job, not an output`},
		{name: "copy out over an output", toml: `copy_from_container = [{src = "/x", dst = "out"}]`, set: func(in *Input) { in.Links = both }},
		{name: "copy out over an input, standalone", toml: `copy_from_container = [{src = "/x", dst = "in"}]`,
			set: func(in *Input) { in.Links, in.Init = both, nil }},
		{name: "a signal that doesn't pass", toml: "stdout_file = \"o\"\nstop_signal = \"SIGURG\"",
			want: `job.toml:2:15: stop_signal: SIGURG can't be passed on to a job with stdout_file or stderr_file: use another signal, such as SIGUSR1`},
		{name: "a signal that ends Go programs", toml: "stderr_file = \"e\"\n[checkpoint]\nfile = \"c\"\nsignal = \"RTMIN\"",
			want: `job.toml:4:10: checkpoint.signal: SIGRTMIN can't be passed on to a job with stdout_file or stderr_file: use another signal, such as SIGUSR1`},
		{name: "such a signal without such a file", toml: "stop_signal = \"SIGURG\""},
		{name: "mounted twice", toml: "slot_dir_mount = \"/app\"\nproject_dir_mount = \"/app\"",
			want: `job.toml:2:21: project_dir_mount: "/app" is mounted twice`},
		{name: "checkpoint file out of reach", toml: "copy_to_container = [{src = \"in\", dst = \"/in\"}]\n[checkpoint]\nfile = \"cp\"",
			want: `job.toml:3:8: checkpoint.file: the slot isn't mounted, so the job can't write "cp" there (write the file's path in the container)`},
		{name: "a checkpoint that goes with the container", toml: "[checkpoint]\nfile = \"/state\"",
			want: `job.toml:2:8: checkpoint.file: "/state" is lost with the container (add checkpoint.copy, which saves what the job needs to go on)`},
		{name: "a checkpoint in an anonymous volume", toml: "create_args = \"-v /data\"\n[checkpoint]\nfile = \"/data/state\"",
			want: `job.toml:3:8: checkpoint.file: "/data/state" is lost with the container (add checkpoint.copy, which saves what the job needs to go on)`},
		{name: "a checkpoint in the mounted slot, by its path", toml: "[checkpoint]\nfile = \"/app/state\""},
		{name: "asked for a checkpoint that nobody sees", toml: "[checkpoint]\nsignal = \"SIGUSR1\"",
			want: "job.toml:2:10: checkpoint.signal: the wrapper can't tell when the job has checkpointed (add checkpoint.file, a file that the job writes at each checkpoint)"},
		{name: "saving a checkpoint that nobody sees", toml: "[checkpoint]\ncopy = [{src = \"/cp\", dst = \"cp\"}]",
			want: "job.toml:2:8: checkpoint.copy: the wrapper can't tell when the job has checkpointed (add checkpoint.file, a file that the job writes at each checkpoint)"},
		{name: "no checkpoints, whatever else is said", toml: "[checkpoint]\nmethod = \"none\"\nsignal = \"SIGUSR1\""},
		{name: "saved in each other's way", toml: "[checkpoint]\nfile = \"/a/f\"\ncopy = [{src = \"/a\", dst = \"cp\"}, {src = \"/b\", dst = \"cp/b\"}]",
			want: `job.toml:3:8: checkpoint.copy: dst "cp" and dst "cp/b" overlap`},
		{name: "a variable that Linux doesn't take", toml: "[env]\nFITS = \"" + strings.Repeat("x", 131066) + "\"\nLONG = \"" + strings.Repeat("x", 131067) + "\"",
			want: "job.toml:3:8: env.LONG: LONG is 131072 bytes long with its name; Linux allows a variable 131071 (put it into a file)"},
		{name: "a variable that is too long with its number", toml: "[env]\nN = \"" + strings.Repeat("x", 131060) + "$NTHREADS$SLOT_DIR/12345\"",
			want: "job.toml:2:5: env.N: N is 131073 bytes long with its name; Linux allows a variable 131071 (put it into a file)"},
		{name: "a variable of create_args", toml: "create_args = [\"-e\", \"B=" + strings.Repeat("é", 65536) + "\"]",
			want: "job.toml:1:15: create_args: B is 131074 bytes long with its name; Linux allows a variable 131071 (put it into a file)"},
		{name: "arguments that are too long together", set: func(in *Input) { in.Args = slices.Repeat([]string{strings.Repeat("x", 1000)}, 140) },
			want: "command line: is longer than 131071 bytes, which Linux allows the variable ARGS"},
		{name: "copied into a tmpfs", toml: "create_args = \"--tmpfs /work\"\ncopy_to_container = [{src = \"in\", dst = \"/work/in\"},\n  {src = \"x\", dst = \"/work/\"}]",
			want: "job.toml:2:41: copy_to_container.dst: \"/work/in\": /work is a tmpfs, which is memory: nothing can be copied to it before the start (copy it elsewhere)\n" +
				"job.toml:3:21: copy_to_container.dst: \"/work/x\": /work is a tmpfs, which is memory: nothing can be copied to it before the start (copy it elsewhere)"},
		{name: "copied into shared memory", toml: `copy_to_container = [{src = "in", dst = "/dev/shm/in"}]`,
			want: `job.toml:1:41: copy_to_container.dst: "/dev/shm/in": /dev/shm is a tmpfs, which is memory: nothing can be copied to it before the start (copy it elsewhere)`},
		{name: "copied out of shared memory", toml: `copy_from_container = [{src = "/dev/shm/res", dst = "res"}]`,
			want: `job.toml:1:31: copy_from_container.src: "/dev/shm/res": /dev/shm is a tmpfs, which is memory: it is gone with the container, and nothing can be copied from it (the job must write this output elsewhere)`},
		{name: "copied out of a tmpfs as a mount", toml: "create_args = \"--mount type=tmpfs,dst=/t\"\ncopy_from_container = [{src = \"/t\", dst = \"res\"}]",
			want: `job.toml:2:31: copy_from_container.src: "/t": /t is a tmpfs, which is memory: it is gone with the container, and nothing can be copied from it (the job must write this output elsewhere)`},
		{name: "copied out of a mount in a tmpfs", toml: "create_args = \"--tmpfs /t -v /t/v\"\ncopy_from_container = [{src = \"/t/v/x\", dst = \"res\"}]"},
		{name: "copied out of a volume at /dev/shm", toml: "create_args = \"-v /dev/shm\"\ncopy_from_container = [{src = \"/dev/shm/x\", dst = \"res\"}]"},
		{name: "copied beside a tmpfs", toml: "create_args = \"--tmpfs /t\"\ncopy_from_container = [{src = \"/tx\", dst = \"res\"}]"},
		{name: "a checkpoint in memory", toml: "[checkpoint]\nfile = \"/dev/shm/cp/done\"\ncopy = [{src = \"/dev/shm/cp\", dst = \"cp\"}]",
			want: "job.toml:3:16: checkpoint.copy.src: \"/dev/shm/cp\": /dev/shm is a tmpfs, which is memory: it is gone with the container, and nothing can be copied from it (the job must write its checkpoint elsewhere)\n" +
				"job.toml:2:8: checkpoint.file: \"/dev/shm/cp/done\": /dev/shm is a tmpfs, which is memory: it is gone with the container, and nothing can be copied from it (the job must write its checkpoint elsewhere)"},
		{name: "several mistakes", toml: "image_name = \"x/boinc_helper:1\"\ncreate_args = \"--gpus all\"\nslot_dir_mount = \"/app\"\nproject_dir_mount = \"/app\"\n[checkpoint]\nsignal = \"SIGUSR1\"",
			want: "job.toml:2:15: create_args: --gpus all may give this job the GPUs of other jobs (use_gpu = true gives the GPU that BOINC assigned)\n" +
				"job.toml:1:14: image_name: \"x/boinc_helper:1\": such names are reserved for the wrapper\n" +
				"job.toml:4:21: project_dir_mount: \"/app\" is mounted twice\n" +
				"job.toml:6:10: checkpoint.signal: the wrapper can't tell when the job has checkpointed (add checkpoint.file, a file that the job writes at each checkpoint)"},
		{name: "all GPUs, by hand too", toml: `create_args = "--gpus all"`, set: func(in *Input) { in.Init = nil },
			want: "job.toml:1:15: create_args: --gpus all may give this job the GPUs of other jobs (use_gpu = true gives the GPU that BOINC assigned)"},
		{name: "no GPU assigned", toml: "use_gpu = true", want: "job.toml:1:11: use_gpu: BOINC assigned no GPU to this job: its plan class must ask for one"},
		{name: "a GPU type without a device", toml: "use_gpu = true", set: func(in *Input) { in.Init.GPUType = "NVIDIA" },
			want: "job.toml:1:11: use_gpu: BOINC assigned no GPU to this job: its plan class must ask for one"},
		{name: "an image of this computer's network", toml: "\nimage = \"127.0.0.1:5000/x\"", set: func(in *Input) { in.Signed = false },
			want: `job.toml:2:9: image: "127.0.0.1:5000/x": the registry 127.0.0.1 is no public address, and this file isn't signed`},
		{name: "among others", toml: "images = [\"debian\", {image = \"nas.lan/x\"}]", set: func(in *Input) { in.Signed = false },
			want: `job.toml:1:10: images: "nas.lan/x": the registry nas.lan is a name of this computer's own network, and this file isn't signed`},
		{name: "another job's image", toml: "image = \"boinc_wu_7\"", set: func(in *Input) { in.Signed = false },
			want: `job.toml:1:9: image: "boinc_wu_7": images of such a name are made by wrappers for other jobs, and this file isn't signed`},
		{name: "an image of this computer's network, signed", toml: "image = \"127.0.0.1:5000/x\""},
		{name: "unsigned jobs refused", set: func(in *Input) { in.Signed, in.Policy.Unsigned = false, "refuse" },
			want: "job.toml: the job's files aren't signed, and this computer's docker_wrapper.toml refuses such jobs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t, tt.toml)
			if tt.set != nil {
				tt.set(&in)
			}
			_, err := Plan(in)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			var c *ConfigError
			if errors.As(err, &c) != (err != nil) {
				t.Errorf("got %T, want a *ConfigError", err)
			}
		})
	}
}

func TestWhoCheckpoints(t *testing.T) {
	for _, tt := range []struct {
		toml       string
		standalone bool
		method     string
		onQuit     string
	}{
		{toml: "", method: IfAny, onQuit: "auto"},
		{toml: "[checkpoint]\nmethod = \"auto\"", method: IfAny, onQuit: "auto"},
		{toml: "[checkpoint]\nmethod = \"auto\"\nfile = \"state\"", method: ByApp, onQuit: "auto"},
		{toml: "[checkpoint]\nmethod = \"app\"", method: ByNobody, onQuit: "pause"},
		{toml: "[checkpoint]\nmethod = \"none\"\nfile = \"state\"", method: ByNobody, onQuit: "pause"},
		{toml: "[checkpoint]\nmethod = \"engine\"\nfile = \"state\"", method: ByEngine, onQuit: "auto"},
		{toml: "on_quit = \"pause\"\n[checkpoint]\nmethod = \"engine\"", method: ByEngine, onQuit: "pause"},
		{toml: "[checkpoint]\nmethod = \"engine\"", standalone: true, method: ByNobody, onQuit: "pause"}, // nobody would restore it
		{toml: "", standalone: true, method: ByNobody, onQuit: "pause"},
	} {
		in := testInput(t, tt.toml)
		if tt.standalone {
			in.Init = nil
		}
		j, err := Plan(in)
		if err != nil {
			t.Errorf("%s: %v", tt.toml, err)
			continue
		}
		if j.Checkpoint.Method != tt.method || j.Stop.OnQuit != tt.onQuit {
			t.Errorf("%s, standalone %v: got %s, on quit %s; want %s, %s", tt.toml, tt.standalone, j.Checkpoint.Method, j.Stop.OnQuit, tt.method, tt.onQuit)
		}
	}
}

func TestSeconds(t *testing.T) {
	for in, want := range map[Seconds]string{0: "0", 10e9: "10", 1500e6: "1.5", 1e6: "0.001"} {
		if got, err := json.Marshal(in); string(got) != want || err != nil {
			t.Errorf("%d ns: got %s, %v; want %s", in, got, err, want)
		}
	}
	if got, err := json.Marshal(Checkpoint{Method: "none"}); string(got) != `{"method":"none"}` || err != nil {
		t.Errorf("got %s, %v; want no period", got, err)
	}
}

func TestMisunderstood(t *testing.T) {
	const ignored = "is ignored (it is used only without slot_dir_mount and copy lists)"
	for toml, want := range map[string]string{
		"workdir = \"/w\"":                                                                      "",
		"workdir = \"/w\"\nslot_dir_mount = \"/w\"":                                             "",
		"slot_dir_mount = \"/s\"\nworkdir = \"/w\"":                                             "job.toml:2:11: workdir: " + ignored,
		"workdir = \"/w\"\ncopy_from_container = [{src = \"/w/out\", dst = \"out\"}]":           "job.toml:1:11: workdir: " + ignored,
		"command = [\"echo\", \"${ARGS}\"]":                                                     `job.toml:1:11: command: "${ARGS}": no shell reads it, and nothing expands ${ARGS} (write ["sh", "-c", "…"], unless the image's entry point is a shell)`,
		"command = [\"./prog\", \"--out=$OUT/x $NTHREADS\", \"$B\"]":                            `job.toml:1:11: command: "--out=$OUT/x $NTHREADS": no shell reads it, and nothing expands $NTHREADS (write ["sh", "-c", "…"], unless the image's entry point is a shell)`,
		"command = [\"bash\", \"-c\", \"echo $ARGS\"]":                                          "",
		"command = [\"$HOME\"]\nentrypoint = [\"sh\", \"-c\"]":                                  "",
		"command = [\"awk\", \"{print $NF}\"]":                                                  "",
		"command = [\"awk\", \"{print $1}\"]":                                                   "",
		"create_args = \"--tmpfs /w/tmp\"\ncopy_from_container = [{src = \"/w\", dst = \"w\"}]": `job.toml:2:31: copy_from_container.src: "/w": the tmpfs /w/tmp in it is memory, and isn't copied`,
		"fraction_done_file = \"/dev/shm/f\"":                                                   `job.toml:1:22: fraction_done_file: "/dev/shm/f": /dev/shm is a tmpfs, which is memory, in which engines find no file (the job must write it elsewhere)`,
		"env.MEMORY = \"1g\"":                                                                   "",
		"[checkpoint]\nmethod = \"engine\"\nfile = \"state\"\nsignal = \"USR1\"": "job.toml:3:8: checkpoint.file: has no effect with method = \"engine\" (the job's own checkpoints need method = \"app\")\n" +
			"job.toml:4:10: checkpoint.signal: has no effect with method = \"engine\" (the job's own checkpoints need method = \"app\")",
		"[env]\nA = \"\"\nmemory = \"1g\"": "job.toml:3:10: env.memory: sets a variable in the container (memory is a key of its own; that one stands above the first [table])",
	} {
		j, err := Plan(testInput(t, toml))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(j.Notes, "\n"); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", toml, got, want)
		}
	}
}
