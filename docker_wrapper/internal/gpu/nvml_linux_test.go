//go:build linux && cgo

package gpu

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"

	"boincdocker/docker_wrapper/internal/job"
)

// dgx is a mock of NVML on a host with eight GPUs, with the functions that the package's mock lacks.
func dgx() *dgxa100.Server {
	s := dgxa100.New()
	for i, d := range s.Devices {
		d := d.(*dgxa100.Device)
		d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_DEFAULT, nvml.SUCCESS }
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{Bus: uint32(i + 1)}, nvml.SUCCESS }
	}
	return s
}

// other is dgx with another model of GPU.
func other(name string, memory uint64, driver string, cuda int) *dgxa100.Server {
	s := dgx()
	s.DriverVersion, s.CudaDriverVersion = driver, cuda
	for _, d := range s.Devices {
		d.(*dgxa100.Device).Name, d.(*dgxa100.Device).MemoryInfo.Total = name, memory
	}
	return s
}

func TestListsEveryGPUOfAHost(t *testing.T) {
	for _, tt := range []struct {
		host         *dgxa100.Server
		driver, cuda string
	}{
		{dgx(), "550.54.15", "12.4"},
		{other("NVIDIA H100 80GB HBM3", 80<<30, "570.86.15", 12080), "570.86.15", "12.8"},
		{other("NVIDIA H200", 141<<30, "580.65.06", 13000), "580.65.06", "13.0"},
	} {
		listsEvery(t, tt.host, tt.driver, tt.cuda)
	}
}

func listsEvery(t *testing.T, host *dgxa100.Server, driver, cuda string) {
	gpus, err := from(host)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(gpus), 8; got != want {
		t.Fatalf("got %d GPUs, want %d", got, want)
	}
	uuids, addresses := map[string]bool{}, map[string]bool{}
	for i, g := range gpus {
		if g.Index != i || g.Vendor != "nvidia" || !strings.HasPrefix(g.UUID, "GPU-") || g.Memory <= 0 || g.Name == "" ||
			g.Driver != driver || g.CUDA != cuda || g.ComputeMode != "" || g.MIG {
			t.Errorf("GPU %d: got %+v, want its index, a UUID, a name, memory, driver %s and CUDA %s", i, g, driver, cuda)
		}
		uuids[g.UUID], addresses[g.PCI] = true, true
	}
	if len(uuids) != 8 || len(addresses) != 8 {
		t.Errorf("got %d different UUIDs and %d addresses, want 8", len(uuids), len(addresses))
	}
}

// Without a driver the error is errNoLibrary.
func TestNoDriver(t *testing.T) {
	host := dgx()
	host.InitFunc = func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }
	if gpus, err := from(host); !errors.Is(err, errNoLibrary) || gpus != nil {
		t.Errorf("got %v, %v, want errNoLibrary", gpus, err)
	}
}

// When a GPU has fallen off the bus, the others keep their indexes.
func TestLostGPUKeepsTheOthersIndexes(t *testing.T) {
	host := dgx()
	handle := host.DeviceGetHandleByIndexFunc
	host.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 3 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return handle(i)
	}
	gpus, err := from(host)
	if err != nil {
		t.Fatal(err)
	}
	var indexes []int
	for _, g := range gpus {
		indexes = append(indexes, g.Index)
	}
	if got, want := len(indexes), 7; got != want || indexes[3] != 4 {
		t.Errorf("got indexes %v, want 0 1 2 4 5 6 7", indexes)
	}
}

// A GPU in MIG mode has instances, and the compute mode is reported.
func TestPartsAndModes(t *testing.T) {
	host := dgx()
	parted, taken := host.Devices[2].(*dgxa100.Device), host.Devices[5].(*dgxa100.Device)
	parted.MigMode = nvml.DEVICE_MIG_ENABLE
	parted.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	parted.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 1 && i != 4 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		d := dgxa100.NewDevice(i)
		d.UUID = "MIG-" + string(rune('a'+i))
		return d, nvml.SUCCESS
	}
	taken.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_PROHIBITED, nvml.SUCCESS }
	gpus, err := from(host)
	if err != nil {
		t.Fatal(err)
	}
	want := []job.Instance{{UUID: "MIG-b", Name: "2:1"}, {UUID: "MIG-e", Name: "2:4"}}
	if g := gpus[2]; !g.MIG || !slices.EqualFunc(g.Parts, want, func(a, b job.Instance) bool { return a.UUID == b.UUID && a.Name == b.Name }) {
		t.Errorf("got %+v, want the instances %+v", g, want)
	}
	if g := gpus[5]; g.MIG || g.ComputeMode != "prohibited" {
		t.Errorf("got %+v, want it prohibited", g)
	}
}
