package boincapi

import (
	"context"
	"errors"
	"io"
	"time"
)

var errTODO = errors.New("not there yet")

// Options says how Start works; the zero value is right for a normal app.
type Options struct {
	Dir       string        // slot directory; "" is the current one
	LockRetry time.Duration // wait before the second and last try for the lock; 0 means 35 s, negative no second try
	Sporadic  bool          // keep the files "ac" and "ca" in Dir, as BOINC's sporadic apps do
}

// Status is what the client wants, as far as it has said.
type Status struct {
	Suspended        bool
	Quit             bool // sticky
	Abort            bool // sticky
	ClientLost       bool // sticky
	Heartbeats       int  // seen so far; 0: nothing is known about the network yet
	NetworkSuspended bool
	Reread           int // times that the client asked to read init_data.xml again
	TrickleDown      int // times that a trickle-down message was announced
	UploadStatus     int // times that an intermediate upload's end was announced
	SporadicCA       int
	WSS, MaxWSS      float64 // bytes: measured by the client, and allowed to BOINC
}

// Report is what the client should know of the job.
type Report struct {
	CPU, CheckpointCPU float64 // s, over all episodes; both are always sent
	Fraction           float64 // 0..1; <= 0 means not known and is left out
	RSS                float64 // bytes
	RSSKnown           bool    // send RSS even if it is 0, which tells the client to measure itself
	WantNetwork        bool
	OtherPID           int // a process that the client counts, and kills when the app ends; 0 for none
	SporadicAC         int
}

// App is a running app of the BOINC client. All methods are safe for concurrent use.
type App struct{ status chan Status }

func Start(ctx context.Context, o Options) (*App, error)             { return nil, errTODO }
func (a *App) Standalone() bool                                      { return false }
func (a *App) InitData() InitData                                    { return InitData{} }
func (a *App) RereadInitData() (InitData, error)                     { return InitData{}, errTODO }
func (a *App) Status() <-chan Status                                 { return a.status }
func (a *App) Report(r Report)                                       {}
func (a *App) Flush(ctx context.Context)                             {}
func (a *App) TimeToCheckpoint() bool                                { return false }
func (a *App) CheckpointCompleted()                                  {}
func (a *App) SetMinCheckpointPeriod(d time.Duration)                {}
func (a *App) SetCheckpointPeriod(d time.Duration)                   {}
func (a *App) SendTrickleUp(variety, text string) error              { return errTODO }
func (a *App) ReceiveTrickleDown() (path string, ok bool, err error) { return "", false, errTODO }
func (a *App) UploadFile(logical string) error                       { return errTODO }
func (a *App) UploadStatus(logical string) (status int, known bool, err error) {
	return 0, false, errTODO
}
func (a *App) SetWebGraphicsURL(url string)                {}
func (a *App) SetRemoteDesktopAddr(addr string)            {}
func (a *App) Finish(code int, message string) error       { return errTODO }
func (a *App) FinishNotice(code int, message string) error { return errTODO }
func (a *App) TemporaryExit(delay time.Duration, reason string, notice bool) error {
	return errTODO
}
func (a *App) Close() error                                        { return errTODO }
func FinishFile(dir string) (code int, message string, found bool) { return 0, "", false }
func RedirectStderr(dir string) error                              { return errTODO }
func ParseInitData(r io.Reader) (InitData, error)                  { return InitData{}, errTODO }
func Redact(raw []byte) []byte                                     { return nil }
