package job

import (
	"slices"
	"strings"
)

// otherNames are what wrappers, compose files and older versions call our keys.
var otherNames = map[string]string{
	"args":                   "append_cmdline_args",
	"arguments":              "command",
	"archive":                "image_archive",
	"build_arg":              "build_args",
	"checkpoint_file":        "checkpoint.file",
	"checkpoint_filename":    "checkpoint.file",
	"checkpoint_interval":    "checkpoint_period",
	"checkpoint_method":      "checkpoint.method",
	"checkpoint_signal":      "checkpoint.signal",
	"checkpoint_timeout":     "checkpoint.timeout",
	"cmd":                    "command",
	"container_args":         "create_args",
	"copy_in":                "copy_to_container",
	"copy_out":               "copy_from_container",
	"docker_args":            "create_args",
	"environment":            "env",
	"exec_dir":               "workdir",
	"fraction_done_filename": "fraction_done_file",
	"gpu":                    "use_gpu",
	"gpus":                   "use_gpu",
	"image_tag":              "image_name",
	"mem_limit":              "memory",
	"network_mode":           "network",
	"pids_limit":             "pids",
	"port":                   "portmap",
	"ports":                  "portmap",
	"project_dir":            "project_dir_mount",
	"publish":                "portmap",
	"run_args":               "create_args",
	"setenv":                 "env",
	"slot_dir":               "slot_dir_mount",
	"stderr_filename":        "stderr_file",
	"stdout_filename":        "stdout_file",
	"stop_grace_period":      "stop_timeout",
	"tag":                    "image_name",
	"volume":                 "mount",
	"volumes":                "mount",
	"web_graphics_port":      "web_graphics_guest_port",
	"working_dir":            "workdir",
	"working_directory":      "workdir",
}

// suggestKey gives the hint for an unknown key, such as "did you mean use_gpu?".
func suggestKey(name string) string {
	var names []string
	for _, k := range Keys() {
		n, _ := strings.CutSuffix(k.Name, ".*")
		names = append(names, n)
	}
	table, own, inTable := strings.Cut(name, ".")
	if inTable {
		if isKey(own) {
			return own + " is a key of its own; write it above the first [table]"
		}
		if other, ok := strings.CutPrefix(otherNames[plain(own)], table+"."); ok {
			return didYouMean(table + "." + other)
		}
	}
	if other, ok := otherNames[plain(name)]; ok {
		return didYouMean(other)
	}
	return didYouMean(nearest(name, names))
}

// otherMembers are what compose files, docker and other programs call src and dst.
var otherMembers = map[string]string{"source": "src", "from": "src", "target": "dst", "destination": "dst", "to": "dst"}

// meantMember gives the known member that an unknown one was perhaps meant to be, or "".
func meantMember(name string, known []string) string {
	if other := otherMembers[plain(name)]; slices.Contains(known, other) {
		return other
	}
	return nearest(name, known)
}

func isKey(name string) bool {
	for _, k := range Keys() {
		if k.Name == name {
			return true
		}
	}
	return false
}

func didYouMean(name string) string {
	if name == "" {
		return ""
	}
	return "did you mean " + name + "?"
}

func plain(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// nearest is what may have been meant by name: what differs by a letter or two, else what begins likewise; "" for none.
func nearest(name string, candidates []string) string {
	if best := Nearest(name, candidates); best != "" || len(plain(name)) > 40 {
		return best
	}
	name = plain(name)
	for _, c := range candidates {
		if p := plain(c); min(len(p), len(name)) >= 4 && (strings.HasPrefix(p, name) || strings.HasPrefix(name, p)) {
			return c
		}
	}
	return ""
}

// Nearest is the candidate from which name differs by a letter or two; "" for none.
func Nearest(name string, candidates []string) string {
	name = plain(name)
	if len(name) > 40 {
		return ""
	}
	best, least := "", 3
	for _, c := range candidates {
		if d := distance(name, plain(c)); d < least && 2*d < max(len(name), len(c)) {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, replace or swap with a neighbour.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
