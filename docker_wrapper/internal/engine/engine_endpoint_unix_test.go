//go:build !windows

package engine

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOwnsSocket(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	link := name + "_link"
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"unix://" + name: true, "unix://" + link: true, "unix://" + name + "_none": false, name: false, "tcp://127.0.0.1:2375": false,
		"ssh://me@other": false, "": false} {
		if got := ownsSocket(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
	if os.Getuid() != 0 {
		return
	}
	if err := os.Chown(name, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if ownsSocket("unix://" + name) {
		t.Error("another user's: got true, want false")
	}
}
