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
	root, err := os.OpenRoot(p.Dir)
	if err != nil {
		return time.Time{}, err
	}
	defer root.Close()
	fi, err := root.Stat(filepath.FromSlash(name))
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), nil
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
// the host the permissions of the slot directory still apply. By hand the payload is a person's directory: there it
// changes only the directory itself and the link files of outputs.
func AllowWrites(s job.Slot) error {
	var names, targets []string
	for _, l := range s.Links {
		if l.Output && !s.Move {
			names = append(names, l.Name)
		}
		if l.Output && s.MakeOutputs {
			targets = append(targets, l.Target)
		}
	}
	if !s.Move {
		names = append(names, ".")
	}
	err := share(s.Payload, names...)
	for _, name := range targets {
		if err == nil {
			err = os.Chmod(name, 0o666)
		}
	}
	if err != nil {
		return fmt.Errorf("let the container's user write: %w", err)
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
