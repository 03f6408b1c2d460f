//go:build integration

package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

var logRows = []contractRow{
	{fact: "output: stdout and stderr are told apart, in order", check: func(t *testing.T, k *contract) {
		got := k.do(t, k.job("out=1", "err=a", "out=2", "err=b", "out=3"))
		if got.out != "1\n2\n3\n" || got.errOut != "a\nb\n" {
			t.Errorf("got %q and %q", got.out, got.errOut)
		}
	}},
	{fact: "output: it comes while the container runs", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("out=early", "sleep=1m"))
		var out syncBuffer
		logs := c.Logs(t.Context(), time.Time{}, &out, &out)
		k.eventually(t, "a line comes", func() bool { return out.String() == "early\n" })
		logs.Stop()
	}},
	{fact: "output: no newline at the end", check: func(t *testing.T, k *contract) {
		k.says(t, k.job(fmt.Sprintf("raw=%x", "a\nlast")), "a\nlast")
	}},
	{fact: "output: an empty line, a long line", check: func(t *testing.T, k *contract) {
		long := strings.Repeat("0123456789", 10_000)
		k.says(t, k.job("out=", "out="+long, "out=end"), "\n"+long+"\nend\n")
	}},
	{fact: "output: a line that begins like the engine's own timestamps", check: func(t *testing.T, k *contract) {
		const line = "2020-01-02T03:04:05.123456789Z it was cold"
		k.says(t, k.job("out="+line), line+"\n")
	}},
	{fact: "output: bytes that are no text don't disturb what follows", check: func(t *testing.T, k *contract) {
		got := k.do(t, k.job("raw=0001026100ff80fe0a", "raw=1b5b33316d0d0a", "out=after")).out
		// Engines that keep output as JSON replace what isn't UTF-8.
		if !strings.HasPrefix(got, "\x00\x01\x02a\x00") || !strings.HasSuffix(got, "\x1b[31m\r\nafter\n") {
			t.Errorf("got %q", got)
		}
	}},
	{fact: "output: a flood passes, in bounds and in order", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("flood=50000000"))
		var out bytes.Buffer
		logs := c.Logs(t.Context(), time.Time{}, &out, &out)
		k.wait(t, c)
		k.within(t, 15*time.Second, func() { k.must(t, logs.Drain(t.Context())) })
		lines := strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
		if out.Len() > 50_000_000 || !strings.HasPrefix(lines[len(lines)-1], "00499999 ") {
			t.Errorf("got %d bytes, the last line is %.20q", out.Len(), lines[len(lines)-1])
		}
		for i := 1; i < len(lines); i++ {
			if lines[i] <= lines[i-1] && !k.e.Info.WholeSeconds() { // else some of a log that was replaced may come twice
				t.Fatalf("line %d: %q comes after %q", i, lines[i], lines[i-1])
			}
		}
		t.Logf("%d of 500000 lines came", len(lines))
	}},
	{fact: "output: what is kept whole comes whole, however fast it was", check: func(t *testing.T, k *contract) {
		j := k.job("flood=20000000")
		j.Logs.Stdout, j.Container.Limits.Disk = "out", 1<<30
		c := k.start(t, j)
		var out bytes.Buffer
		logs := c.Logs(t.Context(), time.Time{}, &out, &out)
		k.wait(t, c)
		began := time.Now()
		k.must(t, logs.Drain(t.Context()))
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		t.Logf("%d lines came, the last %v after the end", len(lines), time.Since(began))
		if len(lines) != 200_000 {
			t.Errorf("got %d of 200000 lines", len(lines))
		}
		for i, l := range lines {
			if !strings.HasPrefix(l, fmt.Sprintf("%08d ", i)) {
				t.Fatalf("line %d is %q", i, l)
			}
		}
	}},
	{fact: "output: taken up again, no line is lost and none comes twice", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("count=300,2ms"))
		var out syncBuffer
		var since time.Time
		for i := 1; i <= 4; i++ { // four episodes that leave, one that stays to the end
			logs := c.Logs(t.Context(), since, &out, &out)
			k.eventually(t, "more lines come", func() bool { return strings.Count(out.String(), "\n") >= 50*i })
			since = logs.Stop()
			if since.IsZero() {
				t.Fatal("no instant of the last line")
			}
		}
		logs := c.Logs(t.Context(), since, &out, &out)
		k.wait(t, c)
		k.must(t, logs.Drain(t.Context()))
		var want strings.Builder
		for i := range 300 {
			fmt.Fprintln(&want, "line", i)
		}
		if out.String() != want.String() {
			t.Errorf("got %d lines: %q", strings.Count(out.String(), "\n"), out.String())
		}
	}},
	{fact: "output: taken up after a pause of the watcher's, all that was said meanwhile is there", check: func(t *testing.T, k *contract) {
		c := k.ready(t, k.job("out=one", "write=/ready:", "await=/go", "out=two", "err=three"))
		var out syncBuffer
		logs := c.Logs(t.Context(), time.Time{}, &out, &out)
		k.eventually(t, "the first line comes", func() bool { return out.String() == "one\n" })
		since := logs.Stop()
		k.must(t, c.CopyIn(t.Context(), []job.Copy{{Root: slotWith(t, "go", nil, 0o644), Src: "go", Dst: "/go"}}))
		k.wait(t, c)
		logs = c.Logs(t.Context(), since, &out, &out)
		k.must(t, logs.Drain(t.Context()))
		if got := out.String(); got != "one\ntwo\nthree\n" && got != "one\nthree\ntwo\n" {
			t.Errorf("got %q", got)
		}
	}},
	{fact: "output: of a container that ends at once, a hundred times", check: func(t *testing.T, k *contract) {
		var workers sync.WaitGroup
		todo := make(chan int)
		for range 3 {
			workers.Go(func() {
				for i := range todo {
					c, err := k.e.Create(t.Context(), k.job("out=1", "err=2", "out=3"), k.image)
					if err != nil {
						t.Error(err)
						continue
					}
					if err := c.Start(t.Context()); err != nil {
						t.Error(err)
					}
					var out, errOut bytes.Buffer
					logs := c.Logs(t.Context(), time.Time{}, &out, &errOut)
					<-c.Wait(t.Context())
					if err := logs.Drain(t.Context()); err != nil || out.String() != "1\n3\n" || errOut.String() != "2\n" {
						t.Errorf("run %d: got %q and %q, %v", i, out.String(), errOut.String(), err)
					}
					k.mustRemove(t, c)
				}
			})
		}
		for i := range 100 {
			todo <- i
		}
		close(todo)
		workers.Wait()
	}},
	{fact: "output: drained when the container is gone, that is an error and no hang", check: func(t *testing.T, k *contract) {
		c := k.start(t, k.job("out=x"))
		k.wait(t, c)
		var out bytes.Buffer
		logs := c.Logs(t.Context(), time.Time{}, &out, &out)
		k.mustRemove(t, c)
		k.within(t, 12*time.Second, func() {
			if err := logs.Drain(t.Context()); err == nil && out.String() != "x\n" {
				t.Errorf("no error, and got %q", out.String())
			}
		})
	}},
}

// syncBuffer can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
