package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "boincdocker"
	rooms  = module + "/docker_wrapper/internal/"
)

// walls says which packages of ours each package may import, besides the standard library.
var walls = map[string][]string{
	module + "/docker_wrapper":             {rooms + "session", rooms + "supervise", rooms + "slot", rooms + "engine", rooms + "gpu", rooms + "host", rooms + "job", module + "/boincapi"},
	rooms + "session":                      {rooms + "engine", rooms + "slot", rooms + "host", rooms + "job", module + "/boincapi"},
	rooms + "supervise":                    {rooms + "job", module + "/boincapi"},
	rooms + "slot":                         {rooms + "host", rooms + "job", module + "/boincapi", module + "/resolve"},
	rooms + "engine":                       {rooms + "host", rooms + "job"},
	rooms + "engine/enginetest":            {}, // fakes know nothing of us, and nothing but tests knows them
	rooms + "gpu":                          {rooms + "job"},
	rooms + "host":                         {}, // the kernel knows nothing of us
	rooms + "job":                          {module + "/boincapi"},
	module + "/boincapi":                   {},
	module + "/boincapi/boinctest":         {module + "/boincapi"},
	module + "/boincapi/boinctest/project": {},
	module + "/resolve":                    {},
	module + "/resolve/boinc_resolve":      {module + "/resolve"},
}

// guests says where packages that aren't ours may be imported.
var guests = map[string][]string{
	"github.com/docker/docker":         {rooms + "engine"},
	"github.com/docker/go-connections": {rooms + "engine"},
	"github.com/containerd/errdefs":    {rooms + "engine"},
	"github.com/opencontainers":        {rooms + "engine"},
	"github.com/moby":                  {rooms + "engine"},
	"github.com/gofrs/flock":           {rooms + "session", rooms + "engine"},
	"github.com/klauspost/compress":    {rooms + "engine"},
	"github.com/NVIDIA/go-nvml":        {rooms + "gpu"},
	"go.yaml.in/yaml/v3":               {rooms + "gpu"},
	"github.com/pelletier/go-toml/v2":  {rooms + "job"},
	"github.com/docker/go-units":       {rooms + "job"},
	"github.com/spf13/pflag":           {rooms + "job"},
	"github.com/rs/zerolog":            {module + "/docker_wrapper", rooms + "session", rooms + "engine", rooms + "supervise"},
	"golang.org/x/term":                {module + "/docker_wrapper"},
	"golang.org/x/sys":                 {module + "/docker_wrapper", rooms + "engine", rooms + "host", rooms + "slot", module + "/boincapi", module + "/boincapi/boinctest"},
}

// pure is what a package without network, engine and files doesn't import.
var pure = []string{"os", "os/exec", "net", "net/http", "syscall", "io/ioutil"}

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath, Name, Doc, Dir string
	Imports                    []string
}

func TestWalls(t *testing.T) {
	var all []pkg
	for _, platform := range [][3]string{{"linux", "amd64", "0"}, {"linux", "amd64", "1"}, {"windows", "amd64", "0"}, {"darwin", "arm64", "0"}} {
		t.Run(strings.Join(platform[:], "_"), func(t *testing.T) {
			pkgs := list(t, platform)
			for _, p := range pkgs {
				for _, problem := range problems(p) {
					t.Error(problem)
				}
			}
			all = append(all, pkgs...)
			for path := range walls {
				if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == path }) {
					t.Errorf("%s: there is no such package", path)
				}
			}
		})
	}
	for _, s := range unused(all) {
		t.Error(s)
	}
}

// unused finds what walls and guests admit and no package of pkgs imports.
func unused(pkgs []pkg) (list []string) {
	check := func(importer, path string) {
		if !slices.ContainsFunc(pkgs, func(p pkg) bool {
			return p.ImportPath == importer && slices.ContainsFunc(p.Imports, func(i string) bool { return i == path || strings.HasPrefix(i, path+"/") })
		}) {
			list = append(list, importer+": may import "+path+", and doesn't")
		}
	}
	for importer, paths := range walls {
		for _, path := range paths {
			check(importer, path)
		}
	}
	for path, importers := range guests {
		for _, importer := range importers {
			check(importer, path)
		}
	}
	slices.Sort(list)
	return list
}

func problems(p pkg) (list []string) {
	add := func(format string, args ...any) { list = append(list, p.ImportPath+": "+fmt.Sprintf(format, args...)) }
	ours, known := walls[p.ImportPath]
	if !known {
		add("has no sentence in the walls: what may it import?")
	}
	if p.Doc == "" {
		add("has no package comment")
	}
	for _, path := range p.Imports {
		first, _, _ := strings.Cut(path, "/")
		switch {
		case first == module:
			if !slices.Contains(ours, path) {
				add("imports %s through a wall", path)
			}
		case strings.Contains(first, "."):
			host := ""
			for g := range guests {
				if path == g || strings.HasPrefix(path, g+"/") {
					host = g
				}
			}
			if !slices.Contains(guests[host], p.ImportPath) {
				add("imports %s, which is a guest of %v only", path, guests[host])
			}
		case p.ImportPath == rooms+"job" && slices.Contains(pure, path):
			add("imports %s, and is pure", path)
		case path == "flag" && p.Name != "main":
			add("imports flag, which is package main's")
		}
	}
	return list
}

func list(t *testing.T, platform [3]string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,Imports", module+"/docker_wrapper/...", module+"/boincapi/...", module+"/resolve/...")
	cmd.Env = append(os.Environ(), "GOOS="+platform[0], "GOARCH="+platform[1], "CGO_ENABLED="+platform[2])
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// Walls that nothing runs into would hold nothing.
func TestWallsHold(t *testing.T) {
	for _, tt := range []struct {
		p    pkg
		want string
	}{
		{pkg{ImportPath: rooms + "job", Doc: "x", Imports: []string{"strings", module + "/boincapi", "github.com/pelletier/go-toml/v2/unstable"}}, ""},
		{pkg{ImportPath: rooms + "job", Doc: "x", Imports: []string{"os"}}, rooms + "job: imports os, and is pure"},
		{pkg{ImportPath: rooms + "job"}, rooms + "job: has no package comment"},
		{pkg{ImportPath: rooms + "engine", Doc: "x", Imports: []string{module + "/boincapi"}}, rooms + "engine: imports " + module + "/boincapi through a wall"},
		{pkg{ImportPath: rooms + "slot", Doc: "x", Imports: []string{"github.com/docker/docker/client"}},
			rooms + "slot: imports github.com/docker/docker/client, which is a guest of [" + rooms + "engine] only"},
		{pkg{ImportPath: module + "/resolve", Doc: "x", Imports: []string{"github.com/new/thing"}}, module + "/resolve: imports github.com/new/thing, which is a guest of [] only"},
		{pkg{ImportPath: rooms + "util", Doc: "x"}, rooms + "util: has no sentence in the walls: what may it import?"},
		{pkg{ImportPath: rooms + "slot", Doc: "x", Name: "slot", Imports: []string{"flag"}}, rooms + "slot: imports flag, which is package main's"},
		{pkg{ImportPath: module + "/docker_wrapper", Doc: "x", Imports: []string{rooms + "engine/enginetest"}},
			module + "/docker_wrapper: imports " + rooms + "engine/enginetest through a wall"},
	} {
		if got := strings.Join(problems(tt.p), "; "); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	got := unused([]pkg{{ImportPath: rooms + "gpu", Imports: []string{rooms + "job", "go.yaml.in/yaml/v3"}}})
	for want, found := range map[string]bool{
		rooms + "gpu: may import " + rooms + "job, and doesn't":               false,
		rooms + "gpu: may import go.yaml.in/yaml/v3, and doesn't":             false,
		rooms + "gpu: may import github.com/NVIDIA/go-nvml, and doesn't":      true,
		rooms + "slot: may import " + rooms + "job, and doesn't":              true,
		module + "/docker_wrapper: may import golang.org/x/term, and doesn't": true,
	} {
		if slices.Contains(got, want) != found {
			t.Errorf("%q: found is %t, want %t", want, !found, found)
		}
	}
}

// The program ends in package main and begins there: elsewhere nothing runs unasked.
func TestNoInitNoExit(t *testing.T) {
	for _, dir := range []string{".", "../boincapi", "../resolve"} {
		err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
				return nil
			}
			src, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			found, err := unasked(name, src)
			for _, f := range found {
				t.Error(f)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	const bad = "package x\nfunc init() {}\nfunc f() { os.Exit(1); log.Fatalf(\"\") }\n"
	if got, err := unasked("x.go", []byte(bad)); len(got) != 3 || err != nil {
		t.Errorf("got %q, %v; want three findings", got, err)
	}
}

// unasked finds init functions, and calls that end the process outside package main.
func unasked(name string, src []byte) (found []string, err error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				found = append(found, files.Position(n.Pos()).String()+": init")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok || f.Name.Name == "main" {
				return true
			}
			if call := x.Name + "." + n.Sel.Name; call == "os.Exit" || strings.HasPrefix(call, "log.Fatal") {
				found = append(found, files.Position(n.Pos()).String()+": "+call+" outside package main")
			}
		}
		return true
	})
	return found, nil
}
