package main

import (
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

// plan reads everything and decides everything. It touches nothing.
func (w *wrapper) plan() (*job.Job, error) {
	if w.init != nil {
		if err := checkDirs(w.init); err != nil {
			return nil, err
		}
	}
	in := job.Input{Init: w.init, Dir: w.dir, Args: w.o.args, Dockerfile: w.o.dockerfile, RealPath: mountSource}
	if in.Dockerfile == "" {
		in.Dockerfile = defaultDockerfile
	}
	for _, named := range []struct{ option, name string }{{"--config", w.o.config}, {"--dockerfile", w.o.dockerfile}} {
		if err := job.CheckLength(filepath.ToSlash(named.name)); err != nil {
			return nil, &job.ConfigError{File: "command line", Key: named.option, Problem: fmt.Sprintf("%.80q… %v", named.name, err)}
		}
	}
	in.ProjectDir = filepath.Join(w.dir, projectSubdir)
	if w.init != nil {
		// The slot's links are relative to the slot, whatever the client calls its directories.
		in.ProjectDir = realPath(w.init.ProjectDir)
		in.Dir = realPath(w.dir)
	}
	scope := in.ProjectDir
	if w.init == nil {
		scope = ""
		in.LockDir = filepath.Join(os.TempDir(), fmt.Sprintf("docker_wrapper_%d", os.Getuid()))
	}
	var err error
	if in.Links, err = slot.Links(in.Dir, scope, w.appFiles()); err != nil {
		return nil, err
	}
	files := slot.Files(job.Slot{Dir: in.Dir, Links: in.Links})
	config := w.o.config
	if config == "" {
		config = defaultConfig
	}
	data, err := engine.ReadFile(files, filepath.ToSlash(config), job.MaxFile)
	if engine.HostsFault(err) {
		return nil, fmt.Errorf("read %s: %w", config, err)
	} else if l := linkNamed(in.Links, filepath.ToSlash(config)); err != nil && l != nil {
		return nil, &job.ConfigError{File: config, Problem: "it is a link to " + l.Target + ", which can't be read: " + reason(err)}
	} else if errors.Is(err, fs.ErrNotExist) && w.o.config == "" {
		data, err = nil, nil
	} else if err != nil {
		e := &job.ConfigError{File: config, Problem: reason(err)}
		if w.o.config != "" {
			e.Hint = "it is named by --config"
		}
		return nil, e
	}
	c, err := job.ParseConfig(config, data)
	if err != nil {
		return nil, err
	}
	in.Config = c
	if data != nil {
		w.config = c
	}
	if w.init == nil && c.ProjectDirMount != "" && !exists(in.ProjectDir) {
		e := c.Errorf("project_dir_mount", "by hand the project directory is ./%s, and it isn't there", projectSubdir)
		e.Hint = "make it, and put the files into it that the links name"
		return nil, e
	}
	_, statErr := fs.Stat(files, in.Dockerfile)
	if engine.HostsFault(statErr) {
		return nil, fmt.Errorf("look for %s: %w", in.Dockerfile, statErr)
	}
	in.HasDockerfile = statErr == nil
	w.setVerbosity(c.Verbose)
	if w.init != nil {
		in.Signed = w.signed(in, config, data != nil) && !w.store.Episode().Unsigned
		in.Policy, err = readPolicy(w.init.BoincDir)
		if err != nil {
			return nil, err
		}
	}
	in.Host = thisHost()
	if w.key != nil {
		in.Proof = w.key.Labels(w.init, w.dir)[job.LabelProof]
	}
	if c.UseGPU {
		w.lookForGPUs(&in)
	}
	j, err := job.Plan(in)
	if w.o.check && errors.Is(err, job.ErrNoGPU) { // the matter of a computer that isn't the job's
		c.UseGPU = false
		return job.Plan(in)
	}
	return j, err
}

// appFiles are the physical names of the app version's files; none by hand.
func (w *wrapper) appFiles() []string {
	if w.init == nil {
		return nil
	}
	return w.init.AppFiles
}

// signed reports whether all that decides what the container may do comes with the app version.
func (w *wrapper) signed(in job.Input, config string, hasConfig bool) bool {
	if !hasConfig && !in.HasDockerfile {
		return false
	}
	ok := func(name string) bool {
		return slot.Signed(in.Dir, in.ProjectDir, filepath.ToSlash(filepath.Clean(name)), in.Links, w.init.AppFiles)
	}
	return (!hasConfig || ok(config)) && (!in.HasDockerfile || ok(in.Dockerfile))
}

// errPolicy: the volunteer's file can't be understood, so nothing is run until it can.
var errPolicy = errors.New("the policy file of this computer")

// errNoDir: what the client keeps in a directory, its volunteer's policy or the project's files, is looked for nowhere
// else, as the slot is the job's.
var errNoDir = errors.New("init_data.xml doesn't say where a directory of the client is")

// checkDirs makes sure that the client has said where its directories are.
func checkDirs(d *boincapi.InitData) error {
	for _, dir := range []struct{ element, path string }{{"boinc_dir", d.BoincDir}, {"project_dir", d.ProjectDir}} {
		if !filepath.IsAbs(dir.path) {
			return fmt.Errorf("%w: its %s is %q, and no absolute path", errNoDir, dir.element, dir.path)
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

// readPolicyFile gives nil where there is no such file in its directory. What is there under its name and can't be read is an
// error: its owner means something by it.
func readPolicyFile(name string) ([]byte, error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(name)); err != nil {
			return nil, fmt.Errorf("look into the directory where it would be: %w", err)
		}
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO's writer isn't waited for
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

func thisHost() job.Host {
	return job.Host{UID: os.Getuid(), GID: os.Getgid(), CPUs: runtime.NumCPU(), Memory: host.Memory()}
}

// show prints the plan, or what is wrong with job.toml.
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
	if f, err := os.Open(filepath.Join(w.dir, boincapi.InitDataFile)); err == nil {
		d, err := boincapi.ParseInitData(f)
		f.Close()
		if err != nil {
			return fail(fmt.Errorf("read %s: %w", boincapi.InitDataFile, err))
		}
		w.keepSecret(&d)
	}
	w.log = newLogger(w.stderr, 0)
	j, err := w.plan()
	if err != nil {
		return fail(err)
	}
	if w.o.check {
		for _, text := range append(j.Warnings, j.Notes...) {
			fmt.Fprintln(w.stderr, text)
		}
		if len(j.Warnings) > 0 {
			return boincapi.ExitInitFailure
		}
		if err := w.checkFiles(j); err != nil {
			return fail(err)
		}
		if w.config == nil {
			fmt.Fprintf(w.stdout, "no %s: all defaults\n", defaultConfig)
		} else {
			fmt.Fprintf(w.stdout, "%s: ok\n", w.config.File)
		}
	}
	if w.o.plan {
		enc := json.NewEncoder(w.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(j); err != nil {
			return fail(err)
		}
	}
	return 0
}

// checkFiles looks for the files that the Dockerfile and job.toml name.
func (w *wrapper) checkFiles(j *job.Job) error {
	var errs []error
	files := slot.Files(j.Slot)
	for _, s := range j.Image.Sources {
		if s.Dockerfile != "" {
			errs = append(errs, engine.CheckDockerfile(files, s))
		}
	}
	if w.config == nil {
		return errors.Join(errs...)
	}
	look := func(key, name string) {
		if _, err := fs.Stat(files, name); err != nil {
			errs = append(errs, w.config.Errorf(key, "%q: no such file in the slot", name))
		}
	}
	for _, choice := range w.config.Images {
		if choice.Archive != "" {
			look("images", choice.Archive)
		}
	}
	if w.config.ImageArchive != "" {
		look("image_archive", w.config.ImageArchive)
	}
	for _, p := range w.config.CopyToContainer {
		look("copy_to_container", p.Src)
	}
	return errors.Join(errs...)
}

func linkNamed(links []job.Link, name string) *job.Link {
	for i := range links {
		if links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// realPath follows the symlinks of a path that is there.
func realPath(name string) string {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		return real
	}
	return filepath.Clean(name)
}

// mountSource is where a path is or would be made, symlinks followed; "" when that can't be said,
// because a symlink leads nowhere or a directory can't be searched.
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

// reason is an error without the operation and path that the os package adds.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
