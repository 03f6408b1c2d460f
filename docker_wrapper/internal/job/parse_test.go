package job

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// mistakesOf gives the messages of an error and checks that each can be shown where it was made.
func mistakesOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %T: want joined errors", err)
	}
	var messages []string
	for _, e := range joined.Unwrap() {
		var c *ConfigError
		if !errors.As(e, &c) || c.File == "" || c.Problem == "" {
			t.Fatalf("mistake %#v: want a *ConfigError with file and problem", e)
		}
		messages = append(messages, c.Error())
	}
	return messages
}

func TestMistakes(t *testing.T) {
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig("", []byte(tt.in))
			got := mistakesOf(t, err)
			for _, w := range c.Warnings {
				got = append(got, "warning: "+w.Error())
			}
			for i := range got {
				got[i] = strings.Replace(got[i], "job.toml:", "", 1)
			}
			if want := tt.want; !slices.Equal(got, want) {
				t.Errorf("%s\ngot  %q\nwant %q", tt.in, got, want)
			}
		})
	}
}

// Names that the kernel takes in no directory are mistakes where they stand, in each key that names a file.
func TestTooLong(t *testing.T) {
	part, deep := strings.Repeat("n", 256), strings.Repeat("d/", 1024)+"f"
	for key, col := range map[string]int{
		`stdout_file = "%s"`: 15, `stderr_file = "%s"`: 15, `fraction_done_file = "%s"`: 22, `fraction_done_file = "/%s"`: 22, `image_archive = "%s"`: 17,
		`images = [{archive = "%s"}]`: 22, `checkpoint.file = "%s"`: 19, `checkpoint.file = "/%s"`: 19, `workdir = "/%s"`: 11, `slot_dir_mount = "/%s"`: 18,
		`project_dir_mount = "/%s"`: 21, `copy_to_container = [{src = "%s", dst = "/a"}]`: 29, `copy_to_container = [{src = "a", dst = "/%s"}]`: 40,
		`copy_from_container = [{src = "/%s", dst = "a"}]`: 31, `checkpoint.copy = [{src = "/a", dst = "%s"}]`: 39, `mount = ["/a:/%s"]`: 10, `mount = ["/%s:/a"]`: 10,
		`create_args = ["-v", "/%s:/a"]`: 22, `create_args = "--mount type=bind,src=/a,dst=/%s"`: 24, `create_args = "--tmpfs /%s"`: 24, `create_args = "-w /%s"`: 19,
		`create_args = "--device /dev/%s"`: 25,
	} {
		for _, c := range []struct{ name, want string }{
			{part, "has a name of more than 255 bytes in it"}, {"a/" + part + "/b", "has a name of more than 255 bytes in it"}, {deep, "is a path of more than 2048 bytes"},
		} {
			_, err := ParseConfig("", []byte(fmt.Sprintf(key, c.name)))
			got := mistakesOf(t, err)
			if at := fmt.Sprintf("job.toml:1:%d: ", col); len(got) != 1 || !strings.HasPrefix(got[0], at) || !strings.HasSuffix(got[0], c.want) || len(got[0]) > 400 {
				t.Errorf("%s, a name of %d bytes: got %q, want one mistake at %s%s", key, len(c.name), got, at, c.want)
			}
		}
		if _, err := ParseConfig("", []byte(fmt.Sprintf(key, part[1:]))); err != nil {
			t.Errorf("%s, a name of 255 bytes: got %v, want no error", key, err)
		}
	}
	for _, text := range []string{
		`copy_to_container = [{src = "` + part[2:] + `", dst = "/` + strings.Repeat("d/", 1000) + `"}]`, // together
		`mount = ["` + part + `:/a"]`, // a volume
	} {
		if _, err := ParseConfig("", []byte(text)); len(mistakesOf(t, err)) != 1 {
			t.Errorf("%.60s: got %v, want a mistake", text, err)
		}
	}
}

// What is the wrapper's own is so on every file system.
func TestReserved(t *testing.T) {
	for _, name := range []string{".docker_wrapper", ".docker_wrapper/episode.json", ".DOCKER_WRAPPER/episode.json", ".Docker_Wrapper", ".docker_wrapper.", ".docker_wrapper. .",
		".docker_wrapper::$DATA", ".docker_wrapper:x/y", ".docker_wrapper::$INDEX_ALLOCATION/episode.json", ".doc\u212aer_wrapper/x", ".docker\u200d_wrapper", "Init_Data.xml ", "STDERR.txt.", "boinc_lockfile:"} {
		if !Reserved(name) {
			t.Errorf("%q: got free, want reserved", name)
		}
		if _, err := ParseConfig("", []byte("stdout_file = "+tomlString(name))); err == nil {
			t.Errorf("stdout_file %q: got no error, want one", name)
		}
	}
	for _, name := range []string{"docker_wrapper", "..docker_wrapper", ".docker_wrapper2", ".docker_wrapper.d", "a/.docker_wrapper", "a/init_data.xml", "x:.docker_wrapper"} {
		if Reserved(name) {
			t.Errorf("%q: got reserved, want free", name)
		}
	}
}

func TestKeysAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if k.Type == "" || k.Meaning == "" || seen[k.Name] {
			t.Errorf("key %+v: want it once, with type and meaning", k)
		}
		seen[k.Name] = true
	}
	for other, name := range otherNames {
		if !seen[name] && !seen[name+".*"] {
			t.Errorf("%s is called %s, which is no key", name, other)
		}
		if seen[other] {
			t.Errorf("%s is a key itself", other)
		}
	}
}

func TestMissingFile(t *testing.T) {
	got, err := ParseConfig("", nil)
	want := &Config{File: "job.toml", Verbose: 1, at: map[string]position{}}
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(Config{}, position{})) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// TestUpstreamFiles reads files as BOINC's own wrapper takes them.
func TestUpstreamFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseConfig(f, data)
			if err != nil || c.Warnings != nil {
				t.Errorf("got %v, %v; want no mistakes", err, c.Warnings)
			}
		})
	}
}

func TestValidFiles(t *testing.T) {
	bare := func(change func(*Config)) *Config {
		c := &Config{File: "job.toml", Verbose: 1}
		change(c)
		return c
	}
	value := "v"
	for _, tt := range []struct {
		name, in string
		want     *Config
	}{
		{"upstream", "workdir = \"/boinc_slot_dir/\"\nweb_graphics_guest_port = 80\nverbose = 2\nuse_gpu = true\nproject_dir_mount = \"/p\"\nimage_name = \"\u0061pp\"\n",
			bare(func(c *Config) {
				c.Workdir, c.WebGraphicsGuestPort, c.Verbose, c.UseGPU = "/boinc_slot_dir", 80, 2, true
				c.ProjectDirMount, c.ImageName = "/p", "app"
			})},
		{"a real project's create_args", `create_args = "-v /cvmfs:/cvmfs:shared --cap-add=SYS_ADMIN --device /dev/fuse"`,
			bare(func(c *Config) {
				c.Create = CreateArgs{Volumes: []Bind{{"/cvmfs", "/cvmfs", "shared"}}, CapAdd: []string{"SYS_ADMIN"}, Devices: []string{"/dev/fuse"}}
			})},
		{"byte order mark and CRLF", "\ufeffverbose = 0\r\nuse_gpu = true\r\n",
			bare(func(c *Config) { c.Verbose, c.UseGPU = 0, true })},
		{"copy lists", "copy_to_container = [{src = \"in\", dst = \"/in/\"}, {src = \"d/e\", dst = \"/e\"}]\n[[copy_from_container]]\nsrc = \"/out/\"\ndst = \"out\"\n",
			bare(func(c *Config) {
				c.CopyToContainer = []CopyPair{{"in", "/in/in"}, {"d/e", "/e"}}
				c.CopyFromContainer = []CopyPair{{"/out", "out"}}
			})},
		{"optional outputs", "optional_outputs = [\"log\", \"sub/core\"]\n",
			bare(func(c *Config) { c.OptionalOutputs = []string{"log", "sub/core"} })},
		{"checkpoint", "checkpoint_period = 90\ncheckpoint.file = \"state\"\ncheckpoint.signal = 10\ncheckpoint.timeout = 0.5\ncheckpoint.copy = [{src = \"/s\", dst = \"s\"}]\n",
			bare(func(c *Config) {
				c.CheckpointPeriod = 90 * time.Second
				c.Checkpoint = CheckpointConfig{File: "state", Signal: "SIGUSR1", Timeout: 500 * time.Millisecond, Copy: []CopyPair{{"/s", "s"}}}
			})},
		{"env", "[env]\nA = \"\"\n\"B.c\" = \"$NTHREADS\"\n",
			bare(func(c *Config) { c.Env = map[string]string{"A": "", "B.c": "$NTHREADS"} })},
		{"images", `images = ["a:1", {image = "b/c@sha256:` + strings.Repeat("0", 64) + `"}, {archive = "x.tar"}]`,
			bare(func(c *Config) {
				c.Images = []ImageChoice{{Image: "a:1"}, {Image: "b/c@sha256:" + strings.Repeat("0", 64)}, {Archive: "x.tar"}}
			})},
		{"sizes and limits", "memory = \"1.5g\"\nshm_size = \"64 MB\"\npids = 9\ntime_limit = 3600\nstop_signal = \"int\"\nstop_timeout = 1.5\n",
			bare(func(c *Config) {
				c.Memory, c.ShmSize, c.Pids, c.TimeLimit = 3<<29, 64<<20, 9, time.Hour
				c.StopSignal, c.StopTimeout = "SIGINT", 1500*time.Millisecond
			})},
		{"mounts and ports", `mount = ["/a:/b:ro", 'C:\x:/y', "data:/d:nocopy", "/anon"]` + "\n" + `portmap = ["80", "8080:80/udp", "127.0.0.1::90", "[::1]:70:71"]`,
			bare(func(c *Config) {
				c.Mounts = []Bind{{"/a", "/b", "ro"}, {`C:\x`, "/y", ""}, {"data", "/d", "nocopy"}, {"", "/anon", ""}}
				c.Ports = []Port{{"", 0, 80, "tcp"}, {"", 8080, 80, "udp"}, {"127.0.0.1", 0, 90, "tcp"}, {"::1", 70, 71, "tcp"}}
			})},
		{"words", "links = \"links\"\nnetwork = \"none\"\nuser = \"1000:1000\"\non_quit = \"stop\"\nfraction_done_file = \"/out/f\"\nentrypoint = []\ncommand = [\"a\", \"\"]\nappend_cmdline_args = true\n",
			bare(func(c *Config) {
				c.Links, c.Network, c.User, c.OnQuit, c.FractionDoneFile = "links", "none", "1000:1000", "stop", "/out/f"
				c.Entrypoint, c.Command, c.AppendCmdlineArgs = []string{}, []string{"a", ""}, true
			})},
		{"build arguments as a table", `build_args = {A = "v"}`,
			bare(func(c *Config) { c.Build.Args = map[string]*string{"A": &value} })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseConfig("", []byte(tt.in))
			if err != nil || got.Warnings != nil {
				t.Fatalf("got %v, %v; want no mistakes", err, got.Warnings)
			}
			got.at = nil
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(Config{})); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestHostileFiles: whatever is in the file, it is refused in no time.
func TestHostileFiles(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"brackets", "a = " + strings.Repeat("[", 1<<19), "job.toml:1:37: is nested too deeply"},
		{"tables", "a = " + strings.Repeat("{a=", 1<<18), "job.toml:1:101: is nested too deeply"},
		{"dots", strings.Repeat("a.", 1<<18) + "a = 1", "job.toml:1:66: is nested too deeply"},
		{"header", "[" + strings.Repeat("a.", 1<<18) + "a]", "job.toml:1:67: is nested too deeply"},
		{"large", strings.Repeat("\n", 1<<20+1), "job.toml: is larger than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseConfig("", []byte(tt.in))
			if got := mistakesOf(t, err); len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %.200q, want %q", got, tt.want)
			}
		})
	}
	t.Run("mistakes", func(t *testing.T) {
		c, err := ParseConfig("", []byte("mount = ["+strings.Repeat("1,", 1000)+"]\n"+numbered("u%d = 1\n", 1000)))
		got := mistakesOf(t, err)
		if len(got) != maxMistakes+1 || got[maxMistakes] != "job.toml: 980 more mistakes" {
			t.Errorf("got %q, want %d and one that says how many more", got, maxMistakes)
		}
		if w := c.Warnings; len(w) != maxMistakes+1 || w[maxMistakes].Error() != "job.toml: 980 more warnings" {
			t.Errorf("got %q, want %d and one that says how many more", w, maxMistakes)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	for _, tt := range mistakes {
		f.Add([]byte(tt.in))
	}
	files, err := filepath.Glob("testdata/config/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range tomls {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("", data)
		mistakesOf(t, err)
		if c == nil {
			t.Fatal("no Config")
		}
		again, err2 := ParseConfig("", data)
		if fmt.Sprint(err) != fmt.Sprint(err2) || fmt.Sprint(c.Warnings) != fmt.Sprint(again.Warnings) {
			t.Errorf("got %v, then %v", err, err2)
		}
		checkTOML(t, string(data))
	})
}

// tomls are forms of TOML that job.toml rarely has.
var tomls = []string{
	"a = [nan, +nan, -nan, inf, +inf, -inf, 1e3, 6.626e-34, 1_0.0_1, -0.0]\n",
	"a = [0, +0, -0, 1_000, 0xdead_BEEF, 0o755, 0b11, -9223372036854775808, 9223372036854775807]\n",
	"a = [9223372036854775808]\n", "a = 1e999\n", "a = 1979-05-27T07:32:00Z\nb = 07:32:00\nc = [1979-05-27]\n",
	"a.b.c = 1\na.d = 2\n[e.f]\n[e]\n[e.f.g]\nh = 3\n", "[[a]]\nb = 1\n[a.c]\n[[a]]\n[[a.d]]\ne = 2\n[[a.d]]\n",
	"a = []\n[[a]]\n", "[[a]]\n[a]\n", "[a]\n[[a]]\n", "a = {b = 1, c.d = 2, e = {}}\n[a.f]\n", "a = {}\n[a]\n", "a = 1\n[a.b]\n", "a = {b = 1, b = 2}\n",
	"a = {\n  b = [ [1, [2]], [\"x\"], ], # c\n}\n", "\"\" = 1\n'a.b' = 2\n\"\\u00e9\\x41\\e\" = 3\n",
	"a = \"\"\"\n\\\n  b\\\"\\u00e9\"\"\"\"\"\nc = '''\r\nd''''\n",
}

// checkTOML compares what is read with what another library reads. They may differ in what they refuse: that library
// doesn't notice every table that is written twice, ours takes tables in pieces, and checks no dates.
func checkTOML(t *testing.T, text string) {
	r := newReader("", []byte(text))
	got := r.decode()
	want := map[string]any{}
	if _, problem, _ := badText(r.text); problem != "" || strings.HasPrefix(r.text, "\ufeff") || got == nil && strings.Contains(r.err().Error(), " than ") {
		return // what only we refuse
	}
	switch err := toml.Unmarshal([]byte(r.text), &want); {
	case got != nil && err == nil:
		checkTable(t, r.text, got, want)
	case got != nil && !strings.Contains(err.Error(), "datetime") && !strings.Contains(err.Error(), "already"):
		t.Fatalf("%q: got no mistake, want %v", text, err)
	case got == nil && err == nil && !strings.Contains(r.err().Error(), "written twice"):
		t.Fatalf("%q: got %v, want no mistake", text, r.err())
	}
}

func checkTable(t *testing.T, text string, got *table, want map[string]any) {
	if len(got.fields) != len(want) {
		t.Fatalf("%q: got %v, want %v", text, got.fields, want)
	}
	for k, w := range want {
		if got.fields[k] == nil {
			t.Fatalf("%q: %s is missing", text, k)
		}
		checkNode(t, text, *got.fields[k], w)
	}
}

// checkNode also looks whether there is a value of its kind where n says.
func checkNode(t *testing.T, text string, n node, want any) {
	begins := ""
	switch w := want.(type) {
	case map[string]any:
		checkTable(t, text, n.v.(*table), w)
		return
	case []map[string]any:
		for i, e := range n.v.(*array).elements {
			checkTable(t, text, e.v.(*table), w[i])
		}
		return
	case []any:
		begins = "["
		for i, e := range n.v.(*array).elements {
			checkNode(t, text, e, w[i])
		}
	case string:
		begins = `"'`
	case bool:
		begins = "tf"
	case int64, float64:
		begins = "+-0123456789in"
	case time.Time:
		begins, want = "0123456789", date{}
	}
	bothNaN := n.v != n.v && want != want
	if _, isArray := want.([]any); !isArray && n.v != want && !bothNaN {
		t.Fatalf("%q: got %#v, want %#v", text, n.v, want)
	}
	if !strings.Contains(begins, text[n.at:n.at+1]) {
		t.Fatalf("%q: %v is not at byte %d", text, want, n.at)
	}
}

var mistakes = []struct {
	name, in string
	want     []string // without the file's name
}{
	{"unknown key", "use_gpus = true\n", []string{
		"warning: 1:12: use_gpus: unknown key (did you mean use_gpu?)",
	}},
	{"unknown key in capitals", "USE_GPU = true\n", []string{
		"warning: 1:11: USE_GPU: unknown key (did you mean use_gpu?)",
	}},
	{"unknown key without a guess", "xyzzy = 1\n", []string{
		"warning: 1:9: xyzzy: unknown key",
	}},
	{"another tool's name", "fraction_done_filename = \"f\"\nportmaps = []\ngpu = true\nimage_tag = \"x\"\ncheckpoint_filename = \"c\"\n", []string{
		"warning: 1:26: fraction_done_filename: unknown key (did you mean fraction_done_file?)",
		"warning: 2:12: portmaps: unknown key (did you mean portmap?)",
		"warning: 3:7: gpu: unknown key (did you mean use_gpu?)",
		"warning: 4:13: image_tag: unknown key (did you mean image_name?)",
		"warning: 5:23: checkpoint_filename: unknown key (did you mean checkpoint.file?)",
	}},
	{"beginning of a name", "checkpoint_per = 5\n", []string{
		"warning: 1:18: checkpoint_per: unknown key (did you mean checkpoint_period?)",
	}},
	{"unknown table", "verbose = 1\n[docker]\nx = 1\n", []string{
		"warning: 2:2: docker: unknown key",
	}},
	{"unknown key of a table", "[checkpoint]\nfil = \"x\"\nfilename = \"y\"\n", []string{
		"warning: 2:7: checkpoint.fil: unknown key (did you mean checkpoint.file?)",
		"warning: 3:12: checkpoint.filename: unknown key (did you mean checkpoint.file?)",
	}},
	{"key below a table", "[checkpoint]\nmethod = \"app\"\nuse_gpu = true\n", []string{
		"warning: 3:11: checkpoint.use_gpu: unknown key (use_gpu is a key of its own; write it above the first [table])",
	}},
	{"key below env", "[env]\nA = \"1\"\nuse_gpu = true\n", []string{
		"3:11: env.use_gpu: want a string, got a bool (use_gpu is a key of its own; write it above the first [table])",
	}},
	{"two mistakes in the order of the file", "verbose = 3\nmemory = true\n", []string{
		"1:11: verbose: 3: want 0 to 2",
		`2:10: memory: want a size such as "512m", got a bool`,
	}},
	{"dotted keys", "verbose = 1\ncheckpoint.file = \"../x\"\ncheckpoint.method = \"App\"\n", []string{
		`2:19: checkpoint.file: "../x": is outside the slot`,
		`3:21: checkpoint.method: "App": want "auto", "app", "engine" or "none" (did you mean app?)`,
	}},
	{"key at the beginning of a later line", "verbose = 1\nuse_gpu=1\n", []string{
		"2:9: use_gpu: want a bool, got an integer (write true)",
	}},
	{"CRLF", "verbose = 1\r\n\r\nuse_gpu = \"yes\"\r\n", []string{
		"3:11: use_gpu: want a bool, got a string (write true)",
	}},
	{"tabs and umlauts", "\tuse_gpu\t=\t1\n# äöü\nenv = {\"ä\" = \"x\"}\n", []string{
		"1:12: use_gpu: want a bool, got an integer (write true)",
		`3:14: env."ä": want a name of letters, digits and "_"`,
	}},
	{"byte order mark", "\ufeffuse_gpu = 1\n", []string{
		"1:11: use_gpu: want a bool, got an integer (write true)",
	}},
	{"multi-line array", "mount = [\n  \"/a:/b\",   # fine\n\n  \"x\", \"/a:b\",\n]\n", []string{
		`4:3: mount: "x": target "x": want an absolute path in the container`,
		`4:8: mount: "/a:b": target "b": want an absolute path in the container`,
	}},
	{"inline table", "copy_to_container = [{src = \"in\", dst = \"in\"}]\n", []string{
		`1:41: copy_to_container.dst: "in": want an absolute path in the container`,
	}},
	{"array of tables", "[[copy_to_container]]\nsrc = \"a\"\ndst = \"/a\"\n[[copy_to_container]]\nsrc = \"../b\"\ndst = \"/b\"\n", []string{
		`5:7: copy_to_container.src: "../b": is outside the slot`,
	}},
	{"wrong types", "use_gpu = \"no\"\nverbose = 1.0\nworkdir = 1\nmount = \"/a:/b\"\nmemory = true\n", []string{
		"1:11: use_gpu: want a bool, got a string (write false)",
		"2:11: verbose: want an integer, got a float",
		`3:11: workdir: want a string, got an integer (write "1")`,
		`4:9: mount: want an array of strings, got a string (write ["/a:/b"])`,
		`5:10: memory: want a size such as "512m", got a bool`,
	}},
	{"more wrong types", "env = 1\ncheckpoint = \"auto\"\ntime_limit = \"1h\"\ncommand = [\"a\", 1]\nimages = [1]\n", []string{
		"1:7: env: want a table, got an integer (write [env])",
		"2:14: checkpoint: want a table, got a string (write [checkpoint])",
		"3:14: time_limit: want a number of seconds, got a string (write 3600)",
		`4:17: command: want a string, got an integer (write "1")`,
		"5:11: images: want a string, {image} or {archive}, got an integer",
	}},
	{"table where a value is wanted", "verbose = 1\n[use_gpu]\nx = 1\n", []string{
		"2:2: use_gpu: want a bool, got a table",
	}},
	{"date where a value is wanted", "time_limit = 1979-05-27\nuser = 07:32:00\n", []string{
		"1:14: time_limit: want a number of seconds, got a date or time",
		"2:8: user: want a string, got a date or time",
	}},
	{"number for a string", "user = 1000\npids = \"5\"\nweb_graphics_guest_port = \"80\"\n", []string{
		`1:8: user: want a string, got an integer (write "1000")`,
		"2:8: pids: want an integer, got a string (write 5)",
		"3:27: web_graphics_guest_port: want an integer, got a string (write 80)",
	}},
	{"written twice", "verbose = 1\n\nverbose = 2\n", []string{
		"3:1: verbose: written twice (first on line 1)",
	}},
	{"written twice in a table", "[checkpoint]\nfile = \"a\"\n\"file\" = \"b\"\n", []string{
		"3:1: checkpoint.file: written twice (first on line 2)",
	}},
	{"table written twice", "[env]\n[checkpoint]\n[env]\n", []string{
		"3:2: env: written twice (first on line 1)",
	}},
	{"value and table", "env = 1\n[env]\n", []string{
		"2:2: env: written twice (first on line 1)",
	}},
	{"table and value", "checkpoint.file = \"a\"\ncheckpoint = 1\n", []string{
		"2:1: checkpoint: written twice (first on line 1)",
	}},
	{"array in an array", "command = [\n  [1],\n]\n", []string{
		"1:11: command: want a string, got an array",
	}},
	{"capital True", "use_gpu = True\n", []string{
		`1:11: want a value, got "True" (write true)`,
	}},
	{"no", "use_gpu = no\n", []string{
		`1:11: want a value, got "no" (write false)`,
	}},
	{"no quotes", "image_name = app\n", []string{
		`1:14: want a value, got "app" (put strings in quotes)`,
	}},
	{"typographic quotes", "image_name = “app”\n", []string{
		`1:14: want a value, got "“" (write the plain quotes " or ')`,
	}},
	{"typographic quotes in a list", "command = [\"a\", ‘b’]\n", []string{
		`1:17: want a value, got "‘" (write the plain quotes " or ')`,
	}},
	{"typographic quotes around a key", "“verbose” = 1\n", []string{
		`1:1: invalid character at start of key: U+201C '“' (write the plain quotes " or ')`,
	}},
	{"no value at the end", "verbose =", []string{
		"1:9: expected value, not end of input",
	}},
	{"no value", "verbose =\n", []string{
		"1:10: want a value, got the end of the line",
	}},
	{"no comma", "mount = [\"/a\" \"/b\"]\n", []string{
		"1:15: expected ',' or ']' after array value",
	}},
	{"open string", "verbose = 1\nworkdir = \"/app\n", []string{
		"2:16: basic strings cannot have new lines",
	}},
	{"open array", "mount = [\"/a:/b\"\nverbose = 1\n", []string{
		"2:1: expected ',' or ']' after array value",
	}},
	{"open table", "[checkpoint\nfile = \"x\"\n", []string{
		"1:12: expected ']' to close table name",
	}},
	{"leading zero", "verbose = 01\n", []string{
		"1:11: integers cannot have leading zeroes",
	}},
	{"escape in a Windows path", "mount = [\"C:\\data:/d\"]\n", []string{
		"1:13: invalid escape character U+0064 'd'",
	}},
	{"integer too large", "verbose = 99999999999999999999\n", []string{
		"1:11: verbose: 99999999999999999999: is too large",
	}},
	{"control byte", "verbose = 1\n# a\x01b\n", []string{
		"2:4: control byte 0x01",
	}},
	{"carriage return alone", "verbose = 1\rverbose = 2\n", []string{
		"1:12: control byte 0x0d",
	}},
	{"NUL byte in the file", "verbose = 1 \x00\n", []string{
		"1:13: control byte 0x00",
	}},
	{"NUL byte in a string", "workdir = \"/a\\u0000b\"\n[env]\nA = \"\\u0000\"\n", []string{
		"1:11: workdir: \"/a\\x00b\": contains a NUL byte",
		"3:5: env.A: \"\\x00\": contains a NUL byte",
	}},
	{"not UTF-8", "# a\xff\n", []string{
		"1:4: byte 0xff is not UTF-8 (save it as UTF-8)",
	}},
	{"UTF-16", "\xff\xfev\x00", []string{
		"1:1: is UTF-16 (save it as UTF-8)",
	}},
	{"container paths", "slot_dir_mount = \"slot\"\nproject_dir_mount = \"/\"\nworkdir = \"/a/../../b\"\n", []string{
		`1:18: slot_dir_mount: "slot": want an absolute path in the container`,
		`2:21: project_dir_mount: "/": would hide the whole image`,
		`3:11: workdir: "/a/../../b": is outside the container's root`,
	}},
	{"unclean container path", "workdir = \"/a/../b\"\nslot_dir_mount = \"/a//b\"\n", []string{
		`1:11: workdir: "/a/../b": want a path without "..", "." and "//" (write "/b")`,
		`2:18: slot_dir_mount: "/a//b": want a path without "..", "." and "//" (write "/a/b")`,
	}},
	{"dst outside of the container", "copy_to_container = [{src = \"a\", dst = \"/../x\"}]\n", []string{
		`1:40: copy_to_container.dst: "/../x": is outside the container's root`,
	}},
	{"slot names", "stdout_file = \"/x\"\nstderr_file = \"a/../../b\"\nimage_archive = 'a\\b'\nfraction_done_file = \".\"\n[checkpoint]\nfile = \"C:x\"\n", []string{
		`1:15: stdout_file: "/x": want a name in the slot, got an absolute path`,
		`2:15: stderr_file: "a/../../b": is outside the slot`,
		`3:17: image_archive: "a\\b": contains a backslash (write "a/b")`,
		`4:22: fraction_done_file: ".": want a name in the slot, got the slot itself`,
		`6:8: checkpoint.file: "C:x": want a name in the slot, got an absolute path`,
	}},
	{"reserved names", "stderr_file = \"stderr.txt\"\nstdout_file = \"boinc_finish_called\"\ncopy_to_container = [{src = \"init_data.xml\", dst = \"/x\"}]\n", []string{
		`1:15: stderr_file: "stderr.txt": belongs to BOINC or to the wrapper`,
		`2:15: stdout_file: "boinc_finish_called": belongs to BOINC or to the wrapper`,
		`3:29: copy_to_container.src: "init_data.xml": belongs to BOINC or to the wrapper`,
	}},
	{"unclean slot name", "stdout_file = \"./a\"\nstderr_file = \"a\\nb\"\n", []string{
		`1:15: stdout_file: "./a": want a path without "..", "." and "//" (write "a")`,
		`2:15: stderr_file: "a\nb": contains a control character`,
	}},
	{"empty", "workdir = \"\"\nimage_name = \"\"\n", []string{
		"1:11: workdir: is empty (leave the key out)",
		"2:14: image_name: is empty (leave the key out)",
	}},
	{"incomplete copies", "copy_to_container = [{src = \"a\"}, {dst = \"/b\"}, \"c\", {source = \"a\", dst = \"/x\"}]\n", []string{
		"1:22: copy_to_container: dst is missing",
		"1:35: copy_to_container: src is missing",
		`1:49: copy_to_container: want a table {src, dst}, got a string (write {src = "c", dst = "/app/c"})`,
		"1:64: copy_to_container.source: unknown key (did you mean src?)",
	}},
	{"dest", "copy_from_container = [{src = \"/a\", dest = \"../a\"}]\n", []string{
		"1:44: copy_from_container.dest: unknown key (did you mean dst?)",
		`1:44: copy_from_container.dest: "../a": is outside the slot`,
	}},
	{"dest beside dst", "copy_from_container = [{src = \"/a\", dst = \"a\", dest = \"b\"}]\n", []string{
		"warning: 1:55: copy_from_container.dest: unknown key (did you mean dst?)",
	}},
	{"names for copies", "copy_to_container = [\"in\", \"/etc/x\"]\ncopy_from_container = \"out\"\ncheckpoint.copy = [\"/w/state\"]\n", []string{
		`1:22: copy_to_container: want a table {src, dst}, got a string (write {src = "in", dst = "/app/in"})`,
		`1:28: copy_to_container: want a table {src, dst}, got a string (write {src = "x", dst = "/etc/x"})`,
		`2:23: copy_from_container: want an array of {src, dst}, got a string (write [{src = "/app/out", dst = "out"}])`,
		`3:20: checkpoint.copy: want a table {src, dst}, got a string (write {src = "/w/state", dst = "state"})`,
	}},
	{"what a shell would read", "command = \"echo ${ARGS}\"\nentrypoint = \"echo ${ARGS}\"\n", []string{
		`1:11: command: want an array of strings, got a string (write ["sh", "-c", "echo ${ARGS}"])`,
		`2:14: entrypoint: want an array of strings, got a string (write ["echo ${ARGS}"])`,
	}},
	{"a pipe", "command = \"prog <in | sort >out\"\n", []string{
		`1:11: command: want an array of strings, got a string (write ["sh", "-c", "prog <in | sort >out"])`,
	}},
	{"wildcards", "copy_from_container = [{src = \"/w/*.dat\", dst = \"res\"},\n  {src = \"/w/out?\", dst = \"a[1]\"}]\ncopy_to_container = [{src = \"in[0-9]\", dst = \"/x\"}, {src = \"a[b\", dst = \"/y\"}]\n" +
		"checkpoint.copy = [{src = \"/w/cp*\", dst = \"cp\"}]\n", []string{
		`warning: 1:31: copy_from_container.src: "/w/*.dat": wildcards aren't known here: it names one file (copy the directory)`,
		`warning: 2:10: copy_from_container.src: "/w/out?": wildcards aren't known here: it names one file (copy the directory)`,
		`warning: 2:27: copy_from_container.dst: "a[1]": wildcards aren't known here: it names one file (copy the directory)`,
		`warning: 3:29: copy_to_container.src: "in[0-9]": wildcards aren't known here: it names one file (copy the directory)`,
		`warning: 4:27: checkpoint.copy.src: "/w/cp*": wildcards aren't known here: it names one file (copy the directory)`,
	}},
	{"an argument that Linux doesn't take", "command = [\"" + strings.Repeat("x", 131071) + "\", \"" + strings.Repeat("x", 131072) + "\"]\n", []string{
		`1:131087: command: "` + strings.Repeat("x", 80) + `…": is longer than 131071 bytes, which Linux allows an argument`,
	}},
	{"command lines", "command = \"sh -c foo\"\nentrypoint = \"sh -c 'a b'\"\n", []string{
		`1:11: command: want an array of strings, got a string (write ["sh", "-c", "foo"])`,
		`2:14: entrypoint: want an array of strings, got a string (write ["sh -c 'a b'"])`,
	}},
	{"network as a bool", "network = true\n", []string{
		`1:11: network: want "bridge" or "none", got a bool (write "bridge")`,
	}},
	{"no network as a bool", "network = false\n", []string{
		`1:11: network: want "bridge" or "none", got a bool (write "none")`,
	}},
	{"bytes for shared memory", "shm_size = 64\n", []string{
		`1:12: shm_size: 64: want at least 1MiB (a number alone is bytes; write "64m")`,
	}},
	{"same dst", "copy_to_container = [{src = \"a\", dst = \"/d/\"}, {src = \"b\", dst = \"/d/a\"}]\n", []string{
		`1:66: copy_to_container.dst: "/d/a": is the dst of two copies`,
	}},
	{"optional outputs that are none", "optional_outputs = [\"../log\", \"stderr.txt\"]\n", []string{
		`1:21: optional_outputs: "../log": is outside the slot`,
		`1:31: optional_outputs: "stderr.txt": belongs to BOINC or to the wrapper`,
	}},
	{"whole container", "copy_from_container = [{src = \"/\", dst = \"x\"}]\n", []string{
		`1:31: copy_from_container.src: "/": would copy the whole container`,
	}},
	{"sizes", "memory = 512\nshm_size = \"lots\"\n", []string{
		`1:10: memory: 512: want at least 6MiB (a number alone is bytes; write "512m")`,
		`2:12: shm_size: "lots": want a size such as "512m" or "2g"`,
	}},
	{"more sizes", "memory = \"0\"\nshm_size = \"9999999t\"\n", []string{
		`1:10: memory: "0": want more than 0`,
		`2:12: shm_size: "9999999t": want at most 64TiB`,
	}},
	{"negative size", "memory = -1\nshm_size = 0\n", []string{
		"1:10: memory: -1: want more than 0 and at most 64TiB",
		"2:12: shm_size: 0: want more than 0 and at most 64TiB",
	}},
	{"seconds", "time_limit = 0\nstop_timeout = -1.5\ncheckpoint_period = nan\n", []string{
		"1:14: time_limit: 0: want seconds, more than 0 and at most 1000000000",
		"2:16: stop_timeout: -1.5: want seconds, more than 0 and at most 1000000000",
		"3:21: checkpoint_period: NaN: want seconds, more than 0 and at most 1000000000",
	}},
	{"far seconds", "time_limit = 1e300\nstop_timeout = 1e-12\n", []string{
		"1:14: time_limit: 1e+300: want seconds, more than 0 and at most 1000000000",
		"2:16: stop_timeout: 1e-12: want seconds, more than 0 and at most 1000000000",
	}},
	{"signals", "stop_signal = \"SIGFOO\"\n[checkpoint]\nsignal = \"kill\"\n", []string{
		`1:15: stop_signal: "SIGFOO": want a signal such as "SIGUSR1"`,
		`3:10: checkpoint.signal: "kill": can't be caught`,
	}},
	{"signal misspelt", "stop_signal = \"USER1\"\n", []string{
		`1:15: stop_signal: "USER1": want a signal such as "SIGUSR1" (did you mean SIGUSR1?)`,
	}},
	{"signal number", "stop_signal = 99\n", []string{
		`1:15: stop_signal: "99": want a signal, 1 to 31`,
	}},
	{"words", "links = \"file\"\nnetwork = \"host\"\nuser = \"root\"\non_quit = \"suspend\"\n", []string{
		`1:9: links: "file": want "files" or "links" (did you mean files?)`,
		`2:11: network: "host": want "bridge" or "none"`,
		`3:8: user: "root": want "auto", "image" or numbers UID[:GID]`,
		`4:11: on_quit: "suspend": want "auto", "pause" or "stop"`,
	}},
	{"numbers", "verbose = 7\npids = 0\nweb_graphics_guest_port = 65536\n", []string{
		"1:11: verbose: 7: want 0 to 2",
		"2:8: pids: 0: want 1 to 4194304",
		"3:27: web_graphics_guest_port: 65536: want 0 to 65535",
	}},
	{"user numbers", "user = \"1:x\"\n", []string{
		`1:8: user: "1:x": want "auto", "image" or numbers UID[:GID]`,
	}},
	{"images", "image = \"https://quay.io/a\"\nimage_name = \"App\"\nimages = [\"a b\", {}, {image = \"a\", archive = \"b\"}]\n", []string{
		`1:9: image: "https://quay.io/a": an image name has no scheme (write "quay.io/a")`,
		`2:14: image_name: "App": image names are lower case (write "app")`,
		`3:11: images: "a b": want [REGISTRY/]NAME[:TAG][@DIGEST]`,
		"3:18: images: want either image or archive",
		"3:22: images: want either image or archive",
	}},
	{"digest", "image = \"a@sha256:12\"\n", []string{
		`1:9: image: "a@sha256:12": its digest isn't sha256: and 64 hexadecimal digits`,
	}},
	{"image ID", "image = \"abababababababababababababababababababababababababababababababab\"\n", []string{
		`1:9: image: "abababababababababababababababababababababababababababababababab": is an image's ID, which other computers don't know; want a name`,
	}},
	{"environment names", "[env]\n\"A=B\" = \"1\"\n\"\" = \"x\"\n1A = \"x\"\nB = 4\n", []string{
		`2:9: env."A=B": want a name of letters, digits and "_"`,
		`3:6: env."": want a name of letters, digits and "_"`,
		`4:6: env.1A: want a name of letters, digits and "_"`,
		`5:5: env.B: want a string, got an integer (write "4")`,
	}},
	{"ports", "portmap = [\"x\", \"80:\", \"1:2:3:4\", \"80/sctp\", \"0\", \":80\"]\n", []string{
		`1:12: portmap: "x": "x" is not a port from 1 to 65535 (want [IP:][HOST:]GUEST[/PROTO])`,
		`1:17: portmap: "80:": "" is not a port from 1 to 65535 (want [IP:][HOST:]GUEST[/PROTO])`,
		`1:24: portmap: "1:2:3:4": want [IP:][HOST:]GUEST[/PROTO] (put an IPv6 address in brackets)`,
		`1:35: portmap: "80/sctp": protocol "sctp": want tcp or udp`,
		`1:46: portmap: "0": "0" is not a port from 1 to 65535 (want [IP:][HOST:]GUEST[/PROTO])`,
		`1:51: portmap: ":80": want [IP:][HOST:]GUEST[/PROTO]`,
	}},
	{"more ports", "portmap = [\"8000-8010:80\", \"127.0.0.1:80\", \"[::1]:80\", \"::1:80:80\", \"[1.2.3.4]:1:2\", \"1.2.3:1:2\"]\n", []string{
		`1:12: portmap: "8000-8010:80": a range of ports is not supported (write each port by itself)`,
		`1:28: portmap: "127.0.0.1:80": has an address, but no port of the host (write "127.0.0.1::80")`,
		`1:44: portmap: "[::1]:80": has an address, but no port of the host (write "[::1]::80")`,
		`1:56: portmap: "::1:80:80": want [IP:][HOST:]GUEST[/PROTO] (put an IPv6 address in brackets)`,
		`1:69: portmap: "[1.2.3.4]:1:2": "1.2.3.4" is not an IPv6 address`,
		`1:86: portmap: "1.2.3:1:2": "1.2.3" is not an IP address`,
	}},
	{"mounts", "mount = [\"/a:/b:rx\", \"/a:/b:ro,rw\", \"./a:/b\", \"/a:ro\", \"$PWD:/a\", \":/a\", \"/a:/\"]\n", []string{
		`1:10: mount: "/a:/b:rx": "rx" is not a mount option`,
		`1:22: mount: "/a:/b:ro,rw": options ro and rw exclude each other`,
		`1:37: mount: "./a:/b": its source is neither an absolute path nor a volume's name`,
		`1:47: mount: "/a:ro": has no target (write "/a:/a:ro")`,
		`1:56: mount: "$PWD:/a": its source is neither an absolute path nor a volume's name (variables are not expanded)`,
		`1:67: mount: ":/a": its source is empty`,
		`1:74: mount: "/a:/": target "/": would hide the whole image`,
	}},
	{"more mounts", "mount = [\"/a:/b:ro,ro\", \"/a:/b:nocopy\", \"/a:/b:\", \"/a:/b:ro:z\", \"/../a:/b\", 'C:\\x:y']\n", []string{
		`1:10: mount: "/a:/b:ro,ro": option ro is given twice`,
		`1:25: mount: "/a:/b:nocopy": option nocopy is for volumes`,
		`1:41: mount: "/a:/b:": want [SOURCE:]TARGET[:OPTIONS]`,
		`1:51: mount: "/a:/b:ro:z": want [SOURCE:]TARGET[:OPTIONS]`,
		`1:65: mount: "/../a:/b": its source contains ".."`,
		"1:77: mount: \"C:\\\\x:y\": its source is neither an absolute path nor a volume's name",
	}},
	{"refused options", "create_args = \"--rm -it --name x\"\n", []string{
		"1:16: create_args: --rm: the wrapper removes the container",
		"1:21: create_args: -i: a job has no terminal",
		"1:25: create_args: --name: the wrapper names the container",
	}},
	{"more refused options", "create_args = [\"--restart=always\", \"--env-file=x\", \"-d\", \"--userns=host\"]\n", []string{
		"1:16: create_args: --restart: the wrapper restarts the container when the client asks for it",
		"1:36: create_args: --env-file: would be read from the host; use [env]",
		"1:52: create_args: -d: the wrapper starts the container and waits for it",
		"1:58: create_args: --userns: is the engine's choice; use the key user",
	}},
	{"unknown option", "create_args = \"--volum /a:/b\"\n", []string{
		"1:16: create_args: --volum: is not supported (did you mean --volume?)",
	}},
	{"option with one dash", "create_args = \"-volume\"\n", []string{
		`1:16: create_args: --volume "olume": target "olume": want an absolute path in the container (did you mean --volume?)`,
	}},
	{"column in a literal string", "create_args = '-v /a:/b -x'\n", []string{
		"1:25: create_args: -x: is not supported",
	}},
	{"column behind escapes", "create_args = \"-l \\\"a=ü\\u00fc\\\" --bad\"\n", []string{
		"1:33: create_args: --bad: is not supported",
	}},
	{"column in a string of lines", "create_args = '''\n-v /a:/b\n  --bad'''\n", []string{
		"3:3: create_args: --bad: is not supported",
	}},
	{"no column", "create_args = \"\"\"\\\n   -v /a:/b \\\n   --bad\"\"\"\n", []string{
		"1:15: create_args: --bad: is not supported",
	}},
	{"option values", "create_args = \"-v a --cpus x -m 1 --env A --ulimit x=1\"\n", []string{
		`1:19: create_args: --volume "a": target "a": want an absolute path in the container`,
		`1:28: create_args: --cpus "x": want a number of CPUs, 0.01 or more`,
		`1:33: create_args: --memory "1": want at least 6MiB (a number alone is bytes; write "1m")`,
		`1:41: create_args: --env "A": the host's environment isn't passed on (write A=VALUE)`,
		`1:52: create_args: --ulimit "x=1": want NAME=SOFT[:HARD], such as nofile=1024:4096`,
	}},
	{"more option values", "create_args = \"--mount type=bind,src=a,dst=/b --mount foo=1 --device x --gpus ?\"\n", []string{
		`1:24: create_args: --mount "type=bind,src=a,dst=/b": the source of a bind is an absolute path of the host`,
		`1:55: create_args: --mount "foo=1": foo is not supported`,
		`1:70: create_args: --device "x": "x" is not an absolute path without ".." (want HOST[:CONTAINER][:rwm])`,
		`1:79: create_args: --gpus "?": want "all", a number or "device=…"`,
	}},
	{"still more option values", "create_args = \"--cap-add 1 --dns x --add-host a --network a:b --platform x --pids-limit 0 --sysctl a --init=x\"\n", []string{
		`1:26: create_args: --cap-add "1": want a capability such as "SYS_ADMIN"`,
		`1:34: create_args: --dns "x": want an IP address`,
		`1:47: create_args: --add-host "a": want NAME:ADDRESS`,
		`1:59: create_args: --network "a:b": want "bridge", "none", "host" or a network's name`,
		`1:74: create_args: --platform "x": want OS/ARCHITECTURE[/VARIANT], such as "linux/arm64"`,
		`1:89: create_args: --pids-limit "0": want 1 to 4194304, or -1 for no limit`,
		`1:100: create_args: --sysctl "a": want NAME=VALUE`,
		`1:102: create_args: --init "x": want true or false`,
	}},
	{"mounts as fields", "create_args = \"--mount type=tmpfs,dst=/ --mount src=/a,dst=/b --mount type=x --mount type=bind,src=/a,dst=/b,ro=x --mount type=bind,src=/a:b,dst=/b --mount tmpfs-size=1,dst=/b\"\n", []string{
		`1:24: create_args: --mount "type=tmpfs,dst=/": target "/": would hide the whole image`,
		`1:49: create_args: --mount "src=/a,dst=/b": the source of a volume is its name (type=bind mounts a path of the host)`,
		`1:71: create_args: --mount "type=x": type "x": want bind, volume or tmpfs`,
		`1:86: create_args: --mount "type=bind,src=/a,dst=/b,ro=x": ro: want true or false`,
		`1:123: create_args: --mount "type=bind,src=/a:b,dst=/b": a path with a colon is not supported`,
		`1:157: create_args: --mount "tmpfs-size=1,dst=/b": tmpfs-size and tmpfs-mode are for type=tmpfs`,
	}},
	{"value is missing", "create_args = \"--init --cpus\"\n", []string{
		"1:23: create_args: --cpus: its value is missing",
	}},
	{"operand", "create_args = \"-v /a:/b ubuntu\"\n", []string{
		`1:25: create_args: "ubuntu": want an option of docker create`,
	}},
	{"open quote", "create_args = \"-v '/a:/b\"\n", []string{
		"1:19: create_args: quote ' is not closed",
	}},
	{"trailing backslash", "create_args = 'a\\'\n", []string{
		"1:17: create_args: ends with a backslash",
	}},
	{"several words in an element", "create_args = [\"--cap-add SYS_ADMIN\"]\n", []string{
		"1:16: create_args: --cap-add SYS_ADMIN: is not supported (write each word as an element of its own)",
	}},
	{"element that is no string", "create_args = [\"--rm\", 1]\n", []string{
		`1:24: create_args: want a string, got an integer (write "1")`,
	}},
	{"option behind a value that is unknown", "create_args = \"--foo bar baz -t\"\n", []string{
		"1:16: create_args: --foo: is not supported",
		"1:30: create_args: -t: a job has no terminal",
	}},
	{"shell", "create_args = \"$OPTIONS\"\n", []string{
		`1:16: create_args: "$OPTIONS": want an option of docker create (variables are not expanded)`,
	}},
	{"build options", "build_args = \"--tag x --secret=id=a --network=bridge --targt=a\"\n", []string{
		"1:15: build_args: --tag: the wrapper names the image",
		"1:23: build_args: --secret: would need a file of the host",
		`1:37: build_args: --network "bridge": want "default", "none" or "host"`,
		"1:54: build_args: --targt: is not supported (did you mean --target?)",
	}},
	{"build argument names", "build_args = \"--build-arg =1 --build-arg 'A B=1'\"\n", []string{
		`1:27: build_args: --build-arg "=1": want a name of letters, digits and "_"`,
		`1:42: build_args: --build-arg "A B=1": want a name of letters, digits and "_"`,
	}},
	{"build table", "build_args = {A = 1, \"B C\" = \"x\"}\n", []string{
		`1:19: build_args.A: want a string, got an integer (write "1")`,
		`1:30: build_args."B C": want a name of letters, digits and "_"`,
	}},
	{"ignored build options", "build_args = \"--progress=plain -q\"\n", []string{
		"warning: 1:15: build_args: --progress: has no effect here",
		"warning: 1:32: build_args: -q: has no effect here",
	}},
}
