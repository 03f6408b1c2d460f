package engine

// endpoints lists where an engine may listen, most explicit first.
func endpoints(env func(string) string) []string {
	return []string{"npipe:////./pipe/docker_engine", "npipe:////./pipe/dockerDesktopLinuxEngine",
		env("CONTAINER_HOST"), "npipe:////./pipe/podman-machine-default"}
}

// ownsSocket is false for pipes: their owner isn't looked up.
func ownsSocket(string) bool { return false }

// groupOf has no meaning for pipes.
func groupOf(string) string { return "" }
