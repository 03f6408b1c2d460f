package session

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEpisode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".docker_wrapper")
	if got, err := readEpisode(dir); err != nil || !reflect.DeepEqual(got, Episode{}) {
		t.Errorf("none: got %+v, %v; want the zero value", got, err)
	}
	for _, want := range []Episode{
		{},
		{Container: "abc", CPUBase: 5 * time.Second, Ran: time.Hour, LastLog: time.Date(2025, 6, 7, 8, 9, 10, 11, time.UTC), Parked: time.Date(2025, 6, 7, 8, 9, 10, 12, time.UTC)},
		{Done: &Done{Code: 195, Message: "out \"of\" <luck>\n"}},
	} {
		if err := writeEpisode(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := readEpisode(dir)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v; want -, got +:\n%s", err, diff)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want one file", entries, err)
	}
}

func TestBrokenEpisode(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, episodeFile)
	for _, text := range []string{"", "{", `{"ran": "long"}`, `{"container": "abc", "ran": 1e99}`, "\x00\x00\x00", "null x"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := readEpisode(dir)
		if err == nil || !reflect.DeepEqual(got, Episode{}) || !strings.HasPrefix(err.Error(), "read episode.json: ") {
			t.Errorf("%q: got %+v, %v; want the zero value and an error", text, got, err)
		}
		if err := writeEpisode(dir, Episode{Container: "new"}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeEpisode(dir, Episode{}); err == nil || !strings.HasPrefix(err.Error(), "write episode.json: ") {
		t.Errorf("got %v, want an error", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want nothing left of what could not be written", entries, err)
	}
}

func FuzzReadEpisode(f *testing.F) {
	f.Add(`{"container":"abc","cpu_base":5,"done":{"code":3}}`)
	f.Add(`{"last_log":"2025-06-07T08:09:10Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, episodeFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		e, err := readEpisode(dir)
		if err != nil {
			return
		}
		if err := writeEpisode(dir, e); err != nil {
			t.Fatal(err)
		}
		again, err := readEpisode(dir)
		if diff := cmp.Diff(e, again); err != nil || diff != "" {
			t.Errorf("%v; want -, got +:\n%s", err, diff)
		}
	})
}
