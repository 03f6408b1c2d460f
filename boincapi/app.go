package boincapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options says how Start works; the zero value is right for a normal app.
type Options struct {
	Dir       string        // slot directory; "" is the current one
	LockRetry time.Duration // wait before the second and last try for the lock; 0 means 35 s, negative no second try
	Sporadic  bool          // keep the files "ac" and "ca" in Dir, as BOINC's sporadic apps do
}

// Status is what the client wants, as far as it has said.
type Status struct {
	Suspended        bool
	Quit             bool // sticky
	Abort            bool // sticky
	ClientLost       bool // sticky
	Heartbeats       int  // seen so far; 0: nothing is known about the network yet
	NetworkSuspended bool
	Reread           int // times that the client asked to read init_data.xml again
	TrickleDown      int // times that a trickle-down message was announced
	UploadStatus     int // times that an intermediate upload's end was announced
	SporadicCA       int
	WSS, MaxWSS      float64 // bytes: measured by the client, and allowed to BOINC
}

// Report is what the client should know of the job.
type Report struct {
	CPU, CheckpointCPU float64 // s, over all episodes; both are always sent
	Fraction           float64 // 0..1; <= 0 means not known and is left out
	RSS                float64 // bytes
	RSSKnown           bool    // send RSS even if it is 0, which tells the client to measure itself
	WantNetwork        bool
	OtherPID           int // a process that the client counts, and kills when the app ends; 0 for none
	SporadicAC         int
}

// App is a running app of the BOINC client. All methods are safe for concurrent use.
type App struct {
	dir        string
	standalone bool
	initData   InitData
	status     chan Status
	stop       chan struct{}
	running    sync.WaitGroup // the goroutines that Close waits for

	ending sync.Mutex // held around Finish and TemporaryExit
	ended  bool

	flushing  sync.Mutex // held around Flush
	trickling sync.Mutex // held around SendTrickleUp; never a.mu around I/O, which listen needs

	mu     sync.Mutex // guards what follows
	closed bool
	lock   *slotLock // nil if not held

	segment    []byte // nil in standalone mode, after Close and when the client is lost
	detach     func() error
	state      Status
	told       Status         // the last one put in status
	silentFor  int            // ticks since the last heartbeat
	unknown    map[int]string // text of an unintelligible message by channel, kept for a second look
	report     Report         // newest
	unsent     bool           // report is newer than what the client was sent
	sentWord   uint32         // first word of the last app_status, for recall
	sentAgo    int            // ticks since then
	recalling  bool           // Flush is between its recall and its new message: nobody else may send a status
	trickleUp  bool           // notices that have not found room yet
	upload     bool
	graphics   []string // graphics_reply messages that have not found room yet
	sporadicAC int

	checkpoint checkpointTimer
}

const (
	tick           = 100 * time.Millisecond
	ticksPerSecond = int(time.Second / tick)

	lockRetry        = 35 * time.Second
	clientCheckTicks = 10 * ticksPerSecond
	heartbeatTimeout = 30 * ticksPerSecond // for clients that don't tell their process ID

	// readGrace is enough for a reader that has begun to copy a message of 1 KiB to be done with it.
	readGrace = 2 * time.Millisecond
)

// Start makes this process the app of a slot: it takes the slot's lock, reads init_data.xml, attaches
// the shared segment, and begins to listen to the client. Without init_data.xml the app is standalone.
// ctx bounds the waiting in Start only.
//
// Errors: ErrLocked (another instance holds the slot), *InitDataError (init_data.xml is there but
// can't be used, even after a second, since the client rewrites it in place; it wraps a *ForgedError
// where that will not change), ErrNoSegment (the segment can't be attached). The App that is returned
// with an error never hears the client, but can Finish or TemporaryExit, and must be closed.
func Start(ctx context.Context, o Options) (*App, error) {
	a := &App{
		dir:     o.Dir,
		status:  make(chan Status, 1),
		stop:    make(chan struct{}),
		unknown: make(map[int]string),
		sentAgo: ticksPerSecond,
	}
	runtime.KeepAlive(apiVersion)
	if a.dir == "" {
		a.dir = "."
	}
	// The lock comes first: while a lost client's app is still there, its messages are not ours.
	if err := a.takeLock(ctx, o.LockRetry); err != nil {
		return a, err
	}
	var err error
	a.initData, a.standalone, err = readInitData(ctx, a.dir, false)
	if err != nil && !a.standalone {
		return a, err
	}
	a.report = Report{CPU: a.initData.WUCPUTime, CheckpointCPU: a.initData.WUCPUTime}
	a.checkpoint.start(a.initData.CheckpointPeriod)
	if o.Sporadic {
		files, err := openSporadic(a.dir)
		if err != nil {
			return a, err
		}
		a.running.Go(func() { a.exchange(files) })
	}
	if a.standalone {
		return a, nil
	}
	segment, detach, err := attachSegment(a.dir, a.initData)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrNoSegment, err)
	}
	a.mu.Lock()
	a.segment, a.detach = segment, detach
	a.mu.Unlock()
	a.running.Go(a.listen)
	return a, nil
}

func (a *App) takeLock(ctx context.Context, retry time.Duration) (err error) {
	a.lock, err = lockSlot(a.dir)
	if !errors.Is(err, ErrLocked) || retry < 0 {
		return err
	}
	if retry == 0 {
		retry = lockRetry
	}
	if !sleep(ctx, retry) {
		return errors.Join(err, ctx.Err())
	}
	a.lock, err = lockSlot(a.dir)
	return err
}

// readInitData tries for a second to get a whole file: the client rewrites it by removing it and writing a
// new one. Unless the file is expected or was seen, it is taken for missing after a tenth of that.
func readInitData(ctx context.Context, dir string, expected bool) (d InitData, missing bool, err error) {
	path := filepath.Join(dir, InitDataFile)
	for try := range 10 {
		if d, err = parseInitFile(path); err == nil {
			return d, false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			expected = true
		}
		if try == 1 && !expected {
			return InitData{}, true, err
		}
		if !sleep(ctx, tick) {
			err = errors.Join(err, ctx.Err())
			break
		}
	}
	return InitData{}, false, &InitDataError{Path: path, Err: err}
}

func parseInitFile(path string) (InitData, error) {
	f, err := os.Open(path)
	if err != nil {
		return InitData{}, err
	}
	defer f.Close()
	return ParseInitData(f)
}

// sleep reports whether it could sleep to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Standalone reports whether there is no client: nothing is heard, reports go nowhere, and notices are
// dropped. Finish works.
func (a *App) Standalone() bool { return a.standalone }

// InitData is init_data.xml as it was at Start; the zero value in standalone mode.
func (a *App) InitData() InitData { return a.initData }

// RereadInitData reads init_data.xml again, as the client asks for by Status.Reread. It takes up to a
// second if the client is just writing it. WUCPUTime stays that of Start: the new file counts the CPU
// time of this episode's checkpoints, too, and would make it count twice. With an error comes the
// InitData of Start.
func (a *App) RereadInitData() (InitData, error) {
	d, _, err := readInitData(context.Background(), a.dir, true)
	if err != nil {
		return a.initData, err
	}
	d.WUCPUTime = a.initData.WUCPUTime
	d.StartingElapsedTime = a.initData.StartingElapsedTime
	a.checkpoint.setPreference(d.CheckpointPeriod)
	return d, nil
}

// Status delivers what the client wants, whenever something in it has changed. It is a level: an unread
// value is replaced by a newer one. The channel is never closed.
func (a *App) Status() <-chan Status { return a.status }

// Report says how far the job is. The newest report is sent when the client has read the one before,
// at most once a second. Report never blocks.
//
// CPU times never go back and are never less than WUCPUTime in what is sent.
func (a *App) Report(r Report) {
	a.changeReport(func(newest *Report) { *newest = r })
}

func (a *App) changeReport(change func(*Report)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.report
	change(&r)
	a.report = r.after(a.report)
	a.unsent = true
}

// Flush puts the newest report in the channel now, in place of an older one that the client has not
// read: the client reads once more after the app has exited, and should see the last numbers then. If
// ctx is done it does nothing.
func (a *App) Flush(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.segment == nil || !a.unsent {
		return
	}
	// Only the receiver clears a channel's flag, but we can take back what we put in: if the first
	// word still is what we stored, the client has not read the message, and swapping in an empty flag
	// takes it out of its sight. A client that has seen the flag just before is copying the old text,
	// less than 1 KiB, and then clears the flag that is already clear; we give it time, so that it
	// neither reads a mixture nor clears the flag of the new message. If the swap fails it has read
	// the message, and there is room.
	if a.sentWord != 0 && channelOf(a.segment, statusChannel).recall(a.sentWord) {
		a.recalling = true
		a.mu.Unlock()
		time.Sleep(readGrace)
		a.mu.Lock()
		a.recalling = false
	}
	if a.segment != nil {
		a.sendStatus()
	}
}

// Deliver is Flush, and waits until the client has read the report or ctx ends. It reports whether the client has. A client
// that ends reads nothing after it has asked its apps to quit.
//
// Source: CLIENT_STATE::quit_activities in BOINC's client/client_state.cpp, ACTIVE_TASK_SET::wait_for_exit in
// client/app_control.cpp.
func (a *App) Deliver(ctx context.Context) bool {
	a.Flush(ctx)
	for {
		a.mu.Lock()
		lost := a.segment == nil
		read := !lost && !a.unsent && !channelOf(a.segment, statusChannel).full()
		a.mu.Unlock()
		if read || lost || !sleep(ctx, tick) {
			return read
		}
	}
}

// sendStatus needs a.mu and a segment.
func (a *App) sendStatus() {
	r, d := a.report, a.initData
	if r.Fraction > 0 && d.FractionDoneEnd > d.FractionDoneStart {
		r.Fraction = d.FractionDoneStart + r.Fraction*(d.FractionDoneEnd-d.FractionDoneStart)
	}
	if a.sporadicAC != 0 {
		r.SporadicAC = a.sporadicAC
	}
	if word, ok := channelOf(a.segment, statusChannel).send(r.message()); ok {
		a.sentWord, a.sentAgo, a.unsent = word, 0, false
	}
}

// SetWebGraphicsURL tells the client where a browser sees the app's graphics. The URL has up to 255
// bytes, the rest is cut off, and no "<". It is tried until the client has room for it. A restarted
// client doesn't remember: call it at each start.
func (a *App) SetWebGraphicsURL(url string) { a.tellGraphics("web_graphics_url", url) }

// SetRemoteDesktopAddr tells the client HOST:PORT of the app's remote desktop, up to 255 bytes.
func (a *App) SetRemoteDesktopAddr(addr string) { a.tellGraphics("remote_desktop_addr", addr) }

// tellGraphics replaces what has not been sent yet.
func (a *App) tellGraphics(tag, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.segment == nil {
		return
	}
	a.graphics = slices.DeleteFunc(a.graphics, func(message string) bool {
		return strings.HasPrefix(message, "<"+tag+">")
	})
	a.graphics = append(a.graphics, graphicsMessage(tag, value))
}

// listen is the goroutine that hears the client. It does no I/O but to the shared segment, so that no
// slow disk keeps it: a client whose messages are not read for 180 s kills the app.
func (a *App) listen() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-a.stop:
			return
		case <-t.C:
		}
		if !a.poll(n) {
			return
		}
	}
}

// poll is the nth tick. Time is counted in ticks: while the computer sleeps, no heartbeat is missed.
// It reports false when the client is lost.
func (a *App) poll(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.segment == nil {
		return false
	}
	beats := a.state.Heartbeats
	a.receive(controlChannel, a.state.control)
	a.receive(heartbeatChannel, a.state.heartbeat)
	a.receive(trickleDownChannel, a.state.notices)
	if a.silentFor++; a.state.Heartbeats != beats {
		a.silentFor = 0
	}
	if n%clientCheckTicks == 0 && a.initData.ClientPID != 0 && !processExists(a.initData.ClientPID) ||
		a.initData.ClientPID == 0 && a.silentFor >= heartbeatTimeout {
		// A new client may use the same segment for a new app from now on.
		a.state.ClientLost = true
		a.detachSegment()
	}
	a.tell()
	if a.segment == nil {
		return false
	}
	a.sentAgo++
	if a.unsent && !a.recalling && a.sentAgo >= ticksPerSecond {
		a.sendStatus()
	}
	a.sendNotices()
	return true
}

// receive takes the message of a channel. What nobody understands gets a second look at the next tick,
// since a client on a processor that reorders stores may show a flag before the text.
func (a *App) receive(number int, understand func(text string) bool) {
	c := channelOf(a.segment, number)
	text, ok := c.peek()
	if !ok {
		return
	}
	if !understand(text) {
		if before, seen := a.unknown[number]; !seen || before != text {
			a.unknown[number] = text
			return
		}
	}
	delete(a.unknown, number)
	c.take()
}

// tell replaces what is in the status channel.
func (a *App) tell() {
	if a.state == a.told {
		return
	}
	a.told = a.state
	select {
	case <-a.status:
	default:
	}
	a.status <- a.state
}

// sendNotices sends what has room.
func (a *App) sendNotices() {
	if a.trickleUp || a.upload {
		text := ""
		if a.trickleUp {
			text += trickleUpMsg
		}
		if a.upload {
			text += uploadMsg
		}
		if _, ok := channelOf(a.segment, trickleUpChannel).send(text); ok {
			a.trickleUp, a.upload = false, false
		}
	}
	if len(a.graphics) > 0 {
		if _, ok := channelOf(a.segment, graphicsChannel).send(a.graphics[0]); ok {
			a.graphics = a.graphics[1:]
		}
	}
}

// awaitNotices waits until all notices have found room, for at most limit.
func (a *App) awaitNotices(limit time.Duration) {
	for waited := time.Duration(0); ; waited += tick {
		a.mu.Lock()
		if a.segment != nil {
			a.sendNotices()
		}
		waiting := a.segment != nil && (a.trickleUp || a.upload || len(a.graphics) > 0)
		a.mu.Unlock()
		if !waiting || waited >= limit {
			return
		}
		time.Sleep(tick)
	}
}

// detachSegment needs a.mu.
func (a *App) detachSegment() error {
	if a.segment == nil {
		return nil
	}
	a.segment = nil
	return a.detach()
}

// Close stops listening, detaches the segment and gives up the slot's lock. It may be called more than
// once. To the client, an app that exits with code 0 after Close alone is to be started again.
func (a *App) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	close(a.stop)
	err := a.detachSegment()
	a.mu.Unlock()
	a.running.Wait()
	if a.lock != nil {
		err = errors.Join(err, a.lock.release())
	}
	return err
}
