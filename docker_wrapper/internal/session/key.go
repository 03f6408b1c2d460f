package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

const (
	// keyFile lies beside the projects' directories. No project chooses a name there, and no container sees it.
	keyFile = ".docker_wrapper_key"
	keySize = 32 // bytes; as SHA-256 has

	keyPatience = 10 * time.Second // until another wrapper has made it
	keyRetry    = 20 * time.Millisecond
)

// ErrKey: the wrapper can't tell its own files and containers from a job's.
var ErrKey = errors.New("the key of the wrappers")

// Key is what all wrappers of a BOINC data directory share, and what no job sees.
type Key []byte

// ReadKey reads it, and makes it first where there is none. Its error wraps ErrKey.
func ReadKey(ctx context.Context, dataDir string) (Key, error) {
	name := filepath.Join(dataDir, "projects", keyFile)
	key, err := keyIn(name)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, nil
}

func keyIn(name string) ([]byte, error) {
	fi, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("it is no file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, keySize+1))
	if err == nil && len(key) != keySize {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it has not %d bytes: remove it, and jobs that have begun are lost", keySize)}
	}
	return key, err
}

// makeKey makes the key whole or not at all, one wrapper at a time.
func makeKey(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyPatience)
	defer cancel()
	l := flock.New(name+".lock", flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, keyRetry); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	defer l.Close()
	if key, err := keyIn(name); !errors.Is(err, fs.ErrNotExist) {
		return key, err // another wrapper was faster
	}
	key := make([]byte, keySize)
	rand.Read(key)
	return key, host.WriteFile(name, key, 0o600)
}

// Slot is what proves that the wrapper's directory in a slot is this job's. It holds wherever BOINC's data directory is moved to.
func (k Key) Slot(d *boincapi.InitData) string {
	return slot.Seal(k, "slot", filepath.Base(d.ProjectDir), d.WUName, d.ResultName)
}

// Labels are those of the container of this job, with the proof that a wrapper made it. dir is the slot.
func (k Key) Labels(d *boincapi.InitData, dir string) map[string]string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	labels := job.ContainerLabels(d, dir)
	labels[job.LabelProof] = k.container(job.ContainerName(d, dir), labels)
	return labels
}

// container is what proves that a wrapper made the container of this name with these labels: those of an image or of a stranger's
// container carry none.
func (k Key) container(name string, labels map[string]string) string {
	words := []string{"container", name}
	for _, l := range []string{job.LabelDataDir, job.LabelProject, job.LabelResult, job.LabelSlot} {
		words = append(words, labels[l])
	}
	return slot.Seal(k, words...)
}
