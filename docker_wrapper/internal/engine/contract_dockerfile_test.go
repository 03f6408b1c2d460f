//go:build integration

package engine_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/versions"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

// readings are Dockerfiles. What the wrapper builds from the files that it thinks are needed must be what the engine's own
// builder builds when it gets everything. On Docker that is the builder of Docker's own client: the classic one before version
// 23, or where buildKit is set BuildKit; and BuildKit since. ENV and ONBUILD stand for base images.
var readings = []struct {
	name, text string
	ignore     string
	args       map[string]string
	target     string
	buildKit   bool
	podman     bool   // also on Podman, whose builder takes several seconds for each; all were tried there once
	want       string // files in /x, where the engine's builder is no measure: it lacks what the wrapper adds
	fails      string // part of the wrapper's error, where the builder fails too
	differs    string // the same, where the builder doesn't
}{
	// wildcards
	{name: "a wildcard that matches nothing beside a file", podman: true, text: "FROM scratch\nCOPY a none* /x/\n"},
	{name: "two wildcards of which one matches", text: "FROM scratch\nCOPY none* data* /x/\n"},
	{name: "ADD with a wildcard that matches nothing", text: "FROM scratch\nADD a [z]one /x/\n"},
	{name: "a wildcard in a directory where it matches nothing", text: "FROM scratch\nCOPY a sub/none* /x/\n"},
	{name: "a file that isn't there beside a wildcard", text: "FROM scratch\nCOPY none data* /x/\n", fails: "none: no such file in the slot"},
	{name: "wildcards in directories", text: "FROM scratch\nCOPY s*/*.txt /x/\n"},
	{name: "a wildcard by variable", text: "FROM scratch\nARG W=data\nCOPY ${W}* nothing-${W}-* /x/\n"},
	// ENV and ARG by stage
	{name: "ENV of the stage below", podman: true, text: "FROM scratch AS s\nENV SRC=a\nFROM s\nCOPY ${SRC} /x/\n"},
	{name: "ENV of the second stage below", text: "FROM scratch AS s\nENV SRC=a\nFROM s AS t\nENV D=$SRC\nFROM t\nCOPY $D /x/\n"},
	{name: "ARG of the stage below", text: "FROM scratch AS s\nARG SRC=a\nFROM s\nCOPY ${SRC} /x/\n"},
	{name: "ARG of the stage below, declared again", text: "FROM scratch AS s\nARG SRC=a\nFROM s\nARG SRC\nCOPY ${SRC:-b} /x/\n"},
	{name: "ENV of another stage", text: "FROM scratch AS s\nENV SRC=a\nFROM scratch\nCOPY ${SRC:-b} /x/\n"},
	{name: "ENV before ARG", text: "FROM scratch\nENV SRC=a\nARG SRC=b\nCOPY $SRC /x/\n"},
	{name: "ENV before ARG that is given", text: "FROM scratch\nENV SRC=a\nARG SRC=b\nCOPY $SRC /x/\n", args: map[string]string{"SRC": "data1"}},
	{name: "ENV of the stage below before ARG", text: "FROM scratch AS s\nENV SRC=a\nFROM s\nARG SRC=b\nCOPY $SRC /x/\n"},
	{name: "an empty ENV before ARG", podman: true, text: "FROM scratch\nENV Q=\nARG Q=a\nCOPY ${Q:-b} /x/\n"},
	{name: "ARG twice, then without a value", text: "FROM scratch\nARG Q=a\nARG Q\nCOPY ${Q:-b} /x/\n"},
	{name: "ARG that sees one before it", text: "FROM scratch\nARG Q=a B=${Q:-b}\nCOPY $B /x/\n"},
	{name: "ENV that sees none in its step", text: "FROM scratch\nENV Q=a B=${Q:-b}\nCOPY $B /x/\n"},
	{name: "ARG before FROM", text: "ARG A=a\nARG SRC=$A\nFROM scratch\nARG SRC\nCOPY $SRC /x/\n"},
	{name: "ARG before FROM that isn't declared", text: "ARG SRC=a\nFROM scratch\nCOPY ${SRC:-b} /x/\n"},
	{name: "an argument that is declared too late", text: "FROM scratch\nCOPY ${SRC:-b} /x/\nARG SRC\n", args: map[string]string{"SRC": "a"}},
	{name: "a stage by variable", text: "ARG S=s\nFROM scratch AS s\nENV SRC=a\nFROM $S\nCOPY $SRC /x/\n"},
	{name: "an empty variable is everything", text: "FROM scratch\nARG SRC\nCOPY ${SRC} /x/\n"},
	{name: "an empty variable before a slash", text: "FROM scratch\nCOPY ${SRC}/a /x/\n"},
	{name: "a variable with a blank", text: "FROM scratch\nENV S=\"a b\"\nCOPY $S /x/\n", fails: "a b: no such file in the slot"},
	{name: "a stage that isn't needed lacks a file", text: "FROM scratch AS u\nCOPY a /y/\nFROM scratch\nCOPY b /x/\n"},
	{name: "a target", text: "FROM scratch AS one\nCOPY a /x/\nFROM scratch\nCOPY none /x/\n", target: "one"},
	// base images
	{name: "ENV of the base image", podman: true, text: "FROM ENV\nCOPY $SRC /x/\n"},
	{name: "ENV of the base image in ENV", text: "FROM ENV\nENV D=sub$NONE/$FILE\nCOPY $D /x/\n"},
	{name: "ENV of the base image of a stage below", text: "FROM ENV AS s\nFROM s\nCOPY $SRC /x/\n"},
	{name: "ENV of the base image before ARG", text: "FROM ENV\nARG SRC=b\nCOPY $SRC /x/\n"},
	{name: "ENV of the base image, by variable", text: "ARG BASE=ENV\nFROM $BASE\nCOPY $SRC /x/\n"},
	{name: "a trigger", text: "FROM ONBUILD\n"},
	{name: "a trigger and a step", podman: true, text: "FROM ONBUILD\nCOPY $X /x/\n"},
	{name: "a trigger, its argument given", text: "FROM ONBUILD\n", args: map[string]string{"X": "data2"}},
	{name: "a trigger in a stage that another starts from", text: "FROM ONBUILD AS s\nFROM s\nCOPY a /x/\n"},
	{name: "a trigger of a stage", text: "FROM scratch AS s\nONBUILD COPY a /x/\nFROM s\n"},
	{name: "a trigger of a stage, not of the one above", text: "FROM scratch AS s\nONBUILD COPY a /x/\nFROM s AS t\nFROM t\nCOPY b /x/\n"},
	{name: "a trigger that nothing carries out", text: "FROM scratch\nONBUILD COPY none /x/\nCOPY a /x/\n"},
	// platform arguments
	{name: "TARGETARCH", podman: true, text: "FROM scratch\nARG TARGETARCH\nCOPY w-$TARGETARCH /x/\n", want: "w-ARCH"},
	{name: "TARGETARCH that isn't declared", text: "FROM scratch\nCOPY ${TARGETARCH:-a} /x/\n"},
	{name: "TARGETARCH before FROM", text: "ARG TARGETARCH\nFROM scratch\nARG TARGETARCH\nCOPY w-$TARGETARCH /x/\n", want: "w-ARCH"},
	{name: "TARGETARCH with a default", text: "FROM scratch\nARG TARGETARCH=" + runtime.GOARCH + "\nCOPY w-$TARGETARCH /x/\n"},
	{name: "TARGETARCH of the stage below", text: "FROM scratch AS s\nARG TARGETARCH\nENV A=$TARGETARCH\nFROM s\nCOPY w-$A /x/\n", want: "w-ARCH"},
	{name: "all platform arguments", text: "FROM scratch\nARG TARGETOS\nARG TARGETPLATFORM\nARG TARGETVARIANT\nARG BUILDARCH\nCOPY p/$TARGETOS/$BUILDARCH$TARGETVARIANT p/$TARGETPLATFORM /x/\n", want: "f"},
	{name: "FROM by TARGETARCH", podman: true, text: "ARG TARGETARCH\nFROM scratch AS b-" + runtime.GOARCH + "\nCOPY a /x/\nFROM b-$TARGETARCH\nCOPY b /x/\n", want: "a b"},
	{name: "a file for another platform", text: "FROM scratch\nARG TARGETARCH\nCOPY for-$TARGETARCH /x/\n", fails: "(TARGETARCH is \"" + runtime.GOARCH + "\" here)"},
	// mounts
	{name: "a mounted directory", text: "FROM ENV\nRUN --mount=type=bind,source=sub,target=/m [\"/payload\", \"wantin=/m/x.txt:x\"]\nCOPY a /x/\n", buildKit: true},
	{name: "a mounted file", text: "FROM ENV\nRUN --mount=src=a,dst=/m [\"/payload\", \"wantin=/m:1\"]\nCOPY a /x/\n", buildKit: true},
	{name: "everything mounted", podman: true, text: "FROM ENV\nRUN --mount=type=bind,target=/m [\"/payload\", \"wantin=/m/sub/z/deep:d\"]\nCOPY a /x/\n", buildKit: true},
	{name: "a mount in quotes", text: "FROM ENV\nRUN --mount=type=bind,\"source=/sub\",target=/m [\"/payload\", \"wantin=/m/x.txt:x\"]\nCOPY a /x/\n", buildKit: true},
	{name: "a mounted stage", podman: true, text: "FROM scratch AS s\nCOPY sub /s\nFROM ENV\nRUN --mount=from=s,source=s,target=/m [\"/payload\", \"wantin=/m/x.txt:x\"]\nCOPY a /x/\n", buildKit: true},
	{name: "a cache", text: "FROM ENV\nRUN --mount=type=cache,target=/m [\"/payload\", \"exit=0\"]\nCOPY a /x/\n", buildKit: true},
	{name: "a mounted file that isn't there", text: "FROM ENV\nRUN --mount=source=none,target=/m [\"/payload\", \"wantin=/m:1\"]\n", buildKit: true, fails: "none: no such file in the slot"},
	// .dockerignore
	{name: "an excluded directory", text: "FROM scratch\nCOPY sub /x/\n", ignore: "sub\n", differs: "sub: it is in the slot, but .dockerignore excludes it"},
	{name: "excluded files", text: "FROM scratch\nCOPY data* /x/\n", ignore: "data*\n", differs: "data*: it is in the slot, but .dockerignore excludes it"},
	{name: "an excluded file in a directory", text: "FROM scratch\nCOPY sub/x.txt /x/\n", ignore: "**/*.txt\n", differs: "sub/x.txt: it is in the slot, but .dockerignore excludes it"},
	// what only some builders know
	{name: "an excluding COPY", text: "FROM scratch\nCOPY --exclude=*.o --exclude=*.txt sub /x/\n", buildKit: true},
	{name: "a heredoc", podman: true, text: "FROM scratch\nCOPY <<EOF /x/h\nhello\nEOF\nCOPY a /x/\n", buildKit: true},
	{name: "a script", text: "FROM ENV\nCOPY a /x/\nRUN [\"/payload\", \"exit=0\"] <<EOF\nhello\nEOF\n", buildKit: true},
}

var dockerfileRows = []contractRow{
	{fact: "build: a Dockerfile is read as the builder reads it", check: func(t *testing.T, k *contract) {
		files := map[string]string{"a": "1", "b": "2", "data1": "x", "data2": "y", "sub/x.txt": "x", "sub/y.o": "y", "sub/z/deep": "d", "secret": "s",
			"w-" + runtime.GOARCH: "w", "p/linux/" + runtime.GOARCH + "/f": "p", "payload": string(k.payload)}
		bases := strings.NewReplacer(
			"ENV", k.base(t, files, "ENV SRC=a FILE=x.txt\nCOPY payload /payload\n"),
			"ONBUILD", k.base(t, files, "ENV SRC=a\nONBUILD COPY b /x/\nONBUILD ARG X=data1\nONBUILD COPY $X $SRC /x/\n"))
		for _, tt := range readings {
			if k.e.Info.Kind == engine.Podman && !tt.podman {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				fsys := fstest.MapFS{}
				for name, text := range files {
					fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o755}
				}
				var lines []string
				for line := range strings.Lines(tt.text) {
					if word, rest, _ := strings.Cut(line, " "); word == "FROM" || word == "ARG" && strings.HasPrefix(rest, "BASE=") {
						line = word + " " + bases.Replace(rest)
					}
					lines = append(lines, line)
				}
				text := strings.Join(lines, "") + "LABEL " + job.LabelDataDir + "=" + k.run + "\n"
				fsys["Dockerfile"] = &fstest.MapFile{Data: []byte(text), Mode: 0o755}
				if tt.ignore != "" {
					fsys[".dockerignore"] = &fstest.MapFile{Data: []byte(tt.ignore), Mode: 0o755}
				}
				args := map[string]*string{}
				for name, value := range tt.args {
					args[name] = &value
				}
				im := job.Image{LockDir: k.dir, Labels: map[string]string{job.LabelDataDir: k.run},
					Sources: []job.Source{{Name: k.name("reading"), Dockerfile: "Dockerfile", Build: &job.BuildArgs{Network: "none", Args: args, Target: tt.target}}}}
				got, err := "", error(nil)
				if id, e := k.e.Ensure(t.Context(), im, fsys); e != nil {
					err = e
				} else {
					got = k.filesIn(t, id)
				}
				want, builderErr := strings.ReplaceAll(tt.want, "ARCH", runtime.GOARCH), error(nil)
				if want == "" && tt.differs == "" {
					name := k.name("measure")
					if builderErr = k.buildWhole(t, name, fsys, args, tt.target, tt.buildKit); builderErr == nil {
						want = k.filesIn(t, name)
					}
				}
				var ie *engine.ImageError
				switch reason := tt.fails + tt.differs; {
				case reason != "" && (!errors.As(err, &ie) || !strings.Contains(err.Error(), reason)):
					t.Errorf("got %q, %v, want an error with %s", got, err, reason)
				case tt.fails != "" && builderErr == nil && want != "":
					t.Errorf("the builder makes %q of it, and the wrapper %v", want, err)
				case reason == "" && (err != nil) != (builderErr != nil):
					t.Errorf("got %q, %v; the builder itself: %q, %v", got, err, want, builderErr)
				case builderErr != nil && err != nil:
					t.Logf("the builder: %.300v\nthe wrapper: %v", builderErr, err)
				case got != want:
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		}
	}},
	{fact: "build: heredocs are built, or the error says what helps", check: func(t *testing.T, k *contract) {
		for _, step := range []string{"RUN [\"/payload\", \"exit=0\"] <<E\nX\nE\n", "COPY <<E /x\nX\nE\n", "COPY <<\"E\" <<F /x/\nFROM\nE\nF\n", "ADD <<E /x\nE\n"} {
			im, fsys := k.source("heredoc", step)
			_, err := k.e.Ensure(t.Context(), im, fsys)
			knows := k.e.Info.Kind == engine.Docker && !versions.LessThan(k.e.Info.Version, "23") || k.e.Info.Kind == engine.Podman && !versions.LessThan(k.e.Info.Version, "5")
			if knows && err != nil && !strings.HasPrefix(step, "RUN") || !knows && (err == nil || !strings.Contains(err.Error(), "heredocs (")) { // there is no shell for RUN
				t.Errorf("%q: got %v", step, err)
			}
		}
	}},
	{fact: "build: a mount that requires a secret is refused", check: func(t *testing.T, k *contract) {
		for _, mount := range []string{"type=secret,id=q,required", "type=secret,id=q,required=true", "type=ssh,required"} {
			im, fsys := k.source("secret", "RUN --mount="+mount+` ["/payload", "exit=0"]`+"\n")
			k.imageError(t, im, fsys, "this build gets no secrets")
		}
	}},
}

// base builds a base image and returns its name.
func (k *contract) base(t *testing.T, files map[string]string, steps string) string {
	t.Helper()
	name, fsys := k.name("base"), fstest.MapFS{}
	for file, text := range files {
		fsys[file] = &fstest.MapFile{Data: []byte(text), Mode: 0o755}
	}
	fsys["Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch\nLABEL " + job.LabelDataDir + "=" + k.run + "\n" + steps)}
	if err := k.buildWhole(t, name, fsys, nil, "", false); err != nil {
		t.Fatal(err)
	}
	return name
}

// buildWhole has the engine's own builder build from all files.
func (k *contract) buildWhole(t *testing.T, name string, fsys fstest.MapFS, args map[string]*string, target string, buildKit bool) error {
	t.Helper()
	var text []any
	ignored := fsys[".dockerignore"] // which is for the client
	for _, file := range slices.Sorted(maps.Keys(fsys)) {
		if ignored == nil {
			text = append(text, file, fsys[file].Data)
		}
	}
	o := build.ImageBuildOptions{Version: build.BuilderV1, Tags: []string{name}, BuildArgs: args, Target: target, NetworkMode: "none", NoCache: true, Remove: true, ForceRemove: true,
		Labels: map[string]string{job.LabelDataDir: k.run}}
	if k.e.Info.Kind == engine.Docker && (buildKit || !versions.LessThan(k.e.Info.Version, "23")) {
		o.Version = build.BuilderBuildKit
	}
	resp, err := k.api.ImageBuild(t.Context(), bytes.NewReader(tarOf(text...)), o)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var m struct{ Error string }
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		} else if m.Error != "" {
			return errors.New(m.Error)
		}
	}
}

// filesIn are the files in an image's /x, with their contents where they are short.
func (k *contract) filesIn(t *testing.T, image string) string {
	t.Helper()
	c, err := k.api.ContainerCreate(t.Context(), &container.Config{Image: image, Cmd: []string{"/x"}}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer k.api.ContainerRemove(t.Context(), c.ID, container.RemoveOptions{Force: true})
	rc, _, err := k.api.CopyFromContainer(t.Context(), c.ID, "/x")
	if err != nil {
		return fmt.Sprint("none: ", err)
	}
	defer rc.Close()
	var list []string
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err == io.EOF {
			slices.Sort(list)
			return strings.Join(list, " ")
		} else if err != nil {
			t.Fatal(err)
		}
		if fs.FileMode(h.Mode).IsRegular() && h.Typeflag == tar.TypeReg {
			list = append(list, strings.TrimPrefix(h.Name, "x/"))
		}
	}
}
