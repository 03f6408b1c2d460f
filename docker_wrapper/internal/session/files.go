package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// openPayload makes the container's side of the slot.
func (k *Keeper) openPayload(ctx context.Context) error {
	j := k.o.Job
	foreign := j.Slot.Payload != "" && j.Container.User.Mode != job.UserBOINC && !k.standalone()
	if foreign {
		k.takeOwnership(ctx, true) // of what an earlier container left
	}
	if j.Slot.Move {
		redacted, err := k.redactedInitData()
		if err != nil {
			return err
		}
		if err := slot.MoveIn(j.Slot, redacted); err != nil {
			return err
		}
		k.mail.deliver(ctx) // a job may look only at its start
		k.mail.sporadic(ctx)
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
	if foreign {
		return slot.AllowWrites(j.Slot)
	}
	return nil
}

// openByHand lets the container's user write to the directory of a job that is started by hand, if it isn't root or the
// user of this process. takeOwnership undoes it.
func (k *Keeper) openByHand(ctx context.Context, c *engine.Container) error {
	j := k.o.Job
	if !k.standalone() || j.Slot.Payload == "" || j.Container.User.Mode == job.UserBOINC {
		return nil
	}
	uid, _, err := c.Owner(ctx)
	if err != nil || uid == 0 || uid == os.Getuid() && !k.engine.Info.Rootless {
		return err
	}
	fi, err := os.Stat(j.Slot.Payload)
	if err != nil {
		return err
	}
	if k.mode == 0 { // else an earlier container of this run has changed it
		k.mode = fi.Mode()
	}
	return slot.AllowWrites(j.Slot)
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
	dir := k.o.Job.Slot.Payload
	if k.mode != 0 {
		if err := os.Chmod(dir, k.mode); err != nil {
			k.log.Warn().Err(err).Msg("others may still write to this directory")
		}
		k.mode = 0
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return // the payload was not made yet
	}
	if k.standalone() && (os.Getuid() == 0 || k.began.IsZero()) || !slot.OthersOwn(dir, os.Getuid()) {
		return // by hand, root can use all files, and before the start there are none of the job's
	}
	if err := k.own(ctx, shared); err != nil {
		k.log.Warn().Err(err).Msg("some of the job's files still belong to another user")
	}
}

// own gives the files of the payload, all or those of these names, to BOINC's user. By hand it leaves those that were
// there before.
func (k *Keeper) own(ctx context.Context, shared bool, names ...string) error {
	k.owning.Lock() // a helper container has one name
	defer k.owning.Unlock()
	dir, to := k.o.Job.Slot.Payload, slot.Owner{UID: os.Getuid(), GID: os.Getgid(), Shared: shared}
	if to.UID == 0 {
		return slot.ChangeOwner(dir, to, names...)
	}
	self, err := os.Executable()
	if err == nil && runtime.GOOS != "linux" {
		err = errors.New("this program doesn't run in containers")
	}
	if err != nil {
		return err
	}
	if err := k.openEngine(ctx); err != nil {
		return err
	}
	if k.standalone() {
		to.Since = k.began.UnixNano()
	}
	if k.engine.Info.Rootless {
		to.UID, to.GID = 0, 0 // as its containers call the engine's user
	}
	return k.engine.RunHelper(ctx, k.o.Job, self, dir, fmt.Sprintf("%d:%d:%t:%d", to.UID, to.GID, to.Shared, to.Since), names...)
}

// moveOut takes the job's files out of the payload. It returns the linked outputs that the job leaves undelivered.
func (k *Keeper) moveOut() (lost []job.Left, err error) {
	s := k.o.Job.Slot
	why := map[string]string{}
	if s.Move {
		moved, err := slot.MoveOut(s, func(lost map[string]string) error {
			return k.store.Change(func(e *Episode) { e.lose(lost) })
		})
		for _, l := range moved.LeftOut {
			k.log.Warn().Str("file", l.Name).Msg("not moved: " + l.Why)
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(why, k.store.Episode().Lost) // also of a move that an earlier episode broke off
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
