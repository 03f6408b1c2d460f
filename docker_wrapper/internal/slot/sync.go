package slot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// maxSynced is how many files Sync writes to the disk one by one. Each may take a disk's cache flush, of 10 ms; if there
// are more, the whole file system is written.
const maxSynced = 1000

var errTooMany = errors.New("too many files")

// Sync writes the job's files to the disk: the outputs in the project directory, what was copied out of the container,
// what was moved out of the payload, and files ("" for none). After a loss of power they are as complete as the note that the job has ended.
func Sync(s job.Slot, copies []job.Copy, files ...string) error {
	dirs := map[string]bool{}
	left := maxSynced
	add := func(name string) error {
		if left--; left < 0 {
			return errTooMany
		}
		dirs[filepath.Dir(name)] = true
		return syncFile(name)
	}
	err := func() error {
		for _, l := range s.Links {
			if l.Output {
				if err := add(l.Target); err != nil {
					return err
				}
			}
		}
		for _, name := range files {
			if name != "" {
				if err := add(name); err != nil {
					return err
				}
			}
		}
		trees := []string{}
		if s.Move {
			trees = append(trees, s.Dir)
		}
		for _, c := range copies {
			trees = append(trees, filepath.Join(c.Root, filepath.FromSlash(c.Dst)))
		}
		for _, tree := range trees {
			err := filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
				switch {
				case err != nil:
					return unlessFinal(err)
				case d.IsDir() && filepath.Dir(name) == s.Dir && job.Reserved(d.Name()):
					return fs.SkipDir
				case d.Type().IsRegular():
					return add(name)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}()
	if errors.Is(err, errTooMany) {
		err = host.SyncAll(s.Dir)
		for _, l := range s.Links {
			if l.Output {
				return errors.Join(err, host.SyncAll(filepath.Dir(l.Target)))
			}
		}
	}
	for dir := range dirs {
		if err == nil {
			err = unlessFinal(host.SyncDir(dir))
		}
	}
	return err
}

// syncFile writes a file's data to the disk. One that isn't there, or can't be opened, has none of the job's.
func syncFile(name string) error {
	fi, err := os.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return unlessFinal(err)
	}
	f, err := os.OpenFile(name, syncMode, 0)
	if err != nil {
		return unlessFinal(err)
	}
	return errors.Join(unlessFinal(f.Sync()), f.Close())
}
