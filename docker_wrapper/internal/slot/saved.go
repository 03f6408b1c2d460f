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

	"boincdocker/docker_wrapper/internal/host"
)

// unfinished is the suffix of an incomplete checkpoint.
const unfinished = ".part"

// Saved is the wrapper's directory of a job's checkpoints. Each checkpoint is a directory named by a number, complete or
// absent. The highest number is the newest.
type Saved struct{ Dir string }

// Newest returns the absolute path of the newest checkpoint's directory, "" if there is none.
func (s Saved) Newest() (string, error) {
	numbers, err := s.numbers()
	if err != nil || len(numbers) == 0 {
		return "", err
	}
	return s.path(numbers[len(numbers)-1]), nil
}

// Begin makes an empty directory for the next checkpoint, which is valid once Commit has returned. It removes incomplete
// checkpoints.
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

// Commit makes dir, which Begin returned, the newest checkpoint. It syncs the checkpoint to the disk first and removes
// the older ones last.
func (s Saved) Commit(dir string) error {
	number, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(dir), unfinished))
	if err == nil {
		err = syncAll(dir)
	}
	if err == nil {
		err = os.Rename(dir, s.path(number))
	}
	if err == nil {
		err = errors.Join(host.SyncDir(s.Dir), host.SyncDir(filepath.Dir(s.Dir)))
	}
	if err != nil {
		return fmt.Errorf("put a checkpoint in its place: %w", err)
	}
	return s.drop(number)
}

// Clear removes all checkpoints.
func (s Saved) Clear() error {
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("remove checkpoints: %w", err)
	}
	return nil
}

func (s Saved) path(number int) string { return filepath.Join(s.Dir, strconv.Itoa(number)) }

// numbers returns the numbers of the complete checkpoints, sorted.
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

// drop removes all checkpoints but one.
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

// syncAll syncs all files and directories below dir, and dir.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return host.SyncDir(name)
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

// Size returns the bytes of all files below dir, as the client counts them against a job's rsc_disk_bound. Files that
// disappear meanwhile, and directories to which the job has removed access, don't count.
func Size(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var fi fs.FileInfo
			if fi, err = d.Info(); err == nil {
				size += fi.Size()
			}
		}
		return unlessFinal(err)
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return size, nil
}
