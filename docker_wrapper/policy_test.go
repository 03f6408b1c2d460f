//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

func TestReadPolicy(t *testing.T) {
	write := func(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }
	for _, c := range []struct {
		name string
		make func(name string) error
		want string // of the error; "" for none
		can  bool   // privileged
	}{
		{"none", func(string) error { return nil }, "", false},
		{"a file", func(name string) error { return write(name, "privileged = true") }, "", true},
		{"an empty file", func(name string) error { return write(name, "") }, "", false},
		{"a symlink", func(name string) error {
			return errors.Join(write(name+"_", "privileged = true"), os.Symlink(name+"_", name))
		}, "", true},
		{"a symlink that leads nowhere", func(name string) error { return os.Symlink("nowhere", name) }, "is a symlink that leads nowhere$", false},
		{"a symlink that leads nowhere far away", func(name string) error { return os.Symlink("/nowhere/at/all", name) }, "is a symlink that leads nowhere$", false},
		{"a symlink to itself", func(name string) error { return os.Symlink(job.PolicyFile, name) }, "too many levels of symbolic links$", false},
		{"a directory", func(name string) error { return os.Mkdir(name, 0o755) }, "is no regular file$", false},
		{"a FIFO", func(name string) error { return syscall.Mkfifo(name, 0o644) }, "is no regular file$", false},
		{"a symlink to a device", func(name string) error { return os.Symlink("/dev/null", name) }, "is no regular file$", false},
		{"too large", func(name string) error { return write(name, strings.Repeat("#", job.MaxFile+1)) }, "is larger than 1 MiB$", false},
		{"without its directory", func(name string) error { return os.Remove(filepath.Dir(name)) }, "look into the directory where it would be: .*no such file or directory$", false},
		{"a mistake", func(name string) error { return write(name, "privileged = 1") }, "privileged: want a bool", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "boinc")
			if err := errors.Join(os.Mkdir(dir, 0o755), c.make(filepath.Join(dir, job.PolicyFile))); err != nil {
				t.Fatal(err)
			}
			p, err := readPolicy(dir)
			if p.Privileged != c.can {
				t.Errorf("got privileged %v, want %v", p.Privileged, c.can)
			}
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case c.want != "" && (!errors.Is(err, errPolicy) || !regexp.MustCompile(c.want).MatchString(err.Error())):
				t.Errorf("got %v, want the policy's error %s", err, c.want)
			}
		})
	}
}

func TestCheckDirs(t *testing.T) {
	for _, c := range []struct {
		data, project string
		want          bool
	}{
		{"/b", "/b/projects/p", true}, {"", "/b/projects/p", false}, {".", "/b/projects/p", false}, {"../..", "/b/projects/p", false},
		{"/b", "", false}, {"/b", "projects/p", false},
	} {
		err := checkDirs(&boincapi.InitData{BoincDir: c.data, ProjectDir: c.project})
		if got := err == nil; got != c.want || err != nil && !errors.Is(err, errNoDir) {
			t.Errorf("%q and %q: got %v, want well: %v", c.data, c.project, err, c.want)
		}
	}
}
