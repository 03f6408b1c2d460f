package boincapi

import (
	"sync"
	"time"
)

// defaultCheckpointPeriod stands for a period of 0. Source: DEFAULT_CHECKPOINT_PERIOD in BOINC's
// lib/app_ipc.h.
const defaultCheckpointPeriod = 300 * time.Second

// A checkpointTimer runs from checkpoint to checkpoint, also while the job is suspended.
type checkpointTimer struct {
	mu         sync.Mutex
	preference time.Duration // the volunteer's
	override   time.Duration // the job's, in place of the preference; 0 for none
	minimum    time.Duration // the app's
	armed      time.Time     // when the period began
	due        time.Time
}

func (t *checkpointTimer) start(preference float64) {
	t.setPreference(preference)
	t.arm()
}

func (t *checkpointTimer) setPreference(seconds float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.preference = time.Duration(int64(min(max(seconds, 0), 1e9))) * time.Second
}

func (t *checkpointTimer) arm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = time.Now()
	t.due = t.armed.Add(t.period())
}

func (t *checkpointTimer) period() time.Duration {
	period := t.preference
	if t.override > 0 {
		period = t.override
	}
	period = max(period, t.minimum)
	if period <= 0 {
		period = defaultCheckpointPeriod
	}
	return period
}

// TimeToCheckpoint reports whether the checkpoint period is over, until CheckpointCompleted begins the
// next one. The period is the volunteer's preference, 300 s if that is 0, unless the two setters say
// otherwise.
//
// Rule: boinc_time_to_checkpoint in BOINC's api/boinc_api.cpp.
func (a *App) TimeToCheckpoint() bool {
	t := &a.checkpoint
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.due.IsZero() && !time.Now().Before(t.due)
}

// CheckpointCompleted begins the next period. That there is a checkpoint the client learns from
// Report.CheckpointCPU.
func (a *App) CheckpointCompleted() { a.checkpoint.arm() }

// SetMinCheckpointPeriod keeps periods from being shorter than d; the one that runs is prolonged to
// end d from now at the earliest.
func (a *App) SetMinCheckpointPeriod(d time.Duration) {
	t := &a.checkpoint
	t.mu.Lock()
	defer t.mu.Unlock()
	t.minimum = d
	if earliest := time.Now().Add(d); !t.due.IsZero() && t.due.Before(earliest) {
		t.due = earliest
	}
}

// SetCheckpointPeriod puts d in place of the volunteer's preference, from the beginning of the period
// that runs; 0 takes it back.
func (a *App) SetCheckpointPeriod(d time.Duration) {
	t := &a.checkpoint
	t.mu.Lock()
	defer t.mu.Unlock()
	t.override = d
	if !t.armed.IsZero() {
		t.due = t.armed.Add(t.period())
	}
}
