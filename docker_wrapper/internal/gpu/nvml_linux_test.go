//go:build linux && cgo

package gpu

import (
	"errors"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
)

// A library that plays a host of eight GPUs.
func TestListsEveryGPUOfAHost(t *testing.T) {
	host := dgxa100.New()
	gpus, err := from(host)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(gpus), 8; got != want {
		t.Fatalf("got %d GPUs, want %d", got, want)
	}
	uuids, addresses := map[string]bool{}, map[string]bool{}
	for i, g := range gpus {
		if g.Index != i || g.Vendor != "nvidia" || !strings.HasPrefix(g.UUID, "GPU-") || g.Memory <= 0 || g.Name == "" {
			t.Errorf("GPU %d: got %+v, want its index, a UUID, a name and memory", i, g)
		}
		uuids[g.UUID], addresses[g.PCI] = true, true
	}
	if len(uuids) != 8 {
		t.Errorf("got %d different UUIDs, want 8", len(uuids))
	}
}

// Without a driver there is nobody to ask, which is no failure of its own.
func TestNoDriver(t *testing.T) {
	host := dgxa100.New()
	host.InitFunc = func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }
	if gpus, err := from(host); !errors.Is(err, ErrNoDriver) || gpus != nil {
		t.Errorf("got %v, %v, want ErrNoDriver", gpus, err)
	}
}

// A GPU that fell off the bus takes its index with it and no other's.
func TestLostGPUKeepsTheOthersIndexes(t *testing.T) {
	host := dgxa100.New()
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
