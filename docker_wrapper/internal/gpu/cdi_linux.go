package gpu

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"boincdocker/docker_wrapper/internal/job"
)

// cdiDirs are the directories in which engines look for CDI specifications. A later one has precedence.
//
// Format: github.com/cncf-tags/container-device-interface, SPEC.md.
var cdiDirs = []string{"etc/cdi", "var/run/cdi"}

// maxSpec is a size that no specification reaches.
const maxSpec = 1 << 20 // bytes

// spec is the part of a CDI specification that maps names to device files.
type spec struct {
	Kind    string `yaml:"kind"`
	Devices []struct {
		Name           string `yaml:"name"`
		ContainerEdits struct {
			DeviceNodes []struct {
				Path     string `yaml:"path"`
				HostPath string `yaml:"hostPath"`
			} `yaml:"deviceNodes"`
		} `yaml:"containerEdits"`
	} `yaml:"devices"`
}

// named is a device in a specification.
type named struct {
	kind, name string
	nodes      []string // paths of its device files on the host
}

// specs lists the devices in all specifications. It ignores a specification that can't be read or parsed: the engine
// reports it. If a name occurs twice, the later directory has precedence.
func specs(root fs.FS) (list []named) {
	for _, dir := range cdiDirs {
		for _, file := range names(root, dir) {
			if ext := path.Ext(file); ext != ".yaml" && ext != ".json" {
				continue
			}
			s, err := readSpec(root, path.Join(dir, file))
			if err != nil {
				continue
			}
			for _, d := range s.Devices {
				n := named{kind: s.Kind, name: d.Name}
				for _, node := range d.ContainerEdits.DeviceNodes {
					n.nodes = append(n.nodes, cmp.Or(node.HostPath, node.Path))
				}
				list = slices.DeleteFunc(list, func(have named) bool { return have.kind == n.kind && have.name == n.name })
				list = append(list, n)
			}
		}
	}
	return list
}

func readSpec(root fs.FS, name string) (s spec, err error) {
	f, err := root.Open(name)
	if err != nil {
		return s, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err == nil && len(data) > maxSpec {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxSpec)
	}
	if err == nil {
		err = yaml.Unmarshal(data, &s) // JSON is YAML, too
	}
	return s, err
}

// name sets the CDI names of NVIDIA's GPUs. It uses only names that stand for one GPU and no other. The device file in
// the specification decides, because a number may be out of date. Names that are UUIDs come first, because they are
// unique.
func name(root fs.FS, gpus []job.GPU) {
	all := specs(root)
	for i := range gpus {
		g := &gpus[i]
		if g.Vendor != job.NVIDIA {
			continue
		}
		for _, n := range all {
			if n.kind != "nvidia.com/gpu" {
				continue
			}
			full := n.kind + "=" + n.name
			for p := range g.Parts {
				if part := &g.Parts[p]; n.name == part.Name || n.name == part.UUID && part.UUID != "" {
					part.CDI = append(part.CDI, full)
				} else if part.UUID == "" && strings.HasPrefix(n.name, "MIG-") && sameInstance(all, n, part.Name) {
					part.UUID = n.name
					part.CDI = append(part.CDI, full)
				}
			}
			if means(n, *g, gpus) {
				g.CDI = append(g.CDI, full)
			}
		}
		uuidFirst(g.CDI)
		for _, p := range g.Parts {
			uuidFirst(p.CDI)
		}
	}
}

// sameInstance reports whether a device has the same files as the device with this name.
func sameInstance(all []named, n named, name string) bool {
	return slices.ContainsFunc(all, func(other named) bool {
		return other.kind == n.kind && other.name == name && len(n.nodes) > 0 && slices.Equal(slices.Sorted(slices.Values(other.nodes)), slices.Sorted(slices.Values(n.nodes)))
	})
}

// means reports whether a device of a specification is this whole GPU.
func means(n named, g job.GPU, gpus []job.GPU) bool {
	if strings.HasPrefix(n.name, "MIG-") || strings.Contains(n.name, ":") || n.name == "all" {
		return false
	}
	var own []string // device files that belong to one GPU only
	for _, other := range gpus {
		if other.Vendor == job.NVIDIA && len(other.Nodes) > 0 && slices.Contains(n.nodes, other.Nodes[0].Path) {
			own = append(own, other.Nodes[0].Path)
		}
	}
	if len(own) > 0 {
		return len(own) == 1 && len(g.Nodes) > 0 && own[0] == g.Nodes[0].Path
	}
	return n.name == g.UUID && g.UUID != "" || n.name == strconv.Itoa(g.Index) && len(n.nodes) == 0
}

// uuidFirst moves UUIDs to the front of a list of CDI names.
func uuidFirst(list []string) {
	isUUID := func(s string) bool { return strings.Contains(s, "=GPU-") || strings.Contains(s, "=MIG-") }
	slices.SortStableFunc(list, func(a, b string) int {
		switch {
		case isUUID(a) == isUUID(b):
			return 0
		case isUUID(a):
			return -1
		default:
			return 1
		}
	})
}
