package supervise

import (
	"context"
	"errors"

	"boincdocker/boincapi"
)

// Why what comes after a job's end is broken off.
var (
	ErrLeave = errors.New("the client wants us gone")
	ErrAbort = errors.New("the job is cancelled")
)

// UntilUnwanted is a context for what comes after the end of a container: it ends when the client, or a signal,
// wants us gone (ErrLeave) or cancels the job (ErrAbort), which is its cause. Release it when done.
func UntilUnwanted(ctx context.Context, client interface{ Status() <-chan boincapi.Status }) (context.Context, context.CancelFunc) {
	wanted, end := context.WithCancelCause(context.WithoutCancel(ctx))
	go func() {
		for wanted.Err() == nil {
			select {
			case st := <-client.Status():
				switch wishOf(st) {
				case leave:
					end(ErrLeave)
				case abort:
					end(ErrAbort)
				}
			case <-ctx.Done():
				end(ErrLeave)
			case <-wanted.Done():
			}
		}
	}()
	return wanted, func() { end(nil) }
}
