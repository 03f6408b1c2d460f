// Primes prints how many primes there are below each power of ten up to a limit, and below the limit itself. ARGS holds the
// job's command line, and --below N sets the limit.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	flags := flag.NewFlagSet("primes", flag.ExitOnError)
	below := flags.Int("below", 1000, "count up to here")
	flags.Parse(strings.Fields(os.Getenv("ARGS"))) // exits on error
	limit := *below

	composite := make([]bool, max(limit, 2))
	for i := 2; i*i < limit; i++ {
		if !composite[i] {
			for j := i * i; j < limit; j += i {
				composite[j] = true
			}
		}
	}
	count, power := 0, 10
	for i := 2; i < limit; i++ {
		if i == power {
			fmt.Println(power, count)
			power *= 10
		}
		if !composite[i] {
			count++
		}
	}
	fmt.Println(limit, count)
}
