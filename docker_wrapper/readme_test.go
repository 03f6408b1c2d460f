package main

import (
	"os"
	"strings"
	"testing"

	"boincdocker/docker_wrapper/internal/job"
)

// The documents and the one table of keys must agree.
func TestEveryKeyIsDocumented(t *testing.T) {
	data, err := os.ReadFile("../docs/job_toml.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range job.Keys() {
		row := "| `" + k.Name + "` | " + k.Type + " | " + k.Default + " | " + k.Meaning + " |\n"
		if !strings.Contains(string(data), row) {
			t.Errorf("docs/job_toml.md lacks the row of %s: want %q", k.Name, row)
		}
	}
}
