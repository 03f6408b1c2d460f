//go:build integration || faults

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
	"boincdocker/docker_wrapper/internal/job"
)

// What tests of the release binary between a client and a real engine have in common.

var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("TEST_BINARIES"); dir != "" { // there is no compiler where the engine is
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "docker_wrapper_test")
	if err != nil {
		return "", err
	}
	cleanUp = func() { os.RemoveAll(dir) }
	for _, pkg := range []string{"boincdocker/docker_wrapper", "boincdocker/docker_wrapper/testdata/worker"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
	}
	return dir, os.Chmod(dir, 0o755)
})

func binary(t *testing.T, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func newClient(t *testing.T, result string, change func(*boincapi.InitData)) *boinctest.Client {
	t.Helper()
	return newClientIn(t, t.TempDir(), 0, result, change)
}

// newClientIn is a client of the data directory dir with a job in this slot.
func newClientIn(t *testing.T, dir string, slot int, result string, change func(*boincapi.InitData)) *boinctest.Client {
	t.Helper()
	c, err := boinctest.New(boinctest.Options{Dir: dir, Slot: slot, Init: func(d *boincapi.InitData) {
		d.AppName, d.PlanClass, d.WUName, d.ResultName = "test", "docker", result, result+"_0"
		d.RscDiskBound, d.NCPUs = 4<<30, 1
		d.HostInfo.DockerVersion, d.HostInfo.DockerType = "20.10", boincapi.Docker
		if strings.HasPrefix(os.Getenv("TEST_ENGINE_NAME"), "podman") {
			d.HostInfo.DockerVersion, d.HostInfo.DockerType = "5.8", boincapi.Podman
		}
		if change != nil {
			change(d)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		removeImages(t, dir)
	})
	return c
}

func add(t *testing.T, c *boinctest.Client, logical string, data []byte) {
	t.Helper()
	if err := c.AddAppFile(logical+"_1", logical, data, boinctest.FileOptions{Copy: true, Executable: logical == "worker"}); err != nil {
		t.Fatal(err)
	}
}

// docker asks the engine what is there, by docker's own command line: not by the code under test.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// labelTest is a label of all steps of a test's image. Its value is the data directory.
const labelTest = "boinc_test"

// dockerfileOf is the worker's image with further lines. It shares no step with an image of another data directory, so
// tests can remove their images while others build.
func dockerfileOf(c *boinctest.Client, lines string) []byte {
	return fmt.Appendf(nil, "FROM scratch\nLABEL %s=%q\nCOPY worker /worker\n%sENTRYPOINT [\"/worker\"]\n", labelTest, c.DataDir(), lines)
}

// images are the IDs of images with this label. With "-a" the steps below them are included.
func images(t *testing.T, label, value string, options ...string) (ids []string) {
	t.Helper()
	args := append([]string{"images", "-q", "--no-trunc", "--filter", "label=" + label + "=" + value}, options...)
	eventually(t, "a list of images", func() bool { // Podman 4 gives none while another test removes an image
		out, err := exec.Command("docker", args...).Output()
		ids = strings.Fields(string(out))
		return err == nil
	})
	slices.Sort(ids)
	return slices.Compact(ids)
}

// removeImages removes a data directory's images, and the steps that failed builds left.
func removeImages(t *testing.T, dataDir string) {
	t.Helper()
	for _, label := range []string{job.LabelDataDir, labelTest} {
		if ids := images(t, label, dataDir); len(ids) > 0 {
			docker(t, append([]string{"rmi", "-f"}, ids...)...)
		}
	}
}

func containers(t *testing.T, c *boinctest.Client) string {
	t.Helper()
	return docker(t, "ps", "-aq", "--filter", "label="+job.LabelDataDir+"="+c.DataDir())
}

func stderrOf(t *testing.T, c *boinctest.Client) string {
	t.Helper()
	return read(t, filepath.Join(c.Slot(), boincapi.StderrFile))
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !every(20*time.Millisecond, 30*time.Second, ok) {
		t.Fatal("waited in vain: " + what)
	}
}

// cleanAfterwards asserts what must hold after every job: no container, nothing of the wrapper's but
// its notes, and all files the wrapper's user's.
func cleanAfterwards(t *testing.T, c *boinctest.Client, uid int) {
	t.Helper()
	if got := containers(t, c); got != "" {
		t.Errorf("containers left: %s", got)
	}
	cleanSlot(t, c, uid)
}

// cleanSlot is what cleanAfterwards asserts of the slot.
func cleanSlot(t *testing.T, c *boinctest.Client, uid int) {
	t.Helper()
	err := filepath.WalkDir(c.Slot(), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if got := int(fi.Sys().(*syscall.Stat_t).Uid); got != uid {
			t.Errorf("%s is owned by user %d, want %d", name, got, uid)
		}
		notes := []string{job.WrapperDir + "/episode.json", job.WrapperDir + "/links.json", job.WrapperDir + "/seal"}
		if rel, _ := filepath.Rel(c.Slot(), name); strings.HasPrefix(rel, job.WrapperDir+"/") && !slices.Contains(notes, rel) {
			t.Errorf("%s is left", rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func mayRead(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return data
}
