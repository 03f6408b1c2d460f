package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/host"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// plan reads all that decides about the job, and plans the job. It changes no files.
func (w *wrapper) plan() (*job.Job, error) {
	in, err := w.input()
	if err != nil {
		return nil, err
	}
	return job.Plan(in)
}

// input reads all that decides about the job. With a *job.ConfigError, in.Config holds what is right in job.toml.
func (w *wrapper) input() (in job.Input, err error) {
	if in, err = w.directories(); err != nil {
		return in, err
	}
	files := slot.Files(job.Slot{Dir: in.Dir, Links: in.Links})
	c, mistakes := w.readConfig(files, in.Links)
	if in.Config = c; c == nil || mistakes != nil && !w.o.check {
		return in, mistakes
	}
	if w.standalone && c.ProjectDirMount != "" && !exists(in.ProjectDir) {
		e := c.Errorf("project_dir_mount", "without a client the project directory is ./%s, and it isn't there", projectSubdir)
		e.Hint = "make it, and put the files into it that the links name"
		mistakes = errors.Join(mistakes, e)
	}
	_, statErr := fs.Stat(files, in.Dockerfile)
	if engine.HostsFault(statErr) {
		return in, cmp.Or(mistakes, fmt.Errorf("look for %s: %w", in.Dockerfile, statErr))
	}
	in.HasDockerfile = statErr == nil
	w.setVerbosity(c.Verbose)
	if !w.standalone {
		in.Signed = w.signed(in) && !w.store.Episode().Unsigned
		if in.Policy, err = readPolicy(w.init.BoincDir); err != nil {
			return in, cmp.Or(mistakes, err)
		}
	}
	in.Host = thisHost()
	in.Self, in.Static = self()
	in.NoHelper = w.noHelper && runtime.GOOS == "linux"
	if w.key != nil {
		in.Proof = w.key.Labels(w.init, w.dir)[job.LabelProof]
	}
	if c.UseGPU {
		w.lookForGPUs(&in)
	}
	return in, mistakes
}

// directories begins a plan's input: the command line, the slot, the project directory, and the slot's links.
func (w *wrapper) directories() (job.Input, error) {
	in := job.Input{Init: w.init, Dir: w.dir, ProjectDir: filepath.Join(w.dir, projectSubdir), Args: w.o.args,
		Dockerfile: cmp.Or(w.o.dockerfile, defaultDockerfile), RealPath: mountSource}
	for _, named := range []struct{ option, name string }{{"--config", w.o.config}, {"--dockerfile", w.o.dockerfile}} {
		if err := job.CheckLength(filepath.ToSlash(named.name)); err != nil {
			return in, &job.ConfigError{File: "command line", Key: named.option, Problem: fmt.Sprintf("%.80q… %v", named.name, err)}
		}
	}
	var err error
	if w.standalone {
		in.LockDir = filepath.Join(os.TempDir(), fmt.Sprintf("docker_wrapper_%d", os.Getuid()))
		in.Links, err = slot.Links(in.Dir, "", nil)
		return in, err
	}
	if err := checkDirs(w.init); err != nil {
		return in, err
	}
	// Links in the slot are relative, so both paths must be without symlinks.
	in.ProjectDir = realPath(w.init.ProjectDir)
	in.Dir = realPath(w.dir)
	in.Links, err = slot.Links(in.Dir, in.ProjectDir, w.init.AppFiles)
	return in, err
}

// configName is the name of the job's file.
func (w *wrapper) configName() string { return cmp.Or(w.o.config, defaultConfig) }

// readConfig reads the job's file into w.config. If there is none it returns the defaults, and w.config stays nil.
func (w *wrapper) readConfig(files fs.FS, links []job.Link) (*job.Config, error) {
	name := w.configName()
	data, err := engine.ReadFile(files, filepath.ToSlash(name), job.MaxFile)
	link := linkNamed(links, filepath.ToSlash(name))
	switch {
	case err == nil:
		w.config, err = job.ParseConfig(name, data)
		return w.config, err
	case engine.HostsFault(err):
		return nil, fmt.Errorf("read %s: %w", name, err)
	case link != nil:
		return nil, &job.ConfigError{File: name, Problem: "it is a link to " + link.Target + ", which can't be read: " + reason(err)}
	case w.o.config != "":
		return nil, &job.ConfigError{File: name, Problem: reason(err), Hint: "it is named by --config"}
	case errors.Is(err, fs.ErrNotExist):
		return job.ParseConfig(name, nil)
	default:
		return nil, &job.ConfigError{File: name, Problem: reason(err)}
	}
}

// signed reports whether the files that decide what the container may do, job.toml and the Dockerfile, are signed: they
// belong to the app version. Without either it returns false.
func (w *wrapper) signed(in job.Input) bool {
	if w.config == nil && !in.HasDockerfile {
		return false
	}
	ok := func(name string) bool {
		return slot.Signed(in.Dir, in.ProjectDir, filepath.ToSlash(filepath.Clean(name)), in.Links, w.init.AppFiles)
	}
	return (w.config == nil || ok(w.configName())) && (!in.HasDockerfile || ok(in.Dockerfile))
}

// errPolicy: the owner's policy file can't be read. No job runs until it can.
var errPolicy = errors.New("the policy file of this computer")

// errNoDir: init_data.xml has no absolute path of the client's data directory or of the project's directory. They are
// not guessed, because a job could make such directories in the slot.
var errNoDir = errors.New("init_data.xml doesn't say where a directory of the client is")

// checkDirs checks that init_data.xml has absolute paths of the client's directories.
func checkDirs(d *boincapi.InitData) error {
	for _, dir := range []struct{ element, path string }{{"boinc_dir", d.BoincDir}, {"project_dir", d.ProjectDir}} {
		if !filepath.IsAbs(dir.path) {
			return fmt.Errorf("%w: its %s is %q, not an absolute path", errNoDir, dir.element, dir.path)
		}
	}
	return nil
}

func readPolicy(dataDir string) (job.Policy, error) {
	name := filepath.Join(dataDir, job.PolicyFile)
	data, err := readPolicyFile(name)
	var p job.Policy
	if err == nil {
		p, err = job.ParsePolicy(name, data)
	}
	if err != nil {
		return job.Policy{}, fmt.Errorf("%w: %w", errPolicy, err)
	}
	return p, nil
}

// readPolicyFile returns nil if there is no such file in its directory. A file that is there and can't be read is an
// error, because the owner may forbid something in it.
func readPolicyFile(name string) ([]byte, error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(name)); err != nil {
			return nil, fmt.Errorf("look into the directory where it would be: %w", err)
		}
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a FIFO would block
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is a symlink that leads nowhere", name)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, job.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > job.MaxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, job.MaxFile>>20)
	}
	return data, nil
}

// self returns this program's path, "" if it doesn't run in containers, and whether it runs in any of them as any user.
func self() (path string, anywhere bool) {
	path, err := os.Executable()
	if err != nil || runtime.GOOS != "linux" {
		return "", false
	}
	const everybodys = 0o005 // read and execute
	fi, err := os.Stat(path)
	return path, err == nil && static && fi.Mode()&everybodys == everybodys
}

func thisHost() job.Host {
	return job.Host{UID: os.Getuid(), GID: os.Getgid(), CPUs: runtime.NumCPU(), Memory: host.Memory()}
}

// show is --plan and --check: it prints the plan or the mistakes, and returns the exit code.
func (w *wrapper) show() int {
	w.stderr = boincapi.PlainWriter(w.stderr)
	fail := func(err error) int {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(w.stderr, strings.TrimRight(line, "\n"))
		}
		return boincapi.ExitInitFailure
	}
	if w.argErr != nil {
		return fail(w.argErr)
	}
	if !w.standalone {
		d, err := readInitData(w.dir)
		if err != nil {
			return fail(fmt.Errorf("read %s: %w", boincapi.InitDataFile, err))
		}
		w.setInit(&d)
	}
	w.log = newLogger(w.stderr, 0)
	if w.o.check {
		if err := w.check(); err != nil {
			return fail(err)
		}
	}
	if w.o.plan {
		j, err := w.plan()
		if err != nil {
			return fail(err)
		}
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(j); err != nil {
			return fail(err)
		}
	}
	return 0
}

func readInitData(dir string) (boincapi.InitData, error) {
	f, err := os.Open(filepath.Join(dir, boincapi.InitDataFile))
	if err != nil {
		return boincapi.InitData{}, err
	}
	defer f.Close()
	return boincapi.ParseInitData(f)
}

func linkNamed(links []job.Link, name string) *job.Link {
	for i := range links {
		if links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}

// realPath returns a path without symlinks. A path that doesn't exist is only cleaned.
func realPath(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return filepath.Clean(name)
}

// mountSource returns a path without symlinks; the path need not exist. It returns "" if a symlink leads nowhere or a
// directory can't be searched.
func mountSource(name string) string {
	real, err := filepath.EvalSymlinks(name)
	switch dir := filepath.Dir(name); {
	case err == nil:
		return real
	case errors.Is(err, fs.ErrNotExist) && !exists(name) && dir != name:
		if real = mountSource(dir); real != "" {
			return filepath.Join(real, filepath.Base(name))
		}
	}
	return ""
}

// reason is the text of an error without the operation and path that package os adds.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
