package boincapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// InitData is what the client tells the app in init_data.xml, refreshed at each start and when
// preferences change. Strings are bytes as the client wrote them: on Windows paths are in the ANSI
// code page and mix separators.
//
// Format: write_init_data_file and parse_init_data_file in BOINC's lib/app_ipc.cpp.
type InitData struct {
	MajorVersion, MinorVersion, Release int // the client's version, such as 8 2 15
	AppVersion                          int // such as 101 for 1.01
	UserID, TeamID, HostID              int // in the project's database
	AppName                             string
	PlanClass                           string // of the app version, for BUDA jobs of the workunit; clients before 8.2 don't say
	SymStore                            string
	AcctMgrURL                          string
	ProjectPreferences                  string // what is between the tags, byte for byte
	TeamName, UserName                  string
	ProjectDir                          string // absolute; its last element is the escaped project URL
	BoincDir                            string // the client's data directory, absolute
	Authenticator                       string // the account key: a secret
	WUName, ResultName                  string
	ShmKey                              int    // Unix: -1 for boinc_mmap_file, else a System V key
	CommObjName                         string // Windows: the segment is shm_<CommObjName>
	Slot                                int
	ClientPID                           int     // 0 if the client did not say
	WUCPUTime                           float64 // s, up to the last checkpoint of earlier episodes
	StartingElapsedTime                 float64 // s, likewise
	UsingSandbox                        bool    // the app runs as another user than the client
	VMExtensionsDisabled                bool
	UserTotalCredit, UserExpavgCredit   float64
	HostTotalCredit, HostExpavgCredit   float64
	ResourceShareFraction               float64 // 0..1
	CheckpointPeriod                    float64 // s, "write to disk at most every"
	FractionDoneStart, FractionDoneEnd  float64 // the part of the job that this app is, 0 and 1 if all of it
	GPUType                             string  // "" or NVIDIA, ATI, intel_gpu, apple_gpu, or an OpenCL vendor
	GPUDeviceNum                        int     // first assigned instance, -1 for none
	GPUOpenCLDevIndex                   int     // -1 for none
	GPUUsage                            float64 // instances, may be a fraction
	NCPUs                               float64 // cores to use, may be a fraction
	RscFpopsEst, RscFpopsBound          float64 // floating-point operations
	RscMemoryBound, RscDiskBound        float64 // bytes
	ComputationDeadline                 float64 // Unix time
	VboxWindow                          bool
	NoPriorityChange                    bool
	ProcessPriority                     int // -1 unspecified, 0 lowest … 5 realtime
	ProcessPrioritySpecial              int // the same for GPU jobs and wrappers
	HostInfo                            HostInfo
	ProxyInfo                           ProxyInfo
	GlobalPrefs                         GlobalPrefs
	AppFiles                            []string // physical names of the app version's files, which are signed
}

// DockerType says which engine a client found.
type DockerType int

// Values of docker_type in BOINC's lib/common_defs.h.
const (
	NoDocker DockerType = 0
	Docker   DockerType = 1
	Podman   DockerType = 2
)

// HostInfo describes the computer as the client sees it.
//
// Format: HOST_INFO::write in BOINC's lib/hostinfo.cpp.
type HostInfo struct {
	Timezone                        int // s east of UTC
	DomainName, IPAddr, CPID        string
	NCPUs                           int // logical
	Vendor, Model, Features         string
	FPOps, IOps, MemBW              float64 // per s; bytes per s
	Calculated                      float64 // Unix time of the benchmark
	VMExtensionsDisabled            bool
	MemBytes, CacheBytes, SwapBytes float64
	DiskTotal, DiskFree             float64 // bytes
	OSName, OSVersion               string
	UsableCoprocs                   int
	HaveWSL                         bool        // there is a <wsl> block (Windows) or wsl_available (before 8.2)
	WSL                             []WSLDistro // Windows, in the order of the file
	DockerVersion                   string      // "" if the client found no working engine; never set on Windows
	DockerType                      DockerType
	DockerComposeVersion            string
	DockerComposeType               DockerType
	ProductName, MACAddress         string
	VirtualboxVersion               string
	Coprocs                         []Coproc
	OpenCLCPUs                      []OpenCLCPU
}

// WSLDistro is a Linux distribution under the Windows Subsystem for Linux.
//
// Format: WSL_DISTRO::write_xml in BOINC's lib/wslinfo.cpp.
type WSLDistro struct {
	DistroName            string
	OSName, OSVersion     string
	WSLVersion            int // 1 or 2
	DistroVersion         int // of the distribution boinc-buda-runner only
	IsDefault, Disallowed bool
	LibcVersion           string
	DockerVersion         string
	DockerType            DockerType
	DockerComposeVersion  string
	DockerComposeType     DockerType
	GPUs                  []WSLGPU // BOINC 8.3 and later
}

// WSLGPU is a GPU that can be used from within a WSL distribution.
type WSLGPU struct {
	Name               string
	HasCUDA, HasOpenCL bool
}

// Coproc describes all GPUs of one vendor; the client treats them as equal.
//
// Format: the write_xml functions of lib/coproc.cpp in BOINC.
type Coproc struct {
	Tag          string  // coproc_cuda, coproc_ati, coproc_intel_gpu, coproc_apple_gpu or coproc
	Type         string  // NVIDIA, ATI, intel_gpu, apple_gpu, or as written in a plain coproc
	Count        int     // instances
	Name         string  // model of the best one
	AvailableRAM float64 // bytes
	PeakFlops    float64
	HaveCUDA     bool
	HaveCAL      bool
	HaveOpenCL   bool
	HaveMetal    bool
	CUDAVersion  int // such as 12040 for 12.4
	DrvVersion   int // such as 55054
	Major, Minor int // compute capability

	TotalGlobalMem                         float64 // bytes
	SharedMemPerBlock                      float64
	RegsPerBlock, WarpSize                 int
	MemPitch                               float64
	MaxThreadsPerBlock                     int
	MaxThreadsDim, MaxGridSize             string // "x y z"
	ClockRate                              int
	TotalConstMem, TextureAlignment        float64
	DeviceOverlap, MultiProcessorCount     int
	CALVersion                             string
	Target                                 int
	LocalRAM                               float64 // MB
	UncachedRemoteRAM, CachedRemoteRAM     float64 // MB
	EngineClock, MemoryClock               int
	WavefrontSize, NumberOfSIMD            int
	DoublePrecision                        bool
	PitchAlignment, SurfaceAlignment       int
	MaxResource1DWidth, MaxResource2DWidth int
	MaxResource2DHeight                    int
	AtiRTDetected, AmdRTDetected           bool
	NCores, MetalSupport                   int

	OpenCL *OpenCLProp // nil without
	PCI    []PCIInfo   // one per instance, in the order of the device numbers; NVIDIA only
}

// PCIInfo is where on the bus one GPU is.
type PCIInfo struct {
	BusID, DeviceID, DomainID int
}

// OpenCLProp is what OpenCL says of a device.
//
// Format: OPENCL_DEVICE_PROP::write_xml in BOINC's lib/opencl_boinc.cpp.
type OpenCLProp struct {
	Name, Vendor                        string
	VendorID                            uint64
	Available                           bool
	HalfFPConfig, SingleFPConfig        uint64
	DoubleFPConfig                      uint64
	EndianLittle                        bool
	ExecutionCapabilities               uint64
	Extensions                          string
	GlobalMemSize, LocalMemSize         uint64 // bytes
	MaxClockFrequency, MaxComputeUnits  int
	NVComputeCapabilityMajor            int
	NVComputeCapabilityMinor            int
	AMDSIMDPerComputeUnit, AMDSIMDWidth int
	AMDSIMDInstructionWidth             int
	PlatformVersion                     string
	DeviceVersion, DriverVersion        string
}

// OpenCLCPU is a processor that OpenCL can use.
type OpenCLCPU struct {
	PlatformVendor string
	Prop           OpenCLProp
}

// ProxyInfo is the proxy that the client itself uses. Names and passwords are the volunteer's secrets.
//
// Format: PROXY_INFO::write in BOINC's lib/proxy_info.cpp.
type ProxyInfo struct {
	UseHTTPProxy, UseSOCKSProxy, UseHTTPAuth bool
	SOCKSServerName                          string
	SOCKSServerPort                          int
	HTTPServerName                           string
	HTTPServerPort                           int
	SOCKS5UserName, SOCKS5UserPasswd         string
	SOCKS5RemoteDNS                          bool
	HTTPUserName, HTTPUserPasswd             string
	NoProxy                                  string // hosts that are reached directly
	NoAutodetect                             bool
	AutodetectProtocol, AutodetectPort       int
}

// GlobalPrefs are the volunteer's computing preferences, in the units of the file: percentages are
// 0 to 100, hours 0 to 24. NIU means "when the computer is not in use".
//
// Format: GLOBAL_PREFS::write in BOINC's lib/prefs.cpp.
type GlobalPrefs struct {
	SourceProject                              string
	ModTime                                    float64 // Unix time
	BatteryChargeMinPct, BatteryMaxTemperature float64 // %, °C
	RunOnBatteries, RunIfUserActive            bool
	RunGPUIfUserActive                         bool
	SuspendIfNoRecentInput                     float64 // min
	SuspendCPUUsage                            float64 // %, 0 is never
	StartHour, EndHour                         float64
	NetStartHour, NetEndHour                   float64
	LeaveAppsInMemory                          bool
	ConfirmBeforeConnecting, HangupIfDialed    bool
	DontVerifyImages                           bool
	WorkBufMinDays, WorkBufAdditionalDays      float64
	MaxNCPUsPct                                float64 // %, 0 is no limit
	NIUMaxNCPUsPct, NIUCPUUsageLimit           float64 // %
	NIUSuspendCPUUsage                         float64 // %
	CPUSchedulingPeriodMinutes                 float64
	DiskInterval                               float64 // s
	DiskMaxUsedGB, DiskMaxUsedPct              float64
	DiskMinFreeGB                              float64
	VMMaxUsedPct                               float64
	RAMMaxUsedBusyPct, RAMMaxUsedIdlePct       float64
	IdleTimeToRun                              float64 // min
	MaxBytesSecUp, MaxBytesSecDown             float64 // 0 is no limit
	CPUUsageLimit                              float64 // %
	DailyXferLimitMB                           float64
	DailyXferPeriodDays                        int
	OverrideFilePresent, NetworkWifiOnly       bool
	MaxCPUs                                    int
	DayPrefs                                   []DayPrefs
}

// DayPrefs overrides the hours for one day of the week, 0 being Sunday.
type DayPrefs struct {
	DayOfWeek                int
	StartHour, EndHour       float64
	NetStartHour, NetEndHour float64
}

// maxInitData is far more than any client writes; it keeps a broken file from filling the memory.
const maxInitData = 16 << 20

// ParseInitData reads an init_data.xml. It takes what a client writes, bare ampersands and elements that are
// unknown here included, and also the app_file list, which BOINC's own reader skips.
//
// The client writes names as they are, and they are strangers'. A file in which one of them has brought tags is refused
// with a *ForgedError. A file that ends early is another error: the client may just be writing it.
func ParseInitData(r io.Reader) (InitData, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInitData))
	if err != nil {
		return InitData{}, err
	}
	s := newScanner(b)
	first, err := s.next()
	if err == nil && first.tag && strings.Contains(first.text, "?xml") {
		first, err = s.next()
	}
	if err != nil {
		return InitData{}, fmt.Errorf("look for <app_init_data>: %w", err)
	}
	if !first.tag || first.text != rootElement {
		return InitData{}, errors.New("the first tag is not <app_init_data>")
	}
	d := InitData{
		ShmKey: -1, GPUDeviceNum: -1, GPUOpenCLDevIndex: -1, FractionDoneEnd: 1,
		ProcessPriority: -1, ProcessPrioritySpecial: -1,
		ProxyInfo:   ProxyInfo{SOCKSServerPort: 80, HTTPServerPort: 80},
		GlobalPrefs: defaultPrefs,
	}
	if err := d.checkTags(s.rest); err != nil {
		return InitData{}, err
	}
	if err := d.read(s, bytes.HasSuffix(bytes.TrimRight(s.rest, blanks), []byte("</"+rootElement+">"))); err != nil {
		return InitData{}, err
	}
	return d, nil
}

func (d *InitData) fields() fields {
	return fields{
		"major_version":            &d.MajorVersion,
		"minor_version":            &d.MinorVersion,
		"release":                  &d.Release,
		"app_version":              &d.AppVersion,
		"userid":                   &d.UserID,
		"teamid":                   &d.TeamID,
		"hostid":                   &d.HostID,
		"app_name":                 &d.AppName,
		"plan_class":               &d.PlanClass,
		"symstore":                 &d.SymStore,
		"acct_mgr_url":             &d.AcctMgrURL,
		"project_preferences":      rawInto(&d.ProjectPreferences),
		"team_name":                twiceInto(&d.TeamName),
		"user_name":                twiceInto(&d.UserName),
		"project_dir":              &d.ProjectDir,
		"boinc_dir":                &d.BoincDir,
		"authenticator":            &d.Authenticator,
		"wu_name":                  &d.WUName,
		"result_name":              &d.ResultName,
		"shm_key":                  &d.ShmKey,
		"comm_obj_name":            &d.CommObjName,
		"slot":                     &d.Slot,
		"client_pid":               &d.ClientPID,
		"wu_cpu_time":              &d.WUCPUTime,
		"starting_elapsed_time":    &d.StartingElapsedTime,
		"using_sandbox":            &d.UsingSandbox,
		"vm_extensions_disabled":   &d.VMExtensionsDisabled,
		"user_total_credit":        &d.UserTotalCredit,
		"user_expavg_credit":       &d.UserExpavgCredit,
		"host_total_credit":        &d.HostTotalCredit,
		"host_expavg_credit":       &d.HostExpavgCredit,
		"resource_share_fraction":  &d.ResourceShareFraction,
		"checkpoint_period":        &d.CheckpointPeriod,
		"fraction_done_start":      &d.FractionDoneStart,
		"fraction_done_end":        &d.FractionDoneEnd,
		"gpu_type":                 &d.GPUType,
		"gpu_device_num":           &d.GPUDeviceNum,
		"gpu_opencl_dev_index":     &d.GPUOpenCLDevIndex,
		"gpu_usage":                &d.GPUUsage,
		"ncpus":                    &d.NCPUs,
		"rsc_fpops_est":            &d.RscFpopsEst,
		"rsc_fpops_bound":          &d.RscFpopsBound,
		"rsc_memory_bound":         &d.RscMemoryBound,
		"rsc_disk_bound":           &d.RscDiskBound,
		"computation_deadline":     &d.ComputationDeadline,
		"vbox_window":              &d.VboxWindow,
		"no_priority_change":       &d.NoPriorityChange,
		"process_priority":         &d.ProcessPriority,
		"process_priority_special": &d.ProcessPrioritySpecial,
		"host_info":                flatBlock(d.HostInfo.fields()),
		"proxy_info":               blockOf(d.ProxyInfo.fields()),
		"global_preferences":       blockOf(d.GlobalPrefs.fields()),
		"app_file":                 appendText(&d.AppFiles),
	}
}

// rawInto keeps what is between the tags as it is.
func rawInto(p *string) element {
	return func(s *scanner, tag string) (err error) {
		if strings.HasSuffix(tag, "/") {
			return nil
		}
		*p, err = s.rawUntil("</" + tag + ">")
		return err
	}
}

// twiceInto is for names that BOINC unescapes as any string, and then once more.
func twiceInto(p *string) element {
	return func(s *scanner, tag string) error {
		val, ok, err := s.value(tag)
		if ok {
			*p = unescape(val.string())
		}
		return err
	}
}

func appendText(list *[]string) element {
	return func(s *scanner, tag string) error {
		val, ok, err := s.value(tag)
		if name := val.string(); ok && name != "" {
			*list = append(*list, name)
		}
		return err
	}
}

func blockOf(f fields) element {
	return func(s *scanner, tag string) error { return s.block(tag, f) }
}

// flatBlock reads a block as BOINC reads host_info: what is within an unknown element counts as if
// that were not there.
func flatBlock(f fields) element {
	return func(s *scanner, tag string) error {
		return s.blockWith(tag, f, func(string) error { return nil })
	}
}

// appendBlock reads one of several blocks of the same kind.
func appendBlock[T any](list *[]T, of func(*T) fields) element {
	return func(s *scanner, tag string) error {
		var v T
		err := s.block(tag, of(&v))
		*list = append(*list, v)
		return err
	}
}

func (h *HostInfo) fields() fields {
	wsl := blockOf(fields{"distro": appendBlock(&h.WSL, (*WSLDistro).fields)})
	return fields{
		"timezone":                 &h.Timezone,
		"domain_name":              &h.DomainName,
		"ip_addr":                  &h.IPAddr,
		"host_cpid":                &h.CPID,
		"p_ncpus":                  &h.NCPUs,
		"p_vendor":                 &h.Vendor,
		"p_model":                  &h.Model,
		"p_features":               lowerInto(&h.Features),
		"p_fpops":                  magnitudeInto(&h.FPOps),
		"p_iops":                   magnitudeInto(&h.IOps),
		"p_membw":                  magnitudeInto(&h.MemBW),
		"p_calculated":             &h.Calculated,
		"p_vm_extensions_disabled": &h.VMExtensionsDisabled,
		"m_nbytes":                 &h.MemBytes,
		"m_cache":                  &h.CacheBytes,
		"m_swap":                   &h.SwapBytes,
		"d_total":                  &h.DiskTotal,
		"d_free":                   &h.DiskFree,
		"os_name":                  &h.OSName,
		"os_version":               &h.OSVersion,
		"n_usable_coprocs":         &h.UsableCoprocs,
		"wsl_available":            &h.HaveWSL,
		"wsl": element(func(s *scanner, tag string) error {
			h.HaveWSL = true
			return wsl(s, tag)
		}),
		"docker_version":         &h.DockerVersion,
		"docker_type":            &h.DockerType,
		"docker_compose_version": &h.DockerComposeVersion,
		"docker_compose_type":    &h.DockerComposeType,
		"product_name":           &h.ProductName,
		"mac_address":            &h.MACAddress,
		"virtualbox_version":     &h.VirtualboxVersion,
		"opencl_cpu_prop":        appendBlock(&h.OpenCLCPUs, (*OpenCLCPU).fields),
		"coprocs":                blockOf(coprocFields(&h.Coprocs)),
	}
}

func coprocFields(list *[]Coproc) fields {
	return fields{
		"coproc_cuda":      coprocInto(list, "NVIDIA"),
		"coproc_ati":       coprocInto(list, "ATI"),
		"coproc_intel_gpu": coprocInto(list, "intel_gpu"),
		"coproc_apple_gpu": coprocInto(list, "apple_gpu"),
		"coproc":           coprocInto(list, ""),
	}
}

// ParseCoprocInfo reads what the client has found when it started: each GPU by itself, in the order of the maker's
// device numbers, also those that it doesn't use. GPUs that only OpenCL has found are left out.
//
// Format: COPROCS::write_coproc_info_file in BOINC's client/gpu_detect.cpp.
func ParseCoprocInfo(r io.Reader) ([]Coproc, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInitData))
	if err != nil {
		return nil, err
	}
	s := newScanner(b)
	if first, err := s.next(); err != nil || !first.tag || first.text != "coprocs" {
		return nil, errors.New("the first tag is not <coprocs>")
	}
	var list []Coproc
	if err := s.block("coprocs", coprocFields(&list)); err != nil {
		return nil, err
	}
	return list, nil
}

func lowerInto(p *string) element {
	return func(s *scanner, tag string) error {
		err := s.store(p, tag)
		*p = strings.ToLower(*p)
		return err
	}
}

func magnitudeInto(p *float64) element {
	return func(s *scanner, tag string) error {
		err := s.store(p, tag)
		*p = max(*p, -*p)
		return err
	}
}

func (d *WSLDistro) fields() fields {
	return fields{
		"distro_name":            &d.DistroName,
		"os_name":                &d.OSName,
		"os_version":             &d.OSVersion,
		"name":                   &d.OSName, // clients before 8.2
		"version":                &d.OSVersion,
		"wsl_version":            &d.WSLVersion,
		"distro_version":         &d.DistroVersion,
		"is_default":             &d.IsDefault,
		"disallowed":             &d.Disallowed,
		"libc_version":           &d.LibcVersion,
		"docker_version":         &d.DockerVersion,
		"docker_type":            &d.DockerType,
		"docker_compose_version": &d.DockerComposeVersion,
		"docker_compose_type":    &d.DockerComposeType,
		"wsl_gpu":                appendBlock(&d.GPUs, (*WSLGPU).fields),
	}
}

func (g *WSLGPU) fields() fields {
	return fields{"name": &g.Name, "has_cuda": &g.HasCUDA, "has_opencl": &g.HasOpenCL}
}

func coprocInto(list *[]Coproc, kind string) element {
	return func(s *scanner, tag string) error {
		c := Coproc{Tag: strings.TrimSuffix(tag, "/"), Type: kind}
		err := s.block(tag, c.fields())
		*list = append(*list, c)
		return err
	}
}

func (c *Coproc) fields() fields {
	return fields{
		"type":                &c.Type,
		"count":               &c.Count,
		"name":                &c.Name,
		"model":               &c.Name, // coproc_apple_gpu
		"available_ram":       &c.AvailableRAM,
		"peak_flops":          &c.PeakFlops,
		"have_cuda":           &c.HaveCUDA,
		"have_cal":            &c.HaveCAL,
		"have_opencl":         &c.HaveOpenCL,
		"have_metal":          &c.HaveMetal,
		"cudaVersion":         &c.CUDAVersion,
		"drvVersion":          &c.DrvVersion,
		"major":               &c.Major,
		"minor":               &c.Minor,
		"totalGlobalMem":      &c.TotalGlobalMem,
		"sharedMemPerBlock":   &c.SharedMemPerBlock,
		"regsPerBlock":        &c.RegsPerBlock,
		"warpSize":            &c.WarpSize,
		"memPitch":            &c.MemPitch,
		"maxThreadsPerBlock":  &c.MaxThreadsPerBlock,
		"maxThreadsDim":       &c.MaxThreadsDim,
		"maxGridSize":         &c.MaxGridSize,
		"clockRate":           &c.ClockRate,
		"totalConstMem":       &c.TotalConstMem,
		"textureAlignment":    &c.TextureAlignment,
		"deviceOverlap":       &c.DeviceOverlap,
		"multiProcessorCount": &c.MultiProcessorCount,
		"CALVersion":          &c.CALVersion,
		"target":              &c.Target,
		"localRAM":            &c.LocalRAM,
		"uncachedRemoteRAM":   &c.UncachedRemoteRAM,
		"cachedRemoteRAM":     &c.CachedRemoteRAM,
		"engineClock":         &c.EngineClock,
		"memoryClock":         &c.MemoryClock,
		"wavefrontSize":       &c.WavefrontSize,
		"numberOfSIMD":        &c.NumberOfSIMD,
		"doublePrecision":     &c.DoublePrecision,
		"pitch_alignment":     &c.PitchAlignment,
		"surface_alignment":   &c.SurfaceAlignment,
		"maxResource1DWidth":  &c.MaxResource1DWidth,
		"maxResource2DWidth":  &c.MaxResource2DWidth,
		"maxResource2DHeight": &c.MaxResource2DHeight,
		"atirt_detected":      &c.AtiRTDetected,
		"amdrt_detected":      &c.AmdRTDetected,
		"ncores":              &c.NCores,
		"metal_support":       &c.MetalSupport,
		"pci_info":            appendBlock(&c.PCI, (*PCIInfo).fields),
		"coproc_opencl": element(func(s *scanner, tag string) error {
			c.OpenCL = new(OpenCLProp)
			return s.block(tag, c.OpenCL.fields())
		}),
	}
}

func (p *PCIInfo) fields() fields {
	return fields{"bus_id": &p.BusID, "device_id": &p.DeviceID, "domain_id": &p.DomainID}
}

func (p *OpenCLProp) fields() fields {
	return fields{
		"name":                        &p.Name,
		"vendor":                      &p.Vendor,
		"vendor_id":                   &p.VendorID,
		"available":                   &p.Available,
		"half_fp_config":              &p.HalfFPConfig,
		"single_fp_config":            &p.SingleFPConfig,
		"double_fp_config":            &p.DoubleFPConfig,
		"endian_little":               &p.EndianLittle,
		"execution_capabilities":      &p.ExecutionCapabilities,
		"extensions":                  &p.Extensions,
		"global_mem_size":             &p.GlobalMemSize,
		"local_mem_size":              &p.LocalMemSize,
		"max_clock_frequency":         &p.MaxClockFrequency,
		"max_compute_units":           &p.MaxComputeUnits,
		"nv_compute_capability_major": &p.NVComputeCapabilityMajor,
		"nv_compute_capability_minor": &p.NVComputeCapabilityMinor,
		"amd_simd_per_compute_unit":   &p.AMDSIMDPerComputeUnit,
		"amd_simd_width":              &p.AMDSIMDWidth,
		"amd_simd_instruction_width":  &p.AMDSIMDInstructionWidth,
		"opencl_platform_version":     &p.PlatformVersion,
		"opencl_device_version":       &p.DeviceVersion,
		"opencl_driver_version":       &p.DriverVersion,
	}
}

func (c *OpenCLCPU) fields() fields {
	f := c.Prop.fields()
	f["platform_vendor"] = &c.PlatformVendor
	f["opencl_cpu_info"] = blockOf(c.Prop.fields())
	return f
}

func (p *ProxyInfo) fields() fields {
	return fields{
		"use_http_proxy":      &p.UseHTTPProxy,
		"use_socks_proxy":     &p.UseSOCKSProxy,
		"use_http_auth":       &p.UseHTTPAuth,
		"socks_server_name":   &p.SOCKSServerName,
		"socks_server_port":   &p.SOCKSServerPort,
		"http_server_name":    &p.HTTPServerName,
		"http_server_port":    &p.HTTPServerPort,
		"socks5_user_name":    &p.SOCKS5UserName,
		"socks5_user_passwd":  &p.SOCKS5UserPasswd,
		"socks5_remote_dns":   &p.SOCKS5RemoteDNS,
		"http_user_name":      &p.HTTPUserName,
		"http_user_passwd":    &p.HTTPUserPasswd,
		"no_proxy":            &p.NoProxy,
		"no_autodetect":       &p.NoAutodetect,
		"autodetect_protocol": &p.AutodetectProtocol,
		"autodetect_port":     &p.AutodetectPort,
		// autodetect_server_name is left out: the client writes garbage there.
	}
}

// defaultPrefs are GLOBAL_PREFS::defaults of BOINC's lib/prefs.cpp.
var defaultPrefs = GlobalPrefs{
	BatteryChargeMinPct: 90, BatteryMaxTemperature: 40, RunIfUserActive: true, SuspendCPUUsage: 25,
	ConfirmBeforeConnecting: true, WorkBufMinDays: 0.1, WorkBufAdditionalDays: 0.5,
	NIUMaxNCPUsPct: 100, NIUCPUUsageLimit: 100, NIUSuspendCPUUsage: 50,
	CPUSchedulingPeriodMinutes: 60, DiskInterval: 60, DiskMaxUsedPct: 90, DiskMinFreeGB: 0.1,
	VMMaxUsedPct: 100, RAMMaxUsedBusyPct: 50, RAMMaxUsedIdlePct: 90, IdleTimeToRun: 3, CPUUsageLimit: 100,
}

func (p *GlobalPrefs) fields() fields {
	return fields{
		"source_project":                &p.SourceProject,
		"mod_time":                      &p.ModTime,
		"battery_charge_min_pct":        &p.BatteryChargeMinPct,
		"battery_max_temperature":       &p.BatteryMaxTemperature,
		"run_on_batteries":              &p.RunOnBatteries,
		"run_if_user_active":            &p.RunIfUserActive,
		"run_gpu_if_user_active":        &p.RunGPUIfUserActive,
		"suspend_if_no_recent_input":    &p.SuspendIfNoRecentInput,
		"suspend_cpu_usage":             &p.SuspendCPUUsage,
		"start_hour":                    &p.StartHour,
		"end_hour":                      &p.EndHour,
		"net_start_hour":                &p.NetStartHour,
		"net_end_hour":                  &p.NetEndHour,
		"leave_apps_in_memory":          &p.LeaveAppsInMemory,
		"confirm_before_connecting":     &p.ConfirmBeforeConnecting,
		"hangup_if_dialed":              &p.HangupIfDialed,
		"dont_verify_images":            &p.DontVerifyImages,
		"work_buf_min_days":             &p.WorkBufMinDays,
		"work_buf_additional_days":      &p.WorkBufAdditionalDays,
		"max_ncpus_pct":                 &p.MaxNCPUsPct,
		"niu_max_ncpus_pct":             &p.NIUMaxNCPUsPct,
		"niu_cpu_usage_limit":           &p.NIUCPUUsageLimit,
		"niu_suspend_cpu_usage":         &p.NIUSuspendCPUUsage,
		"cpu_scheduling_period_minutes": &p.CPUSchedulingPeriodMinutes,
		"disk_interval":                 &p.DiskInterval,
		"disk_max_used_gb":              &p.DiskMaxUsedGB,
		"disk_max_used_pct":             &p.DiskMaxUsedPct,
		"disk_min_free_gb":              &p.DiskMinFreeGB,
		"vm_max_used_pct":               &p.VMMaxUsedPct,
		"ram_max_used_busy_pct":         &p.RAMMaxUsedBusyPct,
		"ram_max_used_idle_pct":         &p.RAMMaxUsedIdlePct,
		"idle_time_to_run":              &p.IdleTimeToRun,
		"max_bytes_sec_up":              &p.MaxBytesSecUp,
		"max_bytes_sec_down":            &p.MaxBytesSecDown,
		"cpu_usage_limit":               &p.CPUUsageLimit,
		"daily_xfer_limit_mb":           &p.DailyXferLimitMB,
		"daily_xfer_period_days":        &p.DailyXferPeriodDays,
		"override_file_present":         &p.OverrideFilePresent,
		"network_wifi_only":             &p.NetworkWifiOnly,
		"max_cpus":                      &p.MaxCPUs,
		"day_prefs":                     appendBlock(&p.DayPrefs, (*DayPrefs).fields),
	}
}

func (p *DayPrefs) fields() fields {
	return fields{
		"day_of_week":    &p.DayOfWeek,
		"start_hour":     &p.StartHour,
		"end_hour":       &p.EndHour,
		"net_start_hour": &p.NetStartHour,
		"net_end_hour":   &p.NetEndHour,
	}
}
