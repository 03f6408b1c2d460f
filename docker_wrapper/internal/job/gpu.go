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
	UUID   string `json:"uuid,omitempty"`   // as the driver has it, "GPU-..."
	PCI    string `json:"pci,omitempty"`    // DOMAIN:BUS:DEVICE.FUNCTION, lower case hexadecimal
	Name   string `json:"name,omitempty"`   //
	Memory int64  `json:"memory,omitempty"` // bytes
	Driver string `json:"driver,omitempty"` // its name, or its version where it has one of its own

	CUDA        string `json:"cuda,omitempty"`         // the newest that the driver can, such as "12.4"
	ComputeMode string `json:"compute_mode,omitempty"` // "" is shared; "exclusive process" or "prohibited"

	MIG   bool       `json:"mig,omitempty"` // it is used by its instances alone
	Parts []Instance `json:"parts,omitempty"`

	Nodes []Node   `json:"nodes,omitempty"` // the first is its own; those that others of its kind use, too, come after
	CDI   []string `json:"cdi,omitempty"`   // its names in CDI specifications of this host, the best first

	// Trouble is why it can't be used, with the command that mends it; "" when it can.
	Trouble string `json:"trouble,omitempty"`
}

// Instance is a part of a GPU that stands for itself (NVIDIA's multi-instance GPU).
type Instance struct {
	UUID string   `json:"uuid,omitempty"` // "MIG-..."
	Name string   `json:"name"`           // "GPU:INSTANCE", by indexes
	CDI  []string `json:"cdi,omitempty"`
}

// Node is a device file.
type Node struct {
	Path      string `json:"path"`
	GID       int    `json:"gid"`                 // its group; -1 where there are none
	Everybody bool   `json:"everybody,omitempty"` // may read and write it
}

// GPUGrant is the GPUs that BOINC assigned to this job, and no others. In the container they are numbered from 0.
type GPUGrant struct {
	Vendor  string   `json:"vendor"`
	Numbers []int    `json:"numbers"` // BOINC's device numbers
	Devices []Device `json:"devices"` // in the same order

	// Others are device files of this computer's other GPUs, which the container mustn't see.
	Others []string `json:"others,omitempty"`

	// Prover is a static program of the host's that is run in the container to look for the devices; "" for none.
	Prover string `json:"-"`
}

// Device is one GPU of a grant, or a part of one.
type Device struct {
	ID    string   `json:"id"` // NVIDIA's: UUID, else index, as its tools take them; else PCI address
	CDI   []string `json:"cdi,omitempty"`
	Nodes []Node   `json:"nodes,omitempty"`
}

// Identity names the devices of a grant: a container with others is another's.
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

// Alone is the grant of this GPU and no other; ErrNoGPU says why it can't be used.
func (g GPU) Alone() (*GPUGrant, error) {
	d, err := deviceOf(g)
	if err != nil {
		return nil, err
	}
	return &GPUGrant{Vendor: g.Vendor, Numbers: []int{g.Index}, Devices: []Device{d}}, nil
}

// ErrNoGPU is wrapped when BOINC assigned no GPU, or one that isn't there. A driver may come back.
var ErrNoGPU = errors.New("no GPU for this job")

// Lost says which device of a grant is not among this computer's GPUs any more, or can't be used any more; nil when none.
func (g *GPUGrant) Lost(now []GPU) error {
	for i, d := range g.Devices {
		if !slices.ContainsFunc(now, func(have GPU) bool {
			device, err := deviceOf(have)
			// The UUID may have become known since.
			same := device.ID == d.ID || len(d.Nodes) > 0 && len(device.Nodes) > 0 && device.Nodes[0].Path == d.Nodes[0].Path
			return err == nil && have.Vendor == g.Vendor && same
		}) {
			return fmt.Errorf("%w: BOINC's device %d (%s) was lost while the job ran (sudo dmesg says why)", ErrNoGPU, g.Numbers[i], d.ID)
		}
	}
	return nil
}

// maker is what BOINC calls a maker's GPUs (lib/coproc.cpp), how OpenCL's name of the maker begins, and the command that shows
// them.
type maker struct{ vendor, boinc, title, openCL, look string }

var makers = []maker{
	{NVIDIA, "NVIDIA", "NVIDIA", "NVIDIA", "nvidia-smi -L"},
	{AMD, "ATI", "AMD", "Advanced Micro Devices", "ls -l /dev/kfd /dev/dri"},
	{Intel, "intel_gpu", "Intel", "Intel", "ls -l /dev/dri"},
}

// vendorOf is the maker of what BOINC assigned; "" when it is none that can be given to a container.
func vendorOf(gpuType string) string {
	for _, m := range makers {
		if gpuType == m.boinc || strings.HasPrefix(gpuType, m.openCL) {
			return m.vendor
		}
	}
	return ""
}

// planGPU finds the device that BOINC assigned: never another, never all. The arguments are given back as the container
// is to see them.
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
			for i := range n { // it names one, and means all
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
			return nil, nil, fmt.Errorf("%w: two of BOINC's devices, %v, are one GPU here, %s (restart the BOINC client, which counts them anew: sudo systemctl restart boinc-client)",
				ErrNoGPU, numbers, device.ID)
		}
		taken = append(taken, device.ID)
		g.Devices = append(g.Devices, device)
	}
	if !in.Config.Create.Privileged { // which this computer's owner allows to have all of them
		g.Others = others(g, in.Host.GPUs)
	}
	return g, args, nil
}

// count is how many GPUs of a maker's this computer has.
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

// handVendor is whose GPU a person gets who starts a job by hand.
func handVendor(gpus []GPU) string {
	for _, m := range makers {
		if slices.ContainsFunc(gpus, func(g GPU) bool { return g.Vendor == m.vendor }) {
			return m.vendor
		}
	}
	return NVIDIA
}

// assigned lists the GPUs that the client gave to this job. It writes the first into init_data.xml and
// appends --device for each to the command line, after the workunit's own, unless the application is
// new enough to do without (coproc_cmdline in BOINC's client/app_start.cpp). appended is how many of the last are
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

// gpuCount is how many GPUs the client gave; a part of one is one, which others use, too.
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

// renumbered are the arguments with the last appended --device as the container counts its GPUs.
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

// physical is the GPU that BOINC's client means by a number.
func (in Input) physical(vendor string, number int) (GPU, error) {
	var gpus []GPU
	for _, g := range in.Host.GPUs {
		if g.Vendor == vendor {
			gpus = append(gpus, g)
		}
	}
	if number < 0 {
		return GPU{}, fmt.Errorf("%w: device %d is none (the client's --device, or one by hand, counts from 0)", ErrNoGPU, number)
	}
	m := makers[slices.IndexFunc(makers, func(m maker) bool { return m.vendor == vendor })]
	if len(gpus) == 0 && in.Host.Blind {
		if vendor == NVIDIA {
			return GPU{Vendor: vendor, Index: number}, nil // the engine knows it or refuses
		}
		return GPU{}, fmt.Errorf("%w: GPUs of %s are only given to containers on Linux", ErrNoGPU, m.title)
	}
	if len(gpus) == 0 {
		return GPU{}, fmt.Errorf("%w: this computer shows no GPU of %s's (is its driver installed and loaded? try: %s)", ErrNoGPU, m.title, m.look)
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
	return GPU{}, fmt.Errorf("%w: BOINC assigned device %d, and this computer has %d of %s's (%s lists them; then restart the BOINC client: sudo systemctl restart boinc-client)",
		ErrNoGPU, number, len(gpus), m.title, m.look)
}

// position is where a device stands among its maker's. For OpenCL's devices, which the client counts over all that it
// is told of, OpenCL's own index counts within one platform (client/gpu_opencl.cpp).
func (in Input) position(vendor string, number int) int {
	if d := in.Init; d != nil && vendor != NVIDIA && d.GPUOpenCLDevIndex >= 0 && number == d.GPUDeviceNum {
		return d.GPUOpenCLDevIndex
	}
	return number
}

// address is where on the bus a device of BOINC's is; "" when the client doesn't say. CUDA, by which it counts, puts the
// fastest first, the driver the lowest address: the number alone may mean another GPU.
//
// What the client has found is in coproc_info.xml, in the order of its numbers (COPROCS::write_coproc_info_file).
// init_data.xml has only those that it uses, so a number is a place there only if it uses all.
func (in Input) address(vendor string, number int, gpus []GPU) (string, error) {
	if vendor != NVIDIA || in.Init == nil {
		return "", nil
	}
	used := addresses(in.Init.HostInfo.Coprocs)
	all := addresses(in.Found)
	stale := slices.ContainsFunc(used, func(a string) bool { return !slices.Contains(all, a) })
	if len(all) > 0 && !stale {
		if number >= len(all) {
			return "", fmt.Errorf("%w: BOINC assigned device %d, and it has found %d itself (restart the BOINC client: sudo systemctl restart boinc-client)", ErrNoGPU, number, len(all))
		}
		return all[number], nil
	}
	have := 0 // that the client may have found
	for _, g := range gpus {
		if g.Trouble == "" || slices.Contains(used, g.PCI) {
			have++
		}
	}
	switch {
	case len(used) == 0:
		return "", nil
	case len(used) == 1:
		return used[0], nil // it has no other
	case len(used) >= have && number < len(used):
		return used[number], nil
	case len(used) >= have:
		return "", fmt.Errorf("%w: BOINC assigned device %d, and it uses %d (restart the BOINC client: sudo systemctl restart boinc-client)", ErrNoGPU, number, len(used))
	}
	return "", fmt.Errorf("%w: BOINC uses %d of %d GPUs, and which of them is its device %d is in %s alone, which can't be read (ls -l %[5]s in BOINC's data directory)",
		ErrNoGPU, len(used), have, number, boincapi.CoprocInfoFile)
}

// addresses are those of NVIDIA's GPUs; none when one of them isn't known.
func addresses(coprocs []boincapi.Coproc) (list []string) {
	for _, c := range coprocs {
		for _, p := range c.PCI {
			if p == (boincapi.PCIInfo{}) { // found by OpenCL, which doesn't say
				return nil
			}
			list = append(list, fmt.Sprintf("%04x:%02x:%02x.0", p.DomainID, p.BusID, p.DeviceID))
		}
	}
	return list
}

// deviceOf is what of a GPU the container gets.
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
		// CUDA shows a program one instance, the first, and so it does to the client.
		p := g.Parts[0]
		return Device{ID: first(p.UUID, p.Name), CDI: p.CDI, Nodes: g.Nodes}, nil
	}
	id := first(g.PCI, strconv.Itoa(g.Index))
	if g.Vendor == NVIDIA {
		id = first(g.UUID, strconv.Itoa(g.Index))
	}
	return Device{ID: id, CDI: g.CDI, Nodes: g.Nodes}, nil
}

// others are the device files that other GPUs alone use.
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

// environment is what frameworks look at. All of them count what they see, from 0.
func (g *GPUGrant) environment() map[string]string {
	if g == nil {
		return nil
	}
	seen := make([]string, len(g.Devices))
	for i, d := range g.Devices {
		if seen[i] = strconv.Itoa(i); strings.HasPrefix(d.ID, "MIG-") {
			seen[i] = d.ID // CUDA's documentation knows no other names for them
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
