package job

import (
	"cmp"
	"encoding/base64"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"boincdocker/boincapi"
)

// Secret is a text that is not for logs, plans and errors: whatever prints it prints "***".
type Secret struct {
	text *string // fmt prints an address where it may not call String
}

const hidden = "***"

// NewSecret hides a text; the secret of "" is the zero value.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal is the text, for the engine alone.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports that there is nothing to hide.
func (s Secret) IsZero() bool { return s.text == nil }

func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return hidden
}

// GoString is what %#v prints.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText is what JSON shows.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Proxy is the client's way to the network, for a container or a build that has one.
type Proxy struct {
	Scheme    string   `json:"scheme"` // "http", "socks5", or "socks5h" where the proxy resolves names too
	Host      string   `json:"host"`
	Port      int      `json:"port"`
	Login     Secret   `json:"login,omitzero"`     // USER:PASSWORD, percent-encoded; zero when there is none or it isn't for this job
	Withheld  bool     `json:"withheld,omitempty"` // the client's proxy has a login, which is left out
	NoProxy   string   `json:"no_proxy"`           // hosts that are reached directly
	Variables []string `json:"variables"`          // that lead there, sorted; those that job.toml sets itself are not among them
}

// ownNames is what a job calls itself. Few programs leave it out by themselves, and the proxy can't lead back.
const ownNames = "localhost,127.0.0.1,::1"

// clientProxy is the proxy that the client uses; nil for none. With both kinds it uses the HTTP proxy
// (client/http_curl.cpp in BOINC).
func clientProxy(i boincapi.ProxyInfo) *Proxy {
	p := &Proxy{NoProxy: ownNames}
	name, port := "", 0
	switch {
	case i.UseHTTPProxy && i.HTTPServerName != "":
		p.Scheme, name, port = "http", i.HTTPServerName, i.HTTPServerPort
		if i.UseHTTPAuth {
			p.Login = login(i.HTTPUserName, i.HTTPUserPasswd)
		}
	case i.UseSOCKSProxy && i.SOCKSServerName != "":
		p.Scheme, name, port = "socks5", i.SOCKSServerName, i.SOCKSServerPort
		if i.SOCKS5RemoteDNS {
			p.Scheme = "socks5h"
		}
		p.Login = login(i.SOCKS5UserName, i.SOCKS5UserPasswd)
	default:
		return nil
	}
	if _, rest, is := strings.Cut(name, "://"); is { // the client's library takes that too
		name = rest
	}
	p.Host, p.Port = strings.Trim(strings.TrimSpace(name), "[]/"), cmp.Or(port, 80)
	if direct := strings.Trim(i.NoProxy, ", \t\r\n"); direct != "" {
		p.NoProxy += "," + direct
	}
	return p
}

func login(user, password string) Secret {
	if user == "" && password == "" {
		return Secret{}
	}
	return NewSecret(percent(user) + ":" + percent(password))
}

// percent encodes all but letters, digits and "-_.~": what else may stand in a URL is up to each program.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// planProxy gives the client's proxy to the container and the builds that have a network. Its password goes to the
// containers of signed jobs, which could not get out without. Builds, which can keep it in an image that other jobs use,
// and other jobs get it where the owner allows it.
func planProxy(in Input, j *Job) {
	if in.Init == nil {
		return
	}
	p := clientProxy(in.Init.ProxyInfo)
	if p == nil {
		return
	}
	j.Image.BehindProxy = true
	bare := *p
	bare.Login, bare.Withheld = Secret{}, !p.Login.IsZero()
	ofContainer, ofBuild := p, p
	if !in.Policy.ProxyPassword {
		if ofBuild = &bare; !j.Signed {
			ofContainer = &bare
		}
	}
	const allow = " (the owner can allow it: proxy_password = true in " + PolicyFile + " in BOINC's data directory)"
	if j.Container.Network != "none" {
		var set []string
		for _, nv := range j.Container.Env {
			name, _, _ := strings.Cut(nv, "=")
			set = append(set, name)
		}
		if j.Container.Proxy = ofContainer.beside(set); ofContainer.Withheld {
			j.Notes = append(j.Notes, "the container gets this computer's proxy without its password, because the job's files aren't signed"+allow)
		}
	}
	for i := range j.Image.Sources {
		if s := &j.Image.Sources[i]; s.Dockerfile != "" && s.Build.Network != "none" {
			if s.Proxy = ofBuild.beside(slices.Collect(maps.Keys(s.Build.Args))); ofBuild.Withheld {
				j.Notes = append(j.Notes, "the build gets this computer's proxy without its password, because an image can keep it"+allow)
			}
		}
	}
}

// beside is the proxy for something that sets some variables itself. Programs read them in either case, so
// a name in one case stands for both.
func (p *Proxy) beside(set []string) *Proxy {
	names := []string{"http_proxy", "https_proxy", "no_proxy"}
	if p.Scheme != "http" {
		names = append(names, "all_proxy")
	}
	q := *p
	for _, name := range names {
		if !slices.ContainsFunc(set, func(s string) bool { return strings.EqualFold(s, name) }) {
			q.Variables = append(q.Variables, name, strings.ToUpper(name))
		}
	}
	slices.Sort(q.Variables)
	return &q
}

// Local reports whether the proxy runs on this very computer, under a name that means something else in a
// container.
func (p *Proxy) Local() bool {
	ip, _ := netip.ParseAddr(p.Host)
	return strings.EqualFold(p.Host, "localhost") || ip.IsLoopback() || ip.IsUnspecified()
}

// Env lists NAME=VALUE, sorted. host stands for the proxy's own name; "" leaves that.
func (p *Proxy) Env(host string) []string {
	u := p.Scheme + "://"
	if !p.Login.IsZero() {
		u += p.Login.Reveal() + "@"
	}
	if host = cmp.Or(host, p.Host); strings.Contains(host, ":") {
		host = "[" + host + "]" // an IPv6 address
	}
	u += host + ":" + strconv.Itoa(p.Port)
	var env []string
	for _, name := range p.Variables {
		value := u
		if strings.EqualFold(name, "no_proxy") {
			value = p.NoProxy
		}
		env = append(env, name+"="+value)
	}
	return env
}

// minHidden is the length in bytes from which a password is looked for by itself: a shorter one is a part of
// other words, and to cut it out there would only show it.
const minHidden = 4

// ProxyHider puts "***" for the passwords of the client's proxies in the forms in which engines, programs and
// logs may quote them; the engine's client quotes the build arguments in its own URL. d may be nil.
func ProxyHider(d *boincapi.InitData) *strings.Replacer {
	if d == nil {
		return strings.NewReplacer()
	}
	var together, alone []string
	for _, l := range [][2]string{{d.ProxyInfo.HTTPUserName, d.ProxyInfo.HTTPUserPasswd}, {d.ProxyInfo.SOCKS5UserName, d.ProxyInfo.SOCKS5UserPasswd}} {
		user, password := l[0], l[1]
		if password == "" {
			continue
		}
		both, inURL := user+":"+password, login(user, password).Reveal()
		together = append(together, url.QueryEscape(inURL), inURL, url.UserPassword(user, password).String(), both,
			base64.StdEncoding.EncodeToString([]byte(both)))
		if len(password) >= minHidden {
			quoted := strconv.Quote(password)
			alone = append(alone, url.QueryEscape(percent(password)), percent(password), quoted[1:len(quoted)-1], password)
		}
	}
	var pairs []string
	for _, form := range append(together, alone...) {
		pairs = append(pairs, form, hidden)
	}
	return strings.NewReplacer(pairs...)
}
