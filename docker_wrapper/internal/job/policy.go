package job

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// PolicyFile is the name of the file in which the owner of this computer decides what jobs may do. It is in
// BOINC's data directory, where no project writes.
const PolicyFile = "docker_wrapper.toml"

// Policy is what this computer's owner allows. The zero value is a missing file: signed jobs may
// mount [cvmfs], publish ports and use the network. In their containers they may be root. They may do nothing that amounts to being root on the host.
//
// Unsigned job files never reach beyond the slot, whatever the policy is.
type Policy struct {
	Privileged   bool     // --privileged
	HostNetwork  bool     // --network host, --pid host, --ipc host
	Capabilities []string // --cap-add, beyond defaultCaps
	Devices      []string // --device, by host path
	Mounts       []string // host directories and volumes' names; "none" allows no others
	SecurityOpts bool
	NoRoot       bool   // containers run as BOINC's user
	Network      string // "none": no job gets a network, nor does the build of its image
	BuildNetwork string // "none": no build of unsigned files gets a network
	Unsigned     string // "refuse": jobs whose files aren't signed don't run

	ProxyPassword bool // builds and unsigned jobs get the password of the proxy, too

	// Limits for the images that wrappers got. nil means the default; infinity means no limit.
	ImagesGB   *float64 // 10^9 bytes, all together
	ImagesDays *float64 // since the last use
}

type policyKey struct {
	KeyInfo
	read func(*Policy, value)
}

// PolicyKeys lists every key that the policy file may have, in the order of the manual.
func PolicyKeys() []KeyInfo {
	var infos []KeyInfo
	for _, k := range policyKeys {
		infos = append(infos, k.KeyInfo)
	}
	return infos
}

var policyKeys = []policyKey{
	{KeyInfo{"privileged", "bool", "false", "`--privileged`, `--runtime`, `--sysctl`"},
		func(p *Policy, v value) { v.boolean(&p.Privileged) }},
	{KeyInfo{"host_network", "bool", "false", "`--network`, `--pid` or `--ipc` of the host"},
		func(p *Policy, v value) { v.boolean(&p.HostNetwork) }},
	{KeyInfo{"capabilities", "array of string", "those that engines give, but MKNOD, NET_RAW and SETFCAP", "`--cap-add`: names such as `\"SYS_ADMIN\"`"},
		func(p *Policy, v value) { p.Capabilities = each(v, knownCapability) }},
	{KeyInfo{"devices", "array of string", "none", "`--device`: paths such as `\"/dev/fuse\"`"},
		func(p *Policy, v value) { p.Devices = each(v, devicePath) }},
	{KeyInfo{"mounts", "array of string or \"none\"", "`/cvmfs`", "host directories, and volumes by name; `\"none\"`: not even `/cvmfs`"},
		func(p *Policy, v value) {
			if v.v == "none" {
				v.v = &array{elements: []node{v.node}}
			}
			p.Mounts = each(v, notEmpty)
		}},
	{KeyInfo{"security_opts", "bool", "false", "`--security-opt`, beyond no-new-privileges"},
		func(p *Policy, v value) { v.boolean(&p.SecurityOpts) }},
	{KeyInfo{"root", "bool", "true", "false: no container runs as root or another user of its image, but as BOINC's user"},
		func(p *Policy, v value) {
			root := true
			v.boolean(&root)
			p.NoRoot = !root
		}},
	{KeyInfo{"network", `"bridge" or "none"`, "bridge", "none: no job gets a network, nor does the build of its image"},
		func(p *Policy, v value) { scalar(v, &p.Network, oneOf("bridge", "none")) }},
	{KeyInfo{"build_network", `"default" or "none"`, "default", "none: no build of files that aren't signed gets a network"},
		func(p *Policy, v value) { scalar(v, &p.BuildNetwork, oneOf("default", "none")) }},
	{KeyInfo{"unsigned", `"allow" or "refuse"`, "allow", "refuse: a job whose files aren't signed ends with an error (206) at once"},
		func(p *Policy, v value) { scalar(v, &p.Unsigned, oneOf("allow", "refuse")) }},
	{KeyInfo{"proxy_password", "bool", "false", "builds get the proxy's password too, and so do jobs that aren't signed"},
		func(p *Policy, v value) { v.boolean(&p.ProxyPassword) }},
	{KeyInfo{"images_gb", "number", "20", "GB that all images which jobs brought may take; inf: as much as they like"},
		func(p *Policy, v value) { v.bound(&p.ImagesGB) }},
	{KeyInfo{"images_days", "number", "30", "days that they stay unused; inf: for ever"},
		func(p *Policy, v value) { v.bound(&p.ImagesDays) }},
}

// ParsePolicy reads the policy file. The error joins a *[ConfigError] for every mistake. An unknown key is a mistake,
// because ignoring a rule would be unsafe.
func ParsePolicy(name string, data []byte) (Policy, error) {
	var p Policy
	r := newReader(name, data)
	if root := r.decode(); root != nil {
		for _, v := range (value{reader: r, node: node{v: root}}).fields() {
			i := slices.IndexFunc(policyKeys, func(k policyKey) bool { return k.Name == v.key })
			if i < 0 {
				v.mistake(didYouMean(nearest(v.key, policyNames())), "unknown key")
				continue
			}
			policyKeys[i].read(&p, v)
		}
	}
	if err := r.err(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

func policyNames() []string {
	var names []string
	for _, k := range policyKeys {
		names = append(names, k.Name)
	}
	return names
}

// bound reads a number from 0 to inf.
func (v value) bound(to **float64) {
	f, ok := v.number()
	if !ok {
		h := ""
		if s, ok := v.v.(string); ok {
			if word, _, _ := strings.Cut(s, " "); numberFrom0(word) {
				h = "write " + word
			}
		}
		v.mistyped("a number from 0, or inf", h)
		return
	}
	if !(f >= 0) { // nan, too
		v.mistake("", "%v: want a number from 0, or inf", v.v)
		return
	}
	*to = &f
}

func numberFrom0(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && f >= 0
}

func notEmpty(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	return s, nil
}

func devicePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", errors.New("want an absolute path of the host")
	}
	return s, nil
}

func knownCapability(s string) (string, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
	if !slices.Contains(capabilities, name) {
		return "", hint(didYouMean(nearest(name, capabilities)), "is not a capability")
	}
	return name, nil
}

// capabilities are Linux's (include/uapi/linux/capability.h), and ALL, which engines take for all of them.
var capabilities = []string{"ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
	"DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE",
	"MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE",
	"SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"}

// defaultCaps are the capabilities that signed jobs may have: those that engines give by default, and SYS_PTRACE, which
// reaches no further than the container. MKNOD and SETFCAP are left out, because files keep their effect after the
// container's end.
var defaultCaps = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL",
	"NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_PTRACE"}

// cvmfs is the read-only network file system of particle physics. It is the only host directory that signed jobs may mount
// by default.
const cvmfs = "/cvmfs"

// rule is one request of job.toml that reaches beyond the slot.
type rule struct {
	key     string // that asks for it
	what    string
	allowed bool
	permit  string // the line of the policy file that allows it; "" if signing is enough or no line allows it
}

// check gives the first request that this job isn't allowed; nil if there is none.
func (p Policy) check(c *Config, signed bool, at hostPaths) *ConfigError {
	if !signed && p.Unsigned == "refuse" {
		return c.Errorf("", "the job's files aren't signed, and this computer's %s refuses such jobs", PolicyFile)
	}
	for _, r := range p.rules(c, at) {
		if !signed {
			e := c.Errorf(r.key, "%s reaches beyond the slot, and this file isn't signed", r.what)
			e.Hint = "only files of the app version are signed"
			return e
		}
		if !r.allowed {
			return c.refused(r.key, r.what, r.permit)
		}
	}
	return nil
}

// refused is the error for a request that the owner can allow by a line of the policy file; "" if no line allows it.
func (c *Config) refused(key, what, permit string) *ConfigError {
	e := c.Errorf(key, "%s isn't allowed on this computer", what)
	if permit != "" {
		e.Hint = "its owner can allow it: " + permit + " in " + PolicyFile + " in BOINC's data directory"
	}
	return e
}

func (p Policy) rules(c *Config, at hostPaths) []rule {
	var rs []rule
	add := func(key, what string, allowed bool, permit string) {
		rs = append(rs, rule{key, what, allowed, permit})
	}
	bind := func(key, what string, b Bind) {
		real := at.real(b.Source)
		switch real {
		case b.Source:
		case "":
			what += ", whose target can't be determined,"
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
	if a.Runtime != "" || len(a.Sysctls) > 0 {
		add("create_args", "--runtime or --sysctl", p.Privileged, "privileged = true")
	}
	// An unsigned file may not use create_args at all.
	add("create_args", "a raw option", true, "")
	return rs
}

// hostPaths is what must be known of the host's directories to decide about mounts.
type hostPaths struct {
	dataDir  string              // BOINC's; "" for none
	realPath func(string) string // see [Input.RealPath]; nil gives paths back as they are
}

// real follows the symlinks of a mount's source. It gives "" if that fails, and the name of a volume as it is.
func (at hostPaths) real(source string) string {
	if at.realPath == nil || !isPath(source) {
		return source
	}
	real := at.realPath(source)
	if real != "" && cleanPath(real) == cleanPath(source) {
		return source // as it was written, for an engine in a virtual machine
	}
	return real
}

// mayMount reports whether a signed job may mount the source, a host path or a volume's name.
func (p Policy) mayMount(source string, at hostPaths) bool {
	if source == "" { // an anonymous volume, which is removed with the container
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

// touchesData reports whether a path is in BOINC's data directory or contains it. Case is ignored, as on
// Windows.
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

// cleanPath gives a host path in one form, with slashes.
func cleanPath(p string) string { return path.Clean(strings.ReplaceAll(p, `\`, "/")) }

// inside reports whether p is dir or below it. Both are clean.
func inside(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}
