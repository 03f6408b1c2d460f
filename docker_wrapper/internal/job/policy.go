package job

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// PolicyFile is the volunteer's word on what jobs may ask of this computer: a file of this name in
// BOINC's data directory, where no project writes.
const PolicyFile = "docker_wrapper.toml"

// Policy is what this computer's owner allows. The zero value is a missing file: signed jobs may
// mount [cvmfs], publish ports and reach the network; nothing that amounts to being root on the host.
//
// Whatever it says, job files that aren't signed never reach beyond the slot.
type Policy struct {
	Privileged   bool     `toml:"privileged"`   // --privileged
	HostNetwork  bool     `toml:"host_network"` // --network host, --pid host, --ipc host
	Capabilities []string `toml:"capabilities"` // --cap-add, beyond those that engines give by default
	Devices      []string `toml:"devices"`      // --device, by host path
	Mounts       []string `toml:"mounts"`       // host directories and volumes' names; "none" allows no others
	SecurityOpts bool     `toml:"security_opts"`
	Network      string   `toml:"network"`       // "none": no job gets a network, nor does the build of its image
	BuildNetwork string   `toml:"build_network"` // "none": no build gets a network whose files aren't signed
	Unsigned     string   `toml:"unsigned"`      // "refuse": no job whose files aren't signed

	ProxyPassword bool `toml:"proxy_password"` // jobs whose files aren't signed get it too

	// What is kept of the images that wrappers got; nil means the default, inf for ever.
	ImagesGB   *float64 `toml:"images_gb"`   // 10^9 bytes, all together
	ImagesDays *float64 `toml:"images_days"` // since the last use
}

// ParsePolicy reads the policy file. An unknown key is an error: a rule that isn't understood must
// not be passed over.
func ParsePolicy(name string, data []byte) (Policy, error) {
	var p Policy
	md, err := toml.Decode(string(data), &p)
	if err != nil {
		return Policy{}, fmt.Errorf("read %s: %w", name, err)
	}
	if u := md.Undecoded(); len(u) > 0 {
		return Policy{}, fmt.Errorf("read %s: %s: unknown key", name, u[0])
	}
	if p.Network != "" && p.Network != "none" && p.Network != "bridge" {
		return Policy{}, fmt.Errorf("read %s: network: want \"none\" or \"bridge\"", name)
	}
	if p.BuildNetwork != "" && p.BuildNetwork != "none" && p.BuildNetwork != "default" {
		return Policy{}, fmt.Errorf("read %s: build_network: want \"none\" or \"default\"", name)
	}
	if p.Unsigned != "" && p.Unsigned != "refuse" && p.Unsigned != "allow" {
		return Policy{}, fmt.Errorf("read %s: unsigned: want \"refuse\" or \"allow\"", name)
	}
	for _, n := range [...]struct {
		key   string
		value *float64
	}{{"images_gb", p.ImagesGB}, {"images_days", p.ImagesDays}} {
		if n.value != nil && !(*n.value >= 0) { // nan, too
			return Policy{}, fmt.Errorf("read %s: %s: want a number from 0, or inf", name, n.key)
		}
	}
	return p, nil
}

// defaultCaps are the capabilities that engines give without being asked, and SYS_PTRACE, which
// reaches no further than the container.
var defaultCaps = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
	"NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_PTRACE"}

// cvmfs is the read-only network file system of particle physics, whose jobs mount it: the one host
// directory that a signed job gets unasked.
const cvmfs = "/cvmfs"

// a rule is something that job.toml asks for that reaches beyond the slot.
type rule struct {
	key     string // where it was written
	what    string
	allowed bool
	mend    string // the line of the policy file that allows it; "" when signing is enough, or nothing does
}

// check finds the first thing that this job may not have.
func (p Policy) check(c *Config, signed bool, at hostPaths) *ConfigError {
	if !signed && p.Unsigned == "refuse" {
		return c.Errorf("", "the job's files aren't signed, and this computer's %s refuses such jobs", PolicyFile)
	}
	for _, r := range p.rules(c, at) {
		if !signed {
			e := c.Errorf(r.key, "%s reaches beyond the slot, and this file isn't signed", r.what)
			e.Hint = "only files of the app version are"
			return e
		}
		if !r.allowed {
			e := c.Errorf(r.key, "%s isn't allowed on this computer", r.what)
			if r.mend != "" {
				e.Hint = "its owner can allow it: " + r.mend + " in " + PolicyFile + " in BOINC's data directory"
			}
			return e
		}
	}
	return nil
}

func (p Policy) rules(c *Config, at hostPaths) []rule {
	var rs []rule
	add := func(key, what string, allowed bool, mend string) {
		rs = append(rs, rule{key, what, allowed, mend})
	}
	bind := func(key, what string, b Bind) {
		real := at.real(b.Source)
		switch real {
		case b.Source:
		case "":
			what += ", of which can't be said where it leads,"
		default:
			what += ", which leads to " + real + ","
		}
		add(key, what, p.mayMount(b.Source, at), fmt.Sprintf("mounts = [%q]", first(real, b.Source)))
	}
	for _, b := range c.Mounts {
		bind("mount", fmt.Sprintf("%q", b), b)
	}
	for _, b := range c.Create.Volumes {
		bind("create_args", fmt.Sprintf("volume %q", b), b)
	}
	if len(c.Ports) > 0 {
		add("portmap", "a port of the host", true, "")
	}
	if n := c.Build.Network; n != "" && n != "default" && n != "none" {
		add("build_args", "--network "+n, n != "host" || p.HostNetwork, "host_network = true")
	}
	if !c.Written("create_args") {
		return rs
	}
	a := c.Create
	if a.Privileged {
		add("create_args", "--privileged", p.Privileged, "privileged = true")
	}
	for _, m := range [...]struct{ flag, mode string }{{"--network", a.Network}, {"--pid", a.PIDMode}, {"--ipc", a.IPC}} {
		shared := m.mode == "host" || strings.HasPrefix(m.mode, "container:")
		if shared || m.flag == "--network" && m.mode != "" && m.mode != "none" && m.mode != "bridge" {
			add("create_args", m.flag+" "+m.mode, p.HostNetwork, "host_network = true")
		}
	}
	for _, name := range a.CapAdd {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		add("create_args", "--cap-add "+name, slices.Contains(defaultCaps, name) || slices.Contains(p.Capabilities, name),
			fmt.Sprintf("capabilities = [%q]", name))
	}
	for _, d := range a.Devices {
		host, _, _ := strings.Cut(d, ":")
		add("create_args", "--device "+host, slices.Contains(p.Devices, host), fmt.Sprintf("devices = [%q]", host))
	}
	for _, o := range a.SecurityOpts {
		harmless := o == "no-new-privileges" || o == "no-new-privileges=true" || o == "no-new-privileges:true"
		add("create_args", "--security-opt "+o, p.SecurityOpts || harmless, "security_opts = true")
	}
	if a.GPUs != "" {
		add("create_args", "--gpus "+a.GPUs+" (use_gpu = true gives the GPU that BOINC assigned)", false, "")
	}
	if a.Runtime != "" || len(a.Sysctls) > 0 {
		add("create_args", "--runtime or --sysctl", p.Privileged, "privileged = true")
	}
	// Whatever else is in create_args, an unsigned file doesn't get to write raw options.
	add("create_args", "a raw option", true, "")
	return rs
}

// hostPaths is what of this computer's directories decides about mounts.
type hostPaths struct {
	dataDir  string              // BOINC's; "" for none
	realPath func(string) string // see [Input.RealPath]; nil gives paths back as they are
}

// real is where a mount's source is: the source itself unless symlinks lead elsewhere, "" when it
// can't be said. A volume has no place.
func (at hostPaths) real(source string) string {
	if at.realPath == nil || !isPath(source) {
		return source
	}
	real := at.realPath(source)
	if real != "" && cleanPath(real) == cleanPath(source) {
		return source // an engine in a virtual machine must see it as it was written
	}
	return real
}

// mayMount reports whether a signed job may mount the source, a host path or a volume's name.
func (p Policy) mayMount(source string, at hostPaths) bool {
	if source == "" { // an anonymous volume, which goes with the container
		return true
	}
	real := at.real(source)
	if real == "" {
		return false
	}
	clean := cleanPath(real)
	allowed := strings.HasPrefix(source, cvmfs) && inside(clean, cvmfs) && !slices.Contains(p.Mounts, "none")
	for _, m := range p.Mounts {
		if m == "none" {
			continue
		}
		m = cleanPath(first(at.real(m), m))
		if clean == m {
			return true
		}
		allowed = allowed || isPath(source) && inside(clean, m)
	}
	return allowed && !at.touchesData(clean)
}

// touchesData reports whether a path is in BOINC's data directory or holds it. Letters of either
// case are the same, as on Windows.
func (at hostPaths) touchesData(clean string) bool {
	if at.dataDir == "" {
		return false
	}
	data := strings.ToLower(cleanPath(first(at.real(at.dataDir), at.dataDir)))
	clean = strings.ToLower(clean)
	return inside(clean, data) || inside(data, clean)
}

// isPath tells a host path from the name of a volume.
func isPath(source string) bool { return strings.ContainsAny(source, `/\`) }

// cleanPath is a host path in one form, whatever its separators.
func cleanPath(p string) string { return path.Clean(strings.ReplaceAll(p, `\`, "/")) }

// inside reports whether p is dir or below it. Both are clean.
func inside(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
