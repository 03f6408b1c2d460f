package job

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Variables that every container gets.
const (
	envArgs       = "ARGS"              // the job's command line, joined by spaces, as BOINC's own wrapper gives it
	envSlotDir    = "BOINC_SLOT_DIR"    // mount points, for scripts that resolve link files
	envProjectDir = "BOINC_PROJECT_DIR" //
	envNThreads   = "NTHREADS"
	envGPU        = "GPU_DEVICE_NUM"
)

// environment lists NAME=VALUE, sorted. What job.toml sets wins over what the wrapper sets.
func environment(c *Config, in Input, slotMount string, nthreads int, gpus *GPUGrant) []string {
	env := map[string]string{envNThreads: strconv.Itoa(nthreads)}
	if len(in.Args) > 0 { // else the image may have a default
		env[envArgs] = strings.Join(in.Args, " ")
	}
	set := func(name, value string) {
		if value != "" {
			env[name] = value
		}
	}
	set(envSlotDir, slotMount)
	set(envProjectDir, c.ProjectDirMount)
	given := gpus.environment()
	maps.Copy(env, given)
	macros := strings.NewReplacer("$NTHREADS", strconv.Itoa(nthreads), "$GPU_DEVICE_NUM", given[envGPU],
		"$PROJECT_DIR", c.ProjectDirMount, "$SLOT_DIR", slotMount)
	for name, value := range c.Env {
		env[name] = macros.Replace(value)
	}
	for _, nv := range c.Create.Env {
		name, value, _ := strings.Cut(nv, "=")
		env[name] = value
	}
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// option returns the values of every "--name N" in the job's command line, as the client appends
// them (start_app in BOINC's client/app_start.cpp).
func option(args []string, name string) []int {
	var values []int
	for i := 0; i+1 < len(args); i++ {
		if args[i] != name {
			continue
		}
		if n, err := strconv.Atoi(args[i+1]); err == nil {
			values = append(values, n)
		}
	}
	return values
}
