package main

import (
	"context"
	"fmt"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
)

// clean is --clean: it removes what runs by hand in this directory have left in the engine, and prints it.
func (w *wrapper) clean(ctx context.Context) int {
	w.stderr = boincapi.PlainWriter(w.stderr)
	w.log = newLogger(w.stderr, 0)
	fail := func(err error) int {
		fmt.Fprintln(w.stderr, "docker_wrapper:", err)
		return boincapi.ExitInitFailure
	}
	if w.argErr != nil {
		return fail(w.argErr)
	}
	if err := w.startApp(ctx); err != nil { // the lock: the container of a job that runs stays
		return fail(err)
	}
	defer w.app.Close()
	var archives []string // whose images only job.toml tells
	if j, err := w.plan(); err == nil {
		for _, s := range j.Image.Sources {
			if s.Archive != "" {
				archives = append(archives, s.Name)
			}
		}
	}
	var dirs []string // as the runs may have called it
	for _, dir := range []string{w.dir, realPath(w.dir)} {
		if len(dirs) == 0 || dirs[0] != dir {
			dirs = append(dirs, dir)
		}
	}
	done, err := session.Clean(ctx, dirs, archives, w.log)
	for _, line := range done {
		fmt.Fprintln(w.stdout, line)
	}
	if err != nil {
		return fail(err)
	}
	if len(done) == 0 {
		fmt.Fprintf(w.stdout, "nothing of %s to remove (%s)\n", w.dir, job.ContainerName(nil, w.dir))
	}
	return 0
}
