package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The language of programs: one step per element, WORD REST.
//
//	print TEXT         print a line to standard output (warn: to standard error)
//	fill N             print N bytes, in lines
//	cat PATH           print a file (ls DIR: the names in a directory, env NAME: a variable)
//	args               print the elements that follow, each on a line, and end
//	write PATH TEXT    make a file of one line (append: add a line)
//	cp SRC DST, mkdir DIR, ln TARGET PATH, rm PATH
//	sleep D            run for this long; paused time doesn't count
//	hold [NAME]        run until Release
//	exit N             end with this code
//	oom                be killed for using too much memory
//	trap SIGNAL STEP   run the step whenever the signal comes, instead of ending
//
// Any other word is a program that isn't in the image. After the last step the program ends with code 0.
var words = []string{"print", "warn", "fill", "cat", "ls", "env", "args", "write", "append", "cp", "mkdir", "ln", "rm",
	"sleep", "hold", "exit", "oom", "trap"}

func known(steps []string) (unknown string, ok bool) {
	for _, s := range steps {
		word, _, _ := strings.Cut(s, " ")
		if !slices.Contains(words, word) {
			return word, false
		}
		if word == "args" {
			break
		}
	}
	return "", true
}

// machine runs steps.
type machine struct {
	resolve func(name string) (host string, readOnly bool) // path in the container to path of the host
	env     []string
	say     func(stream byte, text string)
	pass    func() error                 // returns when the program may continue; an error ends it
	until   func(done func() bool) error // as pass, but also waits until done; done is called with e.mu held
	freed   func(name string) bool       // reports whether a hold was released; called with e.mu held
	trap    func(signal, step string)    // nil if no signals come
}

// exited ends a program.
type exited struct {
	code int
	oom  bool
}

func (x exited) Error() string { return fmt.Sprintf("exit %d", x.code) }

const standardOut, standardErr = 1, 2

// run carries out the steps and returns how the program ended.
func (m *machine) run(steps []string) exited {
	for i, s := range steps {
		err := m.pass()
		if err == nil {
			word, rest, _ := strings.Cut(s, " ")
			if word == "args" {
				for _, a := range steps[i+1:] {
					m.say(standardOut, a+"\n")
				}
				return exited{}
			}
			err = m.step(word, rest)
		}
		if x, ok := err.(exited); ok {
			return x
		} else if err != nil {
			m.say(standardErr, err.Error()+"\n")
			return exited{code: 1}
		}
	}
	return exited{}
}

func (m *machine) step(word, rest string) error {
	name, text, _ := strings.Cut(rest, " ")
	host, readOnly := m.resolve(name)
	write := func(name string) error {
		if _, ro := m.resolve(name); ro {
			return fmt.Errorf("%s: Read-only file system", name)
		}
		return nil
	}
	switch word {
	case "print":
		m.say(standardOut, rest+"\n")
	case "warn":
		m.say(standardErr, rest+"\n")
	case "fill":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		for ; n > 0; n -= 80 {
			m.say(standardOut, fmt.Sprintf("%079d\n", n))
		}
	case "env":
		for _, e := range m.env {
			if v, ok := strings.CutPrefix(e, rest+"="); ok {
				m.say(standardOut, v+"\n")
			}
		}
	case "cat":
		data, err := os.ReadFile(host)
		if err != nil {
			return fmt.Errorf("cat: %s: No such file or directory", name)
		}
		m.say(standardOut, string(data))
	case "ls":
		entries, err := os.ReadDir(host)
		if err != nil {
			return fmt.Errorf("ls: %s: No such file or directory", name)
		}
		for _, e := range entries {
			m.say(standardOut, e.Name()+"\n")
		}
	case "write", "append":
		mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		if word == "append" {
			mode = os.O_WRONLY | os.O_CREATE | os.O_APPEND
		}
		if readOnly {
			return write(name)
		}
		f, err := os.OpenFile(host, mode, 0o644)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(f, text+"\n"); err != nil {
			return err
		}
		return f.Close()
	case "cp":
		data, err := os.ReadFile(host)
		if err != nil {
			return fmt.Errorf("cp: %s: No such file or directory", name)
		}
		to, _ := m.resolve(text)
		if err := write(text); err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	case "mkdir":
		return os.MkdirAll(host, 0o755)
	case "ln":
		to, _ := m.resolve(text)
		return os.Symlink(name, to)
	case "rm":
		return os.RemoveAll(host)
	case "sleep":
		d, err := time.ParseDuration(rest)
		if err != nil {
			return err
		}
		const grain = 5 * time.Millisecond
		for ; d > 0; d -= grain {
			time.Sleep(min(d, grain))
			if err := m.pass(); err != nil {
				return err
			}
		}
	case "hold":
		return m.until(func() bool { return m.freed(rest) })
	case "exit":
		code, err := strconv.Atoi(rest)
		if err != nil {
			return err
		}
		return exited{code: code}
	case "oom":
		return exited{code: 137, oom: true}
	case "trap":
		if m.trap != nil {
			m.trap(name, text)
		}
	}
	return nil
}

// start runs a container's program. e.mu is held.
func (e *Engine) start(c *container) {
	c.status, c.started, c.exit, c.oom = "running", e.now(), 0, false
	c.traps, c.ran = map[string]string{}, 0
	c.runs++
	run := c.runs
	alive := func() bool { return c.up() && c.runs == run }
	m := &machine{env: c.request.Env, resolve: c.resolve,
		trap: func(signal, step string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			c.traps[signal] = step
		},
		say: func(stream byte, text string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.logLocked(c, stream, text)
		},
		freed: func(name string) bool { return e.released[name] },
	}
	m.until = func(done func() bool) error {
		if err := e.await(e.ctx, func() bool { return !alive() || c.status == "running" && done() }); err != nil {
			return exited{code: 137}
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if !alive() {
			return exited{code: 137}
		}
		return nil
	}
	m.pass = func() error { return m.until(func() bool { return true }) }
	steps := slices.Concat(c.request.Entrypoint, c.request.Cmd)
	e.runs.Go(func() {
		x := m.run(steps)
		e.mu.Lock()
		defer e.mu.Unlock()
		if alive() {
			e.endLocked(c, x.code, x.oom)
		}
	})
}

// trapLocked runs the step that a trap set for a signal. If the step is exit, code is its code. Otherwise it is 137, as
// the engine kills a program that doesn't end when it is stopped.
func (e *Engine) trapLocked(c *container, signal string) (code int, trapped bool) {
	step, trapped := c.traps[signal]
	if !trapped {
		return 0, false
	}
	m := &machine{env: c.request.Env, resolve: c.resolve, say: func(stream byte, text string) { e.logLocked(c, stream, text) }}
	word, rest, _ := strings.Cut(step, " ")
	var x exited
	if err := m.step(word, rest); errors.As(err, &x) {
		return x.code, true
	}
	return 137, true
}

func (e *Engine) endLocked(c *container, code int, oom bool) {
	c.status, c.exit, c.oom, c.finished = "exited", code, oom, e.now()
	c.ran += c.finished.Sub(c.started)
	e.happenedLocked(c, "die", 0)
	if c.request.HostConfig.AutoRemove {
		delete(e.containers, c.id)
	}
	e.tell()
}

// logLocked adds to a container's output. No two additions have the same time.
func (e *Engine) logLocked(c *container, stream byte, text string) {
	now := time.Now()
	if !now.After(e.lastLog) {
		now = e.lastLog.Add(time.Nanosecond)
	}
	e.lastLog = now
	c.logs = append(c.logs, logLine{stream, now, text})
	e.tell()
}

// resolve finds a container's path on the host.
func (c *container) resolve(name string) (host string, readOnly bool) {
	name = path.Clean("/" + name)
	best := ""
	host = filepath.Join(c.dir, name)
	for _, m := range c.mounts {
		target := path.Clean(m.Target)
		rest, ok := strings.CutPrefix(name, target)
		if !ok || rest != "" && rest[0] != '/' || len(target) < len(best) {
			continue
		}
		best, host, readOnly = target, filepath.Join(m.Source, rest), m.ReadOnly
	}
	return host, readOnly
}

// runStep runs a Dockerfile's RUN in the image's directory: steps joined by &&.
func (e *Engine) runStep(ctx context.Context, dir string, env []string, step string, say func(string)) exited {
	m := &machine{env: env, say: func(_ byte, text string) { say(text) },
		resolve: func(name string) (string, bool) { return filepath.Join(dir, path.Clean("/"+name)), false },
		freed:   func(name string) bool { return e.released[name] },
		until: func(done func() bool) error {
			if e.await(ctx, done) != nil {
				return exited{code: 137}
			}
			return nil
		},
		pass: func() error { return ctx.Err() },
	}
	return m.run(strings.Split(step, " && "))
}
