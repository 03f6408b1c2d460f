//go:build faults

package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"boincdocker/docker_wrapper/internal/job"
)

// byOutput are jobs whose output is bytes, which nothing may change, with faults while it flows.
func byOutput() (list []scenario) {
	for _, f := range []struct {
		name string
		do   func(*testing.T, *outputTrial)
	}{
		{"none", func(*testing.T, *outputTrial) {}},
		{"SIGKILL", func(t *testing.T, o *outputTrial) {
			o.signal(syscall.SIGKILL)
			o.wait(time.Second)
			before := o.size()
			eventually(t, "output without the wrapper", func() bool { return o.size() > before+10*blockSize })
			o.start()
		}},
		{"quit", func(t *testing.T, o *outputTrial) {
			o.c.Quit()
			o.left(o.wait(20 * time.Second))
			o.start()
		}},
		{"suspend and resume", func(t *testing.T, o *outputTrial) {
			o.c.Suspend()
			eventually(t, "the container to be paused", func() bool { return o.state() == "paused" })
			o.c.Resume()
		}},
		{"engine away", func(t *testing.T, o *outputTrial) {
			o.gate.Shut()
			before := o.size()
			eventually(t, "output without the engine", func() bool { return o.size() > before+10*blockSize })
			if err := o.gate.Open(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		list = append(list, scenario{name: "output is bytes, " + f.name, run: func(t *testing.T) {
			o := newOutputTrial(t, "bytes=400:5ms errbytes=7:0s")
			o.start()
			eventually(t, "output", func() bool { return o.size() > 10*blockSize })
			f.do(t, o)
			o.finishedWith(testBytes(400), testBytes(7))
		}})
	}
	for _, f := range []struct{ name, steps, want string }{
		{"nothing", "", ""},
		{"no newline at the end", "print=0 bytes=1:0s", string(testBytes(1))},
		{"/dev/stdout opened anew", "env=NOTHING reopen=one reopen=two env=NOTHING", "NOTHING is \none\ntwo\nNOTHING is \n"},
		{"a process left behind", "reopen=one leave=1h reopen=two", "one\ntwo\n"},
		{"another mode", "reopen=one open_up=/.docker_wrapper_stdout", "one\n"},
	} {
		list = append(list, scenario{name: "output is bytes, " + f.name, run: func(t *testing.T) {
			o := newOutputTrial(t, f.steps)
			o.start()
			o.finishedWith([]byte(f.want), nil)
		}})
	}
	list = append(list, scenario{name: "slot's disk full for a while", run: func(t *testing.T) {
		dir := t.TempDir()
		slot := filepath.Join(dir, "slots", "0")
		mountAt(t, slot, "size=16m")
		o := newOutputTrialIn(t, dir, "bytes=3000:0s")
		o.start()
		eventually(t, "a full disk", func() bool {
			var st syscall.Statfs_t
			return syscall.Statfs(slot, &st) == nil && st.Bavail == 0
		})
		if err := syscall.Mount("tmpfs", slot, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
		o.patiently()
		o.printed(testBytes(3000), nil)
	}})
	return append(list, scenario{name: "output is bytes, container stopped", run: func(t *testing.T) {
		o := newOutputTrial(t, "bytes=3:0s wait=go_on reopen=end")
		o.start()
		o.running()
		const more = "waiting for go_on\n"
		eventually(t, "the blocks", func() bool { return o.size() == 3*blockSize+int64(len(more)) })
		if got := o.tell(http.MethodPost, "/containers/"+o.job().ID+"/stop?t=2", nil); got != http.StatusNoContent {
			t.Fatalf("stop: status %d", got)
		}
		o.o.wait, o.o.began = true, 2
		eventually(t, "the blocks once more", func() bool { return o.size() == 6*blockSize+2*int64(len(more)) })
		o.goOn()
		all := string(testBytes(3)) + more + string(testBytes(3)) + more + "go_on: \nend\n"
		o.finishedWith([]byte(all), nil)
	}})
}

// outputTrial is a trial with files for the job's output: stdout's is a link to an output in the project's directory.
type outputTrial struct {
	*trial
	stdout string
}

func newOutputTrial(t *testing.T, steps string) *outputTrial {
	t.Helper()
	return newOutputTrialIn(t, "", steps)
}

func newOutputTrialIn(t *testing.T, dir, steps string) *outputTrial {
	t.Helper()
	s := newTrial(t, order{dir: dir, config: "stdout_file = \"res\"\nstderr_file = \"sub/err\"\n",
		args: steps + " copy=/copied/in:/made/out write=result"})
	res, err := s.c.AddOutput(0, "res", false)
	if err != nil {
		t.Fatal(err)
	}
	return &outputTrial{s, res}
}

// size is how much the job has printed: to the file in the wrapper's directory while it runs.
func (o *outputTrial) size() int64 {
	fi, err := os.Stat(filepath.Join(o.c.Slot(), job.WrapperDir, "output", "stdout"))
	if err != nil {
		return 0
	}
	return fi.Size()
}

func (o *outputTrial) finishedWith(stdout, stderr []byte) {
	o.Helper()
	o.finished(o.trial.wait(time.Minute))
	o.printed(stdout, stderr)
}

// printed asserts what is in the files for the job's output.
func (o *outputTrial) printed(stdout, stderr []byte) {
	o.Helper()
	for name, want := range map[string][]byte{o.stdout: stdout, filepath.Join(o.c.Slot(), "sub", "err"): stderr} {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			o.Errorf("%s: got %d bytes, %v, want %d; the first different one is %d", name, len(got), err, len(want), differs(got, want))
		}
		if fi, err := os.Stat(name); err == nil && fi.Mode()&(os.ModeSetuid|os.ModeSetgid|0o002) != 0 {
			o.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// blockSize and testBytes are those of testdata/worker.
const blockSize = 10_007

func testBytes(blocks int) []byte {
	b := make([]byte, blocks*blockSize)
	for i := range b {
		b[i] = byte(i * 2654435761 >> 13)
	}
	return b
}
