package job

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// ownNetwork are endings of names that mean something only in the volunteer's own network, or on the volunteer's own computer.
var ownNetwork = []string{"localhost", "localdomain", "local", "internal", "lan", "home", "home.arpa", "corp", "intranet", "private"}

// Hub is the registry of references that name none.
const Hub = "docker.io"

var (
	hubHosts  = []string{Hub, "index.docker.io", "registry-1.docker.io"}
	perhapsID = regexp.MustCompile(`^([0-9a-f]{1,64}|sha256)$`)
	number    = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)
)

// Registry checks the reference of an image that a job asks for whose files aren't signed, and returns the
// name or address of the registry that the engine contacts for it, without its port. The error says what is
// wrong: no reference, a registry in the volunteer's own network, or an image that a wrapper made.
//
// What a public name stands for is up to the caller, see [PublicAddr].
func Registry(reference string) (host string, err error) {
	if _, err := imageReference(reference); err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(reference, "@")
	first, rest, slash := strings.Cut(name, "/")
	// As engines tell a registry from a part of a name: splitDockerDomain of github.com/distribution/reference.
	if !slash || first != "localhost" && !strings.ContainsAny(first, ".:[") && first == strings.ToLower(first) {
		first, rest = Hub, name
	}
	host = strings.ToLower(first)
	if end := strings.LastIndexByte(host, ':'); end > strings.LastIndexByte(host, ']') {
		host = host[:end]
	}
	if problem := notPublic(host); problem != "" {
		return "", fmt.Errorf("the registry %s %s", host, problem)
	}
	if slices.Contains(hubHosts, host) {
		name, _, _ := strings.Cut(strings.TrimPrefix(rest, "library/"), ":")
		switch {
		case strings.HasPrefix(name, "boinc_"):
			return "", errors.New("images of such a name are made by wrappers for other jobs")
		case perhapsID.MatchString(name):
			return "", errors.New("engines may take it for an image's ID")
		}
	}
	return host, nil
}

// FullName gives an image's name. One that engines may take for the beginning of an image's ID (cafe, sha256:0bce) is written
// in full: Docker uses another image if it has none of this name, Podman also if it has one.
func FullName(reference string) string {
	name, tag, tagged := strings.Cut(reference, ":")
	switch {
	case perhapsID.MatchString(reference):
		return Hub + "/library/" + reference + ":latest"
	case tagged && name == "sha256" && !strings.Contains(tag, "@"):
		return Hub + "/library/" + reference
	}
	return reference
}

// notPublic says why a host is none of the public network; "" if it may be one.
func notPublic(host string) string {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if !PublicAddr(addr) {
			return "is no public address"
		}
		return ""
	}
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case number.MatchString(last):
		return "is no address as it is usually written"
	case slices.ContainsFunc(ownNetwork, func(end string) bool { return host == end || strings.HasSuffix(host, "."+end) }), last == host:
		return "is a name of this computer's own network"
	}
	return ""
}

// special are the addresses that aren't for the public network: the registries of special-purpose addresses of
// IANA, and what carries an IPv4 address inside (6to4, Teredo). 198.18.0.0/15 is not
// among them: some proxies on volunteers' computers give such addresses to all names. Of IPv6, only 2000::/3 is public at all.
var special = func() (list []netip.Prefix) {
	for _, p := range []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}()

// nat64 has IPv4 addresses in its last 32 bits (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// PublicAddr reports whether an address is one of the public network.
func PublicAddr(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) { // as a network without IPv4 has it for a host that has nothing else
		b := a.As16()
		return PublicAddr(netip.AddrFrom4([4]byte(b[12:])))
	}
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !netip.MustParsePrefix("2000::/3").Contains(a) {
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
