package host

import "testing"

func TestResident(t *testing.T) {
	tests := []struct {
		name, text string
		want       int64
		ok         bool
	}{
		{"v1", "cache 100\nrss 1\ntotal_cache 100\ntotal_rss 30\ntotal_shmem 4\n", 34, true},
		{"v2", "anon 20\nfile 100\nshmem 3\n", 23, true},
		{"nothing known", "x y\n\nfile\n", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := Resident(parseCounters(tt.text)); got != tt.want || ok != tt.ok {
				t.Errorf("got %d, %t, want %d, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}
