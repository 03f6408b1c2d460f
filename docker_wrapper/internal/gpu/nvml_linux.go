//go:build linux && cgo

package gpu

import (
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"boincdocker/docker_wrapper/internal/job"
)

func list() ([]job.GPU, error) { return from(nvml.New()) }

// from lists the GPUs that a library sees.
func from(lib nvml.Interface) (gpus []job.GPU, err error) {
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("%w: %s", ErrNoDriver, nvml.ErrorString(ret))
	}
	defer func() {
		if ret := lib.Shutdown(); ret != nvml.SUCCESS && err == nil {
			err = fmt.Errorf("close NVML: %s", nvml.ErrorString(ret))
		}
	}()
	n, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("count GPUs: %s", nvml.ErrorString(ret))
	}
	for i := range n {
		d, ret := lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS { // a lost device takes its index with it, and no other
			continue
		}
		g := job.GPU{Vendor: "nvidia", Index: i}
		if g.UUID, ret = d.GetUUID(); ret != nvml.SUCCESS {
			return nil, fmt.Errorf("read UUID of GPU %d: %s", i, nvml.ErrorString(ret))
		}
		if g.Name, ret = d.GetName(); ret != nvml.SUCCESS {
			g.Name = ""
		}
		if pci, ret := d.GetPciInfo(); ret == nvml.SUCCESS {
			g.PCI = strings.ToLower(fmt.Sprintf("%04x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device))
		}
		if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
			g.Memory = int64(m.Total)
		}
		gpus = append(gpus, g)
	}
	return gpus, nil
}
