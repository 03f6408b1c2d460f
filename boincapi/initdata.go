package boincapi

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
