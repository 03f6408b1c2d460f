// Hello reads the file in and writes it in capitals to out. ARGS holds the job's command line. With --seconds N it
// computes for that long and reports its progress.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(strings.Fields(os.Getenv("ARGS"))); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("hello", flag.ContinueOnError)
	seconds := flags.Float64("seconds", 0, "how long to compute")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile("in")
	if err != nil {
		return err
	}
	// Many short steps, each with its own start time, so that time spent suspended doesn't count.
	const step = 100 * time.Millisecond
	steps := int(*seconds * float64(time.Second) / float64(step))
	for i := range steps {
		for start := time.Now(); time.Since(start) < step; {
		}
		if err := report(float64(i+1) / float64(steps)); err != nil {
			return err
		}
	}
	fmt.Printf("hello: %d bytes in, computed for %d steps of %v\n", len(text), steps, step)
	return os.WriteFile("out", bytes.ToUpper(text), 0o644)
}

// report writes fraction_done. A reader never finds the file empty.
func report(fraction float64) error {
	if err := os.WriteFile("fraction_done.new", fmt.Appendf(nil, "%.4f\n", fraction), 0o644); err != nil {
		return err
	}
	return os.Rename("fraction_done.new", "fraction_done")
}
