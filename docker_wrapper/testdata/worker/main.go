// Command worker is the job's program in the integration tests. It carries out the steps in ARGS, one after the other, in
// the mounted slot.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	slot := os.Getenv("BOINC_SLOT_DIR")
	if len(os.Args) > 1 { // run as the image's HEALTHCHECK
		if err := os.WriteFile(filepath.Join(slot, "checked"), nil, 0o644); err != nil {
			os.Exit(1)
		}
		return
	}
	for _, step := range strings.Fields(os.Getenv("ARGS")) {
		verb, arg, _ := strings.Cut(step, "=")
		if err := do(verb, arg, slot, filepath.Join(slot, arg)); err != nil {
			fmt.Fprintln(os.Stderr, step+":", err)
			os.Exit(99)
		}
	}
}

func do(verb, arg, slot, path string) error {
	switch verb {
	case "sleep":
		d, err := time.ParseDuration(arg)
		time.Sleep(d)
		return err
	case "burn": // use this much CPU time
		d, err := time.ParseDuration(arg)
		for n := 0; err == nil && cpuTime() < d; n++ {
			for range 1_000_000 {
				n = n*31 + 7
			}
		}
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
	case "copy": // FROM:TO, paths in the container
		from, to, _ := strings.Cut(arg, ":")
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	case "open": // open a device file for reading and writing, and print the result
		f, err := os.OpenFile(arg, os.O_RDWR, 0)
		if err != nil {
			fmt.Println(arg, errors.Unwrap(err))
			return nil
		}
		fmt.Println(arg, "ok")
		return f.Close()
	case "setuid": // make a program with set-user-ID and set-group-ID bits
		return errors.Join(os.WriteFile(path, []byte("#!"), 0o755), os.Chmod(path, 0o755|os.ModeSetuid|os.ModeSetgid))
	case "tmpfs": // mount a file system, and write to it
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			return err
		}
		fmt.Println("tmpfs is mounted")
		return errors.Join(os.WriteFile(filepath.Join(path, "x"), nil, 0o644), syscall.Unmount(path, 0))
	case "list": // print the names in a directory of the container
		entries, err := os.ReadDir(arg)
		for _, e := range entries {
			fmt.Println(arg, "has", e.Name())
		}
		return err
	case "remove":
		return os.Remove(path)
	case "close": // take all permissions away
		return os.Chmod(path, 0)
	case "link": // TARGET:NAME, a symlink
		target, name, _ := strings.Cut(arg, ":")
		return os.Symlink(target, filepath.Join(slot, name))
	case "mkdir":
		return os.MkdirAll(path, 0o700)
	case "wait": // wait until a file appears, and print it; its name may be a pattern
		fmt.Println("waiting for", arg)
		for {
			if found, err := filepath.Glob(path); err != nil || len(found) > 0 {
				return errors.Join(err, show(found))
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "gone": // wait until a file disappears
		for {
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "trickle": // send a trickle-up message, as BOINC's library does
		return os.WriteFile(filepath.Join(slot, "trickle_up.xml"), []byte("<variety>worker</variety>\n<said>"+arg+"</said>\n"), 0o644)
	case "upload": // request the upload of an output, as BOINC's library does
		return os.WriteFile(filepath.Join(slot, "boinc_ufr_"+arg), nil, 0o644)
	case "serve": // serve a web page on this port until the end
		l, err := net.Listen("tcp", ":"+arg)
		if err != nil {
			return err
		}
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "graphics") }))
		return nil
	case "count": // print this many lines as fast as possible
		n, err := strconv.Atoi(arg)
		w := bufio.NewWriterSize(os.Stdout, 1<<16)
		for i := range n {
			fmt.Fprintln(w, i, strings.Repeat("x", 90))
		}
		return errors.Join(err, w.Flush())
	case "bytes": // print N blocks of bytes that are no text, one each PACE; arg is N:PACE
		return printBytes(os.Stdout, arg)
	case "errbytes":
		return printBytes(os.Stderr, arg)
	case "reopen": // print a line as a shell's "> /dev/stdout" does
		return os.WriteFile("/dev/stdout", []byte(arg+"\n"), 0o644)
	case "leave": // leave a process behind that has this one's output
		c := exec.Command("/proc/self/exe")
		c.Env, c.Stdout, c.Stderr = append(os.Environ(), "ARGS=sleep="+arg), os.Stdout, os.Stderr
		return c.Start()
	case "open_up": // give all permissions and set-user-ID bits to a file of the container
		return os.Chmod(arg, 0o777|os.ModeSetuid|os.ModeSetgid)
	case "env":
		fmt.Println(arg, "is", os.Getenv(arg))
		return nil
	case "print": // print this many MB, in long lines
		n, err := strconv.Atoi(arg)
		line := strings.Repeat("y", 4095) + "\n"
		for range n << 20 / len(line) {
			if _, err := os.Stdout.WriteString(line); err != nil {
				return err
			}
		}
		return err
	case "tally": // N:PACE
		return tally(arg, slot)
	case "take": // use this many MB of memory
		n, err := strconv.Atoi(arg)
		memory := make([]byte, n<<20)
		for i := range memory {
			memory[i] = byte(i)
		}
		fmt.Println("took", len(memory))
		return err
	case "keepopen": // open a file and keep it open
		f, err := os.Open(path)
		opened = append(opened, f)
		return err
	case "fill": // write to a file until the disk is full
		f, err := os.Create(path)
		for err == nil {
			_, err = f.Write(make([]byte, 1<<16))
		}
		if errors.Is(err, syscall.ENOSPC) {
			return f.Close()
		}
		return err
	case "ignore": // ignore a signal
		n, err := strconv.Atoi(arg)
		signal.Ignore(syscall.Signal(n))
		return err
	case "signal": // send a signal to itself
		n, err := strconv.Atoi(arg)
		if err := errors.Join(err, syscall.Kill(os.Getpid(), syscall.Signal(n))); err != nil {
			return err
		}
		select {} // the signal may come a moment later
	case "litter": // put things that are no number in place of a file, one after the other
		return litter(path)
	case "sum":
		return sum(arg, slot)
	case "dump": // print every file that it can see
		return filepath.WalkDir("/", dump)
	}
	return fmt.Errorf("no such step")
}

var opened []*os.File

// BlockSize is odd, so that blocks cut characters and an engine's buffers cut blocks.
const BlockSize = 10_007

func printBytes(w io.Writer, arg string) error {
	number, text, _ := strings.Cut(arg, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	pace, err := time.ParseDuration(text)
	block := make([]byte, BlockSize)
	for i := 0; i < n && err == nil; i++ {
		for j := range block {
			block[j] = byte((i*BlockSize + j) * 2654435761 >> 13)
		}
		_, err = w.Write(block)
		time.Sleep(pace)
	}
	return err
}

func litter(path string) error {
	contents := []string{"", "nan", "-1", "1e999", "0.5\x00", "0x1p-2", "\xff\xfe", strings.Repeat("9", 1<<20), "0.25\n0.75"}
	things := []func() error{
		func() error { return syscall.Mkfifo(path, 0o666) },
		func() error { return os.Symlink("/etc/shadow", path) },
		func() error { return os.Symlink("../../init_data.xml", path) },
		func() error { return os.Symlink(filepath.Base(path), path) },
		func() error { return os.Mkdir(path, 0o700) },
	}
	for _, c := range contents {
		things = append(things, func() error { return os.WriteFile(path, []byte(c), 0o644) })
	}
	for _, f := range things {
		if err := f(); err != nil {
			return err
		}
		time.Sleep(1200 * time.Millisecond) // it is read once a second
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

func show(names []string) error {
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", filepath.Base(name), data)
	}
	return nil
}

// cpuTime is the CPU time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
