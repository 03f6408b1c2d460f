package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/gpu"
	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/docker_wrapper/internal/session"
)

// diagnosis describes the computer as the wrapper sees it. --doctor prints it; --doctor --json prints it as JSON.
type diagnosis struct {
	Ready    bool       `json:"ready"`    // a job could run
	Problems []string   `json:"problems"` // why jobs, or those with a GPU, can't run, with the commands that correct it
	Wrapper  string     `json:"wrapper"`  // version
	System   string     `json:"system"`   // such as "linux/amd64, 8 CPUs"
	User     string     `json:"user"`
	Dir      string     `json:"dir"`
	BOINC    string     `json:"boinc"` // the client's data directory; "" if neither Dir nor this program is in one
	Rules    []string   `json:"rules"` // lines of docker_wrapper.toml there
	Free     int64      `json:"free"`  // bytes in Dir; -1 when unknown
	Engines  []examined `json:"engines"`
	GPUs     []seen     `json:"gpus"`
}

// examined is an engine, with its abilities.
type examined struct {
	engine.Found
	Free      int64     `json:"free"` // bytes where it keeps its images; -1 when unknown
	Abilities []ability `json:"abilities"`
}

// ability is something that some engines can do.
type ability struct {
	Name string `json:"name"`
	Can  string `json:"can"` // "yes", "no" or "perhaps"
	Why  string `json:"why,omitempty"`
}

// seen is a GPU, and how a container would get it.
type seen struct {
	job.GPU
	Passed string `json:"passed,omitempty"` // how, by the chosen engine
}

// abilities lists the abilities that jobs rely on.
func abilities(f engine.Found, dataDir string) []ability {
	limits := func(what string, can bool) ability {
		if can {
			return ability{"limits " + what, "yes", ""}
		}
		return ability{"limits " + what, "no", "the engine's control groups can't"}
	}
	return []ability{
		limits("memory", f.MemoryLimit),
		limits("CPUs", f.CPULimit),
		limits("processes", f.PidsLimit),
		pauses(f),
		checkpoints(f, dataDir),
	}
}

// pauses: a rootless engine can't freeze control groups of version 1 (kernel: cgroup-v1/freezer-subsystem.rst).
func pauses(f engine.Found) ability {
	if f.Rootless && strings.HasPrefix(f.Cgroups, "1") {
		return ability{"pauses", "no", "a rootless engine can't freeze control groups of version 1; signals stop a job's processes instead"}
	}
	return ability{"pauses", "yes", ""}
}

// checkpoints: only a trial shows whether CRIU and the kernel can. The result may depend on a job's network and user.
func checkpoints(f engine.Found, dataDir string) ability {
	if why := f.NoCheckpoints(); why != "" {
		return ability{"checkpoints", "no", why}
	}
	return byTrial(session.Tried(dataDir, f.Info, version))
}

// byTrial returns the result of an engine's trials.
func byTrial(tried map[string]string) ability {
	a := ability{"checkpoints", "perhaps", "it is tried out before the first job that needs it"}
	for _, key := range slices.Sorted(maps.Keys(tried)) {
		if tried[key] == "" {
			return ability{"checkpoints", "yes", "it was tried out"}
		}
		a.Can, a.Why = "no", "it was tried out: "+tried[key]
	}
	return a
}

// boincDir finds the client's data directory above dir, or above this program, which is usually in a project's directory.
func boincDir(dir string) string {
	around := []string{dir}
	if self, err := os.Executable(); err == nil {
		around = append(around, filepath.Dir(self))
	}
	for _, at := range around {
		for ; ; at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "client_state.xml")); err == nil {
				return at
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return ""
}

// rules returns the lines of docker_wrapper.toml without comments and empty lines. The error says what is wrong with them.
func rules(dataDir string) (lines []string, err error) {
	_, err = readPolicy(dataDir)
	data, _ := readPolicyFile(filepath.Join(dataDir, job.PolicyFile))
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines, err
}

// examine makes the diagnosis. It changes nothing; if no engine answers, it starts a Podman service for the time being.
func (p program) examine(ctx context.Context, dir string) diagnosis {
	d := diagnosis{Problems: []string{}, Engines: []examined{}, GPUs: []seen{}, Rules: []string{}, Wrapper: version, Dir: dir, Free: freeSpace(dir), BOINC: boincDir(dir),
		System: fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), User: who()}
	var chosen *engine.Found
	found, err := engine.Survey(ctx, engine.Options{})
	for i, f := range found {
		if f.Chosen {
			chosen, d.Ready = &found[i], true
		}
		e := examined{Found: f, Free: freeSpace(f.Dir)}
		if f.Problem == "" {
			e.Abilities = abilities(f, d.BOINC)
		}
		d.Engines = append(d.Engines, e)
	}
	if err != nil {
		d.Problems = append(d.Problems, err.Error())
	}
	if d.BOINC != "" {
		lines, err := rules(d.BOINC)
		if err != nil {
			d.Ready, d.Problems = false, append(d.Problems, err.Error())
		}
		d.Rules = append(d.Rules, lines...)
	}
	gpus, err := p.listGPUs()
	if err != nil && !errors.Is(err, gpu.ErrUnsupported) {
		d.Problems = append(d.Problems, err.Error())
	}
	for _, g := range gpus {
		s := seen{GPU: g}
		grant, err := g.Alone()
		if err == nil && chosen != nil {
			s.Passed, err = chosen.Asks(grant)
		}
		if err != nil {
			s.Passed = ""
			d.Problems = append(d.Problems, err.Error())
		}
		d.GPUs = append(d.GPUs, s)
	}
	return d
}

func who() string {
	u, err := user.Current()
	if err != nil {
		return fmt.Sprintf("%d", os.Getuid())
	}
	groups := []string{}
	ids, err := u.GroupIds()
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			groups = append(groups, g.Name)
		}
	}
	if err != nil || len(groups) == 0 {
		return u.Username
	}
	return u.Username + " (" + strings.Join(groups, ", ") + ")"
}

// write prints a diagnosis for a person.
func (d diagnosis) write(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("wrapper", "%s on %s", d.Wrapper, d.System)
	line("user", "%s", d.User)
	line("here", "%s, %s", d.Dir, space(d.Free))
	switch {
	case d.BOINC == "":
		line("BOINC", "no data directory around here, where %s would be", job.PolicyFile)
	case len(d.Rules) == 0:
		line("BOINC", "%s, no rules in %s", d.BOINC, job.PolicyFile)
	default:
		line("BOINC", "%s, rules in %s:", d.BOINC, job.PolicyFile)
	}
	for _, r := range d.Rules {
		line("", "%s", r)
	}
	for _, e := range d.Engines {
		e.write(line)
	}
	if len(d.GPUs) == 0 {
		line("GPU", "none")
	}
	for _, g := range d.GPUs {
		g.write(line)
	}
	for _, p := range d.Problems {
		line("problem", "%s", p)
	}
	if d.Ready {
		line("so", "jobs can run")
	} else {
		line("so", "no job can run")
	}
}

// write prints an engine. line prints a line with a name before it.
func (e examined) write(line func(name, format string, args ...any)) {
	if e.Problem != "" {
		line("engine", "%s: %s", e.Host, e.Problem)
		return
	}
	mark, root := "", "with root"
	if e.Chosen {
		mark = ", chosen"
	}
	if e.Rootless {
		root = "rootless"
	}
	line("engine", "%s %s (API %s) at %s, %s%s", e.Kind, e.Version, e.APIVersion, e.Host, root, mark)
	line("", "control groups %s; storage %s in %s, %s; %d images, %d containers", e.Cgroups, e.Storage, e.Dir, space(e.Free), e.Images, e.Containers)
	for _, a := range e.Abilities {
		if a.Why == "" {
			line("", "%s: %s", a.Name, a.Can)
		} else {
			line("", "%s: %s: %s", a.Name, a.Can, a.Why)
		}
	}
}

// write prints a GPU. line prints a line with a name before it.
func (g seen) write(line func(name, format string, args ...any)) {
	facts := []string{fmt.Sprint(g.Vendor, " ", g.Index), g.Name, g.PCI, g.UUID}
	if g.Memory > 0 {
		facts = append(facts, fmt.Sprintf("%d MiB", g.Memory>>20))
	}
	if g.Driver != "" {
		facts = append(facts, "driver "+g.Driver)
	}
	if g.CUDA != "" {
		facts = append(facts, "CUDA "+g.CUDA)
	}
	facts = append(facts, g.ComputeMode)
	line("GPU", "%s", strings.Join(slices.DeleteFunc(facts, func(s string) bool { return s == "" }), ", "))
	for _, p := range g.Parts {
		line("", "instance %s %s", p.Name, p.UUID)
	}
	if g.Passed != "" {
		line("", "passed %s", g.Passed)
	}
}

func space(bytes int64) string {
	if bytes < 0 {
		return "free space unknown"
	}
	return fmt.Sprintf("%.1f GB free", float64(bytes)/1e9)
}

// doctor is --doctor: it prints the diagnosis. The exit code is 0 if a job could run.
func (p program) doctor(ctx context.Context, dir string, asJSON bool) int {
	d := p.examine(ctx, dir)
	if asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			fmt.Fprintln(p.stderr, "docker_wrapper:", err)
			return boincapi.ExitInitFailure
		}
	} else {
		d.write(p.stdout)
	}
	if !d.Ready {
		return boincapi.ExitInitFailure
	}
	return 0
}
