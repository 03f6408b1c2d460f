package main

import (
	"encoding/xml"
	"os"
	"strings"
	"testing"

	"boincdocker/docker_wrapper/internal/job"
	"boincdocker/samples"
)

// The documents and the tables of keys must agree.
func TestEveryKeyIsDocumented(t *testing.T) {
	for name, keys := range map[string][]job.KeyInfo{"job_toml.md": job.Keys(), "volunteers.md": job.PolicyKeys()} {
		data, err := os.ReadFile("../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			row := "| `" + k.Name + "` | " + k.Type + " | " + k.Default + " | " + k.Meaning + " |\n"
			if !strings.Contains(string(data), row) {
				t.Errorf("docs/%s lacks the row of %s: want %q", name, k.Name, row)
			}
		}
	}
}

// The example of an app version is the sample that it says it is.
func TestDeployedFiles(t *testing.T) {
	data, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), "```xml\n<version>")
	text, _, _ = strings.Cut(text, "```")
	var version struct {
		Files []struct {
			Physical string    `xml:"physical_name"`
			Logical  string    `xml:"logical_name"`
			Main     *struct{} `xml:"main_program"`
		} `xml:"file"`
		APIVersion string `xml:"api_version"`
	}
	if err := xml.Unmarshal([]byte("<version>"+text), &version); err != nil {
		t.Fatal(err)
	}
	if got := version.APIVersion; got != "8.2.15" {
		t.Errorf("API version %q, want the binary's", got)
	}
	hello, err := samples.Load("../samples/hello")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(version.Files), 1+len(hello.AppFiles); got != want || version.Files[0].Main == nil {
		t.Fatalf("%d files, want the main program and those of the sample, %d", got, want)
	}
	for i, f := range hello.AppFiles {
		if got := version.Files[1+i]; got.Physical != f.Physical || got.Logical != f.Logical {
			t.Errorf("file %s as %s, want %s as %s", got.Physical, got.Logical, f.Physical, f.Logical)
		}
	}
}
