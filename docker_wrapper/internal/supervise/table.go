package supervise

import (
	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

// State is where a job stands in this episode.
type State int

const (
	Waiting   State = iota // nothing runs: suspended before the start, or waiting to try again
	Preparing              // image and container are being made
	Running
	Paused
	Parking // a last checkpoint is made, then the container is stopped or paused
	Ended
)

func (s State) String() string {
	return [...]string{"waiting", "preparing", "running", "paused", "parking", "ended"}[s]
}

// up reports that there is a container which the client lets run or has suspended.
func (s State) up() bool { return s == Running || s == Paused }

// wish is what the client wants. It is a level: the newest counts, and asking twice changes nothing.
type wish int

const (
	run wish = iota
	suspend
	leave // quit, client lost, signal: end, but so that the next episode resumes the job
	abort
)

func (w wish) String() string { return [...]string{"run", "suspend", "leave", "abort"}[w] }

// wishOf reads the client's flags. Abort wins: there is nothing left to save.
func wishOf(s boincapi.Status) wish {
	switch {
	case s.Abort:
		return abort
	case s.Quit, s.ClientLost:
		return leave
	case s.Suspended:
		return suspend
	default:
		return run
	}
}

type action int

const (
	nothing action = iota
	prepare
	cancel
	pause
	unpause
	park
	kill
)

// moves is what is done for a wish in a state, and the state that follows at once. A preparation that is cancelled stays one
// until it has come back.
var moves = [...][4]struct {
	do action
	to State
}{
	Waiting:   {run: {prepare, Preparing}, suspend: {nothing, Waiting}, leave: {nothing, Ended}, abort: {nothing, Ended}},
	Preparing: {run: {nothing, Preparing}, suspend: {cancel, Preparing}, leave: {cancel, Preparing}, abort: {cancel, Preparing}},
	Running:   {run: {nothing, Running}, suspend: {pause, Paused}, leave: {park, Parking}, abort: {kill, Ended}},
	Paused:    {run: {unpause, Running}, suspend: {nothing, Paused}, leave: {park, Parking}, abort: {kill, Ended}},
	Parking:   {run: {nothing, Parking}, suspend: {nothing, Parking}, leave: {nothing, Parking}, abort: {kill, Ended}},
}

// reasonFor is why Run returns when a wish is carried out.
func reasonFor(w wish) Reason {
	if w == abort {
		return Aborted
	}
	return Left
}

// event is what happens to the job, whatever the client wishes.
type event int

const (
	cameUp         event = iota // the container is prepared and runs
	cameUpPaused                // it is prepared and is paused
	failed                      // it could not be prepared and is tried again
	gaveUp                      // it could not be prepared and is not tried again
	adrift                      // the engine does not answer, and the client waits no longer
	finished                    // the container has ended
	interrupted                 // it has ended, but not by itself: it is prepared again
	unpausable                  // it can't be paused and is stopped instead
	timeUp                      // it ran longer than its time limit
	parked                      // it is stopped or paused for the next episode
	stoppedInstead              // it is stopped because it can't be paused
	unstoppable                 // it can't be paused, and stopping it failed
)

func (e event) String() string {
	return [...]string{"came up", "came up paused", "failed", "gave up", "adrift", "finished", "interrupted", "can't be paused", "time is up", "parked",
		"stopped", "can't be stopped"}[e]
}

// turn is a row of turns.
type turn struct {
	when   event
	in, to State
	reason Reason // where to is Ended
}

// turns is what follows from an event. A pair that has no row changes nothing.
var turns = []turn{
	{cameUp, Preparing, Running, 0},
	{cameUpPaused, Preparing, Paused, 0},
	{failed, Preparing, Waiting, 0},
	{gaveUp, Preparing, Ended, Failed},
	{gaveUp, Waiting, Ended, Failed},
	{adrift, Preparing, Ended, Left}, // or Aborted, as the client wishes
	{finished, Running, Ended, Finished},
	{finished, Paused, Ended, Finished},
	{finished, Parking, Ended, Finished},
	{interrupted, Running, Waiting, 0},
	{interrupted, Paused, Waiting, 0},
	{interrupted, Parking, Waiting, 0},
	{unpausable, Running, Parking, 0},
	{timeUp, Running, Ended, TimedOut},
	{parked, Parking, Ended, Left},
	{stoppedInstead, Parking, Waiting, 0},
	{unstoppable, Parking, Running, 0},
}

// turnOf looks an event up.
func turnOf(when event, in State) (turn, bool) {
	for _, t := range turns {
		if t.when == when && t.in == in {
			return t, true
		}
	}
	return turn{}, false
}

// eventOf is what the end of a container means. ours: it was told to stop by us, and the job is to be resumed. again is how often
// it was ended from outside within an hour, this time included.
func eventOf(exit job.Exit, ours bool, again int) event {
	switch {
	case ours:
		return interrupted
	case (exit.Outside || exit.Gone) && again <= maxAgain:
		return interrupted
	default:
		return finished
	}
}
