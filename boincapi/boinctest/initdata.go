package boinctest

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"boincdocker/boincapi"
)

// WriteInitData writes an init_data.xml as the client does, bare ampersands included.
//
// Format: write_init_data_file in BOINC's lib/app_ipc.cpp, and the writers that it calls.
func WriteInitData(w io.Writer, d boincapi.InitData) error {
	x := &xmlWriter{}
	x.line("<app_init_data>")
	x.put("major_version", d.MajorVersion)
	x.put("minor_version", d.MinorVersion)
	x.put("release", d.Release)
	x.put("app_version", d.AppVersion)
	x.put("userid", d.UserID)
	x.put("teamid", d.TeamID)
	x.put("hostid", d.HostID)
	x.put("app_name", d.AppName)
	x.optional("plan_class", d.PlanClass)
	x.optional("symstore", d.SymStore)
	x.optional("acct_mgr_url", d.AcctMgrURL)
	if d.ProjectPreferences != "" {
		x.line("<project_preferences>" + d.ProjectPreferences + "</project_preferences>")
	}
	x.optional("team_name", escaped(d.TeamName))
	x.optional("user_name", escaped(d.UserName))
	x.put("project_dir", d.ProjectDir)
	x.put("boinc_dir", d.BoincDir)
	x.put("authenticator", d.Authenticator)
	x.put("wu_name", d.WUName)
	x.put("result_name", d.ResultName)
	if d.CommObjName != "" { // Windows
		x.put("comm_obj_name", d.CommObjName)
	} else {
		x.put("shm_key", d.ShmKey)
	}
	x.put("slot", d.Slot)
	x.put("client_pid", d.ClientPID)
	x.put("wu_cpu_time", d.WUCPUTime)
	x.put("starting_elapsed_time", d.StartingElapsedTime)
	x.put("using_sandbox", d.UsingSandbox)
	x.put("vm_extensions_disabled", d.VMExtensionsDisabled)
	x.put("user_total_credit", d.UserTotalCredit)
	x.put("user_expavg_credit", d.UserExpavgCredit)
	x.put("host_total_credit", d.HostTotalCredit)
	x.put("host_expavg_credit", d.HostExpavgCredit)
	x.put("resource_share_fraction", d.ResourceShareFraction)
	x.put("checkpoint_period", d.CheckpointPeriod)
	x.put("fraction_done_start", d.FractionDoneStart)
	x.put("fraction_done_end", d.FractionDoneEnd)
	x.put("gpu_type", d.GPUType)
	x.put("gpu_device_num", d.GPUDeviceNum)
	x.put("gpu_opencl_dev_index", d.GPUOpenCLDevIndex)
	x.put("gpu_usage", d.GPUUsage)
	x.put("ncpus", d.NCPUs)
	x.put("rsc_fpops_est", d.RscFpopsEst)
	x.put("rsc_fpops_bound", d.RscFpopsBound)
	x.put("rsc_memory_bound", d.RscMemoryBound)
	x.put("rsc_disk_bound", d.RscDiskBound)
	x.put("computation_deadline", d.ComputationDeadline)
	x.put("vbox_window", d.VboxWindow)
	x.put("no_priority_change", d.NoPriorityChange)
	x.put("process_priority", d.ProcessPriority)
	x.put("process_priority_special", d.ProcessPrioritySpecial)
	x.host(d.HostInfo)
	if p := d.ProxyInfo; p.HTTPServerName != "" || p.SOCKSServerName != "" {
		x.proxy(p)
	}
	x.prefs(d.GlobalPrefs)
	for _, name := range d.AppFiles {
		x.put("app_file", name)
	}
	x.line("</app_init_data>")
	_, err := w.Write(x.b.Bytes())
	return err
}

// escaped is text that the client escapes; other text it writes as it is.
type escaped string

type xmlWriter struct {
	b      bytes.Buffer
	indent string
}

func (x *xmlWriter) line(s string) { fmt.Fprintf(&x.b, "%s%s\n", x.indent, s) }

func (x *xmlWriter) put(tag string, value any) {
	switch v := value.(type) {
	case escaped:
		value = escape(string(v))
	case float64:
		value = fmt.Sprintf("%f", v)
	case bool:
		value = 0
		if v {
			value = 1
		}
	}
	x.line(fmt.Sprintf("<%s>%v</%s>", tag, value, tag))
}

// optional is put unless the text is empty.
func (x *xmlWriter) optional(tag string, value any) {
	if value != "" && value != escaped("") {
		x.put(tag, value)
	}
}

// flag is an element that stands for true by being there.
func (x *xmlWriter) flag(tag string, on bool) {
	if on {
		x.line("<" + tag + "/>")
	}
}

func (x *xmlWriter) block(tag, indent string, content func()) {
	x.line("<" + tag + ">")
	outer := x.indent
	x.indent += indent
	content()
	x.indent = outer
	x.line("</" + tag + ">")
}

// escape is xml_escape of BOINC's lib/parse.cpp: bytes above 127 become references to bytes.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '<':
			b.WriteString("&lt;")
		case c == '&':
			b.WriteString("&amp;")
		case strings.HasPrefix(s[i:], "]]>"):
			b.WriteString("]]&gt;")
			i += 2
		case c > 127, c == '\t', c == '\n', c == '\r':
			fmt.Fprintf(&b, "&#%d;", c)
		case c >= ' ':
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (x *xmlWriter) host(h boincapi.HostInfo) {
	x.block("host_info", "    ", func() {
		x.put("timezone", h.Timezone)
		x.put("domain_name", h.DomainName)
		x.put("ip_addr", h.IPAddr)
		x.put("host_cpid", h.CPID)
		x.put("p_ncpus", h.NCPUs)
		x.put("p_vendor", escaped(h.Vendor))
		x.put("p_model", escaped(h.Model))
		x.put("p_features", escaped(h.Features))
		x.put("p_fpops", h.FPOps)
		x.put("p_iops", h.IOps)
		x.put("p_membw", h.MemBW)
		x.put("p_calculated", h.Calculated)
		x.put("p_vm_extensions_disabled", h.VMExtensionsDisabled)
		x.put("m_nbytes", h.MemBytes)
		x.put("m_cache", h.CacheBytes)
		x.put("m_swap", h.SwapBytes)
		x.put("d_total", h.DiskTotal)
		x.put("d_free", h.DiskFree)
		x.put("os_name", escaped(h.OSName))
		x.put("os_version", escaped(h.OSVersion))
		x.put("n_usable_coprocs", h.UsableCoprocs)
		if h.HaveWSL {
			x.block("wsl", "    ", func() {
				for _, d := range h.WSL {
					x.distro(d)
				}
			})
		}
		x.engines(h.DockerVersion, h.DockerType, h.DockerComposeVersion, h.DockerComposeType)
		x.optional("product_name", escaped(h.ProductName))
		x.optional("mac_address", h.MACAddress)
		x.optional("virtualbox_version", escaped(h.VirtualboxVersion))
		x.block("coprocs", "    ", func() {
			for _, c := range h.Coprocs {
				x.coproc(c)
			}
		})
		for _, c := range h.OpenCLCPUs {
			x.block("opencl_cpu_prop", "    ", func() {
				x.put("platform_vendor", c.PlatformVendor)
				x.block("opencl_cpu_info", "    ", func() { x.opencl(c.Prop) })
			})
		}
	})
}

func (x *xmlWriter) engines(docker string, dockerType boincapi.DockerType, compose string, composeType boincapi.DockerType) {
	if docker != "" {
		x.put("docker_version", docker)
		x.put("docker_type", dockerType)
	}
	if compose != "" {
		x.put("docker_compose_version", compose)
		x.put("docker_compose_type", composeType)
	}
}

func (x *xmlWriter) distro(d boincapi.WSLDistro) {
	x.block("distro", "    ", func() {
		x.put("distro_name", escaped(d.DistroName))
		x.put("os_name", escaped(d.OSName))
		x.put("os_version", escaped(d.OSVersion))
		x.put("wsl_version", d.WSLVersion)
		if d.DistroVersion != 0 {
			x.put("distro_version", d.DistroVersion)
		}
		x.flag("is_default", d.IsDefault)
		x.flag("disallowed", d.Disallowed)
		x.optional("libc_version", d.LibcVersion)
		x.engines(d.DockerVersion, d.DockerType, d.DockerComposeVersion, d.DockerComposeType)
		for _, g := range d.GPUs {
			x.block("wsl_gpu", "    ", func() {
				x.put("name", escaped(g.Name))
				x.flag("has_cuda", g.HasCUDA)
				x.flag("has_opencl", g.HasOpenCL)
			})
		}
	})
}

func (x *xmlWriter) coproc(c boincapi.Coproc) {
	x.block(c.Tag, "   ", func() {
		switch c.Tag {
		case "coproc_cuda":
			x.put("count", c.Count)
			x.put("name", c.Name)
			x.put("available_ram", c.AvailableRAM)
			x.put("have_cuda", c.HaveCUDA)
			x.put("have_opencl", c.HaveOpenCL)
			x.put("peak_flops", c.PeakFlops)
			x.put("cudaVersion", c.CUDAVersion)
			x.put("drvVersion", c.DrvVersion)
			x.put("totalGlobalMem", c.TotalGlobalMem)
			x.put("sharedMemPerBlock", c.SharedMemPerBlock)
			x.put("regsPerBlock", c.RegsPerBlock)
			x.put("warpSize", c.WarpSize)
			x.put("memPitch", c.MemPitch)
			x.put("maxThreadsPerBlock", c.MaxThreadsPerBlock)
			x.put("maxThreadsDim", c.MaxThreadsDim)
			x.put("maxGridSize", c.MaxGridSize)
			x.put("clockRate", c.ClockRate)
			x.put("totalConstMem", c.TotalConstMem)
			x.put("major", c.Major)
			x.put("minor", c.Minor)
			x.put("textureAlignment", c.TextureAlignment)
			x.put("deviceOverlap", c.DeviceOverlap)
			x.put("multiProcessorCount", c.MultiProcessorCount)
		case "coproc_ati":
			x.put("count", c.Count)
			x.put("name", c.Name)
			x.put("available_ram", c.AvailableRAM)
			x.put("have_cal", c.HaveCAL)
			x.put("have_opencl", c.HaveOpenCL)
			x.put("peak_flops", c.PeakFlops)
			x.put("CALVersion", c.CALVersion)
			x.put("target", c.Target)
			x.put("localRAM", c.LocalRAM)
			x.put("uncachedRemoteRAM", c.UncachedRemoteRAM)
			x.put("cachedRemoteRAM", c.CachedRemoteRAM)
			x.put("engineClock", c.EngineClock)
			x.put("memoryClock", c.MemoryClock)
			x.put("wavefrontSize", c.WavefrontSize)
			x.put("numberOfSIMD", c.NumberOfSIMD)
			x.put("doublePrecision", c.DoublePrecision)
			x.put("pitch_alignment", c.PitchAlignment)
			x.put("surface_alignment", c.SurfaceAlignment)
			x.put("maxResource1DWidth", c.MaxResource1DWidth)
			x.put("maxResource2DWidth", c.MaxResource2DWidth)
			x.put("maxResource2DHeight", c.MaxResource2DHeight)
			x.flag("atirt_detected", c.AtiRTDetected)
			x.flag("amdrt_detected", c.AmdRTDetected)
		case "coproc_intel_gpu":
			x.put("count", c.Count)
			x.put("name", c.Name)
			x.put("available_ram", c.AvailableRAM)
			x.put("have_opencl", c.HaveOpenCL)
			x.put("peak_flops", c.PeakFlops)
		case "coproc_apple_gpu":
			x.put("count", c.Count)
			x.put("model", c.Name)
			x.put("available_ram", c.AvailableRAM)
			x.put("have_metal", c.HaveMetal)
			x.put("have_opencl", c.HaveOpenCL)
			x.put("ncores", c.NCores)
			x.put("metal_support", c.MetalSupport)
			x.put("peak_flops", c.PeakFlops)
		default:
			x.put("type", c.Type)
			x.put("count", c.Count)
			x.put("peak_flops", c.PeakFlops)
		}
		if c.OpenCL != nil {
			x.block("coproc_opencl", "   ", func() { x.opencl(*c.OpenCL) })
		}
		for _, p := range c.PCI {
			x.block("pci_info", "   ", func() {
				x.put("bus_id", p.BusID)
				x.put("device_id", p.DeviceID)
				x.put("domain_id", p.DomainID)
			})
		}
	})
}

func (x *xmlWriter) opencl(p boincapi.OpenCLProp) {
	x.put("name", p.Name)
	x.put("vendor", p.Vendor)
	x.put("vendor_id", p.VendorID)
	x.put("available", p.Available)
	x.put("half_fp_config", p.HalfFPConfig)
	x.put("single_fp_config", p.SingleFPConfig)
	x.put("double_fp_config", p.DoubleFPConfig)
	x.put("endian_little", p.EndianLittle)
	x.put("execution_capabilities", p.ExecutionCapabilities)
	x.put("extensions", p.Extensions)
	x.put("global_mem_size", p.GlobalMemSize)
	x.put("local_mem_size", p.LocalMemSize)
	x.put("max_clock_frequency", p.MaxClockFrequency)
	x.put("max_compute_units", p.MaxComputeUnits)
	x.put("nv_compute_capability_major", p.NVComputeCapabilityMajor)
	x.put("nv_compute_capability_minor", p.NVComputeCapabilityMinor)
	x.put("amd_simd_per_compute_unit", p.AMDSIMDPerComputeUnit)
	x.put("amd_simd_width", p.AMDSIMDWidth)
	x.put("amd_simd_instruction_width", p.AMDSIMDInstructionWidth)
	x.put("opencl_platform_version", p.PlatformVersion)
	x.put("opencl_device_version", p.DeviceVersion)
	x.put("opencl_driver_version", p.DriverVersion)
}

func (x *xmlWriter) proxy(p boincapi.ProxyInfo) {
	x.block("proxy_info", "    ", func() {
		x.flag("use_http_proxy", p.UseHTTPProxy)
		x.flag("use_socks_proxy", p.UseSOCKSProxy)
		x.flag("use_http_auth", p.UseHTTPAuth)
		x.put("socks_server_name", p.SOCKSServerName)
		x.put("socks_server_port", p.SOCKSServerPort)
		x.put("http_server_name", p.HTTPServerName)
		x.put("http_server_port", p.HTTPServerPort)
		x.put("socks5_user_name", escaped(p.SOCKS5UserName))
		x.put("socks5_user_passwd", escaped(p.SOCKS5UserPasswd))
		x.put("socks5_remote_dns", p.SOCKS5RemoteDNS)
		x.put("http_user_name", escaped(p.HTTPUserName))
		x.put("http_user_passwd", escaped(p.HTTPUserPasswd))
		x.put("no_proxy", p.NoProxy)
		x.put("no_autodetect", p.NoAutodetect)
	})
}

func (x *xmlWriter) prefs(p boincapi.GlobalPrefs) {
	x.block("global_preferences", "   ", func() {
		x.put("source_project", p.SourceProject)
		x.put("mod_time", p.ModTime)
		x.put("battery_charge_min_pct", p.BatteryChargeMinPct)
		x.put("battery_max_temperature", p.BatteryMaxTemperature)
		x.put("run_on_batteries", p.RunOnBatteries)
		x.put("run_if_user_active", p.RunIfUserActive)
		x.put("run_gpu_if_user_active", p.RunGPUIfUserActive)
		x.put("suspend_if_no_recent_input", p.SuspendIfNoRecentInput)
		x.put("suspend_cpu_usage", p.SuspendCPUUsage)
		x.put("start_hour", p.StartHour)
		x.put("end_hour", p.EndHour)
		x.put("net_start_hour", p.NetStartHour)
		x.put("net_end_hour", p.NetEndHour)
		x.put("leave_apps_in_memory", p.LeaveAppsInMemory)
		x.put("confirm_before_connecting", p.ConfirmBeforeConnecting)
		x.put("hangup_if_dialed", p.HangupIfDialed)
		x.put("dont_verify_images", p.DontVerifyImages)
		x.put("work_buf_min_days", p.WorkBufMinDays)
		x.put("work_buf_additional_days", p.WorkBufAdditionalDays)
		x.put("max_ncpus_pct", p.MaxNCPUsPct)
		x.put("niu_max_ncpus_pct", p.NIUMaxNCPUsPct)
		x.put("niu_cpu_usage_limit", p.NIUCPUUsageLimit)
		x.put("niu_suspend_cpu_usage", p.NIUSuspendCPUUsage)
		x.put("cpu_scheduling_period_minutes", p.CPUSchedulingPeriodMinutes)
		x.put("disk_interval", p.DiskInterval)
		x.put("disk_max_used_gb", p.DiskMaxUsedGB)
		x.put("disk_max_used_pct", p.DiskMaxUsedPct)
		x.put("disk_min_free_gb", p.DiskMinFreeGB)
		x.put("vm_max_used_pct", p.VMMaxUsedPct)
		x.put("ram_max_used_busy_pct", p.RAMMaxUsedBusyPct)
		x.put("ram_max_used_idle_pct", p.RAMMaxUsedIdlePct)
		x.put("idle_time_to_run", p.IdleTimeToRun)
		x.put("max_bytes_sec_up", p.MaxBytesSecUp)
		x.put("max_bytes_sec_down", p.MaxBytesSecDown)
		x.put("cpu_usage_limit", p.CPUUsageLimit)
		x.put("daily_xfer_limit_mb", p.DailyXferLimitMB)
		x.put("daily_xfer_period_days", p.DailyXferPeriodDays)
		x.put("override_file_present", p.OverrideFilePresent)
		x.put("network_wifi_only", p.NetworkWifiOnly)
		if p.MaxCPUs != 0 {
			x.put("max_cpus", p.MaxCPUs)
		}
		for _, d := range p.DayPrefs {
			x.block("day_prefs", "   ", func() {
				x.put("day_of_week", d.DayOfWeek)
				x.put("start_hour", d.StartHour)
				x.put("end_hour", d.EndHour)
				x.put("net_start_hour", d.NetStartHour)
				x.put("net_end_hour", d.NetEndHour)
			})
		}
	})
}
