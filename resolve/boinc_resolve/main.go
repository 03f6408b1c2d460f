// Boinc_resolve prints the path of a BOINC file for scripts inside a container:
//
//	worker "$(boinc_resolve in)" "$(boinc_resolve out)"
//
// NAME is the file's logical name, or a path to it: /app/slot/in, slot/in. A relative NAME that
// is not in the working directory is looked for in the slot; one without a slash that is nowhere
// yet is a file to be written there. The answer is NAME itself (or its place in the slot) if
// the file is no link, else where the link points, as seen from inside the container.
//
// Environment, set by docker_wrapper:
//
//	BOINC_SLOT_DIR     where the slot is mounted
//	BOINC_PROJECT_DIR  where the project directory is mounted, it stands for ../../projects/P;
//	                   without it the link's target is printed as it is
//
// There are no options: any one argument is a NAME, also one that begins with "-". The exit code
// is 0, or 2 for a usage error. The script boinc_resolve.sh beside it does the same.
package main

import (
	"fmt"
	"os"
	"strings"

	"boincdocker/resolve"
)

func main() {
	args := os.Args[1:]
	if len(args) == 2 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) != 1 || args[0] == "" {
		fmt.Fprintln(os.Stderr, "usage: boinc_resolve NAME")
		os.Exit(2)
	}
	path, err := find(args[0], os.Getenv("BOINC_SLOT_DIR"), os.Getenv("BOINC_PROJECT_DIR"))
	if err == nil {
		_, err = fmt.Println(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "boinc_resolve:", err)
		os.Exit(1)
	}
}

func find(name, slot, project string) (string, error) {
	if slot != "" && !strings.HasPrefix(name, "/") && !exists(name) {
		there := strings.TrimSuffix(slot, "/") + "/" + name
		if exists(there) || !strings.Contains(name, "/") {
			name = there
		}
	}
	physical, err := resolve.Path(name)
	if err != nil || project == "" {
		return physical, err
	}
	// The system would follow a symbolic link to ../../projects, which is not there.
	if target, err := os.Readlink(name); err == nil {
		if path, ok := mounted(target, project); ok {
			return path, nil
		}
		return name, nil
	}
	if physical != name {
		physical, _ = mounted(physical, project)
	}
	return physical, nil
}

// mounted is where ../../projects/P/PHYSICAL is found when the project's directory is mounted;
// any other target comes back unchanged.
func mounted(target, project string) (path string, ok bool) {
	rest, ok := strings.CutPrefix(target, "../../projects/")
	dir, physical, slash := strings.Cut(rest, "/")
	if !ok || !slash || dir == "" || physical == "" {
		return target, false
	}
	return strings.TrimSuffix(project, "/") + "/" + physical, true
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
