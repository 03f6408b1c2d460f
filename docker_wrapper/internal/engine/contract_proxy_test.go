//go:build integration

package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/client"

	"boincdocker/docker_wrapper/internal/engine"
	"boincdocker/docker_wrapper/internal/job"
)

var proxyRows = []contractRow{
	{fact: "proxy: the steps of a build see it", check: func(t *testing.T, k *contract) {
		for builder, run := range builders {
			im, fsys := k.source("proxy", run+` ["/payload", "want=http_proxy=http://max:geheim%2Fx@proxy.example:3128", "want=NO_PROXY=localhost"]`+"\n")
			im.Sources[0].Proxy = proxyTo("proxy.example")
			if _, err := k.e.Ensure(t.Context(), im, fsys); err != nil {
				t.Errorf("%s: %v", builder, err)
			}
		}
	}},
	{fact: "proxy: a built image keeps nothing of the password", check: func(t *testing.T, k *contract) {
		for builder, run := range builders {
			for _, more := range []string{
				run + ` ["/payload", "env=http_proxy"]` + "\n",
				"ARG http_proxy\nARG HTTPS_PROXY\n" + run + ` ["/payload", "env=http_proxy"]` + "\n",
				run + ` ["/payload", "env=http_proxy"]` + "\nENV THROUGH=$http_proxy\nLABEL through=${HTTPS_PROXY}\nWORKDIR /x$http_proxy\n",
			} {
				im, fsys := k.source("proxy", more)
				im.Sources[0].Proxy = proxyTo("proxy.example")
				if got := k.all(t, k.ensure(t, im, fsys)); strings.Contains(got, "geheim") || !strings.Contains(got, job.LabelContent) {
					t.Errorf("%s: the password is in what the engine says of the image built from\n%s\n%s", builder, more, got)
				}
			}
		}
	}},
	{fact: "proxy: another makes no other image", check: func(t *testing.T, k *contract) {
		im, fsys := k.source("proxy", `RUN ["/payload", "env=http_proxy"]`+"\n")
		im.Sources[0].Proxy = proxyTo("proxy.example")
		first := k.ensure(t, im, fsys)
		for _, p := range []*job.Proxy{nil, proxyTo("other.example")} {
			im.Sources[0].Proxy = p
			if again := k.ensure(t, im, fsys); again != first {
				t.Errorf("%+v: got image %s, want %s", p, again, first)
			}
		}
	}},
	{fact: "proxy: a container finds one on this computer by the engine's name for it", check: func(t *testing.T, k *contract) {
		name, network := k.hostName()
		j := k.job("want=http_proxy=http://max:geheim%2Fx@"+name+":3128", "wantin=/etc/hosts:\t"+name)
		j.Container.Proxy, j.Container.Network = proxyTo("127.0.0.1"), network
		if got := k.do(t, j); got.exit.Code != 0 {
			t.Errorf("got %+v", got)
		}
	}},
	{fact: "proxy: a step of a build finds one on this computer likewise", check: func(t *testing.T, k *contract) {
		name, network := k.hostName()
		for builder, run := range builders {
			im, fsys := k.source("proxy", run+` ["/payload", "wantin=/etc/hosts:\t`+name+`"]`+"\n")
			im.Sources[0].Proxy, im.Sources[0].Build.Network = proxyTo("localhost"), network
			if _, err := k.e.Ensure(t.Context(), im, fsys); err != nil {
				t.Errorf("%s: %v", builder, err)
			}
		}
	}},
}

// builders are what makes each builder of Docker's carry out a command; Podman has one.
var builders = map[string]string{"classic": "RUN", "BuildKit": "RUN --mount=type=tmpfs,target=/mnt"}

// hostName is how containers call this computer, and a network in which they do. Docker gives the name in
// any.
func (k *contract) hostName() (name, network string) {
	if k.e.Info.Kind == engine.Podman {
		return "host.containers.internal", ""
	}
	return "host.docker.internal", "none"
}

func proxyTo(host string) *job.Proxy {
	return &job.Proxy{Scheme: "http", Host: host, Port: 3128, Login: job.NewSecret("max:geheim%2Fx"), NoProxy: "localhost",
		Variables: []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}}
}

// all is everything that the engine tells of an image and the images of its steps.
func (k *contract) all(t *testing.T, id string) string {
	t.Helper()
	history, err := k.api.ImageHistory(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, h := range history {
		text += fmt.Sprintf("%+v\n", h)
		if strings.Contains(h.ID, "<missing>") {
			continue
		}
		var raw bytes.Buffer
		if _, err := k.api.ImageInspect(t.Context(), h.ID, client.ImageInspectWithRawResponse(&raw)); err != nil {
			t.Fatal(err)
		}
		text += raw.String()
	}
	return text
}
