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
	var seconds, rest float64
	var exit int
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.Float64Var(&seconds, "seconds", 0, "CPU time to use")
	flags.Float64Var(&rest, "rest", 0, "times as long to rest as to compute")
	flags.IntVar(&exit, "exit", 0, "exit code")
	err := flags.Parse(args)
	if err == nil {
		err = work(seconds, rest)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(99)
	}
	fmt.Println("worker: done")
	os.Exit(exit)
}

const busy = 100 * time.Millisecond // between two looks at the CPU time

func work(seconds, rest float64) error {
	fmt.Println("worker: begun")
	for {
		used, err := cpu()
		if err != nil || used >= seconds {
			break
		}
		if err := os.WriteFile("fraction_done", fmt.Appendf(nil, "%.3f\n", used/seconds), 0o666); err != nil {
			return err
		}
		for began := time.Now(); time.Since(began) < busy; {
		}
		time.Sleep(time.Duration(rest * float64(busy)))
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
