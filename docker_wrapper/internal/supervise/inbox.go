package supervise

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// inbox is where goroutines put what has come of their work. Run takes it out.
type inbox struct {
	filled chan struct{} // capacity 1: there is something

	mu   sync.Mutex // guards what follows
	mail []any
}

func newInbox() *inbox { return &inbox{filled: make(chan struct{}, 1)} }

func (b *inbox) put(what any) {
	b.mu.Lock()
	b.mail = append(b.mail, what)
	b.mu.Unlock()
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	mail := b.mail
	b.mail = nil
	return mail
}

// bug is a panic of one of our goroutines. Run panics with it, where its caller can deal with it.
type bug string

// beside runs f in a goroutine of its own, and puts what it returns into the inbox.
func (r *runner) beside(f func() any) {
	r.busy++
	inbox := r.inbox
	go func() {
		var what any
		defer func() {
			if p := recover(); p != nil {
				what = bug(fmt.Sprintf("%v\n%s", p, debug.Stack()))
			}
			inbox.put(what)
		}()
		what = f()
	}()
}
