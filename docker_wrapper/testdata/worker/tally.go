package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tally counts to N, one number each PACE. It prints each number, and writes it to the file tally in the slot, which it
// keeps open. The first line is "began". It makes no checkpoints of its own. arg is N:PACE.
func tally(arg, slot string) error {
	number, text, _ := strings.Cut(arg, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	pace, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(slot, "tally"))
	if err != nil {
		return err
	}
	for i := 0; i <= n; i++ {
		line := "began"
		if i > 0 {
			time.Sleep(pace)
			line = strconv.Itoa(i)
		}
		if _, err := fmt.Fprintln(f, line); err != nil {
			return err
		}
		fmt.Println(line)
	}
	return f.Close()
}
