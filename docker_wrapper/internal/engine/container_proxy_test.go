package engine

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"boincdocker/docker_wrapper/internal/engine/enginetest"
	"boincdocker/docker_wrapper/internal/job"
)

func TestThroughProxy(t *testing.T) {
	docker := Info{quirks: quirksOf(Docker, infoFacts{hostGateway: true})}
	old := Info{quirks: quirksOf(Docker, infoFacts{})}
	podman := Info{quirks: quirksOf(Podman, infoFacts{})}
	for _, tt := range []struct {
		name, host, network string
		info                Info
		want                string // of http_proxy; "" for no variable
		alias               string
	}{
		{"elsewhere", "proxy.example", "bridge", docker, "http://proxy.example:80", ""},
		{"elsewhere, an old engine", "proxy.example", "bridge", old, "http://proxy.example:80", ""},
		{"here, Docker", "localhost", "bridge", docker, "http://host.docker.internal:80", "host.docker.internal:host-gateway"},
		{"here, in a build", "127.0.0.53", "", docker, "http://host.docker.internal:80", "host.docker.internal:host-gateway"},
		{"here, IPv6", "::1", "bridge", docker, "http://host.docker.internal:80", "host.docker.internal:host-gateway"},
		{"here, the host's own network", "::1", "host", docker, "http://[::1]:80", ""},
		{"here, another container's network", "localhost", "container:x", docker, "", ""},
		{"here, an old or rootless engine", "localhost", "bridge", old, "", ""},
		{"here, Podman", "localhost", "bridge", podman, "http://host.containers.internal:80", ""},
	} {
		p := &job.Proxy{Scheme: "http", Host: tt.host, Port: 80, Variables: []string{"http_proxy"}}
		env, hosts := throughProxy(p, tt.network, tt.info)
		if got := strings.TrimPrefix(strings.Join(env, " "), "http_proxy="); got != tt.want || strings.Join(hosts, " ") != tt.alias {
			t.Errorf("%s: got %q and hosts %q, want %q and %q", tt.name, got, hosts, tt.want, tt.alias)
		}
	}
	if env, hosts := throughProxy(nil, "bridge", docker); env != nil || hosts != nil {
		t.Errorf("got %q, %q for no proxy", env, hosts)
	}
}

func TestHostGateway(t *testing.T) {
	for _, tt := range []struct {
		api      string
		rootless bool
		want     bool
	}{{"1.40", false, false}, {"1.41", false, true}, {"1.51", false, true}, {"1.51", true, false}} {
		if got := hostGateway(tt.api, tt.rootless); got != tt.want {
			t.Errorf("API %s, rootless %t: got %t, want %t", tt.api, tt.rootless, got, tt.want)
		}
	}
}

func TestKeepsProxy(t *testing.T) {
	for text, want := range map[string]bool{
		"FROM scratch\nRUN echo $http_proxy":           false,
		"FROM scratch\n# ARG http_proxy\nCMD [\"x\"]":  false,
		"FROM scratch\nCMD wget -e $http_proxy":        false,
		"FROM scratch\nONBUILD ENV A=$http_proxy":      true,
		"FROM scratch\nARG http_proxy\n":               true,
		"ARG HTTPS_PROXY\nFROM scratch\n":              true,
		"FROM scratch\nENV A=1 \\\n  B=${all_proxy}\n": true,
		"FROM scratch\nLABEL l=$NO_PROXY":              true,
		"":                                             true,
	} {
		if got := keepsProxy([]byte(text)); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}

func TestHintProxy(t *testing.T) {
	pull := errors.Join(ErrNetwork)
	behind := job.Image{BehindProxy: true}
	for _, tt := range []struct {
		name string
		im   job.Image
		info Info
		err  error
		want bool
	}{
		{"a pull", behind, Info{}, pull, true},
		{"no proxy", job.Image{}, Info{}, pull, false},
		{"an engine that has one", behind, Info{hasProxy: true}, pull, false},
		{"another error", behind, Info{}, ErrDiskFull, false},
		{"a step that was told", behind, Info{}, errors.Join(ErrNetwork, &ImageError{Step: "RUN apt-get update"}), false},
	} {
		e := &Engine{Info: tt.info}
		e.Info.quirks = quirksOf(Docker, infoFacts{})
		got := e.hintProxy(tt.im, job.Source{Proxy: &job.Proxy{}}, tt.err)
		if hinted := strings.Contains(got.Error(), "docker.service"); hinted != tt.want || !errors.Is(got, tt.err) {
			t.Errorf("%s: got %v, want a hint: %t", tt.name, got, tt.want)
		}
	}
}

func TestHintProxyPassword(t *testing.T) {
	failed := errors.Join(ErrNetwork, &ImageError{Step: "RUN apt-get update"})
	for _, withheld := range []bool{false, true} {
		e := &Engine{Info: Info{hasProxy: true}} // the steps' proxy is another matter than the engine's
		got := e.hintProxy(job.Image{BehindProxy: true}, job.Source{Proxy: &job.Proxy{Withheld: withheld}}, failed)
		if hinted := strings.Contains(got.Error(), "proxy_password = true in docker_wrapper.toml"); hinted != withheld || !errors.Is(got, ErrNetwork) {
			t.Errorf("withheld: %t: got %v", withheld, got)
		}
	}
}

// The engine is never asked through a proxy, whatever the environment says.
func TestOpenTakesNoProxy(t *testing.T) {
	var asked []string
	proxy := serveOn(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.String()) }))
	t.Setenv("HTTP_PROXY", "http://"+proxy)
	fake, err := enginetest.New(enginetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	_, port, _ := net.SplitHostPort(serveOn(t, "0.0.0.0:0", fake))
	e, err := Open(t.Context(), Options{Host: "tcp://0.0.0.0:" + port}) // for loopback addresses Go takes no proxy anyway
	if err != nil || len(asked) > 0 {
		t.Fatalf("got %v, and the proxy was asked for %q", err, asked)
	}
	e.Close()
}

func serveOn(t *testing.T, address string, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}
