package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/rs/zerolog"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

const (
	trialsFile    = ".docker_wrapper_trials.json" // beside the projects' directories
	trialPatience = 2 * time.Minute               // twice what one may take
	trialRetry    = 100 * time.Millisecond
)

// ability is whether this engine can checkpoint containers of this job.
type ability struct{ known, can bool }

// able reports whether containers of this job can be checkpointed through the engine. It is found out once, by trial.
func (k *Keeper) able(ctx context.Context) bool {
	if !k.o.Job.Checkpoint.Whole() {
		return true // it is not the engine that does it
	}
	if k.ability.known {
		return k.ability.can
	}
	err := k.engine.CanCheckpoint(k.o.Job)
	if err == nil {
		err = k.trial(ctx)
	}
	if errors.Is(err, context.Canceled) { // it was not found out; what fails then is tried ever more seldom
		return true
	}
	k.ability = ability{known: !errors.Is(err, engine.ErrUnreachable), can: err == nil} // that says nothing
	if err != nil {
		level := zerolog.DebugLevel
		if k.o.Job.Checkpoint.Method == job.ByEngine { // it was asked for
			level = zerolog.WarnLevel
		}
		k.log.WithLevel(level).Err(err).Msg("no checkpoints through this engine")
	}
	return k.ability.can
}

// trialNotes is how trials went since the computer was started, by engine and whatever else of the job matters. "" means that
// it can.
type trialNotes struct {
	Boot string            `json:"boot"`
	Said map[string]string `json:"said"`
}

// trialsOf is how the notes call the trials with an engine.
func trialsOf(i engine.Info, version string) string {
	return fmt.Sprint(i.Kind, " ", i.Version, " ", i.Host, " ", version, " ")
}

// Tried is how the trials with this engine went since the computer was started, by what of the job mattered: why it can't
// checkpoint, or "" where it can. It holds for this version of the wrapper, which tried. No data directory, "", has no trials.
func Tried(dataDir string, i engine.Info, version string) map[string]string {
	tried := map[string]string{}
	if dataDir == "" {
		return tried
	}
	for key, said := range readTrials(filepath.Join(dataDir, "projects", trialsFile), host.BootID()).Said {
		if rest, ours := strings.CutPrefix(key, trialsOf(i, version)); ours {
			tried[rest] = said
		}
	}
	return tried
}

// trialKey is how they call that of jobs like this one.
func (k *Keeper) trialKey() string {
	return trialsOf(k.engine.Info, k.o.Version) + fmt.Sprint(k.o.Job.Container.Network, " ", k.o.Job.Container.User)
}

// readTrials gives those of this boot, none if that has no name.
func readTrials(name, boot string) trialNotes {
	var t trialNotes
	if err := readJSON(name, &t); err != nil || boot == "" || t.Boot != boot || t.Said == nil {
		return trialNotes{Boot: boot, Said: map[string]string{}}
	}
	return t
}

// trial tries it out with a container of its own, or remembers how that went since the computer was started. Of many jobs that
// start at once one does.
func (k *Keeper) trial(ctx context.Context) error {
	boot := host.BootID()
	key := k.trialKey()
	name := filepath.Join(k.o.Init.BoincDir, "projects", trialsFile)
	said, known := readTrials(name, boot).Said[key]
	if !known {
		unlock, err := k.lockTrial(ctx, name)
		if err != nil {
			return err
		}
		defer unlock()
		said, known = readTrials(name, boot).Said[key]
	}
	switch {
	case !known:
	case said == "":
		return nil
	default:
		return errors.New(said)
	}
	err := k.tryOut(context.WithoutCancel(ctx)) // to its end, though the client suspends each second or wants us gone
	if saysNothing(err) {
		return err
	}
	if err != nil {
		said, _, _ = strings.Cut(err.Error(), "\n")
	}
	t := readTrials(name, boot)
	t.Said[key] = said
	if writeErr := writeJSON(name, t); writeErr != nil {
		k.log.Debug().Err(writeErr).Msg("the trial is made again the next time")
	}
	return err
}

// lockTrial waits until no other wrapper makes a trial. The lock goes with the process. Where there can be none, or after some
// time, a second trial does no harm.
func (k *Keeper) lockTrial(ctx context.Context, name string) (unlock func(), err error) {
	l := flock.New(name+".lock", flock.SetPermissions(0o664))
	unlock = func() { l.Close() }
	if ok, err := l.TryLock(); ok || err != nil {
		return unlock, nil
	}
	k.log.Info().Msg("another job tries out whether this engine can checkpoint: waiting")
	waitCtx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	l.TryLockContext(waitCtx, trialRetry)
	return unlock, ctx.Err()
}

// tryOut makes a trial.
func (k *Keeper) tryOut(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(k.stateDir(), "trial")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o770)); err != nil {
		return err
	}
	k.log.Info().Msg("trying out whether this engine can checkpoint")
	began := time.Now()
	err = k.engine.TryCheckpoint(ctx, k.o.Job, self, dir)
	k.log.Info().Bool("can", err == nil).Stringer("took", time.Since(began).Round(time.Millisecond)).Msg("tried it out")
	if removeErr := os.RemoveAll(dir); removeErr != nil {
		k.log.Warn().Err(removeErr).Msg("what a trial has written is left")
	}
	return err
}

// saysNothing reports a trial of which nothing is to be remembered: it came too late, the engine was away or the disk full.
func saysNothing(err error) bool {
	return errors.Is(err, engine.ErrLate) || errors.Is(err, engine.ErrUnreachable) || errors.Is(err, engine.ErrDiskFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, engine.ErrNotFound)
}

func readJSON(name string, v any) error {
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	return err
}

// writeJSON writes a file whole or not at all.
func writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return host.WriteFile(name, data, 0o660)
}
