package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"boincdocker/boincapi"
)

// at is where the client says that its GPUs are: all of one kind together, or each by itself as in coproc_info.xml.
func at(addresses string) []boincapi.Coproc {
	c := boincapi.Coproc{Tag: "coproc_cuda", Type: "NVIDIA"}
	for a := range strings.FieldsSeq(addresses) {
		var p boincapi.PCIInfo
		fmt.Sscanf(a, "%x", &p.BusID)
		c.PCI = append(c.PCI, p)
	}
	c.Count = len(c.PCI)
	return []boincapi.Coproc{c}
}

func nvidiaGPU(i int) GPU {
	return GPU{Vendor: NVIDIA, Index: i, UUID: fmt.Sprintf("GPU-%d", i), PCI: fmt.Sprintf("0000:%02x:00.0", i+1),
		Nodes: []Node{{Path: fmt.Sprintf("/dev/nvidia%d", i), Everybody: true}, {Path: "/dev/nvidiactl", Everybody: true}}}
}

func nvidiaGPUs(n int) (list []GPU) {
	for i := range n {
		list = append(list, nvidiaGPU(i))
	}
	return list
}

func openCLGPU(vendor string, i int) GPU {
	return GPU{Vendor: vendor, Index: i, PCI: fmt.Sprintf("0000:%02x:00.0", i+17), Nodes: []Node{{Path: fmt.Sprintf("/dev/dri/renderD%d", 128+i), GID: 109}}}
}

// Which GPU the client means, and what is wrong when none is.
func TestAssignedGPU(t *testing.T) {
	const restart = "sudo systemctl restart boinc-client)"
	troubled := func(text string) []GPU { g := nvidiaGPU(0); g.Trouble, g.Name = text, "NVIDIA A100"; return []GPU{g} }
	for _, tt := range []struct {
		name   string
		kind   string // of GPU; "" is NVIDIA
		number int
		openCL int // index
		usage  float64
		args   string
		used   string // addresses in init_data.xml
		found  string // addresses in coproc_info.xml
		gpus   []GPU
		blind  bool
		want   string // identity, or the error after "no GPU for this job: "
		seen   string // arguments in the container, where they differ
	}{
		{name: "the first", gpus: nvidiaGPUs(2), want: "GPU-0"},
		{name: "the second", number: 1, gpus: nvidiaGPUs(2), want: "GPU-1"},
		{name: "by address, which CUDA orders otherwise", number: 0, used: "2 1", gpus: nvidiaGPUs(2), want: "GPU-1"},
		{name: "by address, the other one", number: 1, used: "2 1", gpus: nvidiaGPUs(2), want: "GPU-0"},
		{name: "the only one that the client uses", number: 1, used: "2", gpus: nvidiaGPUs(3), want: "GPU-1"},
		{name: "two of three, and the client's own list says which", number: 1, used: "2 3", found: "1 2 3", gpus: nvidiaGPUs(3), want: "GPU-1"},
		{name: "two of three, the fastest first", number: 1, used: "2 3", found: "2 3 1", gpus: nvidiaGPUs(3), want: "GPU-2"},
		{name: "two of three, and nothing says which", number: 1, used: "2 3", gpus: nvidiaGPUs(3),
			want: "BOINC uses 2 of 3 GPUs, only coproc_info.xml says which one is its device 1, and that file can't be read (ls -l coproc_info.xml in BOINC's data directory)"},
		{name: "two of three, of which one can't compute", number: 1, used: "1 3", gpus: []GPU{nvidiaGPU(0), {Vendor: NVIDIA, Index: 3, PCI: "0000:02:00.0", Trouble: "the driver nouveau drives it"}, nvidiaGPU(2)}, want: "GPU-2"},
		{name: "a list of another time", number: 1, used: "1 2", found: "1 9", gpus: nvidiaGPUs(2), want: "GPU-1"},
		{name: "found by OpenCL, which knows no addresses", number: 1, used: "0 0", gpus: nvidiaGPUs(2), want: "GPU-1"},
		{name: "a number that is none", number: 5, gpus: nvidiaGPUs(2),
			want: "BOINC assigned device 5, but this computer has only 2 from NVIDIA (nvidia-smi -L lists them; then restart the BOINC client: " + restart},
		{name: "a number beyond what the client found", number: 2, found: "1 2", gpus: nvidiaGPUs(2),
			want: "BOINC assigned device 2, but it found only 2 (restart the BOINC client: " + restart},
		{name: "a number beyond what the client uses", number: 2, used: "1 2", gpus: nvidiaGPUs(2),
			want: "BOINC assigned device 2, but it uses only 2 (restart the BOINC client: " + restart},
		{name: "a number below all", number: -1, openCL: -1, args: "--device -1", used: "1 2", found: "1 2", gpus: nvidiaGPUs(2),
			want: "there is no device -1 (--device counts from 0)"},
		{name: "unplugged", number: 1, used: "1 2", gpus: nvidiaGPUs(1),
			want: "BOINC's device 1, at 0000:02:00.0, isn't there any more (sudo dmesg says why; then restart the computer, or the BOINC client: " + restart},
		{name: "the one that is left after another was unplugged", number: 0, used: "1 2", gpus: nvidiaGPUs(1), want: "GPU-0"},
		{name: "none at all", want: "found no NVIDIA GPU on this computer (is its driver installed and loaded? try: nvidia-smi -L)"},
		{name: "none of this maker's", kind: "ATI", gpus: nvidiaGPUs(1), want: "found no AMD GPU on this computer (is its driver installed and loaded? try: ls -l /dev/kfd /dev/dri)"},
		{name: "in trouble", gpus: troubled("no driver drives it"), want: "GPU 0, NVIDIA A100, 0000:01:00.0: no driver drives it"},
		{name: "prohibited", gpus: []GPU{{Vendor: NVIDIA, ComputeMode: "prohibited"}}, want: "GPU 0: its compute mode lets no program use it (sudo nvidia-smi -i 0 -c DEFAULT)"},
		{name: "exclusive", gpus: []GPU{{Vendor: NVIDIA, UUID: "GPU-x", ComputeMode: "exclusive process"}}, want: "GPU-x"},
		{name: "MIG without instances", gpus: []GPU{{Vendor: NVIDIA, Index: 0, MIG: true}},
			want: "GPU 0: it is in MIG mode and has no instances (make some: sudo nvidia-smi mig -i 0 -cgi 0 -C; or end it: sudo nvidia-smi -i 0 -mig 0)"},
		{name: "MIG", gpus: []GPU{{Vendor: NVIDIA, UUID: "GPU-0", MIG: true, Parts: []Instance{{UUID: "MIG-a", Name: "0:0"}, {UUID: "MIG-b", Name: "0:1"}}}}, want: "MIG-a"},
		{name: "MIG without UUIDs", gpus: []GPU{{Vendor: NVIDIA, UUID: "GPU-0", MIG: true, Parts: []Instance{{Name: "0:0"}}}}, want: "0:0"},
		{name: "not to be listed here", number: 2, blind: true, want: "2"},
		{name: "AMD's, not to be listed here", kind: "ATI", blind: true, want: "GPUs of AMD are only given to containers on Linux"},

		// Several, and parts of one.
		{name: "half of one", number: 1, usage: 0.5, gpus: nvidiaGPUs(2), want: "GPU-1"},
		{name: "half of one, the client's option after the workunit's", number: 1, usage: 0.5, args: "--device 0 --device 1", gpus: nvidiaGPUs(2), want: "GPU-1", seen: "--device 0 --device 0"},
		{name: "two", number: 1, usage: 2, args: "--device 1 --device 3", gpus: nvidiaGPUs(4), want: "GPU-1,GPU-3", seen: "--device 0 --device 1"},
		{name: "two, by address", number: 1, usage: 2, args: "-x --device 1 --device 0", used: "2 1", gpus: nvidiaGPUs(2), want: "GPU-0,GPU-1", seen: "-x --device 0 --device 1"},
		{name: "two, of which the client names one, and there are no more", number: 1, usage: 2, gpus: nvidiaGPUs(2), want: "GPU-1,GPU-0"},
		{name: "two, of which the client names one", number: 1, usage: 2, gpus: nvidiaGPUs(4), want: "GPU-1"},
		{name: "one and a half", number: 2, usage: 1.5, args: "--device 2 --device 1", gpus: nvidiaGPUs(3), want: "GPU-2,GPU-1", seen: "--device 0 --device 1"},
		{name: "the same twice", number: 1, usage: 2, args: "--device 1 --device 1", gpus: nvidiaGPUs(3), want: "GPU-1", seen: "--device 0 --device 0"},
		{name: "two that are one", number: 0, usage: 2, args: "--device 0 --device 1", used: "1 1", gpus: nvidiaGPUs(2),
			want: "BOINC's devices [0 1] are the same GPU here, GPU-0 (restart the BOINC client, so that it counts them again: " + restart},
		{name: "the workunit asks for another", number: 1, args: "--device 0", gpus: nvidiaGPUs(2), want: "GPU-1"},
		{name: "an old client, which names it on the command line alone", number: -1, openCL: -1, args: "--device 1", gpus: nvidiaGPUs(2), want: "GPU-1", seen: "--device 0"},

		// Other makers.
		{name: "AMD's", kind: "ATI", number: 1, openCL: 1, gpus: []GPU{openCLGPU(AMD, 0), openCLGPU(AMD, 1), nvidiaGPU(0)}, want: "0000:12:00.0"},
		{name: "AMD's, which a second platform lists again", kind: "ATI", number: 2, openCL: 0, gpus: []GPU{openCLGPU(AMD, 0), openCLGPU(AMD, 1)}, want: "0000:11:00.0"},
		{name: "Intel's beside NVIDIA's", kind: "intel_gpu", gpus: []GPU{nvidiaGPU(0), openCLGPU(Intel, 0)}, want: "0000:11:00.0"},
		{name: "by OpenCL's name of its maker", kind: "Intel(R) Corporation", gpus: []GPU{openCLGPU(Intel, 0)}, want: "0000:11:00.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t, "use_gpu = true")
			in.Init.GPUType, in.Init.GPUDeviceNum, in.Init.GPUOpenCLDevIndex, in.Init.GPUUsage = first(tt.kind, "NVIDIA"), tt.number, tt.openCL, max(tt.usage, 0.01)
			in.Host.GPUs, in.Host.Blind, in.Args = tt.gpus, tt.blind, strings.Fields(tt.args)
			if tt.used != "" {
				in.Init.HostInfo.Coprocs = at(tt.used)
			}
			for a := range strings.FieldsSeq(tt.found) {
				in.Found = append(in.Found, at(a)...)
			}
			j, err := Plan(in)
			if err != nil {
				if got := strings.TrimPrefix(err.Error(), "no GPU for this job: "); got != tt.want || !errors.Is(err, ErrNoGPU) || len(err.Error()) > 255 {
					t.Errorf("got  %s\nwant %s, in the 255 bytes that a client shows", got, tt.want)
				}
				return
			}
			if got := j.Container.GPU.Identity(); got != tt.want || j.Container.Labels[LabelGPU] != got {
				t.Errorf("got %s, label %s, want %s", got, j.Container.Labels[LabelGPU], tt.want)
			}
			if want := "ARGS=" + first(tt.seen, tt.args); tt.args != "" && !slices.Contains(j.Container.Env, want) {
				t.Errorf("got %q, want %q", j.Container.Env, want)
			}
		})
	}
}

// Eight jobs on a computer with eight GPUs get one each, in whatever order CUDA counts them, and see no other.
func TestEightGPUs(t *testing.T) {
	const used = "5 3 8 1 2 7 6 4" // what the client calls device 0 is on bus 5
	owner := map[string]int{}
	for number := range 8 {
		in := testInput(t, "use_gpu = true")
		in.Init.GPUType, in.Init.GPUDeviceNum, in.Init.GPUUsage = "NVIDIA", number, 1
		in.Init.HostInfo.Coprocs, in.Host.GPUs = at(used), nvidiaGPUs(8)
		j, err := Plan(in)
		if err != nil {
			t.Fatal(err)
		}
		g := j.Container.GPU
		bus := int(strings.Fields(used)[number][0] - '0')
		if want := fmt.Sprintf("GPU-%d", bus-1); g.Identity() != want {
			t.Errorf("device %d: got %s, want %s", number, g.Identity(), want)
		}
		if other, taken := owner[g.Identity()]; taken {
			t.Errorf("devices %d and %d are both %s", number, other, g.Identity())
		}
		owner[g.Identity()] = number
		if len(g.Others) != 7 || slices.Contains(g.Others, g.Devices[0].Nodes[0].Path) {
			t.Errorf("device %d: got %q for others' files", number, g.Others)
		}
	}
}

// What frameworks look at counts what is in the container; two jobs on one GPU share it.
func TestGPUEnvironment(t *testing.T) {
	two := []Device{{ID: "GPU-3"}, {ID: "GPU-1"}}
	for _, tt := range []struct {
		g    *GPUGrant
		want map[string]string
	}{
		{nil, nil},
		{&GPUGrant{Vendor: NVIDIA, Devices: two[:1]}, map[string]string{"GPU_DEVICE_NUM": "0", "CUDA_VISIBLE_DEVICES": "0"}},
		{&GPUGrant{Vendor: NVIDIA, Devices: two}, map[string]string{"GPU_DEVICE_NUM": "0", "CUDA_VISIBLE_DEVICES": "0,1"}},
		{&GPUGrant{Vendor: NVIDIA, Devices: []Device{{ID: "MIG-a"}}}, map[string]string{"GPU_DEVICE_NUM": "0", "CUDA_VISIBLE_DEVICES": "MIG-a"}},
		{&GPUGrant{Vendor: AMD, Devices: two}, map[string]string{"GPU_DEVICE_NUM": "0", "ROCR_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "0,1"}},
		{&GPUGrant{Vendor: Intel, Devices: two[:1]}, map[string]string{"GPU_DEVICE_NUM": "0"}},
	} {
		if diff := cmp.Diff(tt.want, tt.g.environment()); diff != "" {
			t.Errorf("%+v: %s", tt.g, diff)
		}
	}
}

func TestGPUByHand(t *testing.T) {
	for _, tt := range []struct {
		args string
		gpus []GPU
		want string
	}{
		{"", nvidiaGPUs(2), "GPU-0"},
		{"--device 1", nvidiaGPUs(2), "GPU-1"},
		{"", []GPU{openCLGPU(Intel, 0), openCLGPU(AMD, 0)}, "0000:11:00.0"},
		{"", nil, "no GPU for this job: found no NVIDIA GPU on this computer (is its driver installed and loaded? try: nvidia-smi -L)"},
	} {
		in := testInput(t, "use_gpu = true")
		in.Init, in.Args, in.Host.GPUs = nil, strings.Fields(tt.args), tt.gpus
		j, err := Plan(in)
		got := fmt.Sprint(err)
		if err == nil {
			got = j.Container.GPU.Identity()
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestGPULost(t *testing.T) {
	g := &GPUGrant{Vendor: NVIDIA, Numbers: []int{3}, Devices: []Device{{ID: "GPU-1", Nodes: []Node{{Path: "/dev/nvidia1"}}}}}
	troubled := nvidiaGPUs(2)
	troubled[1].Trouble = "it is lost"
	for _, tt := range []struct {
		now  []GPU
		want string
	}{
		{nvidiaGPUs(2), "<nil>"},
		{[]GPU{{Vendor: NVIDIA, UUID: "GPU-known-now", Nodes: []Node{{Path: "/dev/nvidia1"}}}}, "<nil>"},
		{nvidiaGPUs(1), "no GPU for this job: BOINC's device 3 (GPU-1) was lost while the job ran (sudo dmesg says why)"},
		{troubled, "no GPU for this job: BOINC's device 3 (GPU-1) was lost while the job ran (sudo dmesg says why)"},
		{nil, "no GPU for this job: BOINC's device 3 (GPU-1) was lost while the job ran (sudo dmesg says why)"},
	} {
		if got := fmt.Sprint(g.Lost(tt.now)); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.now, got, tt.want)
		}
	}
}

func TestManyAssigned(t *testing.T) {
	in := testInput(t, "use_gpu = true")
	in.Init.GPUType, in.Init.GPUDeviceNum, in.Init.GPUUsage, in.Host.GPUs = "NVIDIA", 1, 3, nvidiaGPUs(4)
	j, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := "BOINC assigned 3 GPUs but names only 1: the job gets no more"; !slices.Contains(j.Notes, want) {
		t.Errorf("got %q, want %q", j.Notes, want)
	}
}

// Whatever client and command line say, a job gets GPUs of this computer, each once, or a reason.
func FuzzAssignedGPU(f *testing.F) {
	f.Add("NVIDIA", "--device 1 --device -3", 1, -1, 2.0, "1 2", "2 1")
	f.Add("ATI", "--device 0 -x", 0, 1, 0.5, "", "")
	f.Add("intel_gpu", "--device", -1, -1, 1e300, "1", "1 2 3")
	f.Add("NVIDIA", "--device 9", 7, 0, -1.0, "0", "9")
	f.Fuzz(func(t *testing.T, kind, args string, number, openCL int, usage float64, used, found string) {
		in := testInput(t, "use_gpu = true")
		in.Init.GPUType, in.Init.GPUDeviceNum, in.Init.GPUOpenCLDevIndex, in.Init.GPUUsage = kind, number, openCL, usage
		intel := openCLGPU(Intel, 2)
		intel.Index = 0
		in.Host.GPUs, in.Args = append(nvidiaGPUs(3), openCLGPU(AMD, 0), openCLGPU(AMD, 1), intel), strings.Fields(args)
		in.Init.HostInfo.Coprocs, in.Found = at(used), at(found)
		j, err := Plan(in)
		if err != nil {
			var c *ConfigError
			if !errors.Is(err, ErrNoGPU) && !errors.As(err, &c) {
				t.Errorf("got %v, want ErrNoGPU or a *ConfigError", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, d := range j.Container.GPU.Devices {
			if seen[d.ID] || len(d.Nodes) == 0 || slices.Contains(j.Container.GPU.Others, d.Nodes[0].Path) {
				t.Errorf("got %+v", j.Container.GPU)
			}
			seen[d.ID] = true
		}
		if len(seen) == 0 || len(seen)+len(j.Container.GPU.Others) != len(in.Host.GPUs) {
			t.Errorf("got %+v", j.Container.GPU)
		}
	})
}
