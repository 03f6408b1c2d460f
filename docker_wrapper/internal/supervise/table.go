package supervise

import "boincdocker/boincapi"

// State is where a job stands in this episode.
type State int

const (
	Waiting   State = iota // nothing runs: suspended before the start, or waiting to try again
	Preparing              // image and container are being made
	Running
	Paused
	Ended
)

func (s State) String() string {
	return [...]string{"waiting", "preparing", "running", "paused", "ended"}[s]
}

// wish is what the client wants. It is a level: the newest counts, and asking twice changes nothing.
type wish int

const (
	run wish = iota
	suspend
	leave // quit, client lost, signal: end, but so that the next episode goes on
	abort
)

func (w wish) String() string { return [...]string{"run", "suspend", "leave", "abort"}[w] }

type action int

const (
	nothing action = iota
	prepare
	cancel
	pause
	unpause
	park // leave it so that the next episode goes on
	kill
)

// moves is the whole policy.
var moves = [...][4]struct {
	do action
	to State
}{
	Waiting:   {run: {prepare, Preparing}, suspend: {nothing, Waiting}, leave: {nothing, Ended}, abort: {nothing, Ended}},
	Preparing: {run: {nothing, Preparing}, suspend: {cancel, Waiting}, leave: {cancel, Ended}, abort: {cancel, Ended}},
	Running:   {run: {nothing, Running}, suspend: {pause, Paused}, leave: {park, Ended}, abort: {kill, Ended}},
	Paused:    {run: {unpause, Running}, suspend: {nothing, Paused}, leave: {park, Ended}, abort: {kill, Ended}},
}

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
