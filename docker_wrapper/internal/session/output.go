package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// follow streams the container's output after since to the files that job.toml names, else to Options.Output's writers.
func (s *Session) follow(ctx context.Context, since time.Time) error {
	out, errs, done := s.k.o.Output()
	if done != nil {
		s.files = append(s.files, done)
	}
	written, noted := s.k.written(), s.k.store.Episode().Written
	for i, name := range s.k.outputs() {
		if name == "" || s.c.WritesFiles() {
			continue
		}
		keep := min(written[i], noted[i]) // output that was written after since was noted comes again
		if since.IsZero() {
			keep = 0
		}
		file, err := s.k.openToAppend(name, keep)
		if err != nil {
			return err
		}
		s.files = append(s.files, file)
		text := &textOnly{w: file, warn: func() {
			s.k.log.Warn().Msgf("%s: bytes of the job's output that are no UTF-8 were replaced: here it is read from the engine's log, which is text", name)
		}}
		if i == 0 {
			out = text
		} else {
			errs = text
		}
	}
	s.logs = s.c.Logs(ctx, since, out, errs)
	return nil
}

// textOnly writes what an engine's log has kept, and warns once of bytes that Docker's log has replaced by U+FFFD.
type textOnly struct {
	w    io.Writer
	warn func() // nil when it has
}

func (t *textOnly) Write(p []byte) (int, error) {
	if t.warn != nil && bytes.Contains(p, []byte("\uFFFD")) {
		t.warn()
		t.warn = nil
	}
	return t.w.Write(p)
}

// outputs are the files for the container's stdout and stderr while it runs; "" for none.
func (k *Keeper) outputs() [2]string { return k.o.Job.Logs.Written() }

// openOutputs makes the files that a container will write its output to, cuts them to so many bytes, and lets the
// container's user write to them. The container must not run. It does nothing if this program writes them, from the engine's log.
func (k *Keeper) openOutputs(keep [2]int64) error {
	if k.o.Job.Logs.Writer == "" {
		return nil
	}
	finals := k.o.Job.Logs.Files()
	for i, name := range k.outputs() {
		if name == "" {
			continue
		}
		if err := k.showOutput(name, finals[i]); err != nil {
			return err
		}
		f, err := k.openToAppend(name, keep[i])
		if err != nil {
			return err
		}
		if k.o.Job.Container.User.Mode != job.UserBOINC { // another user than BOINC's
			err = f.Chmod(0o666)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// showOutput makes a symlink in the slot to a file that is in the wrapper's directory while the container writes to it, so that a
// person sees it grow. One that was delivered before, it takes back to there.
func (k *Keeper) showOutput(name, final string) error {
	if name == final {
		return nil
	}
	err := k.checkOutput(final)
	if fi, lstatErr := os.Lstat(final); err == nil && lstatErr == nil && fi.Mode().IsRegular() {
		if exists(name) { // of an earlier container
			err = os.Remove(final)
		} else if err = os.MkdirAll(filepath.Dir(name), 0o771); err == nil {
			err = os.Rename(final, name)
		}
	}
	rel, relErr := filepath.Rel(k.o.Job.Slot.Dir, final)
	if err != nil || relErr != nil || !filepath.IsLocal(rel) || exists(final) {
		return outputError(final, err)
	}
	target, err := filepath.Rel(filepath.Dir(final), name)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(k.o.Job.Slot.Dir)
	if err == nil {
		err = errors.Join(root.MkdirAll(filepath.Dir(rel), 0o771), root.Symlink(target, rel), root.Close())
	}
	return outputError(final, err)
}

// checkOutput is a mistake of the job's unless the name of a file for its output is free, or that of a file or of showOutput's link.
func (k *Keeper) checkOutput(final string) error {
	fi, err := os.Lstat(final)
	if err != nil || fi.Mode().IsRegular() {
		return nil // what is in the way shows when it is made
	}
	if target, err := os.Readlink(final); err == nil && strings.HasSuffix(filepath.Dir(target), filepath.FromSlash(job.WrapperDir+"/output")) {
		return nil
	}
	return &job.ConfigError{File: filepath.Base(final), Problem: "the job's output can't be written there: it is no regular file"}
}

// deliverOutputs takes back the files that a container that has ended wrote its output to, because the job may have changed
// their permissions, and moves them to their places. What the job left so that nobody can use it, is noted as lost.
func (k *Keeper) deliverOutputs() error {
	if k.o.Job.Logs.Writer == "" {
		return nil
	}
	finals := k.o.Job.Logs.Files()
	for i, name := range k.outputs() {
		if name == "" || !exists(name) { // delivered already
			continue
		}
		err := slot.Deliver(name, finals[i], k.o.Job.Slot.Bound)
		if errors.Is(err, slot.ErrUnusable) {
			logical := filepath.Base(finals[i])
			for _, l := range k.o.Job.Slot.Links {
				if l.Target == finals[i] {
					logical = l.Name
				}
			}
			why := err.Error()
			if err = k.store.Change(func(e *Episode) { e.lose(map[string]string{logical: why}) }); err == nil {
				err = os.Remove(name)
			}
		}
		if err != nil {
			return fmt.Errorf("deliver the job's output to %s: %w", finals[i], err)
		}
	}
	if dir := k.o.Job.Logs.Dir; dir != "" {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// written is how many bytes these files have.
func (k *Keeper) written() (sizes [2]int64) {
	finals := k.o.Job.Logs.Files()
	for i, name := range k.outputs() {
		fi, err := os.Lstat(name)
		if err != nil {
			fi, err = os.Lstat(finals[i]) // delivered already
		}
		if name != "" && err == nil && fi.Mode().IsRegular() {
			sizes[i] = fi.Size()
		}
	}
	return sizes
}

// openToAppend opens a file for the container's output, cut to its first keep bytes. Windows cuts no file that is open
// to be appended to.
func (k *Keeper) openToAppend(name string, keep int64) (*os.File, error) {
	file, err := k.openOutput(name, os.O_WRONLY|os.O_CREATE)
	if err == nil {
		err = errors.Join(file.Truncate(keep), file.Close())
	}
	if err == nil {
		file, err = k.openOutput(name, os.O_WRONLY|os.O_APPEND)
	}
	if err != nil {
		return nil, outputError(name, err)
	}
	return file, nil
}

// outputError tells what the job's own files prevent from what this computer does; nil for nil.
func outputError(name string, err error) error {
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe) && (errors.Is(err, fs.ErrExist) || !engine.HostsFault(err)):
		return &job.ConfigError{File: filepath.Base(name), Problem: "the job's output can't be written there: " + pe.Err.Error()}
	case err != nil:
		return fmt.Errorf("open the file for the job's output: %w", err)
	}
	return nil
}

// openOutput opens a file of the slot, or an output file in the project directory, for what the container prints. No
// symlink leads out of there.
func (k *Keeper) openOutput(name string, mode int) (*os.File, error) {
	dir := filepath.Dir(name)
	if rel, err := filepath.Rel(k.o.Job.Slot.Dir, name); err == nil && filepath.IsLocal(rel) {
		dir = k.o.Job.Slot.Dir
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return nil, err
	}
	if fi, err := root.Lstat(rel); err == nil && !fi.Mode().IsRegular() {
		return nil, &job.ConfigError{File: rel, Problem: "the job's output can't be written there: it is no regular file"}
	}
	if mode&os.O_CREATE != 0 {
		if err := root.MkdirAll(filepath.Dir(rel), 0o771); err != nil {
			return nil, err
		}
	}
	return root.OpenFile(rel, mode, 0o664)
}

// syncOutputs writes the files for the container's output to the disk, because output from before a checkpoint is not
// printed again after it. It returns their sizes.
func (k *Keeper) syncOutputs() (sizes [2]int64, err error) {
	for _, name := range k.outputs() {
		if name == "" {
			continue
		}
		f, err := k.openOutput(name, os.O_WRONLY)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return sizes, fmt.Errorf("write the job's output to the disk: %w", err)
		}
	}
	return k.written(), nil
}

// park ends a session whose container is left for later, and notes how much of its output was written and when the
// container was paused or told to stop; zero when it wasn't.
func (k *Keeper) park(at time.Time) {
	s := k.session
	k.session = nil
	if s == nil {
		k.store.Note(k.log, func(e *Episode) { e.Parked = at })
		return
	}
	last := s.logs.Stop()
	written := k.written()
	s.complain(s.closeFiles())
	k.store.Note(k.log, func(e *Episode) { e.LastLog, e.Written, e.Parked = last, written, at })
}

// drain writes the rest of the output of a container that has ended, and ends its session.
func (k *Keeper) drain(ctx context.Context) {
	s := k.session
	if s == nil {
		return
	}
	if err := s.logs.Drain(ctx); err != nil {
		k.log.Warn().Err(err).Msg("cannot read the end of the job's output")
	}
	k.session = nil
	last := s.logs.Last()
	written := k.written()
	s.complain(s.closeFiles())
	k.store.Note(k.log, func(e *Episode) { e.LastLog, e.Written = last, written }) // what follows may be broken off, and done again by the next episode
}

func (s *Session) closeFiles() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

func (s *Session) complain(err error) {
	if err != nil {
		s.k.log.Warn().Err(err).Msg("cannot write the job's output")
	}
}
