//go:build integration

package engine_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/klauspost/compress/zstd"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

var imageRows = []contractRow{
	{fact: "by hand: an image goes with its last name, and stays with another's", check: func(t *testing.T, k *contract) {
		hand := map[string]string{job.LabelDataDir: k.run + "/hand"}
		im, fsys := k.source("hand", "LABEL hand="+k.run+"\n")
		im.Labels = hand
		first, second, mine := im.Sources[0].Name, k.name("hand2"), k.name("mine")
		id := k.ensure(t, im, fsys)
		im.Sources[0].Name = second // another directory with the same files
		if again := k.ensure(t, im, fsys); again != id {
			t.Fatalf("got %s, want %s again", again, id)
		}
		k.must(t, k.api.ImageTag(t.Context(), id, mine))
		there := func(name string) bool { _, err := k.api.ImageInspect(t.Context(), name); return err == nil }
		for i, row := range []struct {
			names []string
			want  string // how the line begins
			left  []string
		}{
			{[]string{first}, "removed the name ", []string{id, second, mine}},
			{[]string{first}, "", []string{id, second, mine}},
			{[]string{second}, "removed the name ", []string{id, mine}},
			{[]string{mine}, "removed image ", nil},
		} {
			done, err := k.e.RemoveByHand(t.Context(), hand, row.names)
			if err != nil || len(done) != len(row.want[:min(len(row.want), 1)]) || len(done) == 1 && !strings.HasPrefix(done[0], row.want) {
				t.Errorf("%d: got %q, %v, want %s", i, done, err, row.want)
			}
			for _, name := range []string{id, first, second, mine} {
				if got := there(name); got != slices.Contains(row.left, name) {
					t.Errorf("%d: %s: got %v", i, name, got)
				}
			}
		}
	}},
	{fact: "build: only what the Dockerfile copies is read", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("context", "COPY dir /dir\n")
		fsys["dir/in"] = &fstest.MapFile{Data: []byte("in")}
		fsys["init_data.xml"] = &fstest.MapFile{Data: []byte("secret")}
		spy := &readFS{FS: fsys}
		if _, err := k.e.Ensure(t.Context(), im, spy); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(spy.read, "dir/in") || slices.Contains(spy.read, "init_data.xml") {
			t.Errorf("got %q, want dir/in read and init_data.xml not", spy.read)
		}
	}},
	{fact: "build: the image carries its identity and our labels", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("labels", "")
		im.Sources[0].Build.Labels = map[string]string{"of.project": "yes"}
		in := k.inspectImage(t, k.ensure(t, im, fsys))
		l := in.Config.Labels
		if l[job.LabelDataDir] != k.run || len(l[job.LabelContent]) != 64 || l["of.project"] != "yes" {
			t.Errorf("got labels %v", l)
		}
		named := func(tag string) bool { // Podman writes all names out
			return strings.TrimPrefix(tag, "docker.io/library/") == im.Sources[0].Name+":latest"
		}
		if !slices.ContainsFunc(in.RepoTags, named) {
			t.Errorf("got tags %q, want %s", in.RepoTags, im.Sources[0].Name)
		}
	}},
	{fact: "build: the same content is built once, whatever it is called", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("once", "LABEL once=yes\n")
		im.Sources[0].Build.NoCache = true // or the builder's cache would hide a second build
		first := k.ensure(t, im, fsys)
		if again := k.ensure(t, im, fsys); again != first {
			t.Errorf("asked again: got %s, want %s", again, first)
		}
		im.Sources[0].Name = k.name("twice")
		if other := k.ensure(t, im, fsys); other != first {
			t.Errorf("under another name: got %s, want %s", other, first)
		}
		if got := k.inspectImage(t, im.Sources[0].Name).ID; got != first {
			t.Errorf("the second name is %s, want %s", got, first)
		}
	}},
	{fact: "build: what only BuildKit knows", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("buildkit", "COPY --chmod=711 x /x\n")
		fsys["x"] = &fstest.MapFile{Data: []byte("x")}
		j := k.job("out=built")
		c, err := k.e.Create(t.Context(), j, k.ensure(t, im, fsys))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.mustRemove(t, c) })
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := k.finish(t, c); got.out != "built\n" {
			t.Errorf("got %+v, want built", got)
		}
	}},
	{fact: "build: a label that somebody else wrote makes no image ours", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("forged", "LABEL forged=yes\n") // no other row's content: it is removed
		im.Sources[0].Build.NoCache = true
		first := k.ensure(t, im, fsys)
		content := k.inspectImage(t, first).Config.Labels[job.LabelContent]
		if _, err := k.api.ImageRemove(t.Context(), first, image.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		name := k.name("forged") + ":1" // as one that is pulled or loaded: it has the label and not our tag
		resp, err := k.api.ImageLoad(t.Context(), bytes.NewReader(k.forged(name, content)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil { // it is loaded when the answer ends
			t.Fatal(err)
		}
		resp.Body.Close()
		forged := k.inspectImage(t, name)
		if forged.Config.Labels[job.LabelContent] != content {
			t.Fatalf("the forged image has labels %v", forged.Config.Labels)
		}
		if got := k.ensure(t, im, fsys); got == forged.ID {
			t.Error("the forged image was taken")
		}
	}},
	{fact: "build: other content is another image under the same name", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("changed", "COPY x /x\n")
		fsys["x"] = &fstest.MapFile{Data: []byte("1")}
		first := k.ensure(t, im, fsys)
		fsys["x"] = &fstest.MapFile{Data: []byte("2")}
		second := k.ensure(t, im, fsys)
		if first == second || k.inspectImage(t, im.Sources[0].Name).ID != second {
			t.Errorf("got %s and %s, want two images and the name on the second", first, second)
		}
	}},
	{fact: "build: several at once under one name, and each job gets its own", check: func(t *testing.T, k *contract) {
		name := k.name("same")
		var all sync.WaitGroup
		for i := range 6 {
			im, fsys := k.source("same", fmt.Sprintf("LABEL which=%d\nRUN [\"/payload\"]\n", i))
			im.Sources[0].Name = name
			all.Go(func() {
				id, err := k.e.Ensure(t.Context(), im, fsys)
				if err != nil {
					t.Error(err)
					return
				}
				in, err := k.api.ImageInspect(t.Context(), id)
				if got := in.Config.Labels["which"]; err != nil || got != fmt.Sprint(i) {
					t.Errorf("build %d: got image %q (%v)", i, got, err)
				}
			})
		}
		all.Wait()
	}},
	{fact: "build: an image of that name will do when it is fixed", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("fixed", "COPY x /x\n")
		im.Sources[0].Fixed = true
		fsys["x"] = &fstest.MapFile{Data: []byte("1")}
		first := k.ensure(t, im, fsys)
		fsys["x"] = &fstest.MapFile{Data: []byte("2")}
		if second := k.ensure(t, im, fsys); second != first {
			t.Errorf("got %s, want %s", second, first)
		}
	}},
	{fact: "build: arguments and target", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("args", "")
		fsys["Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch AS one\nARG WHO=nobody\nARG FILE\nLABEL who=$WHO\nCOPY $FILE /payload\n" +
			"FROM one AS two\nLABEL two=yes\n")}
		who, file := "me", "payload"
		im.Sources[0].Build.Args = map[string]*string{"WHO": &who, "FILE": &file}
		im.Sources[0].Build.Target = "one"
		l := k.inspectImage(t, k.ensure(t, im, fsys)).Config.Labels
		if l["who"] != "me" || l["two"] != "" {
			t.Errorf("got labels %v, want who=me and not two", l)
		}
	}},
	{fact: "build: its steps know the hosts that were added", check: func(t *testing.T, k *contract) {
		for builder, run := range builders {
			im, fsys := k.source("hosts", run+` ["/payload", "wantin=/etc/hosts:one.example", "wantin=/etc/hosts:two.example"]`+"\n")
			im.Sources[0].Build.ExtraHosts = []string{"one.example:192.0.2.1", "two.example:192.0.2.2"}
			if _, err := k.e.Ensure(t.Context(), im, fsys); err != nil {
				t.Errorf("%s: %v", builder, err)
			}
		}
	}},
	{fact: "build: a mistake in the Dockerfile is the project's", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("mistake", "FRUM scratch\n")
		k.imageError(t, im, fsys, "FRUM")
	}},
	{fact: "build: a COPY of nothing names its line", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("missing", "COPY nothing /nothing\n")
		if ie := k.imageError(t, im, fsys, "nothing"); ie != nil && !strings.HasPrefix(ie.Step, "Dockerfile:4: COPY nothing") {
			t.Errorf("got step %q", ie.Step)
		}
	}},
	{fact: "build: a RUN that fails shows its step and its last lines", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("run", `RUN ["/payload", "`+strings.Repeat(`err=more", "`, 30)+`err=the reason", "exit=7"]`+"\n")
		ie := k.imageError(t, im, fsys, "7")
		if ie == nil {
			return
		}
		if !strings.Contains(ie.Step, `RUN ["/payload"`) || !slices.Contains(ie.Output, "the reason") || len(ie.Output) > 20 {
			t.Errorf("got step %q, output %q", ie.Step, ie.Output)
		}
		if !strings.Contains(ie.Error(), "the reason") || strings.Contains(ie.Error(), "\x1b") {
			t.Errorf("got %q", ie.Error())
		}
	}},
	{fact: "build: a RUN that reaches no network may mend", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("offline", fmt.Sprintf("RUN [\"/payload\", \"raw=%x\", \"exit=100\"]\n", "Temporary failure resolving 'deb.debian.org'\n"))
		_, err := k.e.Ensure(t.Context(), im, fsys)
		var ie *engine.ImageError
		if !errors.Is(err, engine.ErrNetwork) || !errors.As(err, &ie) {
			t.Errorf("got %v, want ErrNetwork and the output", err)
		}
	}},
	{fact: "build: the words of a command are no verdict on the network", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("words", `RUN ["/payload", "env=connection refused", "exit=1"]`+"\n")
		k.imageError(t, im, fsys, "1")
	}},
	{fact: "build: a RUN that needs more memory than the limit says whose that is", check: func(t *testing.T, k *contract) {
		if !k.e.Info.LimitsMemory() {
			return
		}
		im, fsys := k.source("hungry", `RUN ["/payload", "eat=268435456", "out=full"]`+"\n")
		im.Sources[0].Limits = job.Limits{Memory: 64 << 20, MemoryFrom: "the volunteer's"}
		ie := k.imageError(t, im, fsys, "it needed more memory than its limit of 64 MB (the volunteer's)")
		if ie != nil && !ie.OutOfMemory {
			t.Errorf("got %+v, want it out of memory", ie)
		}
	}},
	{fact: "image: a name is never taken for an ID", check: func(t *testing.T, k *contract) {
		decoy, fsys := k.source("decoy", "LABEL which=decoy\n")
		_, id, _ := strings.Cut(k.ensure(t, decoy, fsys), ":")
		name := id[:12]
		froms := []string{"FROM " + name + "\n", "ARG BASE=" + name + "\nFROM ${BASE}\n", "FROM scratch\nCOPY --from=" + name + " /payload /which /\n"}
		ensure := func(from string) (string, error) {
			if from == "" {
				return k.e.Ensure(t.Context(), job.Image{Sources: []job.Source{{Name: job.FullName(name), Pull: true}}, LockDir: k.dir}, nil)
			}
			im, fsys := k.source("from", "")
			fsys["Dockerfile"] = &fstest.MapFile{Data: []byte(from + "LABEL " + job.LabelDataDir + "=" + k.run + "\nENTRYPOINT [\"/payload\"]\n")}
			return k.e.Ensure(t.Context(), im, fsys)
		}
		for _, from := range append(froms, "") {
			if got, err := ensure(from); err == nil { // no registry has this name either
				t.Errorf("%q: got image %s, whose ID begins so", from, got)
			}
		}
		im, fsys := k.source("named", "COPY which /which\n")
		fsys["which"] = &fstest.MapFile{Data: []byte("named")}
		named := k.ensure(t, im, fsys)
		if err := k.api.ImageTag(t.Context(), named, job.FullName(name)); err != nil {
			t.Fatal(err)
		}
		for _, from := range append(froms, "") {
			got, err := ensure(from)
			if err != nil {
				t.Errorf("%q: %v", from, err)
			} else if from == "" && got != named {
				t.Errorf("got image %s, want %s", got, named)
			}
		}
	}},
	{fact: "build: a failed one leaves no image of that name and no container", check: func(t *testing.T, k *contract) {
		token := k.name("token")
		im, fsys := k.source("failed", fmt.Sprintf(`RUN ["/payload", "out=%s", "exit=1"]`+"\n", token))
		k.imageError(t, im, fsys, "1")
		if _, err := k.api.ImageInspect(t.Context(), im.Sources[0].Name); err == nil {
			t.Errorf("image %s is there", im.Sources[0].Name)
		}
		if got := k.building(t, token); len(got) > 0 {
			t.Errorf("containers %v are there", got)
		}
	}},
	// What decides what a step does and isn't part of the builder's cache: hosts, a proxy.
	{fact: "build: a stranger's steps are not taken for a signed job's", check: func(t *testing.T, k *contract) {
		for builder, run := range builders {
			token := k.name("poison")
			im, fsys := k.source("poison", fmt.Sprintf("LABEL token=%s\n", token)+run+` ["/payload", "keep=/etc/hosts:/kept"]`+"\n")
			im.Sources[0].Unsigned, im.Sources[0].NoFetch = true, true
			im.Sources[0].Build.ExtraHosts = []string{"evil:1.2.3.4"}
			if got := k.hostsIn(t, k.ensure(t, im, fsys)); !strings.Contains(got, "1.2.3.4") {
				t.Errorf("%s: got %q, want the stranger's host in the stranger's image", builder, got)
			}
			im.Sources[0].Unsigned, im.Sources[0].NoFetch = false, false
			im.Sources[0].Build.ExtraHosts, im.Sources[0].Name = nil, k.name("poison")
			if got := k.hostsIn(t, k.ensure(t, im, fsys)); strings.Contains(got, "1.2.3.4") || got == "" {
				t.Errorf("%s: got %q in the signed image, want nothing of the stranger's", builder, got)
			}
		}
	}},
	{fact: "build: a stranger's cache mount is refused", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("mounted", `RUN --mount=type=cache,target=/mnt ["/payload", "exit=0"]`+"\n")
		im.Sources[0].Unsigned, im.Sources[0].NoFetch = true, true
		_, err := k.e.Ensure(t.Context(), im, fsys)
		var ie *engine.ImageError
		if !errors.As(err, &ie) || !strings.Contains(err.Error(), "type cache, which builds share") {
			t.Errorf("got %v, want a refusal", err)
		}
	}},
	{fact: "build: a stranger's script is read as it was looked at, or refused", check: func(t *testing.T, k *contract) {
		// A builder without heredocs carries out the line in the middle.
		im, fsys := k.source("script", "RUN --mount=type=tmpfs,target=/mnt [\"/payload\", \"exit=0\"] <<RUN\nRUN --mount=type=cache,target=/c [\"/payload\", \"out=hidden\"]\nRUN\n")
		im.Sources[0].Unsigned, im.Sources[0].NoFetch = true, true
		_, err := k.e.Ensure(t.Context(), im, fsys)
		var ie *engine.ImageError
		if !errors.As(err, &ie) || slices.Contains(ie.Output, "hidden") { // there is no shell for the script
			t.Errorf("got %v, want an error of the whole script's", err)
		}
	}},
	{fact: "build: a stranger's base image with triggers is refused", check: func(t *testing.T, k *contract) {
		name := "example.com/" + k.name("triggers")
		resp, err := k.api.ImageLoad(t.Context(), bytes.NewReader(k.withTrigger(t, name+":1")))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		t.Cleanup(func() { k.api.ImageRemove(context.Background(), name+":1", image.RemoveOptions{Force: true}) })
		for trigger, from := range map[bool]string{true: name + ":1", false: "scratch"} {
			im, fsys := k.source("onbuild", "")
			fsys["Dockerfile"].Data = bytes.Replace(fsys["Dockerfile"].Data, []byte("scratch"), []byte(from), 1)
			im.Sources[0].Unsigned, im.Sources[0].NoFetch = true, true
			_, err := k.e.Ensure(t.Context(), im, fsys)
			var ie *engine.ImageError
			if (err != nil) != trigger || trigger && (!errors.As(err, &ie) || !strings.Contains(err.Error(), "has triggers (ONBUILD)")) {
				t.Errorf("FROM %s: got %v, want a refusal: %t", from, err, trigger)
			}
		}
	}},
	{fact: "build: cancelled, the engine stops building", check: func(t *testing.T, k *contract) {
		token := k.name("token")
		im, fsys := k.source("cancelled", fmt.Sprintf(`RUN ["/payload", "out=%s", "sleep=10m"]`+"\n", token))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		go func() {
			_, err := k.e.Ensure(ctx, im, fsys)
			failed <- err
		}()
		k.eventually(t, "the build runs", func() bool { return slices.Contains(k.building(t, token), "running") })
		cancel()
		select {
		case err := <-failed:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want Canceled", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Ensure goes on after its context was cancelled")
		}
		k.within(t, 10*time.Second, func() {
			k.eventually(t, "the build has ended", func() bool { return len(k.building(t, token)) == 0 && len(steps(t, token)) == 0 })
		})
	}},
	{fact: "build: what a cancelled one leaves is noted, serves the next try by hand, and is collected", alone: true, check: func(t *testing.T, k *contract) {
		token := k.name("token")
		im, fsys := k.source("left", fmt.Sprintf("LABEL token=%s\n"+`RUN ["/payload", "out=%s", "sleep=10m"]`+"\n", token, token))
		im.Sources[0].Cache = true
		k.collectable(t, &im)
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				_, err := k.e.Ensure(ctx, im, fsys)
				failed <- err
			}()
			k.eventually(t, "the build runs", func() bool { return slices.Contains(k.building(t, token), "running") })
			cancel()
			<-failed
			k.endBuild(t, token)
			k.eventually(t, "the build has ended", func() bool { return len(k.building(t, token)) == 0 })
			if got := k.labelled(t, "token="+token); len(got) != 1 {
				t.Fatalf("got images %q, want the last step that was done", got)
			}
		}
		k.allGo(t, im, token)
	}},
	{fact: "collect: a step that an image stands on goes with that", check: func(t *testing.T, k *contract) {
		token := k.name("token")
		im, fsys := k.source("step", fmt.Sprintf("LABEL token=%s\nCOPY more /more\n"+`RUN ["/payload", "exit=1"]`+"\n", token))
		fsys["more"] = &fstest.MapFile{Data: []byte(token)}
		k.collectable(t, &im)
		if _, err := k.e.Ensure(t.Context(), im, fsys); err == nil {
			t.Fatal("built")
		}
		fsys["Dockerfile"].Data = bytes.Replace(fsys["Dockerfile"].Data, []byte("exit=1"), []byte("exit=0"), 1)
		id := k.ensure(t, im, fsys)
		k.age(t, im, 31)
		k.age(t, im, -31, id)
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		if got := k.labelled(t, "token="+token); !slices.Contains(got, id) {
			t.Fatalf("got images %q, want %s", got, id)
		}
		k.allGo(t, im, token)
	}},
	{fact: "collect: unused goes; what a container uses, and what its owner tagged, stays", check: func(t *testing.T, k *contract) {
		token := k.name("token")
		build := func(what string) (job.Image, string) {
			im, fsys := k.source(what, fmt.Sprintf("LABEL token=%s\nCOPY more /more\n", token))
			fsys["more"] = &fstest.MapFile{Data: []byte(what + token)}
			k.collectable(t, &im)
			return im, k.ensure(t, im, fsys)
		}
		im, unused := build("unused")
		_, busy := build("busy")
		_, tagged := build("tagged")
		mine := k.name("mine")
		if err := k.api.ImageTag(t.Context(), tagged, mine); err != nil {
			t.Fatal(err)
		}
		j := k.job("exit=0")
		c, err := k.e.Create(t.Context(), j, busy)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.mustRemove(t, c) })
		k.age(t, im, 31)
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		got := k.labelled(t, "token="+token)
		if slices.Contains(got, unused) || !slices.Contains(got, busy) || !slices.Contains(got, tagged) {
			t.Errorf("got %q; want %s gone, %s and %s there", got, unused, busy, tagged)
		}
		if tags := k.inspectImage(t, tagged).RepoTags; len(tags) != 1 || !strings.Contains(tags[0], mine) {
			t.Errorf("got tags %q, want %s", tags, mine)
		}
		if tags := k.inspectImage(t, busy).RepoTags; len(tags) != 2 {
			t.Errorf("got tags %q, want both", tags)
		}
	}},
	{fact: "collect: what another image is built on loses its names, and goes with that", check: func(t *testing.T, k *contract) {
		token := k.name("token")
		base, fsys := k.source("base", fmt.Sprintf("LABEL token=%s\n", token))
		k.collectable(t, &base)
		below := k.ensure(t, base, fsys)
		im, fsys := k.source("above", "")
		im.Collect = base.Collect
		fsys["Dockerfile"].Data = fmt.Appendf(nil, "FROM %s\nLABEL above=yes\n", base.Sources[0].Name)
		above := k.ensure(t, im, fsys)
		k.eventually(t, "the base to go", func() bool { // the next time, where Podman 4 fails because another row removes an image
			k.age(t, im, 31, below)
			if err := k.e.Collect(t.Context(), im); err != nil {
				t.Error(err)
			}
			return slices.Equal(k.labelled(t, "token="+token), []string{above})
		})
		if in, err := k.api.ImageInspect(t.Context(), below); err == nil && len(in.RepoTags) > 0 { // Podman keeps only the layers
			t.Errorf("got tags %q", in.RepoTags)
		}
		k.age(t, im, 31)
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		if _, err := k.api.ImageInspect(t.Context(), below); err == nil {
			t.Error("the base is still there")
		}
	}},
	{fact: "collect: what a wrapper got and lost its names goes; what only has our labels stays", check: func(t *testing.T, k *contract) {
		token := k.name("token")
		im, fsys := k.source("lost", fmt.Sprintf("LABEL token=%s\n", token))
		k.collectable(t, &im)
		fresh := k.inspectImage(t, k.ensure(t, im, fsys))
		name := k.name("old") + ":1"
		resp, err := k.api.ImageLoad(t.Context(), bytes.NewReader(k.forged(name, token))) // one of 2020
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		old := k.inspectImage(t, name)
		for _, name := range append(fresh.RepoTags, old.RepoTags...) {
			if err := k.api.ImageTag(t.Context(), k.image, name); err != nil {
				t.Fatal(err)
			}
		}
		k.age(t, im, 31)
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		if _, err := k.api.ImageInspect(t.Context(), fresh.ID); err == nil {
			t.Errorf("ours is still there: %+v", k.inspectImage(t, fresh.ID))
		}
		if _, err := k.api.ImageInspect(t.Context(), old.ID); err != nil {
			t.Errorf("the other one: %v", err)
		}
	}},
	{fact: "image: under a name that only wrappers give, only what the record has is used", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("recorded", "LABEL recorded=yes\n")
		im.Sources[0].Build.NoCache = true
		k.collectable(t, &im)
		first := k.ensure(t, im, fsys)
		for _, tag := range k.inspectImage(t, first).RepoTags {
			if err := k.api.ImageTag(t.Context(), k.image, strings.TrimPrefix(tag, "docker.io/library/")); err != nil {
				t.Fatal(err)
			}
		}
		second := k.ensure(t, im, fsys)
		if in := k.inspectImage(t, second); in.Config.Labels["recorded"] != "yes" {
			t.Errorf("got image %s with labels %v", second, in.Config.Labels)
		}
		if again := k.ensure(t, im, fsys); again != second {
			t.Errorf("asked again: got %s, want %s", again, second)
		}
	}},
	{fact: "collect: a base that images share counts once", alone: true, check: func(t *testing.T, k *contract) {
		token := k.name("token")
		dir := t.TempDir()
		var im job.Image
		for _, what := range []string{"one", "two", "three"} {
			var fsys fstest.MapFS
			im, fsys = k.source(what, fmt.Sprintf("LABEL token=%s\nCOPY big /big\nCOPY small /small\n", token))
			im.Sources[0].Cache = true
			fsys["big"] = &fstest.MapFile{Data: bytes.Repeat([]byte(token), 100_000)}
			fsys["small"] = &fstest.MapFile{Data: []byte(what)}
			k.collectable(t, &im)
			im.Collect.Record = filepath.Join(dir, "images.json")
			k.ensure(t, im, fsys)
			k.age(t, im, 1)
		}
		im.Collect.Bytes = int64(len(k.payload) + 150_000*len(token))
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		if got := k.labelled(t, "token="+token); len(got) != 3 {
			t.Errorf("got images %q, want all three", got)
		}
		im.Collect.Bytes = int64(len(k.payload) + 50_000*len(token))
		k.age(t, im, 1)
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		if got := k.labelled(t, "token="+token); len(got) != 0 {
			t.Errorf("got images %q, want none: the base is too large", got)
		}
	}},
	{fact: "build: many who want it at once build it once", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("many", "LABEL many=yes\n")
		im.Sources[0].Build.NoCache = true
		ids := make([]string, 5)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				e, err := engine.Open(t.Context(), engine.Options{Host: k.e.Info.Host})
				if err != nil {
					t.Error(err)
					return
				}
				defer e.Close()
				mine := im
				mine.Sources = slices.Clone(im.Sources)
				mine.Sources[0].Name = fmt.Sprintf("%s_%d", im.Sources[0].Name, i)
				if ids[i], err = e.Ensure(t.Context(), mine, fsys); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
			t.Errorf("got images %q, want one", ids)
		}
		content := k.inspectImage(t, ids[0]).Config.Labels[job.LabelContent]
		list := k.images(t, job.LabelContent+"="+content, false)
		list = slices.DeleteFunc(list, func(im image.Summary) bool { return len(im.RepoTags) == 0 }) // Podman 4 labels steps, too
		if len(list) != 1 {
			t.Errorf("got images of this content %+v, want 1", list)
		}
	}},
	{fact: "pull: a registry that can't be reached may mend", check: func(t *testing.T, k *contract) {
		k.within(t, 20*time.Second, func() {
			_, err := k.e.Ensure(t.Context(), k.pulled("127.0.0.1:1/"+k.name("pull")+":1"), nil)
			if !errors.Is(err, engine.ErrNetwork) {
				t.Errorf("got %v, want ErrNetwork", err)
			}
		})
	}},
	{fact: "pull: a name that is none is the project's mistake", check: func(t *testing.T, k *contract) {
		for _, name := range []string{"Upper/Case", "a b", "x:y:z", "https://example.org/x"} {
			_, err := k.e.Ensure(t.Context(), k.pulled(name), nil)
			var ie *engine.ImageError
			if !errors.As(err, &ie) || errors.Is(err, engine.ErrNetwork) {
				t.Errorf("%s: got %v, want *ImageError", name, err)
			}
		}
	}},
	{fact: "pull: what is there is not pulled", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("there", "")
		id := k.ensure(t, im, fsys)
		if got, err := k.e.Ensure(t.Context(), k.pulled(im.Sources[0].Name), nil); got != id {
			t.Errorf("got %s, %v, want %s", got, err, id)
		}
	}},
	{fact: "alternatives: the second serves when the first can't be had", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("second", "LABEL second=yes\n")
		im.Sources = append([]job.Source{{Name: "127.0.0.1:1/" + k.name("first"), Pull: true}}, im.Sources...)
		if id := k.ensure(t, im, fsys); k.inspectImage(t, id).Config.Labels["second"] != "yes" {
			t.Errorf("got %s, want the second", id)
		}
	}},
	{fact: "alternatives: what may mend decides", check: func(t *testing.T, k *contract) {
		im := k.pulled("127.0.0.1:1/" + k.name("first"))
		im.Sources = append(im.Sources, job.Source{Name: k.name("second"), Archive: filepath.Join(k.dir, "no such archive")})
		if _, err := k.e.Ensure(t.Context(), im, nil); !errors.Is(err, engine.ErrNetwork) {
			t.Errorf("got %v, want ErrNetwork", err)
		}
	}},
	{fact: "load: a docker-archive", check: func(t *testing.T, k *contract) {
		k.loads(t, "plain.tar", k.dockerArchive(runtime.GOARCH, "plain"))
	}},
	{fact: "load: a docker-archive, gzip", check: func(t *testing.T, k *contract) {
		k.loads(t, "archive.tar.gz", gzipped(k.dockerArchive(runtime.GOARCH, "gz")))
	}},
	{fact: "load: a docker-archive, zstd", check: func(t *testing.T, k *contract) {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		k.loads(t, "archive.tar.zst", z.EncodeAll(k.dockerArchive(runtime.GOARCH, "zst"), nil))
	}},
	{fact: "load: an OCI image layout", check: func(t *testing.T, k *contract) {
		k.loads(t, "oci.tar", k.ociLayout(runtime.GOARCH))
	}},
	{fact: "load: no archive moves another image's tag", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("victim", "LABEL victim=yes\n")
		victim := k.ensure(t, im, fsys)
		config, layer, _ := k.layerOf(runtime.GOARCH, "hostile")
		files := []any{"layer.tar", layer, "config.json", config, "manifest.json", []byte(`[{"Config":"config.json","Layers":["layer.tar"]}]`)}
		manifest := fmt.Sprintf(`[{"Config":"config.json","RepoTags":["%s:latest"],"Layers":["layer.tar"]}]`, im.Sources[0].Name)
		evil := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
		link := func(kind byte, name, to string) tar.Header {
			return tar.Header{Typeflag: kind, Name: name, Linkname: to}
		}
		for _, tt := range []struct {
			what    string
			entries []tar.Header // a regular one has the hostile manifest in it
			refused bool
		}{
			{what: "nothing else"},
			{what: "absolute", entries: []tar.Header{evil("/manifest.json")}},
			{what: "absolute and above", entries: []tar.Header{evil("/../manifest.json")}},
			{what: "above", entries: []tar.Header{evil("../manifest.json")}},
			{what: "a symlinked directory", entries: []tar.Header{link(tar.TypeSymlink, "x", "."), evil("x/manifest.json")}},
			{what: "an absolute symlinked directory", entries: []tar.Header{link(tar.TypeSymlink, "x", "/"), evil("x/manifest.json")}},
			{what: "a second one", entries: []tar.Header{evil("manifest.json")}, refused: true},
			{what: "repositories", entries: []tar.Header{evil("repositories"), evil("/repositories")}},
			{what: "a name in a PAX header", entries: []tar.Header{{Typeflag: tar.TypeReg, Name: "x", PAXRecords: map[string]string{"path": "/manifest.json"}}}},
			{what: "a hard link", entries: []tar.Header{evil("x"), link(tar.TypeLink, "manifest.json", "x")}, refused: true},
			{what: "a hard link with an absolute name", entries: []tar.Header{evil("x"), link(tar.TypeLink, "/manifest.json", "x")}},
			{what: "upper case", entries: []tar.Header{evil("MANIFEST.JSON"), evil("Manifest.json")}},
			{what: "a layout", entries: []tar.Header{evil("/index.json"), evil("oci-layout")}},
		} {
			var b bytes.Buffer
			b.Write(bytes.TrimRight(tarOf(files...), "\x00")) // without its end
			b.Write(make([]byte, -b.Len()&511))
			tw := tar.NewWriter(&b)
			for _, h := range tt.entries {
				text := ""
				if h.Typeflag == tar.TypeReg {
					text = manifest
				}
				h.Mode, h.Size = 0o644, int64(len(text))
				if err := tw.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(tw, text); err != nil {
					t.Fatal(err)
				}
			}
			if err := tw.Close(); err != nil {
				t.Fatal(err)
			}
			shipped := k.shipped(t, "hostile.tar", b.Bytes())
			if tt.refused {
				k.imageError(t, shipped, nil, "manifest.json is in it more than once")
			} else if id, err := k.e.Ensure(t.Context(), shipped, nil); err != nil || id == victim {
				t.Errorf("%s: got %s, %v", tt.what, id, err)
			}
			if got := k.inspectImage(t, im.Sources[0].Name).ID; got != victim {
				t.Errorf("%s: the victim's name is %s, want %s", tt.what, got, victim)
			}
		}
	}},
	{fact: "load: layers that are there twice, or by a symlink", check: func(t *testing.T, k *contract) {
		layer := tarOf("payload", k.payload, "content", []byte("twice"))
		config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Entrypoint":["/payload"],"Labels":{%q:%q}},"rootfs":{"type":"layers","diff_ids":[%[4]q,%[4]q,%[4]q]}}`,
			runtime.GOARCH, job.LabelDataDir, k.run, digestOf(layer))
		var b bytes.Buffer
		b.Write(bytes.TrimRight(tarOf("1/layer.tar", layer, "config.json", config,
			"manifest.json", []byte(`[{"Config":"config.json","Layers":["1/layer.tar","2/layer.tar","1/layer.tar"]}]`)), "\x00"))
		b.Write(make([]byte, -b.Len()&511))
		tw := tar.NewWriter(&b)
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "2/layer.tar", Linkname: "../1/layer.tar"})
		if err = errors.Join(err, tw.Close()); err != nil {
			t.Fatal(err)
		}
		k.loads(t, "twice.tar", b.Bytes())
	}},
	{fact: "load: an image for another machine is refused, also when it is there", check: func(t *testing.T, k *contract) {
		arch := "arm64"
		if runtime.GOARCH == arch {
			arch = "amd64"
		}
		im := k.shipped(t, "other.tar", k.dockerArchive(arch, "other"))
		k.imageError(t, im, nil, arch)
		k.imageError(t, im, nil, arch)
	}},
	{fact: "load: a broken archive is the project's mistake", check: func(t *testing.T, k *contract) {
		whole := k.dockerArchive(runtime.GOARCH, "whole")
		config, _, _ := k.layerOf(runtime.GOARCH, "missing")
		for what, data := range map[string][]byte{
			"cut":                  whole[:len(whole)/2],
			"cut.gz":               gzipped(whole)[:100_000],
			"no archive":           []byte("this is no archive at all"),
			"empty":                nil,
			"no manifest":          tarOf("x", []byte("x")),
			"manifest of nonsense": tarOf("manifest.json", []byte("{")),
			"two images":           tarOf("manifest.json", []byte(`[{},{}]`)),
			"no layer":             tarOf("manifest.json", []byte(`[{"Config":"c","Layers":["l"]}]`), "c", config),
			"other layer":          tarOf("manifest.json", []byte(`[{"Config":"c","Layers":["l"]}]`), "c", config, "l", tarOf("y", []byte("y"))),
			"escaping layer":       tarOf("manifest.json", []byte(`[{"Config":"c","Layers":["../../../etc/passwd"]}]`), "c", config),
		} {
			if ie := k.imageError(t, k.shipped(t, what+".tar", data), nil, ""); ie == nil {
				t.Logf("that was: %s", what)
			}
		}
	}},
}

// pulled is an image that is pulled.
func (k *contract) pulled(name string) job.Image {
	return job.Image{Sources: []job.Source{{Name: name, Pull: true}}, LockDir: k.dir}
}

// imageError wants one whose text holds want.
func (k *contract) imageError(t *testing.T, im job.Image, fsys fs.FS, want string) *engine.ImageError {
	t.Helper()
	id, err := k.e.Ensure(t.Context(), im, fsys)
	var ie *engine.ImageError
	if !errors.As(err, &ie) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, %v; want *ImageError with %q", id, err, want)
	}
	for _, class := range []error{engine.ErrNetwork, engine.ErrUnreachable, engine.ErrDiskFull, engine.ErrHost} {
		if errors.Is(err, class) {
			t.Errorf("got %v, want it to be final", err)
		}
	}
	return ie
}

func (k *contract) inspectImage(t *testing.T, name string) image.InspectResponse {
	t.Helper()
	var in image.InspectResponse
	k.eventually(t, "image "+name, func() (ok bool) {
		var err error
		if in, err = k.api.ImageInspect(t.Context(), name); err != nil && !strings.Contains(err.Error(), "failed to convert ImageData") { // of another, which is just going
			t.Fatal(err)
		}
		return err == nil
	})
	return in
}

// building gives the states of all containers whose command has token in it.
func (k *contract) building(t *testing.T, token string) (states []string) {
	t.Helper()
	if k.e.Info.Kind == engine.Podman { // its builder's containers are not listed; they are this computer's processes
		for range steps(t, token) {
			states = append(states, "running")
		}
		return states
	}
	list, err := k.api.ContainerList(t.Context(), container.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if strings.Contains(c.Command, token) {
			states = append(states, c.State)
		}
	}
	return states
}

// hostsIn is what a build kept of its hosts in an image.
func (k *contract) hostsIn(t *testing.T, id string) string {
	t.Helper()
	c, err := k.e.Create(t.Context(), k.job("cat=/kept"), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.mustRemove(t, c) })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k.finish(t, c).out
}

// withTrigger is an archive of an image that has one, and doesn't say so in its history.
func (k *contract) withTrigger(t *testing.T, name string) []byte {
	t.Helper()
	layer := tarOf("payload", k.payload)
	config := fmt.Appendf(nil, `{"created":"2020-01-01T00:00:00Z","architecture":%q,"os":"linux","config":{"Labels":{%q:%q},"OnBuild":["RUN [\"/payload\", \"out=trigger\"]"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`,
		runtime.GOARCH, job.LabelDataDir, k.run, digestOf(layer))
	return tarOf("layer.tar", layer, "config.json", config,
		"manifest.json", fmt.Appendf(nil, `[{"Config":"config.json","RepoTags":[%q],"Layers":["layer.tar"]}]`, name))
}

// endBuild ends the step of a cancelled build, which Podman's builder lets go on to its end.
func (k *contract) endBuild(t *testing.T, token string) {
	t.Helper()
	if k.e.Info.Kind != engine.Podman {
		return
	}
	for _, pid := range steps(t, token) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
	}
}

// steps are this computer's processes that run the payload with that token.
func steps(t *testing.T, token string) (pids []int) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err == nil && strings.HasPrefix(string(line), "/payload\x00") && strings.Contains(string(line), token) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// collectable has the use of an image noted, in a record of this row's.
func (k *contract) collectable(t *testing.T, im *job.Image) {
	t.Helper()
	im.Collect = &job.Collect{Record: filepath.Join(k.dir, strings.ReplaceAll(t.Name(), "/", "_")), Days: 30, Bytes: 1e12}
}

// allGo collects a month later, and wants nothing with this token left: at once, or, where a builder holds an
// image for a moment after its last step has ended, the next time.
func (k *contract) allGo(t *testing.T, im job.Image, token string) {
	t.Helper()
	k.eventually(t, "all images with "+token+" to go", func() bool {
		k.age(t, im, 31)
		if err := k.e.Collect(t.Context(), im); err != nil {
			t.Error(err)
		}
		return len(k.labelled(t, "token="+token)) == 0
	})
}

// age turns back the record's times by so many days, of these images or of all.
func (k *contract) age(t *testing.T, im job.Image, days int, ids ...string) {
	t.Helper()
	var r struct {
		Images []job.Got `json:"images"`
	}
	data, err := os.ReadFile(im.Collect.Record)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	for i := range r.Images {
		if len(ids) == 0 || slices.Contains(ids, r.Images[i].ID) {
			r.Images[i].Used = r.Images[i].Used.AddDate(0, 0, -days)
		}
	}
	if err == nil {
		data, err = json.Marshal(r)
	}
	if err = errors.Join(err, os.WriteFile(im.Collect.Record, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// labelled are the IDs of images with this label that no other image stands on.
func (k *contract) labelled(t *testing.T, label string) (ids []string) {
	t.Helper()
	for _, im := range k.images(t, label, false) {
		ids = append(ids, im.ID)
	}
	return ids
}

// readFS takes down what is opened.
type readFS struct {
	fs.FS
	mu   sync.Mutex
	read []string
}

func (r *readFS) Open(name string) (fs.File, error) {
	r.mu.Lock()
	r.read = append(r.read, name)
	r.mu.Unlock()
	return r.FS.Open(name)
}

// listen makes a unix socket.
func (k *contract) listen(t *testing.T, name string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(k.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// shipped is an image in an archive.
func (k *contract) shipped(t *testing.T, name string, data []byte) job.Image {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return job.Image{Sources: []job.Source{{Name: k.name("loaded"), Archive: file}}, LockDir: k.dir}
}

// loads wants an archive to become an image under our name and no other, once, and to run.
func (k *contract) loads(t *testing.T, name string, data []byte) {
	t.Helper()
	im := k.shipped(t, name, data)
	id := k.ensure(t, im, nil)
	in := k.inspectImage(t, id)
	if len(in.RepoTags) != 1 || !strings.Contains(in.RepoTags[0], im.Sources[0].Name+":latest") {
		t.Errorf("got tags %q, want %s alone", in.RepoTags, im.Sources[0].Name)
	}
	if err := os.Remove(im.Sources[0].Archive); err != nil {
		t.Fatal(err)
	}
	if again := k.ensure(t, im, nil); again != id {
		t.Errorf("asked again: got %s, want %s", again, id)
	}
	c, err := k.e.Create(t.Context(), k.job("out=hello"), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.mustRemove(t, c) })
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := k.finish(t, c); got.out != "hello\n" {
		t.Errorf("got %+v, want hello", got)
	}
}

// layerOf is an image's configuration, with this run's label, and its one layer. Other content
// makes another image.
func (k *contract) layerOf(arch, content string) (config, layer []byte, diffID string) {
	layer = tarOf("payload", k.payload, "content", []byte(content))
	diffID = digestOf(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/payload"}, "Labels": map[string]string{job.LabelDataDir: k.run}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID}},
	})
	if err != nil {
		panic(err)
	}
	return config, layer, diffID
}

// dockerArchive is what `docker save` writes, under a name that isn't ours.
func (k *contract) dockerArchive(arch, content string) []byte {
	config, layer, _ := k.layerOf(arch, content)
	manifest := fmt.Sprintf(`[{"Config":"config.json","RepoTags":["stranger_%s:1"],"Layers":["a/layer.tar"]}]`, k.run)
	return tarOf("a/layer.tar", layer, "config.json", config, "manifest.json", []byte(manifest),
		"repositories", fmt.Appendf(nil, `{"stranger_%s":{"1":"a"}}`, k.run))
}

// forged is an archive of an image whose label says that it was built from what content is the hash of.
func (k *contract) forged(name, content string) []byte {
	layer := tarOf("payload", k.payload)
	config := fmt.Appendf(nil, `{"created":"2020-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{"Labels":{%q:%q,%q:%q}},"rootfs":{"type":"layers","diff_ids":[%q]}}`,
		job.LabelContent, content, job.LabelDataDir, k.run, digestOf(layer))
	return tarOf("layer.tar", layer, "config.json", config,
		"manifest.json", fmt.Appendf(nil, `[{"Config":"config.json","RepoTags":[%q],"Layers":["layer.tar"]}]`, name))
}

// ociLayout has no manifest.json, and its layer is compressed.
func (k *contract) ociLayout(arch string) []byte {
	config, layer, _ := k.layerOf(arch, "oci")
	layer = gzipped(layer)
	descriptor := func(mediaType string, data []byte) map[string]any {
		return map[string]any{"mediaType": "application/vnd.oci.image." + mediaType, "digest": digestOf(data), "size": len(data)}
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return data
	}
	manifest := encode(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor("config.v1+json", config), "layers": []any{descriptor("layer.v1.tar+gzip", layer)}})
	index := encode(map[string]any{"schemaVersion": 2, "manifests": []any{descriptor("manifest.v1+json", manifest)}})
	blob := func(data []byte) string { return strings.Replace("blobs/"+digestOf(data), ":", "/", 1) }
	return tarOf("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json", index,
		blob(manifest), manifest, blob(config), config, blob(layer), layer)
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// tarOf packs names (string) and contents ([]byte) in turn.
func tarOf(files ...any) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		data := files[i+1].([]byte)
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i].(string), Mode: 0o755, Size: int64(len(data)), ModTime: time.Unix(0, 0)})
		if err == nil {
			_, err = tw.Write(data)
		}
		if err != nil {
			panic(err) // into memory
		}
	}
	if err := tw.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		_, err = io.Copy(z, bytes.NewReader(data))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}
