//go:build clients || faults

package main

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// table is what is printed at the end: a line per scenario, a column per world.
type table struct {
	rows    []string // scenarios
	columns []*column
}

type column struct {
	name string
	out  map[string]bool // scenarios that it doesn't run
	mu   sync.Mutex      // guards ok
	ok   map[string]time.Duration
}

func (b *table) column(name string) *column {
	c := &column{name: name, out: map[string]bool{}, ok: map[string]time.Duration{}}
	b.columns = append(b.columns, c)
	return c
}

// leaveOut says before the run that the column doesn't have a scenario.
func (c *column) leaveOut(scenario string) { c.out[scenario] = true }

// note fills in the cell of a scenario when it is over.
func (c *column) note(t *testing.T, scenario string) {
	began := time.Now()
	t.Cleanup(func() {
		took, verdict := time.Since(began), "FAILED"
		if !t.Failed() {
			verdict = "ok"
			c.mu.Lock()
			c.ok[scenario] = took
			c.mu.Unlock()
		}
		fmt.Printf("%s, %s: %s after %.0f s\n", c.name, scenario, verdict, took.Seconds())
	})
}

func (b *table) print() {
	passed, failed, width := 0, 0, 20
	for _, name := range b.rows {
		width = max(width, len(name)+2)
	}
	fmt.Printf("\n%-*s", width, "")
	for _, c := range b.columns {
		fmt.Printf("%14s", c.name)
	}
	for _, name := range b.rows {
		fmt.Printf("\n%-*s", width, name)
		for _, c := range b.columns {
			if c.out[name] {
				fmt.Printf("%14s", "-")
			} else if d, ok := c.ok[name]; ok {
				passed++
				fmt.Printf("%12.0f s", d.Seconds())
			} else {
				failed++
				fmt.Printf("%14s", "FAILED")
			}
		}
	}
	fmt.Printf("\n\n%d passed, %d failed\n", passed, failed)
}
