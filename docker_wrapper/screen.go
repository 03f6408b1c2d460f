package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/term"

	"boincdocker/docker_wrapper/internal/supervise"
)

// screen is a terminal with a progress line at the bottom. Written text appears above the line.
type screen struct {
	mu   sync.Mutex
	w    io.Writer
	line string // the progress line that is shown; "" for none
	open bool   // the text written last did not end with a newline
}

// newScreen returns nil when w is no terminal.
func newScreen(w io.Writer) *screen {
	if !isTerminal(w) {
		return nil
	}
	return &screen{w: w}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// over returns a writer to w, which may be the same terminal: it removes the progress line first.
func (s *screen) over(w io.Writer) io.Writer { return overWriter{s, w} }

type overWriter struct {
	s *screen
	w io.Writer
}

func (o overWriter) Write(p []byte) (int, error) { return o.s.write(o.w, p) }

func (s *screen) Write(p []byte) (int, error) { return s.write(s.w, p) }

func (s *screen) write(w io.Writer, p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	n, err := w.Write(p)
	s.open = !bytes.HasSuffix(p, []byte("\n"))
	return n, err
}

// show replaces the progress line.
func (s *screen) show(snap supervise.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return // the line would end up within one of the job's
	}
	s.erase()
	s.line = progressLine(snap)
	fmt.Fprint(s.w, s.line)
}

// clear removes the progress line.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
}

func (s *screen) erase() {
	if s.line != "" {
		fmt.Fprint(s.w, "\r\x1b[K") // to the start of the line, and clear it (ECMA-48)
		s.line = ""
	}
}

func progressLine(s supervise.Snapshot) string {
	done := "  ? %"
	if s.Fraction > 0 {
		done = fmt.Sprintf("%3.0f %%", 100*s.Fraction)
	}
	memory := "?"
	if s.Memory > 0 {
		memory = fmt.Sprintf("%d MB", s.Memory>>20)
	}
	return fmt.Sprintf("%s  %s  elapsed %s  CPU %s  memory %s", done, s.State, clock(s.Ran), clock(s.CPU), memory)
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
