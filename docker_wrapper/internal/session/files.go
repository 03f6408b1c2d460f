package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// openPayload makes the container's side of the slot.
func (k *Keeper) openPayload() error {
	j := k.o.Job
	if j.Slot.Move {
		redacted, err := k.redactedInitData()
		if err != nil {
			return err
		}
		if err := slot.MoveIn(j.Slot, redacted); err != nil {
			return err
		}
		k.mail.deliver() // a job may look only at its start
		k.mail.sporadic()
	} else if !k.standalone() {
		if err := slot.NoteLinks(j.Slot); err != nil {
			return err
		}
	}
	if j.Slot.MakeOutputs {
		if err := slot.MakeOutputs(j.Slot); err != nil {
			return err
		}
	}
	if j.Slot.Payload != "" && j.Container.User.Mode != "auto" {
		return slot.AllowWrites(j.Slot) // its user is not BOINC's
	}
	return nil
}

func (k *Keeper) renewInitData() error {
	if !k.o.Job.Slot.Move {
		return nil
	}
	redacted, err := k.redactedInitData()
	if err != nil {
		return err
	}
	return slot.WriteInitData(k.o.Job.Slot, redacted)
}

func (k *Keeper) redactedInitData() ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(k.o.Dir, boincapi.InitDataFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", boincapi.InitDataFile, err)
	}
	raw = boincapi.Redact(raw)
	if k.o.Job.Container.GPU != nil {
		raw = boincapi.FirstGPU(raw)
	}
	return raw, nil
}

// takeOwnership gives the job's files to BOINC's user if the container ran as another one. Files whose owner can't be
// changed can still be moved if their directories allow it. shared lets the container's user keep using the files.
func (k *Keeper) takeOwnership(ctx context.Context, shared bool) {
	u, dir := k.o.Job.Container.User, k.o.Job.Slot.Payload
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return // the payload was not made yet
	}
	if !slot.OthersOwn(dir, os.Getuid()) || k.standalone() && u.Mode == "auto" {
		return
	}
	err := errors.New("not root")
	if os.Getuid() == 0 {
		err = slot.ChangeOwner(dir, 0, os.Getgid(), shared)
	} else if self, exeErr := os.Executable(); exeErr == nil && k.container != nil {
		uid, gid := os.Getuid(), os.Getgid()
		if k.engine.Info.Rootless {
			uid, gid = 0, 0 // as its containers call the engine's user
		}
		err = k.container.RunHelper(ctx, k.o.Job, self, dir, fmt.Sprintf("%d:%d:%t", uid, gid, shared))
	}
	if err != nil {
		k.log.Warn().Err(err).Msg("some of the job's files still belong to another user")
	}
}

// moveOut takes the job's files out of the payload. It returns the linked outputs that the job leaves undelivered.
func (k *Keeper) moveOut() (lost []job.Left, err error) {
	s := k.o.Job.Slot
	why := map[string]string{}
	if s.Move {
		moved, err := slot.MoveOut(s)
		for _, l := range moved.LeftOut {
			k.log.Warn().Str("file", l.Name).Msg("not moved: " + l.Why)
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(why, moved.Lost)
	}
	switch {
	case k.standalone():
		why, err = slot.MoveOutputs(s)
	case s.MakeOutputs:
		err = slot.DropOutputs(s, why)
	}
	if err != nil {
		return nil, err
	}
	return slot.Lost(s, why), nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
