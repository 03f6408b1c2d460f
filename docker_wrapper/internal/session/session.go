package session

import (
	"bytes"
	"context"
	"io"
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

// Client is what sessions need of the BOINC client; *boincapi.App satisfies it.
type Client interface {
	RereadInitData() (boincapi.InitData, error) // waits until the file is whole
	SetWebGraphicsURL(string)
	SendTrickleUp(variety, text string) error // boincapi.ErrBusy while the one before is not taken
	UploadFile(logical string) error
}

// Options are for [New].
type Options struct {
	Dir    string             // the slot
	Job    *job.Job           // nil: what earlier episodes left can be removed, and nothing else
	Init   *boincapi.InitData // nil when standalone: there is no client, and no next episode
	Key    Key                // nil when standalone
	Store  *Store
	Client Client
	Log    zerolog.Logger

	// Online is asked before the engine uses the network; see engine.Options.
	Online func(context.Context) (context.Context, context.CancelFunc, error)

	// Output is where a container's output goes where job.toml names no file. It is called for each container; done, which may be
	// nil, is closed when the container's output is complete.
	Output func() (stdout, stderr io.Writer, done io.Closer)

	ListGPUs func() ([]job.GPU, error) // what this computer has at present
	Version  string                    // of the wrapper
	Static   bool                      // its program runs in any container
	Sporadic bool                      // the job's files of BOINC's sporadic apps are kept
	Patience time.Duration             // how long to wait for an engine that doesn't answer when a container is to be removed standalone; 0 for the usual
}

// Keeper is this job on this computer. Its methods are called one at a time.
type Keeper struct {
	o     Options
	store *Store
	log   zerolog.Logger

	engine    *engine.Engine // nil until it is needed
	swept     bool           // forgotten containers are removed
	ability   ability
	mail      *mail             // nil where the job has no payload of its own
	container *engine.Container // nil while it is not known
	session   *Session          // the newest; nil when its output is complete or parked
}

// New is a keeper that has done nothing yet. Its error is the computer's.
func New(o Options) (*Keeper, error) {
	k := &Keeper{o: o, store: o.Store, log: o.Log}
	if o.Job == nil || !o.Job.Slot.Move {
		return k, nil
	}
	var err error
	k.mail, err = openMail(o)
	return k, err
}

// Close lets go of the engine. A service of Podman's that was started for the wrapper ends with it.
func (k *Keeper) Close() {
	if k.engine != nil {
		k.engine.Close()
	}
}

// standalone reports whether there is no client.
func (k *Keeper) standalone() bool { return k.o.Init == nil }

func (k *Keeper) stateDir() string { return filepath.Join(k.o.Dir, job.WrapperDir) }

// note changes the episode file, from which the next episode continues.
func (k *Keeper) note(f func(*Episode)) {
	if err := k.store.Change(f); err != nil {
		k.log.Warn().Err(err).Msg("cannot save the episode file; the next start may repeat work")
	}
}

// Session is one container of the job, with its output. Nothing in it changes once it is handed over, so its methods may be
// called from any goroutine.
type Session struct {
	k     *Keeper // of which it uses what never changes, the store and, in Carry alone, the mail
	c     *engine.Container
	start job.Start
	logs  *engine.Logs
	files []io.Closer // that logs writes to
	crowd *crowd
	slip  *sync.Once // a mistake in the file of its progress is logged once
}

// Start says how it stood when it was handed over.
func (s *Session) Start() job.Start { return s.start }

// Pause freezes the container. When it has ended, that is no error. The error wraps job.ErrNoPause when there is no way to.
func (s *Session) Pause(ctx context.Context) error { return s.c.Pause(ctx) }

// Unpause lets it run again.
func (s *Session) Unpause(ctx context.Context) error { return s.c.Unpause(ctx) }

// Keep makes sure that it is paused, or not, and reports whether somebody else had made it otherwise.
func (s *Session) Keep(ctx context.Context, paused bool) (bool, error) { return s.c.Keep(ctx, paused) }

// Kill ends it at once.
func (s *Session) Kill(ctx context.Context) error { return s.c.Kill(ctx) }

// Wait delivers its end once, as [engine.Container.Wait].
func (s *Session) Wait(ctx context.Context) <-chan job.Exit { return s.c.Wait(ctx) }

// Usage is what it has used up to now.
func (s *Session) Usage(ctx context.Context) (job.Usage, error) { return s.c.Usage(ctx) }

// Stop ends it so that the job can be resumed later; grace 0 kills it. It is noted first: whatever becomes of us then, the
// container has not ended by itself.
func (s *Session) Stop(ctx context.Context, grace time.Duration) error {
	return s.k.stop(ctx, s.c, grace)
}

func (k *Keeper) stop(ctx context.Context, c *engine.Container, grace time.Duration) error {
	k.note(func(e *Episode) { e.Parked = time.Now() })
	if grace == 0 {
		return c.Kill(ctx)
	}
	return c.Stop(ctx, grace)
}

// TimedOut is called before it is killed because it ran for too long: whatever becomes of us then, the job has ended.
func (s *Session) TimedOut() { s.k.note(func(e *Episode) { e.TimedOut = true }) }

// Connect joins the container to its network, or disconnects it.
func (s *Session) Connect(ctx context.Context, on bool) error {
	err := s.c.Connect(ctx, s.k.o.Job.Container.Network, on)
	if err == nil && on {
		s.tellGraphics(ctx) // its port may be another now
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
		s.k.log.Warn().Err(err).Msg("the newer init_data.xml is not taken over")
	}
}

// Carry carries messages between the job and the client.
func (s *Session) Carry(ctx context.Context, st boincapi.Status) {
	if s.k.mail != nil {
		s.k.mail.round(ctx, st)
	}
}

const maxFraction = 64 // bytes; a number is shorter

// Fraction reads how far the job is, as it reports: 0 to 1.
func (s *Session) Fraction(ctx context.Context) (float64, bool) {
	var data []byte
	var err error
	p := s.k.o.Job.Progress
	switch {
	case p.File != "":
		data, err = slot.Payload{Dir: s.k.o.Job.Slot.Payload}.Read(p.File, maxFraction)
	case p.ContainerFile != "":
		data, err = s.c.ReadFile(ctx, p.ContainerFile, maxFraction)
	default:
		return 0, false
	}
	if err != nil || len(bytes.TrimSpace(data)) == 0 { // not there yet, or just being written
		return 0, false
	}
	f, err := slot.ParseFraction(data)
	if err != nil {
		s.slip.Do(func() { s.k.log.Warn().Msgf("%s: %v", p.File+p.ContainerFile, err) })
	}
	return f, err == nil
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
