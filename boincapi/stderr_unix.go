//go:build unix

package boincapi

import (
	"fmt"
	"os"
	"path/filepath"
)

// RedirectStderr appends all that this process, a crashing Go runtime and child processes included,
// writes to standard error to stderr.txt in dir. The client has done so already on Unix; once more
// does no harm.
func RedirectStderr(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, StderrFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o664)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := dupOnto(int(f.Fd()), 2); err != nil {
		return fmt.Errorf("put %s in place of standard error: %w", f.Name(), err)
	}
	return nil
}
