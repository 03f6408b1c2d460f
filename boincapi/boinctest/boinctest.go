// Package boinctest plays the BOINC client for one job: it prepares the slot, starts the app, talks to
// it through the shared segment and judges its end as the client would.
package boinctest

import (
	"context"
	"errors"
	"io"
	"time"

	"boincdocker/boincapi"
)

var errTODO = errors.New("not there yet")

// Options says how the client behaves; the zero value of each but Dir is right for most tests.
type Options struct {
	Dir         string                   // data directory; slots/<Slot> and projects/<Project> are made in it
	Project     string                   // "" means "example.org_proj"
	Slot        int                      //
	Init        func(*boincapi.InitData) // changes init_data.xml before it is written
	SysV        bool                     // a System V segment in place of boinc_mmap_file
	ClientPID   int                      // what the app takes for the client; 0 means this process
	Poll        time.Duration            // how often the client looks; 0 means 1 s, as the real one
	NoHeartbeat bool                     // be silent
}

// FileOptions says how a file is presented in the slot.
type FileOptions struct {
	Copy       bool // a copy in place of a link
	Executable bool
	NotSigned  bool // not an app-version file: no <app_file> in init_data.xml
}

// Outcome is the client's verdict on an app that ended.
type Outcome int

// The verdicts. After Premature, TemporaryExit and Restart the client starts the app again.
const (
	Success Outcome = iota
	Error
	Premature
	TemporaryExit
	Restart
	Aborted
)

// Result is how an app ended.
type Result struct {
	Outcome    Outcome
	ExitCode   int           // -1 if a signal ended it
	Signal     string        // such as "killed"; "" if it exited
	Delay      time.Duration // of a temporary exit
	Reason     string        // of a temporary exit
	Notice     bool          // Reason or Message is to be shown to the user
	FinishCode int           // in boinc_finish_called; -1 without
	Message    string        // in boinc_finish_called
}

// AppStatus is what the app said of itself.
type AppStatus struct {
	CPU, CheckpointCPU   float64 // s
	Fraction             float64 // last non-zero one
	RSS                  float64 // bytes, last one
	WantNetwork          bool
	OtherPID, SporadicAC int
	Count                int       // messages so far, this one included
	Checkpoints          int       // times that CheckpointCPU changed
	At                   time.Time // when it was read
	Text                 string    // the message itself
}

// Client plays the client for one slot.
type Client struct{}

// Process is a running app.
type Process struct {
	PID int
}

func New(o Options) (*Client, error)                   { return nil, errTODO }
func (c *Client) Slot() string                         { return "" }
func (c *Client) ProjectDir() string                   { return "" }
func (c *Client) DataDir() string                      { return "" }
func (c *Client) InitData() boincapi.InitData          { return boincapi.InitData{} }
func (c *Client) SetInitData(func(*boincapi.InitData)) {}
func (c *Client) WriteInitData() error                 { return errTODO }
func (c *Client) AddAppFile(physical, logical string, data []byte, o FileOptions) error {
	return errTODO
}
func (c *Client) AddInput(physical, logical string, data []byte, copy bool) error { return errTODO }
func (c *Client) AddInputFile(physical, logical, fromPath string, copy, executable bool) error {
	return errTODO
}
func (c *Client) AddOutput(n int, logical string, copy bool) (physicalPath string, err error) {
	return "", errTODO
}
func (c *Client) Symlinks(on bool) {}
func (c *Client) Run(ctx context.Context, program string, args ...string) (Result, error) {
	return Result{}, errTODO
}
func (c *Client) Start(ctx context.Context, program string, args ...string) (*Process, error) {
	return nil, errTODO
}
func (p *Process) Wait() Result                               { return Result{} }
func (c *Client) Suspend()                                    {}
func (c *Client) Resume()                                     {}
func (c *Client) Quit()                                       {}
func (c *Client) Abort()                                      {}
func (c *Client) RereadAppInfo()                              {}
func (c *Client) SetNetworkSuspended(on bool)                 {}
func (c *Client) SetHeartbeat(on bool)                        {}
func (c *Client) TrickleDown(text string) error               { return errTODO }
func (c *Client) UploadDone(logical string, status int) error { return errTODO }
func (c *Client) Last() AppStatus                             { return AppStatus{} }
func (c *Client) Statuses() []AppStatus                       { return nil }
func (c *Client) WebGraphicsURL() string                      { return "" }
func (c *Client) RemoteDesktopAddr() string                   { return "" }
func (c *Client) Trickles() []string                          { return nil }
func (c *Client) Uploads() []string                           { return nil }
func (c *Client) CopyOutputs() error                          { return errTODO }
func (c *Client) Close() error                                { return errTODO }
func WriteInitData(w io.Writer, d boincapi.InitData) error    { return errTODO }
