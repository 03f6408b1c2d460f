package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Payload is the processes of a container: those in the process namespace that its first process has made, and in
// namespaces below. The user account that runs a rootless engine owns their user namespace, so it may look at and signal
// all of them (user_namespaces(7)).
type Payload struct {
	init   int    // the first process
	began  uint64 // when, in ticks since boot: another process with this number began at another time
	space  uint64 // the process namespace (its inode)
	groups Groups
	used   atomic.Int64 // ns of CPU time, the most that was seen
}

const tick = time.Second / 100 // USER_HZ, the same wherever Linux runs (proc_pid_stat(5))

// FindPayload finds the processes of the container with this ID, whose first process has this number. It proves that
// first: the process is number 1 in a namespace that isn't ours, and its parent, conmon or containerd's shim, was started
// with the container's ID. Else the error wraps ErrUnproven. An engine in a virtual machine gives that machine's process
// numbers, which are other processes here; a container that shares the process namespace of another isn't alone in it.
func FindPayload(pid int, id string) (*Payload, error) {
	stat, err := readStat(pid)
	if err != nil {
		return nil, ErrUnproven
	}
	p := &Payload{init: pid, began: stat.began, space: spaceOf(pid)}
	status, err := os.ReadFile(proc(pid, "status"))
	numbers := strings.Fields(lineOf(status, "NSpid:"))
	parent, parentErr := os.ReadFile(proc(stat.parent, "cmdline"))
	if err != nil || parentErr != nil || p.space == 0 || p.space == spaceOf(os.Getpid()) || len(numbers) < 2 || numbers[len(numbers)-1] != "1" {
		return nil, ErrUnproven
	}
	if id == "" || !slices.Contains(strings.Split(string(parent), "\x00"), id) {
		return nil, ErrUnproven
	}
	text, err := os.ReadFile(proc(pid, "cgroup"))
	if err != nil || !p.Alive() {
		return nil, ErrUnproven
	}
	p.groups = groupsOf(string(text), id)
	return p, nil
}

// GroupsOf finds the control groups of the container with this ID, by a process of it. Other users' processes may be asked for that. A
// process of another container, or of another machine, gives none: the ID is in a container's own paths.
func GroupsOf(pid int, id string) Groups {
	text, err := os.ReadFile(proc(pid, "cgroup"))
	if err != nil {
		return Groups{}
	}
	return groupsOf(string(text), id)
}

// groupsOf reads /proc/PID/cgroup.
func groupsOf(text, id string) Groups {
	g := Groups{}
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) < 3 {
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			g.add(controller, part[2], id)
		}
	}
	return g
}

// Alive reports that the container's first process is still there.
func (p *Payload) Alive() bool {
	stat, err := readStat(p.init)
	return err == nil && stat.began == p.began && !gone(p.init)
}

// Groups are the container's own control groups.
func (p *Payload) Groups() Groups { return p.groups }

// gone reports that a process has ended, zombies included.
func gone(pid int) bool {
	stat, err := readStat(pid)
	return err != nil || strings.Contains("ZX", stat.state)
}

// process is the part of /proc/PID/stat that is used.
type process struct {
	pid, parent int
	state       string
	began       uint64        // ticks since boot
	cpu         time.Duration // of the process and of the children that it has waited for
}

func readStat(pid int) (process, error) {
	text, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, text)
}

// parseStat reads proc_pid_stat(5). The program's name may contain blanks and parentheses.
func parseStat(pid int, text []byte) (process, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	number := func(field int) uint64 { // counted as in the manual, from 3 on
		n, err := strconv.ParseUint(fields[field-3], 10, 63)
		if err != nil {
			return 0
		}
		return n
	}
	return process{pid: pid, state: fields[0], parent: int(number(4)), began: number(22),
		cpu: time.Duration(number(14)+number(15)+number(16)+number(17)) * tick}, nil
}

func proc(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// spaceOf is the process namespace (its inode) of a process; 0 when unknown.
func spaceOf(pid int) uint64 {
	var st unix.Stat_t
	if unix.Stat(proc(pid, "ns/pid"), &st) != nil {
		return 0
	}
	return st.Ino
}

// has reports whether a process is in the container's namespace or in one below.
func (p *Payload) has(pid int) bool {
	switch space := spaceOf(pid); space {
	case p.space:
		return true
	case 0, spaceOf(os.Getpid()):
		return false
	}
	fd, err := unix.Open(proc(pid, "ns/pid"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && st.Ino == p.space {
			unix.Close(fd)
			return true
		}
		above, upErr := unix.IoctlRetInt(fd, unix.NS_GET_PARENT) // fails above this process's own namespace
		unix.Close(fd)
		fd, err = above, errors.Join(err, upErr)
	}
	return false
}

// list lists the processes by age, the container's first process first. So parents come before their children. ErrEnded
// when the first process is gone.
func (p *Payload) list() (list []process, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !p.has(pid) {
			continue
		}
		if stat, err := readStat(pid); err == nil {
			list = append(list, stat)
		}
	}
	slices.SortFunc(list, func(a, b process) int {
		switch p.init {
		case a.pid:
			return -1
		case b.pid:
			return 1
		}
		return cmp.Or(cmp.Compare(a.began, b.began), cmp.Compare(a.pid, b.pid))
	})
	if !p.Alive() {
		return nil, ErrEnded
	}
	return list, nil
}

// signal sends a process of the container a signal. It opens a descriptor of the process before it checks the process, so
// that the signal never goes to another process that has got the number meanwhile.
func (p *Payload) signal(pid int, s unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd)
		if !p.has(pid) {
			return nil
		}
		err = unix.PidfdSendSignal(fd, s, nil, 0)
	}
	switch {
	case err == nil || errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS): // of another user, or a kernel before 5.3
		return fmt.Errorf("%w: signal process %d: %w", ErrUnproven, pid, err)
	default:
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
}

// standing reports that no thread of a process runs. A thread that waits in the kernel and has a pending SIGSTOP counts
// as stopped: after vfork(2) it waits for a child, which may be stopped itself.
func standing(pid int) bool {
	tasks, err := os.ReadDir(proc(pid, "task"))
	if err != nil {
		return true // it has ended
	}
	for _, t := range tasks {
		text, err := os.ReadFile(filepath.Join(proc(pid, "task"), t.Name(), "stat"))
		if err != nil {
			continue
		}
		switch stat, err := parseStat(pid, text); {
		case err != nil:
			return false
		case strings.Contains("TtZX", stat.state):
		case stat.state == "D" && stopPending(pid):
		default:
			return false
		}
	}
	return true
}

// stopPending reports that a process was sent SIGSTOP and has not handled it yet.
func stopPending(pid int) bool {
	status, err := os.ReadFile(proc(pid, "status"))
	mask, parseErr := strconv.ParseUint(strings.TrimSpace(lineOf(status, "ShdPnd:")), 16, 64)
	return err == nil && parseErr == nil && mask&(1<<(unix.SIGSTOP-1)) != 0
}

// lineOf is the rest of the line that begins with name.
func lineOf(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return rest
		}
	}
	return ""
}

// Stop stops all processes by SIGSTOP, and repeats that until none runs: they may have forked meanwhile. When ctx ends
// first, all go on. The error wraps ErrUnproven when this user may not signal them; ErrEnded when it has ended.
func (p *Payload) Stop(ctx context.Context) error {
	for {
		running, err := p.stopOnce()
		if err != nil || running == 0 {
			return err
		}
		if err := pass(ctx); err != nil {
			return errors.Join(fmt.Errorf("%d processes don't stop: %w", running, err), p.Continue())
		}
	}
}

// stopOnce stops what runs and returns how many processes that were.
func (p *Payload) stopOnce() (running int, err error) {
	list, err := p.list()
	if err != nil {
		return 0, err
	}
	for _, m := range list {
		if standing(m.pid) {
			continue
		}
		running++
		if err := p.signal(m.pid, unix.SIGSTOP); err != nil {
			return running, err
		}
	}
	return running, nil
}

// Continue undoes Stop and Freeze. Processes that the job itself had stopped go on too. ErrEnded when it has ended.
func (p *Payload) Continue() error {
	if err := p.groups.Thaw(); err != nil {
		return err
	}
	list, err := p.list()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(list) {
		if m.state != "T" && m.state != "t" && !stopPending(m.pid) {
			continue
		}
		if err := p.signal(m.pid, unix.SIGCONT); err != nil {
			return err
		}
	}
	return nil
}

// Held reports that the first process, or all of them, stand still by Stop or Freeze. The first is the first to be
// stopped and the last to go on.
func (p *Payload) Held(all bool) bool {
	if p.groups.Frozen() {
		return true
	}
	if !all {
		return standing(p.init)
	}
	list, err := p.list()
	return err == nil && !slices.ContainsFunc(list, func(m process) bool { return !standing(m.pid) })
}

// Freeze freezes the control groups. The error wraps ErrNoFreezer when there is none in which the container is alone, or
// this user may not; ErrEnded when it has ended.
func (p *Payload) Freeze(ctx context.Context) error {
	f, ok := p.groups.freezer()
	if !ok || !p.alone(filepath.Dir(f.set)) {
		return ErrNoFreezer
	}
	err := p.groups.Freeze(ctx)
	if err != nil && !p.Alive() {
		return ErrEnded
	}
	return err
}

// alone reports that a control group and those below contain the container's first process and no process of others.
func (p *Payload) alone(dir string) bool {
	first := false
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil || !p.has(pid) && !gone(pid) {
				return ErrNoFreezer
			}
			first = first || pid == p.init
		}
		return nil
	})
	return err == nil && first
}

// Usage is the CPU time that the container has used, user and system, and its resident memory in bytes. CPU time never
// decreases. ErrEnded when it has ended.
//
// Its own control groups know best. Else the numbers are sums over its processes: each has its CPU time and that of the
// children that it has waited for. Parents are read before their children, so what ends in between is missed until the
// next time, not counted twice. Memory that processes share counts for each of them.
func (p *Payload) Usage() (cpu time.Duration, memory int64, err error) {
	list, err := p.list()
	if err != nil {
		return 0, 0, err
	}
	for _, m := range list {
		if stat, err := readStat(m.pid); err == nil && stat.began == m.began {
			cpu += stat.cpu
		}
		status, err := os.ReadFile(proc(m.pid, "status"))
		if err != nil {
			continue
		}
		for _, name := range []string{"RssAnon:", "RssShmem:"} { // without the files that it has mapped
			kb, _, _ := strings.Cut(strings.TrimSpace(lineOf(status, name)), " ")
			if n, err := strconv.ParseInt(kb, 10, 64); err == nil {
				memory += n << 10
			}
		}
	}
	if ofGroup, ok := p.groups.CPU(); ok {
		cpu = ofGroup
	}
	for seen := p.used.Load(); ; seen = p.used.Load() {
		if cpu = max(cpu, time.Duration(seen)); p.used.CompareAndSwap(seen, int64(cpu)) {
			break
		}
	}
	if ofGroup, ok := p.groups.Memory(); ok {
		memory = ofGroup
	}
	if !p.Alive() {
		return 0, 0, ErrEnded
	}
	return cpu, memory, nil
}
