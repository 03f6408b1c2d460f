//go:build unix

package boincapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain lets the test binary be the other process of a test.
func TestMain(m *testing.M) {
	switch os.Getenv("BOINCAPI_TEST_AS") {
	case "holder": // of the lock, until its standard input ends
		if _, err := lockSlot("."); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	case "crasher":
		if err := RedirectStderr("."); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		panic("crash for the record")
	}
	os.Exit(m.Run())
}

func testAs(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BOINCAPI_TEST_AS="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// endedProcess is the ID of a process that does not exist.
func endedProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// slotWith makes a slot with an init_data.xml and a segment file.
func slotWith(t *testing.T, elements string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	writeFile(t, filepath.Join(dir, InitDataFile), "<app_init_data>\n"+elements+"</app_init_data>\n")
	writeFile(t, filepath.Join(dir, MmapFile), string(make([]byte, segmentSize)))
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// startIn starts an app and gives the segment as the client sees it, through a mapping of its own.
func startIn(t *testing.T, dir string, o Options) (*App, []byte) {
	t.Helper()
	o.Dir = dir
	app, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	segment, detach, err := attachSegment(dir, InitData{ShmKey: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { detach() })
	return app, segment
}

func alive() string { return fmt.Sprintf("<client_pid>%d</client_pid>\n", os.Getpid()) }

// newest drains the status channel, after d.
func newest(t *testing.T, app *App, d time.Duration) Status {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	select {
	case st := <-app.Status():
		return st
	default:
		t.Fatal("got no status, want a new one")
		return Status{}
	}
}

func noStatus(t *testing.T, app *App, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	select {
	case st := <-app.Status():
		t.Fatalf("got status %+v, want none", st)
	default:
	}
}

func TestStandalone(t *testing.T) {
	dir := t.TempDir()
	app, err := Start(t.Context(), Options{Dir: dir})
	if err != nil || !app.Standalone() {
		t.Fatalf("got %v, standalone %v, want standalone", err, app.Standalone())
	}
	app.Report(Report{CPU: 1})
	app.SetWebGraphicsURL("http://localhost")
	if err := app.SendTrickleUp("v", "text"); err != nil {
		t.Errorf("trickle-up: got %v, want it dropped", err)
	}
	if err := app.UploadFile("out"); err != nil {
		t.Errorf("upload: got %v, want it dropped", err)
	}
	if err := app.Finish(0, ""); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{FinishFileName}) {
		t.Errorf("got files %v, want the finish file alone", got)
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStartErrors(t *testing.T) {
	t.Run("init_data.xml stays broken", func(t *testing.T) {
		dir := slotWith(t, "")
		writeFile(t, filepath.Join(dir, InitDataFile), "<app_init_data>")
		synctest.Test(t, func(t *testing.T) {
			app, err := Start(t.Context(), Options{Dir: dir})
			var broken *InitDataError
			if !errors.As(err, &broken) || app.Standalone() {
				t.Errorf("got %v, standalone %v, want an *InitDataError", err, app.Standalone())
			}
			if err := app.TemporaryExit(time.Minute, "broken", false); err != nil {
				t.Errorf("temporary exit after it: got %v, want no error", err)
			}
		})
		if got := names(t, dir); slices.Contains(got, LockFile) || !slices.Contains(got, TemporaryExitFile) {
			t.Errorf("got files %v, want %s and no %s", got, TemporaryExitFile, LockFile)
		}
	})
	t.Run("init_data.xml is being written", func(t *testing.T) {
		dir := slotWith(t, "")
		path := filepath.Join(dir, InitDataFile)
		whole := readFile(t, path)
		writeFile(t, path, whole[:20])
		synctest.Test(t, func(t *testing.T) {
			time.AfterFunc(500*time.Millisecond, func() { writeFile(t, path, whole) })
			app, err := Start(t.Context(), Options{Dir: dir})
			if err != nil {
				t.Errorf("got %v, want no error", err)
			}
			app.Close()
		})
	})
	t.Run("init_data.xml goes away while it is broken", func(t *testing.T) {
		dir := slotWith(t, "")
		path := filepath.Join(dir, InitDataFile)
		writeFile(t, path, "<app_init_data>")
		synctest.Test(t, func(t *testing.T) {
			time.AfterFunc(150*time.Millisecond, func() { os.Remove(path) })
			app, err := Start(t.Context(), Options{Dir: dir})
			var broken *InitDataError
			if !errors.As(err, &broken) || app.Standalone() {
				t.Errorf("got %v, standalone %v, want an *InitDataError: there is a client", err, app.Standalone())
			}
			app.Close()
		})
	})
	t.Run("interrupted before init_data.xml was looked for twice", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		app, err := Start(ctx, Options{Dir: t.TempDir()})
		if !errors.Is(err, context.Canceled) || app.Standalone() {
			t.Errorf("got %v, standalone %v, want context.Canceled", err, app.Standalone())
		}
		app.Close()
	})
	for _, c := range []struct{ name, size string }{{"no segment", ""}, {"segment too small", "short"}} {
		t.Run(c.name, func(t *testing.T) {
			dir := slotWith(t, alive())
			if c.size == "" {
				os.Remove(filepath.Join(dir, MmapFile))
			} else {
				writeFile(t, filepath.Join(dir, MmapFile), c.size)
			}
			app, err := Start(t.Context(), Options{Dir: dir})
			if !errors.Is(err, ErrNoSegment) || app.Standalone() {
				t.Errorf("got %v, standalone %v, want ErrNoSegment", err, app.Standalone())
			}
			if err := app.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("no slot", func(t *testing.T) {
		if _, err := Start(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	})
}

func TestLock(t *testing.T) {
	hold := func(t *testing.T, dir string) (release func()) {
		cmd := testAs(t, "holder", dir)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 6)
		if _, err := stdout.Read(b); err != nil || string(b) != "locked" {
			t.Fatalf("holder says %q, %v", b, err)
		}
		release = sync.OnceFunc(func() { stdin.Close(); cmd.Wait() })
		t.Cleanup(release)
		return release
	}
	t.Run("held, one try", func(t *testing.T) {
		dir := slotWith(t, alive())
		hold(t, dir)
		app, err := Start(t.Context(), Options{Dir: dir, LockRetry: -1})
		if !errors.Is(err, ErrLocked) {
			t.Fatalf("got %v, want ErrLocked", err)
		}
		if err := app.TemporaryExit(600*time.Second, "Waiting", false); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, filepath.Join(dir, TemporaryExitFile)); got != "600\nWaiting\n" {
			t.Errorf("got %q, want a temporary exit", got)
		}
		if !slices.Contains(names(t, dir), LockFile) {
			t.Error("the other instance's lock file is gone")
		}
	})
	t.Run("held for ever", func(t *testing.T) {
		dir := slotWith(t, alive())
		hold(t, dir)
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			app, err := Start(t.Context(), Options{Dir: dir})
			if got := time.Since(begin); !errors.Is(err, ErrLocked) || got != 35*time.Second {
				t.Errorf("got %v after %v, want ErrLocked after 35s", err, got)
			}
			app.Close()
		})
	})
	t.Run("waiting is interrupted", func(t *testing.T) {
		dir := slotWith(t, alive())
		hold(t, dir)
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := Start(ctx, Options{Dir: dir})
			if !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want ErrLocked and context.DeadlineExceeded", err)
			}
		})
	})
	t.Run("given up in time", func(t *testing.T) {
		dir := slotWith(t, alive())
		release := hold(t, dir)
		release()
		app, err := Start(t.Context(), Options{Dir: dir, LockRetry: -1})
		if err != nil {
			t.Fatalf("the file alone is no lock: got %v, want no error", err)
		}
		app.Close()
		if slices.Contains(names(t, dir), LockFile) {
			t.Error("the lock file is still there after Close")
		}
	})
}

func TestStatusIsALevel(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		defer app.Close()
		control, beat := channelOf(segment, controlChannel), channelOf(segment, heartbeatChannel)
		noStatus(t, app, time.Second)

		control.send(suspendMsg)
		if got := newest(t, app, 100*time.Millisecond); got != (Status{Suspended: true}) {
			t.Errorf("after suspend: got %+v, want suspended", got)
		}
		control.send(suspendMsg)
		noStatus(t, app, time.Second)

		control.send(resumeMsg)
		beat.send("<heartbeat/><wss>5</wss>")
		time.Sleep(time.Second)
		control.send(quitMsg)
		if got, want := newest(t, app, time.Second), (Status{Quit: true, Heartbeats: 1, WSS: 5}); got != want {
			t.Errorf("newest: got %+v, want %+v", got, want)
		}
		channelOf(segment, trickleDownChannel).send(trickleDownMsg)
		if got := newest(t, app, time.Second); got.TrickleDown != 1 || !got.Quit {
			t.Errorf("got %+v, want a trickle-down notice and still quit", got)
		}
	})
}

func TestUnintelligibleMessageIsLookedAtTwice(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		defer app.Close()
		control := channelOf(segment, controlChannel)
		control.send("<susp")
		noStatus(t, app, 100*time.Millisecond)
		if !control.full() {
			t.Fatal("the message is gone at once")
		}
		copy(control[1:], suspendMsg+"\x00")
		if got := newest(t, app, 100*time.Millisecond); !got.Suspended {
			t.Errorf("got %+v, want suspended", got)
		}
		control.send("nonsense")
		noStatus(t, app, 200*time.Millisecond)
		if control.full() {
			t.Error("nonsense blocks the channel")
		}
	})
}

func TestLostClient(t *testing.T) {
	gone := endedProcess(t)
	for _, c := range []struct {
		name     string
		elements string
		beats    bool // for the first 20 s
		lost     time.Duration
	}{
		{"process is gone", fmt.Sprintf("<client_pid>%d</client_pid>\n", gone), true, 10 * time.Second},
		{"another user's process", "<client_pid>1</client_pid>\n", false, 0},
		{"silent but alive", alive(), false, 0},
		{"unknown process, silent", "<client_pid>0</client_pid>\n", false, 30 * time.Second},
		{"unknown process, silent later", "", true, 50 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := slotWith(t, c.elements)
			synctest.Test(t, func(t *testing.T) {
				app, segment := startIn(t, dir, Options{})
				defer app.Close()
				var lost time.Duration
				for ms := 100; ms <= 600_000 && lost == 0; ms += 100 {
					if c.beats && ms <= 20_000 {
						channelOf(segment, heartbeatChannel).send(heartbeatMsg)
					}
					time.Sleep(tick)
					synctest.Wait()
					select {
					case st := <-app.Status():
						if st.ClientLost {
							lost = time.Duration(ms) * time.Millisecond
						}
					default:
					}
				}
				if lost != c.lost {
					t.Errorf("lost after %v, want %v (0 is never)", lost, c.lost)
				}
				if lost > 0 {
					channelOf(segment, controlChannel).send(quitMsg)
					app.Report(Report{CPU: 5})
					app.Flush(t.Context())
					noStatus(t, app, time.Minute)
					if !channelOf(segment, controlChannel).full() || channelOf(segment, statusChannel).full() {
						t.Error("the segment was touched after the client was lost")
					}
				}
			})
		})
	}
}

func TestReports(t *testing.T) {
	dir := slotWith(t, alive()+"<wu_cpu_time>100</wu_cpu_time>\n<fraction_done_start>0.5</fraction_done_start>\n")
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		defer app.Close()
		status := channelOf(segment, statusChannel)
		read := func(d time.Duration) string {
			time.Sleep(d)
			synctest.Wait()
			text, ok := status.peek()
			if !ok {
				return "none"
			}
			status.take()
			return text
		}
		message := func(cpu, checkpoint, fraction float64) string {
			return Report{CPU: cpu, CheckpointCPU: checkpoint, Fraction: fraction}.message()
		}
		check := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		check("nothing reported", read(5*time.Second), "none")
		app.Report(Report{CPU: 1})
		check("less than before this episode", read(tick), message(100, 100, 0))
		app.Report(Report{CPU: 110, CheckpointCPU: 105, Fraction: .5})
		check("within a second", read(800*time.Millisecond), "none")
		check("after a second, fraction scaled", read(200*time.Millisecond), message(110, 105, .75))
		check("nothing new", read(5*time.Second), "none")

		app.Report(Report{CPU: 120, CheckpointCPU: 105})
		time.Sleep(tick)
		synctest.Wait()
		app.Report(Report{CPU: 121, CheckpointCPU: 105})
		app.Report(Report{CPU: 122, CheckpointCPU: 105})
		check("unread one is not overwritten", read(3*time.Second), message(120, 105, 0))
		check("the newest comes next", read(tick), message(122, 105, 0))

		app.Report(Report{CPU: 130, CheckpointCPU: 105})
		time.Sleep(time.Second)
		synctest.Wait()
		app.Report(Report{CPU: 131, CheckpointCPU: 105})
		app.Flush(t.Context())
		check("flush replaces the unread one", read(0), message(131, 105, 0))
		app.Flush(t.Context())
		check("flush without news", read(0), "none")
		app.Report(Report{CPU: 132, CheckpointCPU: 105})
		app.Flush(t.Context())
		check("flush into an empty channel", read(0), message(132, 105, 0))
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		app.Report(Report{CPU: 133, CheckpointCPU: 105})
		app.Flush(cancelled)
		check("flush when cancelled", read(0), "none")

		deliver := func(limit time.Duration) chan bool {
			done := make(chan bool, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				done <- app.Deliver(ctx)
			}()
			return done
		}
		done := deliver(3 * time.Second)
		check("delivered", read(time.Second), message(133, 105, 0))
		if !<-done {
			t.Error("got not delivered, though it was read")
		}
		app.Report(Report{CPU: 134, CheckpointCPU: 134})
		if <-deliver(3 * time.Second) {
			t.Error("got delivered, though nobody has read it")
		}
		check("not read before the limit", read(0), message(134, 134, 0))
	})
}

func TestFlushAgainstAReader(t *testing.T) {
	// A client that reads as fast as it can never sees a CPU time go back, nor a mixture; and the last one arrives.
	app, segment := startIn(t, slotWith(t, alive()), Options{})
	status := channelOf(segment, statusChannel)
	stop := make(chan struct{})
	var last string
	var reader sync.WaitGroup
	var seen float64
	take := func() {
		text, ok := status.peek()
		if !ok {
			return
		}
		status.take()
		cpu, _ := numberIn(text, "current_cpu_time")
		if want := (Report{CPU: cpu, CheckpointCPU: cpu}).message(); text != want || cpu < seen {
			t.Errorf("after %v: got %q, want %q", seen, text, want)
		}
		seen, last = cpu, text
	}
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				take()
			}
		}
	})
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for range 100 {
				app.changeReport(func(r *Report) { r.CPU++; r.CheckpointCPU++ })
				app.Flush(t.Context())
			}
		})
	}
	writers.Wait()
	close(stop)
	reader.Wait()
	app.changeReport(func(*Report) {})
	app.Flush(t.Context())
	take()
	if want := (Report{CPU: 200, CheckpointCPU: 200}).message(); last != want {
		t.Errorf("last: got %q, want %q", last, want)
	}
}

func TestCheckpointCountdown(t *testing.T) {
	type step struct {
		after time.Duration
		do    func(*App)
		want  bool
	}
	nothing := func(*App) {}
	for _, c := range []struct {
		name, elements string
		steps          []step
	}{
		{"the volunteer's period", "<checkpoint_period>60.9</checkpoint_period>\n", []step{
			{0, nothing, false}, {59 * time.Second, nothing, false}, {time.Second, nothing, true}, {time.Hour, nothing, true},
			{0, (*App).CheckpointCompleted, false}, {60 * time.Second, nothing, true}}},
		{"five minutes by default", "", []step{{299 * time.Second, nothing, false}, {time.Second, nothing, true}}},
		{"a longer minimum raises the countdown", "<checkpoint_period>60</checkpoint_period>\n", []step{
			{30 * time.Second, func(a *App) { a.SetMinCheckpointPeriod(100 * time.Second) }, false},
			{99 * time.Second, nothing, false}, {time.Second, nothing, true},
			{0, (*App).CheckpointCompleted, false}, {99 * time.Second, nothing, false}, {time.Second, nothing, true}}},
		{"a shorter minimum changes nothing", "<checkpoint_period>60</checkpoint_period>\n", []step{
			{0, func(a *App) { a.SetMinCheckpointPeriod(time.Second) }, false}, {59 * time.Second, nothing, false}, {time.Second, nothing, true}}},
		{"the job's period, from the start", "<checkpoint_period>60</checkpoint_period>\n", []step{
			{30 * time.Second, func(a *App) { a.SetCheckpointPeriod(20 * time.Second) }, true},
			{0, (*App).CheckpointCompleted, false}, {20 * time.Second, nothing, true},
			{0, func(a *App) { a.SetCheckpointPeriod(0) }, false}, {40 * time.Second, nothing, true}}},
		{"suspension does not stop it", "<checkpoint_period>60</checkpoint_period>\n", []step{
			{0, func(a *App) { channelOf(a.segment, controlChannel).send(suspendMsg) }, false}, {60 * time.Second, nothing, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := slotWith(t, alive()+c.elements)
			synctest.Test(t, func(t *testing.T) {
				app, _ := startIn(t, dir, Options{})
				defer app.Close()
				for i, s := range c.steps {
					time.Sleep(s.after)
					s.do(app)
					if got := app.TimeToCheckpoint(); got != s.want {
						t.Errorf("step %d: got %v, want %v", i, got, s.want)
					}
				}
			})
		})
	}
}

func TestRereadInitData(t *testing.T) {
	dir := slotWith(t, alive()+"<wu_cpu_time>10</wu_cpu_time>\n<checkpoint_period>60</checkpoint_period>\n")
	path := filepath.Join(dir, InitDataFile)
	synctest.Test(t, func(t *testing.T) {
		app, _ := startIn(t, dir, Options{})
		defer app.Close()
		writeFile(t, path, "<app_init_data>\n<wu_cpu_time>99</wu_cpu_time>\n<ncpus>3</ncpus>\n<checkpoint_period>600</checkpoint_period>\n</app_init_data>\n")
		d, err := app.RereadInitData()
		if err != nil || d.WUCPUTime != 10 || d.NCPUs != 3 {
			t.Errorf("got %v, CPU time %v, %v cores, want no error, 10, 3", err, d.WUCPUTime, d.NCPUs)
		}
		if got := app.InitData().NCPUs; got != 0 {
			t.Errorf("InitData: got %v cores, want those of the start", got)
		}
		app.CheckpointCompleted()
		time.Sleep(time.Minute)
		if app.TimeToCheckpoint() {
			t.Error("the new checkpoint period is not used")
		}
		os.Remove(path)
		if d, err := app.RereadInitData(); err == nil || d.WUCPUTime != 10 {
			t.Errorf("missing: got %v, CPU time %v, want an error and the data of the start", err, d.WUCPUTime)
		}
	})
}

func TestNotices(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		defer app.Close()
		read := func(number int) string {
			time.Sleep(tick)
			synctest.Wait()
			c := channelOf(segment, number)
			text, _ := c.peek()
			c.take()
			return text
		}
		for _, variety := range []string{"", "a<b", "a\nb", "a\tb", "a\x1bb", "a\u0085"} {
			if err := app.SendTrickleUp(variety, ""); err == nil {
				t.Errorf("variety %q: got no error, want one", variety)
			}
		}
		if err := app.SendTrickleUp("news", "<a>1</a>\x00\x1b"); err != nil {
			t.Fatal(err)
		}
		if got, want := readFile(t, filepath.Join(dir, TrickleUpFile)), "<variety>news</variety>\n<a>1</a>??"; got != want {
			t.Errorf("trickle-up file: got %q, want %q", got, want)
		}
		if err := app.SendTrickleUp("news", "again"); err != ErrBusy {
			t.Errorf("second trickle-up: got %v, want ErrBusy", err)
		}
		if got := read(trickleUpChannel); got != trickleUpMsg {
			t.Errorf("got %q, want %q", got, trickleUpMsg)
		}
		os.Remove(filepath.Join(dir, TrickleUpFile))
		channelOf(segment, trickleUpChannel).send("still unread")
		if err := app.SendTrickleUp("news", "again"); err != nil {
			t.Error(err)
		}
		if err := app.UploadFile("out1"); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		if got := read(trickleUpChannel); got != "still unread" {
			t.Errorf("got %q, want the unread one", got)
		}
		if got := read(trickleUpChannel); got != trickleUpMsg+uploadMsg {
			t.Errorf("got %q, want both notices", got)
		}
		if got := readFile(t, filepath.Join(dir, "boinc_ufr_out1")); got != "" {
			t.Errorf("upload request: got %q, want an empty file", got)
		}
		app.SetWebGraphicsURL("http://localhost:1")
		app.SetRemoteDesktopAddr("localhost:2")
		for _, want := range []string{"<web_graphics_url>http://localhost:1</web_graphics_url>", "<remote_desktop_addr>localhost:2</remote_desktop_addr>"} {
			if got := read(graphicsChannel); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		for _, bad := range []string{"", "a/b", "../x"} {
			if err := app.UploadFile(bad); err == nil {
				t.Errorf("upload of %q: got no error", bad)
			}
		}
		if err := app.SendTrickleUp("a<b", ""); err == nil {
			t.Error("variety with a tag: got no error")
		}
	})
}

func TestUploadStatusAndTrickleDown(t *testing.T) {
	dir := slotWith(t, alive())
	app, _ := startIn(t, dir, Options{})
	if _, known, err := app.UploadStatus("out"); known || err != nil {
		t.Errorf("before: got %v, %v, want unknown", known, err)
	}
	writeFile(t, filepath.Join(dir, "boinc_ufs_out"), "<status>-161</status>\n")
	if status, known, err := app.UploadStatus("out"); status != -161 || !known || err != nil {
		t.Errorf("got %v, %v, %v, want -161", status, known, err)
	}
	if path, ok, err := app.ReceiveTrickleDown(); ok || err != nil {
		t.Errorf("before: got %q, %v", path, err)
	}
	writeFile(t, filepath.Join(dir, "trickle_down_1700000002"), "2")
	writeFile(t, filepath.Join(dir, "trickle_down_1700000001"), "1")
	writeFile(t, filepath.Join(dir, ".trickle_down_0"), "0")
	if path, ok, err := app.ReceiveTrickleDown(); path != filepath.Join(dir, "trickle_down_1700000001") || !ok || err != nil {
		t.Errorf("got %q, %v, %v, want the oldest", path, ok, err)
	}
}

func TestSporadicFiles(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{Sporadic: true})
		defer app.Close()
		ca, ac := filepath.Join(dir, SporadicCAFile), filepath.Join(dir, SporadicACFile)
		synctest.Wait()
		if got := readFile(t, ca); got != "1\n" {
			t.Errorf("at the start: got %q, want 1", got)
		}
		channelOf(segment, heartbeatChannel).send("<heartbeat/><sporadic_ca>3</sporadic_ca>")
		writeFile(t, ac, "2\n")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := readFile(t, ca); got != "3\n" {
			t.Errorf("granted: got %q, want 3", got)
		}
		got, _ := channelOf(segment, statusChannel).peek()
		if want := (Report{SporadicAC: 2}).message(); got != want {
			t.Errorf("status: got %q, want %q", got, want)
		}
	})
}

func TestFinish(t *testing.T) {
	for _, c := range []struct {
		name   string
		finish func(*App) error
		file   string
		want   string
	}{
		{"success", func(a *App) error { return a.Finish(0, "") }, FinishFileName, "0\n"},
		{"failure with a message", func(a *App) error { return a.Finish(1, "bad\r\nluck") }, FinishFileName, "1\nbad luck\n\n"},
		{"notice", func(a *App) error { return a.FinishNotice(197, "msg text") }, FinishFileName, "197\nmsg text\nnotice\n"},
		{"notice of nothing", func(a *App) error { return a.FinishNotice(0, "\n") }, FinishFileName, "0\n"},
		{"later", func(a *App) error { return a.TemporaryExit(600*time.Second, "no\nengine", false) }, TemporaryExitFile, "600\nno engine\n"},
		{"later, rounded up", func(a *App) error { return a.TemporaryExit(time.Millisecond, "r", false) }, TemporaryExitFile, "1\nr\n"},
		{"later, with a notice", func(a *App) error { return a.TemporaryExit(-time.Second, "r", true) }, TemporaryExitFile, "0\nr\nnotice\n"},
		{"much later", func(a *App) error { return a.TemporaryExit(1000*time.Hour, "r", false) }, TemporaryExitFile, "86400\nr\n"},
		{"a hostile message", func(a *App) error { return a.Finish(1, "\x1b[2J\u009b</message>\x00]]></result>\nnotice\n") }, FinishFileName,
			"1\n?[2J\xc2?< /message> ]] >< /result> notice\n\n"},
		{"a long message", func(a *App) error { return a.Finish(1, strings.Repeat("</", 2000)) }, FinishFileName, "1\n" + strings.Repeat("< /", 340) + "\n\n"},
		{"a hostile reason", func(a *App) error { return a.TemporaryExit(0, "</suspended_via_gui>\r<a/>\x7f", false) }, TemporaryExitFile,
			"0\n< /suspended_via_gui> < a/>?\n"},
		{"long reason", func(a *App) error { return a.TemporaryExit(0, strings.Repeat("x", 300), true) }, TemporaryExitFile, "0\n" + strings.Repeat("x", 253) + "\nnotice\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := slotWith(t, alive())
			app, _ := startIn(t, dir, Options{})
			if err := c.finish(app); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, c.file)
			if got := readFile(t, path); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o444 != 0o444 {
				t.Errorf("got %v, %v, want a file that all may read", info.Mode(), err)
			}
			if got, want := names(t, dir), slices.Sorted(slices.Values([]string{c.file, MmapFile, InitDataFile})); !slices.Equal(got, want) {
				t.Errorf("got files %v, want %v", got, want)
			}
			if err := app.Finish(0, ""); err != ErrFinished {
				t.Errorf("finish again: got %v, want ErrFinished", err)
			}
			if err := app.TemporaryExit(0, "r", false); err != ErrFinished {
				t.Errorf("temporary exit afterwards: got %v, want ErrFinished", err)
			}
		})
	}
}

func TestFinishRefuses(t *testing.T) {
	app, _ := startIn(t, slotWith(t, alive()), Options{})
	for _, code := range []int{-1, 256} {
		if err := app.Finish(code, ""); err == nil {
			t.Errorf("exit code %d: got no error", code)
		}
	}
	for _, reason := range []string{"", " \r\n"} {
		if err := app.TemporaryExit(time.Second, reason, false); err != ErrNoReason {
			t.Errorf("reason %q: got %v, want ErrNoReason", reason, err)
		}
	}
	if err := app.Finish(0, ""); err != nil {
		t.Errorf("after mistakes: got %v, want no error", err)
	}
}

func TestFinishSendsTheLastNumbers(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		app.Report(Report{CPU: 1, Fraction: .1})
		time.Sleep(time.Second)
		app.Report(Report{CPU: 2, CheckpointCPU: 1, Fraction: .2, WantNetwork: true})
		begin := time.Now()
		if err := app.Finish(0, ""); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got > 100*time.Millisecond {
			t.Errorf("finish took %v, want no waiting", got)
		}
		got, _ := channelOf(segment, statusChannel).peek()
		if want := (Report{CPU: 2, CheckpointCPU: 1, Fraction: 1}).message(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestFinishWithoutAReportKeepsEarlierEpisodes(t *testing.T) {
	app, segment := startIn(t, slotWith(t, alive()+"<wu_cpu_time>70</wu_cpu_time>\n"), Options{})
	if err := app.Finish(1, ""); err != nil {
		t.Fatal(err)
	}
	got, _ := channelOf(segment, statusChannel).peek()
	if want := (Report{CPU: 70, CheckpointCPU: 70, Fraction: 1}).message(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGraphicsNewestWins(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		defer app.Close()
		c := channelOf(segment, graphicsChannel)
		c.send("unread")
		for range 3 {
			app.SetWebGraphicsURL("old")
		}
		app.SetWebGraphicsURL(strings.Repeat("x", 300))
		time.Sleep(time.Second)
		c.take()
		time.Sleep(time.Second)
		synctest.Wait()
		if got, _ := c.peek(); got != "<web_graphics_url>"+strings.Repeat("x", 255)+"</web_graphics_url>" {
			t.Errorf("got %q, want the newest, cut to 255 bytes", got)
		}
		c.take()
		time.Sleep(time.Second)
		synctest.Wait()
		if got, ok := c.peek(); ok {
			t.Errorf("got %q, want no more", got)
		}
	})
}

func TestFinishWaitsForNoticesUpTo2s(t *testing.T) {
	dir := slotWith(t, alive())
	synctest.Test(t, func(t *testing.T) {
		app, segment := startIn(t, dir, Options{})
		channelOf(segment, trickleUpChannel).send("unread")
		if err := app.UploadFile("out"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := app.Finish(0, ""); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin).Round(tick); got != 2*time.Second {
			t.Errorf("finish took %v, want 2s", got)
		}
	})
}

func TestFinishFile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		code       int
		message    string
		found      bool
	}{
		{"code", "0\n", 0, "", true},
		{"message", "197\nmsg text\nnotice\n", 197, "msg text", true},
		{"Windows line ends", "1\r\nm\r\n\r\n", 1, "m", true},
		{"empty", "", 0, "", false},
		{"no code", "done\n", 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, FinishFileName), c.text)
			code, message, found := FinishFile(dir)
			if code != c.code || message != c.message || found != c.found {
				t.Errorf("got %v, %q, %v, want %v, %q, %v", code, message, found, c.code, c.message, c.found)
			}
		})
	}
	if _, _, found := FinishFile(t.TempDir()); found {
		t.Error("got one in an empty directory")
	}
}

func TestCloseTwice(t *testing.T) {
	app, _ := startIn(t, slotWith(t, alive()), Options{})
	for range 2 {
		if err := app.Close(); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	}
	app.Report(Report{CPU: 1})
	app.Flush(t.Context())
	app.SetWebGraphicsURL("x")
}

func TestReserved(t *testing.T) {
	for _, name := range []string{"init_data.xml", "Init_Data.XML", "boinc_finish_called", "trickle_down_5", "BOINC_UFR_x", "boinc_ufs_x", "ca", "graphics_app", "stdoutgfx.txt",
		"init_data.xml.", "init_data.xml . .", "STDERR.TXT::$DATA", "ca:x", "ac ", "boinc_loc\u212afile", "\u017ftderr.txt", "init_data\u200c.xml", "\ufeffca"} {
		if !Reserved(name) {
			t.Errorf("%s: got free, want reserved", name)
		}
	}
	for _, name := range []string{"", "input", "cab", "trickle_up", "boinc_uf", ".", "..", " ca", ":ca", "ca.txt", "ça"} {
		if Reserved(name) {
			t.Errorf("%s: got reserved, want free", name)
		}
	}
}

func TestRedirectStderrCatchesACrash(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, StderrFile), "before\n")
	if err := testAs(t, "crasher", dir).Run(); err == nil {
		t.Fatal("the crasher did not crash")
	}
	got := readFile(t, filepath.Join(dir, StderrFile))
	if !strings.HasPrefix(got, "before\n") || !strings.Contains(got, "panic: crash for the record") {
		t.Errorf("got %q, want the panic behind what was there", got)
	}
}

// The job's end reaches the client though its names can't be known.
func TestStartForged(t *testing.T) {
	dir := slotWith(t, "<wu_name>x</wu_name><app_file>evil</app_file><wu_name>y</wu_name>\n")
	synctest.Test(t, func(t *testing.T) {
		app, err := Start(t.Context(), Options{Dir: dir})
		var forged *ForgedError
		if !errors.As(err, &forged) || app.Standalone() {
			t.Fatalf("got %v, standalone %v, want a *ForgedError: there is a client", err, app.Standalone())
		}
		if err := app.Finish(206, "no"); err != nil {
			t.Error(err)
		}
		if got, want := readFile(t, filepath.Join(dir, FinishFileName)), "206\nno\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
