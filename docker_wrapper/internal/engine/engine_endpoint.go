package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// contextHost is the engine that docker's command line would use by DOCKER_CONTEXT, else by the current context in its
// configuration file; "" when neither names one or it can't be read.
//
// Format: docker/cli's cli/context/store (meta/SHA256 OF NAME/meta.json).
func contextHost(env func(string) string) string {
	dir := env("DOCKER_CONFIG")
	if dir == "" {
		if env("HOME") == "" {
			return ""
		}
		dir = filepath.Join(env("HOME"), ".docker")
	}
	name := env("DOCKER_CONTEXT")
	if name == "" {
		var config struct {
			CurrentContext string `json:"currentContext"`
		}
		readJSON(filepath.Join(dir, "config.json"), &config)
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return ""
	}
	sum := sha256.Sum256([]byte(name))
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	readJSON(filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"), &meta)
	return meta.Endpoints["docker"].Host
}

// readJSON leaves v as it is when the file can't be read. It reports no error: the file belongs to another program, and
// other engines are tried.
func readJSON(name string, v any) {
	if data, err := os.ReadFile(name); err == nil {
		if json.Unmarshal(data, v) != nil {
			return
		}
	}
}
