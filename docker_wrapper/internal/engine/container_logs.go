package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// How long the output of a container that has ended may pause before the stream is given up, and before the last
// reading is. An engine may be busy, and what hasn't come by then is lost.
const drainPause, lastPause = 2 * time.Second, 20 * time.Second

// Logs streams a container's output while it runs, each line once.
type Logs struct {
	c      *Container
	since  time.Time
	out    [2]*stripper // stdout, stderr
	before int          // messages at the instant since that an earlier episode wrote
	again  int          // how many of these this read still has to drop
	flowed atomic.Int64 // messages that came, new or not
	turn   sync.Mutex   // one of Sync, Drain and Stop at a time
	cancel context.CancelFunc
	done   chan struct{}
}

// Logs begins to write the container's output to stdout and stderr, without what came up to and including the
// instant since (zero for all), which Stop or Last has returned. One goroutine at a time uses the writers. Drain must be
// called.
func (c *Container) Logs(ctx context.Context, since time.Time, stdout, stderr io.Writer) *Logs {
	var mu sync.Mutex
	l := &Logs{c: c, since: since}
	written := all
	if c.e.Info.quirks.wholeSeconds && !since.IsZero() {
		l.since = since.Truncate(time.Second)
		l.before, written = since.Nanosecond(), 0
	}
	l.out = [2]*stripper{newStripper(stdout, &mu, l.since), newStripper(stderr, &mu, l.since)}
	for _, s := range l.out {
		s.flowed, s.before, s.written = &l.flowed, &l.again, written
	}
	l.begin(ctx)
	return l
}

func (l *Logs) begin(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it goes on when the caller's ctx ends
	done := make(chan struct{})
	l.cancel, l.done = cancel, done
	go func() {
		defer close(done)
		l.follow(ctx)
	}()
}

// follow reads until the container has ended. It reopens a stream that ends earlier, because the engine was
// restarted or has rotated the log.
func (l *Logs) follow(ctx context.Context) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		began := time.Now()
		follow := func(ctx context.Context) error { return l.read(ctx, l.recent(), true) }
		if l.c.e.Info.quirks.followSkips {
			follow = l.listen
		}
		err := follow(ctx)
		if err == nil && !l.c.runs(ctx) || ctx.Err() != nil || errors.Is(err, ErrNotFound) {
			return
		}
		l.c.e.log.Debug().Err(err).Msg("output stream broke off")
		if time.Since(began) > waitHeld {
			pause = firstRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// listenPause is the shortest time between two reads by listen.
const listenPause = 500 * time.Millisecond

// listen uses the stream only as a sign of new output, which it then reads, since the stream drops parts of fast
// output. Each read goes through the whole log, so reads get a tenth of the time.
func (l *Logs) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := l.open(ctx, l.recent(), true)
	if err != nil {
		return err
	}
	defer body.Close()
	heard, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		buf := make([]byte, 32<<10)
		for {
			_, err := body.Read(buf)
			if err != nil {
				ended <- err
				return
			}
			select {
			case heard <- struct{}{}:
			default: // listen has been told already
			}
		}
	}()
	for {
		select {
		case <-heard:
		case err := <-ended:
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("read output of container %s: %w", l.c.Name, wrap(err))
		}
		began := time.Now()
		if err := l.read(ctx, l.recent(), false); err != nil {
			return err
		}
		select {
		case <-time.After(max(listenPause, 10*time.Since(began))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runs reports whether the container is not known to have ended.
func (c *Container) runs(ctx context.Context) bool {
	ctx, cancel := c.e.call(ctx)
	defer cancel()
	in, err := c.e.api.ContainerInspect(ctx, c.ID)
	return err != nil && !errors.Is(wrap(err), ErrNotFound) || err == nil && in.State.Running
}

// Drain waits for the rest of the output of a container that has ended. Then it reads once more what the stream
// may have missed, since followed logs end early when the engine rotates them. It stops when ctx ends.
func (l *Logs) Drain(ctx context.Context) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := l.recent
	if !l.c.e.Info.quirks.followSkips { // with followSkips the rest is read once, below
		l.whileFlowing(ctx, l.done, drainPause)
		from = func() time.Time { return l.since }
	}
	l.cancel()
	<-l.done
	result, done := error(nil), make(chan struct{})
	go func() {
		defer close(done)
		result = l.read(ctx, from(), false)
	}()
	l.whileFlowing(ctx, done, lastPause)
	cancel()
	<-done
	return result
}

// whileFlowing waits until done, or until nothing has come for a while.
func (l *Logs) whileFlowing(ctx context.Context, done <-chan struct{}, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for seen := l.flowed.Load(); ; {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := l.flowed.Load()
		if now == seen {
			return
		}
		seen = now
	}
}

// Sync writes all output of a container that is frozen, and returns the instant of the last line. The stream goes on.
func (l *Logs) Sync(ctx context.Context) (time.Time, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.cancel()
	<-l.done
	err := l.read(ctx, l.recent(), false)
	l.begin(ctx)
	return l.Last(), err
}

// Stop ends the stream, not the container, and returns the instant of the last line that was written.
func (l *Logs) Stop() time.Time {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.cancel()
	<-l.done
	return l.Last()
}

// Last is the instant of the newest line that was written. When the engine's times are whole seconds, the
// nanoseconds are the number of lines written of that second.
func (l *Logs) Last() time.Time {
	a, b := l.out[0], l.out[1]
	last := a.at()
	if b.at().After(last) {
		last = b.at()
	}
	if !l.c.e.Info.quirks.wholeSeconds || last.IsZero() {
		return last
	}
	n := a.writtenAt(last) + b.writtenAt(last)
	if last.Equal(l.since) {
		n += l.before
	}
	return last.Add(time.Duration(min(n, int(time.Second-1))))
}

// recent is the time from which on there may be lines that are not written yet.
func (l *Logs) recent() time.Time {
	if last := l.Last(); last.After(l.since) {
		return last.Add(-time.Second) // engines may know whole seconds only
	}
	return l.since
}

func (l *Logs) open(ctx context.Context, since time.Time, follow bool) (io.ReadCloser, error) {
	o := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Timestamps: true}
	if !since.IsZero() {
		o.Since = since.Format(time.RFC3339Nano)
	}
	body, err := l.c.e.api.ContainerLogs(ctx, l.c.ID, o)
	if err != nil {
		return nil, fmt.Errorf("read output of container %s: %w", l.c.Name, wrap(err))
	}
	return body, nil
}

func (l *Logs) read(ctx context.Context, since time.Time, follow bool) error {
	body, err := l.open(ctx, since, follow)
	if err != nil {
		return err
	}
	defer body.Close()
	l.again = l.before
	for _, s := range l.out {
		s.resume()
	}
	if _, err := stdcopy.StdCopy(l.out[0], l.out[1], body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read output of container %s: %w", l.c.Name, wrap(err))
	}
	return nil
}

// stripper removes the timestamp of each message and drops messages that were written before, by an
// earlier read or by this one: engines repeat messages when they rotate a log that is followed. Engines put
// one message into one frame, which arrives as one Write.
//
// Podman 4 has whole seconds, so many messages have the same time and are told apart by their text. Counting them
// would not suffice, since a log that was replaced has lost the first of them.
type stripper struct {
	w       io.Writer
	mu      *sync.Mutex
	flowed  *atomic.Int64
	from    time.Time // the time after which it writes
	before  *int      // messages of that instant, in both streams, that are still to be dropped
	last    time.Time // of the newest message written
	written int       // messages of that time that were written
	same    []uint64  // hashes of the newest of these
	seed    maphash.Seed
	skip    time.Time      // messages before it were written by an earlier read
	skipAll bool           // and all of that time, too
	again   map[uint64]int // hashes of messages of that time that were written and may come again
	recent  []int64        // times of the newest messages written, ascending, ns
	rewound bool           // the engine repeats messages that were written
}

// recentKept is more messages than a rotated log contains.
const recentKept = 1 << 16

// more than the number of messages at any one time.
const all = math.MaxInt

// newStripper makes a stripper that drops messages up to and including since.
func newStripper(w io.Writer, mu *sync.Mutex, since time.Time) *stripper {
	return &stripper{w: w, mu: mu, from: since, last: since, written: all, seed: maphash.MakeSeed(), flowed: new(atomic.Int64), before: new(int)}
}

func (s *stripper) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skip, s.skipAll, s.again = s.last, s.written == all, map[uint64]int{}
	for _, sum := range s.same {
		s.again[sum]++
	}
}

func (s *stripper) at() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// writtenAt counts the messages of that instant that were written.
func (s *stripper) writtenAt(t time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.Equal(t) {
		return 0
	}
	return s.written
}

func (s *stripper) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flowed.Add(1)
	t, text := splitStamp(p)
	sum := maphash.Bytes(s.seed, text)
	if !t.IsZero() && s.isOld(t, sum) {
		return len(p), nil
	}
	if _, err := s.w.Write(text); err != nil {
		return 0, err
	}
	if !t.IsZero() {
		s.note(t, sum)
	}
	return len(p), nil
}

func (s *stripper) isOld(t time.Time, sum uint64) bool {
	if t.Equal(s.from) && *s.before > 0 {
		*s.before--
		return true
	}
	if t.Equal(s.skip) && (s.skipAll || s.again[sum] > 0) {
		s.again[sum]--
		return true
	}
	if t.Before(s.skip) {
		return true
	}
	if t.Equal(s.last) && !s.rewound {
		return false // parts of one long line have the same time
	}
	_, known := slices.BinarySearch(s.recent, t.UnixNano())
	s.rewound = known && t.Nanosecond() != 0
	return s.rewound
}

func (s *stripper) note(t time.Time, sum uint64) {
	switch {
	case t.Equal(s.last) && s.written != all:
		s.written++
	case !t.Equal(s.last):
		s.written, s.same = 1, s.same[:0]
	}
	s.same = newest(s.same, sum)
	if t.Before(s.last) { // the computer's clock was set back
		s.recent = s.recent[:0]
	}
	s.last, s.recent = t, newest(s.recent, t.UnixNano())
}

// newest appends and keeps only the newest entries.
func newest[T any](list []T, next T) []T {
	if len(list) == recentKept {
		list = append(list[:0], list[recentKept/2:]...)
	}
	return append(list, next)
}

// splitStamp returns the time that a message begins with, zero for none.
func splitStamp(p []byte) (time.Time, []byte) {
	if stamp, rest, ok := bytes.Cut(p, []byte(" ")); ok {
		if t, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
			return t, rest
		}
	}
	return time.Time{}, p
}
