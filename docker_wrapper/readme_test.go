package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// documents are those whose links and names are checked; a new one in docs is checked, too.
func documents(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "samples/*.md", "samples/*/*.md"} {
		found, err := filepath.Glob("../" + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: got %v, %v; want files", pattern, found, err)
		}
		for _, name := range found {
			list = append(list, strings.TrimPrefix(filepath.ToSlash(name), "../"))
		}
	}
	return list
}

// Links lead to files and headings that exist, and so do the names of source files, make targets and tests.
func TestLinks(t *testing.T) {
	tests, makefile := testNames(t), document(t, "Makefile")
	for _, name := range documents(t) {
		for _, problem := range brokenNames(name, document(t, name), tests, makefile) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	const bad = "[a](gone.md) [b](README.md#nowhere) [c](https://x.y/z) `slot/gone.go` `TestGone` `make gone` `scripts/gone.sh`\n"
	if got := brokenNames("README.md", bad, tests, makefile); len(got) != 6 {
		t.Errorf("got %q; want 6 findings", got)
	}
}

var (
	mdLink     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeSpan   = regexp.MustCompile("`[^`]+`")
	sourceFile = regexp.MustCompile(`[A-Za-z0-9_./*-]+\.(?:go|sh|txtar|md)\b`)
	testName   = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	makeTarget = regexp.MustCompile(`^make ([a-z][a-z -]*)`)
	notAnchor  = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// sourceDirs are the directories that the documents leave out of file names.
var sourceDirs = []string{"..", ".", "internal", "internal/engine"}

func brokenNames(doc, text string, tests map[string]bool, makefile string) (problems []string) {
	for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") {
			continue
		}
		file := filepath.Join("..", filepath.Dir(doc), target)
		if target == "" {
			file = filepath.Join("..", doc)
		}
		data, err := os.ReadFile(file)
		if _, statErr := os.Stat(file); statErr != nil {
			problems = append(problems, "link to "+m[1]+": no such file")
		} else if anchor != "" && (err != nil || !slices.Contains(anchors(string(data)), anchor)) {
			problems = append(problems, "link to "+m[1]+": no such heading")
		}
	}
	dirs := append(slices.Clone(sourceDirs), filepath.Join("..", filepath.Dir(doc)))
	for _, span := range spans(text) {
		for _, name := range sourceFile.FindAllString(span, -1) {
			if !slices.ContainsFunc(dirs, func(dir string) bool {
				found, err := filepath.Glob(filepath.Join(dir, name))
				return err == nil && len(found) > 0
			}) {
				problems = append(problems, name+": no such file")
			}
		}
		for _, name := range testName.FindAllString(span, -1) {
			if !tests[name] {
				problems = append(problems, name+": no such test")
			}
		}
		if m := makeTarget.FindStringSubmatch(span); m != nil {
			for _, target := range strings.Fields(m[1]) {
				if !strings.Contains(makefile, "\n"+target+":") {
					problems = append(problems, "make "+target+": no such target")
				}
			}
		}
	}
	return problems
}

// spans are what is written as code: between backticks, and the lines of blocks.
func spans(text string) (list []string) {
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			list = append(list, strings.Split(part, "\n")...)
			continue
		}
		for _, span := range codeSpan.FindAllString(part, -1) {
			list = append(list, strings.Trim(span, "`"))
		}
	}
	return list
}

// anchors are the headings as GitHub links to them.
func anchors(text string) (list []string) {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			list = append(list, strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-"))
		}
	}
	return list
}

// testNames are the tests of all packages, whatever they are built for.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(name string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		data, err := os.ReadFile(name)
		for _, m := range declared.FindAllStringSubmatch(string(data), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func document(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
