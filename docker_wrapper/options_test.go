package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseArgs(t *testing.T) {
	for _, tt := range []struct {
		args   string
		want   options
		client bool
		err    string
	}{
		{args: "", want: options{}},
		{args: "--config=a.toml --verbose x --dockerfile D --sporadic", want: options{config: "a.toml", dockerfile: "D", verbose: true, sporadic: true, args: []string{"x"}}},
		{args: "--config= -- --verbose", want: options{args: []string{"--verbose"}}},
		{args: "x --config", want: options{args: []string{"x"}}, err: "--config: want a file name after it"},
		{args: "--plan --check", want: options{plan: true, args: []string{"--check"}}},
		{args: "--verbose --plan", want: options{verbose: true, args: []string{"--plan"}}},
		{args: "--verbose=1 --plan=x --nthreads 2", want: options{args: []string{"--verbose=1", "--plan=x", "--nthreads", "2"}}},
		{args: "--doctor --json", want: options{doctor: true, json: true}},
		{args: "--doctor x --json", want: options{doctor: true, args: []string{"x", "--json"}}},
		{args: "--json", want: options{args: []string{"--json"}}},
		{args: "-h", want: options{help: true}},
		{args: "--version", want: options{showVersion: true}},
		{args: "a -- b", want: options{args: []string{"a", "--", "b"}}},

		{client: true, args: "--config a.toml --verbose x --dockerfile D --sporadic", want: options{config: "a.toml", dockerfile: "D", verbose: true, sporadic: true, args: []string{"x"}}},
		{client: true, args: "--config=a.yml --dockerfile=D --verbose=1", want: options{args: []string{"--config=a.yml", "--dockerfile=D", "--verbose=1"}}},
		{client: true, args: "--help", want: options{args: []string{"--help"}}},
		{client: true, args: "-h", want: options{args: []string{"-h"}}},
		{client: true, args: "--version -v", want: options{args: []string{"--version", "-v"}}},
		{client: true, args: "--check in", want: options{args: []string{"--check", "in"}}},
		{client: true, args: "--plan", want: options{args: []string{"--plan"}}},
		{client: true, args: "--doctor --json", want: options{args: []string{"--doctor", "--json"}}},
		{client: true, args: "plan", want: options{args: []string{"plan"}}},
		{client: true, args: "--verbose -- --verbose -- b", want: options{verbose: true, args: []string{"--verbose", "--", "b"}}},
		{client: true, args: "a -- --verbose", want: options{verbose: true, args: []string{"a", "--"}}},
	} {
		got, err := parseArgs(strings.Fields(tt.args), !tt.client)
		if fmt.Sprint(got) != fmt.Sprint(tt.want) || err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
			t.Errorf("%q: got %+v, %v; want %+v, %q", tt.args, got, err, tt.want, tt.err)
		}
	}
}

// The usage has every option on a line of its own.
func TestUsage(t *testing.T) {
	for _, opt := range new(options).table() {
		if !strings.Contains(usage(), "\n  "+opt.name+" ") || (opt.file == nil) == (opt.flag == nil) {
			t.Errorf("%s: is not in the usage, or not exactly one of file and flag is set", opt.name)
		}
	}
	for line := range strings.Lines(usage()) {
		if len(line) > 121 {
			t.Errorf("%q is longer than 120", line)
		}
	}
}
