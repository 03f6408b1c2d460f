package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"boincdocker/boincapi"
)

func TestBounded(t *testing.T) {
	var lines strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	many := lines.String()
	tests := []struct {
		name  string
		text  string
		chunk int // bytes per write
		whole bool
	}{
		{"nothing", "", 1, true},
		{"a little", "hello\n", 100, true},
		{"just as much as is kept", many[:outputHead+outputTail], 1000, true},
		{"one byte more", many[:outputHead+outputTail+1], 1000, false},
		{"much, in lines", many, 10, false},
		{"much, at once", many, len(many), false},
		{"one endless line", strings.Repeat("x", 1<<20), 4096, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			b := newBounded(&out)
			for rest := tt.text; rest != ""; {
				n := min(tt.chunk, len(rest))
				if got, err := b.Write([]byte(rest[:n])); err != nil || got != n {
					t.Fatalf("got %d, %v", got, err)
				}
				rest = rest[n:]
			}
			if early := min(len(tt.text), outputHead); out.Len() != early {
				t.Errorf("%d bytes came at once, want %d", out.Len(), early)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			got := out.String()
			if tt.whole {
				if got != tt.text {
					t.Errorf("got %d bytes, want all %d", len(got), len(tt.text))
				}
				return
			}
			m := regexp.MustCompile(`\n\[(\d+) bytes of the job's output left out\]\n`).FindStringSubmatchIndex(got)
			if m == nil {
				t.Fatal("nothing says that something is missing")
			}
			head, tail := got[:m[0]], got[m[1]:]
			if !strings.HasPrefix(tt.text, head) || !strings.HasSuffix(tt.text, tail) || len(got) > outputHead+outputTail+100 {
				t.Errorf("got %d bytes of head, %d of tail", len(head), len(tail))
			}
			if said := got[m[2]:m[3]]; said != fmt.Sprint(len(tt.text)-len(head)-len(tail)) {
				t.Errorf("%s bytes are said to be left out, want %d", said, len(tt.text)-len(head)-len(tail))
			}
			if strings.Contains(tt.text, "\n") && tail != "" && !strings.Contains(tt.text, "\n"+tail) {
				t.Error("the tail begins inside a line")
			}
		})
	}
}

func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	for verbose, want := range []string{`^\S+ \S+ \(\d+\): ERROR: e\n$`, `(?s)WARN: w\n.*\): i a=1\n$`, `(?s)\): i a=1\n.*\): d\n$`} {
		out.Reset()
		log := newLogger(&out, verbose)
		log.Error().Msg("e")
		log.Warn().Msg("w")
		log.Info().Int("a", 1).Msg("i")
		log.Debug().Msg("d")
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("verbose %d: got %q, want %s", verbose, &out, want)
		}
	}
}

// The volunteer's secrets are looked for in texts as they are: what is made plain may no longer show them.
func TestHidingComesFirst(t *testing.T) {
	var out bytes.Buffer
	w := &wrapper{program: program{stderr: boincapi.PlainWriter(&out)}}
	w.setInit(&boincapi.InitData{ProxyInfo: boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "p", HTTPServerPort: 1,
		HTTPUserName: "u", HTTPUserPasswd: "long</secret]]>\x1b"}})
	w.log.Warn().Msg("at u:long</secret]]>\x1b@p </a>")
	if got := out.String(); strings.Contains(got, "secret") || !strings.HasSuffix(got, "< /a>\n") {
		t.Errorf("got %q, want no secret, and a plain tag", got)
	}
}

func TestOwnLines(t *testing.T) {
	var out bytes.Buffer
	shared := &sharedLog{w: &out}
	wrapper, job := ownLines{shared}, jobsOutput{shared}
	for _, step := range []struct {
		w    interface{ Write([]byte) (int, error) }
		text string
	}{
		{wrapper, "started\n"}, {job, "one\ntw"}, {job, ""}, {job, "o"}, {wrapper, "paused\n"}, {wrapper, "resumed\n"}, {job, "o\n"}, {wrapper, "ended\n"},
	} {
		if n, err := step.w.Write([]byte(step.text)); err != nil || n != len(step.text) {
			t.Errorf("%q: got %d, %v", step.text, n, err)
		}
	}
	if want := "started\none\ntwo\npaused\nresumed\no\nended\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
