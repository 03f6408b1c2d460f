//go:build unix

package session

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

func TestTellKept(t *testing.T) {
	k, _ := keeperOf(t, func(*job.Job) {})
	if _, err := k.Open(t.Context(), job.Before{}); err != nil {
		t.Fatal(err)
	}
	k.o.Init = &boincapi.InitData{BoincDir: t.TempDir(), ProjectDir: "/projects/p", ResultName: "wu_0"}
	account := filepath.Join(k.o.Init.BoincDir, "account_p.xml")
	if err := os.WriteFile(account, []byte("<master_url>http://p/</master_url>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(k.stateDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(k.o.Dir, boincapi.TaskStateFile)
	m := job.Mark{At: time.Now(), CPU: time.Second, Ran: time.Minute}

	// The fake engine's container has no control group.
	if err := k.TellKept(t.Context(), m, true); err == nil {
		t.Error("in a container without a control group: got no error")
	}
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a container without a control group: got %v, want no file", err)
	}

	// What a checkpoint keeps outlives the container.
	if err := k.TellKept(t.Context(), m, false); err != nil {
		t.Fatal(err)
	}
	if err := ForgetKept(k.o.Dir); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(name); err != nil || !strings.Contains(string(text), "<checkpoint_elapsed_time>60.0") {
		t.Errorf("in a checkpoint: got %q, %v", text, err)
	}
}

func TestForgetKept(t *testing.T) {
	dir := t.TempDir()
	if err := ForgetKept(dir); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	name, kept := filepath.Join(dir, boincapi.TaskStateFile), filepath.Join(dir, job.WrapperDir, stateText)
	for _, step := range []error{os.Mkdir(filepath.Dir(kept), 0o700), os.WriteFile(kept, nil, 0o644), os.Symlink("/gone/.."+kept, name), ForgetKept(dir)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	for _, name := range []string{name, kept} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want no file", name, err)
		}
	}
}
