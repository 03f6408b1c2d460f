package job

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"boincdocker/boincapi"
)

// Makers of GPUs.
const (
	NVIDIA = "nvidia"
	AMD    = "amd"
	Intel  = "intel"
)

// GPU is a GPU of this host.
type GPU struct {
	Vendor string `json:"vendor"`           // NVIDIA, AMD or Intel
	Index  int    `json:"index"`            // in the order of the maker's driver, from 0 for each maker
	UUID   string `json:"uuid,omitempty"`   // as the driver writes it, "GPU-..."
	PCI    string `json:"pci,omitempty"`    // DOMAIN:BUS:DEVICE.FUNCTION, lower case hexadecimal
	Name   string `json:"name,omitempty"`   //
	Memory int64  `json:"memory,omitempty"` // bytes
	Driver string `json:"driver,omitempty"` // its version, or its name if it has no version of its own

	CUDA        string `json:"cuda,omitempty"`         // the newest version that the driver supports, such as "12.4"
	ComputeMode string `json:"compute_mode,omitempty"` // "" is shared; "exclusive process" or "prohibited"

	MIG   bool       `json:"mig,omitempty"` // in MIG mode: programs use its instances only
	Parts []Instance `json:"parts,omitempty"`

	Nodes []Node   `json:"nodes,omitempty"` // the GPU's own first, then those that it shares with others
	CDI   []string `json:"cdi,omitempty"`   // its names in the host's CDI specifications, best first

	// Trouble says why the GPU can't be used, with the command that repairs it; "" if it can be used.
	Trouble string `json:"trouble,omitempty"`
}

// Instance is a part of a GPU that programs use like a GPU (NVIDIA's multi-instance GPU, MIG).
type Instance struct {
	UUID string   `json:"uuid,omitempty"` // "MIG-..."
	Name string   `json:"name"`           // "GPU:INSTANCE", by indexes
	CDI  []string `json:"cdi,omitempty"`
}

// Node is a device file.
type Node struct {
	Path      string `json:"path"`
	GID       int    `json:"gid"`                 // its group; -1 on systems without groups
	Everybody bool   `json:"everybody,omitempty"` // every user may read and write it
}

// GPUGrant is the GPUs that BOINC assigned to this job, and no others. In the container they are numbered from 0.
type GPUGrant struct {
	Vendor  string   `json:"vendor"`
	Numbers []int    `json:"numbers"` // BOINC's device numbers
	Devices []Device `json:"devices"` // in the same order

	// Others are device files of this computer's other GPUs, which the container mustn't see.
	Others []string `json:"others,omitempty"`

	// Prover is the host path of a static program that looks for the devices from inside the container; "" for none.
	Prover string `json:"-"`
}

// Device is one GPU of a grant, or a part of one.
type Device struct {
	ID    string   `json:"id"` // for NVIDIA the UUID or else the index, as its tools take them; for others the PCI address or else the index
	CDI   []string `json:"cdi,omitempty"`
	Nodes []Node   `json:"nodes,omitempty"`
}

// Identity names the devices of a grant, to tell containers with different devices apart.
func (g *GPUGrant) Identity() string {
	if g == nil {
		return ""
	}
	ids := make([]string, len(g.Devices))
	for i, d := range g.Devices {
		ids[i] = d.ID
	}
	return strings.Join(ids, ",")
}

// Alone gives a grant of this GPU only. An error that wraps ErrNoGPU says why the GPU can't be used.
func (g GPU) Alone() (*GPUGrant, error) {
	d, err := deviceOf(g)
	if err != nil {
		return nil, err
	}
	return &GPUGrant{Vendor: g.Vendor, Numbers: []int{g.Index}, Devices: []Device{d}}, nil
}

// ErrNoGPU is wrapped if the assigned GPU can't be used now. That may be temporary.
var ErrNoGPU = errors.New("no GPU for this job")

// Lost gives an error for the first device of a grant that is gone or can't be used any more; nil if there is none.
func (g *GPUGrant) Lost(now []GPU) error {
	for i, d := range g.Devices {
		if !slices.ContainsFunc(now, func(have GPU) bool {
			device, err := deviceOf(have)
			// The UUID may be known only now, so the device file counts, too.
			same := device.ID == d.ID || len(d.Nodes) > 0 && len(device.Nodes) > 0 && device.Nodes[0].Path == d.Nodes[0].Path
			return err == nil && have.Vendor == g.Vendor && same
		}) {
			return fmt.Errorf("%w: BOINC's device %d (%s) was lost while the job ran (sudo dmesg says why)", ErrNoGPU, g.Numbers[i], d.ID)
		}
	}
	return nil
}

// maker holds BOINC's name for a maker's GPUs (lib/coproc.cpp), the beginning of OpenCL's name for the maker, and the command
// that lists the GPUs.
type maker struct{ vendor, boinc, title, openCL, look string }

var makers = []maker{
	{NVIDIA, "NVIDIA", "NVIDIA", "NVIDIA", "nvidia-smi -L"},
	{AMD, "ATI", "AMD", "Advanced Micro Devices", "ls -l /dev/kfd /dev/dri"},
	{Intel, "intel_gpu", "Intel", "Intel", "ls -l /dev/dri"},
}

// vendorOf gives the maker of the GPUs that BOINC assigned; "" if containers can't have them.
func vendorOf(gpuType string) string {
	for _, m := range makers {
		if gpuType == m.boinc || strings.HasPrefix(gpuType, m.openCL) {
			return m.vendor
		}
	}
	return ""
}

// planGPU finds the devices that BOINC assigned, and only these. It also gives the arguments with device numbers as the
// container counts them.
func planGPU(in Input) (*GPUGrant, []string, error) {
	numbers, appended := option(in.Args, "--device"), 0
	vendor := handVendor(in.Host.GPUs)
	if d := in.Init; d != nil {
		if d.GPUType == "" {
			return nil, nil, in.noneAssigned()
		}
		if vendor = vendorOf(d.GPUType); vendor == "" {
			return nil, nil, in.Config.Errorf("use_gpu", "GPUs of type %q can't be given to a container", d.GPUType)
		}
		numbers, appended = assigned(d, numbers)
		if len(numbers) == 0 {
			return nil, nil, in.noneAssigned()
		}
		if n := in.count(vendor); appended == 0 && n > 1 && gpuCount(d) == n {
			for i := range n { // the client names one and means all
				numbers = append(numbers, i)
			}
		}
	} else if appended = len(numbers); appended == 0 {
		numbers = []int{0}
	}
	args := renumbered(in.Args, numbers, appended)
	numbers = distinct(numbers)
	g := &GPUGrant{Vendor: vendor, Numbers: numbers}
	var taken []string
	for _, n := range numbers {
		have, err := in.physical(vendor, n)
		if err != nil {
			return nil, nil, err
		}
		device, err := deviceOf(have)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(taken, device.ID) {
			return nil, nil, fmt.Errorf("%w: BOINC's devices %v are the same GPU here, %s (restart the BOINC client, so that it counts them again: sudo systemctl restart boinc-client)",
				ErrNoGPU, numbers, device.ID)
		}
		taken = append(taken, device.ID)
		g.Devices = append(g.Devices, device)
	}
	if !in.Config.Create.Privileged { // a privileged container may see all GPUs
		g.Others = others(g, in.Host.GPUs)
	}
	return g, args, nil
}

// count gives the number of GPUs of one maker in this computer.
func (in Input) count(vendor string) (n int) {
	for _, g := range in.Host.GPUs {
		if g.Vendor == vendor {
			n++
		}
	}
	return n
}

func (in Input) noneAssigned() error {
	return in.Config.Errorf("use_gpu", "BOINC assigned no GPU to this job: its plan class must ask for one")
}

// handVendor gives the maker of the GPUs for a job that is started by hand.
func handVendor(gpus []GPU) string {
	for _, m := range makers {
		if slices.ContainsFunc(gpus, func(g GPU) bool { return g.Vendor == m.vendor }) {
			return m.vendor
		}
	}
	return NVIDIA
}

// assigned lists the GPUs that the client assigned to this job. The client writes the first into init_data.xml. It also
// appends --device for each to the command line, after the workunit's arguments, unless the application's API version is
// new (coproc_cmdline in BOINC's client/app_start.cpp). appended is the number of --device options, at the end, that are
// the client's.
func assigned(d *boincapi.InitData, devices []int) (numbers []int, appended int) {
	last := devices[max(0, len(devices)-gpuCount(d)):]
	first := d.GPUDeviceNum
	if first < 0 && len(last) == 0 {
		first = d.GPUOpenCLDevIndex
	}
	if first >= 0 && (len(last) == 0 || last[0] != first) {
		return []int{first}, 0
	}
	return last, len(last)
}

// gpuCount gives the number of GPUs that the client assigned. A fraction counts as one, which other jobs share.
func gpuCount(d *boincapi.InitData) int {
	const most = 64 // of one kind (MAX_COPROC_INSTANCES in lib/coproc.h)
	switch {
	case d == nil:
		return 0
	case d.GPUUsage > 1: // and no NaN
		return int(math.Ceil(min(d.GPUUsage, most)))
	default:
		return 1
	}
}

func distinct(numbers []int) (list []int) {
	for _, n := range numbers {
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// renumbered gives the arguments with the last appended --device options changed to the container's numbers.
func renumbered(args []string, numbers []int, appended int) []string {
	list, left := slices.Clone(args), appended
	for i := len(list) - 2; i >= 0 && left > 0; i-- {
		if n, err := strconv.Atoi(list[i+1]); list[i] == "--device" && err == nil {
			list[i+1] = strconv.Itoa(slices.Index(distinct(numbers), n))
			left--
		}
	}
	return list
}

// physical gives the GPU that the client means by a number.
func (in Input) physical(vendor string, number int) (GPU, error) {
	var gpus []GPU
	for _, g := range in.Host.GPUs {
		if g.Vendor == vendor {
			gpus = append(gpus, g)
		}
	}
	if number < 0 {
		return GPU{}, fmt.Errorf("%w: there is no device %d (--device counts from 0)", ErrNoGPU, number)
	}
	m := makers[slices.IndexFunc(makers, func(m maker) bool { return m.vendor == vendor })]
	if len(gpus) == 0 && in.Host.Blind {
		if vendor == NVIDIA {
			return GPU{Vendor: vendor, Index: number}, nil // the engine checks the index
		}
		return GPU{}, fmt.Errorf("%w: GPUs of %s are only given to containers on Linux", ErrNoGPU, m.title)
	}
	if len(gpus) == 0 {
		return GPU{}, fmt.Errorf("%w: found no %s GPU on this computer (is its driver installed and loaded? try: %s)", ErrNoGPU, m.title, m.look)
	}
	address, err := in.address(vendor, number, gpus)
	if err != nil {
		return GPU{}, err
	}
	if address != "" {
		for _, g := range gpus {
			if g.PCI == address {
				return g, nil
			}
		}
		return GPU{}, fmt.Errorf("%w: BOINC's device %d, at %s, isn't there any more (sudo dmesg says why; then restart the computer, or the BOINC client: sudo systemctl restart boinc-client)",
			ErrNoGPU, number, address)
	}
	for _, g := range gpus {
		if g.Index == in.position(vendor, number) {
			return g, nil
		}
	}
	return GPU{}, fmt.Errorf("%w: BOINC assigned device %d, but this computer has only %d from %s (%s lists them; then restart the BOINC client: sudo systemctl restart boinc-client)",
		ErrNoGPU, number, len(gpus), m.title, m.look)
}

// position gives the index of a device among those of its maker. The client numbers OpenCL's devices over all platforms, while
// OpenCL's own index counts within one platform (client/gpu_opencl.cpp).
func (in Input) position(vendor string, number int) int {
	if d := in.Init; d != nil && vendor != NVIDIA && d.GPUOpenCLDevIndex >= 0 && number == d.GPUDeviceNum {
		return d.GPUOpenCLDevIndex
	}
	return number
}

// address gives the PCI address of a device of BOINC's; "" if the client doesn't write it. The client counts in CUDA's order,
// fastest first, and the driver counts by address. So equal numbers may mean different GPUs.
//
// coproc_info.xml lists all GPUs that the client has found, in the order of its numbers (COPROCS::write_coproc_info_file).
// init_data.xml lists only those that it uses, so its order gives the numbers only if the client uses all.
func (in Input) address(vendor string, number int, gpus []GPU) (string, error) {
	if vendor != NVIDIA || in.Init == nil {
		return "", nil
	}
	used := addresses(in.Init.HostInfo.Coprocs)
	all := addresses(in.Found)
	stale := slices.ContainsFunc(used, func(a string) bool { return !slices.Contains(all, a) })
	if len(all) > 0 && !stale {
		if number >= len(all) {
			return "", fmt.Errorf("%w: BOINC assigned device %d, but it found only %d (restart the BOINC client: sudo systemctl restart boinc-client)", ErrNoGPU, number, len(all))
		}
		return all[number], nil
	}
	have := 0 // GPUs that the client may have found
	for _, g := range gpus {
		if g.Trouble == "" || slices.Contains(used, g.PCI) {
			have++
		}
	}
	switch {
	case len(used) == 0:
		return "", nil
	case len(used) == 1:
		return used[0], nil // the only one
	case len(used) >= have && number < len(used):
		return used[number], nil
	case len(used) >= have:
		return "", fmt.Errorf("%w: BOINC assigned device %d, but it uses only %d (restart the BOINC client: sudo systemctl restart boinc-client)", ErrNoGPU, number, len(used))
	}
	return "", fmt.Errorf("%w: BOINC uses %d of %d GPUs, only %[5]s says which one is its device %[4]d, and that file can't be read (ls -l %[5]s in BOINC's data directory)",
		ErrNoGPU, len(used), have, number, boincapi.CoprocInfoFile)
}

// addresses lists the PCI addresses of NVIDIA's GPUs; nil if one is unknown.
func addresses(coprocs []boincapi.Coproc) (list []string) {
	for _, c := range coprocs {
		for _, p := range c.PCI {
			if p == (boincapi.PCIInfo{}) { // found by OpenCL, which gives no address
				return nil
			}
			list = append(list, fmt.Sprintf("%04x:%02x:%02x.0", p.DomainID, p.BusID, p.DeviceID))
		}
	}
	return list
}

// deviceOf gives the device that a container gets for a GPU.
func deviceOf(g GPU) (Device, error) {
	title := fmt.Sprintf("GPU %d", g.Index)
	for _, more := range []string{g.Name, g.PCI} {
		if more != "" {
			title += ", " + more
		}
	}
	switch {
	case g.Trouble != "":
		return Device{}, fmt.Errorf("%w: %s: %s", ErrNoGPU, title, g.Trouble)
	case g.ComputeMode == "prohibited":
		return Device{}, fmt.Errorf("%w: %s: its compute mode lets no program use it (sudo nvidia-smi -i %d -c DEFAULT)", ErrNoGPU, title, g.Index)
	case g.MIG && len(g.Parts) == 0:
		return Device{}, fmt.Errorf("%w: %s: it is in MIG mode and has no instances (make some: sudo nvidia-smi mig -i %d -cgi 0 -C; or end it: sudo nvidia-smi -i %[3]d -mig 0)",
			ErrNoGPU, title, g.Index)
	case g.MIG:
		// CUDA shows a program, and so the client, only the first instance.
		p := g.Parts[0]
		return Device{ID: first(p.UUID, p.Name), CDI: p.CDI, Nodes: g.Nodes}, nil
	}
	id := first(g.PCI, strconv.Itoa(g.Index))
	if g.Vendor == NVIDIA {
		id = first(g.UUID, strconv.Itoa(g.Index))
	}
	return Device{ID: id, CDI: g.CDI, Nodes: g.Nodes}, nil
}

// others lists the device files of GPUs that aren't granted.
func others(g *GPUGrant, gpus []GPU) (list []string) {
	for _, other := range gpus {
		if len(other.Nodes) == 0 {
			continue
		}
		node := other.Nodes[0].Path
		if !slices.ContainsFunc(g.Devices, func(d Device) bool {
			return slices.ContainsFunc(d.Nodes, func(n Node) bool { return n.Path == node })
		}) {
			list = append(list, node)
		}
	}
	return list
}

// environment gives the variables by which frameworks find the GPUs. All of them count the visible GPUs from 0.
func (g *GPUGrant) environment() map[string]string {
	if g == nil {
		return nil
	}
	seen := make([]string, len(g.Devices))
	for i, d := range g.Devices {
		if seen[i] = strconv.Itoa(i); strings.HasPrefix(d.ID, "MIG-") {
			seen[i] = d.ID // CUDA's documentation knows no other names for instances
		}
	}
	list := strings.Join(seen, ",")
	env := map[string]string{envGPU: "0"}
	switch g.Vendor {
	case NVIDIA:
		env["CUDA_VISIBLE_DEVICES"] = list
	case AMD:
		env["ROCR_VISIBLE_DEVICES"], env["HIP_VISIBLE_DEVICES"] = list, list
	}
	return env
}
