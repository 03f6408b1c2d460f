package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// What a Dockerfile that isn't signed may ask for.
func TestStrangersDockerfile(t *testing.T) {
	for _, tt := range []struct {
		name, dockerfile string
		args             map[string]*string
		want             string // "" for none
		bases            string // what is fetched
	}{
		{name: "a public image", dockerfile: "FROM debian:12 AS a\nFROM a\nCOPY --from=a /x /y\nCOPY --from=0 /x /y\n", bases: "debian:12"},
		{name: "images", dockerfile: "FROM quay.io/x/y\nCOPY --from=ghcr.io/x/z:1 /a /b\nRUN --mount=type=bind,from=alpine,target=/m true\n", bases: "quay.io/x/y ghcr.io/x/z:1 alpine"},
		{name: "scratch", dockerfile: "FROM scratch\n"},
		{name: "a variable with a default", dockerfile: "ARG V=12\nARG B=debian:${V}-slim\nFROM $B\n", bases: "debian:12-slim"},
		{name: "a variable that is given", dockerfile: "ARG V=12\nFROM debian:${V}\n", args: map[string]*string{"V": value("11")}, bases: "debian:11"},
		{name: "a platform", dockerfile: "FROM --platform=$BUILDPLATFORM debian\nFROM --platform=linux/arm64 alpine\n", bases: "debian alpine"},
		{name: "an image for two platforms", dockerfile: "FROM --platform=linux/amd64 debian\nFROM --platform=linux/arm64 debian\n", want: "debian for two platforms"},
		{name: "another job's image, called like the stage", dockerfile: "FROM debian AS boinc_wu_1\nCOPY --from=boinc_wu_1 /a /b\n", want: "made by wrappers"},
		{name: "another job's image, mounted in a stage of its name", dockerfile: "FROM debian AS boinc_wu_1\nRUN --mount=from=boinc_wu_1,target=/m true\n", want: "made by wrappers"},
		{name: "an image's ID, as a stage's number", dockerfile: "FROM debian\nCOPY --from=158 /a /b\n", want: "158 is no stage before this one"},
		{name: "the number of the stage itself", dockerfile: "FROM debian\nFROM alpine\nCOPY --from=1 /a /b\n", want: "1 is no stage before this one"},
		{name: "a number with a sign", dockerfile: "FROM debian\nFROM alpine\nCOPY --from=+0 /a /b\n", want: "+0 is no stage before this one"},
		{name: "a number with a nought", dockerfile: "FROM debian\nFROM alpine\nRUN --mount=from=00,target=/m true\n", want: "00 is no stage before this one"},
		{name: "an escape directive", dockerfile: "# escape=`\nFROM debian\nRUN true # `\nADD http://127.0.0.1/x /x\n", want: "an escape directive"},
		{name: "an escape directive after another", dockerfile: "# check=skip=all\n# escape=`\nFROM debian\nRUN true # `\nADD http://127.0.0.1/x /x\n", want: "an escape directive"},
		{name: "an escape directive after a syntax", dockerfile: "# syntax=docker/dockerfile:1\n# escape=`\nFROM debian\nRUN true # `\nRUN --network=host true\n", want: "an escape directive"},
		{name: "an older syntax", dockerfile: "# syntax=docker/dockerfile:1.2\nFROM debian\nRUN true <<\"#E\"\nADD http://127.0.0.1/x /x\n#E\n", want: "a Dockerfile of another kind"},
		{name: "control characters", dockerfile: "FROM debian\nRUN true \vADD\n", want: "control characters"},
		{name: "a long step", dockerfile: "FROM debian\nRUN " + strings.Repeat("x", maxStep) + "\n", want: "more than 60000 bytes"},
		{name: "this computer", dockerfile: "FROM debian\n\nFROM localhost:5000/x\n",
			want: "image i: Dockerfile:3: FROM localhost:5000/x: localhost:5000/x: the registry localhost is a name of this computer's own network: not for a job whose files aren't signed"},
		{name: "this computer by variable", dockerfile: "ARG H=127.0.0\nARG I=$H.1:5000\nFROM ${I}/x\n", want: "127.0.0.1 is no public address"},
		{name: "this computer by build argument", dockerfile: "ARG H=quay.io\nFROM $H/x\n", args: map[string]*string{"H": value("10.0.0.1")}, want: "10.0.0.1 is no public address"},
		{name: "this computer by a word's default", dockerfile: "ARG H\nFROM ${H:-127.0.0.1}/x\n", want: "127.0.0.1 is no public address"},
		{name: "this computer in quotes", dockerfile: "FROM \"127.0.0.1\"/x\n", want: "127.0.0.1 is no public address"},
		{name: "a variable that isn't known", dockerfile: "FROM $B\n", want: "FROM $B isn't known before the build"},
		{name: "a variable of a stage", dockerfile: "FROM debian AS a\nARG B=debian\nFROM $B\n", want: "isn't known before the build"},
		{name: "a variable named by another", dockerfile: "ARG A=B\nARG $A=x\nFROM $B\n", want: "isn't known before the build"},
		{name: "a copy", dockerfile: "FROM debian\nCOPY --from=10.0.0.1:5000/x /a /b\n", want: "10.0.0.1 is no public address"},
		{name: "a copy by variable", dockerfile: "ARG X=debian\nFROM debian\nARG X\nCOPY --from=$X /a /b\n", want: "want [REGISTRY/]NAME"},
		{name: "a copy in quotes", dockerfile: "FROM debian\nCOPY --from=\"10.0.0.1:5000/x\" /a /b\n", want: "10.0.0.1 is no public address"},
		{name: "a copy in other letters", dockerfile: "FROM debian\nCOPY --FROM=10.0.0.1:5000/x /a /b\n", want: "COPY --FROM"},
		{name: "a mount", dockerfile: "FROM debian\nRUN --mount=from=[::1]:5000/x,target=/m true\n", want: "[::1] is no public address"},
		{name: "a trigger's copy", dockerfile: "FROM debian AS a\nONBUILD COPY --from=nas.lan/x /a /b\nFROM a\n", want: "own network"},
		{name: "a stage that is called like a registry", dockerfile: "FROM debian AS 127.0.0.1:5000/x\nFROM 127.0.0.1:5000/x\n", want: "is no stage's name"},
		{name: "another job's image", dockerfile: "FROM boinc_wu_1\n", want: "made by wrappers"},
		{name: "another job's image, in full", dockerfile: "FROM debian\nCOPY --from=docker.io/library/boinc_content:0123 / /\n", want: "made by wrappers"},
		{name: "another job's image, Podman's name", dockerfile: "FROM localhost/boinc_wu_1\n", want: "own network"},
		{name: "an image's ID", dockerfile: "FROM 3f\n", want: "image's ID"},
		{name: "another platform", dockerfile: "FROM --platform=$X debian\n", want: "FROM with --platform=$X"},
		{name: "the own platform, changed", dockerfile: "ARG BUILDPLATFORM=linux/s390x\nFROM --platform=$BUILDPLATFORM debian\n", want: "FROM with"},
		{name: "a cache", dockerfile: "FROM debian\n\nRUN --mount=type=cache,target=/root/.cache true\n",
			want: "image i: Dockerfile:3: RUN --mount=type=cache,target=/root/.cache true: RUN with a mount of type cache, which builds share: not for a job whose files aren't signed"},
		{name: "a cache with an ID", dockerfile: "FROM debian\nRUN --mount=target=/c,id=pip,type=cache true\n", want: "type cache"},
		{name: "a cache among others", dockerfile: "FROM debian\nRUN --mount=type=tmpfs,target=/t --mount=type=cache,target=/c true\n", want: "type cache"},
		{name: "a cache, capital letters", dockerfile: "from debian\nrun --mount=TYPE=Cache,target=/c true\n", want: "type Cache"},
		{name: "a cache, said last", dockerfile: "FROM debian\nRUN --mount=type=bind,type=cache,target=/c true\n", want: "type cache"},
		{name: "a cache by variable", dockerfile: "FROM debian\nARG T=cache\nRUN --mount=type=$T,target=/c true\n", want: "isn't known before the build"},
		{name: "a cache in pieces", dockerfile: "FROM debian\nRUN --mount=type=ca\"ch\"e,target=/c true\n", want: "type cache"},
		{name: "a cache in escaped pieces", dockerfile: "FROM debian\nRUN --mount=type=ca\\\\che,target=/c true\n", want: "isn't known before the build"},
		{name: "a cache over two lines", dockerfile: "FROM debian\nRUN --mount=type=ca\\\nche,target=/c \\\n true\n", want: "type cache"},
		{name: "a cache in quotes", dockerfile: "FROM debian\nRUN '--mount=type=cache,target=/c' true\n", bases: "debian"}, // a command
		{name: "a mount with blanks", dockerfile: "FROM debian\nRUN --mount = type=cache,target=/c true\n", want: "isn't known before the build"},
		{name: "a trigger's cache", dockerfile: "FROM debian AS a\nONBUILD RUN --mount=type=cache,target=/c true\nFROM a\n", want: "type cache"},
		{name: "a cache for a script", dockerfile: "FROM debian\nRUN --mount=type=cache,target=/c <<E\ntrue\nE\n", want: "type cache"},
		{name: "a cache in a script", dockerfile: "FROM debian\nRUN <<E\nRUN --mount=type=cache,target=/c true\nE\n", bases: "debian"}, // see build
		{name: "secrets and agents, which aren't given", dockerfile: "FROM debian\nRUN --mount=type=secret,id=x --mount=type=ssh true\n", bases: "debian"},
		{name: "the host's network", dockerfile: "FROM debian\nRUN --network=host true\n", want: "RUN with --network=host"},
		{name: "more than others", dockerfile: "FROM debian\nRUN --security=insecure true\n", want: "RUN with --security=insecure"},
		{name: "no network", dockerfile: "FROM debian\nRUN --network=none true\n", bases: "debian"},
		{name: "another syntax", dockerfile: "# syntax=127.0.0.1:5000/x\nFROM debian\n", want: "a Dockerfile of another kind"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{Args: tt.args}, NoFetch: true, Unsigned: true}
			files := slotOf(map[string]string{"Dockerfile": tt.dockerfile, "a": ""})
			b, err := newBuildContext(files, s, on("linux/amd64"))
			var ie *ImageError
			if (err == nil) != (tt.want == "") || err != nil && (!errors.As(err, &ie) || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			if err == nil {
				var got []string
				for _, f := range b.fetched {
					got = append(got, f.name)
				}
				if strings.Join(got, " ") != tt.bases {
					t.Errorf("got %q, want %s", got, tt.bases)
				}
			}
			s.Unsigned, s.NoFetch = false, false
			if _, err := newBuildContext(files, s, on("linux/amd64")); err != nil {
				t.Errorf("signed: got %v, want no error", err)
			}
		})
	}
}

// What a Dockerfile within its bounds, or beyond, costs to read: a bomb must not take the volunteer's memory. All that is
// allocated is counted, which is more than what is held at once.
func TestCostOfDockerfile(t *testing.T) {
	const most, longest = 200 << 20 * allocFactor, 5 * time.Second * timeFactor
	repeat := func(s string, bytes int) string { return strings.Repeat(s, bytes/len(s)) }
	numbered := func(format string, times int) string {
		var b strings.Builder
		for i := range times {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	doubling := func(format string) string {
		text := "FROM x\nENV A0=xxxxxxxxxxxxxxxx\n"
		for i := range 40 {
			text += fmt.Sprintf(strings.ReplaceAll(format, "@", "%[1]d"), i+1, i) + "\n"
		}
		return text
	}
	const tooLong = "variables come to more than 256 KiB"
	for _, tt := range []struct{ name, dockerfile, ignore, want string }{
		{name: "a script", dockerfile: "FROM x\nRUN <<E\n" + repeat("echo ${A} $B\n", 200_000) + "E\n"},
		{name: "a long step", dockerfile: "FROM x\nRUN true" + strings.Repeat(" \\\n && echo "+strings.Repeat("x", 50), 2_000) + "\n"},
		{name: "doubling", dockerfile: doubling("ENV A%[1]d=$A%[2]d$A%[2]d"), want: tooLong},
		{name: "doubling by arguments", dockerfile: doubling("ARG A%[1]d=${A%[2]d}${A%[2]d}"), want: tooLong},
		{name: "doubling by defaults", dockerfile: doubling("ENV A%[1]d=${A%[2]d:-x}${A%[2]d:+$A%[2]d}"), want: tooLong},
		{name: "multiplying", dockerfile: doubling("ENV A%[1]d=${A%[2]d//x/" + strings.Repeat("x", 100) + "}"), want: tooLong},
		{name: "doubling before FROM", dockerfile: "ARG A0=xxxxxxxx\n" + numbered("ARG A1=$A0$A0\nARG A0=$A1$A1\n", 40) + "FROM x\n"},
		{name: "200,000 steps", dockerfile: "FROM x\n" + strings.Repeat("A\n", 200_000), want: "has more than 20000 lines"},
		{name: "as many steps as may be", dockerfile: "FROM x\n" + strings.Repeat("RUN a\n", 19_990)},
		{name: "gigabytes", dockerfile: "FROM x\n" + repeat("# ", 2<<20), want: "larger than 512 KiB"},
		{name: "many variables", dockerfile: "FROM x\n" + numbered("ENV A%[1]d=$B C%[1]d=$A%[1]d\n", 12_000)},
		{name: "many variables in a step", dockerfile: "FROM x\n" + strings.Repeat("ENV"+repeat(" A=$B", 60_000)+"\n", 8)},
		{name: "many words", dockerfile: "FROM x\n" + strings.Repeat("RUN ["+repeat(`"a",`, 60_000)+"\"a\"]\n", 8)},
		{name: "many sources", dockerfile: "FROM x\n" + strings.Repeat("COPY "+repeat("a ", 60_000)+"/\n", 8), want: "COPY and ADD name more than 1000 files"},
		{name: "many wildcards", dockerfile: "FROM x\n" + strings.Repeat("COPY "+strings.Repeat("* ", 90)+"/\n", 10), want: ""},
		{name: "different wildcards", dockerfile: "FROM x\n" + numbered("COPY [^%d]* /\n", 900), want: "more than 200000 files"},
		{name: "wildcards in wildcards", dockerfile: "FROM x\nCOPY " + strings.Repeat("*/", 2_000) + "* /\n", want: "no such file"},
		{name: "a long pattern", dockerfile: "FROM x\nCOPY " + repeat("*", 50_000) + " /\n", want: "longer than 4096 bytes"},
		{name: "many stars", dockerfile: "FROM x\nCOPY " + repeat("*a", 4_000) + " /\n", want: "no such file"},
		{name: "braces in braces", dockerfile: "FROM x\nCOPY " + strings.Repeat("${A:-", 1_000) + " /\n", want: "longer than 4096 bytes"},
		{name: "braces in braces of a script", dockerfile: "FROM x\nRUN <<E " + strings.Repeat("${A:-", 1_900) + "\\\n" + strings.Repeat("}", 1_900) + "\nE\n"},
		{name: "braces in braces over lines", dockerfile: "FROM x\nRUN <<E " + repeat("${A:-\\\n", 1<<18) + "\nE\n", want: "has more than"},
		{name: "triggers in triggers", dockerfile: "FROM x\n" + repeat("ONBUILD ", 60_000) + "\n", want: "has more than 100 times ONBUILD"},
		{name: "triggers in triggers, in pieces", dockerfile: "FROM x\n" + repeat("ON\\\n# c\nBUILD \\\n", 70_000) + "\n", want: ""},
		{name: "patterns with long patterns", dockerfile: "FROM x\nENV A=" + repeat("a", 60_000) + "\n" + strings.Repeat("ENV B=${A##"+repeat("*a", 3_000)+"}\n", 50), want: tooLong},
		{name: "short patterns", dockerfile: "FROM x\nENV A=" + repeat("a", 6_000) + "\n" + strings.Repeat("ENV B=${A##*a*a*a*a*b}\n", 500)},
		{name: "comments", dockerfile: "FROM x\n" + repeat("#\n", 38_000)},
		{name: "continued", dockerfile: "FROM x\nRUN " + repeat("a\\\n", 58_000)},
		{name: "ignored in gigabytes", dockerfile: "FROM x\nCOPY . /\n", ignore: repeat("a\n", 1<<20), want: ".dockerignore: it is larger than 64 KiB"},
		{name: "ignored by wildcards", dockerfile: "FROM x\nCOPY . /\n", ignore: strings.Repeat("**/*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\n", 990), want: ".dockerignore has too many wildcards for so many files"},
		{name: "ignored by a long wildcard", dockerfile: "FROM x\nCOPY . /\n", ignore: repeat("*a", 60_000), want: "longer than 4096 bytes"},
		{name: "ignored by many names", dockerfile: "FROM x\nCOPY . /\n", ignore: numbered("n%d\n", 990)},
		{name: "ignored by too many names", dockerfile: "FROM x\nCOPY . /\n", ignore: numbered("n%d\n", 1_001), want: ".dockerignore: has more than 1000 patterns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"Dockerfile": tt.dockerfile, "a": "", ".dockerignore": tt.ignore}
			for i := range 1_000 {
				files[fmt.Sprintf("some/longer/name/%da", i)] = ""
				files[fmt.Sprintf("file%da", i)] = ""
			}
			fsys := slotOf(files)
			s := job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}
			for _, unsigned := range []bool{false, true} {
				s.Unsigned = unsigned
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				began := time.Now()
				_, err := newBuildContext(fsys, s, on("linux/amd64"))
				took := time.Since(began)
				runtime.ReadMemStats(&after)
				if got := after.TotalAlloc - before.TotalAlloc; got > most || took > longest {
					t.Errorf("it took %d MiB and %v, want at most %d and %v", got>>20, took, most>>20, longest)
				} else {
					t.Logf("%d MiB, %v", got>>20, took)
				}
				var ie *ImageError
				if (err == nil) != (tt.want == "") && !unsigned || err != nil && (!errors.As(err, &ie) || !unsigned && !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2_000) {
					t.Errorf("unsigned %t: got %.300v, want %q", unsigned, err, tt.want)
				}
			}
		})
	}
}

// A registry's public name may lead into the volunteer's own network.
func TestRegistryOfStrangers(t *testing.T) {
	fake, err := enginetest.New(enginetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	addresses := map[string][]netip.Addr{
		"good.example": {netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("2606:4700::1")},
		"evil.example": {netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("127.0.0.1")},
		"lan.example":  {netip.MustParseAddr("::ffff:192.168.0.9")},
	}
	e, err := Open(t.Context(), Options{Host: fake.Host(), LookUp: func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == job.Hub {
			t.Error("got an error for the hub, whose name only the owner can make lead elsewhere")
		}
		return addresses[host], errors.New("no such host")
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for reference, want := range map[string]string{"debian": "", "good.example/x": "", "unknown.example/x": "", "evil.example:443/x": "the registry evil.example is at 127.0.0.1",
		"lan.example/x": "the registry lan.example is at ::ffff:192.168.0.9"} {
		for _, build := range []bool{false, true} {
			s := job.Source{Name: reference, Pull: true, Unsigned: true}
			if build {
				s = job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{}, Unsigned: true, NoFetch: true}
			}
			_, err := e.Ensure(t.Context(), job.Image{Sources: []job.Source{s}, LockDir: t.TempDir()}, slotOf(map[string]string{"Dockerfile": "FROM " + reference + "\n"}))
			refused := err != nil && strings.Contains(err.Error(), "is no public address")
			if refused != (want != "") || refused && (!errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, build %t: got %v, want %s", reference, build, err, want)
			}
		}
	}
}

// While network activity is suspended nothing is fetched, not even what FROM wants for a platform.
func TestStrangersBasesWaitForTheNetwork(t *testing.T) {
	for dockerfile, want := range map[string]bool{"FROM base\n": true, "FROM --platform=linux/amd64 base\n": false,
		"FROM base\nRUN --mount=from=other/tool:1,target=/x --network=none true\n": false} {
		e, fake := open1(t, enginetest.Options{BuildKit: true})
		if err := errors.Join(fake.AddImage("base", enginetest.Image{}), fake.Publish("other/tool:1", enginetest.Image{})); err != nil {
			t.Fatal(err)
		}
		offline := errors.New("suspended")
		e.online = func(context.Context) (context.Context, context.CancelFunc, error) { return nil, nil, offline }
		s := job.Source{Name: "i", Dockerfile: "Dockerfile", Build: &job.BuildArgs{Network: "none"}, Unsigned: true, NoFetch: true}
		_, err := e.Ensure(t.Context(), job.Image{Sources: []job.Source{s}, LockDir: t.TempDir()}, slotOf(map[string]string{"Dockerfile": dockerfile}))
		if got := !errors.Is(err, offline); got != want {
			t.Errorf("%q: got %v, want it built: %v", dockerfile, err, want)
		}
		for _, c := range fake.Calls() {
			if !want && (c.Name == "pull" || c.Name == "build") {
				t.Errorf("%q: the engine was asked to %s", dockerfile, c.Name)
			}
		}
	}
}

// The builder gets a Dockerfile in which it can find no step but those that were looked at.
func TestPlainDockerfile(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"comments and continued lines", "# check=skip=all\n# note\nFROM debian\n\n# one\nRUN a \\\n  # two\n\n  && b\n", "FROM debian\nRUN a   && b\n"},
		{"a syntax", "# syntax=docker/dockerfile:1\n# other=x\nFROM debian\n", "# syntax=docker/dockerfile:1\nFROM debian\n"},
		{"a script", "FROM debian\nRUN <<-E sh\n\tADD http://x /y\n\t# z\n\tE\nRUN c\n", "FROM debian\nRUN <<-E sh\n\tADD http://x /y\n\t# z\nE\nRUN c\n"},
		{"Windows' line ends", "FROM debian\r\nRUN a \\\r\n b\r\n", "FROM debian\nRUN a  b\n"},
		{"a mark of byte order", "\ufeffFROM debian\n", "FROM debian\n"},
		{"a tick at the end", "FROM debian\nRUN echo `date`\nRUN b\n", "FROM debian\nRUN echo `date`\nRUN b\n"},
		{"no line end", "FROM debian\nRUN a", "FROM debian\nRUN a\n"},
	} {
		s := job.Source{Name: "i", Dockerfile: "Dockerfile.in", Build: &job.BuildArgs{}, NoFetch: true, Unsigned: true}
		b, err := newBuildContext(slotOf(map[string]string{"Dockerfile.in": tt.text}), s, on("linux/amd64"))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want := strings.Replace(tt.want, "FROM debian\n", "FROM debian\n"+strangersMark+"\n", 1)
		if got := string(b.text); got != want || b.packed != "Dockerfile" {
			t.Errorf("%s: got %q as %s, want %q as Dockerfile", tt.name, got, b.packed, want)
		}
	}
}

// A phrase that the job has written says nothing about this computer.
func TestTheJobsWordsGiveNoClass(t *testing.T) {
	full := errors.New("unable to find user no space left on device: no matching entries in passwd file")
	if got := classFor(full.Error(), wordsOf(&container.Config{User: "No space left on device"})); got != nil {
		t.Errorf("got %v, want no class", got)
	}
	if got := classFor(full.Error()+": connection refused", "no space left on device"); got != ErrNetwork {
		t.Errorf("got %v, want that of the other phrase", got)
	}
	var ie *ImageError
	if err := imageErrorFor("build", job.Source{Name: "i"}, full, "USER \"no space left on device\""); !errors.As(err, &ie) {
		t.Errorf("got %v, want the job's fault", err)
	}
	var re *RunError
	if err := createError(errdefs.ErrInvalidArgument.WithMessage(full.Error()), "no space left on device"); !errors.As(err, &re) {
		t.Errorf("got %v, want the job's fault", err)
	}
}
