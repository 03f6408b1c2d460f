package gpu

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"boincdocker/docker_wrapper/internal/job"
)

const (
	procNVIDIA = "proc/driver/nvidia"
	pciDevices = "sys/bus/pci/devices"
	kfdNodes   = "sys/class/kfd/kfd/topology/nodes"
)

// pciVendors are the vendors by PCI ID (pci.ids).
var pciVendors = map[string]string{"0x10de": job.NVIDIA, "0x1002": job.AMD, "0x8086": job.Intel}

// card is a display controller on the PCI bus.
type card struct {
	vendor, address, driver string
	render                  string // "dri/renderD128"; "" for none
}

// bus lists the display controllers of these vendors, sorted by address.
func bus(root fs.FS) (list []card) {
	for _, address := range names(root, pciDevices) {
		dir := path.Join(pciDevices, address)
		vendor := pciVendors[text(root, dir, "vendor")]
		if vendor == "" || !strings.HasPrefix(text(root, dir, "class"), "0x03") { // PCI class 03: display controllers
			continue
		}
		c := card{vendor: vendor, address: strings.ToLower(address), driver: pairs(text(root, dir, "uevent"), "=")["DRIVER"]}
		for _, node := range names(root, path.Join(dir, "drm")) {
			if strings.HasPrefix(node, "renderD") {
				c.render = "dri/" + node
			}
		}
		list = append(list, c)
	}
	return list
}

// nvidia lists NVIDIA's GPUs. First come those that the driver knows, sorted by address: that is how the driver's own
// tools number them. Then come the others on the PCI bus.
//
// Format: nv-procfs.c in github.com/NVIDIA/open-gpu-kernel-modules.
func nvidia(root fs.FS) (gpus []job.GPU) {
	version := driverVersion(text(root, procNVIDIA, "version"))
	var excluded []job.GPU
	for _, address := range names(root, procNVIDIA+"/gpus") {
		facts := pairs(text(root, procNVIDIA+"/gpus", address, "information"), ":")
		minor := facts["Device Minor"]
		g := job.GPU{Vendor: job.NVIDIA, Index: len(gpus), PCI: strings.ToLower(address), Name: facts["Model"], Driver: version}
		if u := facts["GPU UUID"]; !strings.Contains(u, "?") { // "?" until a program has used the GPU
			g.UUID = u
		}
		for _, node := range []string{"nvidia" + minor, "nvidiactl", "nvidia-uvm"} {
			n, there := nodeOf(root, node)
			if there {
				g.Nodes = append(g.Nodes, n)
			} else if g.Trouble == "" && node != "nvidia-uvm" { // nvidia-uvm is made at its first use
				g.Trouble = "/dev/" + node + " isn't there (sudo nvidia-modprobe -u -c " + cmp.Or(minor, "0") + " makes it)"
			}
		}
		if facts["GPU Excluded"] == "Yes" || facts["GPU Blacklisted"] == "Yes" {
			g.Trouble = "its driver was told to leave it alone (NVreg_ExcludedGpus, see: modprobe -c | grep nvidia)"
			excluded = append(excluded, g) // the driver gives it no index
			continue
		}
		g.Parts, g.MIG = parts(root, minor, g.Index)
		gpus = append(gpus, g)
	}
	for _, g := range excluded {
		g.Index = len(gpus)
		gpus = append(gpus, g)
	}
	for _, c := range bus(root) {
		known := slices.ContainsFunc(gpus, func(g job.GPU) bool { return g.PCI == c.address })
		switch {
		case c.vendor != job.NVIDIA || known:
		case c.driver == "nvidia":
			gpus = append(gpus, job.GPU{Vendor: job.NVIDIA, Index: len(gpus), PCI: c.address, Trouble: lost})
		case c.driver == "":
			gpus = append(gpus, job.GPU{Vendor: job.NVIDIA, Index: len(gpus), PCI: c.address,
				Trouble: "no driver drives it (install NVIDIA's, or load it: sudo modprobe nvidia)"})
		default:
			gpus = append(gpus, job.GPU{Vendor: job.NVIDIA, Index: len(gpus), PCI: c.address, Driver: c.driver,
				Trouble: "the driver " + c.driver + " drives it, which can't compute (install NVIDIA's driver: on Debian sudo apt-get install nvidia-driver)"})
		}
	}
	return gpus
}

// driverVersion finds the version in a line such as "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue ...".
func driverVersion(line string) string {
	for f := range strings.FieldsSeq(line) {
		if whole, _, ok := strings.Cut(f, "."); ok && whole != "" && strings.Trim(f, "0123456789.") == "" {
			return f
		}
	}
	return ""
}

// parts lists the instances of a GPU in MIG mode that programs can use: those with a compute instance.
//
// Format: docs.nvidia.com/datacenter/tesla/mig-user-guide, "Device Nodes and Capabilities".
func parts(root fs.FS, minor string, index int) (list []job.Instance, on bool) {
	mig := procNVIDIA + "/capabilities/gpu" + minor + "/mig"
	for _, gi := range names(root, mig) {
		for _, ci := range names(root, path.Join(mig, gi)) {
			if strings.HasPrefix(gi, "gi") && strings.HasPrefix(ci, "ci") {
				list = append(list, job.Instance{Name: fmt.Sprintf("%d:%d", index, len(list))})
			}
		}
	}
	return list, len(list) > 0
}

// cards lists AMD's and Intel's GPUs.
func cards(root fs.FS) (gpus []job.GPU) {
	places := computeOrder(root)
	counted := map[string]int{}
	found := bus(root)
	slices.SortStableFunc(found, func(a, b card) int { return cmp.Compare(place(places, a), place(places, b)) })
	for _, c := range found {
		if c.vendor == job.NVIDIA {
			continue
		}
		dir := path.Join(pciDevices, c.address)
		g := job.GPU{Vendor: c.vendor, Index: counted[c.vendor], PCI: c.address, Driver: c.driver, Name: text(root, dir, "product_name")}
		g.Memory, _ = strconv.ParseInt(text(root, dir, "mem_info_vram_total"), 10, 64) // 0 if the driver doesn't report it
		if id := text(root, dir, "unique_id"); id != "" {
			g.UUID = "GPU-" + id
		}
		counted[c.vendor]++
		n, there := nodeOf(root, c.render)
		switch {
		case c.driver == "":
			g.Trouble = "no driver drives it (sudo modprobe " + drivers[c.vendor] + ")"
		case !there:
			g.Trouble = "its driver " + c.driver + " offers nothing to compute with in /dev/dri (ls -l /dev/dri shows what is there)"
		default:
			g.Nodes = append(g.Nodes, n)
		}
		if kfd, there := nodeOf(root, "kfd"); there && c.vendor == job.AMD && g.Trouble == "" {
			g.Nodes = append(g.Nodes, kfd)
		}
		gpus = append(gpus, g)
	}
	return gpus
}

var drivers = map[string]string{job.AMD: "amdgpu", job.Intel: "i915"}

// computeOrder returns the index that AMD's runtime gives each render node, in the order of the kernel's topology.
//
// Format: kfd_topology.c in Linux's drivers/gpu/drm/amd/amdkfd.
func computeOrder(root fs.FS) map[string]int {
	order := map[string]int{}
	nodes := names(root, kfdNodes)
	slices.SortFunc(nodes, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	for _, n := range nodes {
		p := pairs(text(root, kfdNodes, n, "properties"), " ")
		if p["simd_count"] != "0" && p["drm_render_minor"] != "" {
			order["dri/renderD"+p["drm_render_minor"]] = len(order)
		}
	}
	return order
}

func place(order map[string]int, c card) int {
	if n, ok := order[c.render]; ok && c.vendor == job.AMD {
		return n
	}
	return len(order)
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // other names are 0 and come first
	return n
}

// nodeOf describes a device file.
func nodeOf(root fs.FS, name string) (job.Node, bool) {
	if name == "" {
		return job.Node{}, false
	}
	fi, err := fs.Stat(root, "dev/"+name)
	if err != nil || fi.Mode()&fs.ModeDevice == 0 {
		return job.Node{}, false
	}
	return job.Node{Path: "/dev/" + name, GID: groupOf(fi), Everybody: fi.Mode().Perm()&0o006 == 0o006}, true
}

// groupOf is a file's group, -1 if unknown.
func groupOf(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}

// names lists the names in a directory; none if it can't be read.
func names(root fs.FS, dir string) (list []string) {
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// text reads a small file, without surrounding white space; "" if it can't be read.
func text(root fs.FS, elements ...string) string {
	data, err := fs.ReadFile(root, path.Join(elements...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// pairs parses lines of the form key, separator, value.
func pairs(lines, between string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(lines) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), between); ok {
			m[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return m
}
