package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"
)

// frame is a message as an engine sends it: second says when it was written.
func frame(stream byte, second int, text string) []byte { return frameAt(stream, second, 0, text) }

func frameAt(stream byte, second, nano int, text string) []byte {
	p := []byte(time.Date(2026, 1, 1, 0, 0, second, nano, time.UTC).Format("2006-01-02T15:04:05.000000000Z") + " " + text)
	return append(binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(p))), p...)
}

func TestStripper(t *testing.T) {
	const out, err = 1, 2
	type read [][]byte
	tests := []struct {
		name            string
		since           int // second; 0 for none
		reads           []read
		wantOut, wantEr string
	}{
		{name: "both streams", reads: []read{{frame(out, 1, "a\n"), frame(err, 2, "b\n"), frame(out, 3, "c\n")}}, wantOut: "a\nc\n", wantEr: "b\n"},
		{name: "a line without its end", reads: []read{{frame(out, 1, "half"), frame(out, 2, " and half\n")}}, wantOut: "half and half\n"},
		{name: "an empty line", reads: []read{{frame(out, 1, "\n")}}, wantOut: "\n"},
		{name: "text that looks like a time", reads: []read{{frame(out, 1, "2026-01-01T00:00:00Z x\n")}}, wantOut: "2026-01-01T00:00:00Z x\n"},
		{name: "read again from the start", reads: []read{{frame(out, 1, "a\n")}, {frame(out, 1, "a\n"), frame(out, 2, "b\n")}}, wantOut: "a\nb\n"},
		{name: "read again, nothing new", reads: []read{{frame(out, 1, "a\n")}, {frame(out, 1, "a\n")}}, wantOut: "a\n"},
		{name: "streams are resumed each by itself", reads: []read{{frame(out, 3, "late\n")}, {frame(err, 1, "early\n"), frame(out, 3, "late\n")}}, wantOut: "late\n", wantEr: "early\n"},
		{name: "many lines of one second", reads: []read{
			{frame(out, 1, "a\n"), frame(out, 1, "b\n")},
			{frame(out, 1, "a\n"), frame(out, 1, "b\n"), frame(out, 1, "c\n"), frame(out, 2, "d\n")},
			{frame(out, 1, "a\n"), frame(out, 1, "b\n"), frame(out, 1, "c\n"), frame(out, 2, "d\n"), frame(out, 2, "e\n")}}, wantOut: "a\nb\nc\nd\ne\n"},
		{name: "the log was replaced within a second", reads: []read{
			{frame(out, 1, "a\n"), frame(out, 1, "b\n"), frame(out, 1, "c\n")},
			{frame(out, 1, "c\n"), frame(out, 1, "d\n"), frame(out, 1, "c\n")}}, wantOut: "a\nb\nc\nd\nc\n"},
		{name: "repeated while it is rotated", reads: []read{{frameAt(out, 1, 1, "a\n"), frameAt(out, 1, 2, "b\n"), frameAt(out, 1, 1, "a\n"),
			frameAt(out, 1, 2, "b\n"), frameAt(out, 1, 3, "c\n")}}, wantOut: "a\nb\nc\n"},
		{name: "the clock is set back", reads: []read{{frameAt(out, 9, 1, "a\n"), frameAt(out, 1, 1, "b\n"), frameAt(out, 1, 2, "c\n")}}, wantOut: "a\nb\nc\n"},
		{name: "an earlier episode's lines", since: 1, reads: []read{{frame(out, 1, "old\n"), frame(out, 2, "new\n")}}, wantOut: "new\n"},
		{name: "an engine that gives no times", reads: []read{{append([]byte{1, 0, 0, 0, 0, 0, 0, 3}, "x y"...)}}, wantOut: "x y"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var since time.Time
			if tt.since > 0 {
				since = time.Date(2026, 1, 1, 0, 0, tt.since, 0, time.UTC)
			}
			var gotOut, gotErr bytes.Buffer
			var mu sync.Mutex
			a, b := newStripper(&gotOut, &mu, since), newStripper(&gotErr, &mu, since)
			for _, r := range tt.reads {
				a.resume()
				b.resume()
				if _, err := stdcopy.StdCopy(a, b, bytes.NewReader(bytes.Join(r, nil))); err != nil {
					t.Fatal(err)
				}
			}
			if gotOut.String() != tt.wantOut || gotErr.String() != tt.wantEr {
				t.Errorf("got %q and %q, want %q and %q", &gotOut, &gotErr, tt.wantOut, tt.wantEr)
			}
		})
	}
}

type brokenWriter struct{}

var errBroken = errors.New("disk is full")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestStripperPassesErrorsOn(t *testing.T) {
	s := newStripper(brokenWriter{}, new(sync.Mutex), time.Time{})
	if _, err := s.Write([]byte("2026-01-01T00:00:00Z x")); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
	if !s.at().IsZero() {
		t.Error("what could not be written counts as written")
	}
}

func FuzzStripper(f *testing.F) {
	f.Add("2026-01-01T00:00:00Z x\n")
	f.Add("no time")
	f.Add(" ")
	f.Add("2026-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, text string) {
		var got strings.Builder
		s := newStripper(&got, new(sync.Mutex), time.Time{})
		if n, err := s.Write([]byte(text)); err != nil || n != len(text) {
			t.Fatalf("got %d, %v", n, err)
		}
		if !strings.HasSuffix(text, got.String()) {
			t.Errorf("%q became %q", text, got.String())
		}
		s.resume()
		before := got.Len()
		s.Write([]byte(text))
		if s.at().IsZero() != (got.Len() != before) && text != "" {
			t.Errorf("%q was written %t twice", text, got.Len() != before)
		}
	})
}
