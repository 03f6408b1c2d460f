package main

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/slot"
)

// check is --check: it finds every mistake in the job's files that shows without an engine, those in job.toml in its order,
// and prints what may be meant as it is.
func (w *wrapper) check() error {
	leave, missing, err := w.enterAppVersion()
	if err != nil {
		return err
	}
	defer leave()
	in, err := w.input()
	var inConfig *job.ConfigError
	if in.Config == nil || err != nil && !errors.As(err, &inConfig) {
		return errors.Join(append(missing, err)...)
	}
	mistakes := each(err)
	for _, warning := range in.Config.Warnings {
		mistakes = append(mistakes, warning)
	}
	j, err := planUnlessUnread(in)
	mistakes = append(mistakes, each(err)...)
	if j == nil {
		j = rough(in)
	}
	if c := in.Config; c.Unread || c.Command == nil && c.Written("command") || c.Entrypoint == nil && c.Written("entrypoint") {
		j.Container.Command = []string{"unknown"} // what it is can't be read
	}
	mistakes = append(mistakes, checkFiles(in)...)
	inFileOrder(mistakes)
	notes := j.Notes
	files := slot.Files(j.Slot)
	for _, s := range j.Image.Sources {
		if s.Dockerfile != "" {
			found, more := engine.Check(files, s, j.Container)
			mistakes, notes = append(mistakes, found...), append(notes, more...)
		}
	}
	for _, text := range notes {
		fmt.Fprintln(w.stderr, text)
	}
	if err := errors.Join(append(missing, mistakes...)...); err != nil {
		return err
	}
	if w.config == nil {
		fmt.Fprintf(w.stdout, "no %s: all defaults\n", defaultConfig)
	} else {
		fmt.Fprintf(w.stdout, "%s: ok\n", w.config.File)
	}
	return nil
}

// planUnlessUnread plans the job, unless nothing is known of it.
func planUnlessUnread(in job.Input) (*job.Job, error) {
	if in.Config.Unread {
		return nil, nil
	}
	j, err := job.Plan(in)
	if errors.Is(err, job.ErrNoGPU) { // that is this computer's fault, not the job's
		in.Config.UseGPU = false
		return job.Plan(in)
	}
	return j, err
}

// rough is what is known of a job that can't be planned: enough to check its image.
func rough(in job.Input) *job.Job {
	c := in.Config
	j := &job.Job{Slot: job.Slot{Dir: in.Dir, Links: in.Links}, Container: job.Container{Entrypoint: c.Entrypoint, Command: c.Command, Extra: c.Create}}
	if in.HasDockerfile && (c.Unread || c.ImageName != "" || !(c.Written("image") || c.Written("images") || c.Written("image_archive"))) {
		j.Image.Sources = []job.Source{{Name: job.ImageName(in.Init, in.Dir, true), Dockerfile: in.Dockerfile, Build: &c.Build}}
	}
	return j
}

// checkFiles checks the files that job.toml names: those that it copies, and image archives.
func checkFiles(in job.Input) (mistakes []error) {
	c, files := in.Config, slot.Files(job.Slot{Dir: in.Dir, Links: in.Links})
	for _, p := range c.CopyToContainer {
		if _, err := fs.Stat(files, p.Src); err != nil {
			mistakes = append(mistakes, c.ErrorAt("copy_to_container.src", p.Src, "%q: no such file in the slot", p.Src))
		}
	}
	archive := func(key, name string) {
		at := filepath.Join(in.Dir, filepath.FromSlash(name))
		if l := linkNamed(in.Links, name); l != nil {
			at = l.Target
		}
		if _, err := fs.Stat(files, name); err != nil {
			mistakes = append(mistakes, c.Errorf(key, "%q: no such file in the slot", name))
		} else if err := engine.CheckArchive(context.Background(), at); err != nil {
			mistakes = append(mistakes, c.Errorf(key, "%q: no image archive: %s", name, err))
		}
	}
	for _, choice := range c.Images {
		if choice.Archive != "" {
			archive("images", choice.Archive)
		}
	}
	if c.ImageArchive != "" {
		archive("image_archive", c.ImageArchive)
	}
	return mistakes
}

// each lists the errors that an error joins.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, each(e)...)
		}
		return all
	}
	return []error{err}
}

// inFileOrder sorts mistakes by their place. Those without one come last.
func inFileOrder(mistakes []error) {
	at := func(err error) (line, col int) {
		var c *job.ConfigError
		if errors.As(err, &c) && c.Line > 0 {
			return c.Line, c.Col
		}
		return 1 << 30, 0
	}
	slices.SortStableFunc(mistakes, func(a, b error) int {
		lineA, colA := at(a)
		lineB, colB := at(b)
		return cmp.Or(lineA-lineB, colA-colB)
	})
}

// versionFile lists an app version's files on a project's server (tools/update_versions in BOINC).
const versionFile = "version.xml"

// enterAppVersion makes a slot of an app version's directory on a server, where files have their physical names: a directory
// elsewhere, with a link file for each logical name. In another directory it does nothing. missing are the files that
// version.xml names and that aren't there. leave removes what was made.
func (w *wrapper) enterAppVersion() (leave func(), missing []error, err error) {
	leave = func() {}
	if name := first(w.o.args); w.o.config == "" && filepath.Ext(name) == ".toml" && exists(filepath.Join(w.dir, name)) {
		w.o.config, w.o.args = name, w.o.args[1:] // docker_wrapper --check job_1.toml
	}
	at := filepath.Join(w.dir, versionFile)
	if !w.standalone || w.o.config != "" || w.o.dockerfile != "" || exists(filepath.Join(w.dir, defaultConfig)) ||
		exists(filepath.Join(w.dir, defaultDockerfile)) || !exists(at) {
		return leave, nil, nil
	}
	data, err := os.ReadFile(at)
	if err != nil {
		return leave, nil, err
	}
	var version struct {
		Files []struct {
			Physical string `xml:"physical_name"`
			Logical  string `xml:"logical_name"`
		} `xml:"file"`
	}
	if err := xml.Unmarshal(data, &version); err != nil {
		return leave, nil, fmt.Errorf("read %s: %w", versionFile, err)
	}
	dir, err := os.MkdirTemp("", "docker_wrapper_check")
	if err != nil {
		return leave, nil, err
	}
	leave = func() { os.RemoveAll(dir) }
	for _, f := range version.Files {
		physical, logical := strings.TrimSpace(f.Physical), strings.TrimSpace(cmp.Or(f.Logical, f.Physical))
		target := filepath.Join(w.dir, physical)
		if !exists(target) {
			missing = append(missing, fmt.Errorf("%s: %s: no such file here", versionFile, physical))
			continue
		}
		name := filepath.Join(dir, logical)
		link := fmt.Sprintf("<soft_link>%s</soft_link>\n", target)
		if !filepath.IsLocal(logical) {
			missing = append(missing, fmt.Errorf("%s: %s: no name in a slot", versionFile, logical))
		} else if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(link), 0o644)); err != nil {
			return leave, nil, err
		}
		if logical != physical {
			fmt.Fprintf(w.stdout, "%s: %s is %s\n", versionFile, logical, physical)
		}
	}
	if err := os.Symlink(w.dir, filepath.Join(dir, projectSubdir)); err != nil {
		return leave, nil, err
	}
	w.dir = dir
	return leave, missing, nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
