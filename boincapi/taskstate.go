package boincapi

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// maxAccount is the most that is read of an account file, in bytes. It has the project's preferences, too.
const maxAccount = 1 << 20

var masterURL = regexp.MustCompile(`<master_url>\s*([^<>\s]+)\s*</master_url>`)

// TaskState is the text of TaskStateFile for a job that can be resumed where it had used cpu and had run for elapsed, both
// over all episodes. The client itself writes the file at each checkpoint, and reads it only when it starts. What is more
// there than in its own state counts then. So the file tells a client that has ended what it doesn't hear any more.
//
// Format: ACTIVE_TASK::write_task_state_file in BOINC's client/app_control.cpp. The project's URL, which the client compares,
// is in its account file (client/cs_account.cpp).
func (d InitData) TaskState(cpu, elapsed time.Duration) (string, error) {
	name := filepath.Join(d.BoincDir, "account_"+filepath.Base(d.ProjectDir)+".xml")
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAccount))
	if err != nil {
		return "", err
	}
	url := masterURL.FindSubmatch(text)
	if url == nil {
		return "", &os.PathError{Op: "read", Path: name, Err: errors.New("there is no master_url")}
	}
	return fmt.Sprintf("<active_task>\n    <project_master_url>%s</project_master_url>\n    <result_name>%s</result_name>\n"+
		"    <checkpoint_cpu_time>%f</checkpoint_cpu_time>\n    <checkpoint_elapsed_time>%f</checkpoint_elapsed_time>\n</active_task>\n",
		url[1], d.ResultName, cpu.Seconds(), elapsed.Seconds()), nil
}
