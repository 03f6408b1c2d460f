package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"boincdocker/boincapi"
)

const (
	proxyUser     = "max@corp"
	proxyPassword = `p@s:s/w "ö+%`
	proxyLogin    = "max%40corp:p%40s%3As%2Fw%20%22%C3%B6%2B%25"
)

func httpProxy(d *boincapi.InitData) {
	d.ProxyInfo = boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "proxy.example", HTTPServerPort: 3128,
		HTTPUserName: proxyUser, HTTPUserPasswd: proxyPassword}
}

func TestProxyEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name string
		info boincapi.ProxyInfo
		toml string
		set  func(*Input)
		host string
		want string // of the container; NAME=VALUE in lower case, one blank between them
	}{
		{name: "none"},
		{name: "not in use", info: boincapi.ProxyInfo{HTTPServerName: "p", SOCKSServerName: "s"}},
		{name: "HTTP", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "p", HTTPServerPort: 3128},
			want: "http_proxy=http://p:3128 https_proxy=http://p:3128 no_proxy=" + ownNames},
		{name: "a name with a scheme", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "http://p/"},
			want: "http_proxy=http://p:80 https_proxy=http://p:80 no_proxy=" + ownNames},
		{name: "an IPv6 address", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "fd00::1", HTTPServerPort: 3128},
			want: "http_proxy=http://[fd00::1]:3128 https_proxy=http://[fd00::1]:3128 no_proxy=" + ownNames},
		{name: "a login", info: boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "p", HTTPServerPort: 80,
			HTTPUserName: proxyUser, HTTPUserPasswd: proxyPassword},
			want: "http_proxy=http://" + proxyLogin + "@p:80 https_proxy=http://" + proxyLogin + "@p:80 no_proxy=" + ownNames},
		{name: "a login not in use", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "p", HTTPServerPort: 80, HTTPUserName: "u", HTTPUserPasswd: "secret"},
			want: "http_proxy=http://p:80 https_proxy=http://p:80 no_proxy=" + ownNames},
		{name: "hosts reached directly", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "p", HTTPServerPort: 80, NoProxy: " .example.org,10.0.0.1, "},
			want: "http_proxy=http://p:80 https_proxy=http://p:80 no_proxy=" + ownNames + ",.example.org,10.0.0.1"},
		{name: "SOCKS", info: boincapi.ProxyInfo{UseSOCKSProxy: true, SOCKSServerName: "s", SOCKSServerPort: 1080},
			want: "all_proxy=socks5://s:1080 http_proxy=socks5://s:1080 https_proxy=socks5://s:1080 no_proxy=" + ownNames},
		{name: "SOCKS that resolves names", info: boincapi.ProxyInfo{UseSOCKSProxy: true, SOCKSServerName: "s", SOCKSServerPort: 1080, SOCKS5RemoteDNS: true,
			SOCKS5UserName: "u", SOCKS5UserPasswd: "secret"},
			want: "all_proxy=socks5h://u:secret@s:1080 http_proxy=socks5h://u:secret@s:1080 https_proxy=socks5h://u:secret@s:1080 no_proxy=" + ownNames},
		{name: "both", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "p", HTTPServerPort: 80, UseSOCKSProxy: true, SOCKSServerName: "s"},
			want: "http_proxy=http://p:80 https_proxy=http://p:80 no_proxy=" + ownNames},
		{name: "no network", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "p"}, toml: `network = "none"`},
		{name: "the job's own", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "p", HTTPServerPort: 80},
			toml: "create_args = '-e HTTPS_PROXY=x'\n[env]\nno_proxy = '*'", want: "http_proxy=http://p:80"},
		{name: "on this computer", info: boincapi.ProxyInfo{UseHTTPProxy: true, HTTPServerName: "localhost", HTTPServerPort: 8118}, host: "host.example",
			want: "http_proxy=http://host.example:8118 https_proxy=http://host.example:8118 no_proxy=" + ownNames},
		{name: "not signed", info: boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "p", HTTPServerPort: 80, HTTPUserName: "u", HTTPUserPasswd: "secret"},
			toml: `network = "bridge"`, set: func(in *Input) { in.Signed = false },
			want: "http_proxy=http://p:80 https_proxy=http://p:80 no_proxy=" + ownNames},
		{name: "not signed, and allowed", info: boincapi.ProxyInfo{UseHTTPProxy: true, UseHTTPAuth: true, HTTPServerName: "p", HTTPServerPort: 80, HTTPUserName: "u", HTTPUserPasswd: "secret"},
			toml: `network = "bridge"`, set: func(in *Input) { in.Signed, in.Policy.ProxyPassword = false, true },
			want: "http_proxy=http://u:secret@p:80 https_proxy=http://u:secret@p:80 no_proxy=" + ownNames},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t, tt.toml)
			in.Init.ProxyInfo = tt.info
			if tt.set != nil {
				tt.set(&in)
			}
			j, err := Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			var lower, upper []string
			if p := j.Container.Proxy; p != nil {
				for _, nv := range p.Env(tt.host) {
					name, value, _ := strings.Cut(nv, "=")
					if name == strings.ToLower(name) {
						lower = append(lower, nv)
					} else {
						upper = append(upper, strings.ToLower(name)+"="+value)
					}
				}
			}
			slices.Sort(upper)
			if got := strings.Join(lower, " "); got != tt.want || !slices.Equal(lower, upper) {
				t.Errorf("got  %s and %v\nwant %s in both cases", got, upper, tt.want)
			}
		})
	}
}

func TestProxyOfBuilds(t *testing.T) {
	for _, tt := range []struct {
		name, toml string
		set        func(*Input)
		want       string // variables in lower case; "" for no proxy
		login      bool
		notes      int
	}{
		{name: "signed", want: "http_proxy https_proxy no_proxy", notes: 1},
		{name: "signed, and allowed", set: func(in *Input) { in.Policy.ProxyPassword = true }, want: "http_proxy https_proxy no_proxy", login: true},
		{name: "not signed", set: func(in *Input) { in.Signed = false }, want: "http_proxy https_proxy no_proxy", notes: 1},
		{name: "not signed, and allowed", set: func(in *Input) { in.Signed, in.Policy.ProxyPassword = false, true }, want: "http_proxy https_proxy no_proxy", login: true},
		{name: "not signed, and no network", set: func(in *Input) { in.Signed, in.Policy.Network = false, "none" }},
		{name: "no network", toml: `build_args = "--network none"`},
		{name: "the project's own", toml: `build_args = "--build-arg HTTP_PROXY=http://x"`, want: "https_proxy no_proxy", notes: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t, tt.toml)
			httpProxy(in.Init)
			if tt.set != nil {
				tt.set(&in)
			}
			j, err := Plan(in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			login := false
			if p := j.Image.Sources[0].Proxy; p != nil {
				if login = !p.Login.IsZero(); login == p.Withheld {
					t.Errorf("the login is there: %t, and withheld: %t", login, p.Withheld)
				}
				for _, v := range p.Variables {
					if v == strings.ToLower(v) {
						got = append(got, v)
					}
				}
			}
			if strings.Join(got, " ") != tt.want || login != tt.login || len(j.Notes) != tt.notes {
				t.Errorf("got %q, login %v, notes %q; want %q, %v, %d", got, login, j.Notes, tt.want, tt.login, tt.notes)
			}
			without := testInput(t, tt.toml)
			if tt.set != nil {
				tt.set(&without)
			}
			plain, err := Plan(without)
			if diff := cmp.Diff(plain.Image.Sources[0].Build, j.Image.Sources[0].Build); err != nil || diff != "" {
				t.Errorf("%v; what the image is known by depends on the proxy:\n%s", err, diff)
			}
		})
	}
}

// A plan with a secret in it is printed in every way there is.
func TestSecretIsHidden(t *testing.T) {
	in := testInput(t, "")
	httpProxy(in.Init)
	j, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := j.Container.Proxy.Login.Reveal(); got != proxyLogin {
		t.Fatalf("got %s, want %s", got, proxyLogin)
	}
	var out bytes.Buffer
	inner := struct{ p *Proxy }{j.Container.Proxy}
	notExported := struct{ p Proxy }{*j.Container.Proxy}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{j.Container.Proxy, *j.Container.Proxy, j.Container.Proxy.Login, &j.Container.Proxy.Login, inner, notExported} {
			fmt.Fprintf(&out, format+"\n", v)
		}
	}
	fmt.Fprintln(&out, *j, fmt.Errorf("%v", j.Container.Proxy))
	if err := json.NewEncoder(&out).Encode(j); err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", proxyLogin)
	for _, secret := range []string{proxyLogin, proxyPassword, "max", "p%40s", hex} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q is in\n%s", secret, out.String())
		}
	}
	if !strings.Contains(out.String(), `"login":"***"`) {
		t.Errorf("the plan doesn't show that there is a login:\n%s", out.String())
	}
}

func TestProxyHider(t *testing.T) {
	in := testInput(t, "")
	httpProxy(in.Init)
	in.Init.ProxyInfo.SOCKS5UserName, in.Init.ProxyInfo.SOCKS5UserPasswd = "u", "a1"
	h := ProxyHider(in.Init)
	for text, want := range map[string]string{
		"dial http://" + proxyLogin + "@p:80: refused":     "dial http://***@p:80: refused",
		"user " + proxyUser + " password " + proxyPassword: "user " + proxyUser + " password ***",
		`{"p":"p@s:s/w \"ö+%"}`:                            `{"p":"***"}`,
		"Post /build?buildargs=%22http%3A%2F%2Fmax%2540corp%3Ap%2540s%253As%252Fw%2520%2522%25C3%25B6%252B%2525%40p%22": "Post /build?buildargs=%22http%3A%2F%2F***%40p%22",
		"Basic bWF4QGNvcnA6cEBzOnMvdyAiw7YrJQ==":                    "Basic ***",
		"http://max%40corp:p%40s%3As%2Fw%20%22%C3%B6+%25@p":         "http://***@p",
		"a1 is too short to be cut out, but not in socks5://u:a1@s": "a1 is too short to be cut out, but not in socks5://***@s",
	} {
		if got := h.Replace(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, d := range []*boincapi.InitData{nil, {}} {
		if got := ProxyHider(d).Replace("as it is"); got != "as it is" {
			t.Errorf("got %q", got)
		}
	}
}
