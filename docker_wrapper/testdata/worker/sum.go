package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sum adds up STEPS pseudo-random terms, one after each PACE, and prints the number of each. It writes its state to
// DIR/state every EVERY steps and on SIGUSR1, and continues from there when it is started again. It writes the sum to
// DIR/out. arg is STEPS:PACE:EVERY:DIR; a relative DIR is below the slot.
func sum(arg, slot string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	f := strings.SplitN(arg, ":", 4)
	if len(f) != 4 {
		return errors.New("want STEPS:PACE:EVERY:DIR")
	}
	steps, err1 := strconv.ParseUint(f[0], 10, 64)
	pace, err2 := time.ParseDuration(f[1])
	every, err3 := strconv.ParseUint(f[2], 10, 64)
	dir := f[3]
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(slot, dir)
	}
	if err := errors.Join(err1, err2, err3, os.MkdirAll(dir, 0o777)); err != nil {
		return err
	}
	var n, last, total uint64
	data, err := os.ReadFile(filepath.Join(dir, "state"))
	if err == nil {
		_, err = fmt.Sscan(string(data), &n, &last, &total)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Println("from", n)
	for n < steps {
		time.Sleep(pace)
		n, last = n+1, last*6364136223846793005+1442695040888963407
		total += last >> 32
		fmt.Println("step", n)
		save := every > 0 && n%every == 0
		select {
		case <-asked:
			save = true
		default:
		}
		if save {
			if err := replace(filepath.Join(dir, "state"), fmt.Sprintln(n, last, total)); err != nil {
				return err
			}
		}
	}
	return replace(filepath.Join(dir, "out"), fmt.Sprintln(n, total))
}

func replace(name, text string) error {
	if err := os.WriteFile(name+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
