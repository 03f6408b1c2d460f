package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"boincdocker/docker_wrapper/internal/engine"
)

const (
	pipeSize   = 1 << 20   // bytes; what an unprivileged process may ask for (pipe(7))
	copySize   = 256 << 10 // bytes written at once
	spacePause = time.Second
)

// writeOutput is this program in a job's container, as the parent of the job's program. It writes what that prints to
// files, byte for byte, also while no wrapper is there. The engine's log would replace bytes that are no UTF-8, add a
// newline at the end, and keep everything twice. The job gets a pipe and not the file itself, because programs open
// /dev/stdout anew, which would empty a file.
//
// args are streams, "--", and the program with its arguments. Signals are passed on, but for a few (job.Plan refuses them). The exit code is the program's, or 128
// and the number of the signal that ended it.
func writeOutput(args []string, stderr io.Writer) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	i := slices.Index(args, "--")
	if i < 0 || i+1 == len(args) {
		fmt.Fprintln(stderr, "docker_wrapper: no program in the container's command")
		return 127
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	var outlets []*outlet
	for _, stream := range args[:i] {
		o, err := openOutlet(engine.OutputFile(stream), stderr)
		if err != nil {
			fmt.Fprintf(stderr, "docker_wrapper: open the file for the job's %s: %v\n", stream, err)
			return 125
		}
		outlets = append(outlets, o)
		files[map[string]int{"stdout": 1, "stderr": 2}[stream]] = o.pipe
	}
	child, err := startProgram(args[i+1:], files)
	if err != nil {
		fmt.Fprintf(stderr, "docker_wrapper: start %s: %v\n", args[i+1], err)
		if errors.Is(err, fs.ErrNotExist) {
			return 127
		}
		return 126
	}
	for _, o := range outlets {
		o.pipe.Close() // the program has it
		go o.flow()
	}
	go func() {
		for s := range signals {
			if s != syscall.SIGCHLD && s != syscall.SIGURG && s != syscall.SIGPIPE { // SIGURG is the Go runtime's own
				_ = syscall.Kill(child, s.(syscall.Signal)) // it has ended: so does this process
			}
		}
	}()
	code := waitFor(child)
	var all sync.WaitGroup
	for _, o := range outlets {
		all.Go(o.drain)
	}
	all.Wait()
	return code
}

// startProgram starts the job's program in a process group of its own, as the first program of a container has, and returns
// its process ID.
func startProgram(argv []string, files []*os.File) (int, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return 0, err
	}
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		return 0, err
	}
	return p.Pid, nil
}

// waitFor waits for the end of a child, and returns its exit code. As the first process of a container, this one also has
// to wait for processes whose parents have ended.
func waitFor(child int) int {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 125
		case pid == child && status.Signaled():
			return 128 + int(status.Signal())
		case pid == child && status.Exited():
			return status.ExitStatus()
		}
	}
}

// outlet is one stream on its way to its file.
type outlet struct {
	from, pipe *os.File // the ends of the pipe: ours, and the program's
	to         *os.File
	stderr     io.Writer
	buf        []byte
	ended      chan struct{} // when flow has
}

// openOutlet opens a file and makes the pipe whose content it gets.
func openOutlet(name string, stderr io.Writer) (*outlet, error) {
	o := &outlet{stderr: stderr, buf: make([]byte, copySize), ended: make(chan struct{})}
	var err error
	if o.to, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return nil, err
	}
	if o.from, o.pipe, err = os.Pipe(); err != nil {
		return nil, err
	}
	raw, err := o.from.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) }) // a smaller pipe is slower
	}
	return o, err
}

// flow writes what comes until the pipe's other end is closed everywhere, or drain stops it.
func (o *outlet) flow() {
	defer close(o.ended)
	for {
		n, err := o.from.Read(o.buf)
		o.write(o.buf[:n])
		if err != nil {
			return
		}
	}
}

// drain writes what is left in the pipe when the program has ended. It doesn't wait for more: processes that the program left
// behind may have the pipe, too, and end with the container.
func (o *outlet) drain() {
	_ = o.from.SetReadDeadline(time.Unix(1, 0))
	<-o.ended
	_ = o.from.SetReadDeadline(time.Time{})
	raw, err := o.from.SyscallConn()
	if err != nil {
		return
	}
	for n, left := 1, pipeSize; n > 0 && left > 0; left -= n { // a process that was left behind may go on writing
		_ = raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), o.buf)
			return true
		})
		o.write(o.buf[:max(n, 0)])
	}
}

// write writes all of p. While the disk is full, it waits: nothing of a job's output is left out. Any other error ends the container.
func (o *outlet) write(p []byte) {
	for said := false; len(p) > 0; {
		n, err := o.to.Write(p)
		p = p[n:]
		if err == nil {
			continue
		}
		full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		if !full || !said {
			fmt.Fprintln(o.stderr, "docker_wrapper: write the job's output:", err)
			said = true
		}
		if !full {
			os.Exit(125)
		}
		time.Sleep(spacePause)
	}
}
