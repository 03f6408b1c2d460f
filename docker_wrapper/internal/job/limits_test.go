package job

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"boincdocker/boincapi"
)

func TestLimits(t *testing.T) {
	const gib = 1 << 30
	bounds := &boincapi.InitData{RscMemoryBound: 2 * gib, RscDiskBound: 5 * gib}
	usual := Limits{CPUs: 2, CPUShares: idleShares, Memory: 2.5 * gib, ShmSize: 64 << 20, Pids: 512, Disk: 5 * gib}
	with := func(set func(*Limits)) Limits { l := usual; set(&l); return l }
	const wide = "memory = \"8g\"\nshm_size = \"1g\"\npids = 10000\n"
	volunteer := func(bound float64) *boincapi.InitData { // has 8 GiB, and lets BOINC use 75 % of it
		return &boincapi.InitData{RscMemoryBound: bound, HostInfo: boincapi.HostInfo{MemBytes: 8 * gib},
			GlobalPrefs: boincapi.GlobalPrefs{RAMMaxUsedBusyPct: 50, RAMMaxUsedIdlePct: 75}}
	}
	for _, tt := range []struct {
		name, toml string
		d          *boincapi.InitData
		threads    float64
		signed     bool
		want       Limits
	}{
		{"bounds of the workunit", "", bounds, 2, true, usual},
		{"and of an unsigned job", "", bounds, 2, false, usual},
		{"a small job has a margin too", "", &boincapi.InitData{RscMemoryBound: 100 << 20}, 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 356 << 20, ShmSize: 64 << 20, Pids: 512}},
		{"no bounds", "", &boincapi.InitData{NoPriorityChange: true}, 0.5, true, Limits{CPUs: 0.5, Memory: 16 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"standalone", "", nil, 4, true, Limits{CPUs: 4, ShmSize: 64 << 20, Pids: 512}},
		{"many threads", "", nil, 63.5, true, Limits{CPUs: 63.5, ShmSize: 64 << 20, Pids: 2048}},
		{"signed and wider", wide, bounds, 2, true, with(func(l *Limits) { l.Memory, l.ShmSize, l.Pids = 8*gib, gib, 10000 })},
		{"unsigned and wider", wide, bounds, 2, false, with(func(l *Limits) { l.ShmSize = gib })},
		{"unsigned, with more shared memory than memory", "shm_size = \"64g\"", bounds, 2, false, with(func(l *Limits) { l.ShmSize = l.Memory })},
		{"unsigned and tighter", "memory = \"512m\"\nshm_size = \"1m\"\npids = 20", bounds, 2, false,
			with(func(l *Limits) { l.Memory, l.ShmSize, l.Pids = 512<<20, 1<<20, 20 })},
		{"unsigned without a bound", "memory = \"8g\"", &boincapi.InitData{}, 1, false,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 8 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"unsigned, without a bound, more than the host has", "memory = \"900g\"", &boincapi.InitData{}, 1, false,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 16 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"without a bound: what the volunteer lets BOINC use", "", volunteer(0), 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 6 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"a bound beyond that", "", volunteer(100 * gib), 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 6 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"a bound beyond all numbers", "", volunteer(1e300), 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 6 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"a bound that is infinite", "", volunteer(math.Inf(1)), 1, false,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 6 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"a bound that is no number", "", volunteer(math.NaN()), 1, false,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 6 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"disk beyond all numbers", "", &boincapi.InitData{RscDiskBound: 1e300}, 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 16 * gib, ShmSize: 64 << 20, Pids: 512, Disk: 1 << 62}},
		{"signed and beyond that", "memory = \"7g\"", volunteer(gib), 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 6 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"unsigned and below that", "memory = \"5g\"", volunteer(0), 1, false,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 5 * gib, ShmSize: 64 << 20, Pids: 512}},
		{"create_args win", "memory = \"1g\"\npids = 99\ncreate_args = \"--memory 3g --pids-limit 77 --cpus 1.5 --shm-size 2m\"", bounds, 2, true,
			with(func(l *Limits) { l.Memory, l.Pids, l.CPUs, l.ShmSize = 3*gib, 77, 1.5, 2<<20 })},
		{"signed with more processors", "create_args = \"--cpus 8\"", bounds, 2, true, with(func(l *Limits) { l.CPUs = 8 })},
		{"unsigned with more processors", "create_args = \"--cpus 8\"", bounds, 2, false, usual},
		{"unsigned with fewer processors", "create_args = \"--cpus 0.5\"", bounds, 2, false, with(func(l *Limits) { l.CPUs = 0.5 })},
		{"sizes in bytes", "memory = 1073741824", bounds, 2, true, with(func(l *Limits) { l.Memory = gib })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := limits(testInput(t, tt.toml).Config, tt.d, tt.threads, tt.signed, Host{Memory: 16 * gib})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestLimitsWhereNothingIsKnown(t *testing.T) {
	got := limits(testInput(t, "").Config, &boincapi.InitData{}, 1, false, Host{})
	want := Limits{CPUs: 1, CPUShares: idleShares, ShmSize: 64 << 20, Pids: 512}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestOption(t *testing.T) {
	for args, want := range map[string][]int{"": nil, "--device 1": {1}, "--device 0 --x --device 3": {0, 3}, "--device": nil, "--device x": nil,
		"--device --device 2": {2}, "-device 1": nil, "--device=1": nil, "--device -1": {-1}, "--device 99999999999999999999": nil} {
		if got := option(strings.Fields(args), "--device"); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", args, got, want)
		}
	}
}

func TestThreads(t *testing.T) {
	for _, tt := range []struct {
		args string
		init *boincapi.InitData
		want float64
	}{
		{"--nthreads 3", &boincapi.InitData{NCPUs: 8}, 3},
		{"--nthreads 3 --nthreads 4", &boincapi.InitData{NCPUs: 8}, 4},
		{"--nthreads 100000", &boincapi.InitData{NCPUs: 2.5}, 3},
		{"--nthreads 3 --nthreads 100000", &boincapi.InitData{NCPUs: 0.2}, 1},
		{"--nthreads 100000", &boincapi.InitData{}, 1},
		{"--nthreads -1", &boincapi.InitData{NCPUs: 2}, 2},
		{"--nthreads 20", nil, 20},
		{"--nthreads 0", &boincapi.InitData{NCPUs: 8}, 8},
		{"", &boincapi.InitData{NCPUs: 2.5}, 2.5},
		{"", &boincapi.InitData{NCPUs: 0.2}, 1},
		{"", &boincapi.InitData{}, 1},
		{"", nil, 16},
	} {
		if got := nthreads(Input{Args: strings.Fields(tt.args), Init: tt.init, Host: Host{CPUs: 16}}); got != tt.want {
			t.Errorf("%s, %+v: got %v, want %v", tt.args, tt.init, got, tt.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	const toml = `project_dir_mount = "/project"
create_args = "-e RAW=$NTHREADS -e OWN=raw -e EMPTY="
[env]
THREADS = "-j$NTHREADS"
PATHS = "$SLOT_DIR/in:$PROJECT_DIR/data"
DEVICE = "cuda:$GPU_DEVICE_NUM"
OTHER = "$HOME $$NTHREADS ${NTHREADS} $NTHREADSX"
OWN = "table"
ARGS = "mine"
UTF8 = "é=ü"
`
	in := testInput(t, toml)
	in.Args = []string{"--device", "2", "a b"}
	got := environment(in.Config, in, "/slot", 4, &GPUGrant{Vendor: NVIDIA, Devices: []Device{{ID: "GPU-2"}}})
	want := []string{"ARGS=mine", "BOINC_PROJECT_DIR=/project", "BOINC_SLOT_DIR=/slot", "CUDA_VISIBLE_DEVICES=0", "DEVICE=cuda:0", "EMPTY=", "GPU_DEVICE_NUM=0", "NTHREADS=4",
		"OTHER=$HOME $4 ${NTHREADS} 4X", "OWN=raw", "PATHS=/slot/in:/project/data", "RAW=$NTHREADS", "THREADS=-j4", "UTF8=é=ü"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	in = testInput(t, "")
	in.Args = []string{"--seed", "7"}
	if got, want := environment(in.Config, in, "", 1, nil), []string{"ARGS=--seed 7", "NTHREADS=1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
