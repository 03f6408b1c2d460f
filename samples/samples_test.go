package samples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, output string // of sample.toml
		made         string // text of the output; "" for no output
		want         string // of the error; "" for none
	}{
		{name: "as expected", output: "expected = 'want'\nrule = 'exact'", made: "x"},
		{name: "unexpected", output: "expected = 'want'\nrule = 'exact'", made: "y", want: `output out of sample mine: got "y", want "x"`},
		{name: "no rule", output: "expected = 'want'", made: "y", want: `output out of sample mine: got "y", want "x"`},
		{name: "nothing expected", made: "y"},
		{name: "nothing expected, nothing made", want: "output out: want one file in the project directory"},
		{name: "no such rule", output: "expected = 'want'\nrule = 'equal'", made: "x", want: `rule "equal": want exact, vina_score or png_pixels`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mine")
			for name, text := range map[string]string{"want": "x", "sample.toml": "[[output_file]]\nlogical = 'out'\n" + tt.output + "\n"} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			c, err := s.Client(t.TempDir(), "wu")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if tt.made != "" {
				if err := os.WriteFile(filepath.Join(c.ProjectDir(), "wu_0_r1_0"), []byte(tt.made), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Check(c); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
