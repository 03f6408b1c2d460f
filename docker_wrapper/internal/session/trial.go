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
	trialPatience = 2 * time.Minute               // twice the longest trial
	trialRetry    = 100 * time.Millisecond
)

// ability says whether this engine can checkpoint containers of this job.
type ability struct{ known, can bool }

// able reports whether this engine can checkpoint containers of this job. The first call makes a trial.
func (k *Keeper) able(ctx context.Context) bool {
	if !k.o.Job.Checkpoint.Whole() {
		return true // the engine isn't needed
	}
	if k.ability.known {
		return k.ability.can
	}
	err := k.engine.CanCheckpoint(k.o.Job)
	if err == nil {
		err = k.trial(ctx)
	}
	if errors.Is(err, context.Canceled) { // unknown: if checkpoints fail then, they are tried ever more rarely
		return true
	}
	k.ability = ability{known: !errors.Is(err, engine.ErrUnreachable), can: err == nil} // an engine that doesn't answer may be able
	if err != nil {
		level := zerolog.DebugLevel
		if k.o.Job.Checkpoint.Method == job.ByEngine { // job.toml asks for it
			level = zerolog.WarnLevel
		}
		k.log.WithLevel(level).Err(err).Msg("no checkpoints through this engine")
	}
	return k.ability.can
}

// trialNotes has the results of trials since the computer was started. The key names the engine and the properties of
// the job on which the result depends. The result is why the engine can't checkpoint; "" means that it can.
type trialNotes struct {
	Boot string            `json:"boot"`
	Said map[string]string `json:"said"`
}

// trialsOf is the beginning of the keys of an engine's trials.
func trialsOf(i engine.Info, version string) string {
	return fmt.Sprint(i.Kind, " ", i.Version, " ", i.Host, " ", version, " ")
}

// Tried returns the results of this engine's trials since the computer was started, made by this version of the
// wrapper. The key names the properties of the job on which the result depends. The result is why the engine can't
// checkpoint, or "" if it can. Without a data directory ("") there are none.
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

// trialKey is the key of the trial for jobs like this one.
func (k *Keeper) trialKey() string {
	return trialsOf(k.engine.Info, k.o.Version) + fmt.Sprint(k.o.Job.Container.Network, " ", k.o.Job.Container.User)
}

// readTrials reads the results since this boot; none if the boot has no ID.
func readTrials(name, boot string) trialNotes {
	var t trialNotes
	if err := readJSON(name, &t); err != nil || boot == "" || t.Boot != boot || t.Said == nil {
		return trialNotes{Boot: boot, Said: map[string]string{}}
	}
	return t
}

// trial tries with a container of its own whether the engine can checkpoint, or returns the noted result since the
// computer was started. Of many jobs that start at once, one makes the trial.
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
	err := k.tryOut(context.WithoutCancel(ctx)) // the trial ends even if the client suspends each second or tells the wrapper to quit
	if saysNothing(err) {
		return err
	}
	if err != nil {
		said, _, _ = strings.Cut(err.Error(), "\n")
	}
	t := readTrials(name, boot)
	t.Said[key] = said
	if writeErr := writeJSON(name, t); writeErr != nil {
		k.log.Debug().Err(writeErr).Msg("cannot note the trial; the next job repeats it")
	}
	return err
}

// lockTrial waits until no other wrapper makes a trial. The lock ends with the process. Without a lock, or after
// trialPatience, the wrapper goes on: a second trial does no harm.
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
		k.log.Warn().Err(removeErr).Msg("cannot remove the files of a trial")
	}
	return err
}

// saysNothing reports whether a trial failed for a reason that has nothing to do with checkpoints: it took too long,
// the engine didn't answer, or the disk was full. Such a result isn't noted.
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
