package gpu

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"

	"boincdocker/docker_wrapper/internal/job"
)

// errNoLibrary: NVML is not installed, or this binary was built without it. The kernel's files have most of the same
// facts.
var errNoLibrary = errors.New("no NVML")

// List lists the GPUs, those of each vendor in the order of their driver's indexes. Trouble says why a GPU can't be used.
func List() ([]job.GPU, error) {
	known, err := library()
	if errors.Is(err, errNoLibrary) {
		err = nil
	}
	return list(os.DirFS("/"), known), err
}

// list merges the GPUs of the kernel's files and of NVML (known). NVML's facts are newer and more complete. A GPU of
// NVIDIA's that only the kernel's files list is lost.
func list(root fs.FS, known []job.GPU) []job.GPU {
	gpus := slices.Concat(nvidia(root), cards(root))
	for _, k := range known {
		i := slices.IndexFunc(gpus, func(g job.GPU) bool {
			return g.Vendor == k.Vendor && (k.PCI != "" && g.PCI == k.PCI || k.UUID != "" && g.UUID == k.UUID)
		})
		if i < 0 {
			gpus = append(gpus, k)
			continue
		}
		// Keep NVML's index: NVIDIA's container toolkit uses the same one.
		g := &gpus[i]
		k.PCI, k.Trouble = g.PCI, cmp.Or(g.Trouble, k.Trouble)
		k.Nodes, k.Driver, k.Name = g.Nodes, cmp.Or(k.Driver, g.Driver), cmp.Or(k.Name, g.Name)
		k.MIG = k.MIG || g.MIG
		if len(k.Parts) == 0 {
			k.Parts = g.Parts
		}
		*g = k
	}
	if len(known) > 0 {
		for i := range gpus {
			g := &gpus[i]
			listed := slices.ContainsFunc(known, func(k job.GPU) bool { return k.PCI == g.PCI && k.PCI != "" || k.UUID == g.UUID && k.UUID != "" })
			if g.Vendor == job.NVIDIA && !listed && g.Trouble == "" {
				g.Trouble = lost
			}
		}
	}
	name(root, gpus)
	slices.SortStableFunc(gpus, func(a, b job.GPU) int {
		if a.Vendor != b.Vendor {
			return slices.Index(order, a.Vendor) - slices.Index(order, b.Vendor)
		}
		return a.Index - b.Index
	})
	return gpus
}

var order = []string{job.NVIDIA, job.AMD, job.Intel}

// lost is the driver's word for a GPU that no longer answers.
const lost = "it is lost: its driver doesn't list it any more (sudo dmesg | grep Xid says why; restart the computer)"
