package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// newLogger writes lines as BOINC's own programs do: "2006-01-02 15:04:05 (pid): text". verbose is job.toml's: 0 logs
// errors, 1 also changes of state, 2 also every call.
func newLogger(w io.Writer, verbose int) zerolog.Logger {
	cw := zerolog.ConsoleWriter{
		Out:                 w,
		NoColor:             true,
		TimeFormat:          "2006-01-02 15:04:05",
		PartsOrder:          []string{zerolog.TimestampFieldName, zerolog.LevelFieldName, zerolog.MessageFieldName},
		FormatLevel:         formatLevel,
		FormatErrFieldValue: func(v any) string { return fmt.Sprint(v) },
	}
	level := [...]zerolog.Level{zerolog.ErrorLevel, zerolog.InfoLevel, zerolog.DebugLevel}[verbose]
	return zerolog.New(cw).Level(level).With().Timestamp().Logger()
}

// hiding removes the volunteer's secrets from what is written. Each Write must have whole lines, so that no secret is cut
// in two.
type hiding struct {
	w       io.Writer
	secrets *strings.Replacer
}

func (h hiding) Write(p []byte) (int, error) {
	if _, err := io.WriteString(h.w, h.secrets.Replace(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func formatLevel(v any) string {
	prefix := fmt.Sprintf("(%d):", os.Getpid())
	switch v {
	case "error", "warn":
		return prefix + " " + strings.ToUpper(v.(string)) + ":"
	default:
		return prefix
	}
}

// ownLines writes the wrapper's lines between the job's output, which may stop in the middle of a line. Such a line is ended first.
// Each Write must have whole lines.
type ownLines struct{ *sharedLog }

// jobsOutput writes the job's output between the wrapper's lines.
type jobsOutput struct{ *sharedLog }

// sharedLog is stderr.txt, with the lines of the wrapper and the output of the job.
type sharedLog struct {
	mu   sync.Mutex
	w    io.Writer
	open bool // the last line has no end yet
}

func (l ownLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		l.open = false
		if _, err := io.WriteString(l.w, "\n"); err != nil {
			return 0, err
		}
	}
	return l.w.Write(p)
}

func (l jobsOutput) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p) > 0 {
		l.open = p[len(p)-1] != '\n'
	}
	return l.w.Write(p)
}

// bounded writes the first head bytes at once. Of the rest it writes the last keep bytes when it is closed. The client
// sends only the last 63 KiB of stderr.txt (client/app_control.cpp), and a job must not fill the volunteer's disk.
type bounded struct {
	mu      sync.Mutex
	w       io.Writer
	head    int // bytes that are still written at once
	tail    []byte
	keep    int   // bytes
	dropped int64 // bytes
}

const outputHead, outputTail = 16 << 10, 32 << 10 // bytes

func newBounded(w io.Writer) *bounded { return &bounded{w: w, head: outputHead, keep: outputTail} }

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(p)
	if b.head > 0 {
		now := p[:min(len(p), b.head)]
		b.head -= len(now)
		if _, err := b.w.Write(now); err != nil {
			return 0, err
		}
		p = p[len(now):]
	}
	b.tail = append(b.tail, p...)
	if over := len(b.tail) - b.keep; over > b.keep { // trimmed now and then, not at each write
		b.dropped += int64(over)
		b.tail = append(b.tail[:0], b.tail[over:]...)
	}
	return n, nil
}

// Close writes the last bytes. It doesn't close the underlying writer.
func (b *bounded) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if over := len(b.tail) - b.keep; over > 0 {
		b.dropped += int64(over)
		b.tail = b.tail[over:]
	}
	if b.dropped > 0 {
		if i := bytes.IndexByte(b.tail, '\n'); i >= 0 { // begin with a whole line
			b.dropped += int64(i + 1)
			b.tail = b.tail[i+1:]
		}
		if _, err := fmt.Fprintf(b.w, "\n[%d bytes of the job's output left out]\n", b.dropped); err != nil {
			return err
		}
	}
	_, err := b.w.Write(b.tail)
	b.tail, b.dropped = nil, 0
	return err
}
