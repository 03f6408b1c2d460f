//go:build linux && !race

package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestLimitData(t *testing.T) {
	get := func() (l unix.Rlimit) {
		if err := unix.Getrlimit(unix.RLIMIT_DATA, &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := get()
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_DATA, &before) })
	const first = 64 << 30 // bytes: more than this test needs
	want := unix.Rlimit{Cur: min(first, before.Cur), Max: before.Max}
	for _, bytes := range []uint64{first, 2 * first} { // it is never raised
		if limitData(bytes); get() != want {
			t.Errorf("%d: got %+v, want %+v", bytes, get(), want)
		}
	}
}
