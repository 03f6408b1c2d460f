package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"boincdocker/boincapi"
	"boincdocker/docker_wrapper/internal/job"
)

// options are the command line.
type options struct {
	config, dockerfile                                                     string
	verbose, sporadic, plan, check, clean, doctor, json, showVersion, help bool
	args                                                                   []string // the job's
}

// option is one option of the command line. Exactly one of file and flag is set.
type option struct {
	name    string
	file    *string // takes the file name after "=" or in the next argument
	flag    *bool
	first   bool   // only by hand, and only as the first argument: a job may have an argument of this name
	meaning string // for the usage
}

// table lists the options, except --, --json, which follows --doctor, and -h, which means --help.
func (o *options) table() []option {
	return []option{
		{name: "--config", file: &o.config, meaning: "the job's file (default job.toml; a missing one means defaults)"},
		{name: "--dockerfile", file: &o.dockerfile, meaning: "what its image is built from (default Dockerfile)"},
		{name: "--verbose", flag: &o.verbose, meaning: "log every call"},
		{name: "--sporadic", flag: &o.sporadic, meaning: "keep the files of BOINC's sporadic apps"},
		{name: "--plan", flag: &o.plan, first: true, meaning: "print what would be done, as JSON, and change nothing"},
		{name: "--check", flag: &o.check, first: true, meaning: "find all mistakes in job.toml, the Dockerfile and the files that they name; change nothing;\n" +
			"also in an app version's directory on a server, by its version.xml, or --check FILE"},
		{name: "--clean", flag: &o.clean, first: true, meaning: "by hand: remove the container and the images that runs in this directory have left"},
		{name: "--doctor", flag: &o.doctor, first: true, meaning: "print what the wrapper finds on this computer: engines, GPUs, free space;\n" +
			"--doctor --json prints it as JSON; the exit code is 0 if a job could run, else 206"},
		{name: "--version", flag: &o.showVersion, first: true, meaning: "print the version"},
		{name: "--help", flag: &o.help, first: true, meaning: "print this"},
	}
}

// parseArgs reads the command line. What is no option is the job's argument. Under a client the options are those of BOINC's own
// wrapper, in the form that it knows (samples/docker_wrapper in BOINC), and "--" before the job's arguments.
func parseArgs(argv []string, byHand bool) (o options, err error) {
	table := map[string]option{}
	for _, opt := range o.table() {
		table[opt.name] = opt
	}
	table["-h"] = table["--help"]
	for i := 0; i < len(argv); i++ {
		name, value, hasValue := strings.Cut(argv[i], "=")
		opt := table[name]
		switch {
		case argv[i] == "--" && len(o.args) == 0:
			o.args = argv[i+1:]
			return o, nil
		case opt.file != nil && hasValue && byHand:
			*opt.file = value
		case opt.file != nil && !hasValue:
			if i++; i == len(argv) {
				return o, fmt.Errorf("%s: want a file name after it", name)
			}
			*opt.file = argv[i]
		case opt.flag != nil && !hasValue && (!opt.first || byHand && i == 0):
			*opt.flag = true
		case i == 1 && o.doctor && argv[i] == "--json":
			o.json = true
		default:
			o.args = append(o.args, argv[i])
		}
	}
	return o, nil
}

// usage is the text of --help.
func usage() string {
	var always, first strings.Builder
	for _, opt := range new(options).table() {
		name, b := opt.name, &always
		if opt.file != nil {
			name += " F"
		}
		if opt.first {
			b = &first
		}
		fmt.Fprintf(b, "  %-17s%s\n", name, strings.ReplaceAll(opt.meaning, "\n", "\n"+strings.Repeat(" ", 19)))
	}
	fmt.Fprintf(&always, "  %-17s%s\n", "--", "the arguments after it are the job's")
	return `Usage: docker_wrapper [options] [the job's arguments]

Runs the job in the current directory in a container. If init_data.xml is there, it is the main program of a BOINC app.
Otherwise it runs standalone, without a client.

` + always.String() + "\nOnly as the first argument, and not where a client starts it:\n\n" + first.String() + `
The job's arguments reach the container in the variable ARGS. Standalone, the project directory is ./project, and the
wrapper refuses a first argument that looks like a mistyped option. In a slot all options count only at a terminal.
`
}

// mistyped returns the option that a person probably meant by the first argument; "" for none.
func mistyped(argv []string, o options) string {
	if len(argv) == 0 || len(o.args) == 0 || o.args[0] != argv[0] {
		return ""
	}
	name, isOption := strings.CutPrefix(argv[0], "--")
	if !isOption {
		return ""
	}
	var names []string
	for _, opt := range new(options).table() {
		names = append(names, strings.TrimPrefix(opt.name, "--"))
	}
	name, _, _ = strings.Cut(name, "=")
	if meant := job.Nearest(name, names); meant != "" {
		return "--" + meant
	}
	return ""
}

// isByHand reports whether a person started the wrapper: there is no client, or the errors go to a terminal, as when a person
// looks at a slot. A client has them in stderr.txt, or nowhere.
func isByHand(dir string, stderr io.Writer) bool { return isStandalone(dir) || isTerminal(stderr) }

// isStandalone reports whether the wrapper runs without a client: the slot has no init_data.xml. boincapi.Start, which
// waits if the client is rewriting the file, decides again.
func isStandalone(dir string) bool { return !exists(filepath.Join(dir, boincapi.InitDataFile)) }

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
