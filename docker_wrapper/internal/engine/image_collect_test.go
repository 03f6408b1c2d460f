package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// collectable is an image whose use is noted, built from text, or pulled where that is "".
func collectable(t *testing.T, name, text string) (job.Image, map[string]string) {
	dir := t.TempDir()
	im := job.Image{LockDir: dir, Labels: map[string]string{job.LabelDataDir: "/boinc"},
		Collect: &job.Collect{Record: filepath.Join(dir, "images.json"), Days: 30, Bytes: 1e9}}
	if text == "" {
		im.Sources = []job.Source{{Name: name, Pull: true}}
		return im, nil
	}
	im.Sources = []job.Source{{Name: name, Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}}
	return im, map[string]string{"Dockerfile": text}
}

// noted are the names in the record, "?" behind those that are being made.
func noted(t *testing.T, im job.Image) string {
	t.Helper()
	data, err := os.ReadFile(im.Collect.Record)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var r record
	if len(data) > 0 {
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, g := range r.Images {
		name := strings.Join(slices.Concat(g.Names, []string{g.Name}), "=")
		if i := strings.Index(name, job.ContentRepository); i >= 0 {
			name = name[:i+len(job.ContentRepository)]
		}
		if g.ID == "" {
			name += "?"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// age turns back what the record says of time.
func age(t *testing.T, e *Engine, im job.Image, by time.Duration) {
	t.Helper()
	err := e.change(t.Context(), im.Collect.Record, func(r *record) error {
		r.Collected = r.Collected.Add(-by)
		for i := range r.Images {
			r.Images[i].Used = r.Images[i].Used.Add(-by)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImagesAreNoted(t *testing.T) {
	const text = "FROM scratch\nCMD x\n"
	tests := []struct {
		name        string
		image, text string
		before      func(*enginetest.Engine)
		change      func(*job.Image)
		want        string
	}{
		{name: "built", image: "boinc_a", text: text, want: "boinc_a=boinc_content"},
		{name: "pulled", image: "r/a:1", before: func(f *enginetest.Engine) { f.Publish("r/a:1", enginetest.Image{}) }, want: "r/a:1"},
		{name: "there before", image: "r/a:1", before: func(f *enginetest.Engine) { f.AddImage("r/a:1", enginetest.Image{}) }},
		{name: "kept", image: "r/a:1", before: func(f *enginetest.Engine) { f.Publish("r/a:1", enginetest.Image{}) },
			change: func(im *job.Image) { im.Sources[0].Keep = true }},
		{name: "under the project's own name", image: "a", text: text, change: func(im *job.Image) { im.Sources[0].Fixed = true }},
		{name: "built on what the builder pulls", image: "boinc_a", text: "FROM r/base:1\nCMD x\n",
			before: func(f *enginetest.Engine) { f.Publish("r/base:1", enginetest.Image{}) }, want: "r/base:1 boinc_a=boinc_content"},
		{name: "built on what was there", image: "boinc_a", text: "FROM r/base:1\nCMD x\n",
			before: func(f *enginetest.Engine) { f.AddImage("r/base:1", enginetest.Image{}) }, want: "boinc_a=boinc_content"},
		{name: "built under the project's own name on what the builder pulls", image: "a", text: "FROM r/base:1\nCMD x\n",
			before: func(f *enginetest.Engine) { f.Publish("r/base:1", enginetest.Image{}) },
			change: func(im *job.Image) { im.Sources[0].Fixed = true }, want: "r/base:1"},
		{name: "a step fails after the base was pulled", image: "boinc_a", text: "FROM r/base:1\nRUN exit 1\n",
			before: func(f *enginetest.Engine) { f.Publish("r/base:1", enginetest.Image{}) }, want: "r/base:1"},
		{name: "not to be had", image: "r/a:1"},
		{name: "can't be built", image: "boinc_a", text: "FROM scratch\nRUN exit 1\n"},
		{name: "for another kind of machine", image: "r/a:1",
			before: func(f *enginetest.Engine) { f.Publish("r/a:1", enginetest.Image{Architecture: "riscv64"}) }, want: "r/a:1"},
		{name: "the engine goes away", image: "boinc_a", text: text,
			before: func(f *enginetest.Engine) { f.Inject(enginetest.Fault{Call: "build", Cut: true}) }},
		{name: "a person's", image: "r/a:1", before: func(f *enginetest.Engine) { f.Publish("r/a:1", enginetest.Image{}) },
			change: func(im *job.Image) { os.WriteFile(im.Collect.Record, nil, 0o644); im.Collect = nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			im, files := collectable(t, tt.image, tt.text)
			if tt.before != nil {
				tt.before(fake)
			}
			all := im
			if tt.change != nil {
				tt.change(&im)
			}
			e.Ensure(t.Context(), im, slotOf(files)) // the record is what counts
			if got := noted(t, all); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Whoever is killed while an image is being made leaves a trace of it, and it is collected.
func TestIntentionIsNoted(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, files := collectable(t, "boinc_a", "FROM scratch\nRUN hold\n")
	done := make(chan error, 1)
	go func() {
		_, err := e.Ensure(t.Context(), im, slotOf(files))
		done <- err
	}()
	if err := fake.Await(t.Context(), "build", 1); err != nil {
		t.Fatal(err)
	}
	if got := noted(t, im); got != "boinc_a=boinc_content?" {
		t.Errorf("while it is built: got %q", got)
	}
	left, err := os.ReadFile(im.Collect.Record)
	if err != nil {
		t.Fatal(err)
	}
	fake.Release("")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(im.Collect.Record, left, 0o644); err != nil { // as if it had died before it could note the end
		t.Fatal(err)
	}
	age(t, e, im, 5*time.Hour)
	if err := e.Collect(t.Context(), im); err != nil || noted(t, im) != "boinc_a=boinc_content" {
		t.Errorf("five hours later: %v, noted %q", err, noted(t, im))
	}
	age(t, e, im, 31*24*time.Hour)
	if err := e.Collect(t.Context(), im); err != nil || noted(t, im) != "" {
		t.Errorf("a month later: %v, noted %q", err, noted(t, im))
	}
	if got := fake.Images(); len(got) > 0 {
		t.Errorf("images %q", got)
	}
}

func TestCollect(t *testing.T) {
	const month = 31 * 24 * time.Hour
	type world struct {
		t    *testing.T
		e    *Engine
		fake *enginetest.Engine
		im   job.Image
		id   string
	}
	create := func(w world) *Container {
		j := simple("print x")
		c, err := w.e.Create(w.t.Context(), j, w.id)
		if err != nil {
			w.t.Fatal(err)
		}
		return c
	}
	tests := []struct {
		name  string
		text  string // of the Dockerfile; "" pulls
		then  func(world)
		age   time.Duration
		noted bool
		left  string // images, the content tag left out
	}{
		{name: "unused", age: month},
		{name: "unused, built", text: "FROM scratch\nCMD x\n", age: month},
		{name: "used lately", age: month - 2*24*time.Hour, noted: true, left: "r/a:1"},
		{name: "a container uses it", age: month, noted: true, left: "r/a:1", then: func(w world) { create(w) }},
		{name: "its owner tagged it as well", age: month, left: "mine:1", then: func(w world) { w.fake.Tag("r/a:1", "mine:1") }},
		{name: "its owner tagged what was built", text: "FROM scratch\nCMD x\n", age: month, left: "mine:1", then: func(w world) { w.fake.Tag("r/a:1", "mine:1") }},
		{name: "its owner pulled it anew", age: month, left: "r/a:1", then: func(w world) {
			w.fake.RemoveImage("r/a:1")
			w.fake.AddImage("r/a:1", enginetest.Image{})
		}},
		{name: "its owner removed it", age: month, then: func(w world) { w.fake.RemoveImage("r/a:1") }},
		{name: "the name is another image's by now", text: "FROM scratch\nCMD x\n", age: month, left: "new:latest r/a:1", then: func(w world) {
			w.fake.AddImage("new", enginetest.Image{})
			w.fake.Tag("new", "r/a:1")
		}},
		{name: "another engine's", age: month, noted: true, left: "r/a:1", then: func(w world) {
			w.e.change(w.t.Context(), w.im.Collect.Record, func(r *record) error { r.Images[0].Host = "unix:///other"; return nil })
		}},
		{name: "the engine doesn't tell what is in use", age: month, noted: true, left: "r/a:1", then: func(w world) {
			w.fake.Inject(enginetest.Fault{Call: "list", Status: 500, Message: "layer store is busy"})
		}},
		{name: "the engine refuses", age: month, noted: true, left: "r/a:1", then: func(w world) {
			w.fake.Inject(enginetest.Fault{Call: "remove-image", Status: 409, Message: "conflict: image is being used by running container"})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			if err := fake.Publish("r/a:1", enginetest.Image{Command: []string{"print x"}}); err != nil {
				t.Fatal(err)
			}
			im, files := collectable(t, "r/a:1", tt.text)
			id, err := e.Ensure(t.Context(), im, slotOf(files))
			if err != nil {
				t.Fatal(err)
			}
			if tt.then != nil {
				tt.then(world{t, e, fake, im, id})
			}
			age(t, e, im, tt.age)
			e.Collect(t.Context(), im) // what is left says more
			if got := noted(t, im) != ""; got != tt.noted {
				t.Errorf("noted %q, want some: %v", noted(t, im), tt.noted)
			}
			left := slices.DeleteFunc(fake.Images(), func(name string) bool { return strings.HasPrefix(name, job.ContentRepository) && tt.noted })
			if got := strings.Join(left, " "); got != tt.left {
				t.Errorf("left %q, want %q", got, tt.left)
			}
		})
	}
}

// Something new makes it time to look; else it is once a day.
func TestCollectIsSeldom(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
	looked := 0
	for _, step := range []struct {
		after time.Duration
		text  string
		want  bool
	}{
		{0, "FROM scratch\nCMD x\n", true}, {time.Hour, "FROM scratch\nCMD x\n", false}, {22 * time.Hour, "FROM scratch\nCMD x\n", false},
		{time.Hour, "FROM scratch\nCMD x\n", true}, {time.Minute, "FROM scratch\nCMD y\n", true},
	} {
		age(t, e, im, step.after)
		files["Dockerfile"] = step.text
		if _, err := e.Ensure(t.Context(), im, slotOf(files)); err != nil {
			t.Fatal(err)
		}
		if err := e.Collect(t.Context(), im); err != nil {
			t.Fatal(err)
		}
		if got := fake.Count("list") > looked; got != step.want {
			t.Errorf("%v later, %q: looked %v, want %v", step.after, step.text, got, step.want)
		}
		looked = fake.Count("list")
	}
}

// An image has the names of the last few workunits that used it.
func TestNamesAreFew(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, files := collectable(t, "", "FROM scratch\nCMD x\n")
	for _, name := range []string{"boinc_1", "boinc_2", "boinc_3", "boinc_4", "boinc_5", "boinc_6", "boinc_6"} {
		im.Sources[0].Name = name
		if _, err := e.Ensure(t.Context(), im, slotOf(files)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := noted(t, im), "boinc_3=boinc_4=boinc_5=boinc_6=boinc_content"; got != want {
		t.Errorf("noted %s, want %s", got, want)
	}
	got := strings.Join(fake.Images(), " ")
	if want := "boinc_3:latest boinc_4:latest boinc_5:latest boinc_6:latest boinc_content:"; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A new record replaces one that can't be read. An image that was in it is made again, and the earlier one is recorded without its
// name, so that it is removed.
func TestDamagedRecord(t *testing.T) {
	var said bytes.Buffer
	e, _ := open1(t, enginetest.Options{})
	e.log = zerolog.New(&said)
	im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
	for i, damage := range []string{"", "{", `{"images": 5}`, "\x00\x00"} {
		if err := os.WriteFile(im.Collect.Record, []byte(damage), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Ensure(t.Context(), im, slotOf(files)); err != nil {
			t.Fatal(err)
		}
		want := "boinc_a=boinc_content boinc_a="
		if i == 0 { // there was none before
			want = "boinc_a=boinc_content"
		}
		if got := noted(t, im); got != want {
			t.Errorf("%q: noted %s, want %s", damage, got, want)
		}
	}
	if got := strings.Count(said.String(), "a new one is begun"); got < 4 {
		t.Errorf("got %d warnings: %s", got, said.String())
	}
}

// What was got for one project and is asked to be kept by another is kept.
func TestKeptAfterAll(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	fake.Publish("r/a:1", enginetest.Image{})
	im, _ := collectable(t, "r/a:1", "")
	for _, tt := range []struct {
		keep bool
		want string
	}{{false, "r/a:1"}, {true, ""}, {false, ""}} {
		im.Sources[0].Keep = tt.keep
		if _, err := e.Ensure(t.Context(), im, nil); err != nil {
			t.Fatal(err)
		}
		if got := noted(t, im); got != tt.want {
			t.Errorf("keep %v: noted %q, want %q", tt.keep, got, tt.want)
		}
	}
}

// Many wrappers write one record, while others remove what it says.
func TestManyNote(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, _ := collectable(t, "", "FROM scratch\n")
	im.Collect.Bytes = 0
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			mine := im
			mine.Sources = []job.Source{{Name: fmt.Sprintf("boinc_%d", i), Dockerfile: "Dockerfile", Build: &job.BuildArgs{}}}
			_, err := e.Ensure(t.Context(), mine, slotOf(map[string]string{"Dockerfile": fmt.Sprintf("FROM scratch\nCMD %d\n", i)}))
			if err = errors.Join(err, e.Collect(t.Context(), mine)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(strings.Fields(noted(t, im))); got != 8 || strings.Contains(noted(t, im), "?") {
		t.Errorf("noted %s", noted(t, im))
	}
	age(t, e, im, collectEvery)
	for range 4 {
		all.Go(func() {
			if err := e.Collect(t.Context(), im); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := fake.Images(); len(got) > 0 || noted(t, im) != "" {
		t.Errorf("left %q, noted %s", got, noted(t, im))
	}
}

// Another client's wrapper on the same engine builds its own, once.
func TestOtherDataDirectory(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
	other, _ := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
	other.Labels = map[string]string{job.LabelDataDir: "/other"}
	for range 3 {
		for _, im := range []job.Image{im, other} {
			if _, err := e.Ensure(t.Context(), im, slotOf(files)); err != nil {
				t.Fatal(err)
			}
			if got, want := noted(t, im), "boinc_a=boinc_content"; got != want {
				t.Errorf("noted %q, want %q", got, want)
			}
		}
	}
	if got := fake.Count("build"); got != 2 {
		t.Errorf("built %d times, want 2", got)
	}
}

// What a job that isn't signed has built is no image for one that is, nor the other way round.
func TestOtherTrust(t *testing.T) {
	for _, collects := range []bool{true, false} {
		e, fake := open1(t, enginetest.Options{})
		im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
		if !collects {
			im.Collect = nil
		}
		ids := map[bool]string{}
		for range 2 {
			for _, unsigned := range []bool{true, false} {
				im.Sources[0].Unsigned = unsigned
				id, err := e.Ensure(t.Context(), im, slotOf(files))
				if err != nil || ids[unsigned] != "" && ids[unsigned] != id || ids[!unsigned] == id {
					t.Errorf("got %s, %v, have %v", id, err, ids)
				}
				ids[unsigned] = id
			}
		}
		if got := fake.Count("build"); got != 2 {
			t.Errorf("built %d times, want 2", got)
		}
	}
}

// A name that only wrappers give proves nothing by itself: the image is the one that the record has.
func TestOnlyRecordedImagesAreUsed(t *testing.T) {
	for _, kind := range []string{"build", "load"} {
		for _, tt := range []struct {
			name  string
			then  func(*testing.T, *Engine, *enginetest.Engine, job.Image, string) // the last is the image's name
			again bool                                                             // it is made again
		}{
			{name: "nothing", then: func(*testing.T, *Engine, *enginetest.Engine, job.Image, string) {}},
			{name: "the name is another image's", again: true, then: func(t *testing.T, e *Engine, fake *enginetest.Engine, im job.Image, name string) {
				fake.AddImage("evil:1", enginetest.Image{Labels: map[string]string{job.LabelDataDir: "/boinc", job.LabelContent: "x"}})
				fake.Tag("evil:1", name)
			}},
			{name: "the name came before the record", again: true, then: func(t *testing.T, e *Engine, fake *enginetest.Engine, im job.Image, name string) {
				os.Remove(im.Collect.Record)
			}},
			{name: "only the name was known when it was noted", again: true, then: func(t *testing.T, e *Engine, fake *enginetest.Engine, im job.Image, name string) {
				fake.AddImage("evil:1", enginetest.Image{})
				fake.Tag("evil:1", name)
				e.change(t.Context(), im.Collect.Record, func(r *record) error {
					r.Images = []job.Got{{Host: e.Info.Host, Name: name, Used: now().Add(-5 * time.Hour)}}
					return nil
				})
				if err := e.Collect(t.Context(), im); err != nil {
					t.Error(err)
				}
			}},
			{name: "noted of another engine", again: true, then: func(t *testing.T, e *Engine, fake *enginetest.Engine, im job.Image, name string) {
				e.change(t.Context(), im.Collect.Record, func(r *record) error {
					for i := range r.Images {
						r.Images[i].Host = "unix:///other"
					}
					return nil
				})
			}},
		} {
			t.Run(kind+", "+tt.name, func(t *testing.T) {
				e, fake := open1(t, enginetest.Options{})
				im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
				if kind == "load" {
					archive := filepath.Join(t.TempDir(), "x.tar")
					if err := os.WriteFile(archive, dockerArchive().tar(t), 0o644); err != nil {
						t.Fatal(err)
					}
					im.Sources = []job.Source{{Name: job.ArchiveRepository + ":0a", Archive: archive}}
				}
				name := ""
				made := func() string {
					id, err := e.Ensure(t.Context(), im, slotOf(files))
					if err != nil {
						t.Fatal(err)
					}
					for _, tag := range fake.Images() {
						if job.OnlyOurs(tag) {
							name = tag
						}
					}
					return id
				}
				first := made()
				tt.then(t, e, fake, im, name)
				id, builds := made(), 1
				if tt.again {
					builds = 2
				}
				if (id != first) != tt.again || fake.Count(kind) != builds {
					t.Errorf("got %s after %s, made %d times, want %d", id, first, fake.Count(kind), builds)
				}
				if again := made(); again != id || fake.Count(kind) != builds {
					t.Errorf("once more: got %s, want %s; made %d times", again, id, fake.Count(kind))
				}
			})
		}
	}
}

// What the owner of the computer gets stays, whatever a wrapper was about to get, and whatever its labels say.
func TestOwnersImagesAreNotNoted(t *testing.T) {
	ours := map[string]string{job.LabelDataDir: "/boinc", job.LabelContent: strings.Repeat("0", 64)}
	tests := []struct {
		name, image, text string
		before            func(*enginetest.Engine)
		during            func(*enginetest.Engine) // of a build that holds
		want              string
	}{
		{name: "a base that they pull during a build", image: "boinc_a", text: "FROM scratch\nRUN hold\nFROM r/late:1\n", want: "boinc_a=boinc_content",
			during: func(f *enginetest.Engine) { f.AddImage("r/late:1", enginetest.Image{}) }},
		{name: "a base that they pull during a build, with our labels", image: "boinc_a", text: "FROM scratch\nRUN hold\nFROM r/late:1\n", want: "boinc_a=boinc_content",
			during: func(f *enginetest.Engine) { f.AddImage("r/late:1", enginetest.Image{Labels: ours}) }},
		{name: "a base that they pull during a build that fails", image: "boinc_a", text: "FROM r/late:1\nRUN hold\nRUN exit 1\n",
			before: func(f *enginetest.Engine) {
				f.Publish("r/late:1", enginetest.Image{})
				f.Inject(enginetest.Fault{Call: "pull", Status: 500, Message: "busy"})
			}},
		{name: "an image that the job pulls, with our labels", image: "r/a:1",
			before: func(f *enginetest.Engine) { f.AddImage("r/a:1", enginetest.Image{Labels: ours}) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			im, files := collectable(t, tt.image, tt.text)
			if tt.before != nil {
				tt.before(fake)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				e.Ensure(t.Context(), im, slotOf(files)) // the record is what counts
			}()
			if tt.text != "" {
				if err := fake.Await(t.Context(), "build", 1); err != nil {
					t.Fatal(err)
				}
			}
			if tt.during != nil {
				tt.during(fake)
			}
			fake.Release("")
			<-done
			if got := noted(t, im); got != tt.want {
				t.Errorf("noted %q, want %q", got, tt.want)
			}
		})
	}
}

// An image that has lost its name to one that was made again goes, too.
func TestReplacedImageGoes(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
	for range 3 {
		if _, err := e.Ensure(t.Context(), im, slotOf(files)); err != nil {
			t.Fatal(err)
		}
		for _, tag := range fake.Images() {
			if job.OnlyOurs(tag) {
				fake.AddImage("other:1", enginetest.Image{})
				fake.Tag("other:1", tag)
			}
		}
	}
	age(t, e, im, 31*24*time.Hour)
	if err := e.Collect(t.Context(), im); err != nil || noted(t, im) != "" {
		t.Errorf("a month later: %v, noted %q", err, noted(t, im))
	}
	if got := fake.ImageCount(); got != 3 {
		t.Errorf("got %d images, want only the 3 of the computer's owner", got)
	}
}

// A record that nobody can write is no reason to run no job.
func TestUnwritableRecord(t *testing.T) {
	e, fake := open1(t, enginetest.Options{})
	im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
	im.Collect.Record = filepath.Join(t.TempDir(), "no", "such", "directory")
	if _, err := e.Ensure(t.Context(), im, slotOf(files)); err != nil || fake.Count("build") != 1 {
		t.Errorf("got %v after %d builds", err, fake.Count("build"))
	}
}

// The last step of a build that failed with the engine is removed when the engine answers again, and only that.
func TestStepOfAFailedBuildGoes(t *testing.T) {
	began := now()
	for _, tt := range []struct {
		name        string
		image       string // the step's name, if it has one
		ends        time.Duration
		cached      bool
		left, noted int
	}{
		{name: "a step"},
		{name: "one that the next build goes on from", cached: true, left: 1, noted: 1},
		{name: "somebody's image", image: "mine", left: 1},
		{name: "one that was made later", ends: -time.Hour, left: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			im, _ := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
			fake.AddImage(tt.image, enginetest.Image{})
			list, err := e.api.ImageList(t.Context(), image.ListOptions{All: true})
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			im.Sources[0].Unsigned = !tt.cached
			fake.Inject(enginetest.Fault{Call: "inspect-image", Cut: true})
			e.leftOver(t.Context(), im, im.Sources[0], bareID(list[0].ID)[:12], began)
			fake.Mend()
			if got := fake.ImageCount(); got != 1 {
				t.Fatalf("%d images while the engine does not answer, want 1", got)
			}
			if tt.ends != 0 {
				e.change(t.Context(), im.Collect.Record, func(r *record) error {
					r.Steps[0].Began, r.Steps[0].Failed = r.Steps[0].Began.Add(tt.ends), r.Steps[0].Failed.Add(tt.ends)
					return nil
				})
			}
			if err := e.Collect(t.Context(), im); err != nil {
				t.Fatal(err)
			}
			r := e.readRecord(im.Collect.Record)
			if fake.ImageCount() != tt.left || len(r.Images) != tt.noted || len(r.Steps) != 0 {
				t.Errorf("%d images are left, want %d; noted %+v", fake.ImageCount(), tt.left, r)
			}
		})
	}
}

// A step of the builder's cache that is removed while a build goes on from it is nobody's fault: the owner of the computer
// tidies up, or another wrapper.
func TestStepVanishes(t *testing.T) {
	vanished := `unable to find image "sha256:d1aa3c8aee616bc3b8c622e304091ec4e8a311994b56b0e08e519c5f9556748f"`
	for _, tt := range []struct {
		name, says    string
		times, builds int
		final         bool
	}{
		{name: "once", says: vanished, times: 1, builds: 2},
		{name: "twice", says: vanished, times: 2, builds: 3},
		{name: "Podman's", says: "checking if cached image exists from a previous build: getting top layer info: layer not known", times: 1, builds: 2},
		{name: "Podman's, when a service of the same user begins", says: `committing container for step {Command:copy}: writing blob: adding layer with blob "sha256:45": ` +
			`rename /var/lib/containers/storage/overlay-layers/tmp/temp-dir-18/0-addition /var/lib/containers/storage/overlay-layers/45.tar-split.gz: no such file or directory`, times: 1, builds: 2},
		{name: "Podman's, when the layer that it makes goes", says: `committing container for step {Command:copy}: copying layers and metadata for container "ac": writing blob: ` +
			`adding layer with blob "sha256:9d642f4d"/""/"sha256:9d642f4d": unpacking failed (error: exit status 1; output: open /trial: no such file or directory)`, times: 1, builds: 2},
		{name: "a layer that this computer can't have", says: `writing blob: adding layer with blob "sha256:45": processing tar file(potentially insufficient UIDs or GIDs available in user namespace)`,
			times: 9, builds: 1, final: true},
		{name: "again and again", says: vanished, times: 9, builds: 3, final: false},
		{name: "a command that says so", says: "The command '/bin/sh -c " + vanished + "' returned a non-zero code: 1", times: 9, builds: 1, final: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, fake := open1(t, enginetest.Options{})
			fake.Inject(enginetest.Fault{Call: "build", Stream: true, Message: tt.says, Times: tt.times})
			im, files := collectable(t, "boinc_a", "FROM scratch\nCMD x\n")
			_, err := e.Ensure(t.Context(), im, slotOf(files))
			var ie *ImageError
			if (err == nil) != (tt.times < 3) || errors.As(err, &ie) != tt.final {
				t.Errorf("got %v", err)
			}
			if got := fake.Count("build"); got != tt.builds {
				t.Errorf("built %d times, want %d", got, tt.builds)
			}
		})
	}
}
