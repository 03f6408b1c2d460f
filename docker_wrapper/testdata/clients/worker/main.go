// Command worker is the job that real clients run. It uses some seconds of CPU time, writes the file in, in capitals, to
// out, and prints what it did. Without arguments it prints a greeting, by which a client tests whether the engine works.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := strings.Fields(os.Getenv("ARGS"))
	if len(args) == 0 {
		fmt.Println("Hello from a container")
		return
	}
	var seconds float64
	var rounds, exit int
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.Float64Var(&seconds, "seconds", 0, "CPU time to use")
	flags.IntVar(&rounds, "rounds", 0, "instead: rounds of half a second, most of it rest")
	flags.IntVar(&exit, "exit", 0, "exit code")
	err := flags.Parse(args)
	if err == nil {
		err = work(seconds, rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(99)
	}
	fmt.Println("worker: done")
	os.Exit(exit)
}

func work(seconds float64, rounds int) error {
	fmt.Println("worker: begun")
	for n := 0; ; n++ {
		used, err := cpu()
		now, end := used, seconds
		if rounds > 0 {
			now, end = float64(n), float64(rounds)
		}
		if err != nil || now >= end {
			break
		}
		if err := os.WriteFile("fraction_done", fmt.Appendf(nil, "%.3f\n", now/end), 0o666); err != nil {
			return err
		}
		for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
		}
		if rounds > 0 {
			time.Sleep(400 * time.Millisecond)
		}
	}
	data, err := os.ReadFile("in")
	if err != nil {
		return err
	}
	return os.WriteFile("out", bytes.ToUpper(data), 0o666)
}

// cpu is the CPU time of this process, in seconds.
func cpu() (float64, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), err
}
