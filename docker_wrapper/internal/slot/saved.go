package slot

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unfinished marks a checkpoint that is being made.
const unfinished = ".part"

// Saved is a directory of the wrapper's with what a job has saved at its newest checkpoint, whole or not at all: each
// checkpoint is a directory of its own, named by a number, and the highest number counts.
type Saved struct{ Dir string }

// Newest is the directory of the newest checkpoint, absolute; "" when there is none.
func (s Saved) Newest() (string, error) {
	numbers, err := s.numbers()
	if err != nil || len(numbers) == 0 {
		return "", err
	}
	return s.path(numbers[len(numbers)-1]), nil
}

// Begin makes an empty directory for the next checkpoint, which counts when Commit has returned. What an earlier one
// that was broken off has left goes.
func (s Saved) Begin() (dir string, err error) {
	numbers, err := s.numbers()
	if err != nil {
		return "", err
	}
	next := 1
	if len(numbers) > 0 {
		next += numbers[len(numbers)-1]
	}
	dir = s.path(next) + unfinished
	if err := s.drop(next - 1); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o770); err != nil {
		return "", fmt.Errorf("begin a checkpoint: %w", err)
	}
	return dir, nil
}

// Commit puts what is in dir, which Begin gave, in the place of the checkpoint before. It is on the disk then; the old
// one is removed after that.
func (s Saved) Commit(dir string) error {
	number, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(dir), unfinished))
	if err == nil {
		err = syncAll(dir)
	}
	if err == nil {
		err = os.Rename(dir, s.path(number))
	}
	if err == nil {
		err = errors.Join(SyncDir(s.Dir), SyncDir(filepath.Dir(s.Dir)))
	}
	if err != nil {
		return fmt.Errorf("put a checkpoint in its place: %w", err)
	}
	return s.drop(number)
}

// Clear removes all of them.
func (s Saved) Clear() error {
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("remove checkpoints: %w", err)
	}
	return nil
}

func (s Saved) path(number int) string { return filepath.Join(s.Dir, strconv.Itoa(number)) }

// numbers are those of the whole ones, sorted.
func (s Saved) numbers() ([]int, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for checkpoints: %w", err)
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// drop removes all but one.
func (s Saved) drop(but int) error {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != strconv.Itoa(but) {
			err = cmp.Or(err, os.RemoveAll(filepath.Join(s.Dir, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("remove an older checkpoint: %w", err)
	}
	return nil
}

// syncAll has everything below dir written to the disk.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return SyncDir(name)
		case !d.Type().IsRegular():
			return nil
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// Size is how many bytes lie below dir, as the client counts them against a job's bound. What vanishes meanwhile
// doesn't count.
func Size(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var fi fs.FileInfo
			if fi, err = d.Info(); err == nil {
				size += fi.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return size, nil
}
