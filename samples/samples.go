// Package samples loads the sample apps in its sub-directories, installs one in a client's slot, and compares its outputs
// with the expected ones. The demo and the tests use it.
package samples

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest"
)

// Sample is a sample app, as its sample.toml describes it.
type Sample struct {
	Name string `toml:"-"`
	Dir  string `toml:"-"`

	Built string `toml:"-"` // a directory with the sample's programs; "" means build them

	CommandLine string   `toml:"command_line"`
	PlanClass   string   `toml:"plan_class"`
	GPUType     string   `toml:"gpu_type"`   // "NVIDIA", "ATI" or "intel_gpu": the job gets the first GPU of this type; "" for none
	AppFiles    []File   `toml:"app_file"`   // signed
	Inputs      []File   `toml:"input_file"` // with the workunit, not signed
	Outputs     []Output `toml:"output_file"`
}

// File is a file of the app version or of the workunit. Source is the file, or Go a package to build; both are relative to
// the sample's directory.
type File struct {
	Logical, Physical, Source, Go string
	Copy, Executable              bool
}

// Output is an output file and how to compare it with the file Expected. Rule is "exact" or "": the same bytes;
// "vina_score": the best score, in kcal/mol; or "png_pixels": the mean difference of the 8-bit channels. The last two may
// differ by Tolerance. Without Expected the output must only exist.
type Output struct {
	Logical, Expected, Rule string
	Copy                    bool
	Tolerance               float64
}

// Load reads dir/sample.toml.
func Load(dir string) (*Sample, error) {
	s := &Sample{Name: filepath.Base(dir), Dir: dir}
	md, err := toml.DecodeFile(filepath.Join(dir, "sample.toml"), s)
	if err != nil {
		return nil, fmt.Errorf("load sample %s: %w", s.Name, err)
	}
	if u := md.Undecoded(); len(u) > 0 {
		return nil, fmt.Errorf("load sample %s: unknown key %s", s.Name, u[0])
	}
	return s, nil
}

// Args is the job's command line.
func (s *Sample) Args() []string { return strings.Fields(s.CommandLine) }

// Client makes a data directory in dir, with a slot and a project directory for one job of this sample. result is the
// job's name. The caller must close the client.
func (s *Sample) Client(dir, result string) (*boinctest.Client, error) {
	c, err := boinctest.New(boinctest.Options{Dir: dir, Init: func(d *boincapi.InitData) {
		d.AppName, d.PlanClass, d.WUName, d.ResultName = s.Name, s.PlanClass, result, result+"_0"
		d.NCPUs, d.RscMemoryBound, d.RscDiskBound = 1, 1<<30, 1<<30
		if s.GPUType != "" {
			d.GPUType, d.GPUDeviceNum, d.GPUUsage = s.GPUType, 0, 1
		}
		d.HostInfo.DockerVersion, d.HostInfo.DockerType = "20.10", boincapi.Docker
	}})
	if err != nil {
		return nil, err
	}
	if err := s.install(c); err != nil {
		return nil, fmt.Errorf("install sample %s: %w", s.Name, err)
	}
	return c, nil
}

func (s *Sample) install(c *boinctest.Client) error {
	for i, f := range append(append([]File{}, s.AppFiles...), s.Inputs...) {
		data, err := s.read(f)
		if err != nil {
			return err
		}
		o := boinctest.FileOptions{Copy: f.Copy, Executable: f.Executable, NotSigned: i >= len(s.AppFiles)}
		if err := c.AddAppFile(f.Physical, f.Logical, data, o); err != nil {
			return err
		}
	}
	for i, o := range s.Outputs {
		if _, err := c.AddOutput(i, o.Logical, o.Copy); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sample) read(f File) ([]byte, error) {
	if f.Go == "" {
		return os.ReadFile(filepath.Join(s.Dir, f.Source))
	}
	if s.Built != "" {
		return os.ReadFile(filepath.Join(s.Built, filepath.Base(f.Go)))
	}
	dir, err := os.MkdirTemp("", "sample")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, f.Logical)
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	cmd.Dir = filepath.Join(s.Dir, f.Go)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", f.Logical, err, out)
	}
	return os.ReadFile(program)
}

// Made returns the path of output i in the project directory, after the job.
func (s *Sample) Made(c *boinctest.Client, i int) (string, error) {
	names, err := filepath.Glob(filepath.Join(c.ProjectDir(), fmt.Sprintf("%s_*_%d", c.InitData().ResultName, i)))
	if err != nil || len(names) != 1 {
		return "", fmt.Errorf("output %s: want one file in the project directory, got %q", s.Outputs[i].Logical, names)
	}
	return names[0], nil
}

// Check compares the outputs with the expected ones.
func (s *Sample) Check(c *boinctest.Client) error {
	for i, o := range s.Outputs {
		name, err := s.Made(c, i)
		if err != nil {
			return err
		}
		if o.Expected == "" {
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(s.Dir, o.Expected))
		if err != nil {
			return err
		}
		if err := o.compare(got, want); err != nil {
			return fmt.Errorf("output %s of sample %s: %w", o.Logical, s.Name, err)
		}
	}
	return nil
}

func (o Output) compare(got, want []byte) error {
	switch o.Rule {
	case "exact", "":
		if !bytes.Equal(got, want) {
			return fmt.Errorf("got %.200q, want %.200q", got, want)
		}
	case "vina_score":
		g, err := VinaScore(got)
		if err != nil {
			return err
		}
		w, err := VinaScore(want)
		if err != nil {
			return err
		}
		if d := g - w; d < -o.Tolerance || d > o.Tolerance {
			return fmt.Errorf("best score: got %.2f, want %.2f ± %.2f kcal/mol", g, w, o.Tolerance)
		}
	case "png_pixels":
		d, err := pixelDifference(got, want)
		if err != nil {
			return err
		}
		if d > o.Tolerance {
			return fmt.Errorf("the pictures differ by %.2f of 255 on average, want at most %.2f", d, o.Tolerance)
		}
	default:
		return fmt.Errorf("rule %q: want exact, vina_score or png_pixels", o.Rule)
	}
	return nil
}

// VinaScores reads the scores of docked poses, in kcal/mol, best first (AutoDock Vina's PDBQT output).
func VinaScores(poses []byte) []float64 {
	var scores []float64
	for line := range strings.Lines(string(poses)) {
		rest, ok := strings.CutPrefix(line, "REMARK VINA RESULT:")
		if !ok {
			continue
		}
		if f, err := strconv.ParseFloat(strings.Fields(rest + " x")[0], 64); err == nil {
			scores = append(scores, f)
		}
	}
	return scores
}

// VinaScore reads the best score, in kcal/mol.
func VinaScore(poses []byte) (float64, error) {
	scores := VinaScores(poses)
	if len(scores) == 0 {
		return 0, fmt.Errorf("no line REMARK VINA RESULT in %d bytes of poses", len(poses))
	}
	return scores[0], nil
}

// pixelDifference is the mean difference of two pictures' 8-bit channels, 0 to 255.
func pixelDifference(a, b []byte) (float64, error) {
	pa, err := png.Decode(bytes.NewReader(a))
	if err != nil {
		return 0, err
	}
	pb, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	if pa.Bounds() != pb.Bounds() {
		return 0, fmt.Errorf("the pictures are %v and %v", pa.Bounds().Size(), pb.Bounds().Size())
	}
	var sum, n float64
	for y := pa.Bounds().Min.Y; y < pa.Bounds().Max.Y; y++ {
		for x := pa.Bounds().Min.X; x < pa.Bounds().Max.X; x++ {
			ca, cb := channels(pa, x, y), channels(pb, x, y)
			for i := range ca {
				d := float64(ca[i]) - float64(cb[i])
				sum += max(d, -d)
				n++
			}
		}
	}
	return sum / n, nil
}

func channels(p image.Image, x, y int) [3]uint32 {
	r, g, b, _ := p.At(x, y).RGBA()
	return [3]uint32{r >> 8, g >> 8, b >> 8}
}
