package job

import (
	"errors"
	"fmt"
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

// tooLong finds variables with which no program starts.
func tooLong(c *Config, env []string) error {
	var errs []error
	for _, nv := range env {
		if len(nv) <= MaxArgument {
			continue
		}
		name, _, _ := strings.Cut(nv, "=")
		key := joinKey("env", name)
		if !c.Written(key) {
			key = "create_args"
		}
		if name == envArgs && !c.Written(key) {
			errs = append(errs, &ConfigError{File: "command line", Problem: fmt.Sprintf("is longer than %d bytes, which Linux allows the variable ARGS", MaxArgument)})
			continue
		}
		e := c.Errorf(key, "%.80s is %d bytes long with its name; Linux allows a variable %d", name, len(nv), MaxArgument)
		e.Hint = "put it into a file"
		errs = append(errs, e)
	}
	return errors.Join(errs...)
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
