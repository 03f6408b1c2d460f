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
// mount host directories that are not the system's or a user's own, publish ports and reach the
// network; nothing that amounts to being root on the host.
//
// Whatever it says, job files that aren't signed never reach beyond the slot.
type Policy struct {
	Privileged   bool     `toml:"privileged"`   // --privileged
	HostNetwork  bool     `toml:"host_network"` // --network host, --pid host, --ipc host
	Capabilities []string `toml:"capabilities"` // --cap-add, beyond those that engines give by default
	Devices      []string `toml:"devices"`      // --device, by host path
	Mounts       []string `toml:"mounts"`       // host directories, even protected ones; "none" allows no other
	SecurityOpts bool     `toml:"security_opts"`
	Network      string   `toml:"network"`  // "none": no job gets a network
	Unsigned     string   `toml:"unsigned"` // "refuse": no job whose files aren't signed
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
	if p.Unsigned != "" && p.Unsigned != "refuse" && p.Unsigned != "allow" {
		return Policy{}, fmt.Errorf("read %s: unsigned: want \"refuse\" or \"allow\"", name)
	}
	return p, nil
}

// defaultCaps are the capabilities that engines give without being asked, and SYS_PTRACE, which
// reaches no further than the container.
var defaultCaps = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
	"NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_PTRACE"}

// protected are host directories that a signed job gets only where the policy file names them:
// neither they, nor what is in them, nor what holds them.
var protected = []string{"/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run",
	"/sbin", "/sys", "/usr", "/var"}

// a rule is something that job.toml asks for that reaches beyond the slot.
type rule struct {
	key     string // where it was written
	what    string
	allowed bool
	mend    string // the line of the policy file that allows it; "" when signing is enough, or nothing does
}

// check finds the first thing that this job may not have. dataDir is BOINC's data directory.
func (p Policy) check(c *Config, signed bool, dataDir string) *ConfigError {
	if !signed && p.Unsigned == "refuse" {
		return c.Errorf("", "the job's files aren't signed, and this computer's %s refuses such jobs", PolicyFile)
	}
	for _, r := range p.rules(c, dataDir) {
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

func (p Policy) rules(c *Config, dataDir string) []rule {
	var rs []rule
	add := func(key, what string, allowed bool, mend string) {
		rs = append(rs, rule{key, what, allowed, mend})
	}
	for _, b := range c.Mounts {
		add("mount", fmt.Sprintf("%q", b), p.mayMount(b.Source, dataDir), fmt.Sprintf("mounts = [%q]", b.Source))
	}
	for _, b := range c.Create.Volumes {
		add("create_args", fmt.Sprintf("volume %q", b), p.mayMount(b.Source, dataDir), fmt.Sprintf("mounts = [%q]", b.Source))
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
		name, _, _ := strings.Cut(strings.ReplaceAll(o, ":", "="), "=")
		add("create_args", "--security-opt "+o, p.SecurityOpts || name == "no-new-privileges", "security_opts = true")
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

// mayMount reports whether a signed job may mount the host's source.
func (p Policy) mayMount(source, dataDir string) bool {
	if source == "" || !strings.ContainsAny(source, `/\`) { // a volume of the engine's
		return true
	}
	clean := cleanPath(source)
	only := false
	for _, m := range p.Mounts {
		only = only || m == "none"
		if inside(clean, cleanPath(m)) {
			return true
		}
	}
	if only {
		return false
	}
	for _, d := range protected {
		if inside(clean, d) || inside(d, clean) {
			return false
		}
	}
	data := cleanPath(dataDir)
	return dataDir == "" || !inside(clean, data) && !inside(data, clean)
}

// cleanPath is a host path in one form, whatever its separators.
func cleanPath(p string) string { return path.Clean(strings.ReplaceAll(p, `\`, "/")) }

// inside reports whether p is dir or below it. Both are clean.
func inside(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}
