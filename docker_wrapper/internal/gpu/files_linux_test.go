package gpu

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"boincdocker/docker_wrapper/internal/job"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// host reads a host's files from testdata/host/NAME.txtar. Files in dev contain "char MODE GROUP". found.json is the
// expected list.
func host(t testing.TB, name string) (fstest.MapFS, *txtar.Archive) {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for _, f := range a.Files {
		file := &fstest.MapFile{Data: f.Data, Mode: 0o444}
		if strings.HasPrefix(f.Name, "dev/") {
			var gid uint32
			if _, err := fmt.Sscanf(string(f.Data), "char %o %d", &file.Mode, &gid); err != nil {
				t.Fatalf("%s: %s: %v", name, f.Name, err)
			}
			file.Mode |= fs.ModeDevice | fs.ModeCharDevice
			file.Data, file.Sys = nil, &syscall.Stat_t{Gid: gid}
		}
		if f.Name != "found.json" {
			fsys[f.Name] = file
		}
	}
	return fsys, a
}

// The GPUs that the kernel's files and CDI specifications of many hosts yield. Read the diff of a golden file.
func TestHosts(t *testing.T) {
	hosts, err := filepath.Glob("testdata/host/*.txtar")
	if err != nil || len(hosts) < 5 {
		t.Fatalf("got %q, %v, want some", hosts, err)
	}
	for _, name := range hosts {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			fsys, a := host(t, name)
			got, err := json.MarshalIndent(list(fsys, nil), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			last := len(a.Files) - 1
			if *update {
				if a.Files[last].Name != "found.json" {
					a.Files, last = append(a.Files, txtar.File{Name: "found.json"}), last+1
				}
				a.Files[last].Data = got
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if a.Files[last].Name != "found.json" {
				t.Fatal("found.json must be the last file")
			}
			if diff := cmp.Diff(string(a.Files[last].Data), string(got)); diff != "" {
				t.Error("want -, got + (go test -update, and read the diff):\n", diff)
			}
		})
	}
}

// NVML has more facts, the files have the paths. A GPU that NVML no longer lists is lost.
func TestLibraryAndFiles(t *testing.T) {
	fsys, _ := host(t, "testdata/host/nvidia.txtar")
	got := list(fsys, []job.GPU{{Vendor: job.NVIDIA, Index: 0, UUID: "GPU-late", PCI: "0000:41:00.0", Name: "GTX 1080", Memory: 8 << 30, CUDA: "12.4", Driver: "550.54.15"},
		{Vendor: job.NVIDIA, Index: 1, UUID: "GPU-virtual", PCI: "0000:99:00.0"}})
	byPCI := map[string]job.GPU{}
	for _, g := range got {
		byPCI[g.PCI] = g
	}
	if g := byPCI["0000:41:00.0"]; g.UUID != "GPU-late" || g.Index != 0 || g.Memory != 8<<30 || g.CUDA != "12.4" || len(g.Nodes) != 3 || g.Nodes[0].Path != "/dev/nvidia0" || g.Trouble != "" ||
		!cmp.Equal(g.CDI, []string{"nvidia.com/gpu=1"}) {
		t.Errorf("got %+v", g)
	}
	if g := byPCI["0000:01:00.0"]; g.Trouble != lost {
		t.Errorf("got %+v, want it lost", g)
	}
	if g := byPCI["0000:99:00.0"]; g.UUID != "GPU-virtual" || g.Trouble != "" {
		t.Errorf("got %+v, want NVML's facts", g)
	}
}

// On this host, each GPU has device files or a reason why it can't be used.
func TestListHere(t *testing.T) {
	gpus, err := List()
	if err != nil {
		t.Error(err)
	}
	for _, g := range gpus {
		if g.Trouble == "" && len(g.Nodes) == 0 {
			t.Errorf("got %+v, want device files or a reason", g)
		}
	}
}

func TestSpecTooLarge(t *testing.T) {
	fsys := fstest.MapFS{"etc/cdi/a.json": {Data: []byte(`{"kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}` + strings.Repeat(" ", maxSpec))}}
	if _, err := readSpec(fsys, "etc/cdi/a.json"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
	if got := specs(fsys); got != nil {
		t.Errorf("got %v, want none", got)
	}
}

// A later directory has precedence, and a name stands for one device.
func TestSpecsOverride(t *testing.T) {
	spec := func(node string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "kind: nvidia.com/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    deviceNodes: [{path: /dev/x, hostPath: %s}]\n", node)}
	}
	got := specs(fstest.MapFS{"etc/cdi/a.yaml": spec("/dev/old"), "var/run/cdi/a.yaml": spec("/dev/new")})
	if len(got) != 1 || len(got[0].nodes) != 1 || got[0].nodes[0] != "/dev/new" {
		t.Errorf("got %+v", got)
	}
}

// Whatever a specification contains, reading it ends, and no two GPUs get the same name.
func FuzzSpecs(f *testing.F) {
	fsys, _ := host(f, "testdata/host/nvidia.txtar")
	f.Add(fsys["etc/cdi/nvidia.yaml"].Data)
	f.Add([]byte(`{"kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}`))
	f.Add([]byte("kind: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys["etc/cdi/nvidia.yaml"] = &fstest.MapFile{Data: data}
		owner := map[string]string{}
		for _, g := range list(fsys, nil) {
			for _, name := range g.CDI {
				if other, ok := owner[name]; ok && other != g.PCI {
					t.Fatalf("%s is %s and %s", name, other, g.PCI)
				}
				owner[name] = g.PCI
			}
		}
	})
}

func TestOpenDevices(t *testing.T) {
	var out strings.Builder
	if err := OpenDevices([]string{"/dev/null", "/dev/no_such_gpu", "/"}, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "/dev/null: ok\n/dev/no_such_gpu: no such file or directory\n/: is a directory\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
