//go:build unix

// Sum adds up the first terms of a pseudo-random sequence and writes the sum to out. Each term is computed from the one
// before, so a wrong restart makes the sum wrong. On SIGUSR1 it writes its state to the file state. When it is started
// again, it continues from there.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// batch is the number of terms added between two checks for the signal.
const batch = 10_000_000

// state is all that the program needs to continue.
type state struct{ terms, last, sum uint64 }

func main() {
	if err := run(strings.Fields(os.Getenv("ARGS"))); err != nil {
		fmt.Fprintln(os.Stderr, "sum:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1) // first of all: the signal ends a program without a handler
	flags := flag.NewFlagSet("sum", flag.ContinueOnError)
	terms := flags.Uint64("terms", 1000, "number of terms, in millions")
	if err := flags.Parse(args); err != nil {
		return err
	}
	*terms *= 1_000_000
	s, err := read()
	if err != nil {
		return err
	}
	fmt.Printf("sum: from term %d\n", s.terms)
	for s.terms < *terms {
		s.add(min(batch, *terms-s.terms))
		if err := report(float64(s.terms) / float64(*terms)); err != nil {
			return err
		}
		select {
		case <-asked:
			if err := save("state", fmt.Sprintln(s.terms, s.last, s.sum)); err != nil {
				return err
			}
		default:
		}
	}
	return save("out", fmt.Sprintf("%d terms, sum %d\n", s.terms, s.sum))
}

// add adds n terms. The sequence is Knuth's MMIX; its high bits are the random ones.
func (s *state) add(n uint64) {
	last, sum := s.last, s.sum
	for range n {
		last = last*6364136223846793005 + 1442695040888963407
		sum += last >> 32
	}
	s.terms, s.last, s.sum = s.terms+n, last, sum
}

func read() (s state, err error) {
	data, err := os.ReadFile("state")
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err == nil {
		_, err = fmt.Sscan(string(data), &s.terms, &s.last, &s.sum)
	}
	return s, err
}

// report writes fraction_done. A reader never finds the file empty.
func report(fraction float64) error {
	if err := os.WriteFile("fraction_done.new", fmt.Appendf(nil, "%.4f\n", fraction), 0o644); err != nil {
		return err
	}
	return os.Rename("fraction_done.new", "fraction_done")
}

// save replaces a file, complete or not at all, and syncs it, because the host may lose power.
func save(name, text string) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
