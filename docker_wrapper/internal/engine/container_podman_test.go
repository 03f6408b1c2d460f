package engine

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Lines of the second in which the last episode left are counted, over both streams.
func TestLogsOfWholeSeconds(t *testing.T) {
	var out, errOut bytes.Buffer
	var mu sync.Mutex
	from := time.Date(2026, 1, 1, 0, 0, 5, 0, time.UTC)
	again := 0
	a, b := newStripper(&out, &mu, from), newStripper(&errOut, &mu, from)
	for _, s := range []*stripper{a, b} {
		s.before, s.written = &again, 0
	}
	const earlier, begin, later = "2026-01-01T00:00:04Z ", "2026-01-01T00:00:05Z ", "2026-01-01T00:00:06Z "
	read := func(more string) {
		again = 3
		a.resume()
		b.resume()
		for line := range strings.Lines(earlier + "1\n" + begin + "2\n" + begin + "err 3\n" + begin + "4\n" + begin + "5\n" + begin + "err 6\n" + more) {
			s := a
			if strings.Contains(line, "err") {
				s = b
			}
			if _, err := s.Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
	}
	read("")
	read(later + "7\n") // the stream broke off
	if got := out.String() + errOut.String(); got != "5\n7\nerr 6\n" {
		t.Errorf("got %q, want what came after the first three of the second", got)
	}
}

func TestImpossibleOnPodman(t *testing.T) {
	newer := &Engine{Info: Info{Kind: Podman, Version: "5.8.6", quirks: quirksOf(Podman, infoFacts{version: "5.8.6"})}}
	tests := []struct {
		name string
		e    *Engine
		host container.HostConfig
		want string // in the error; "" for none
	}{
		{"a runtime", newer, container.HostConfig{Runtime: "nvidia"}, "runtime (nvidia)"},
		{"a source that isn't there", newer, container.HostConfig{Binds: []string{"/no/such,dir:/x:ro"}}, "/no/such,dir"},
		{"a volume", newer, container.HostConfig{Binds: []string{"name:/x"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.e.possible(request{Host: &tt.host})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
