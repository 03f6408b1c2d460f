package boincapi

import "strconv"

// apiVersion is the mark by which the project's server tools (BOINC's tools/update_versions) learn
// the API version from the executable: they look for a line of `strings` output that ends with
// API_VERSION_x.y.z, so the NUL bytes, which keep the linker's neighbouring strings off, are part of
// it. Without the mark the client falls back to System V shared memory and adds --device arguments.
// A variable, used by Start, since a constant would not be in the executable as it stands here.
var apiVersion = "\x00API_VERSION_8.2.15\x00"

// Exit codes of apps that the BOINC client and the project's web pages know by name.
//
// Source: BOINC's lib/error_numbers.h.
const (
	ExitStateFileWrite    = 192
	ExitSignal            = 193
	ExitAbortedByClient   = 194
	ExitChildFailed       = 195
	ExitDiskLimitExceeded = 196
	ExitTimeLimitExceeded = 197
	ExitMemLimitExceeded  = 198
	ExitClientExiting     = 199
	ExitUnstartedLate     = 200
	ExitMissingCoproc     = 201
	ExitAbortedByProject  = 202
	ExitAbortedViaGUI     = 203
	ExitUnknown           = 204
	ExitOutOfMemory       = 205
	ExitInitFailure       = 206
	ExitNoSubTasks        = 207
	ExitSubTaskFailure    = 208
	ExitOverdueExceeded   = 209 // clients 8.2.0 and later
)

var exitNames = [...]string{
	"EXIT_STATEFILE_WRITE", "EXIT_SIGNAL", "EXIT_ABORTED_BY_CLIENT", "EXIT_CHILD_FAILED",
	"EXIT_DISK_LIMIT_EXCEEDED", "EXIT_TIME_LIMIT_EXCEEDED", "EXIT_MEM_LIMIT_EXCEEDED",
	"EXIT_CLIENT_EXITING", "EXIT_UNSTARTED_LATE", "EXIT_MISSING_COPROC", "EXIT_ABORTED_BY_PROJECT",
	"EXIT_ABORTED_VIA_GUI", "EXIT_UNKNOWN", "EXIT_OUT_OF_MEMORY", "EXIT_INIT_FAILURE",
	"EXIT_NO_SUB_TASKS", "EXIT_SUB_TASK_FAILURE", "EXIT_OVERDUE_EXCEEDED",
}

// ExitName is BOINC's name of an exit code, such as EXIT_OUT_OF_MEMORY for 205, or the number in
// decimal where it has none.
func ExitName(code int) string {
	if i := code - ExitStateFileWrite; i >= 0 && i < len(exitNames) {
		return exitNames[i]
	}
	return strconv.Itoa(code)
}
