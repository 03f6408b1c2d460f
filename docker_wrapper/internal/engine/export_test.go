package engine

import (
	"context"
	"errors"

	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
)

// What the contract test must know of an engine's quirks.
func (i Info) StopUnsaid() bool   { return i.quirks.stopUnsaid }
func (i Info) OOMUnsaid() bool    { return i.quirks.oomUnsaid }
func (i Info) WholeSeconds() bool { return i.quirks.wholeSeconds }
func (i Info) Bridge() string     { return i.quirks.bridge }
func (i Info) Strays() bool       { return i.quirks.strays }

// KeepsCheckpoints reports whether the engine keeps checkpoints with the container, and not in a file of the wrapper's.
func (i Info) KeepsCheckpoints() bool { return i.quirks.checkpoints == keptInside }

// Address is where it listens, also a service of our own.
func (e *Engine) Address() string { return e.address }

// HelperName is the name of the helper's image.
func (e *Engine) HelperName() string {
	h, err := newHelper(e.Info.Architecture)
	if err != nil {
		panic(err)
	}
	return h.name
}

// HelperImage gives the ID of the helper's image, and loads it where it isn't there.
func (e *Engine) HelperImage(ctx context.Context, im job.Image) (string, error) {
	return e.helperImage(ctx, im)
}

// LimitsMemory reports whether a container can be given a limit.
func (i Info) LimitsMemory() bool { return i.quirks.memoryLimit }

// Ungrouped makes what it opens look for other ways to pause than the engine's, as one without root does.
func (e *Engine) Ungrouped() { e.Info.quirks.ungrouped = true }

// Descend pauses the container from now on by its control group ("freezer"), by signals, or by nothing.
func (c *Container) Descend(way string) {
	c.rung.Store(int32(map[string]rung{"freezer": byFreezer, "signals": bySignals, "nothing": byNothing}[way]))
}

// Impossible reports that the container can't be paused in the way that was chosen, and won't be.
func Impossible(err error) bool {
	return errors.Is(err, host.ErrUnproven) || errors.Is(err, host.ErrNoFreezer)
}
