//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The test binary plays boinc_resolve when this is set.
const actEnv = "BOINC_RESOLVE_TEST_ACT"

func TestMain(m *testing.M) {
	if os.Getenv(actEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// way is one of the ways to run boinc_resolve.
type way struct {
	name    string
	command []string
	path    string // PATH
}

func ways(t *testing.T) []way {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("boinc_resolve.sh")
	if err != nil {
		t.Fatal(err)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatalf("boinc_resolve.sh is tested with the POSIX shell sh, which is not installed: %v", err)
	}
	all := []way{
		{"program", []string{self}, ""},
		{"sh", []string{sh, script}, os.Getenv("PATH")},
	}
	busybox, err := exec.LookPath("busybox")
	switch {
	case err == nil:
		tools := t.TempDir() // nothing but what BusyBox brings, and what the script says it needs
		for _, tool := range []string{"dd", "tr", "sed", "readlink"} {
			if err := os.Symlink(busybox, filepath.Join(tools, tool)); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, way{"busybox", []string{busybox, "sh", script}, tools})
	case os.Getenv("TEST_BUSYBOX") == "required":
		t.Errorf("boinc_resolve.sh has to run under BusyBox too, which is not installed (Debian: busybox-static): %v", err)
	}
	return all
}

// run gives the exit code and what was printed.
func (w way) run(t *testing.T, dir string, env, args []string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(w.command[0], append(w.command[1:len(w.command):len(w.command)], args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append([]string{"PATH=" + w.path, actEnv + "=1", "GORACE=atexit_sleep_ms=0"}, env...)
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestBoincResolve(t *testing.T) {
	const (
		link    = "<soft_link>../../projects/p.org_x/in_0</soft_link>\n"
		target  = "../../projects/p.org_x/in_0"
		project = "BOINC_PROJECT_DIR=/app/project"
	)
	app := t.TempDir() // the working directory; the slot is mounted at slot
	slot := filepath.Join(app, "slot")
	inSlot := []string{project, "BOINC_SLOT_DIR=" + slot}
	path := func(physical string) string {
		return "<soft_link>../../projects/p.org_x/" + physical + "</soft_link>\n"
	}
	files := map[string]string{
		"slot/in":            link,
		"slot/out":           path("out_0"),
		"slot/data":          "1 2 3\n",
		"slot/sub/in":        link,
		"slot/empty":         "",
		"slot/crlf":          strings.TrimSpace(link) + "\r\n",
		"slot/unended":       strings.TrimSpace(link),
		"slot/two words":     path("two words"),
		"slot/-n":            link,
		"slot/--":            link,
		`slot/%s\n&$(x)`:     path(`%s\n&amp;$(x)`),
		"slot/entities":      path("&amp;&lt;&gt;&quot;&apos;&#233;&#32;&#65;|"),
		"slot/odd_entities":  path("&#0;&#10;&#31;&#256;&#065;&#x41;&#;&amp;lt;&#38;amp;&&b"),
		"slot/every_byte":    path(everyByte()),
		"slot/star":          path("*"),
		"slot/trimmed":       "<soft_link> \t\v\f a b \r </soft_link>\n",
		"slot/second":        "x\n" + link,
		"slot/then_more":     link + "<soft_link>b</soft_link>\n",
		"slot/nul":           "x\x00" + link,
		"slot/blank":         "<soft_link> </soft_link>\n",
		"slot/unclosed":      "<soft_link>a\n</soft_link>\n",
		"slot/long":          "<soft_link>" + strings.Repeat("a", 499) + "<",
		"slot/too_long":      "<soft_link>" + strings.Repeat("a", 500) + "<",
		"slot/elsewhere":     "<soft_link>/data/in_0</soft_link>\n",
		"slot/project":       "<soft_link>../../projects/p.org_x/</soft_link>\n",
		"slot/no_project":    "<soft_link>../../projects//in_0</soft_link>\n",
		"slot/below_project": path("a/b"),
		"in":                 "not the slot's\n",
		"-n":                 link,
	}
	for name, text := range files {
		name = filepath.Join(app, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"symlink": target, "inner_symlink": "in"} {
		if err := os.Symlink(target, filepath.Join(slot, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(slot, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name string
		env  []string
		args []string
		want string // without the newline; "" is a usage error
	}{
		{"a link", nil, []string{"slot/in"}, target},
		{"a link, project mounted", []string{project}, []string{"slot/in"}, "/app/project/in_0"},
		{"a slash after the mount point", []string{project + "/"}, []string{"slot/in"}, "/app/project/in_0"},
		{"an absolute name", []string{project}, []string{slot + "/in"}, "/app/project/in_0"},
		{"an output", inSlot, []string{"out"}, "/app/project/out_0"},
		{"a name in the slot", inSlot, []string{"crlf"}, "/app/project/in_0"},
		{"the working directory comes first", inSlot, []string{"in"}, "in"},
		{"a path from the working directory", inSlot, []string{"slot/in"}, "/app/project/in_0"},
		{"a sub-directory of the slot", inSlot, []string{"sub/in"}, "/app/project/in_0"},
		{"a slash after the slot", []string{"BOINC_SLOT_DIR=" + slot + "/"}, []string{"data"}, slot + "/data"},
		{"no link", nil, []string{"slot/data"}, "slot/data"},
		{"no link, in the slot", inSlot, []string{"data"}, slot + "/data"},
		{"missing", nil, []string{"none"}, "none"},
		{"missing, to be made in the slot", inSlot, []string{"none"}, slot + "/none"},
		{"a missing path", inSlot, []string{"slot/none"}, "slot/none"},
		{"a directory", inSlot, []string{"slot"}, "slot"},
		{"a directory of the slot", inSlot, []string{"sub"}, slot + "/sub"},
		{"a FIFO", inSlot, []string{"slot/fifo"}, "slot/fifo"},
		{"empty", inSlot, []string{"slot/empty"}, "slot/empty"},
		{"no newline at the end", inSlot, []string{"slot/unended"}, "/app/project/in_0"},
		{"white space around", inSlot, []string{"slot/trimmed"}, "a b"},
		{"spaces", inSlot, []string{"slot/two words"}, "/app/project/two words"},
		{"a dash", inSlot, []string{"-n"}, "/app/project/in_0"},
		{"a dash after two", inSlot, []string{"--", "-n"}, "/app/project/in_0"},
		{"two dashes", inSlot, []string{"--"}, "/app/project/in_0"},
		{"characters that shells like", inSlot, []string{`%s\n&$(x)`}, `/app/project/%s\n&$(x)`},
		{"a star", inSlot, []string{"star"}, "/app/project/*"},
		{"entities", inSlot, []string{"entities"}, "/app/project/&<>\"'\xe9 A|"},
		{"what is no entity", inSlot, []string{"odd_entities"}, "/app/project/&#0;&#10;&#31;&#256;&#065;&#x41;&#;&lt;&amp;&&b"},
		{"every byte", inSlot, []string{"every_byte"}, "/app/project/" + everyByte()},
		{"second line", inSlot, []string{"slot/second"}, "slot/second"},
		{"first line only", inSlot, []string{"slot/then_more"}, "/app/project/in_0"},
		{"NUL ends the line", inSlot, []string{"slot/nul"}, "slot/nul"},
		{"blank target", inSlot, []string{"slot/blank"}, "slot/blank"},
		{"not closed", inSlot, []string{"slot/unclosed"}, "slot/unclosed"},
		{"511 bytes", inSlot, []string{"slot/long"}, strings.Repeat("a", 499)},
		{"512 bytes", inSlot, []string{"slot/too_long"}, "slot/too_long"},
		{"a target elsewhere", inSlot, []string{"slot/elsewhere"}, "/data/in_0"},
		{"the project directory itself", inSlot, []string{"slot/project"}, "../../projects/p.org_x/"},
		{"no project name", inSlot, []string{"slot/no_project"}, "../../projects//in_0"},
		{"below the project directory", inSlot, []string{"slot/below_project"}, "/app/project/a/b"},
		{"a symbolic link", nil, []string{"slot/symlink"}, "slot/symlink"},
		{"a symbolic link, project mounted", inSlot, []string{"symlink"}, "/app/project/in_0"},
		{"a symbolic link within the slot", inSlot, []string{"inner_symlink"}, slot + "/inner_symlink"},
		{"no name", nil, nil, ""},
		{"an empty name", inSlot, []string{""}, ""},
		{"two names", inSlot, []string{"in", "out"}, ""},
	}
	for _, w := range ways(t) {
		t.Run(w.name, func(t *testing.T) {
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					wantCode, wantOut, wantErr := 0, tt.want+"\n", ""
					if tt.want == "" {
						wantCode, wantOut, wantErr = 2, "", "usage: boinc_resolve NAME\n"
					}
					code, out, errs := w.run(t, app, tt.env, tt.args)
					if code != wantCode || out != wantOut || errs != wantErr {
						t.Errorf("got %d, %q, %q\nwant %d, %q, %q", code, out, errs, wantCode, wantOut, wantErr)
					}
				})
			}
		})
	}
}

// everyByte holds all that a link's target can, beside & and <.
func everyByte() string {
	var b strings.Builder
	for c := 1; c < 256; c++ {
		if c != '\n' && c != '&' && c != '<' {
			b.WriteByte(byte(c))
		}
	}
	return b.String()
}
