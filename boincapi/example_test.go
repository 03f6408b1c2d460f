package boincapi_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"boincdocker/boincapi"
)

// An app that computes for ten steps, obeys the client, and says how far it is.
func Example() {
	if code, _, found := boincapi.FinishFile("."); found {
		os.Exit(code) // it had ended, and was stopped just before it could exit
	}
	ctx := context.Background()
	app, err := boincapi.Start(ctx, boincapi.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if app != nil {
			app.TemporaryExit(10*time.Minute, err.Error(), false)
		}
		os.Exit(0)
	}
	const steps = 10
	var want boincapi.Status
	step := time.NewTicker(time.Second) // stands for the work
	for done := 0; done < steps; {
		select {
		case want = <-app.Status():
			if want.Quit || want.Abort || want.ClientLost {
				app.Flush(ctx)
				app.Close()
				os.Exit(0)
			}
		case <-step.C:
			if want.Suspended {
				continue
			}
			done++
			app.Report(boincapi.Report{CPU: float64(done), Fraction: float64(done) / steps})
		}
	}
	if err := app.Finish(0, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
