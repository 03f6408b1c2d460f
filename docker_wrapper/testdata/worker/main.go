// Command worker is the payload of the integration tests: it does what its arguments say, one after
// the other, in the mounted slot. They come in ARGS.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	slot := os.Getenv("BOINC_SLOT_DIR")
	if len(os.Args) > 1 { // a check that the image asks for
		if err := os.WriteFile(filepath.Join(slot, "checked"), nil, 0o644); err != nil {
			os.Exit(1)
		}
		return
	}
	for _, step := range strings.Fields(os.Getenv("ARGS")) {
		verb, arg, _ := strings.Cut(step, "=")
		if err := do(verb, arg, filepath.Join(slot, arg)); err != nil {
			fmt.Fprintln(os.Stderr, step+":", err)
			os.Exit(99)
		}
	}
}

func do(verb, arg, path string) error {
	switch verb {
	case "sleep":
		d, err := time.ParseDuration(arg)
		time.Sleep(d)
		return err
	case "exit":
		n, err := strconv.Atoi(arg)
		if err == nil {
			os.Exit(n)
		}
		return err
	case "write":
		return os.WriteFile(path, []byte(arg+"\n"), 0o600)
	case "append":
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(f, arg); err != nil {
			return err
		}
		return f.Close()
	case "copy": // FROM:TO, paths of the container
		from, to, _ := strings.Cut(arg, ":")
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	case "mkdir":
		return os.MkdirAll(path, 0o700)
	case "wait": // for a file to appear
		fmt.Println("waiting for", arg)
		for {
			if _, err := os.Stat(path); err == nil {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "count": // print so many lines as fast as can be
		n, err := strconv.Atoi(arg)
		w := bufio.NewWriterSize(os.Stdout, 1<<16)
		for i := range n {
			fmt.Fprintln(w, i, strings.Repeat("x", 90))
		}
		return errors.Join(err, w.Flush())
	case "env":
		fmt.Println(arg, "is", os.Getenv(arg))
		return nil
	case "dump": // every file that can be seen
		return filepath.WalkDir("/", dump)
	}
	return fmt.Errorf("no such step")
}

func dump(name string, d fs.DirEntry, err error) error {
	if name == "/proc" || name == "/sys" || name == "/dev" {
		return fs.SkipDir
	}
	if err != nil || !d.Type().IsRegular() || d.Name() == "worker" || d.Name() == "worker_1" {
		return nil
	}
	data, err := os.ReadFile(name)
	fmt.Printf("== %s %v\n%s\n", name, err, data)
	return nil
}
