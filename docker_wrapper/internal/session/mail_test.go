package session

import (
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
