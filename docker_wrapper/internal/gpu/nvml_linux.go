//go:build linux && cgo

package gpu

import (
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"boincdocker/docker_wrapper/internal/job"
)

func library() ([]job.GPU, error) { return from(nvml.New()) }

// from lists the GPUs that a library sees.
func from(lib nvml.Interface) (gpus []job.GPU, err error) {
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("%w: %s", errNoLibrary, nvml.ErrorString(ret))
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
	driver, ret := lib.SystemGetDriverVersion()
	if ret != nvml.SUCCESS {
		driver = ""
	}
	cuda := ""
	if v, ret := lib.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS {
		cuda = fmt.Sprintf("%d.%d", v/1000, v%1000/10) // such as 12040
	}
	for i := range n {
		d, ret := lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS { // a lost GPU; the other GPUs keep their indexes
			continue
		}
		g := job.GPU{Vendor: job.NVIDIA, Index: i, Driver: driver, CUDA: cuda}
		if g.UUID, ret = d.GetUUID(); ret != nvml.SUCCESS {
			return nil, fmt.Errorf("read UUID of GPU %d: %s", i, nvml.ErrorString(ret))
		}
		if g.Name, ret = d.GetName(); ret != nvml.SUCCESS {
			g.Name = ""
		}
		if pci, ret := d.GetPciInfo(); ret == nvml.SUCCESS && pci.Bus+pci.Device > 0 { // no GPU has bus 0 and device 0
			g.PCI = strings.ToLower(fmt.Sprintf("%04x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device))
		}
		if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
			g.Memory = int64(m.Total)
		}
		if mode, ret := d.GetComputeMode(); ret == nvml.SUCCESS {
			g.ComputeMode = computeModes[mode]
		}
		if mode, _, ret := d.GetMigMode(); ret == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE {
			g.MIG, g.Parts = true, instances(d, i)
		}
		gpus = append(gpus, g)
	}
	return gpus, nil
}

// computeModes are the modes in which not every program may use a GPU.
var computeModes = map[nvml.ComputeMode]string{nvml.COMPUTEMODE_EXCLUSIVE_THREAD: "exclusive process",
	nvml.COMPUTEMODE_EXCLUSIVE_PROCESS: "exclusive process", nvml.COMPUTEMODE_PROHIBITED: "prohibited"}

// instances lists the parts of a GPU in MIG mode.
func instances(d nvml.Device, index int) (list []job.Instance) {
	n, ret := d.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	for i := range n {
		m, ret := d.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS { // no instance with this number
			continue
		}
		if uuid, ret := m.GetUUID(); ret == nvml.SUCCESS {
			list = append(list, job.Instance{UUID: uuid, Name: fmt.Sprintf("%d:%d", index, i)})
		}
	}
	return list
}
