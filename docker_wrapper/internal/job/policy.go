package job

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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

	Memory int64 // bytes that a job may have at most; 0: what the volunteer's preferences say

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
	{KeyInfo{"memory", "size", "what the preferences let BOINC use", "the most that one job gets, such as `\"2g\"`; never more than the default"},
		func(p *Policy, v value) { v.size(&p.Memory, minMemoryBytes) }},
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

// rootlessCaps are capabilities that reach no further than the container if the engine runs without root, as BOINC's user.
// They hold in that user's own user namespace only (user_namespaces(7)): the container's root is BOINC's user to the kernel,
// and may do there what BOINC's user may do with unshare. NET_ADMIN and NET_RAW are left out, because other jobs'
// containers may be in the same network.
var rootlessCaps = []string{"DAC_READ_SEARCH", "IPC_LOCK", "IPC_OWNER", "SYS_ADMIN", "SYS_NICE", "SYS_RESOURCE"}

// rootlessDevices are device files that act on the namespaces of whoever opens them. An engine without root mounts a device file
// as it is, so the kernel checks whether BOINC's user may open it (podman-run(1), --device). Any other device may be
// another job's GPU, or the volunteer's camera. FUSE can be mounted in a user namespace since Linux 4.18.
var rootlessDevices = []string{"/dev/fuse", "/dev/net/tun"}

// ErrRefused is what a [ConfigError] is if the owner of this computer can mend it: what the job asks for needs a rule in
// the policy file.
var ErrRefused = errors.New("not allowed on this computer")

// rule is one request of job.toml that reaches beyond the slot.
type rule struct {
	key      string // that asks for it
	what     string
	allowed  bool
	rootless bool   // allowed if the engine runs without root, as BOINC's user
	permit   permit // how the owner can allow it; the zero value if signing is enough, or nothing allows it
}

// permit is how the owner of this computer can allow a request: by a rule of the policy file, or by something else.
type permit struct {
	key       string // of the policy file
	value     string // added to the key's list; "" for a bool
	otherwise string // what he can do instead
}

// check gives what this job isn't allowed; nil if there is nothing. rootless says that the engine runs without root, as
// BOINC's user.
func (p Policy) check(c *Config, signed, rootless bool, at hostPaths) *ConfigError {
	if !signed && p.Unsigned == "refuse" {
		return c.Errorf("", "the job's files aren't signed, and this computer's %s refuses such jobs", PolicyFile)
	}
	var refused []rule
	for _, r := range p.rules(c, at) {
		if !signed {
			e := c.Errorf(r.key, "%s reaches beyond the slot, and this file isn't signed", r.what)
			e.Hint = "only files of the app version are signed"
			return e
		}
		if !r.allowed && r.permit == (permit{}) {
			return c.Errorf(r.key, "%s isn't allowed on any computer", r.what)
		}
		again := slices.ContainsFunc(refused, func(o rule) bool { return o.key == r.key && o.what == r.what })
		if !r.allowed && !(rootless && r.rootless) && !again {
			refused = append(refused, r)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return p.refusal(c, refused, at)
}

// refusal says what isn't allowed, and which lines of the policy file would allow it.
func (p Policy) refusal(c *Config, refused []rule, at hostPaths) *ConfigError {
	var whats, hints []string
	for _, r := range refused {
		whats = append(whats, r.what)
		if r.permit.otherwise != "" {
			hints = append(hints, "its owner must "+r.permit.otherwise)
		}
	}
	verb, them, line := "isn't", "it", "line"
	if len(refused) > 1 {
		verb, them = "aren't", "them"
	}
	if lines := p.permitting(refused); len(lines) > 0 {
		if len(lines) > 1 {
			line = "lines"
		}
		hints = append(hints, fmt.Sprintf("its owner can allow %s: write the %s %s into %s", them, line, and(lines), at.policyFile()))
	}
	e := c.Errorf(refused[0].key, "%s %s allowed on this computer", and(whats), verb)
	e.Hint, e.refused = strings.Join(hints, "; "), true
	return e
}

// permitting gives the lines of the policy file that allow these requests beside what it allows now.
func (p Policy) permitting(refused []rule) (lines []string) {
	lists := map[string][]string{"capabilities": slices.Clone(p.Capabilities), "devices": slices.Clone(p.Devices), "mounts": slices.Clone(p.Mounts)}
	var keys []string
	for _, r := range refused {
		if r.permit.value != "" && !slices.Contains(lists[r.permit.key], r.permit.value) {
			lists[r.permit.key] = append(lists[r.permit.key], r.permit.value)
		}
		if r.permit.key != "" && !slices.Contains(keys, r.permit.key) {
			keys = append(keys, r.permit.key)
		}
	}
	for _, k := range keys {
		if lists[k] == nil {
			lines = append(lines, k+" = true")
			continue
		}
		var quoted []string
		for _, v := range lists[k] {
			quoted = append(quoted, inTOML(v))
		}
		lines = append(lines, fmt.Sprintf("%s = [%s]", k, strings.Join(quoted, ", ")))
	}
	return lines
}

// inTOML writes a string in TOML, without double quotes where that can be: logs would put a backslash before each.
func inTOML(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == '\'' || r < ' ' || r == 0x7f }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return "'" + s + "'"
}

// and joins words to "a, b and c".
func and(words []string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " and " + words[n]
	}
	return words[0]
}

func (p Policy) rules(c *Config, at hostPaths) []rule {
	var rs []rule
	add := func(key, what string, allowed, rootless bool, by permit) {
		rs = append(rs, rule{key, what, allowed, rootless, by})
	}
	bind := func(key, what string, b Bind) {
		by := permit{key: "mounts", value: b.Source}
		switch real := at.real(b.Source); real {
		case b.Source:
		case "":
			what += ", whose target can't be determined,"
			by = permit{otherwise: "correct the symlink, or let BOINC's user search the directories that it leads through"}
		default:
			what, by.value = what+", which leads to "+real+",", real
		}
		add(key, what, p.mayMount(b.Source, at), false, by)
	}
	for _, b := range c.Mounts {
		bind("mount", fmt.Sprintf("%q", b), b)
	}
	for _, b := range c.Create.Volumes {
		bind("create_args", fmt.Sprintf("volume %q", b), b)
	}
	if len(c.Ports) > 0 {
		add("portmap", "a port of the host", true, false, permit{})
	}
	if n := c.Build.Network; n != "" && n != "default" && n != "none" {
		add("build_args", "--network "+n, n != "host" || p.HostNetwork, false, permit{key: "host_network"})
	}
	if !c.Written("create_args") {
		return rs
	}
	a := c.Create
	if a.Privileged {
		add("create_args", "--privileged", p.Privileged, false, permit{key: "privileged"})
	}
	for _, m := range [...]struct{ flag, mode string }{{"--network", a.Network}, {"--pid", a.PIDMode}, {"--ipc", a.IPC}} {
		shared := m.mode == "host" || strings.HasPrefix(m.mode, "container:")
		if shared || m.flag == "--network" && m.mode != "" && m.mode != "none" && m.mode != "bridge" {
			add("create_args", m.flag+" "+m.mode, p.HostNetwork, false, permit{key: "host_network"})
		}
	}
	for _, name := range a.CapAdd {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		by := permit{key: "capabilities", value: name}
		if _, err := knownCapability(name); err != nil {
			by = permit{}
		}
		add("create_args", "--cap-add "+name, slices.Contains(defaultCaps, name) || slices.Contains(p.Capabilities, name),
			slices.Contains(rootlessCaps, name), by)
	}
	for _, d := range a.Devices {
		host, _, _ := strings.Cut(d, ":")
		by := permit{key: "devices", value: host}
		if _, err := devicePath(host); err != nil { // a name of the Container Device Interface
			by = permit{}
		}
		add("create_args", "--device "+host, slices.Contains(p.Devices, host), slices.Contains(rootlessDevices, host), by)
	}
	for _, o := range a.SecurityOpts {
		harmless := o == "no-new-privileges" || o == "no-new-privileges=true" || o == "no-new-privileges:true"
		add("create_args", "--security-opt "+o, p.SecurityOpts || harmless, false, permit{key: "security_opts"})
	}
	if a.Runtime != "" || len(a.Sysctls) > 0 {
		add("create_args", "--runtime or --sysctl", p.Privileged, false, permit{key: "privileged"})
	}
	// An unsigned file may not use create_args at all.
	add("create_args", "a raw option", true, false, permit{})
	return rs
}

// hostPaths is what must be known of the host's directories to decide about mounts.
type hostPaths struct {
	dataDir  string              // BOINC's; "" for none
	realPath func(string) string // see [Input.RealPath]; nil gives paths back as they are
}

// policyFile names the policy file, for the owner.
func (at hostPaths) policyFile() string {
	if at.dataDir == "" {
		return PolicyFile + " in BOINC's data directory"
	}
	return filepath.Join(at.dataDir, PolicyFile)
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
