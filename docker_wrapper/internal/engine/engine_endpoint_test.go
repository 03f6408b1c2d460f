//go:build unix

package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestEndpointsOrder(t *testing.T) {
	own := fmt.Sprintf("unix:///run/user/%d/", os.Getuid())
	tests := []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"a service without home or session", nil, []string{"unix:///var/run/docker.sock", own + "docker.sock", "",
			own + "podman/podman.sock", "unix:///run/podman/podman.sock"}},
		{"a user", map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/xdg", "CONTAINER_HOST": "tcp://pod:1"}, []string{
			"unix:///var/run/docker.sock", "unix:///xdg/docker.sock", "unix:///home/u/.docker/run/docker.sock",
			"unix:///home/u/.docker/desktop/docker.sock", "tcp://pod:1", "unix:///xdg/podman/podman.sock",
			"unix:///run/podman/podman.sock", "unix:///home/u/.local/share/containers/podman/machine/podman.sock"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, endpoints(environment(tt.env))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestContextHost(t *testing.T) {
	sum := sha256.Sum256([]byte("lab"))
	meta := "contexts/meta/" + hex.EncodeToString(sum[:]) + "/meta.json"
	lab := `{"Name":"lab","Endpoints":{"docker":{"Host":"tcp://lab:2375"}}}`
	tests := []struct {
		name  string
		files map[string]string
		env   map[string]string
		want  string
	}{
		{name: "no configuration"},
		{name: "current context", files: map[string]string{"config.json": `{"currentContext":"lab"}`, meta: lab}, want: "tcp://lab:2375"},
		{name: "the default one", files: map[string]string{"config.json": `{"currentContext":"default"}`, meta: lab}},
		{name: "DOCKER_CONTEXT wins", files: map[string]string{"config.json": `{"currentContext":"other"}`, meta: lab}, env: map[string]string{"DOCKER_CONTEXT": "lab"}, want: "tcp://lab:2375"},
		{name: "a context that is gone", files: map[string]string{"config.json": `{"currentContext":"lab"}`}},
		{name: "broken files", files: map[string]string{"config.json": `{`, meta: `[]`}},
		{name: "broken context", files: map[string]string{"config.json": `{"currentContext":"lab"}`, meta: `{"Endpoints":[]}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := t.TempDir()
			dir := filepath.Join(home, ".docker")
			for name, text := range tt.files {
				write(t, filepath.Join(dir, name), text)
			}
			env := map[string]string{"HOME": home}
			for k, v := range tt.env {
				env[k] = v
			}
			if got := contextHost(environment(env)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			delete(env, "HOME")
			env["DOCKER_CONFIG"] = dir
			if got := contextHost(environment(env)); got != tt.want {
				t.Errorf("by DOCKER_CONFIG: got %q, want %q", got, tt.want)
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPermissionHint(t *testing.T) {
	if got := permissionHint("unix:///nonexistent/docker.sock"); !strings.Contains(got, "its owner must allow it: ls -l /nonexistent/docker.sock") {
		t.Errorf("no group to join: got %q", got)
	}
	name := filepath.Join(t.TempDir(), "docker.sock")
	write(t, name, "")
	const strange = 54321 // of a group without a name
	if err := os.Chown(name, -1, strange); err != nil {
		t.Log("not root: the group stays ours") // the hint is the same but for the group
	}
	got := permissionHint("unix://" + name)
	group := groupOf(name)
	if want := "usermod -aG " + group + " "; group != "root" && !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
}

// What is installed is started, and what isn't is installed.
func TestStartHint(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere it is one sentence")
	}
	none := t.TempDir()
	for program, want := range map[string]string{"dockerd": "systemctl start docker", "podman": "systemctl start podman.socket"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if got := startHint([]string{none, dir}); !strings.Contains(got, want) {
			t.Errorf("with %s: got %q", program, got)
		}
	}
	if got := startHint([]string{none}); !strings.Contains(got, "apt install") {
		t.Errorf("without an engine: got %q", got)
	}
}
