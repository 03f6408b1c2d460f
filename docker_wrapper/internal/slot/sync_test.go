//go:build unix

package slot

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"boincdocker/docker_wrapper/internal/job"
)

// Whatever the job leaves, writing it to the disk is no error of the computer's.
func TestSync(t *testing.T) {
	t.Parallel()
	for _, files := range []int{3, maxSynced + 10} {
		h := newHostIn(t, inMemory(t))
		write(t, h.project(), "wu_0_0", "result", 0o400)
		write(t, h.slot(), "closed/file", "x", 0)
		must(t, os.Symlink("/dev/full", filepath.Join(h.slot(), "device")), os.Chmod(filepath.Join(h.slot(), "closed"), 0))
		t.Cleanup(func() { os.Chmod(filepath.Join(h.slot(), "closed"), 0o700) })
		for i := range files {
			write(t, h.slot(), fmt.Sprint("copied/", i), "x", 0o644)
		}
		if err := Sync(h.plan(t), []job.Copy{{Root: h.slot(), Src: "/x", Dst: "copied"}, {Root: h.slot(), Src: "/y", Dst: "none"}}); err != nil {
			t.Errorf("%d files: %v", files, err)
		}
	}
}
