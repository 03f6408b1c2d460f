//go:build !windows

package engine

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// endpoints lists where an engine may listen, most explicit first, as docker, Docker Desktop and
// Podman place their sockets.
func endpoints(env func(string) string) []string {
	uid := strconv.Itoa(os.Getuid())
	home, runtime := env("HOME"), env("XDG_RUNTIME_DIR")
	if runtime == "" {
		runtime = filepath.Join("/run/user", uid) // not set for a service's user account, which has no session
	}
	list := []string{"unix:///var/run/docker.sock", "unix://" + filepath.Join(runtime, "docker.sock")}
	if home != "" {
		list = append(list, "unix://"+filepath.Join(home, ".docker/run/docker.sock"), "unix://"+filepath.Join(home, ".docker/desktop/docker.sock"))
	}
	list = append(list, env("CONTAINER_HOST"), "unix://"+filepath.Join(runtime, "podman/podman.sock"), "unix:///run/podman/podman.sock")
	if home != "" {
		list = append(list, "unix://"+filepath.Join(home, ".local/share/containers/podman/machine/podman.sock"))
	}
	return list
}

// ownsSocket reports whether an engine's socket belongs to this process's user account: then that account runs the engine.
func ownsSocket(host string) bool {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return false
	}
	fi, err := os.Stat(path)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// groupOf names the group that a file belongs to; "" when it can't be found.
func groupOf(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	g, err := user.LookupGroupId(strconv.Itoa(int(st.Gid)))
	if err != nil {
		return strconv.Itoa(int(st.Gid))
	}
	return g.Name
}
