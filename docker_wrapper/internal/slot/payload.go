package slot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

// Payload reads the job's files while the job runs. They are untrusted: no link is followed out of the directory, only
// regular files are read, and only up to a limit.
type Payload struct{ Dir string }

// Read returns at most the first limit bytes of a file.
func (p Payload) Read(name string, limit int64) ([]byte, error) {
	f, _, err := p.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// ModTime is when a file was last changed.
func (p Payload) ModTime(name string) (time.Time, error) {
	f, fi, err := p.open(name, os.O_RDONLY)
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), f.Close()
}

func (p Payload) open(name string, flag int) (*os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	name = filepath.FromSlash(name)
	seen, err := root.Stat(name) // before opening, because opening a device may have an effect
	if err != nil {
		return nil, nil, err
	}
	invalid := &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	if !seen.Mode().IsRegular() {
		return nil, nil, invalid
	}
	f, err := reopen(root, name, flag)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && (!fi.Mode().IsRegular() || !os.SameFile(seen, fi)) {
		err = invalid // the job has just put another file there
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

// AllowWrites lets any user in the container write to the payload and to the outputs that are mounted one by one. On
// the host the permissions of the slot directory still apply.
func AllowWrites(s job.Slot) error {
	names := []string{s.Payload}
	for _, l := range s.Links {
		if l.Output && s.MakeOutputs {
			names = append(names, l.Target)
		}
	}
	for _, name := range names {
		fi, err := os.Stat(name)
		if err == nil {
			mode := fs.FileMode(0o666)
			if fi.IsDir() {
				mode = 0o777
			}
			err = os.Chmod(name, mode)
		}
		if err != nil {
			return fmt.Errorf("let the container's user write: %w", err)
		}
	}
	if err := openLinks(s); err != nil {
		return fmt.Errorf("let the container's user write: %w", err)
	}
	return nil
}

// openLinks lets the container's user overwrite the link files of outputs. In an earlier episode the job may have put
// anything there.
func openLinks(s job.Slot) error {
	root, err := os.OpenRoot(s.Payload)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, l := range s.Links {
		if fi, err := root.Lstat(l.Name); l.Output && err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o222 != 0o222 {
			err = root.Chmod(l.Name, fi.Mode().Perm()|0o666)
			if err != nil && !errors.Is(err, fs.ErrPermission) { // then it is already the container user's
				return err
			}
		}
	}
	return nil
}

// ParseFraction reads a fraction_done file: a number from 0 to 1. Anything after it is ignored.
func ParseFraction(data []byte) (float64, error) {
	words := strings.Fields(string(data))
	if len(words) == 0 {
		return 0, errors.New("empty: want a number from 0 to 1")
	}
	word := words[0]
	f, err := strconv.ParseFloat(word, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		return 0, fmt.Errorf("%q: want a number from 0 to 1", word)
	}
	return f, nil
}
