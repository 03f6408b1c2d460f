package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// Client is the part of the BOINC client that sessions use; *boincapi.App satisfies it.
type Client interface {
	RereadInitData() (boincapi.InitData, error) // waits until the file is whole
	SetWebGraphicsURL(string)
	SendTrickleUp(variety, text string) error // boincapi.ErrBusy until the client has taken the last one
	UploadFile(logical string) error
}

// Options are for [New].
type Options struct {
	Dir    string             // the slot
	Job    *job.Job           // nil: only Remove may be called
	Init   *boincapi.InitData // nil when standalone: there is no client, and no next episode
	Key    Key                // nil when standalone
	Store  *Store
	Client Client
	Log    zerolog.Logger

	// Online is asked before the engine uses the network; see engine.Options.
	Online func(context.Context) (context.Context, context.CancelFunc, error)

	// Output returns where a container's output goes if job.toml names no file. It is called for each container; done,
	// which may be nil, is closed when the container's output is complete.
	Output func() (stdout, stderr io.Writer, done io.Closer)

	ListGPUs func() ([]job.GPU, error) // the GPUs that this computer has now
	Version  string                    // of the wrapper
	Static   bool                      // the program needs no shared libraries, so that it runs in any container
	Sporadic bool                      // carry the files of BOINC's sporadic apps
	Patience time.Duration             // how long to wait for an engine that doesn't answer when a container is to be removed standalone; 0 for the usual
}

// Keeper opens the sessions of one job. Its methods are called one at a time.
type Keeper struct {
	o     Options
	store *Store
	log   zerolog.Logger

	engine    *engine.Engine // nil until it is needed
	swept     bool           // sweep was done
	ability   ability
	binds     []job.Bind        // the job's, with the propagation that the engine's host has; nil for those of the plan
	mail      *mail             // nil if the job's files aren't moved into a payload
	container *engine.Container // nil until it is found or made
	session   *Session          // the newest; nil when its output is complete or parked
	uncopied  engine.CopyErrors // outputs that Harvest couldn't copy out of the container

	owning sync.Mutex  // held by own
	began  time.Time   // by hand: before the first container was started
	mode   fs.FileMode // by hand: of the directory, before others were let write to it; 0 if they weren't
}

// New returns a keeper, which has done nothing yet.
func New(o Options) (*Keeper, error) {
	k := &Keeper{o: o, store: o.Store, log: o.Log}
	if o.Job == nil || !o.Job.Slot.Move {
		return k, nil
	}
	var err error
	k.mail, err = openMail(o, func(ctx context.Context, names ...string) error { return k.own(ctx, true, names...) })
	return k, err
}

// Close closes the engine. It ends a Podman service that was started for the wrapper.
func (k *Keeper) Close() {
	if k.engine != nil {
		k.engine.Close()
	}
}

// standalone reports whether there is no client.
func (k *Keeper) standalone() bool { return k.o.Init == nil }

func (k *Keeper) stateDir() string { return filepath.Join(k.o.Dir, job.WrapperDir) }

// Session is one container of the job, with its output. It doesn't change after Open has returned it, so its methods
// may be called from any goroutine.
type Session struct {
	k     *Keeper // only the fields that never change, the store and, in Carry alone, mail
	c     *engine.Container
	start job.Start
	logs  *engine.Logs
	files []io.Closer // that logs writes to
	crowd *crowd
	slip  *sync.Once // logs a mistake in the progress file once
}

// Start is the container's state when Open returned.
func (s *Session) Start() job.Start { return s.start }

// Pause freezes the container. It is no error if the container has ended. The error wraps job.ErrNoPause if the engine
// can't pause.
func (s *Session) Pause(ctx context.Context) error { return s.c.Pause(ctx) }

// Unpause lets the container run again.
func (s *Session) Unpause(ctx context.Context) error { return s.c.Unpause(ctx) }

// Keep makes sure that the container is paused or not, and reports whether it was different: another program changed
// it.
func (s *Session) Keep(ctx context.Context, paused bool) (bool, error) { return s.c.Keep(ctx, paused) }

// Kill ends the container at once.
func (s *Session) Kill(ctx context.Context) error { return s.c.Kill(ctx) }

// Wait delivers the container's end once; see [engine.Container.Wait].
func (s *Session) Wait(ctx context.Context) <-chan job.Exit { return s.c.Wait(ctx) }

// Usage is what the container has used up to now.
func (s *Session) Usage(ctx context.Context) (job.Usage, error) { return s.c.Usage(ctx) }

// Stop ends the container so that the job can be resumed later; grace 0 kills it. The episode file notes it first. If
// the wrapper is killed then, the next episode knows that the container did not end by itself.
func (s *Session) Stop(ctx context.Context, grace time.Duration) error {
	return s.k.stop(ctx, s.c, grace)
}

func (k *Keeper) stop(ctx context.Context, c *engine.Container, grace time.Duration) error {
	k.store.Note(k.log, func(e *Episode) { e.Parked = time.Now() })
	if grace == 0 {
		return c.Kill(ctx)
	}
	return c.Stop(ctx, grace)
}

// TimedOut notes that the job has exceeded its time limit, before the container is killed. If the wrapper is killed
// then, the job still ends.
func (s *Session) TimedOut() { s.k.store.Note(s.k.log, func(e *Episode) { e.TimedOut = true }) }

// Connect joins the container to its network, or disconnects it.
func (s *Session) Connect(ctx context.Context, on bool) error {
	err := s.c.Connect(ctx, s.k.o.Job.Container.Network, on)
	if err == nil && on {
		s.tellGraphics(ctx) // its port may have changed
	}
	return err
}

// Renew gives the container the init_data.xml that the client has rewritten.
func (s *Session) Renew() {
	_, err := s.k.o.Client.RereadInitData()
	if err == nil {
		err = s.k.renewInitData()
	}
	if err != nil {
		s.k.log.Warn().Err(err).Msg("the container keeps the older init_data.xml")
	}
}

// Carry carries messages between the job and the client.
func (s *Session) Carry(ctx context.Context, st boincapi.Status) {
	if s.k.mail != nil {
		s.k.mail.round(ctx, st)
	}
}

const maxFraction = 64 // bytes; a number is shorter

// Fraction reads the fraction done that the job reports: 0 to 1.
func (s *Session) Fraction(ctx context.Context) (float64, bool) {
	var data []byte
	var err error
	p := s.k.o.Job.Progress
	switch {
	case p.File != "":
		data, err = slot.Payload{Dir: s.k.o.Job.Slot.Payload}.Read(p.File, maxFraction)
		if errors.Is(err, fs.ErrPermission) { // it is another user's
			data, err = s.c.ReadFile(ctx, s.k.inContainer(p.File), maxFraction)
		}
	case p.ContainerFile != "":
		data, err = s.c.ReadFile(ctx, p.ContainerFile, maxFraction)
	default:
		return 0, false
	}
	if err != nil || len(bytes.TrimSpace(data)) == 0 { // the job has not written it yet, or is writing it
		return 0, false
	}
	f, err := slot.ParseFraction(data)
	if err != nil {
		s.slip.Do(func() { s.k.log.Warn().Msgf("%s: %v", p.File+p.ContainerFile, err) })
	}
	return f, err == nil
}

// inContainer is the path in the container of a file of the payload.
func (k *Keeper) inContainer(name string) string {
	return path.Join(k.o.Job.Container.InContainer(k.o.Job.Slot.Payload), name)
}

// tellGraphics tells the client where the job's web page is.
func (s *Session) tellGraphics(ctx context.Context) {
	guest := s.k.o.Job.Container.WebPort
	if guest == 0 {
		return
	}
	port, err := s.c.HostPort(ctx, guest)
	if err != nil || port == 0 {
		s.k.log.Warn().Err(err).Int("guest_port", guest).Msg("no host port for the web graphics")
		return
	}
	url := "http://localhost:" + strconv.Itoa(port)
	s.k.log.Info().Str("url", url).Msg("web graphics")
	s.k.o.Client.SetWebGraphicsURL(url)
}
