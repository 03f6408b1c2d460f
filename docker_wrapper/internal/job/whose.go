package job

import (
	"slices"
	"time"
)

// Ender says who ended a container.
type Ender int

const (
	ByJob       Ender = iota // the job's own program: its exit code is the job's verdict
	FromOutside              // a user, an engine or the computer: the job is to go on
)

func (e Ender) String() string { return [...]string{"by job", "from outside"}[e] }

// Witness is what an engine knows about the end of a container. The zero value knows nothing and comes from an engine that
// doesn't end its containers when it is stopped.
type Witness struct {
	NoEvents      bool      // the engine keeps no events
	SawEnd        bool      // its events contain the end
	Signaled      time.Time // last sent a signal that ends programs, by a user or the engine; zero for never
	AnySignal     bool      // which signal that was is unknown: programs may ignore it
	StopUntold    bool      // the engine doesn't tell that a user stopped a container
	StoppedByUser bool      // it does, and a user stopped this one
	EndsJobs      bool      // containers end when the engine is stopped, which also loses its events
	AwaySince     time.Time // when the engine was first found not to answer, while it was watched; zero for never
	Request       bool      // its exit code is that of the signal by which this wrapper asked it for a checkpoint
	LiveRestore   bool      // it is set to let containers go on when it is stopped; known only with AwaySince
}

// Notes are what the wrapper knows about the end of a container. The zero value knows nothing.
type Notes struct {
	Ours       bool      // it is the container that the wrapper noted when it last started one
	None       bool      // the wrapper has noted no container
	Parked     time.Time // the wrapper paused it, or told it to stop, to go on later; zero when it didn't
	BootThen   string    // the kernel's boot ID when the container was started; "" when unknown
	BootNow    string    // now; "" when unknown
	BootTime   time.Time // of the computer; zero when unknown
	Checkpoint bool      // there is a checkpoint through the engine
}

const (
	// Noticed is how much later than the end itself an engine may report it.
	Noticed = 2 * time.Second

	// stopTime is how long an engine that is stopped lets its containers end: 15 s (moby's
	// shutdown-timeout) and what it takes to end them.
	stopTime = 17 * time.Second

	// killTime: a container that outlives a signal by more has not ended because of it.
	killTime = 30 * time.Second

	// readyTime is how long a program may take until it handles signals. Python with large modules takes some seconds.
	readyTime = 30 * time.Second

	termCode = 143 // of a program that ended by SIGTERM
)

// engineCodes are the exit codes of programs that an engine ended by SIGTERM, by SIGKILL, or by losing them.
var engineCodes = []int{termCode, 137, 255}

// whose are the rows of [Whose]. The first that matches decides.
type whose struct {
	name    string
	match   func(Exit, Notes) bool
	verdict Ender
}

var whoseRows = []whose{
	// What the wrapper knows.
	{"the wrapper was killed while it restored a checkpoint", // Docker's exit code is 128 then
		func(_ Exit, n Notes) bool { return n.None && n.Checkpoint }, FromOutside},
	{"parked before its end: what is paused or stopped doesn't end by itself",
		func(x Exit, n Notes) bool { return n.Ours && !n.Parked.IsZero() && !x.FinishedAt.Before(n.Parked) }, FromOutside},
	{"the computer was started since, and the code is a signal's",
		func(x Exit, n Notes) bool { return n.Ours && n.rebooted() && x.Code > 128 }, FromOutside},
	{"the computer was started since, and there is a checkpoint", // Podman reports code 0 after a loss of power
		func(_ Exit, n Notes) bool { return n.Ours && n.rebooted() && n.Checkpoint }, FromOutside},
	{"began before the computer was started and ended after", // the engine noticed the end only then
		func(x Exit, n Notes) bool {
			return x.Code != 0 && !x.OOMKilled && !n.BootTime.IsZero() && x.StartedAt.Before(n.BootTime) && x.FinishedAt.After(n.BootTime)
		}, FromOutside},

	// What the engine knows.
	{"out of memory", func(x Exit, _ Notes) bool { return x.OOMKilled }, ByJob},
	{"never started", func(x Exit, _ Notes) bool { return x.StartedAt.IsZero() }, ByJob},
	{"no time of its end", // Podman after a loss of power, with exit code 0
		func(x Exit, _ Notes) bool { return x.FinishedAt.IsZero() }, FromOutside},
	{"asked for a checkpoint before it could handle the signal",
		func(x Exit, _ Notes) bool { return x.Witness.Request && x.FinishedAt.Sub(x.StartedAt) < readyTime }, FromOutside},
	{"the engine keeps no events", func(x Exit, _ Notes) bool { return x.Witness.NoEvents }, ByJob},
	{"soon after a signal",
		func(x Exit, _ Notes) bool {
			limit := killTime
			if x.Witness.AnySignal {
				limit = Noticed
			}
			return !x.Witness.Signaled.IsZero() && x.FinishedAt.Sub(x.Witness.Signaled) < limit
		}, FromOutside},
	{"long after a signal", func(x Exit, _ Notes) bool { return !x.Witness.Signaled.IsZero() }, ByJob},
	{"SIGTERM's code from an engine that doesn't tell of stops",
		func(x Exit, _ Notes) bool { return x.Witness.StopUntold && x.Code == termCode }, FromOutside},
	{"stopped by a user", func(x Exit, _ Notes) bool { return x.Witness.StoppedByUser }, FromOutside},
	{"the engine saw the end", func(x Exit, _ Notes) bool { return x.Witness.SawEnd }, ByJob},
	{"the engine doesn't end jobs when it is stopped", func(x Exit, _ Notes) bool { return !x.Witness.EndsJobs }, ByJob},
	{"the engine was stopped, and the code is one that engines cause",
		func(x Exit, _ Notes) bool { return slices.Contains(engineCodes, x.Code) }, FromOutside},
	{"while the engine was being stopped",
		func(x Exit, _ Notes) bool {
			away := x.Witness.AwaySince
			return !away.IsZero() && x.FinishedAt.After(away.Add(-Noticed)) && x.FinishedAt.Before(away.Add(stopTime)) && !x.Witness.LiveRestore
		}, FromOutside},
}

func (n Notes) rebooted() bool {
	return n.BootThen != "" && n.BootNow != "" && n.BootThen != n.BootNow
}

// Whose decides who ended a container. When nothing points elsewhere, it was the job.
func Whose(x Exit, n Notes) Ender { return decide(whoseRows, x, n) }

func decide(rows []whose, x Exit, n Notes) Ender {
	for _, r := range rows {
		if r.match(x, n) {
			return r.verdict
		}
	}
	return ByJob
}
