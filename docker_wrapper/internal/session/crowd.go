package session

import (
	"errors"
	"sync/atomic"
	"time"

	"boincdocker/docker_wrapper/internal/slot"
)

// crowd checks now and then whether the last checkpoint must be removed because the job has written so much since. The
// client checks once a minute, and ends a job whose slot is too large.
type crowd struct {
	k       *Keeper
	next    time.Time // of the next check
	looking atomic.Bool
	found   atomic.Bool
}

const crowdEach = 20 * time.Second // less than the client's minute

// short reports, once, that there is a checkpoint and too little room beside it. A goroutine does the check, so the
// report comes with a later call.
func (l *crowd) short(now time.Time) bool {
	bound := l.k.o.Job.Container.Limits.Disk
	if bound > 0 && !now.Before(l.next) && l.looking.CompareAndSwap(false, true) {
		l.next = now.Add(crowdEach)
		go func() {
			defer l.looking.Store(false)
			dir, err := l.k.savedCheckpoints().Newest()
			if err != nil || dir == "" {
				return
			}
			room, err := l.k.room()
			l.found.Store(errors.Is(err, slot.ErrNoRoom) || err == nil && room < bound/leastShare)
		}()
	}
	return l.found.Swap(false)
}
