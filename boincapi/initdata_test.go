package boincapi

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func readVector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseInitDataVector(t *testing.T) {
	d, err := ParseInitData(bytes.NewReader(readVector(t, "init_data_example_unix.xml")))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"client version", [3]int{d.MajorVersion, d.MinorVersion, d.Release}, [3]int{8, 2, 15}},
		{"team name", d.TeamName, "a]]>b\tc"},
		{"user name, bytes", d.UserName, "Jos\xc3\xa9 <&> x"},
		{"bare ampersand", d.BoincDir, "/var/lib/boinc R&D"},
		{"preferences as they are", d.ProjectPreferences, "\n<max_jobs>2</max_jobs>\n"},
		{"authenticator", d.Authenticator, "0123456789abcdef"},
		{"shm key", d.ShmKey, -1},
		{"wu_cpu_time", d.WUCPUTime, 12.5},
		{"no GPU", d.GPUDeviceNum, -1},
		{"cores", d.NCPUs, 4.0},
		{"deadline", d.ComputationDeadline, 1767225600.5},
		{"processor", d.HostInfo.Model, "Intel(R) Core\xe2\x84\xa2 <i7>"},
		{"docker version", d.HostInfo.DockerVersion, "4.9.3"},
		{"docker type", d.HostInfo.DockerType, Podman},
		{"memory", d.HostInfo.MemBytes, 16e9},
		{"proxy in use", d.ProxyInfo.UseHTTPProxy, true},
		{"SOCKS proxy not in use", d.ProxyInfo.UseSOCKSProxy, false},
		{"proxy", d.ProxyInfo.HTTPServerName, "proxy.example"},
		{"proxy port", d.ProxyInfo.HTTPServerPort, 3128},
		{"preference", d.GlobalPrefs.RAMMaxUsedIdlePct, 90.0},
		{"app files", d.AppFiles, []string{"docker_wrapper_22"}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %#v, want %#v", c.what, c.got, c.want)
		}
	}
}

func TestParseInitDataGrammar(t *testing.T) {
	type check = func(InitData) any
	for _, c := range []struct {
		name string
		body string
		got  check
		want any
	}{
		{"octal number", "<slot>010</slot>", func(d InitData) any { return d.Slot }, 8},
		{"hexadecimal number", "<slot>0x10</slot>", func(d InitData) any { return d.Slot }, 16},
		{"negative number", "<teamid>-7</teamid>", func(d InitData) any { return d.TeamID }, -7},
		{"number with a tail", "<slot>8x</slot>", func(d InitData) any { return d.Slot }, 0},
		{"number in Go's notation only", "<slot>1_0</slot>", func(d InitData) any { return d.Slot }, 0},
		{"empty number", "<gpu_device_num></gpu_device_num>", func(d InitData) any { return d.GPUDeviceNum }, 0},
		{"infinite number", "<ncpus>inf</ncpus>", func(d InitData) any { return d.NCPUs }, 0.0},
		{"no number", "<ncpus>nan</ncpus>", func(d InitData) any { return d.NCPUs }, 0.0},
		{"exponent", "<ncpus>1.5e1</ncpus>", func(d InitData) any { return d.NCPUs }, 15.0},
		{"bool by number", "<vbox_window>2</vbox_window>", func(d InitData) any { return d.VboxWindow }, true},
		{"bool by tag", "<vbox_window/>", func(d InitData) any { return d.VboxWindow }, true},
		{"bool by spaced tag", "<vbox_window />", func(d InitData) any { return d.VboxWindow }, true},
		{"empty bool is no answer", "<vbox_window></vbox_window>", func(d InitData) any { return d.VboxWindow }, false},
		{"false", "<vbox_window>0</vbox_window>", func(d InitData) any { return d.VboxWindow }, false},
		{"blanks around text", "<app_name>\n a b \t</app_name>", func(d InitData) any { return d.AppName }, "a b"},
		{"attributes are dropped", `<app_name lang="x">a</app_name>`, func(d InitData) any { return d.AppName }, "a"},
		{"empty element", "<app_name/>", func(d InitData) any { return d.AppName }, ""},
		{"references", "<app_name>&lt;&gt;&quot;&apos;&amp;&#65;&#xA;</app_name>", func(d InitData) any { return d.AppName }, "<>\"'&A\n"},
		{"what is no reference", "<app_name>&#256;&#x41;&nbsp;&#;&</app_name>", func(d InitData) any { return d.AppName }, "&#256;&#x41;&nbsp;&#;&"},
		{"unescaped once", "<app_name>&amp;lt;</app_name>", func(d InitData) any { return d.AppName }, "&lt;"},
		{"user name is unescaped twice", "<user_name>&amp;lt;</user_name>", func(d InitData) any { return d.UserName }, "<"},
		{"team name is unescaped twice", "<team_name>&amp;#65;</team_name>", func(d InitData) any { return d.TeamName }, "A"},
		{"unknown elements with known ones in them", "<new><slot>9</slot><new2><slot>8</slot></new2></new><slot>3</slot>", func(d InitData) any { return d.Slot }, 3},
		{"unknown element within itself", "<new><new></new><slot>9</slot></new><slot>3</slot>", func(d InitData) any { return d.Slot }, 3},
		{"unknown element in host_info is looked through", "<host_info><new><p_ncpus>4</p_ncpus></new></host_info>", func(d InitData) any { return d.HostInfo.NCPUs }, 4},
		{"unknown element in proxy_info is not", "<proxy_info><new><http_server_port>4</http_server_port></new></proxy_info>", func(d InitData) any { return d.ProxyInfo.HTTPServerPort }, 80},
		{"processor features are lower case", "<host_info><p_features>SSE AVX</p_features></host_info>", func(d InitData) any { return d.HostInfo.Features }, "sse avx"},
		{"negative benchmark", "<host_info><p_fpops>-3</p_fpops></host_info>", func(d InitData) any { return d.HostInfo.FPOps }, 3.0},
		{"preferences with tags of our own", "<project_preferences>\n<slot>9</slot> &amp;</project_preferences>", func(d InitData) any { return [2]any{d.Slot, d.ProjectPreferences} }, [2]any{0, "\n<slot>9</slot> &amp;"}},
		{"app files", "<app_file>a b</app_file><app_file>c</app_file><app_file></app_file>", func(d InitData) any { return d.AppFiles }, []string{"a b", "c"}},
		{"long string", "<wu_name>" + strings.Repeat("x", 5000) + "</wu_name>", func(d InitData) any { return len(d.WUName) }, 5000},
		{"default end", "", func(d InitData) any { return d.FractionDoneEnd }, 1.0},
		{"default preference", "", func(d InitData) any { return d.GlobalPrefs.CPUUsageLimit }, 100.0},
		{"pci of each instance",
			"<host_info><coprocs><coproc_cuda><count>2</count><name>RTX</name><have_cuda>1</have_cuda><cudaVersion>12040</cudaVersion>" +
				"<coproc_opencl><name>ocl</name><vendor_id>4318</vendor_id></coproc_opencl>" +
				"<pci_info><bus_id>1</bus_id><device_id>0</device_id><domain_id>0</domain_id></pci_info>" +
				"<pci_info><bus_id>65</bus_id></pci_info></coproc_cuda><coproc><type>odd</type></coproc></coprocs></host_info>",
			func(d InitData) any { return d.HostInfo.Coprocs },
			[]Coproc{
				{Tag: "coproc_cuda", Type: "NVIDIA", Count: 2, Name: "RTX", HaveCUDA: true, CUDAVersion: 12040,
					OpenCL: &OpenCLProp{Name: "ocl", VendorID: 4318}, PCI: []PCIInfo{{BusID: 1}, {BusID: 65}}},
				{Tag: "coproc", Type: "odd"},
			}},
		{"distributions",
			"<host_info><wsl><distro><distro_name>boinc-buda-runner</distro_name><wsl_version>2</wsl_version><is_default/>" +
				"<docker_version>5.0</docker_version><docker_type>2</docker_type><wsl_gpu><name>g</name><has_cuda/></wsl_gpu></distro></wsl></host_info>",
			func(d InitData) any { return d.HostInfo.WSL },
			[]WSLDistro{{DistroName: "boinc-buda-runner", WSLVersion: 2, IsDefault: true, DockerVersion: "5.0", DockerType: Podman,
				GPUs: []WSLGPU{{Name: "g", HasCUDA: true}}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := ParseInitData(strings.NewReader("<app_init_data>\n" + c.body + "\n</app_init_data>\n"))
			if err != nil {
				t.Fatal(err)
			}
			if got := c.got(d); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %#v, want %#v", got, c.want)
			}
		})
	}
}

func TestParseInitDataRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "look for <app_init_data>: unexpected end of file"},
		{"another file", "<client_state></client_state>", "the first tag is not <app_init_data>"},
		{"text first", "x<app_init_data></app_init_data>", "the first tag is not <app_init_data>"},
		{"no end", "<app_init_data><slot>1</slot>", "unexpected end of file"},
		{"NUL before the end", "<app_init_data>\x00</app_init_data>", "unexpected end of file"},
		{"half an element", "<app_init_data><wu_name>ab", "unexpected end of file"},
		{"half a tag", "<app_init_data><wu_na", "unexpected end of file"},
		{"half of project preferences", "<app_init_data><plan_class>p</plan_class><project_preferences>\n<a>", "unexpected end of file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseInitData(strings.NewReader(c.text))
			if err == nil || err.Error() != c.want {
				t.Errorf("got error %v, want %s", err, c.want)
			}
		})
	}
	if _, err := ParseInitData(strings.NewReader("<?xml version='1.0'?>\n<app_init_data>\n</app_init_data>")); err != nil {
		t.Errorf("with an XML declaration: got %v, want no error", err)
	}
}

func FuzzParseInitData(f *testing.F) {
	f.Add(readVector(f, "init_data_example_unix.xml"))
	f.Add([]byte("<app_init_data><a><b></a></b><![CDATA[<!-- ]]><user_name>&amp;#1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseInitData(bytes.NewReader(b))
		if err != nil && !reflect.DeepEqual(d, InitData{}) {
			t.Errorf("got data with error %v", err)
		}
		if strings.ContainsRune(d.WUName+d.AppName, 0) && !bytes.Contains(b, []byte("&#")) {
			t.Errorf("got text from behind a NUL: %q", d.WUName+d.AppName)
		}
	})
}

// What the client has found, also what it doesn't use, in the order of its numbers.
func TestParseCoprocInfo(t *testing.T) {
	const text = `    <coprocs>
    <have_cuda>1</have_cuda>
    <cuda_version>12040</cuda_version>
   <coproc_ati>
   <count>1</count>
   <name>gfx90a</name>
   </coproc_ati>
   <coproc_cuda>
   <count>1</count>
   <name>slow & old</name>
<pci_info>
   <bus_id>65</bus_id>
   <device_id>0</device_id>
   <domain_id>1</domain_id>
</pci_info>
   </coproc_cuda>
   <coproc_cuda>
   <count>1</count>
   <name>fast</name>
<pci_info>
   <bus_id>1</bus_id>
   <device_id>0</device_id>
   <domain_id>0</domain_id>
</pci_info>
   </coproc_cuda>
   <nvidia_opencl>
      <name>fast</name>
      <device_num>1</device_num>
   </nvidia_opencl>
<warning>NVIDIA library reports 2 GPUs</warning>
    </coprocs>
`
	got, err := ParseCoprocInfo(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Type != "ATI" || got[1].Name != "slow & old" || len(got[1].PCI) != 1 || got[1].PCI[0] != (PCIInfo{BusID: 65, DomainID: 1}) ||
		got[2].PCI[0] != (PCIInfo{BusID: 1}) {
		t.Errorf("got %+v", got)
	}
	for _, bad := range []string{"", "<app_init_data></app_init_data>", text[:200]} {
		if got, err := ParseCoprocInfo(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q: got %+v, want an error", bad, got)
		}
	}
}

func TestFirstGPU(t *testing.T) {
	for raw, want := range map[string]string{
		"<gpu_device_num>3</gpu_device_num>\n<gpu_opencl_dev_index>12</gpu_opencl_dev_index>": "<gpu_device_num>0</gpu_device_num>\n<gpu_opencl_dev_index>0</gpu_opencl_dev_index>",
		"<gpu_device_num>-1</gpu_device_num><gpu_opencl_dev_index>-1</gpu_opencl_dev_index>":  "<gpu_device_num>-1</gpu_device_num><gpu_opencl_dev_index>-1</gpu_opencl_dev_index>",
		"<gpu_type>NVIDIA</gpu_type><ncpus>3</ncpus>":                                         "<gpu_type>NVIDIA</gpu_type><ncpus>3</ncpus>",
	} {
		if got := string(FirstGPU([]byte(raw))); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}
