package boincapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
)

// written is the init_data.xml of a client that was given these names.
func written(t testing.TB, d boincapi.InitData) string {
	t.Helper()
	var b bytes.Buffer
	if err := boinctest.WriteInitData(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// honest has all elements that a client writes once, the optional ones included, and each kind of block.
func honest() boincapi.InitData {
	return boincapi.InitData{MajorVersion: 8, MinorVersion: 2, Release: 15, AppVersion: 101, AppName: "app", PlanClass: "docker", SymStore: "s",
		AcctMgrURL: "http://a/", ProjectPreferences: "\n<color>1 </color>\n<slot>2</slot>\n", TeamName: "t <&>", UserName: "u]]>", ProjectDir: "/b/projects/p_q",
		BoincDir: "/b R&D", Authenticator: "0123456789", WUName: "wu", ResultName: "wu_0", ShmKey: -1, Slot: 3, NCPUs: 2, GPUType: "NVIDIA",
		FractionDoneEnd: 1,
		HostInfo: boincapi.HostInfo{Model: "<i7>", HaveWSL: true, DockerVersion: "5", WSL: []boincapi.WSLDistro{
			{DistroName: "d", OSName: "o", GPUs: []boincapi.WSLGPU{{Name: "g", HasCUDA: true}}}},
			Coprocs: []boincapi.Coproc{{Tag: "coproc_cuda", Type: "NVIDIA", Name: "A & B", OpenCL: &boincapi.OpenCLProp{Name: "n", Extensions: "cl_khr"},
				PCI: []boincapi.PCIInfo{{BusID: 1}, {BusID: 2}}}, {Tag: "coproc_ati", Type: "ATI"}, {Tag: "coproc", Type: "odd"}},
			OpenCLCPUs: []boincapi.OpenCLCPU{{PlatformVendor: "v"}}},
		ProxyInfo:   boincapi.ProxyInfo{HTTPServerName: "p", HTTPServerPort: 1, SOCKSServerPort: 2},
		GlobalPrefs: boincapi.GlobalPrefs{MaxCPUs: 1, DayPrefs: []boincapi.DayPrefs{{DayOfWeek: 1}, {DayOfWeek: 2}}},
		AppFiles:    []string{"wrapper", "Dockerfile_1"}}
}

func TestHonestInitData(t *testing.T) {
	want := honest()
	got, err := boincapi.ParseInitData(strings.NewReader(written(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want any }{
		{got.AppFiles, want.AppFiles}, {got.BoincDir, want.BoincDir}, {got.ProjectDir, want.ProjectDir}, {got.UserName, want.UserName},
		{got.ProjectPreferences, want.ProjectPreferences}, {len(got.HostInfo.Coprocs), 3}, {len(got.GlobalPrefs.DayPrefs), 2}, {got.Slot, 3},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

func TestForgedInitData(t *testing.T) {
	const evil = "<app_file>evil</app_file>"
	type names struct{ plan, wu, result, gpu string }
	for _, c := range []struct {
		name    string
		n       names
		element string
	}{
		{"a name that closes its element", names{wu: "x</wu_name>" + evil + "<wu_name>"}, "wu_name"},
		{"the same on lines of its own", names{wu: "x</wu_name>\n" + evil + "\n<wu_name>y"}, "wu_name"},
		{"a plan class", names{plan: "x</plan_class>" + evil + "<plan_class>"}, "plan_class"},
		{"a result", names{result: "x</result_name>" + evil + "<result_name>"}, "result_name"},
		{"the type of a GPU", names{gpu: "x</gpu_type>" + evil + "<gpu_type>"}, "gpu_type"},
		{"another data directory", names{wu: "x</wu_name><boinc_dir>/b/slots/0</boinc_dir><wu_name>"}, "boinc_dir"},
		{"another project directory, before the client's", names{plan: "x</plan_class><project_dir>/b/slots/0</project_dir><plan_class>"}, "plan_class"},
		{"an end tag with blanks", names{wu: "x</wu_name\t>" + evil + "<wu_name>"}, "wu_name"},
		{"an end tag with attributes", names{wu: "x</wu_name a='1'>" + evil + "<wu_name b>"}, "wu_name"},
		{"an end tag within a tag", names{wu: "x</wu_name>" + evil + "<foo "}, "wu_name"},
		{"an end tag in capitals", names{wu: "x</WU_NAME>" + evil + "<wu_name>"}, "wu_name"},
		{"an empty element", names{wu: "x</wu_name>" + evil + "<wu_name/>"}, "wu_name"},
		{"an unknown element hides the end tag", names{wu: "x</wu_name>" + evil + "<new>", result: "</new><result_name>x"}, "wu_name"},
		{"a comment hides the end tag", names{wu: "x</wu_name>" + evil + "<!--", result: "--><result_name>x"}, "app_init_data"},
		{"a comment over two elements", names{plan: "<!--", wu: "--></plan_class>" + evil + "<wu_name>x"}, "app_init_data"},
		{"a CDATA section hides the end tag", names{wu: "x</wu_name>" + evil + "<![CDATA[", result: "]]><result_name>x"}, "app_init_data"},
		{"a CDATA section over two elements", names{wu: "<![CDATA[", result: "]]></wu_name>" + evil + "<result_name>x"}, "app_init_data"},
		{"an unknown element over two elements", names{wu: "<new>", result: "</new></wu_name>" + evil + "<result_name>x"}, "wu_name"},
		{"preferences hide the client's elements",
			names{plan: "x</plan_class><project_preferences>", wu: "</project_preferences><project_dir>/e</project_dir><boinc_dir>/e</boinc_dir><wu_name>x"}, "plan_class"},
		{"preferences with pairs of tags",
			names{plan: "x</plan_class><project_preferences><plan_class>", wu: "</wu_name></project_preferences><boinc_dir>/e</boinc_dir><wu_name>x"}, "plan_class"},
		{"preferences in two spellings", names{plan: "x</plan_class><project_preferences ><plan_class>", wu: "</wu_name></project_preferences ><wu_name>x"}, "plan_class"},
		{"preferences around app files", names{wu: "<project_preferences>" + evil + "</project_preferences>"}, "app_file"},
		{"preferences that don't end", names{wu: "x</wu_name>" + evil + "<project_preferences>"}, "wu_name"},
		{"host_info hides the client's", names{wu: "x</wu_name><host_info>", result: "</host_info>" + evil + "<result_name>x"}, "wu_name"},
		{"another host_info", names{wu: "<host_info></host_info>"}, "host_info"},
		{"another proxy_info", names{result: "<proxy_info>"}, "result_name"},
		{"another global_preferences", names{result: "x</result_name><global_preferences/><result_name>"}, "result_name"},
		{"a block that is closed by a name", names{wu: "</global_preferences>"}, "global_preferences"},
		{"the end of all", names{wu: "x</wu_name></app_init_data>"}, "wu_name"},
		{"the end of all alone", names{wu: "</app_init_data>"}, "app_init_data"},
		{"a tag in a name", names{wu: "a<b/>c"}, "wu_name"},
		{"a tag that doesn't end in a name", names{wu: "a<b"}, "wu_name"},
		{"a tag in the last name", names{gpu: "a<b"}, "gpu_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, prefs := range []string{"", "\n<a>1</a>\n"} {
				d := honest()
				d.PlanClass, d.WUName, d.ResultName, d.GPUType, d.ProjectPreferences = c.n.plan, c.n.wu, c.n.result, c.n.gpu, prefs
				if prefs == "" {
					d.ProxyInfo = boincapi.ProxyInfo{}
				}
				got, err := boincapi.ParseInitData(strings.NewReader(written(t, d)))
				var forged *boincapi.ForgedError
				if !errors.As(err, &forged) {
					t.Fatalf("got %q, %v, want a *ForgedError", got.AppFiles, err)
				}
				if forged.Element != c.element && prefs == "" {
					t.Errorf("got element %s (%v), want %s", forged.Element, err, c.element)
				}
			}
		})
	}
}

// What no name can do, but must not pass either.
func TestForgedAtTheTop(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"text", "what?<slot>3</slot>", "a name in it brings tags of its own: element app_init_data holds text of its own"},
		{"an end tag", "</what><slot>3</slot>", "a name in it brings tags of its own: element what ends, and hasn't begun"},
		{"a number twice", "<slot>3</slot><slot>4</slot>", "a name in it brings tags of its own: element slot begins more than once"},
		{"a number twice, once empty", "<slot/><slot>4</slot>", "a name in it brings tags of its own: element slot begins more than once"},
		{"a tag in a number", "<slot>3<new/></slot>", "a name in it brings tags of its own: element slot holds tags"},
		{"a comment", "<!-- x --><slot>3</slot>", "a name in it brings tags of its own: element app_init_data holds a comment or a CDATA section"},
		{"an unknown element that doesn't end", "<new><slot>3</slot>", "a name in it brings tags of its own: element new doesn't end"},
		{"preferences that end otherwise", "<project_preferences>a</project_preferences >", "a name in it brings tags of its own: element project_preferences doesn't end"},
		{"an app file that doesn't end", "<app_file>a", "a name in it brings tags of its own: element app_file holds tags"},
		{"something behind", "</app_init_data><slot>3</slot>", "a name in it brings tags of its own: element app_init_data begins or ends more than once"},
	} {
		_, err := boincapi.ParseInitData(strings.NewReader("<app_init_data>\n" + c.body + "\n</app_init_data>\n"))
		if got := fmt.Sprint(err); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	if _, err := boincapi.ParseInitData(strings.NewReader("<app_init_data></app_init_data>x")); err == nil {
		t.Error("text behind the end: got no error, want one")
	}
	for _, good := range []string{"<new>1</new><new>2</new><new/>", "<new><app>1</app></new>", "<project_preferences/>",
		"<project_preferences><!-- <x> --></project_preferences>", "<app_file>a</app_file><app_file>a</app_file>"} {
		if _, err := boincapi.ParseInitData(strings.NewReader("<app_init_data>" + good + "</app_init_data>")); err != nil {
			t.Errorf("%s: got %v, want no error", good, err)
		}
	}
}

// Whatever names a client writes: what it says itself is understood, or nothing is.
func FuzzForgedInitData(f *testing.F) {
	f.Add("docker", "wu", "wu_0", "NVIDIA", true)
	f.Add("x</plan_class><project_preferences><plan_class>", "</wu_name></project_preferences><wu_name>x", "", "", false)
	f.Add("<!--", "--></plan_class><app_file>e</app_file>", "<![CDATA[", "]]>", false)
	f.Add("x</plan_class\v><foo ", "<new/ ><wu_name a=>", "</app_init_data>", "&lt;</gpu_type", true)
	f.Fuzz(func(t *testing.T, plan, wu, result, gpu string, all bool) {
		if strings.ContainsRune(plan+wu+result+gpu, 0) {
			return // the client's strings end there
		}
		d := honest()
		if !all {
			d.ProjectPreferences, d.SymStore, d.AcctMgrURL, d.TeamName, d.UserName, d.ProxyInfo = "", "", "", "", "", boincapi.ProxyInfo{}
		}
		want, err := boincapi.ParseInitData(strings.NewReader(written(t, d)))
		if err != nil {
			t.Fatal(err)
		}
		d.PlanClass, d.WUName, d.ResultName, d.GPUType = plan, wu, result, gpu
		got, err := boincapi.ParseInitData(strings.NewReader(written(t, d)))
		if err != nil {
			var forged *boincapi.ForgedError
			if !errors.As(err, &forged) {
				t.Errorf("got %v, want a *ForgedError", err)
			}
			return
		}
		want.PlanClass, want.WUName, want.ResultName, want.GPUType = got.PlanClass, got.WUName, got.ResultName, got.GPUType
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}
