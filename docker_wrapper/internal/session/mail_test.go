package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A job that does nothing but send messages is held to its allowance, and one that does so seldom isn't.
func TestAllowance(t *testing.T) {
	tests := []struct {
		name  string
		every time.Duration // of the job
		tries int
		want  int
	}{
		{"a burst", 0, 100, 3},
		{"each second for a minute", time.Second, 61, 3 + 6},
		{"as often as allowed", 10 * time.Second, 100, 100},
		{"seldom", time.Hour, 50, 50},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, got := allowance{burst: 3, every: 10 * time.Second}, 0
				for range tt.tries {
					if a.has(time.Now()) {
						a.spend(time.Now())
						got++
					}
					time.Sleep(tt.every)
				}
				if got != tt.want {
					t.Errorf("got %d, want %d", got, tt.want)
				}
			})
		})
	}
}

// Files that only another user may read are handed over, but not again and again.
func TestMailHandsFilesOver(t *testing.T) {
	var gave [][]string
	mine := false
	m := &mail{owns: allowance{burst: 2, every: time.Hour}, own: func(_ context.Context, names ...string) error {
		gave = append(gave, names)
		mine = true
		return nil
	}}
	read := func() error {
		if !mine {
			return fmt.Errorf("read: %w", fs.ErrPermission)
		}
		return nil
	}
	for i, want := range []bool{true, true, false} {
		mine = false
		if err := m.allowed(t.Context(), []string{"trickle_up.xml"}, read); (err == nil) != want {
			t.Errorf("time %d: got %v", i+1, err)
		}
	}
	other := errors.New("no such file")
	if err := m.allowed(t.Context(), nil, func() error { return other }); err != other {
		t.Errorf("another error: got %v", err)
	}
	if want := [][]string{{"trickle_up.xml", "."}, {"trickle_up.xml", "."}}; !slices.EqualFunc(gave, want, slices.Equal) {
		t.Errorf("handed over: %q, want %q", gave, want)
	}
}
