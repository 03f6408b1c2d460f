package session

import (
	"errors"
	"sync/atomic"
	"time"

	"boincdocker/docker_wrapper/internal/slot"
)

// crowd looks now and then whether the last checkpoint has to make room for what the job has written since: the client
// looks as often (once a minute), and ends a job whose slot is too large.
type crowd struct {
	k       *Keeper
	next    time.Time
	looking atomic.Bool
	found   atomic.Bool
}

const crowdEach = 20 * time.Second

// short reports, once, that there is a checkpoint and too little room beside it. It looks in a goroutine of its own.
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
