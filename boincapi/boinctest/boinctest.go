// Package boinctest plays the BOINC client for one job: it prepares the slot, starts the app, talks to
// it through the shared segment and judges its end as the client would.
package boinctest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"boincdocker/boincapi"
)

// Options says how the client behaves; the zero value of each but Dir is right for most tests.
type Options struct {
	Dir         string                   // data directory; slots/<Slot> and projects/<Project> are made in it
	Project     string                   // "" means "example.org_proj"
	Slot        int                      // number of the slot directory
	Init        func(*boincapi.InitData) // changes init_data.xml before it is written
	SysV        bool                     // a System V segment in place of boinc_mmap_file
	ClientPID   int                      // what the app takes for the client; 0 means this process
	Poll        time.Duration            // how often the client looks; 0 means 1 s, as the real one
	NoHeartbeat bool                     // be silent
	Env         []string                 // KEY=VALUE, added to this process's environment for the app
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

// Client plays the client for one slot. All methods are safe for concurrent use.
type Client struct {
	options Options

	mu       sync.Mutex
	init     boincapi.InitData
	segment  []byte
	destroy  func() error
	symlinks bool
	outputs  []string // logical names of the "copy" kind, each followed by the physical path

	queue            []string // control messages that wait for room
	quit, abort      bool     // asked of the app that runs
	silent           bool
	networkSuspended bool
	trickleDown      bool // notices that wait for room
	uploadStatus     bool

	statuses   []AppStatus
	webURL     string
	remoteAddr string
	trickles   []string
	uploads    []string
}

// New makes the slot and project directories, the segment, all zero, and init_data.xml. An app in the same
// process can be started right away; its client then is moved on by Poll.
func New(o Options) (*Client, error) {
	if o.Project == "" {
		o.Project = "example.org_proj"
	}
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.ClientPID == 0 {
		o.ClientPID = os.Getpid()
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	c := &Client{options: o, silent: o.NoHeartbeat}
	for _, dir := range []string{c.Slot(), c.ProjectDir()} {
		if err := os.MkdirAll(dir, 0o771); err != nil {
			return nil, err
		}
	}
	c.init = boincapi.InitData{
		MajorVersion: 8, MinorVersion: 2, Release: 15, AppVersion: 100, UserID: 1, HostID: 1,
		AppName: "app", PlanClass: "docker", WUName: "wu", ResultName: "wu_0", Slot: o.Slot,
		UserName: "Test User", Authenticator: "0123456789abcdef0123456789abcdef",
		ProjectDir: filepath.ToSlash(c.ProjectDir()), BoincDir: o.Dir, ClientPID: o.ClientPID, ShmKey: -1,
		ResourceShareFraction: 1, CheckpointPeriod: 60, FractionDoneEnd: 1,
		GPUDeviceNum: -1, GPUOpenCLDevIndex: -1, NCPUs: 1, RscFpopsEst: 1e12, RscFpopsBound: 1e15,
		RscMemoryBound: 1e9, RscDiskBound: 1e10, ProcessPriority: -1, ProcessPrioritySpecial: -1,
		ComputationDeadline: float64(time.Now().Add(7 * 24 * time.Hour).Unix()),
		HostInfo: boincapi.HostInfo{
			NCPUs: runtime.NumCPU(), MemBytes: 16e9, OSName: "Linux", DockerVersion: "28.5.2", DockerType: boincapi.Docker,
		},
		GlobalPrefs: boincapi.GlobalPrefs{
			RunIfUserActive: true, DiskInterval: 60, CPUUsageLimit: 100, RAMMaxUsedBusyPct: 50, RAMMaxUsedIdlePct: 90,
		},
	}
	if c.segment, c.destroy, err = createSegment(c.Slot(), o.SysV, &c.init); err != nil {
		return nil, err
	}
	if o.Init != nil {
		o.Init(&c.init)
	}
	if err := c.WriteInitData(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := os.WriteFile(filepath.Join(c.Slot(), boincapi.SetupCompleteFile), nil, 0o644); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close removes the segment, but no files.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.segment == nil {
		return nil
	}
	c.segment = nil
	return c.destroy()
}

// DataDir is the client's data directory, absolute as the other two.
func (c *Client) DataDir() string { return c.options.Dir }

// Slot is the slot directory.
func (c *Client) Slot() string {
	return filepath.Join(c.options.Dir, "slots", fmt.Sprint(c.options.Slot))
}

// ProjectDir is the project's directory.
func (c *Client) ProjectDir() string {
	return filepath.Join(c.options.Dir, "projects", c.options.Project)
}

// InitData is what the client says in init_data.xml.
func (c *Client) InitData() boincapi.InitData {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.init
	d.AppFiles = slices.Clone(d.AppFiles)
	return d
}

// SetInitData changes what the next WriteInitData writes.
func (c *Client) SetInitData(change func(*boincapi.InitData)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.init)
}

// WriteInitData puts a new init_data.xml in the slot, as the client does: the old one is removed first.
func (c *Client) WriteInitData() error {
	path := filepath.Join(c.Slot(), boincapi.InitDataFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(WriteInitData(f, c.InitData()), f.Close())
}

// Symlinks makes the links that are added from now on symbolic ones, as for projects with use_symlinks.
func (c *Client) Symlinks(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.symlinks = on
}

// AddAppFile puts a file of the app version in the project directory and presents it in the slot.
func (c *Client) AddAppFile(physical, logical string, data []byte, o FileOptions) error {
	if err := c.writeProjectFile(physical, data, o.Executable); err != nil {
		return err
	}
	if !o.NotSigned {
		c.SetInitData(func(d *boincapi.InitData) { d.AppFiles = append(d.AppFiles, physical) })
		if err := c.WriteInitData(); err != nil {
			return err
		}
	}
	return c.present(physical, logical, o.Copy)
}

// AddInput puts an input file of the job in the project directory and presents it in the slot.
func (c *Client) AddInput(physical, logical string, data []byte, copy bool) error {
	return c.AddAppFile(physical, logical, data, FileOptions{Copy: copy, NotSigned: true})
}

// AddInputFile is AddInput with the data of a file.
func (c *Client) AddInputFile(physical, logical, fromPath string, copy, executable bool) error {
	data, err := os.ReadFile(fromPath)
	if err != nil {
		return err
	}
	return c.AddAppFile(physical, logical, data, FileOptions{Copy: copy, Executable: executable, NotSigned: true})
}

// AddOutput declares the job's nth output file. Unless it is to be copied, its link is put in the slot.
func (c *Client) AddOutput(n int, logical string, copy bool) (physicalPath string, err error) {
	physical := fmt.Sprintf("%s_r123_%d", c.InitData().ResultName, n)
	physicalPath = filepath.Join(c.ProjectDir(), physical)
	if copy {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.outputs = append(c.outputs, logical, physicalPath)
		return physicalPath, nil
	}
	return physicalPath, c.present(physical, logical, false)
}

// CopyOutputs moves "copy" outputs from the slot to the project directory, as the client does after
// the last exit. One that is missing is passed over.
func (c *Client) CopyOutputs() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for pair := range slices.Chunk(c.outputs, 2) {
		err := os.Rename(filepath.Join(c.Slot(), pair[0]), pair[1])
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Client) writeProjectFile(physical string, data []byte, executable bool) error {
	mode := os.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	return os.WriteFile(filepath.Join(c.ProjectDir(), physical), data, mode)
}

// present makes the copy or link in the slot; one that is there is left alone.
func (c *Client) present(physical, logical string, copy bool) error {
	if logical == "" {
		logical = physical
	}
	path := filepath.Join(c.Slot(), logical)
	if err := os.MkdirAll(filepath.Dir(path), 0o771); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	target := "../../projects/" + c.options.Project + "/" + physical
	c.mu.Lock()
	symlinks := c.symlinks
	c.mu.Unlock()
	switch {
	case copy:
		from := filepath.Join(c.ProjectDir(), physical)
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, info.Mode())
	case symlinks:
		return os.Symlink(target, path)
	default:
		return os.WriteFile(path, []byte("<soft_link>"+target+"</soft_link>\n"), 0o644)
	}
}

// Process is a running app.
type Process struct {
	PID int

	client *Client
	done   chan struct{}
	result Result
	cpu    time.Duration
}

// Run is Start and Wait.
func (c *Client) Run(ctx context.Context, program string, args ...string) (Result, error) {
	p, err := c.Start(ctx, program, args...)
	if err != nil {
		return Result{}, err
	}
	return p.Wait(), nil
}

// Start begins an episode: it removes a left-over boinc_temporary_exit, writes init_data.xml, clears
// the segment and the queues, starts the program in the slot directory, and polls until it has ended.
// When ctx is done the program is killed.
//
// Source: ACTIVE_TASK::start in BOINC's client/app_start.cpp.
func (c *Client) Start(ctx context.Context, program string, args ...string) (*Process, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(c.Slot(), boincapi.TemporaryExitFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := c.WriteInitData(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	clear(c.segment)
	c.queue, c.quit, c.abort = nil, false, false
	c.mu.Unlock()

	stderr, err := os.OpenFile(filepath.Join(c.Slot(), boincapi.StderrFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	if filepath.Dir(program) == c.ProjectDir() {
		cmd.Args[0] = "../../projects/" + c.options.Project + "/" + filepath.Base(program)
	}
	cmd.Dir = c.Slot()
	cmd.Stderr = stderr
	libraries := "../../projects/" + c.options.Project + ":.:../.."
	if old := os.Getenv("LD_LIBRARY_PATH"); old != "" {
		libraries += ":" + old
	}
	cmd.Env = append(append(os.Environ(), "LD_LIBRARY_PATH="+libraries), c.options.Env...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{PID: cmd.Process.Pid, client: c, done: make(chan struct{})}
	exited := make(chan struct{})
	go func() {
		cmd.Wait() // its error is in cmd.ProcessState
		close(exited)
	}()
	go p.watch(cmd, exited)
	return p, nil
}

// Wait returns how the app ended.
func (p *Process) Wait() Result {
	<-p.done
	return p.result
}

// CPU is the user and system time that the app used, its own children included, once it has ended.
func (p *Process) CPU() time.Duration {
	<-p.done
	return p.cpu
}

func (p *Process) watch(cmd *exec.Cmd, exited <-chan struct{}) {
	defer close(p.done)
	t := time.NewTicker(p.client.options.Poll)
	defer t.Stop()
	p.client.Poll()
	for {
		select {
		case <-t.C:
			p.client.Poll()
		case <-exited:
			p.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			p.result = p.client.judge(cmd.ProcessState)
			return
		}
	}
}

// Poll is what the client does once a second: it sends a heartbeat and what waits to be sent, and reads
// what the app has to say. While a Process runs this goes by itself.
func (c *Client) Poll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.segment == nil {
		return
	}
	if !c.silent {
		beat := fmt.Sprintf("<heartbeat/><wss>%e</wss><max_wss>%e</max_wss>", c.measuredWSS(), c.init.HostInfo.MemBytes/2)
		if c.networkSuspended {
			beat += "<network_suspended/>"
		}
		send(c.segment, heartbeat, beat)
	}
	c.sendNotices()
	if len(c.queue) > 0 && send(c.segment, control, c.queue[0]) {
		c.queue = c.queue[1:]
	}
	c.read()
	if text, ok := receive(c.segment, graphicsReply); ok {
		if s, ok := stringIn(text, "web_graphics_url"); ok {
			c.webURL = s
		}
		if s, ok := stringIn(text, "remote_desktop_addr"); ok {
			c.remoteAddr = s
		}
	}
}

func (c *Client) measuredWSS() float64 {
	if n := len(c.statuses); n > 0 {
		return c.statuses[n-1].RSS
	}
	return 0
}

func (c *Client) sendNotices() {
	if c.segment == nil {
		return
	}
	if c.trickleDown && send(c.segment, trickleDown, "<have_trickle_down/>\n") {
		c.trickleDown = false
	}
	if c.uploadStatus && send(c.segment, trickleDown, "<upload_file_status/>\n") {
		c.uploadStatus = false
	}
}

// read takes what is read after the exit, too.
func (c *Client) read() {
	if c.segment == nil {
		return
	}
	if text, ok := receive(c.segment, appStatus); ok {
		c.statuses = append(c.statuses, c.lastStatus().next(text))
	}
	text, _ := receive(c.segment, trickleUp)
	if strings.Contains(text, "<have_new_trickle_up/>") {
		c.takeTrickle()
	}
	if strings.Contains(text, "<have_new_upload_file/>") {
		c.takeUploads()
	}
}

func (c *Client) takeTrickle() {
	path := filepath.Join(c.Slot(), boincapi.TrickleUpFile)
	taken := filepath.Join(c.ProjectDir(), fmt.Sprintf("trickle_up_%s_%d.xml", c.init.ResultName, time.Now().Unix()))
	if err := os.Rename(path, taken); err != nil {
		os.Remove(path)
		return
	}
	if data, err := os.ReadFile(taken); err == nil {
		c.trickles = append(c.trickles, string(data))
	}
}

func (c *Client) takeUploads() {
	requests, err := filepath.Glob(filepath.Join(c.Slot(), boincapi.UploadReqPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range requests {
		c.uploads = append(c.uploads, strings.TrimPrefix(filepath.Base(path), boincapi.UploadReqPrefix))
		os.Remove(path)
	}
}

// next is the status after a message: what the client remembers and what it forgets.
//
// Source: get_app_status_msg in BOINC's client/app_control.cpp.
func (s AppStatus) next(text string) AppStatus {
	before := s.CheckpointCPU
	s.CPU, _ = numberIn(text, "current_cpu_time")
	s.CheckpointCPU, _ = numberIn(text, "checkpoint_cpu_time")
	s.CPU, s.CheckpointCPU = max(s.CPU, 0), max(s.CheckpointCPU, 0)
	if x, ok := numberIn(text, "fraction_done"); ok && x != 0 {
		s.Fraction = x
	}
	if x, ok := numberIn(text, "wss"); ok {
		s.RSS = x
	}
	if x, ok := numberIn(text, "other_pid"); ok {
		s.OtherPID = int(x)
	}
	if x, ok := numberIn(text, "sporadic_ac"); ok {
		s.SporadicAC = int(x)
	}
	want, _ := numberIn(text, "want_network")
	s.WantNetwork = want != 0
	if s.CheckpointCPU != before {
		s.Checkpoints++
	}
	s.Count++
	s.At, s.Text = time.Now(), text
	return s
}

// post sends a control message, or queues it while there is no room. One that is not delivered yet and
// would be undone by it is dropped instead.
//
// Source: ACTIVE_TASK::suspend and unsuspend in BOINC's client/app_control.cpp.
func (c *Client) post(text, undoes string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch text {
	case "<quit/>":
		c.quit = true
	case "<abort/>":
		c.abort = true
	}
	if n := len(c.queue); n > 0 && c.queue[n-1] == undoes {
		c.queue = c.queue[:n-1]
		return
	}
	if c.segment == nil || len(c.queue) > 0 || !send(c.segment, control, text) {
		c.queue = append(c.queue, text)
	}
}

// Suspend asks the app to stop computing.
func (c *Client) Suspend() { c.post("<suspend/>", "<resume/>") }

// Resume asks the app to go on.
func (c *Client) Resume() { c.post("<resume/>", "<suspend/>") }

// Quit asks the app to exit, to be started again later.
func (c *Client) Quit() { c.post("<quit/>", "") }

// Abort asks the app to exit for good.
func (c *Client) Abort() { c.post("<abort/>", "") }

// RereadAppInfo says that init_data.xml has changed; call WriteInitData before.
func (c *Client) RereadAppInfo() { c.post("<reread_app_info/>", "") }

// SetNetworkSuspended says in the heartbeats that the network may not be used.
func (c *Client) SetNetworkSuspended(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.networkSuspended = on
}

// SetHeartbeat turns the heartbeats on and off.
func (c *Client) SetHeartbeat(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = !on
}

// TrickleDown delivers a message of the project to the app.
func (c *Client) TrickleDown(text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprintf("%s%d", boincapi.TrickleDownPrefix, time.Now().Unix())
	if err := os.WriteFile(filepath.Join(c.Slot(), name), []byte(text), 0o644); err != nil {
		return err
	}
	c.trickleDown = true
	c.sendNotices()
	return nil
}

// UploadDone tells the app how an upload of Uploads ended: 1 is well, negative numbers are BOINC's errors.
func (c *Client) UploadDone(logical string, status int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := filepath.Join(c.Slot(), boincapi.UploadStatPrefix+logical)
	if err := os.WriteFile(path, fmt.Appendf(nil, "<status>%d</status>\n", status), 0o644); err != nil {
		return err
	}
	c.uploadStatus = true
	c.sendNotices()
	return nil
}

// Last is the newest status, the zero value before there is one.
func (c *Client) Last() AppStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastStatus()
}

func (c *Client) lastStatus() AppStatus {
	if len(c.statuses) == 0 {
		// The client knows of the last episode's checkpoint, so that repeating it is not a new one.
		return AppStatus{CPU: c.init.WUCPUTime, CheckpointCPU: c.init.WUCPUTime}
	}
	return c.statuses[len(c.statuses)-1]
}

// Statuses are all of them, oldest first.
func (c *Client) Statuses() []AppStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.statuses)
}

// WebGraphicsURL is the one that the app has announced, or "".
func (c *Client) WebGraphicsURL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.webURL
}

// RemoteDesktopAddr is the one that the app has announced, or "".
func (c *Client) RemoteDesktopAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remoteAddr
}

// Trickles are the trickle-up messages that were taken, whole files.
func (c *Client) Trickles() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.trickles)
}

// Uploads are the logical names of the files whose upload the app has asked for.
func (c *Client) Uploads() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.uploads)
}
