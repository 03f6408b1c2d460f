//go:build integration

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/job"
)

// Attacks of jobs on their hosts, with a real engine.

// newUnsigned is newJob with files that come with the workunit.
func newUnsigned(t *testing.T, result, config string) *boinctest.Client {
	t.Helper()
	c := newClient(t, result, nil)
	for logical, data := range map[string]string{"job.toml": config, "worker": read(t, binary(t, "worker")), "Dockerfile": string(dockerfileOf(c, ""))} {
		if err := c.AddAppFile("jf_"+result+"_"+logical, logical, []byte(data), boinctest.FileOptions{Copy: true, Executable: logical == "worker", NotSigned: true}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// An unsigned job sees only those files of the project directory that its slot links to. It can write its outputs there. What
// it writes under the name of another job's file stays in the container.
func TestOthersInputsStayHidden(t *testing.T) {
	t.Parallel()
	c := newUnsigned(t, "unsigned_project", "project_dir_mount = \"/project\"\nslot_dir_mount = \"/slot\"\nstdout_file = \"seen\"\n")
	if err := c.AddInput("its_own", "in", []byte("1 2 3\n"), false); err != nil {
		t.Fatal(err)
	}
	output, err := c.AddOutput(0, "out", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.ProjectDir(), "anothers"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := c.Run(t.Context(), binary(t, "docker_wrapper"), "list=/project", "open=/project/anothers", "open=/project/its_own",
		"copy=/project/its_own:/project/"+filepath.Base(output), "copy=/project/its_own:/project/anothers")
	if err != nil || r.Outcome != boinctest.Success {
		t.Fatalf("got %+v, %v\n%s", r, err, stderrOf(t, c))
	}
	got, want := read(t, filepath.Join(c.Slot(), "seen")), "/project has its_own\n/project has "+filepath.Base(output)+"\n"+
		"/project/anothers no such file or directory\n/project/its_own read-only file system\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, want := range map[string]string{filepath.Base(output): "1 2 3\n", "its_own": "1 2 3\n", "anothers": "secret"} {
		if got := read(t, filepath.Join(c.ProjectDir(), name)); got != want {
			t.Errorf("%s afterwards: got %q, want %q", name, got, want)
		}
	}
	cleanAfterwards(t, c, os.Getuid())
}

// A signed job runs as another user. While it is parked, its files belong to BOINC's user, and none has a set-user-ID bit.
// The job then continues with them.
func TestParkedFilesAreBOINCs(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("this test changes its user, which only root can")
	}
	const uid = 64321
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := os.Stat(strings.TrimPrefix(cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock"), "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"image", "1234:1234"} {
		t.Run(user, func(t *testing.T) {
			c := newJob(t, "parked", fmt.Sprintf("user = %q\ncheckpoint.method = \"none\"\n", user), nil)
			giveTo(t, c.DataDir(), uid)
			start := func() *boinctest.Process {
				t.Helper()
				p, err := c.Start(t.Context(), setpriv, fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", uid), fmt.Sprintf("--groups=%d", socket.Sys().(*syscall.Stat_t).Gid),
					binary(t, "docker_wrapper"), "mkdir=dir", "setuid=dir/tool", "append=dir/log", "wait=go_on", "append=dir/log", "setuid=dir/later")
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			p := start()
			state := filepath.Join(c.Slot(), job.WrapperDir)
			payload := filepath.Join(state, "payload")
			eventually(t, "the job began", func() bool { return len(mayRead(filepath.Join(payload, "dir/log"))) > 0 })
			if fi, err := os.Stat(state); err != nil || fi.Mode().Perm() != 0o700 {
				t.Errorf("the directory above the payload: got %v, %v, want access for BOINC's user only", fi.Mode(), err)
			}
			c.Quit()
			if r := p.Wait(); r.ExitCode != 0 || r.FinishCode != -1 {
				t.Fatalf("quit: got %+v\n%s", r, stderrOf(t, c))
			}
			harmless := func(dir string) {
				t.Helper()
				err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
					if err != nil {
						return err
					}
					fi, err := d.Info()
					shared := fi != nil && fi.Mode()&0o002 != 0 && !strings.HasPrefix(name, payload)
					if err == nil && (fi.Sys().(*syscall.Stat_t).Uid != uid || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || shared) {
						t.Errorf("%s: got user %d, %v", name, fi.Sys().(*syscall.Stat_t).Uid, fi.Mode())
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			harmless(payload)
			p = start()
			if err := os.WriteFile(filepath.Join(payload, "go_on"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if r := p.Wait(); r.Outcome != boinctest.Success {
				t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
			}
			if got := read(t, filepath.Join(c.Slot(), "dir/log")); got != "dir/log\ndir/log\n" {
				t.Errorf("the job's file: got %q", got)
			}
			harmless(filepath.Join(c.Slot(), "dir"))
			if got := containers(t, c); got != "" {
				t.Errorf("containers left: %s", got)
			}
		})
	}
}

// Anyone can write labels. A container that no wrapper made stays, and the wrapper doesn't open a path from a label.
func TestStrangersContainersStay(t *testing.T) {
	t.Parallel()
	c := newJob(t, "sweeper", "", nil)
	fifo := filepath.Join(c.DataDir(), "trap")
	if err := os.MkdirAll(filepath.Join(fifo, job.WrapperDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{boincapi.InitDataFile, job.WrapperDir + "/episode.json"} {
		if err := syscall.Mkfifo(filepath.Join(fifo, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(c.DataDir(), "slots", "7")
	if err := errors.Join(os.MkdirAll(other, 0o755), os.WriteFile(filepath.Join(other, boincapi.InitDataFile),
		[]byte("<app_init_data>\n<result_name>another_0</result_name>\n</app_init_data>\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	image := importEmpty(t)
	var made []string
	for name, slot := range map[string]string{"anothers": other, "trap": fifo} {
		for _, proof := range []string{"", strings.Repeat("0", 64)} {
			name := fmt.Sprintf("boinc_%s_%d_%d", name, os.Getpid(), len(proof))
			docker(t, "create", "--name", name, "--label", job.LabelDataDir+"="+c.DataDir(), "--label", job.LabelProject+"="+filepath.Base(c.ProjectDir()),
				"--label", job.LabelResult+"=gone_0", "--label", job.LabelSlot+"="+slot, "--label", job.LabelWrapper+"=1", "--label", job.LabelProof+"="+proof, image, "/x")
			t.Cleanup(func() { docker(t, "rm", "-f", name) })
			made = append(made, name)
		}
	}
	done := make(chan boinctest.Result, 1)
	p, err := c.Start(t.Context(), binary(t, "docker_wrapper"), "write=out")
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- p.Wait() }()
	select {
	case r := <-done:
		if r.Outcome != boinctest.Success {
			t.Fatalf("got %+v\n%s", r, stderrOf(t, c))
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the wrapper hangs\n%s", stderrOf(t, c))
	}
	there := docker(t, "ps", "-a", "--format", "{{.Names}}")
	for _, name := range made {
		if !strings.Contains(there, name) {
			t.Errorf("%s was removed\n%s", name, stderrOf(t, c))
		}
	}
	cleanSlot(t, c, os.Getuid())
}

// importEmpty makes an empty image, which is removed after the test.
func importEmpty(t *testing.T) string {
	t.Helper()
	tar := filepath.Join(t.TempDir(), "empty.tar")
	if err := os.WriteFile(tar, make([]byte, 1024), 0o644); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("empty_%d", os.Getpid())
	docker(t, "import", tar, name)
	t.Cleanup(func() { docker(t, "rmi", "-f", name) })
	return name
}
