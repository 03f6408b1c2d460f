package job

import (
	"errors"
	"time"
)

// What the rooms session and supervise tell each other about a container.

// Before is what came before a container is prepared.
type Before struct {
	CPU     time.Duration // CPU time of the job up to its last checkpoint
	Outside bool          // the last container was ended from outside: its exit is not the job's
	Stopped time.Time     // when the last container was told to stop because it can't be paused; zero when it wasn't
}

// Start says how a container stands when it is handed over.
type Start struct {
	Paused  bool
	Parted  bool          // an earlier episode may have disconnected it from its network
	Began   bool          // its program has just begun, from the last checkpoint if there is one
	CPUBase time.Duration // CPU time of earlier containers of this job
	Newest  time.Time     // when the job had made its newest checkpoint; zero for none
	Unsaved bool          // that checkpoint may be newer than what is saved
	Unable  bool          // it can't be checkpointed, whatever the job asks for
	Anew    bool          // the last checkpoint is lost, and the program began from nothing
}

// Mark is how far a job was at a checkpoint.
type Mark struct {
	At  time.Time     `json:"at"`  // when the checkpoint was made; zero for no checkpoint
	CPU time.Duration `json:"cpu"` // over all episodes
	Ran time.Duration `json:"ran"` // likewise
}

// ErrDropped is wrapped when a checkpoint could not be saved, and the one before had to be removed.
var ErrDropped = errors.New("the last checkpoint is dropped")

// Any reports that the job is checkpointed at all.
func (c Checkpoint) Any() bool { return c.Method != ByNobody && c.Method != "" }

// Near reports that the time of the job's newest checkpoint costs next to nothing to look up.
func (c Checkpoint) Near() bool { return c.File != "" }

// Asks reports that the job is asked for a checkpoint by a signal.
func (c Checkpoint) Asks() bool { return c.Signal != "" && !c.Whole() }

// Saves reports that a checkpoint must be copied out of the container, or made by the engine, before it counts.
func (c Checkpoint) Saves() bool { return c.Whole() || len(c.Copy) > 0 }
