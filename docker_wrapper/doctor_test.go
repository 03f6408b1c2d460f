package main

import (
	"strings"
	"testing"

	"boincdocker/docker_wrapper/internal/engine"
)

func TestAbilities(t *testing.T) {
	for _, tt := range []struct {
		f    engine.Found
		want string // of what it can't
	}{
		{engine.Found{MemoryLimit: true, CPULimit: true, PidsLimit: true, Cgroups: "2, systemd"}, "checkpoints;"},
		{engine.Found{MemoryLimit: true, CPULimit: true, PidsLimit: true, Cgroups: "1, cgroupfs"}, "checkpoints;"},
		{engine.Found{Info: engine.Info{Rootless: true}, Cgroups: "2, systemd", MemoryLimit: true, PidsLimit: true}, "limits CPUs;checkpoints;"},
		{engine.Found{Info: engine.Info{Rootless: true}, Cgroups: "1, cgroupfs"}, "limits memory;limits CPUs;limits processes;pauses;checkpoints;"},
	} {
		got := ""
		for _, a := range abilities(tt.f, "") {
			if a.Can != "yes" {
				got += a.Name + ";"
			}
		}
		if got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.f, got, tt.want)
		}
	}
}

// What trials have found out is repeated.
func TestTriedAbility(t *testing.T) {
	for _, tt := range []struct {
		tried map[string]string
		want  string
	}{
		{nil, "perhaps"},
		{map[string]string{"bridge auto": "no CRIU"}, "no"},
		{map[string]string{"bridge auto": "no CRIU", "none auto": ""}, "yes"},
	} {
		got := byTrial(tt.tried)
		if got.Can != tt.want || (got.Can == "no") != strings.Contains(got.Why, "no CRIU") {
			t.Errorf("%v: got %+v, want %s", tt.tried, got, tt.want)
		}
	}
}
