package job

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"boincdocker/boincapi"
)

var (
	// RestrictedNamePattern in moby's daemon/names.
	containerGrammar = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
	// path-component in distribution/reference.
	imageGrammar = regexp.MustCompile(`^[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*$`)
)

func named(project, wu, result string) *boincapi.InitData {
	d := testInit()
	d.ProjectDir, d.WUName, d.ResultName = project, wu, result
	return d
}

func TestContainerName(t *testing.T) {
	knows := func(version, planClass string) *boincapi.InitData {
		d := testInit()
		d.HostInfo.DockerVersion, d.PlanClass = version, planClass
		return d
	}
	long := strings.Repeat("a", 250)
	for _, tt := range []struct {
		name string
		d    *boincapi.InitData
		want string
	}{
		{"standalone", nil, "boinc_standalone_" + shortHash(testSlot)},
		{"the client knows it", testInit(), "boinc__p.org_x__wu_0"},
		{"upper case", named("/boinc/projects/P.org_X", "WU", "WU_0"), "boinc__p.org_x__wu_0"},
		{"Windows", named(`C:\ProgramData\BOINC/projects\p.org_x`, "wu", "wu_0"), "boinc__p.org_x__wu_0"},
		{"project directory with a slash", named(testProject+"/", "wu", "wu_0"), "boinc__p.org_x__wu_0"},
		{"a plan class with docker in it", knows("28.5.2", "x86_docker_mt"), "boinc__p.org_x__wu_0"},
		{"a client without Docker", knows("", "docker"), "boinc_p.org_x_wu_0"},
		{"another plan class", knows("28.5.2", "mt"), "boinc_p.org_x_wu_0"},
		{"no plan class", knows("28.5.2", ""), "boinc_p.org_x_wu_0"},
		{"the sign for kelvin, which the client doesn't take for a letter", named(testProject, "wu", "wu\u212a_0"), "boinc_p.org_x_wu__0_" + shortHash("boinc_p.org_x_wu\u212a_0")},
		{"upper case under a client without Docker", func() *boincapi.InitData {
			d := knows("", "docker")
			d.ResultName = "WU_0"
			return d
		}(), "boinc_p.org_x_wu_0_" + shortHash("boinc_p.org_x_WU_0")},
		{"characters that engines refuse", named(testProject, "w u", "w u_0"), "boinc_p.org_x_w_u_0_" + shortHash("boinc_p.org_x_w u_0")},
		{"UTF-8", named("/boinc/projects/é", "wu", "wu_0"), "boinc_" + shortHash("wu_0") + "__wu_0_" + shortHash("boinc_é_wu_0")},
		{"too long", named(testProject, long, long+"_0"), "boinc_p.org_x_" + long[:186] + "_" + shortHash("boinc_p.org_x_"+long+"_0")},
		{"another project", named("/boinc/projects/other", "wu", "wu_0"), "boinc__other__wu_0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ContainerName(tt.d, testSlot)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	// A name that begins with boinc__ is the client's to remove, unless it is the one that it looks for.
	for _, result := range []string{"_wu_0", "__", "___", "é", " x", "_" + long, "", "wu\x00", "wu\xff", "wu/0", "wu:0", "-", ".", "WU_0"} {
		for _, knows := range []bool{true, false} {
			d := named(testProject, "wu", result)
			if !knows {
				d.HostInfo.DockerVersion = ""
			}
			got := ContainerName(d, testSlot)
			exact := "boinc__p.org_x__" + strings.ToLower(result)
			if !containerGrammar.MatchString(got) || len(got) > 220 {
				t.Errorf("%q: got %s, which engines refuse", result, got)
			}
			if strings.HasPrefix(got, clientPrefix) && (!knows || got != exact) {
				t.Errorf("%q, known %v: got %s, which the client removes", result, knows, got)
			}
		}
	}
}

func TestNamesStayDifferent(t *testing.T) {
	long := strings.Repeat("a", 250)
	results := []string{"w u_0", "w_u_0", "w/u_0", "w.u_0", "w-u_0", "w:u_0", "wé_0", "wè_0", long + "_0", long + "_1", "_wu_0", "wu_0", "__wu_0", "wu_0_", "wu_0__"}
	cases := []string{"WU_0", "Wu_0", "wU_0", "wu\u212a_0", "wuk_0", "wuK_0"} // where the client doesn't say what it is called
	for what, name := range map[string]func(*boincapi.InitData) string{
		"container": func(d *boincapi.InitData) string { return ContainerName(d, "") },
		"container under an old client": func(d *boincapi.InitData) string {
			d.HostInfo.DockerVersion = ""
			return ContainerName(d, "")
		},
		"image":                func(d *boincapi.InitData) string { return ImageName(d, "", false) },
		"app version's image":  func(d *boincapi.InitData) string { d.AppName = d.WUName; return ImageName(d, "", true) },
		"standalone container": func(d *boincapi.InitData) string { return ContainerName(nil, d.ResultName) },
		"standalone image":     func(d *boincapi.InitData) string { return ImageName(nil, d.ResultName, true) },
	} {
		seen := map[string]string{}
		all := results
		if strings.HasSuffix(what, "old client") || what == "image" {
			all = slices.Concat(results, cases)
		}
		for _, r := range all {
			got := name(named(testProject, r, r))
			if other, ok := seen[got]; ok {
				t.Errorf("%s: %q and %q are both called %s", what, other, r, got)
			}
			seen[got] = r
		}
	}
}

func TestImageName(t *testing.T) {
	app := func(project, name, planClass string, version int) *boincapi.InitData {
		d := named(project, "wu", "wu_0")
		d.AppName, d.PlanClass, d.AppVersion = name, planClass, version
		return d
	}
	long := strings.Repeat("a", 250)
	for _, tt := range []struct {
		name string
		d    *boincapi.InitData
		app  bool
		want string
	}{
		{"standalone", nil, true, "boinc_standalone_" + shortHash(testSlot)},
		{"app version", app(testProject, "worker", "docker", 101), true, "boinc_p.org_x_worker_docker_101"},
		{"no plan class", app(testProject, "worker", "", 101), true, "boinc_p.org_x_worker_101"},
		{"upper case", app("/boinc/projects/P.org_X", "Worker", "Docker", 101), true, "boinc_p.org_x_worker_docker_101"},
		{"workunit", testInit(), false, "boinc_wu_" + longHash("p.org_x\x00wu")},
		{"workunit in upper case", named(testProject, "WU_1.2-3", "x"), false, "boinc_wu_1.2-3_" + longHash("p.org_x\x00WU_1.2-3")},
		{"never boinc__", named(testProject, "_wu", "x"), false, "boinc_wu_" + shortHash("boinc__wu") + "_" + longHash("p.org_x\x00_wu")},
		{"separators in a row", named(testProject, "w..u", "x"), false, "boinc_w_u_" + shortHash("boinc_w..u") + "_" + longHash("p.org_x\x00w..u")},
		{"nothing that engines take", named(testProject, "___", "x"), false, "boinc_" + shortHash("boinc____") + "_" + longHash("p.org_x\x00___")},
		{"too long", named(testProject, long, "x"), false, "boinc_" + long[:194] + "_" + shortHash("boinc_"+long) + "_" + longHash("p.org_x\x00"+long)},
		{"another project's workunit of that name", named("/boinc/projects/other", "wu", "x"), false, "boinc_wu_" + longHash("other\x00wu")},
		{"a workunit that is called as a signed image", named(testProject, "p.org_x_worker_docker_101", "x"), false, "boinc_p.org_x_worker_docker_101_" + longHash("p.org_x\x00p.org_x_worker_docker_101")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ImageName(tt.d, testSlot, tt.app); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzNames(f *testing.F) {
	f.Add("/boinc/projects/p.org_x", "worker", "docker", "wu_0")
	f.Add(`C:\x`, "W--__..", "", "_é \x00\xff")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, project, app, planClass, name string) {
		for _, version := range []string{"", "28.5.2"} {
			d := &boincapi.InitData{ProjectDir: project, AppName: app, PlanClass: planClass, WUName: name, ResultName: name, HostInfo: boincapi.HostInfo{DockerVersion: version}}
			c := ContainerName(d, testSlot)
			exact := "boinc__" + strings.ToLower(projectName(d)+"__"+name)
			if !containerGrammar.MatchString(c) || len(c) > 220 || strings.HasPrefix(c, clientPrefix) && (c != exact || !knowsDocker(d)) {
				t.Errorf("container %q", c)
			}
			for _, appVersion := range []bool{true, false} {
				if i := ImageName(d, testSlot, appVersion); !imageGrammar.MatchString(i) || len(i) > 230 || strings.HasPrefix(i, clientPrefix) {
					t.Errorf("image %q", i)
				}
			}
		}
	})
}

func TestIsOutput(t *testing.T) {
	for target, want := range map[string]bool{
		"wu_0_0": true, "wu_0_12": true, "wu_0_r123_0": true, "wu_0_r1_0.gz": true, "wu_0_0.zip": true,
		"/boinc/projects/p.org_x/wu_0_0": true, `C:\projects\p.org_x\wu_0_r99_3`: true,
		"wu_0": false, "wu_0_": false, "wu_00_0": false, "wu_0in": false, "wu_0_in": false, "wu_0_r_0": false, "wu_0_r12": false, "wu_0_rx1_0": false,
		"wu_0_r1_in": false, "wu_1_0": false, "WU_0_0": false, "wu_0_1_2_linux.img": false, "wu_0_5_0_r99_0": false, "xwu_0_0": false, "in_wu_0_0": false, "": false, "wu_0_0/in": false,
	} {
		if got := isOutput(testInit(), target); got != want {
			t.Errorf("%s: got %v, want %v", target, got, want)
		}
	}
	d := testInit()
	d.AppFiles = []string{"wu_0_1.img"}
	if isOutput(d, "/boinc/projects/p.org_x/wu_0_1.img") || !isOutput(d, "/boinc/projects/p.org_x/wu_0_2.img") {
		t.Error("a workunit's name made a file of the app version its output")
	}
	if isOutput(nil, "wu_0_0") || isOutput(&boincapi.InitData{}, "_0") {
		t.Error("without a result: got an output")
	}
}
