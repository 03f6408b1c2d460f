package boinctest

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"boincdocker/boincapi"
)

// judge is the client's verdict on an exit, after it has read what the app left in the segment.
//
// Source: ACTIVE_TASK::handle_exited_app in BOINC's client/app_control.cpp.
func (c *Client) judge(state *os.ProcessState) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read()
	r := Result{ExitCode: state.ExitCode(), Signal: signalName(state), FinishCode: -1}
	finished := r.readFinishFile(c.Slot())
	postponed := r.readTemporaryExit(c.Slot())
	switch {
	case c.abort:
		r.Outcome = Aborted
	case c.quit:
		r.Outcome = Restart
	default:
		r.Outcome = verdict(state, finished, postponed)
	}
	return r
}

// readLines returns nil if the file cannot be read.
func readLines(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := []string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

func (r *Result) readFinishFile(slot string) (found bool) {
	lines := readLines(filepath.Join(slot, boincapi.FinishFileName))
	if lines == nil {
		return false
	}
	if len(lines) > 0 {
		if code, err := strconv.Atoi(strings.TrimSpace(lines[0])); err == nil {
			r.FinishCode = code
		}
	}
	if len(lines) > 2 {
		r.Message, r.Notice = lines[1], strings.Contains(lines[2], "notice")
	}
	return true
}

// readTemporaryExit takes a file without a reason for none, and a strange delay for five minutes.
func (r *Result) readTemporaryExit(slot string) (found bool) {
	lines := readLines(filepath.Join(slot, boincapi.TemporaryExitFile))
	if len(lines) < 2 {
		return false
	}
	seconds, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || seconds < 0 || seconds > 86400 {
		seconds = 300
	}
	r.Delay = time.Duration(seconds) * time.Second
	r.Reason = strings.TrimSpace(lines[1])
	if len(lines) > 2 {
		r.Notice = strings.Contains(lines[2], "notice")
	}
	return true
}

// exitVerdict is for codes without any other meaning to the system.
func exitVerdict(code int, finished bool) Outcome {
	switch {
	case code != 0:
		return Error
	case finished:
		return Success
	default:
		return Premature
	}
}

// String is the outcome's name.
func (o Outcome) String() string {
	names := [...]string{"Success", "Error", "Premature", "TemporaryExit", "Restart", "Aborted"}
	if o < 0 || int(o) >= len(names) {
		return strconv.Itoa(int(o))
	}
	return names[o]
}
