package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/google/go-cmp/cmp"

	"boincdocker/docker_wrapper/internal/job"
)

func slotOf(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}

// on is a build on Docker 28.
func on(platform string) site {
	return site{platform: platform, own: "linux/amd64", builders: []builder{classic, newBuildKit}}
}

func value(s string) *string { return &s }

func TestBuildContext(t *testing.T) {
	all := map[string]string{"a": "1", "b": "2", "data1": "x", "data2": "x", "sub/x.txt": "x", "sub/deep/y.o": "y", "with space": "s", "secret": "!"}
	tests := []struct {
		name       string
		dockerfile string
		args       map[string]*string
		ignore     string
		more       map[string]string
		want       string // names, in order
	}{
		{name: "nothing copied", dockerfile: "RUN x", want: ""},
		{name: "COPY and ADD", dockerfile: "COPY a /\nADD b /x/", want: "a b"},
		{name: "several sources", dockerfile: "COPY b a /x/", want: "a b"},
		{name: "the same twice", dockerfile: "COPY a /x\nCOPY a /y", want: "a"},
		{name: "lower case", dockerfile: "copy a /", want: "a"},
		{name: "wildcards", dockerfile: "COPY data* /x/\nCOPY su?/*.txt /x/", want: "data1 data2 sub/x.txt"},
		{name: "a class", dockerfile: "COPY data[2-9] /x/", want: "data2"},
		{name: "JSON form", dockerfile: `COPY ["with space", "a", "/x/"]`, want: "a,with space"},
		{name: "a directory", dockerfile: "COPY sub /x", want: "sub sub/deep sub/deep/y.o sub/x.txt"},
		{name: "a directory with a slash", dockerfile: "COPY ./sub/ /x", want: "sub sub/deep sub/deep/y.o sub/x.txt"},
		{name: "absolute and climbing sources", dockerfile: "COPY /a /x\nCOPY ../../b /x", want: "a b"},
		{name: "everything", dockerfile: "COPY . .", want: "Dockerfile,a,b,data1,data2,secret,sub,sub/deep,sub/deep/y.o,sub/x.txt,with space"},
		{name: "another stage", dockerfile: "COPY --from=build /out/a /a\nCOPY --from=0 b /b", want: ""},
		{name: "flags", dockerfile: "COPY --chown=1:1 --chmod=755 a /", want: "a"},
		{name: "URLs", dockerfile: "ADD https://example.org/x git@github.com:o/r.git /x/", want: ""},
		{name: "heredocs", dockerfile: "COPY <<EOF /etc/conf\nCOPY b /\nEOF\nRUN <<EOF\nCOPY b /\nEOF\nCOPY a /", want: "a"},
		{name: "continued lines", dockerfile: "COPY a \\\n# a comment\n   b \\\n /x/", want: "a b"},
		{name: "comments", dockerfile: "# COPY b /\nCOPY a /", want: "a"},
		{name: "ARG", dockerfile: "ARG F=a\nCOPY $F /\nARG G=b\nCOPY ${G} /", want: "a b"},
		{name: "ARG, given", dockerfile: "ARG F=a\nCOPY $F /", args: map[string]*string{"F": value("b")}, want: "b"},
		{name: "ARG with a default in the word", dockerfile: "COPY ${F:-b} /", want: "b"},
		{name: "ENV, both forms", dockerfile: "ENV F=a G=b\nENV H sub\nCOPY $F $G $H/x.txt /x/", want: "a b sub/x.txt"},
		{name: "a variable of another stage", dockerfile: "ENV F=a\nFROM x\nARG F=b\nCOPY $F /", want: "b"},
		{name: "ignored", dockerfile: "COPY . /", ignore: "secret\nsub\n*1\nDockerfile", want: ".dockerignore,a,b,data2,with space"},
		{name: "ignored with exceptions", dockerfile: "COPY sub /x", ignore: "sub/**\n!sub/deep", want: "sub sub/deep sub/deep/y.o"},
		{name: "ignored at any depth", dockerfile: "COPY sub /x", ignore: "**/*.o", want: "sub sub/deep sub/x.txt"},
		{name: "the Dockerfile's own rules win", dockerfile: "COPY data* /x/", ignore: "data1", more: map[string]string{"Dockerfile.dockerignore": "data2"}, want: "data1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(all)
			maps.Copy(files, tt.more)
			files["Dockerfile"] = "FROM scratch\n" + tt.dockerfile + "\n"
			if tt.ignore != "" {
				files[".dockerignore"] = tt.ignore
			}
			b, err := newBuildContext(slotOf(files), job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{Args: tt.args}}, on("linux/amd64"))
			if err != nil {
				t.Fatal(err)
			}
			sep := " "
			if strings.Contains(tt.want, ",") {
				sep = ","
			}
			if got := strings.Join(b.files, sep); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			want := map[string]string{"Dockerfile": files["Dockerfile"]}
			for _, name := range b.files {
				want[name] = files[name]
			}
			if diff := cmp.Diff(want, unpacked(t, b)); diff != "" {
				t.Errorf("what is sent: %s", diff)
			}
		})
	}
}

// unpacked is what the builder is sent, directories as empty strings. All that an image could notice of a file's
// history is checked to be the same for every file.
func unpacked(t *testing.T, b *buildContext) map[string]string {
	t.Helper()
	var buf bytes.Buffer
	if err := b.pack(&buf); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return got
		} else if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(contextTime) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s: history shows: %v %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimSuffix(h.Name, "/")] = string(data)
	}
}

func TestBuildContextMistakes(t *testing.T) {
	tests := []struct{ name, dockerfile, ignore, want string }{
		{name: "a missing file", dockerfile: "FROM scratch\n\nCOPY a \\\n  nowhere /\n", want: "image i: Dockerfile:3: COPY a   nowhere /: nowhere: no such file in the slot"},
		{name: "wildcards that name nothing", dockerfile: "FROM scratch\nADD *.zip /\n", want: "image i: Dockerfile:2: ADD *.zip /: *.zip: no such file in the slot"},
		{name: "an ignored file", dockerfile: "FROM scratch\nCOPY a /\n", ignore: "a", want: "image i: Dockerfile:2: COPY a /: a: it is in the slot, but .dockerignore excludes it"},
		{name: "a bad pattern", dockerfile: "FROM scratch\nCOPY a[ /\n", want: "image i: Dockerfile:2: COPY a[ /: a[: syntax error in pattern"},
		{name: "bad rules", dockerfile: "FROM scratch\nCOPY a /\n", ignore: "[", want: "image i: .dockerignore: syntax error in pattern"},
		{name: "empty", dockerfile: "# only this\n", want: "image i: Dockerfile: file with no instructions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"Dockerfile": tt.dockerfile, "a": "1"}
			if tt.ignore != "" {
				files[".dockerignore"] = tt.ignore
			}
			_, err := newBuildContext(slotOf(files), job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on("linux/amd64"))
			var ie *ImageError
			if !errors.As(err, &ie) || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	_, err := newBuildContext(fstest.MapFS{}, job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on(""))
	if want := "image i: read Dockerfile: file does not exist"; err == nil || err.Error() != want {
		t.Errorf("no Dockerfile: got %v, want %s", err, want)
	}
}

func TestNoFetch(t *testing.T) {
	const offline = ": not for a job whose build has no network"
	for _, tt := range []struct {
		name, dockerfile string
		args             map[string]*string
		want             string // "" for none
	}{
		{name: "files", dockerfile: "FROM x\nADD a b /x/\nADD [\"a\", \"/y\"]\nCOPY $A /z\nRUN wget http://localhost/\n"},
		{name: "heredoc", dockerfile: "FROM x\nADD <<E /x\nhttp://localhost/\nE\n"},
		{name: "another stage", dockerfile: "FROM x AS s\nFROM y\nCOPY --from=s /x /y\n"},
		{name: "a target that looks like a URL", dockerfile: "FROM x\nADD a http://x\n"},
		{name: "URL", dockerfile: "FROM x\n\nADD http://localhost:2375/info /x\n",
			want: "image i: Dockerfile:3: ADD http://localhost:2375/info /x: http://localhost:2375/info is fetched by the engine, which reaches more than the job" + offline},
		{name: "URL among files", dockerfile: "FROM x\nadd --chown=1 a HTTPS://h/ /x/\n", want: "HTTPS://h/ is fetched"},
		{name: "URL in JSON", dockerfile: "FROM x\nADD [\"http://h/\", \"/y\"]\n", want: "is fetched"},
		{name: "URL in pieces", dockerfile: "FROM x\nADD ht\"tp:/\"/h /y\n", want: "is fetched"},
		{name: "URL over two lines", dockerfile: "FROM x\nADD htt\\\np://h /y\n", want: "is fetched"},
		{name: "repositories", dockerfile: "FROM x\nADD git@h:o/r /y\n", want: "is fetched"},
		{name: "of another user", dockerfile: "FROM x\nADD me@10.0.0.1:o/r.git#main /y\n", want: "is fetched"},
		{name: "by ssh", dockerfile: "FROM x\nADD ssh://h/r.git /y\n", want: "is fetched"},
		{name: "with --from", dockerfile: "FROM x\nADD --from=s http://h /y\n", want: "is fetched"},
		{name: "variable", dockerfile: "FROM x\nENV A=a\nADD $A /y\n", want: "ADD with a variable"},
		{name: "trigger", dockerfile: "FROM x AS s\nONBUILD ADD a /y\nFROM s\n", want: "image i: Dockerfile:2: ONBUILD ADD a /y: ADD by a later build" + offline},
		{name: "Docker's syntax", dockerfile: "# syntax=docker/dockerfile:1\nFROM x\n"},
		{name: "another syntax", dockerfile: "# syntax=evil.example/dockerfile:1\nFROM x\n",
			want: "image i: Dockerfile:1: syntax=evil.example/dockerfile:1: a Dockerfile of another kind" + offline},
		{name: "nearly Docker's", dockerfile: "# syntax=docker/dockerfile.evil\nFROM x\n", want: "another kind"},
		{name: "syntax by argument", dockerfile: "FROM x\n", args: map[string]*string{"BUILDKIT_SYNTAX": value("evil")}, want: "image i: build_args: BUILDKIT_SYNTAX" + offline},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := slotOf(map[string]string{"Dockerfile": tt.dockerfile, "a": "1", "b": "2"})
			s := job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{Args: tt.args}, NoFetch: true}
			_, err := newBuildContext(files, s, on("linux/amd64"))
			var ie *ImageError
			if (err == nil) != (tt.want == "") || err != nil && (!errors.As(err, &ie) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestLimitBuild(t *testing.T) {
	l := job.Limits{CPUs: 2.5, CPUShares: 128, Memory: 1 << 30, Pids: 512}
	core := []*container.Ulimit{{Name: "core"}, {Name: "nofile", Soft: maxOpenFiles, Hard: maxOpenFiles}}
	for _, tt := range []struct {
		name  string
		kind  string
		cpus  int
		facts infoFacts
		want  build.ImageBuildOptions
	}{
		{"all", Docker, 8, infoFacts{"5.8.6", true, true, true, true, false, false}, build.ImageBuildOptions{CPUShares: 128, CPUPeriod: 100000, CPUQuota: 250000, Memory: 1 << 30, MemorySwap: 1 << 30, Ulimits: core}},
		{"a small computer", Docker, 1, infoFacts{cpuQuota: true}, build.ImageBuildOptions{CPUShares: 128, CPUPeriod: 100000, CPUQuota: 100000, Ulimits: core}},
		{"none to be had", Docker, 8, infoFacts{}, build.ImageBuildOptions{Ulimits: core}},
		{"Podman", Podman, 8, infoFacts{memoryLimit: true}, build.ImageBuildOptions{Memory: 1 << 30, MemorySwap: 1 << 30}},
	} {
		var got build.ImageBuildOptions
		limitBuild(&got, l, Info{CPUs: tt.cpus, quirks: quirksOf(tt.kind, tt.facts)})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", tt.name, diff)
		}
	}
}

// An image is what it was built from, not when and by whom that was put there.
func TestIdentity(t *testing.T) {
	type input struct {
		files    fstest.MapFS
		source   job.Source
		platform string
	}
	fresh := func() *input {
		return &input{slotOf(map[string]string{"Dockerfile": "FROM scratch\nCOPY a sub /x/\n", "a": "1", "sub/b": "2", "other": "3"}),
			job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{Args: map[string]*string{"A": value("1")}}}, "linux/amd64"}
	}
	identity := func(in *input) string {
		b, err := newBuildContext(in.files, in.source, on(in.platform))
		if err != nil {
			t.Fatal(err)
		}
		return b.identity
	}
	file := func(text string, mode fs.FileMode) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(text), Mode: mode}
	}
	want := identity(fresh())
	tests := []struct {
		name   string
		change func(*input)
		other  bool
	}{
		{"nothing", func(*input) {}, false},
		{"time", func(in *input) { in.files["a"].ModTime = time.Unix(1, 0) }, false},
		{"owner", func(in *input) { in.files["a"].Sys = "somebody" }, false},
		{"who may read", func(in *input) { in.files["a"].Mode = 0o600 }, false},
		{"proxy", func(in *input) {
			in.source.Proxy = &job.Proxy{Scheme: "http", Host: "p", Port: 80, Login: job.NewSecret("u:p"), Variables: []string{"http_proxy"}}
		}, false},
		{"image name", func(in *input) { in.source.Name = "j" }, false},
		{"a file that isn't copied", func(in *input) { in.files["other"] = file("4", 0o644) }, false},
		{"a new file that isn't copied", func(in *input) { in.files["new"] = file("4", 0o644) }, false},
		{"bytes", func(in *input) { in.files["a"] = file("2", 0o644) }, true},
		{"bytes below a directory", func(in *input) { in.files["sub/b"] = file("3", 0o644) }, true},
		{"a new file below a directory", func(in *input) { in.files["sub/c"] = file("", 0o644) }, true},
		{"who may execute", func(in *input) { in.files["a"].Mode = 0o755 }, true},
		{"Dockerfile", func(in *input) { in.files["Dockerfile"] = file("FROM scratch\nCOPY a sub /x/\n#\n", 0o644) }, true},
		{"build arguments", func(in *input) { in.source.Build.Args["A"] = value("2") }, true},
		{"an argument without a value", func(in *input) { in.source.Build.Args["A"] = nil }, true},
		{"target", func(in *input) { in.source.Build.Target = "x" }, true},
		{"platform", func(in *input) { in.platform = "linux/arm64" }, true},
		{"bytes that move to the next file", func(in *input) {
			in.files["a"], in.files["sub/b"] = file("12", 0o644), file("", 0o644)
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := fresh()
			tt.change(in)
			if got := identity(in); (got != want) != tt.other {
				t.Errorf("got another identity: %t, want %t", got != want, tt.other)
			}
		})
	}
}

func FuzzBuildContext(f *testing.F) {
	for _, s := range []string{"COPY a /", "COPY . .", "ARG X=a\nCOPY $X /", "COPY <<E /\nE\n", "# escape=`\nFROM x\nCOPY a `\n b /", "ENV A", "COPY [\"a\"]", "ADD a:// /", "COPY"} {
		f.Add("FROM scratch\n"+s, "x\n!y")
	}
	f.Fuzz(func(t *testing.T, dockerfile, ignore string) {
		fsys := slotOf(map[string]string{"Dockerfile": dockerfile, ".dockerignore": ignore, "a": "1", "b/c": "2"})
		b, err := newBuildContext(fsys, job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on("linux/amd64"))
		if err != nil {
			var ie *ImageError
			if !errors.As(err, &ie) {
				t.Fatalf("%v is nobody's fault", err)
			}
			return
		}
		if !slices.IsSorted(b.files) || len(b.identity) != 64 {
			t.Errorf("files %q, identity %q", b.files, b.identity)
		}
		if err := b.pack(io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// Engines take a name such as bb2 for the beginning of an image's ID.
func TestFullNamesInDockerfile(t *testing.T) {
	const full = "docker.io/library/bb2:latest"
	for _, tt := range []struct{ text, want string }{
		{"FROM debian\nCOPY --from=alpine /a /a\n", ""},
		{"FROM bb2", "FROM " + full},
		{"from --platform=linux/amd64 bb2 as x\nCOPY a b\n", "from --platform=linux/amd64 " + full + " as x\nCOPY a b\n"},
		{"# bb2\nFROM \\\n  bb2\nRUN echo bb2\n", "# bb2\nFROM \\\n  " + full + "\nRUN echo bb2\n"},
		{"FROM debian AS bb2\nFROM bb2\nCOPY --from=bb2 /a /b\n", ""},
		{"FROM debian\nCOPY --chown=1 --from=bb2 bb2 /b\n", "FROM debian\nCOPY --chown=1 --from=" + full + " bb2 /b\n"},
		{"FROM debian\nCOPY --from=0 /a /b\n", ""},
		{"FROM debian\nRUN --mount=type=bind,from=bb2,target=/b cat /b from=bb2\n", "FROM debian\nRUN --mount=type=bind,from=" + full + ",target=/b cat /b from=bb2\n"},
		{"FROM debian\nRUN --mount=from=bb2,target=/b ls\n", "FROM debian\nRUN --mount=from=" + full + ",target=/b ls\n"},
		{"ARG BASE=bb2\nFROM $BASE\n", "ARG BASE=bb2\nFROM " + full + "\n"},
		{"ARG BASE=bb2\nFROM ${BASE}\r\nRUN x\r\n", "ARG BASE=bb2\nFROM " + full + "\r\nRUN x\r\n"},
		{"ARG BASE\nFROM $BASE\n", ""},
		{"FROM bb2:1\nFROM x/bb2\n", ""},
		{"FROM sha256:bb2\n", "FROM docker.io/library/sha256:bb2\n"},
	} {
		result, err := parseDockerfile([]byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		want := tt.want
		if want == "" {
			want = tt.text
		}
		if got := string(withFullNames(result, []byte(tt.text), job.Source{Build: &job.BuildArgs{}})); got != want {
			t.Errorf("%q: got %q, want %q", tt.text, got, want)
		}
	}
	given := "bb2"
	text := []byte("ARG BASE=debian\nFROM $BASE\n")
	result, err := parseDockerfile(text)
	if err != nil {
		t.Fatal(err)
	}
	s := job.Source{Build: &job.BuildArgs{Args: map[string]*string{"BASE": &given}}}
	if got, want := string(withFullNames(result, text, s)), "ARG BASE=debian\nFROM "+full+"\n"; got != want {
		t.Errorf("with an argument: got %q, want %q", got, want)
	}
}

func TestReaches(t *testing.T) {
	tests := []struct {
		name, text     string
		bases          []string
		steps, fetches bool
	}{
		{"nothing", "FROM scratch\nCOPY a /a\nADD b /b\n", nil, false, false},
		{"a base image", "FROM debian:bookworm-slim\nCOPY a /a\n", []string{"debian:bookworm-slim"}, false, false},
		{"a step", "FROM scratch\nRUN [\"/a\"]\n", nil, true, false},
		{"stages", "FROM x AS s\nFROM S\nCOPY --from=s /x /x\nCOPY --from=0 /x /x\nCOPY --from=y:1 /y /y\n", []string{"x", "y:1"}, false, false},
		{"a mount", "FROM x\nRUN --mount=from=y,target=/b x\n", []string{"x", "y"}, true, false},
		{"a URL", "FROM scratch\nADD https://example.org/a /a\n", nil, false, true},
		{"a URL in a variable", "FROM scratch\nARG X=https://example.org/a\nADD $X /a\n", nil, false, true},
		{"a variable that may be a URL", "FROM x\nADD $X /a\n", []string{"x"}, false, true},
		{"a base image by variable", "ARG X=y\nFROM $X\n", []string{"y"}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := newBuildContext(slotOf(map[string]string{"Dockerfile": tt.text, "a": "", "b": ""}), job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on("linux/amd64"))
			if err != nil {
				t.Fatal(err)
			}
			var bases []string
			for _, base := range b.bases {
				bases = append(bases, base.name)
			}
			if !slices.Equal(bases, tt.bases) || b.steps != tt.steps || b.fetches != tt.fetches {
				t.Errorf("got %q, %v, %v, want %q, %v, %v", bases, b.steps, b.fetches, tt.bases, tt.steps, tt.fetches)
			}
		})
	}
}

// brokenFS is a disk that fails at one file.
type brokenFS struct {
	fs.FS
	name string
}

func (b brokenFS) Open(name string) (fs.File, error) {
	if name == b.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	return b.FS.Open(name)
}

// What this computer can't read is no mistake of the project's.
func TestBuildContextUnreadable(t *testing.T) {
	files := slotOf(map[string]string{"Dockerfile": "FROM scratch\nCOPY in /in\n", ".dockerignore": "x\n", "in": "1"})
	for _, name := range []string{"Dockerfile", ".dockerignore", "in"} {
		_, err := newBuildContext(brokenFS{files, name}, job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on(""))
		var ie *ImageError
		if !errors.Is(err, syscall.EIO) || errors.As(err, &ie) {
			t.Errorf("%s: got %v, want the disk's error, not the project's", name, err)
		}
	}
}
