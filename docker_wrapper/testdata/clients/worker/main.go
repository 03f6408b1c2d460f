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
	var exit int
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.Float64Var(&seconds, "seconds", 0, "CPU time to use")
	flags.IntVar(&exit, "exit", 0, "exit code")
	err := flags.Parse(args)
	if err == nil {
		err = work(seconds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(99)
	}
	fmt.Println("worker: done")
	os.Exit(exit)
}

func work(seconds float64) error {
	fmt.Println("worker: begun")
	for {
		used, err := cpu()
		if err != nil || used >= seconds {
			break
		}
		if err := os.WriteFile("fraction_done", fmt.Appendf(nil, "%.3f\n", used/seconds), 0o666); err != nil {
			return err
		}
		for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
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
