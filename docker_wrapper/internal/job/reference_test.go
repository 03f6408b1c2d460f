package job

import (
	"net/netip"
	"strings"
	"testing"
)

func TestFullName(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for name, want := range map[string]string{"cafe": "docker.io/library/cafe:latest", "0bce3f": "docker.io/library/0bce3f:latest", "sha256": "docker.io/library/sha256:latest",
		"sha256:0bce3f": "docker.io/library/sha256:0bce3f", "debian": "debian", "cafe:1": "cafe:1", "cafe" + digest: "cafe" + digest, "x/cafe": "x/cafe", "cafe/x": "cafe/x", "cafe-1": "cafe-1",
		"localhost:5000/cafe": "localhost:5000/cafe", "": ""} {
		if got := FullName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestRegistry(t *testing.T) {
	const own, address, number, wrappers, id = "own network", "no public address", "usually written", "made by wrappers", "image's ID"
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, tt := range []struct{ reference, host, problem string }{
		{"debian", "docker.io", ""},
		{"debian:12-slim" + digest, "docker.io", ""},
		{"someone/app:1", "docker.io", ""},
		{"docker.io/library/debian", "docker.io", ""},
		{"docker.io/someone/boinc_app", "docker.io", ""},
		{"quay.io/x/boinc_app:2", "quay.io", ""},
		{"ghcr.io:443/x/y", "ghcr.io", ""},
		{"REGISTRY.example/x", "registry.example", ""},
		{"8.8.8.8:5000/x", "8.8.8.8", ""},
		{"[2606:4700::1111]:5000/x", "[2606:4700::1111]", ""},
		{"localhost:5000", "docker.io", ""}, // a name and its tag
		{"localhost/x", "", own},
		{"localhost:5000/x", "", own},
		{"LOCALHOST/x", "", own},
		{"a.localhost/x", "", own},
		{"registry:5000/x", "", own},
		{"nas.local/x", "", own},
		{"metadata.google.internal/x", "", own},
		{"host.docker.internal:5000/x", "", own},
		{"gateway.docker.internal/x", "", own},
		{"router.lan/x", "", own},
		{"nas.home.arpa:80/x", "", own},
		{"127.0.0.1:5000/x", "", address},
		{"10.1.2.3/x", "", address},
		{"172.31.0.1/x", "", address},
		{"192.168.1.1:80/x" + digest, "", address},
		{"169.254.169.254/x", "", address},
		{"100.64.0.1/x", "", address},
		{"0.0.0.0:5000/x", "", address},
		{"224.0.0.1/x", "", address},
		{"255.255.255.255/x", "", address},
		{"[::1]:5000/x", "", address},
		{"[::]:5000/x", "", address},
		{"[::ffff:7f00:1]:5000/x", "", address},
		{"[fd00::1]:5000/x", "", address},
		{"[fe80::1]:5000/x", "", address},
		{"[64:ff9b::7f00:1]:5000/x", "", address},
		{"[2002:7f00:1::]:5000/x", "", address},
		{"2130706433:5000/x", "", number},
		{"0x7f.1/x", "", number},
		{"127.1/x", "", number},
		{"0177.0.0.1/x", "", number},
		{"0x7f000001:80/x", "", number},
		{"boinc_wu_1", "", wrappers},
		{"boinc_content:abc", "", wrappers},
		{"docker.io/boinc_wu:latest", "", wrappers},
		{"docker.io/library/boinc_wu", "", wrappers},
		{"library/boinc_wu", "", wrappers},
		{"index.docker.io/library/boinc_wu", "", wrappers},
		{"localhost/boinc_wu", "", own},
		{"4f", "", id},
		{"docker.io/library/4f:latest", "", id},
		{"sha256:abc", "", id},
		{strings.Repeat("a", 64), "", "ID"},
		{"http://x/y", "", "no scheme"},
		{"$X", "", "want [REGISTRY/]NAME"},
		{"", "", "want [REGISTRY/]NAME"},
	} {
		host, err := Registry(tt.reference)
		if host != tt.host || (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: got %q, %v; want %q, %s", tt.reference, host, err, tt.host, tt.problem)
		}
	}
}

func TestPublicAddr(t *testing.T) {
	for text, want := range map[string]bool{"1.1.1.1": true, "2606:4700::1": true, "::ffff:1.1.1.1": true, "::ffff:10.0.0.1": false, "127.8.8.8": false,
		"198.19.0.1": true, "240.0.0.1": false, "2001::1": false, "2001:db8::1": false, "ff02::1": false, "fe80::1%eth0": false, "2606:4700::1%lo": false} {
		if got := PublicAddr(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
	if PublicAddr(netip.Addr{}) {
		t.Error("no address is a public one")
	}
}

// Networks without IPv4 give hosts that have nothing else such addresses.
func TestPublicAddrBehindNAT64(t *testing.T) {
	for address, want := range map[string]bool{"64:ff9b::8c52:7903": true, "64:ff9b::7f00:1": false, "64:ff9b::c0a8:101": false, "64:ff9b::a9fe:a9fe": false} {
		if got := PublicAddr(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %v, want %v", address, got, want)
		}
	}
}

// The engine gets an image's name so that it can't take it for an ID.
func TestImagesByFullName(t *testing.T) {
	for toml, want := range map[string]string{`image = "cafe"`: "docker.io/library/cafe:latest", `images = ["cafe"]`: "docker.io/library/cafe:latest",
		`image_name = "cafe"`: "docker.io/library/cafe:latest", `image = "debian:12"`: "debian:12"} {
		im, err := planImage(testInput(t, toml), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := im.Sources[0].Name; got != want {
			t.Errorf("%s: got %s, want %s", toml, got, want)
		}
	}
}
