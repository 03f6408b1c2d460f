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
	// keyFile is beside the projects' directories. No project can choose a name there, and no container sees it.
	keyFile = ".docker_wrapper_key"
	keySize = 32 // bytes, as in a SHA-256

	keyPatience = 10 * time.Second // how long another wrapper may take to make it
	keyRetry    = 20 * time.Millisecond
)

// ErrKey: the wrapper can't tell its own files and containers from a job's.
var ErrKey = errors.New("the key of the wrappers")

// Key is the secret that all wrappers of a BOINC data directory share. No job sees it.
type Key []byte

// ReadKey reads the key, and makes it if there is none. Its error wraps ErrKey.
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
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, keySize+1))
	if err == nil && len(key) != keySize {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("want %d bytes; remove the file to get a new key, but then jobs that have begun fail", keySize)}
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

// Slot returns the seal for the wrapper's directory in this job's slot; see [slot.Claim]. It stays the same if BOINC's
// data directory is moved.
func (k Key) Slot(d *boincapi.InitData) string {
	return slot.Seal(k, "slot", filepath.Base(d.ProjectDir), d.WUName, d.ResultName)
}

// Labels returns the labels of this job's container, with the proof that a wrapper made it. dir is the slot.
func (k Key) Labels(d *boincapi.InitData, dir string) map[string]string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	labels := job.ContainerLabels(d, dir)
	labels[job.LabelProof] = k.container(job.ContainerName(d, dir), labels)
	return labels
}

// container returns the proof that a wrapper made the container of this name with these labels. Who builds an image or
// starts a container can choose all labels but this one.
func (k Key) container(name string, labels map[string]string) string {
	words := []string{"container", name}
	for _, l := range []string{job.LabelDataDir, job.LabelProject, job.LabelResult, job.LabelSlot} {
		words = append(words, labels[l])
	}
	return slot.Seal(k, words...)
}
