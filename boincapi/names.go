package boincapi

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// CoprocInfoFile lies in the client's data directory: the GPUs that it has found.
const CoprocInfoFile = "coproc_info.xml"

// Names of the files that client and app exchange in the slot directory.
// Sources: BOINC's lib/app_ipc.h, lib/shmem.h, lib/diagnostics.h, client/file_names.h.
const (
	InitDataFile      = "init_data.xml"        // client → app: who we are and what the job may use
	MmapFile          = "boinc_mmap_file"      // the shared segment on Unix
	LockFile          = "boinc_lockfile"       // held by the one app instance that works in the slot
	FinishFileName    = "boinc_finish_called"  // app → client: the job is over
	TemporaryExitFile = "boinc_temporary_exit" // app → client: start me again in N seconds
	TrickleUpFile     = "trickle_up.xml"       // app → client → project
	StderrFile        = "stderr.txt"           // its end is shown on the project's web site
	StdoutFile        = "stdout.txt"           // BOINC leaves it to the app
	SetupCompleteFile = "boinc_setup_complete" // the client has put all links and copies in place
	TaskStateFile     = "boinc_task_state.xml" // the client's note of the last checkpoint
	GraphicsAppName   = "graphics_app"         // logical name of a graphics program
	SporadicACFile    = "ac"                   // sporadic apps: what the app wants
	SporadicCAFile    = "ca"                   // sporadic apps: what the client grants
	TrickleDownPrefix = "trickle_down_"        // client → app, one file per message
	UploadReqPrefix   = "boinc_ufr_"           // app → client: upload this output file now
	SoftLinkTag       = "<soft_link>"          // begins a link file; the target and </soft_link> follow
	UploadStatPrefix  = "boinc_ufs_"           // client → app: how that went
)

// FoldName is one spelling of all names (path elements) that some file system may take for the same: of capital and small
// letters the small ones, without the blanks and dots at its end and the stream behind a colon, which Windows
// drops, and without the characters that HFS+ passes over. It is no name for a file.
//
// Source: "Naming Files, Paths, and Namespaces" of Windows' documentation; utf8.c in git's sources (next_hfs_char).
func FoldName(name string) string {
	name, _, _ = strings.Cut(name, ":")
	name = strings.Map(func(r rune) rune {
		if r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x206a && r <= 0x206f || r == 0xfeff {
			return -1
		}
		for least := unicode.SimpleFold(r); least != r; least = unicode.SimpleFold(least) {
			if least < 0x80 { // such as the k of the sign for kelvin
				return unicode.ToLower(least)
			}
		}
		return unicode.ToLower(r)
	}, name)
	return strings.TrimRight(name, ". ")
}

// Reserved reports whether name (one path element, as by FoldName) belongs to the client or to the
// runtime, so that a job's own files must not be called so.
func Reserved(name string) bool {
	name = FoldName(name)
	switch name {
	case InitDataFile, MmapFile, LockFile, FinishFileName, TemporaryExitFile, TrickleUpFile,
		StderrFile, StdoutFile, "stderrgfx.txt", "stdoutgfx.txt", SetupCompleteFile, TaskStateFile,
		GraphicsAppName, SporadicACFile, SporadicCAFile:
		return true
	}
	for _, prefix := range [...]string{TrickleDownPrefix, UploadReqPrefix, UploadStatPrefix} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// What a caller may want to tell apart.
var (
	ErrLocked    = errors.New("another instance holds the slot's lock")
	ErrNoSegment = errors.New("no shared memory segment")
	ErrFinished  = errors.New("the app has ended already")
	ErrNoReason  = errors.New("a temporary exit needs a reason")
	ErrBusy      = errors.New("the client has not taken the previous message yet")
)

// InitDataError says that init_data.xml is there but cannot be used.
type InitDataError struct {
	Path string
	Err  error
}

func (e *InitDataError) Error() string { return fmt.Sprintf("read %s: %v", e.Path, e.Err) }
func (e *InitDataError) Unwrap() error { return e.Err }
