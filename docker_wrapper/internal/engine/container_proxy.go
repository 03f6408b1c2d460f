package engine

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"boincdocker/docker_wrapper/internal/job"
)

// throughProxy returns the environment and extra hosts by which a container or a build's steps use the client's proxy.
// There are none for a proxy on this computer that the container can't reach: the network may work without.
func throughProxy(p *job.Proxy, network string, info Info) (env, extraHosts []string) {
	switch q := info.quirks; {
	case p == nil || unreachable(p, network, info):
		return nil, nil
	case !p.Local() || network == "host":
		return p.Env(""), nil
	case q.hostAlias == "":
		return p.Env(q.hostName), nil
	default:
		return p.Env(q.hostName), []string{q.hostAlias}
	}
}

// unreachable reports a proxy on this computer that containers in such a network can't reach.
func unreachable(p *job.Proxy, network string, info Info) bool {
	return p.Local() && network != "host" && (info.quirks.hostName == "" || strings.HasPrefix(network, "container:"))
}

// sayProxy logs what a proxy on this computer means for containers.
func (e *Engine) sayProxy(p *job.Proxy, network string) {
	switch {
	case p == nil || !p.Local() || network == "host":
	case unreachable(p, network, e.Info):
		e.log.Warn().Msg("BOINC's proxy is on this computer, where containers can't reach it; the job runs without it")
	default:
		e.log.Info().Msg("BOINC's proxy is on this computer; containers use it at " + e.Info.quirks.hostName + ", so it must listen on more than 127.0.0.1")
	}
}

// withArgs adds NAME=VALUE to build arguments. Builders know the names of proxy variables and keep them out of the image,
// its history and their cache unless the Dockerfile asks for them.
func withArgs(args map[string]*string, env []string) map[string]*string {
	if len(env) == 0 {
		return args
	}
	all := maps.Clone(args)
	if all == nil {
		all = map[string]*string{}
	}
	for _, nv := range env {
		name, value, _ := strings.Cut(nv, "=")
		all[name] = &value
	}
	return all
}

var proxyVariable = regexp.MustCompile(`(?i)(https?|all|no)_proxy`)

// commands are the instructions in which builders expand no variables; a shell does when they run.
var commands = []string{"run", "cmd", "entrypoint", "healthcheck", "shell"}

// keepsProxy reports whether a Dockerfile names a proxy variable outside of commands. ARG puts its value into the history
// of later steps, ENV and LABEL put it into the image.
func keepsProxy(dockerfile []byte) bool {
	result, err := parseDockerfile(dockerfile)
	if err != nil {
		return true // the builder will report the mistake
	}
	for _, n := range result.AST.Children {
		if !slices.Contains(commands, strings.ToLower(n.Value)) && proxyVariable.MatchString(n.Original) {
			return true
		}
	}
	return false
}

// hintProxy adds what may be missing to an error about the network. The steps of a build use the proxy, perhaps without its
// password. The engine pulls images by its own proxy configuration.
func (e *Engine) hintProxy(im job.Image, s job.Source, err error) error {
	var step *ImageError
	switch {
	case !im.BehindProxy || !errors.Is(err, ErrNetwork):
		return err
	case errors.As(err, &step):
		if s.Proxy == nil || !s.Proxy.Withheld {
			return err
		}
		return fmt.Errorf("builds don't get the password of BOINC's proxy (the owner can allow it: proxy_password = true in %s in BOINC's data directory): %w", job.PolicyFile, err)
	case e.Info.hasProxy:
		return err
	}
	return fmt.Errorf("BOINC uses a proxy, which the engine may need too (%s): %w", e.Info.quirks.proxyHint, err)
}
