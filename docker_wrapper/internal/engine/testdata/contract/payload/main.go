// Payload is what runs in the contract test's containers. Its arguments are carried out in order:
// VERB or VERB=VALUE. One that fails says so on stderr as "VERB: REASON", and the next is carried
// out.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var eaten [][]byte // kept, so that it stays resident

func main() {
	for _, arg := range os.Args[1:] {
		verb, value, _ := strings.Cut(arg, "=")
		do, ok := verbs[verb]
		if !ok {
			fmt.Fprintf(os.Stderr, "%s: no such verb\n", verb)
			os.Exit(99)
		}
		if err := do(value); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", verb, err)
		}
	}
}

var verbs = map[string]func(string) error{
	"out": func(v string) error { _, err := fmt.Println(v); return err },
	"err": func(v string) error { _, err := fmt.Fprintln(os.Stderr, v); return err },
	"raw": func(v string) error { // hexadecimal
		data, err := hex.DecodeString(v)
		if err == nil {
			_, err = os.Stdout.Write(data)
		}
		return err
	},
	"exit":   func(v string) error { os.Exit(number(v)); return nil },
	"sleep":  func(v string) error { time.Sleep(duration(v)); return nil },
	"kill":   func(v string) error { return killSelf(syscall.Signal(number(v))) },
	"ignore": func(v string) error { signal.Ignore(syscall.Signal(number(v))); return nil },
	"trap": func(v string) error { // CODE: say which signal came and exit with it
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
		go func() { fmt.Println("got", <-ch); os.Exit(number(v)) }()
		return nil
	},
	"eat": func(v string) error {
		b := make([]byte, number(v))
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		eaten = append(eaten, b)
		return nil
	},
	"child": func(v string) error { // comma-separated arguments of another one of us
		cmd := exec.Command("/proc/self/exe", strings.Split(v, ",")...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	},
	"breed": func(v string) error { // children that have children without end, each of which adds a byte to a file
		for range 3 {
			go exec.Command("/proc/self/exe", "beats="+v).Run()
		}
		return nil
	},
	"beats": func(v string) error {
		for {
			if err := exec.Command("/proc/self/exe", "beat="+v).Run(); err != nil {
				return err
			}
		}
	},
	"beat": func(v string) error {
		f, err := os.OpenFile(v, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err == nil {
			_, err = f.Write([]byte{'.'})
		}
		return err
	},
	"burn": func(v string) error {
		for end := cpu() + duration(v); cpu() < end; {
			for i, n := 0, 1; i < 1e6; i++ {
				n *= 3
			}
		}
		return nil
	},
	"cpu": func(string) error { fmt.Println(cpu().Nanoseconds()); return nil },
	"flood": func(v string) error { // bytes, in numbered lines of 100
		pad := strings.Repeat("x", 90)
		for i := range number(v) / 100 {
			fmt.Printf("%08d %s\n", i, pad)
		}
		return nil
	},
	"count": func(v string) error { // N,PAUSE
		n, pause, _ := strings.Cut(v, ",")
		for i := range number(n) {
			fmt.Println("line", i)
			time.Sleep(duration(pause))
		}
		return nil
	},
	"mkdir": func(v string) error { return os.MkdirAll(v, 0o755) },
	"fifo":  func(v string) error { return syscall.Mkfifo(v, 0o644) },
	"write": func(v string) error { // PATH:TEXT
		name, text, _ := strings.Cut(v, ":")
		return os.WriteFile(name, []byte(text), 0o644)
	},
	"fill": func(v string) error { // PATH:BYTES
		name, size, _ := strings.Cut(v, ":")
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i * 7)
		}
		for range number(size) >> 20 {
			if _, err := f.Write(block); err != nil {
				return err
			}
		}
		return f.Close()
	},
	"grow": func(v string) error { // PATH:BYTES, sparse
		name, size, _ := strings.Cut(v, ":")
		f, err := os.Create(name)
		if err == nil {
			err = f.Truncate(int64(number(size)))
		}
		return err
	},
	"symlink": func(v string) error { target, name, _ := strings.Cut(v, ":"); return os.Symlink(target, name) },
	"link":    func(v string) error { old, name, _ := strings.Cut(v, ":"); return os.Link(old, name) },
	"chmod": func(v string) error { // OCTAL:PATH
		mode, name, _ := strings.Cut(v, ":")
		n, err := strconv.ParseUint(mode, 8, 32)
		if err == nil {
			err = syscall.Chmod(name, uint32(n))
		}
		return err
	},
	"cat": func(v string) error {
		data, err := os.ReadFile(v)
		if err == nil {
			_, err = os.Stdout.Write(data)
		}
		return err
	},
	"read": func(v string) error { // and forget
		f, err := os.Open(v)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
		}
		return err
	},
	"sum": func(v string) error {
		f, err := os.Open(v)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		fmt.Printf("%x\n", h.Sum(nil))
		return err
	},
	"stat": func(v string) error { // octal mode, owner, group, name as Go quotes it
		return filepath.Walk(v, func(name string, _ os.FileInfo, err error) error {
			var st syscall.Stat_t
			if err == nil {
				err = syscall.Lstat(name, &st)
			}
			if err == nil {
				fmt.Printf("%o %d:%d %q\n", st.Mode, st.Uid, st.Gid, name)
			}
			return err
		})
	},
	"id": func(string) error { fmt.Printf("%d:%d\n", os.Getuid(), os.Getgid()); return nil },
	"groups": func(string) error {
		list, err := os.Getgroups()
		fmt.Println(list)
		return err
	},
	"open": func(v string) error { // for reading and writing
		f, err := os.OpenFile(v, os.O_RDWR, 0)
		if err != nil {
			fmt.Printf("%s: %v\n", v, errors.Unwrap(err))
			return nil
		}
		fmt.Printf("%s: ok\n", v)
		return f.Close()
	},
	"env": func(v string) error { fmt.Printf("%q\n", os.Getenv(v)); return nil },
	"want": func(v string) error { // NAME=VALUE in the environment
		name, value, _ := strings.Cut(v, "=")
		if got := os.Getenv(name); got != value {
			fmt.Fprintf(os.Stderr, "%s: got %q, want %q\n", name, got, value)
			os.Exit(4)
		}
		return nil
	},
	"wantin": func(v string) error { // PATH:TEXT
		name, text, _ := strings.Cut(v, ":")
		if data, err := os.ReadFile(name); err != nil || !strings.Contains(string(data), text) {
			fmt.Fprintf(os.Stderr, "%s: got %q, %v, want %q in it\n", name, data, err, text)
			os.Exit(4)
		}
		return nil
	},
	"keep": func(v string) error { // FROM:TO
		from, to, _ := strings.Cut(v, ":")
		data, err := os.ReadFile(from)
		return errors.Join(err, os.WriteFile(to, data, 0o644))
	},
	"pwd": func(string) error { dir, err := os.Getwd(); fmt.Println(dir); return err },
	"await": func(v string) error { // until there is such a file
		for {
			if _, err := os.Lstat(v); err == nil {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	},
	"interfaces": func(string) error {
		list, err := net.Interfaces()
		for _, i := range list {
			fmt.Println(i.Name)
		}
		return err
	},
	"size": func(v string) error { // of a file system, bytes
		var st syscall.Statfs_t
		err := syscall.Statfs(v, &st)
		fmt.Println(int64(st.Blocks) * st.Bsize)
		return err
	},
	"serve": func(v string) error { // PORT: says "hello" to whoever connects
		l, err := net.Listen("tcp", ":"+v)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, "hello")
				c.Close()
			}
		}()
		return nil
	},
	"cgroup": func(string) error { // memory, pids, share of CPU time in percent
		memory := first("memory/memory.limit_in_bytes", "memory.max")
		pids := first("pids/pids.max", "pids.max")
		quota, period, ok := strings.Cut(first("cpu/cpu.cfs_quota_us", "cpu.max"), " ")
		if !ok {
			period = first("cpu/cpu.cfs_period_us")
		}
		fmt.Println(memory, pids, number(quota)*100/max(number(period), 1))
		return nil
	},
}

func first(names ...string) string {
	for _, name := range names {
		if data, err := os.ReadFile("/sys/fs/cgroup/" + name); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	return "unknown"
}

func killSelf(s syscall.Signal) error {
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		return err
	}
	time.Sleep(time.Second)
	return fmt.Errorf("%v did nothing", s)
}

// cpu is what this process has used, in user and system time.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}
