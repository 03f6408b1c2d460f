package slot

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	// sealName is the file that proves that an earlier episode of this job made the wrapper's directory.
	sealName = job.WrapperDir + "/seal"
	sealPart = sealName + ".part"

	sealSize = 2 * sha256.Size // bytes of a seal: a MAC in hexadecimal
)

// Seal returns a MAC of the words. Only who has the key can make it, and a job never sees the key.
func Seal(key []byte, words ...string) string {
	mac := hmac.New(sha256.New, key)
	for _, w := range words {
		fmt.Fprintf(mac, "%d:%s", len(w), w)
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Claim makes the wrapper's directory in the slot dir, or accepts the one that an earlier episode of the same job made.
// seal identifies the job, see [Seal].
//
// An open name of a job's file may contain slashes, and the client then makes the directories. So a workunit can put
// files under any name before the wrapper first starts. Claim reads nothing in a directory without the seal: the error
// is a *[job.ConfigError].
func Claim(dir, seal string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open slot: %w", err)
	}
	defer root.Close()
	switch made, err := sealed(root, seal); {
	case err != nil:
		return fmt.Errorf("look for %s: %w", job.WrapperDir, err)
	case made:
		return root.Chmod(job.WrapperDir, stateMode)
	}
	if err := unclaimed(root); err != nil {
		return err
	}
	if err = root.Mkdir(job.WrapperDir, stateMode); errors.Is(err, fs.ErrExist) {
		err = root.Chmod(job.WrapperDir, stateMode)
	}
	if err == nil {
		// Synced, because every later file of the wrapper is valid only with the seal.
		err = host.ReplaceSynced(root, sealPart, sealName, 0o600, func(f *os.File) error {
			_, err := f.WriteString(seal)
			return err
		})
	}
	if err == nil {
		err = host.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", job.WrapperDir, err)
	}
	return nil
}

// RemoveReservedDirs removes directories that a workunit put under BOINC's file names, because the client and the
// wrapper must write files there. It returns a *[job.ConfigError] if it removed one.
func RemoveReservedDirs(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open slot: %w", err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read slot: %w", err)
	}
	var found error
	for _, e := range entries {
		if !e.IsDir() || !boincapi.Reserved(e.Name()) {
			continue
		}
		if err := root.RemoveAll(e.Name()); err != nil {
			return fmt.Errorf("remove %s: %w", e.Name(), err)
		}
		found = &job.ConfigError{File: e.Name(), Problem: "the job has a directory of this name, which is BOINC's",
			Hint: "give the job's files other names"}
	}
	return found
}

// stateMode keeps the host's other users out of the wrapper's directory. Files that the job makes in the payload may
// have set-user-ID bits until they are moved out.
const stateMode = 0o700

// sealed reports whether the wrapper's directory carries this seal.
func sealed(root *os.Root, seal string) (bool, error) {
	if fi, err := root.Lstat(job.WrapperDir); err != nil || !fi.IsDir() {
		return false, ignoreAbsent(err) // unclaimed reports anything else of this name
	}
	fi, err := root.Lstat(sealName)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != sealSize {
		return false, ignoreAbsent(err)
	}
	f, err := root.Open(sealName)
	if err != nil {
		return false, err
	}
	defer f.Close()
	found, err := io.ReadAll(io.LimitReader(f, sealSize))
	return hmac.Equal(found, []byte(seal)), err
}

// ignoreAbsent returns nil for the errors "no such file" and "not a directory".
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

// unclaimed returns a *[job.ConfigError] if the job has put something where the wrapper's directory belongs, in any
// spelling that a file system may treat as the same name. An empty directory is no error: a wrapper that was killed in
// Claim leaves one.
func unclaimed(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return fmt.Errorf("read slot: %w", err)
	}
	foreign := func(name string) error {
		return &job.ConfigError{File: name, Problem: "this name is for the wrapper's own files, and no wrapper on this computer made it",
			Hint: "either a file of the job has this name, or .docker_wrapper_key beside the projects' directories was lost or replaced"}
	}
	for _, e := range entries {
		switch {
		case boincapi.FoldName(e.Name()) != job.WrapperDir:
			continue
		case e.Name() != job.WrapperDir || !e.IsDir():
			return foreign(e.Name())
		}
		inside, err := fs.ReadDir(root.FS(), job.WrapperDir)
		if err != nil {
			return fmt.Errorf("read %s: %w", job.WrapperDir, err)
		}
		for _, in := range inside {
			if name := job.WrapperDir + "/" + in.Name(); name != sealPart {
				return foreign(name)
			}
		}
	}
	return nil
}
