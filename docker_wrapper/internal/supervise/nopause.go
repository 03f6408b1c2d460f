package supervise

import "time"

// A container that can't be paused, and a preparation, run on for so long when the client suspends it, because a client that throttles does that
// each second, and may do it for seconds. Then they are stopped.
const runsOn = 10 * time.Second

// stand does for a container that can't be paused what suspending is to do for it. It reports whether it succeeded.
func (r *runner) stand() bool {
	if r.inVain() < runsOn {
		return false
	}
	if err := r.stopInstead(time.Now().Add(maxGrace + quickCall)); err != nil {
		r.log.Warn().Err(err).Msg("the container can neither be paused nor stopped; tried again")
		return false
	}
	if r.snap.State == Running { // else it has ended meanwhile
		r.drop()
		r.moveTo(Waiting)
	}
	return true
}

// inVain is for how long the client has suspended what goes on.
func (r *runner) inVain() time.Duration {
	if r.vain.IsZero() {
		r.vain = time.Now()
	}
	return time.Since(r.vain)
}

// stopInstead stops a container that can't be paused, with all that is done before and after to lose little.
func (r *runner) stopInstead(by time.Time) error {
	if r.o.Stop.OnQuit != "auto" || r.want == suspend { // else it was asked already
		r.lastCheckpoint()
	}
	if r.exited == nil || r.snap.State == Ended {
		return nil
	}
	r.dropSave()
	if err := r.stop(by, false); err != nil {
		return err
	}
	r.count(time.Now())
	r.log.Warn().Stringer("lost", max(r.snap.Ran-r.cp.mark.Ran, 0).Round(time.Second)).
		Msg("the container can't be paused and was stopped; the next time it goes on from its last checkpoint, or from the beginning")
	return nil
}

// drop forgets a container that doesn't run any more, and is prepared again when the job is to go on.
func (r *runner) drop() {
	r.unwatch()
	r.container, r.exited = nil, nil
}
