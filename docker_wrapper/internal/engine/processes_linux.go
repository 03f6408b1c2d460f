package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"boincdocker/docker_wrapper/internal/job"
)

// payload is the processes of a container, as this computer's kernel has them: those in the process namespace that its
// first process has made, and in namespaces below. Whoever runs a rootless engine may signal all of them, and look at
// them, because he owns their user namespace (user_namespaces(7)).
type payload struct {
	init   int    // the first process
	began  uint64 // when, in ticks since boot: another process with this number began at another time
	space  uint64 // the process namespace (its inode)
	groups groups
	used   atomic.Int64 // ns of CPU time, the most that was seen
}

// groups are a container's own control groups: directories by controller, "" for that of cgroup v2.
type groups map[string]string

const (
	tick = time.Second / 100 // USER_HZ, the same wherever Linux runs (proc_pid_stat(5))
)

// findPayload proves that the process of this number is the first one of the container: it is number 1 in a namespace
// that isn't ours, and its parent, conmon or containerd's shim, was started with the container's ID. An engine in a virtual machine
// gives numbers of that machine, which may be anybody's here; a container that shares another's processes isn't
// alone among them.
func findPayload(pid int, id string) (*payload, error) {
	stat, err := readStat(pid)
	if err != nil {
		return nil, errUnproven
	}
	p := &payload{init: pid, began: stat.began, space: spaceOf(pid)}
	status, err := os.ReadFile(proc(pid, "status"))
	numbers := strings.Fields(lineOf(status, "NSpid:"))
	parent, parentErr := os.ReadFile(proc(stat.parent, "cmdline"))
	if err != nil || parentErr != nil || p.space == 0 || p.space == spaceOf(os.Getpid()) || len(numbers) < 2 || numbers[len(numbers)-1] != "1" {
		return nil, errUnproven
	}
	if id == "" || !slices.Contains(strings.Split(string(parent), "\x00"), id) {
		return nil, errUnproven
	}
	text, err := os.ReadFile(proc(pid, "cgroup"))
	if err != nil || !p.lives() {
		return nil, errUnproven
	}
	p.groups = groupsOf(string(text), id)
	return p, nil
}

// groupsOf reads /proc/PID/cgroup. A group that hasn't the container's ID in its name is shared with others.
func groupsOf(text, id string) groups {
	g := groups{}
	for line := range strings.Lines(text) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) < 3 || !strings.Contains(part[2], id) || strings.Contains(part[2], "..") {
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			roots := []string{"/sys/fs/cgroup/" + controller}
			if controller == "" {
				roots = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
			}
			for _, root := range roots {
				if dir := filepath.Join(root, part[2]); isFile(filepath.Join(dir, "cgroup.procs")) {
					g[controller] = dir
				}
			}
		}
	}
	return g
}

func isFile(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}

// lives reports that the container's first process is still there.
func (p *payload) lives() bool {
	stat, err := readStat(p.init)
	return err == nil && stat.began == p.began && !gone(p.init)
}

// gone reports that a process has ended.
func gone(pid int) bool {
	stat, err := readStat(pid)
	return err != nil || strings.Contains("ZX", stat.state)
}

// process is what /proc/PID/stat says.
type process struct {
	pid, parent int
	state       string
	began       uint64        // ticks since boot
	cpu         time.Duration // its own, and that of those that it has waited for
}

func readStat(pid int) (process, error) {
	text, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, text)
}

// parseStat reads proc_pid_stat(5). A program's name may have blanks and parentheses in it.
func parseStat(pid int, text []byte) (process, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	number := func(field int) uint64 { // as the manual counts them, from 3 on
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

// spaceOf is the process namespace of a process; 0 when it can't be told.
func spaceOf(pid int) uint64 {
	var st unix.Stat_t
	if unix.Stat(proc(pid, "ns/pid"), &st) != nil {
		return 0
	}
	return st.Ino
}

// has reports whether a process is the container's. What made a namespace of its own is in one below.
func (p *payload) has(pid int) bool {
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
		above, upErr := unix.IoctlRetInt(fd, unix.NS_GET_PARENT) // an error above our own
		unix.Close(fd)
		fd, err = above, errors.Join(err, upErr)
	}
	return false
}

// list lists the processes, older ones first: the container's first one is the first, and parents come before their
// children. ErrNotRunning when there is none.
func (p *payload) list() (list []process, err error) {
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
	if !p.lives() {
		return nil, ErrNotRunning
	}
	return list, nil
}

// signal signals a process of the container. It is held by a descriptor before it is looked at: if another gets its
// number, nobody gets the signal.
func (p *payload) signal(pid int, s unix.Signal) error {
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
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS): // another's, or a kernel before 5.3
		return fmt.Errorf("%w: signal process %d: %w", errUnproven, pid, err)
	default:
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
}

// standing reports that no thread of a process runs. One that waits in the kernel with a stop before it, as after
// vfork(2) for a child that is stopped, does nothing of its own any more.
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

// stopPending reports that SIGSTOP was sent to a process, which has not come to take it.
func stopPending(pid int) bool {
	status, err := os.ReadFile(proc(pid, "status"))
	mask, parseErr := strconv.ParseUint(strings.TrimSpace(lineOf(status, "ShdPnd:")), 16, 64)
	return err == nil && parseErr == nil && mask&(1<<(unix.SIGSTOP-1)) != 0
}

// lineOf is what follows a name in the lines of a file of /proc.
func lineOf(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return rest
		}
	}
	return ""
}

// stop stops all processes, until none is left that runs: those may have forked meanwhile.
func (p *payload) stop(ctx context.Context) error {
	for {
		running, err := p.stopOldest(math.MaxInt)
		if err != nil || running == 0 {
			return err
		}
		if err := pass(ctx); err != nil {
			return errors.Join(fmt.Errorf("%d processes don't stop: %w", running, err), p.letGo())
		}
	}
}

// stopOldest stops what runs of so many of the oldest, once, and tells how many ran.
func (p *payload) stopOldest(n int) (running int, err error) {
	list, err := p.list()
	if err != nil {
		return 0, err
	}
	for _, m := range list[:min(n, len(list))] {
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

// letGo undoes stop and freeze. What the job's own processes had stopped goes on too.
func (p *payload) letGo() error {
	if err := p.thaw(); err != nil {
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

// held reports that the first process, or all of them, were stopped or frozen.
func (p *payload) held(all bool) bool {
	if f, ok := p.freezer(); ok && f.isFrozen() {
		return true
	}
	if !all {
		return standing(p.init)
	}
	list, err := p.list()
	return err == nil && !slices.ContainsFunc(list, func(m process) bool { return !standing(m.pid) })
}

// freezer is the container's own; false for none.
func (p *payload) freezer() (freezer, bool) { return freezerOf(p.groups["freezer"], p.groups[""]) }

// freeze freezes the control group, if the container has one of its own. The error wraps errNoFreezer when it hasn't, or
// this user may not write to it.
func (p *payload) freeze(ctx context.Context) error {
	f, ok := p.freezer()
	if !ok || !p.alone(filepath.Dir(f.set)) {
		return errNoFreezer
	}
	err := f.freeze(ctx)
	if err != nil && !p.lives() {
		return ErrNotRunning
	}
	return err
}

// thaw undoes freeze; what isn't frozen is left alone.
func (p *payload) thaw() error {
	f, ok := p.freezer()
	if !ok {
		return nil
	}
	return f.thaw()
}

// alone reports that only processes of the container are in a control group and those below.
func (p *payload) alone(dir string) bool {
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
				return errNoFreezer
			}
			first = first || pid == p.init
		}
		return nil
	})
	return err == nil && first
}

// usage is what the container has used. Its own control groups know best; else its processes do: each has its CPU time and
// that of the children that it has waited for. Parents are read before their children: what ends in between is missed until the next
// time, not counted twice. Memory that processes share counts for each of them.
func (p *payload) usage() (u job.Usage, err error) {
	list, err := p.list()
	if err != nil {
		return job.Usage{}, err
	}
	for _, m := range list {
		if stat, err := readStat(m.pid); err == nil && stat.began == m.began {
			u.CPU += stat.cpu
		}
		status, err := os.ReadFile(proc(m.pid, "status"))
		if err != nil {
			continue
		}
		for _, name := range []string{"RssAnon:", "RssShmem:"} { // without the files that it has mapped
			kb, _, _ := strings.Cut(strings.TrimSpace(lineOf(status, name)), " ")
			if n, err := strconv.ParseInt(kb, 10, 64); err == nil {
				u.Memory += n << 10
			}
		}
	}
	if cpu, ok := p.groups.cpu(); ok {
		u.CPU = cpu
	}
	for seen := p.used.Load(); ; seen = p.used.Load() { // it never goes back
		if u.CPU = max(u.CPU, time.Duration(seen)); p.used.CompareAndSwap(seen, int64(u.CPU)) {
			break
		}
	}
	if memory, ok := p.groups.memory(); ok {
		u.Memory = memory
	}
	if !p.lives() {
		return job.Usage{}, ErrNotRunning
	}
	return u, nil
}

func (g groups) cpu() (time.Duration, bool) {
	if dir, ok := g["cpuacct"]; ok {
		text, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")) // ns
		n, parseErr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(n), err == nil && parseErr == nil
	}
	if dir, ok := g[""]; ok {
		text, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
		micros, ok := memoryStat(string(text))["usage_usec"]
		return time.Duration(micros) * time.Microsecond, err == nil && ok
	}
	return 0, false
}

func (g groups) memory() (int64, bool) {
	for _, controller := range []string{"memory", ""} {
		if dir, ok := g[controller]; ok {
			if text, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err == nil {
				return residentOf(memoryStat(string(text)))
			}
		}
	}
	return 0, false
}
