package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// What each builder copies, where they differ. The contract test compares the same with the builders themselves.
func TestReadAs(t *testing.T) {
	images := map[string]*baseConfig{
		"env":  {env: []string{"SRC=a"}},
		"trig": {env: []string{"SRC=a"}, triggers: []string{"COPY b /x/", "ARG X=data1", "COPY $X $SRC /x/", "FROM y", "ONBUILD COPY none /"}},
	}
	for _, tt := range []struct {
		name, text string
		args       map[string]*string
		want       string // for all builders, or
		each       [5]string
	}{
		{name: "ENV of the stage below", text: "FROM scratch AS S\nENV SRC=a\nFROM s\nCOPY $SRC /\n", want: "a"},
		{name: "ARG of the stage below", text: "FROM scratch AS s\nARG SRC=a\nFROM s\nCOPY $SRC /\n", each: [5]string{".", "a", "a", ".", "a"}},
		{name: "ENV before ARG", text: "FROM scratch\nENV SRC=a\nARG SRC=b\nCOPY $SRC /\n", each: [5]string{"a", "b", "b", "a", "a"}},
		{name: "ARG twice", text: "FROM scratch\nARG Q=a\nARG Q\nCOPY ${Q:-b} /\n", each: [5]string{"b", "a", "a", "a", "a"}},
		{name: "two ARGs in a step", text: "FROM scratch\nARG Q=a B=${Q:-b}\nCOPY $B /\n", each: [5]string{"b", "b", "a", "b", "b"}},
		{name: "a stage that isn't needed", text: "FROM scratch\nCOPY a /\nFROM scratch\nCOPY b /\n", each: [5]string{"a b", "b", "b", "b", "b"}},
		{name: "stages that are needed", text: "FROM scratch AS s\nCOPY a /\nFROM scratch\nCOPY b /\nFROM scratch\nCOPY --from=s / /\nCOPY --from=1 / /\n", want: "a b"},
		{name: "a stage that a mount needs", text: "FROM scratch AS s\nCOPY a /\nFROM scratch\nRUN --mount=from=s,target=/m x\n", want: "a"},
		{name: "TARGETARCH", text: "FROM scratch\nARG TARGETARCH\nCOPY w-$TARGETARCH /\n", want: "w-arm64"},
		{name: "TARGETARCH, given", text: "FROM scratch\nARG TARGETARCH\nCOPY w-$TARGETARCH /\n", args: map[string]*string{"TARGETARCH": value("me")}, want: "w-me"},
		{name: "TARGETARCH with a default", text: "FROM scratch\nARG TARGETARCH=x\nCOPY w-$TARGETARCH /\n", each: [5]string{"w-x", "w-x", "w-x", "w-arm64", "w-arm64"}},
		{name: "TARGETARCH that isn't declared", text: "FROM scratch\nCOPY w-$TARGETARCH /\n", want: "w-"},
		{name: "variants", text: "FROM scratch\nARG TARGETVARIANT BUILDVARIANT\nCOPY w$TARGETVARIANT$BUILDVARIANT /\n", want: "wv8"},
		{name: "an argument without a value", text: "FROM scratch\nARG A=a\nCOPY $A /\n", args: map[string]*string{"A": nil}, want: "a"},
		{name: "ENV of the base image", text: "FROM env\nCOPY $SRC /\n", want: "a"},
		{name: "of the stage below", text: "FROM env AS s\nFROM s\nCOPY $SRC /\n", want: "a"},
		{name: "triggers", text: "FROM trig\nCOPY $X /\n", want: "b data1 a data1"},
		{name: "triggers in a stage below", text: "FROM trig AS s\nFROM s\nCOPY w /\n", want: "b data1 a w"},
		{name: "a stage's triggers", text: "FROM scratch AS s\nONBUILD ENV SRC=a\nONBUILD COPY $SRC /\nFROM s AS u\nFROM u\nCOPY $SRC /\n", want: "a a"},
		{name: "mounts", text: "FROM env\nRUN --mount=target=/m,source=$SRC --mount=type=bind,target=/m --mount=type=cache,source=c,target=/m --mount=\"target=/,src=/b*\" x\n", want: "a . b*"},
		{name: "a URL in a variable", text: "FROM scratch\nARG U=https://h/x\nADD $U a /\n", want: "a"},
	} {
		for i, k := range []builder{classic, oldBuildKit, newBuildKit, podman4, podman5} {
			result, err := parseDockerfile([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			at := site{platform: "linux/arm64/v8", own: "linux/amd64", builders: []builder{k}, image: func(b base) *baseConfig { return images[b.name] }}
			r, err := readAs(k, result, job.Source{Build: &job.BuildArgs{Args: tt.args}}, at)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			var names []string
			for _, src := range r.sources {
				names = append(names, src.name)
			}
			if got, want := strings.Join(names, " "), tt.each[i]+tt.want; got != want {
				t.Errorf("%s, builder %d: got %s, want %s", tt.name, i, got, want)
			}
		}
	}
}

// Before a base image is there, what it decides is left open.
func TestReadBeforeTheBaseIsThere(t *testing.T) {
	const text = "FROM far AS s\nARG A=a\nENV B=$SRC/x C=b\nFROM s\nARG SRC\nCOPY $A /\nCOPY $SRC /\nCOPY $B /\nCOPY $C /\n"
	files := slotOf(map[string]string{"Dockerfile": text, "a": "", "b": "", "c/x": ""})
	s := job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}
	at := on("linux/amd64")
	b, err := newBuildContext(files, s, at)
	if err != nil || !b.unsure || !slices.Equal(b.files, []string{"a", "b"}) || len(b.notes) > 0 {
		t.Errorf("before: got %q, %q, %v", b.files, b.notes, err)
	}
	at.final, at.image = true, func(base) *baseConfig { return &baseConfig{env: []string{"SRC=c"}} }
	b, err = newBuildContext(files, s, at)
	if err != nil || b.unsure || !slices.Equal(b.files, []string{"a", "b", "c", "c/x"}) {
		t.Errorf("after: got %q, %v", b.files, err)
	}
	at.image = func(base) *baseConfig { return nil } // it can't be had
	if _, err = newBuildContext(files, s, at); err == nil || !strings.Contains(err.Error(), "x: no such file") {
		t.Errorf("never: got %v", err)
	}
}

// A base image that has to be pulled decides what is copied, and so which image it is.
func TestBaseDecides(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	if err := fake.Publish("r/base:1", enginetest.Image{Env: []string{"SRC=a"}, Triggers: []string{"COPY b /b"}}); err != nil {
		t.Fatal(err)
	}
	im, files := collectable(t, "boinc_a", "FROM r/base:1\nCOPY $SRC /x\n")
	files["a"], files["b"], files["c"] = "1", "1", "1"
	ids := map[string]string{}
	ensure := func(what string) string {
		id, err := e.Ensure(t.Context(), im, slotOf(files))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		ids[id] = what
		return id
	}
	first := ensure("first")
	if got, want := noted(t, im), "r/base:1 boinc_a=boinc_content"; got != want {
		t.Errorf("noted %s, want %s", got, want)
	}
	if files["c"] = "2"; ensure("a file that isn't copied") != first {
		t.Error("a file that isn't copied makes another image")
	}
	if _, err := e.api.ImageRemove(t.Context(), "r/base:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if ensure("without the base") != first {
		t.Error("the image isn't found after its base has gone")
	}
	files["a"] = "2"
	ensure("the base's variable")
	files["b"] = "2"
	ensure("the base's trigger")
	if len(ids) != 3 {
		t.Errorf("got images %v, want three", ids)
	}
}

// Which Dockerfiles the classic builder doesn't build as Docker's client does.
func TestChosenBuilder(t *testing.T) {
	for text, want := range map[string][2]bool{ // Docker 20.10, Docker 28
		"COPY a /":                         {false, false},
		"ARG A=a\nCOPY $A /":               {false, false},
		"ARG A=a\nENV A=b\nCOPY $A /":      {false, false},
		"ENV A=a\nARG A=b\nCOPY $A /":      {false, true},
		"ARG TARGETARCH\nRUN x":            {false, false},
		"COPY --chown=1 a /":               {false, false},
		"COPY --chmod=1 a /":               {true, true},
		"COPY --exclude=x a /":             {true, true},
		"RUN --mount=target=/m x":          {true, true},
		"RUN --network=none x":             {true, true},
		"ADD https://h/x /":                {false, false},
		"ADD https://h/x.git#main /":       {true, true},
		"ADD git@h:x /":                    {true, true},
		"FROM scratch\nCOPY a /":           {false, false},
		"COPY none /\nFROM scratch\nRUN x": {false, true},
		"FROM --platform=$BUILDPLATFORM x": {true, true},
		"ONBUILD RUN --mount=target=/m x":  {false, false},
	} {
		files := slotOf(map[string]string{"Dockerfile": "FROM scratch AS s\n" + text + "\n", "a": "", "b": "", "none": ""})
		for i, kit := range []builder{oldBuildKit, newBuildKit} {
			b, err := newBuildContext(files, job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, site{own: "linux/amd64", builders: []builder{classic, kit}})
			if err != nil || b.buildKit != want[i] {
				t.Errorf("%q, %d: got %v, %v, want %v", text, i, b.buildKit, err, want[i])
			}
		}
	}
}

func TestReaderSays(t *testing.T) {
	old := []builder{classic, oldBuildKit}
	for _, tt := range []struct {
		text, ignore string
		builders     []builder
		want         string
	}{
		{text: "FROM scratch\nCOPY none* nada* /\n", want: "none*: no such file in the slot"},
		{text: "FROM scratch\nCOPY a none /\n", want: "none: no such file in the slot"},
		{text: "FROM scratch\nRUN --mount=source=none,target=/m x\n", want: "none: no such file in the slot"},
		{text: "FROM scratch\nRUN --mount=source=a*,target=/m x\n", want: "a*: no such file in the slot"},
		{text: "FROM scratch\nCOPY sub /\n", ignore: "**/*x*\n", want: ""},
		{text: "FROM scratch\nCOPY sub/x /\n", ignore: "**/*x*\n", want: "sub/x: it is in the slot, but .dockerignore excludes it"},
		{text: "FROM scratch\nCOPY su* /\n", ignore: "sub\n", want: "su*: it is in the slot, but .dockerignore excludes it"},
		{text: "FROM scratch\nRUN --mount=source=sub,target=/m x\n", ignore: "sub\n", want: "sub: it is in the slot, but .dockerignore excludes it"},
		{text: "FROM scratch\nARG TARGETARCH\nCOPY w-${TARGETARCH} /\n", want: `w-amd64: no such file in the slot (TARGETARCH is "amd64" here)`},
		{text: "FROM scratch\nARG S\nCOPY ${S} /\n", want: "Dockerfile:3: COPY ${S} /: ${S} is empty, so this is the whole slot (if it is meant, write a dot)"},
		{text: "FROM scratch\nRUN --mount=source=$S,target=/ x\n", want: "$S is empty"},
		{text: "FROM far\nCOPY ${S} /\n", want: ""},
		{text: "FROM scratch\nRUN <<E\nx\nE\n", builders: old, want: `doesn't support heredocs (Docker does from version 23 on, or with a first line "# syntax=docker/dockerfile:1"; RUN can do without, by && and \)`},
		{text: "# syntax=docker/dockerfile:1\nFROM scratch\nRUN <<E\nx\nE\n", builders: old, want: ""},
		{text: "FROM scratch\nCOPY <<E /x\nx\nE\n", builders: []builder{podman4}, want: `doesn't support heredocs (Podman does from version 5 on`},
		{text: "# syntax=docker/dockerfile:1\nFROM scratch\nCOPY <<E /x\nx\nE\n", builders: []builder{podman4}, want: `doesn't support heredocs`},
		{text: "FROM scratch AS b-amd64\nFROM b-$TARGETARCH\n", builders: []builder{podman4}, want: "knows TARGETARCH in FROM only after a line ARG TARGETARCH before the first FROM"},
		{text: "FROM scratch AS b-amd64\nFROM b-$TARGETARCH\n", builders: []builder{podman5}, want: ""},
		{text: "ARG TARGETARCH\nFROM scratch AS b-amd64\nFROM b-$TARGETARCH\n", builders: []builder{podman4}, want: ""},
		{text: "FROM scratch\nRUN --mount=type=secret,id=q,required x\n", want: "this build gets no secrets"},
		{text: "FROM scratch\nRUN --mount=type=secret,id=q,required=false x\n", want: ""},
	} {
		files := slotOf(map[string]string{"Dockerfile": tt.text, "a": "", "sub/x": ""})
		if tt.ignore != "" {
			files[".dockerignore"] = slotOf(map[string]string{"f": tt.ignore})["f"]
		}
		at := on("linux/amd64")
		if tt.builders != nil {
			at.builders = tt.builders
		}
		b, err := newBuildContext(files, job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, at)
		var ie *ImageError
		got := ""
		if errors.As(err, &ie) {
			got = err.Error()
		} else if err == nil {
			got = strings.Join(b.notes, "")
		}
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%q: got %q, %v, want %q", tt.text, got, err, tt.want)
		}
	}
	if notes, err := checkContext(slotOf(map[string]string{"Dockerfile": "FROM scratch\nCOPY $S /\n"}), job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}); err != nil || !strings.Contains(strings.Join(notes, ""), "$S is empty") {
		t.Errorf("--check: got %q, %v, want the empty variable", notes, err)
	}
}

// A directory in which a wildcard matches nothing is sent: BuildKit wants it.
func TestDirectoryOfAWildcard(t *testing.T) {
	b, err := newBuildContext(slotOf(map[string]string{"Dockerfile": "FROM scratch\nCOPY a sub/none* none/x* /x/\n", "a": "", "sub/x": ""}),
		job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on("linux/amd64"))
	if want := []string{"a", "sub"}; err != nil || !slices.Equal(b.files, want) {
		t.Errorf("got %q, %v, want %q", b.files, err, want)
	}
}

// Stages and base images can't be made to hand on more than the reader's bounds.
func TestReaderIsBounded(t *testing.T) {
	var many strings.Builder
	for i := range 8_000 {
		fmt.Fprintf(&many, "ENV A%d=x\n", i)
	}
	stages := strings.Repeat("FROM s\n", 8_000)
	for text, want := range map[string]string{
		"FROM x AS s\n" + many.String() + stages:                                           "stages hand on more than",
		"FROM x AS s\n" + strings.Repeat("ONBUILD COPY a /\n", 99) + stages:                "COPY and ADD name more than 1000 files",
		"FROM x AS s\n" + strings.Repeat("ONBUILD RUN x\n", 99) + stages:                   "more than 20000 triggers",
		strings.Repeat("ARG A\n", 5_000) + strings.Repeat("FROM x-$A$TARGETARCH\n", 5_000): "",
	} {
		_, err := newBuildContext(slotOf(map[string]string{"Dockerfile": text, "a": ""}), job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}, on("linux/amd64"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %.300v, want %q", text, err, want)
		}
	}
}
