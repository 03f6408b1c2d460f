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
	// The volunteer has 8 GiB, and lets BOINC use 75 % of them.
	volunteer := func(bound float64) *boincapi.InitData {
		return &boincapi.InitData{RscMemoryBound: bound, RscDiskBound: 5 * gib, HostInfo: boincapi.HostInfo{MemBytes: 8 * gib},
			GlobalPrefs: boincapi.GlobalPrefs{RAMMaxUsedBusyPct: 50, RAMMaxUsedIdlePct: 75}}
	}
	const prefs, whole = "the volunteer's preferences: 75 % of 8192 MB", "the volunteer's preferences: 100 % of 16384 MB"
	bounds := volunteer(2 * gib)
	usual := Limits{CPUs: 2, CPUShares: idleShares, Memory: 6 * gib, MemoryFrom: prefs, Reserved: 2 * gib, ShmSize: 64 << 20, Pids: 512, Disk: 5 * gib}
	with := func(set func(*Limits)) Limits { l := usual; set(&l); return l }
	reserved := func(n int64) Limits { return with(func(l *Limits) { l.Reserved = n }) }
	const wide = "memory = \"8g\"\nshm_size = \"1g\"\npids = 10000\n"
	for _, tt := range []struct {
		name, toml string
		d          *boincapi.InitData
		threads    float64
		signed     bool
		want       Limits
	}{
		{"the volunteer's limit, the workunit's reservation", "", bounds, 2, true, usual},
		{"and of an unsigned job", "", bounds, 2, false, usual},
		{"the bound that create_work fills in", "", volunteer(5e8), 2, true, reserved(5e8)},
		{"no bounds", "", &boincapi.InitData{NoPriorityChange: true}, 0.5, true, Limits{CPUs: 0.5, Memory: 16 * gib, MemoryFrom: whole, ShmSize: 64 << 20, Pids: 512}},
		{"standalone", "", nil, 4, true, Limits{CPUs: 4, ShmSize: 64 << 20, Pids: 512}},
		{"standalone with a limit", "memory = \"1g\"", nil, 4, true, Limits{CPUs: 4, Memory: gib, MemoryFrom: "memory in job.toml", ShmSize: 64 << 20, Pids: 512}},
		{"many threads", "", nil, 63.5, true, Limits{CPUs: 63.5, ShmSize: 64 << 20, Pids: 2048}},
		{"signed and wider", wide, bounds, 2, true, with(func(l *Limits) { l.ShmSize, l.Pids = gib, 10000 })},
		{"unsigned and wider", wide, bounds, 2, false, with(func(l *Limits) { l.ShmSize = gib })},
		{"unsigned, with more shared memory than memory", "shm_size = \"64g\"", bounds, 2, false, with(func(l *Limits) { l.ShmSize = l.Memory })},
		{"unsigned and tighter", "memory = \"512m\"\nshm_size = \"1m\"\npids = 20", bounds, 2, false,
			with(func(l *Limits) {
				l.Memory, l.MemoryFrom, l.Reserved, l.ShmSize, l.Pids = 512<<20, "memory in job.toml", 512<<20, 1<<20, 20
			})},
		{"more than the bound", "memory = \"4g\"", bounds, 2, false, with(func(l *Limits) { l.Memory, l.MemoryFrom = 4*gib, "memory in job.toml" })},
		{"no bound", "", volunteer(0), 2, true, reserved(0)},
		{"a bound beyond the limit", "", volunteer(100 * gib), 2, true, reserved(6 * gib)},
		{"a bound beyond all numbers", "", volunteer(1e300), 2, true, reserved(6 * gib)},
		{"a bound that is infinite", "", volunteer(math.Inf(1)), 2, false, reserved(6 * gib)},
		{"a bound that is no number", "", volunteer(math.NaN()), 2, false, reserved(0)},
		{"a bound that engines refuse as a reservation", "", volunteer(1 << 20), 2, false, reserved(0)},
		{"disk beyond all numbers", "", &boincapi.InitData{RscDiskBound: 1e300}, 1, true,
			Limits{CPUs: 1, CPUShares: idleShares, Memory: 16 * gib, MemoryFrom: whole, ShmSize: 64 << 20, Pids: 512, Disk: 1 << 62}},
		{"create_args win", "memory = \"1g\"\npids = 99\ncreate_args = \"--memory 3g --pids-limit 77 --cpus 1.5 --shm-size 2m\"", bounds, 2, true,
			with(func(l *Limits) {
				l.Memory, l.MemoryFrom, l.Pids, l.CPUs, l.ShmSize = 3*gib, "create_args in job.toml", 77, 1.5, 2<<20
			})},
		{"signed with more processors", "create_args = \"--cpus 8\"", bounds, 2, true, with(func(l *Limits) { l.CPUs = 8 })},
		{"unsigned with more processors", "create_args = \"--cpus 8\"", bounds, 2, false, usual},
		{"unsigned with fewer processors", "create_args = \"--cpus 0.5\"", bounds, 2, false, with(func(l *Limits) { l.CPUs = 0.5 })},
		{"sizes in bytes", "memory = 4294967296", bounds, 2, true, with(func(l *Limits) { l.Memory, l.MemoryFrom = 4*gib, "memory in job.toml" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := limits(testInput(t, tt.toml).Config, tt.d, tt.threads, tt.signed, Policy{}, Host{Memory: 16 * gib})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// The owner's rule lowers the limit and never raises it.
func TestOwnersMemory(t *testing.T) {
	const gib = 1 << 30
	d := &boincapi.InitData{HostInfo: boincapi.HostInfo{MemBytes: 8 * gib}, GlobalPrefs: boincapi.GlobalPrefs{RAMMaxUsedIdlePct: 50}}
	for _, tt := range []struct{ toml, owner, want string }{
		{"", `memory = "2g"`, "2048 MB (memory in the owner's docker_wrapper.toml)"},
		{"", `memory = "6g"`, "4096 MB (the volunteer's preferences: 50 % of 8192 MB)"},
		{`memory = "3g"`, `memory = "2g"`, "2048 MB (memory in the owner's docker_wrapper.toml)"},
		{`memory = "1g"`, `memory = "2g"`, "1024 MB (memory in job.toml)"},
	} {
		p, err := ParsePolicy(PolicyFile, []byte(tt.owner))
		if err != nil {
			t.Fatal(err)
		}
		if got := limits(testInput(t, tt.toml).Config, d, 1, true, p, Host{}).MemoryLimit(); got != tt.want {
			t.Errorf("job %q, owner %q: got %s, want %s", tt.toml, tt.owner, got, tt.want)
		}
	}
}

func TestLimitsWhereTheMemoryIsNotKnown(t *testing.T) {
	const why = "the workunit's rsc_memory_bound, as this computer's memory isn't known"
	for _, tt := range []struct {
		toml   string
		bound  float64
		signed bool
		want   bound
	}{
		{"", 0, false, bound{}},
		{"", 1 << 30, true, bound{5 << 28, why}},
		{"", 100 << 20, true, bound{356 << 20, why}},
		{`memory = "4g"`, 1 << 30, false, bound{5 << 28, why}},
		{`memory = "4g"`, 1 << 30, true, bound{4 << 30, "memory in job.toml"}},
		{`memory = "1g"`, 1 << 30, false, bound{1 << 30, "memory in job.toml"}},
	} {
		l := limits(testInput(t, tt.toml).Config, &boincapi.InitData{RscMemoryBound: tt.bound}, 1, tt.signed, Policy{}, Host{})
		if got := (bound{l.Memory, l.MemoryFrom}); got != tt.want {
			t.Errorf("%s, bound %v, signed %t: got %v, want %v", tt.toml, tt.bound, tt.signed, got, tt.want)
		}
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
	in.Args = nil
	if got, want := environment(in.Config, in, "", 1, nil), []string{"NTHREADS=1"}; !slices.Equal(got, want) {
		t.Errorf("without arguments: got %q, want %q", got, want)
	}
}
