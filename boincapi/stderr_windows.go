package boincapi

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// RedirectStderr appends all that this process, a crashing Go runtime included, writes to standard
// error to stderr.txt in dir. It also sets os.Stderr, which has no valid handle under the client.
// Child processes don't inherit the file: the client waits up to 5 s for whoever keeps it open at the
// end of the job.
func RedirectStderr(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, StderrFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o664)
	if err != nil {
		return err
	}
	if err := windows.SetStdHandle(windows.STD_ERROR_HANDLE, windows.Handle(f.Fd())); err != nil {
		f.Close()
		return fmt.Errorf("put %s in place of standard error: %w", f.Name(), err)
	}
	os.Stderr = f
	return nil
}
