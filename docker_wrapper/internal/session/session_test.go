//go:build unix

package session

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

// nobody is a client that takes no interest.
type nobody struct{}

func (nobody) RereadInitData() (boincapi.InitData, error) { return boincapi.InitData{}, nil }
func (nobody) SetWebGraphicsURL(string)                   {}
func (nobody) SendTrickleUp(string, string) error         { return nil }
func (nobody) UploadFile(string) error                    { return nil }

// keeperOf is a job by hand, in a fake engine of its own. Its program runs until it is ended.
func keeperOf(t *testing.T, change func(*job.Job)) (*Keeper, *enginetest.Engine) {
	t.Helper()
	fake, err := enginetest.New(enginetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	if err := fake.AddImage("image", enginetest.Image{Command: []string{"hold"}}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", fake.Host())
	dir := t.TempDir()
	j := &job.Job{
		Standalone: true,
		Slot:       job.Slot{Dir: dir},
		Image:      job.Image{Sources: []job.Source{{Name: "image", Pull: true}}, LockDir: dir},
		Container:  job.Container{Name: "job", Network: "none", User: job.User{Mode: "image"}},
		Checkpoint: job.Checkpoint{Method: job.ByNobody},
	}
	change(j)
	store, err := OpenStore("")
	if err != nil {
		t.Fatal(err)
	}
	k, err := New(Options{
		Dir: dir, Job: j, Store: store, Client: nobody{}, Log: zerolog.Nop(), Patience: time.Millisecond,
		Output:   func() (io.Writer, io.Writer, io.Closer) { return io.Discard, io.Discard, nil },
		ListGPUs: func() ([]job.GPU, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k, fake
}

// A session stays what it is while the next one is opened: what asks it at the same time, as samples do, asks its own container.
// Under the race detector, nothing that both touch is written.
func TestSessionIsNotSwapped(t *testing.T) {
	k, fake := keeperOf(t, func(j *job.Job) {
		j.Progress.ContainerFile = "/fraction"
		j.Checkpoint = job.Checkpoint{Method: job.ByApp, ContainerFile: "/checkpoint"}
	})
	first, err := k.Open(t.Context(), job.Before{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	for _, ask := range []func(){
		func() { first.Fraction(ctx) },
		func() { first.Made(ctx) },
		func() { first.Usage(ctx) },
		func() { first.Taken(job.Mark{At: time.Now(), Ran: time.Second}) },
	} {
		asking.Go(func() {
			for ctx.Err() == nil {
				ask()
			}
		})
	}
	last := first
	for range 10 {
		if err := last.c.Remove(ctx); err != nil {
			t.Fatal(err)
		}
		next, err := k.Open(ctx, job.Before{Outside: true})
		if err != nil {
			t.Fatal(err)
		}
		if next == last || next.c.ID == last.c.ID {
			t.Fatal("got the session of the container that was removed")
		}
		last = next
	}
	stop()
	asking.Wait()
	if got := len(fake.Containers()); got != 1 {
		t.Errorf("%d containers are there, want that of the last session", got)
	}
	if err := k.Remove(t.Context()); err != nil || len(fake.Containers()) > 0 {
		t.Errorf("left: %v, %v", fake.Containers(), err)
	}
}

// A job that is left after its output was written, and before it was settled, is harvested by the next episode, which writes nothing
// twice.
func TestOutputIsWrittenOnce(t *testing.T) {
	k, _ := keeperOf(t, func(j *job.Job) { j.Container.Command = []string{"print one line"} })
	var mu sync.Mutex
	var out bytes.Buffer
	k.o.Output = func() (io.Writer, io.Writer, io.Closer) {
		w := writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(p)
		})
		return w, w, nil
	}
	s, err := k.Open(t.Context(), job.Before{})
	if err != nil {
		t.Fatal(err)
	}
	exit := <-s.Wait(t.Context())
	if err := k.Harvest(t.Context(), exit); err != nil {
		t.Fatal(err)
	}
	k.park(time.Time{}) // as Leave does first
	if k.store.Episode().LastLog.IsZero() {
		t.Error("it isn't noted what was written")
	}
	if _, err := k.Open(t.Context(), job.Before{}); err != nil { // the next episode
		t.Fatal(err)
	}
	k.drain(t.Context())
	mu.Lock()
	defer mu.Unlock()
	if got := out.String(); got != "one line\n" {
		t.Errorf("got %q, want one line", got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// What several goroutines note is all there, and is all in the file.
func TestStoreIsShared(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	const goroutines, times = 4, 20
	var noting sync.WaitGroup
	for range goroutines {
		noting.Go(func() {
			for range times {
				if err := s.Change(func(e *Episode) { e.Tries++ }); err != nil {
					t.Error(err)
				}
				s.Episode()
			}
		})
	}
	noting.Wait()
	again, err := OpenStore(dir)
	if err != nil || again.Episode().Tries != goroutines*times || !reflect.DeepEqual(s.Episode(), again.Episode()) {
		t.Errorf("got %+v in the file, %v, want %d tries", again.Episode(), err, goroutines*times)
	}
}

// An episode that was interrupted while it moved the files has made the copies. They are not made again: without the
// payload Docker says that the files aren't there.
func TestCopiesAreMadeOnce(t *testing.T) {
	k, fake := keeperOf(t, func(j *job.Job) {
		j.CopyOut = []job.Copy{{Root: j.Slot.Dir, Src: "/out", Dst: "out"}}
		j.Container.Command = []string{"exit 0"}
	})
	s, err := k.Open(t.Context(), job.Before{})
	if err != nil {
		t.Fatal(err)
	}
	exit := <-s.Wait(t.Context())
	if err := k.Harvest(t.Context(), exit); err != nil || len(k.uncopied) != 1 {
		t.Fatalf("got %v, %v, want one copy that isn't possible", k.uncopied, err)
	}
	if err := k.store.Change(func(e *Episode) { e.Copied = &Copied{k.uncopied} }); err != nil {
		t.Fatal(err)
	}
	k.uncopied = nil
	fake.Inject(enginetest.Fault{Call: "copy-out", Status: 500, Message: "asked again"})
	if err := k.Harvest(t.Context(), exit); err != nil || len(k.uncopied) != 1 || k.uncopied[0].Name != "/out" {
		t.Errorf("got %v, %v, want what the first episode noted", k.uncopied, err)
	}
	if done, err := k.Conclude(t.Context(), Done{}); err != nil || done.Code != boincapi.ExitChildFailed {
		t.Errorf("got %+v, %v, want a failed job", done, err)
	}
}
