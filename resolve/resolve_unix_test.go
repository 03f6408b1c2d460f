//go:build unix

package resolve

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPathOfOtherThanFiles(t *testing.T) {
	slot := t.TempDir()
	text := filepath.Join(slot, "link")
	if err := os.WriteFile(text, []byte("<soft_link>a</soft_link>"), 0o644); err != nil {
		t.Fatal(err)
	}
	symlink := filepath.Join(slot, "symlink") // to a link file, which is not followed further
	if err := os.Symlink("link", symlink); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(slot, "dangling")
	if err := os.Symlink("../../projects/p/out_0", dangling); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(slot, "fifo") // nobody writes: to wait would hang the test
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{symlink, dangling, fifo, slot, "/dev/null"} {
		if got, err := Path(name); got != name || err != nil {
			t.Errorf("Path(%q): got %q, %v, want the name itself", name, got, err)
		}
	}
}
