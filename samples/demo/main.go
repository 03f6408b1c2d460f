// Command demo runs a sample as the BOINC client would, in a slot with link files, with shared memory and heartbeats. It
// shows what the client sees, and the outputs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"boincdocker/boincapi/boinctest"
	"boincdocker/samples"
)

func main() {
	sample := flag.String("sample", "samples/docking", "the sample's directory")
	wrapper := flag.String("wrapper", "bin/docker_wrapper", "the program that the client runs")
	data := flag.String("data", ".demo", "in place of BOINC's data directory; the sample's part is emptied first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *sample, *wrapper, *data); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, wrapper, data string) error {
	s, err := samples.Load(dir)
	if err != nil {
		return err
	}
	if wrapper, err = filepath.Abs(wrapper); err != nil {
		return err
	}
	if data, err = filepath.Abs(filepath.Join(data, s.Name)); err != nil {
		return err
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	c, err := s.Client(data, fmt.Sprintf("demo_%s_%d", s.Name, os.Getpid()))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Printf("A BOINC client's slot: %s\n", c.Slot())
	began := time.Now()
	p, err := c.Start(ctx, wrapper, s.Args()...)
	if err != nil {
		return err
	}
	r := watch(ctx, c, p, began)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if r.Outcome != boinctest.Success {
		stderr, readErr := os.ReadFile(filepath.Join(c.Slot(), "stderr.txt"))
		return errors.Join(fmt.Errorf("the job ended with %v, exit code %d %s%s\n%s", r.Outcome, r.ExitCode, r.Message, r.Reason, stderr), readErr)
	}
	if err := c.CopyOutputs(); err != nil {
		return err
	}
	if err := s.Check(c); err != nil {
		return err
	}
	return report(s, c)
}

// watch shows the job's progress until it ends. On an interrupt it aborts the job, as a volunteer would.
func watch(ctx context.Context, c *boinctest.Client, p *boinctest.Process, began time.Time) boinctest.Result {
	done := make(chan boinctest.Result, 1)
	go func() { done <- p.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	interrupted := ctx.Done()
	for {
		select {
		case r := <-done:
			last := c.Last()
			fmt.Printf("\r%3.0f %%  elapsed %3.0f s  CPU %5.1f s  memory %4.0f MB  %v\n", 100.0, time.Since(began).Seconds(), last.CPU, last.RSS/1e6, r.Outcome)
			return r
		case <-interrupted:
			interrupted = nil
			c.Abort()
		case <-tick.C:
			last := c.Last()
			fmt.Printf("\r%3.0f %%  elapsed %3.0f s  CPU %5.1f s  memory %4.0f MB ", 100*last.Fraction, time.Since(began).Seconds(), last.CPU, last.RSS/1e6)
		}
	}
}

func report(s *samples.Sample, c *boinctest.Client) error {
	for i, o := range s.Outputs {
		name, err := s.Made(c, i)
		if err != nil {
			return err
		}
		if o.Rule == "vina_score" {
			poses, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Println("Best docking scores (kcal/mol):")
			scores := samples.VinaScores(poses)
			for rank, score := range scores[:min(len(scores), 3)] {
				fmt.Printf("  %d  %6.2f\n", rank+1, score)
			}
		}
		verdict := "as expected"
		if o.Expected == "" {
			verdict = "not compared: sample.toml has no expected output"
		}
		fmt.Printf("Output %s: %s (%s)\n", o.Logical, name, verdict)
	}
	fmt.Printf("The log that the project would receive: %s\n", filepath.Join(c.Slot(), "stderr.txt"))
	return nil
}
