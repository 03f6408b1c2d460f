package job

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLeftOut(t *testing.T) {
	var l LeftOut
	if got := names(l); len(got) != 0 {
		t.Errorf("got %q, want none", got)
	}
	l.Add("a", "why")
	l.Add(strings.Repeat("é", 300), "why")
	want := []string{"a", strings.Repeat("é", 100) + "..."}
	if got := names(l); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	l.Add("x"+strings.Repeat("é", 300), "why") // is cut within a letter
	if got := names(l)[2]; !utf8.ValidString(got) || len(got) > 203 {
		t.Errorf("got %q, want at most 200 bytes of UTF-8", got)
	}
	for range 500 {
		l.Add("b", "why")
	}
	for range 2 { // asking twice changes nothing
		if got := names(l); len(got) != 21 || got[19] != "b" || got[20] != "and 483 more" {
			t.Errorf("got %q, want 20 names and 483 more", got)
		}
	}
}

func names(l LeftOut) (names []string) {
	for _, f := range l.Files() {
		names = append(names, f.Name)
	}
	return names
}
