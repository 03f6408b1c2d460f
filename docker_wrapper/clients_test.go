//go:build clients

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"boincdocker/boincapi"
	"boincdocker/boincapi/boinctest/project"
	"boincdocker/docker_wrapper/internal/job"
)

// These tests run jobs with real BOINC clients and the release binary. The older client is installed on the host and uses
// the host's engine. The newer one runs in a container with its own engine, because it removes containers that it doesn't
// know. scripts/clients.sh provides both.
//
// The tests check what the project's server receives and what is left on the host.

const (
	newerWorld  = "boinc_test_newer_world" // the image of scripts/newer-world.sh
	authkey     = "0123456789abcdef0123456789abcdef"
	rpcPassword = "clients"
	clientLog   = "client.log" // the client's output
	platform    = "x86_64-pc-linux-gnu"
	shortJob    = 0.3             // tolerance of CPU time in s, where 3 % is less
	patienceFor = 3 * time.Minute // time limit of one step
	input       = "a line of input\n"
	wantOut     = "A LINE OF INPUT\n"
)

// scenarios are the rows of the table.
var scenarios = []struct {
	name string
	how  how
	run  func(*testing.T, *world)
}{
	{"run", alone, testRun}, // because it measures CPU time
	{"exit code", together, testExitCode},
	{"suspend and resume", together, testSuspend},
	{"abort", alone, testAbort}, // with another job's report the client would report it before it has ended
	{"two at once", together, testTwo},
	{"clean after these", alone, func(*testing.T, *world) {}},
	{"quit and restart", alone, testRestart},
	{"network suspended", alone, testNetwork},
	{"throttled to 50 %", alone, testThrottle},
	{"reset", alone, testReset},
	{"detach", alone, testDetach},
	{"quit three times", apart, testQuits},
	{"quit and container lost", apart, testLost},
}

// how says which client runs a scenario.
type how int

const (
	alone    how = iota // after the others, because it concerns the whole client
	together            // with others at the same time
	apart               // one of its own, beside the others, because it takes long
)

func TestClients(t *testing.T) {
	dir := t.TempDir()
	for _, pkg := range []string{".", "./testdata/clients/worker"} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	var table table
	for _, s := range scenarios {
		table.rows = append(table.rows, s.name)
	}
	var worlds []*world
	t.Cleanup(func() {
		for _, w := range worlds { // at the end, because both users' clients share one image
			if !w.newer && w.dir != "" {
				removeAll(t, w.dir, "images", "-q", "rmi")
			}
		}
		table.print()
	})
	for _, newer := range []bool{false, true} {
		for _, w := range []*world{{user: "root"}, {user: "boinc"}, {user: "boinc", apart: true}} {
			w.newer, w.programs = newer, dir
			worlds = append(worlds, w)
			column := table.column(w.name())
			for _, s := range scenarios {
				if w.apart != (s.how == apart) {
					column.leaveOut(s.name)
				}
			}
			t.Run(w.name(), func(t *testing.T) {
				t.Parallel()
				w.open(t)
				t.Run("together", func(t *testing.T) {
					for _, s := range scenarios {
						if s.how == together && !w.apart {
							t.Run(s.name, func(t *testing.T) {
								t.Parallel()
								column.note(t, s.name)
								defer w.explain(t)
								s.run(t, w)
							})
						}
					}
				})
				for _, s := range scenarios {
					if s.how == alone && !w.apart || s.how == apart && w.apart {
						t.Run(s.name, func(t *testing.T) {
							column.note(t, s.name)
							defer w.explain(t)
							w.boinccmd(t, "--set_network_mode", "always")
							s.run(t, w)
							w.clean(t)
						})
					}
				}
			})
		}
	}
}

func testRun(t *testing.T, w *world) {
	j := w.send(t, "Run", "--seconds 10")
	j.begun(t)
	j.succeeds(t)
}

func testExitCode(t *testing.T, w *world) {
	j := w.send(t, "Code", "--exit 7")
	r := j.report(t)
	if r.State != project.ComputeError || r.ExitStatus != 7 {
		t.Errorf("state %d, exit status %d, want %d and 7", r.State, r.ExitStatus, project.ComputeError)
	}
	if want := "the job ended with code 7"; !strings.Contains(r.Stderr, want) {
		t.Errorf("stderr lacks %q:\n%s", want, r.Stderr)
	}
}

func testSuspend(t *testing.T, w *world) {
	j := w.send(t, "Suspend", "--seconds 4")
	j.computed(t, time.Second)
	w.boinccmd(t, "--task", w.server.URL(), j.result, "suspend")
	j.becomes(t, "paused")
	used := j.cpu(t)
	// Ask the client twice. If the job weren't suspended, it would use CPU time meanwhile.
	slowly(t, "the client to have it suspended", func() bool {
		return strings.Contains(w.task(t, j.result), "suspended via GUI: yes")
	})
	w.boinccmd(t, "--get_state")
	if now := j.cpu(t); now-used > 10*time.Millisecond {
		t.Errorf("used %v while it was suspended", now-used)
	}
	w.boinccmd(t, "--task", w.server.URL(), j.result, "resume")
	j.becomes(t, "running")
	j.succeeds(t)
}

func testAbort(t *testing.T, w *world) {
	j := w.send(t, "Abort", "--seconds 300")
	j.computed(t, time.Second)
	w.boinccmd(t, "--task", w.server.URL(), j.result, "abort")
	r := j.report(t)
	if r.State != project.Aborted || r.ExitStatus != boincapi.ExitAbortedViaGUI {
		t.Errorf("state %d, exit status %d, want %d and %d", r.State, r.ExitStatus, project.Aborted, boincapi.ExitAbortedViaGUI)
	}
	j.cpuIsRight(t, r)
}

func testRestart(t *testing.T, w *world) {
	j := w.send(t, "Restart", "--seconds 5")
	j.computed(t, time.Second)
	w.quit(t)
	j.becomes(t, "paused")
	stray := "boinc__" + w.server.Dir() + "__stray_0"
	if w.newer { // at its start it removes a container with such a name that belongs to none of its jobs
		w.engine(t, "create", "--name", stray, "hello-world")
	}
	w.start(t)
	j.becomes(t, "running") // the same container
	j.succeeds(t)
	if got := w.engine(t, "ps", "-aq", "--filter", "name="+stray); got != "" {
		t.Errorf("the client didn't remove the stray container, so this test shows nothing about its clean-up")
	}
}

// testQuits compares what the server is told with the container. 3 % of the job's minute and a half is more than the client's
// granularity of 1 s (TASK_POLL_PERIOD in BOINC's client/app.h). The job rests most of the time and leaves the processor to
// the other clients.
func testQuits(t *testing.T, w *world) {
	j := w.send(t, "Quits", "--rounds 180")
	for n := range time.Duration(3) {
		j.hasRun(t, 12*time.Second*(n+1))
		w.quit(t)
		j.becomes(t, "paused")
		w.start(t)
		j.becomes(t, "running")
	}
	// A client that may leave no job in memory quits one that it suspends, if it believes in a checkpoint.
	w.preferences(t, 100, 0)
	w.boinccmd(t, "--read_global_prefs_override")
	j.hasRun(t, 48*time.Second)
	w.boinccmd(t, "--task", w.server.URL(), j.result, "suspend")
	slowly(t, "the job to be gone", func() bool { return strings.Contains(w.task(t, j.result), "active_task_state: UNINITIALIZED") })
	w.boinccmd(t, "--task", w.server.URL(), j.result, "resume")
	j.becomes(t, "running")
	r := j.succeeds(t) // and CPU time is right
	if n := strings.Count(r.Stderr, "leaving; the job is resumed"); n != 4 {
		t.Errorf("the job was left %d times, want 4:\n%s", n, r.Stderr)
	}
	ran := j.running().Seconds()
	t.Logf("elapsed %.1f s, the container ran %.1f s", r.Elapsed, ran)
	if math.Abs(r.Elapsed-ran) > 0.03*ran {
		t.Errorf("elapsed %.1f s, but the container ran %.1f s", r.Elapsed, ran)
	}
}

// testLost removes a container while its client is away, as a restart of the host would end it. The server must not be told of
// the time that is lost.
func testLost(t *testing.T, w *world) {
	const lost = 12 * time.Second
	j := w.send(t, "Lost", "--rounds 30")
	j.hasRun(t, lost)
	w.quit(t)
	w.engine(t, "rm", "-f", j.id)
	w.start(t)
	again := &task{w: w, result: j.result, sent: j.sent}
	again.begun(t)
	r := again.report(t)
	if r.State != project.Uploaded || r.ExitStatus != 0 {
		t.Fatalf("state %d, exit status %d, want %d and 0:\n%s", r.State, r.ExitStatus, project.Uploaded, r.Stderr)
	}
	again.cpuIsRight(t, r)
	ran := again.running()
	t.Logf("elapsed %.1f s, the new container ran %.1f s, the lost one %.1f s", r.Elapsed, ran.Seconds(), j.running().Seconds())
	if least, most := 0.97*ran.Seconds(), (ran + lost/2).Seconds(); r.Elapsed < least || r.Elapsed > most { // making it takes a while
		t.Errorf("elapsed %.1f s, want from %.1f to %.1f s", r.Elapsed, least, most)
	}
}

func testNetwork(t *testing.T, w *world) {
	j := w.send(t, "Network", "--seconds 3")
	j.begun(t)
	w.boinccmd(t, "--set_network_mode", "never")
	slowly(t, "the end of the job", func() bool { return strings.Contains(w.task(t, j.result), "state: uploading") })
	if got := w.server.Uploads(j.result); got != 0 {
		t.Errorf("%d files uploaded though the network is suspended", got)
	}
	w.boinccmd(t, "--set_network_mode", "always")
	w.boinccmd(t, "--network_available")
	j.succeeds(t)
}

func testTwo(t *testing.T, w *world) {
	a, b := w.add("Two_a", "--seconds 5"), w.add("Two_b", "--seconds 5")
	w.update(t, a, b)
	a.begun(t)
	b.begun(t)
	if ca, cb := a.state(t), b.state(t); ca != "running" || cb != "running" {
		t.Errorf("states %s and %s, want both running", ca, cb)
	}
	a.succeeds(t)
	b.succeeds(t)
}

func testThrottle(t *testing.T, w *world) {
	w.preferences(t, 50, 1)
	w.boinccmd(t, "--read_global_prefs_override")
	j := w.send(t, "Throttle", "--seconds 5")
	j.begun(t)
	var running, changes int
	var states []string
	eventuallyIn(t, "the job to compute", func() bool {
		state := j.state(t)
		if n := len(states); n > 0 && states[n-1] != state {
			changes++
		}
		if states = append(states, state); state == "running" {
			running++
		}
		return j.cpu(t) > 4*time.Second
	})
	share := float64(running) / float64(len(states))
	t.Logf("suspended and resumed %d times, running %.0f %% of the time", changes, 100*share)
	if share < 0.35 || share > 0.65 || changes < 4 {
		t.Errorf("running %.0f %% of the time, want about 50, in turns: %v", 100*share, states)
	}
	j.succeeds(t)
	w.preferences(t, 100, 1)
	w.boinccmd(t, "--read_global_prefs_override")
}

func testReset(t *testing.T, w *world) {
	j := w.send(t, "Reset", "--seconds 300")
	j.computed(t, time.Second)
	w.boinccmd(t, "--project", w.server.URL(), "reset")
	slowly(t, "the job to be forgotten", func() bool { return w.task(t, j.result) == "" })
	w.next(t, j)
}

func testDetach(t *testing.T, w *world) {
	j := w.send(t, "Detach", "--seconds 300")
	j.computed(t, time.Second)
	w.boinccmd(t, "--project", w.server.URL(), "detach")
	slowly(t, "the job to be forgotten", func() bool { return w.task(t, j.result) == "" })
	w.attach(t)
	w.next(t, j)
}

// next runs another job after the client has forgotten one. When a project is reset or detached, clients before 8.2.9
// only ask its jobs to quit. The next wrapper under this client removes the forgotten job's container.
func (w *world) next(t *testing.T, forgotten *task) {
	j := w.send(t, "Next", "")
	j.succeeds(t)
	if got := forgotten.state(t); got != "" {
		t.Errorf("the container of the job that was forgotten is %s, want none", got)
	}
}

// world is a client, the user it runs as, and the engine that its jobs use.
type world struct {
	newer    bool
	user     string
	apart    bool   // it runs the scenarios that are apart, and no others
	programs string // directory with docker_wrapper and worker

	dir     string   // the data directory
	inside  []string // prefix of a command that runs where the client does
	server  *project.Server
	version string
	asker   *http.Client // for calls to the engine
	port    int          // of the client's GUI RPCs
	jobs    int

	mu     sync.Mutex // guards jobs
	client *exec.Cmd
	exited chan struct{}
}

func (w *world) name() string {
	version, who := "7.20", w.user
	if w.newer {
		version = "8.2"
	}
	if w.apart {
		who = "apart"
	}
	return version + " " + who
}

// open prepares everything and attaches the client to its project.
func (w *world) open(t *testing.T) {
	var err error
	if w.dir, err = os.MkdirTemp("", "clients_"+w.user+"_"); err != nil {
		t.Fatal(err)
	}
	if w.dir, err = filepath.EvalSymlinks(w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close(t) })
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if w.newer {
		l = w.openNewer(t)
		w.port = 31416
	} else {
		socket, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://")
		if !ok {
			socket = "/var/run/docker.sock"
		}
		w.asker = askerOf(socket)
		l = listen(t)
		free := listen(t)
		w.port = free.Addr().(*net.TCPAddr).Port
		free.Close()
	}
	if w.server, err = project.New("http://" + l.Addr().String() + "/test/"); err != nil {
		t.Fatal(err)
	}
	go http.Serve(l, w.server)
	t.Cleanup(func() { l.Close() })
	w.server.AddVersion(w.appVersion(t))
	w.configure(t)
	w.start(t)
	w.attach(t)
}

// openNewer starts the newer world: a container with its own engine and network. It returns a listener in that network.
func (w *world) openNewer(t *testing.T) net.Listener {
	name := "boinc_test_" + filepath.Base(w.dir)
	args := []string{"run", "-d", "--rm", "--name", name, "--label", "boinc_test_clients=" + os.Getenv("CLIENTS_RUN"), "--network", "none", "--cgroupns", "host",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--device-cgroup-rule", "a *:* rwm", "--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec",
		"-v", "/sys/fs/cgroup:/sys/fs/cgroup", "-v", "/var/lib/docker", "-v", w.dir + ":" + w.dir}
	for _, c := range capabilities(t) {
		args = append(args, "--cap-add", c)
	}
	command(t, "docker", append(args, newerWorld, "sh", "-c",
		"mount -o remount,rw /sys; mount -o remount,rw /proc/sys; exec dockerd --iptables=false --ip6tables=false --group docker")...)
	w.inside = []string{"docker", "exec", name}
	t.Cleanup(func() { command(t, "docker", "rm", "-fv", name) })
	slowly(t, "the newer world's engine", func() bool {
		_, err := w.try("docker", "version")
		if err != nil && command(t, "docker", "ps", "-q", "--filter", "name="+name) == "" {
			t.Fatal("the newer world's engine has ended")
		}
		return err == nil
	})
	// The client runs this image to test the engine: its output must contain "Hello".
	command(t, "sh", "-c", "tar -C "+w.programs+" -c worker | docker exec -i "+name+` docker import -c 'ENTRYPOINT ["/worker"]' - hello-world`)
	pid := command(t, "docker", "inspect", "-f", "{{.State.Pid}}", name)
	w.asker = askerOf("/proc/" + pid + "/root/run/docker.sock")
	return listenIn(t, "/proc/"+pid+"/ns/net")
}

// ask calls the engine's API. Running the docker command so often would take too much CPU time.
func (w *world) ask(t *testing.T, path string, query url.Values, answer any) bool {
	t.Helper()
	return ask(t, w.asker, path, query, answer)
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// listenIn listens in another network namespace.
func listenIn(t *testing.T, namespace string) net.Listener {
	var l net.Listener
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that the thread ends with this goroutine
		var f *os.File
		if f, err = os.Open(namespace); err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}()
	<-done
	if err != nil {
		t.Fatal("listen in the newer world's network: ", err)
	}
	return l
}

// capabilities lists those of this process that older engines know.
func capabilities(t *testing.T) []string {
	names := strings.Fields("chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable " +
		"net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace " +
		"sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control " +
		"setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read")
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "CapEff:\t")
	line, _, _ := strings.Cut(after, "\n")
	bits, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for i, n := range names {
		if bits>>i&1 == 1 {
			have = append(have, n)
		}
	}
	return have
}

func (w *world) appVersion(t *testing.T) project.Version {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(w.programs, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return project.Version{App: "worker", Number: 100, Platform: platform, PlanClass: "docker", APIVersion: "8.2.15", Files: []project.File{
		{Physical: "docker_wrapper_1_" + platform, Data: read("docker_wrapper"), Executable: true},
		{Physical: "Dockerfile_1", Logical: "Dockerfile", Copy: true, Data: []byte("FROM scratch\nCOPY worker /worker\nWORKDIR /app\nENTRYPOINT [\"/worker\"]\n")},
		{Physical: "job_1.toml", Logical: "job.toml", Copy: true, Data: []byte("# All defaults.\n")},
		{Physical: "worker_1", Logical: "worker", Copy: true, Executable: true, Data: read("worker")},
	}}
}

// configure writes the data directory's files, and gives it to the user.
func (w *world) configure(t *testing.T) {
	w.preferences(t, 100, 1)
	for name, text := range map[string]string{
		"gui_rpc_auth.cfg": rpcPassword,
		"cc_config.xml": `<cc_config>
<log_flags><task_debug>1</task_debug><sched_op_debug>1</sched_op_debug><app_msg_send>1</app_msg_send></log_flags>
<options>
<report_results_immediately>1</report_results_immediately>
<dont_contact_ref_site>1</dont_contact_ref_site>
<skip_cpu_benchmarks>1</skip_cpu_benchmarks>
<ncpus>6</ncpus>
</options>
</cc_config>
`,
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, "chown", "-R", w.user, w.dir)
}

// preferences writes the volunteer's preferences: compute always, at cpu percent, and leave suspended jobs in memory (1) or not (0).
func (w *world) preferences(t *testing.T, cpu, inMemory int) {
	text := fmt.Sprintf(`<global_preferences>
<run_on_batteries>1</run_on_batteries>
<run_if_user_active>1</run_if_user_active>
<suspend_cpu_usage>0</suspend_cpu_usage>
<niu_suspend_cpu_usage>0</niu_suspend_cpu_usage>
<leave_apps_in_memory>%[2]d</leave_apps_in_memory>
<max_ncpus_pct>100</max_ncpus_pct>
<niu_max_ncpus_pct>100</niu_max_ncpus_pct>
<cpu_usage_limit>%[1]d</cpu_usage_limit>
<niu_cpu_usage_limit>%[1]d</niu_cpu_usage_limit>
<ram_max_used_busy_pct>90</ram_max_used_busy_pct>
<ram_max_used_idle_pct>90</ram_max_used_idle_pct>
<disk_max_used_gb>0</disk_max_used_gb>
<disk_max_used_pct>100</disk_max_used_pct>
<disk_min_free_gb>0.1</disk_min_free_gb>
<disk_interval>5</disk_interval>
</global_preferences>
`, cpu, inMemory)
	if err := os.WriteFile(filepath.Join(w.dir, "global_prefs_override.xml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts the client and waits until it listens.
func (w *world) start(t *testing.T) {
	args := append([]string{}, w.inside...)
	if w.user != "root" {
		args = append(args, "setpriv", "--reuid", w.user, "--regid", w.user, "--groups", "docker")
	}
	args = append(args, "env", "HOME="+w.dir, "boinc", "--dir", w.dir, "--skip_cpu_benchmarks", "--gui_rpc_port", strconv.Itoa(w.port))
	cmd := exec.Command(args[0], args[1:]...)
	// Not a pipe: if this test is killed, the client would no longer quit when asked to.
	log, err := os.OpenFile(filepath.Join(w.dir, clientLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, w.dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !w.newer { // for the script, if this test is killed
		if err := os.WriteFile(filepath.Join(w.dir, "client.pid"), fmt.Appendln(nil, cmd.Process.Pid), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.client, w.exited = cmd, make(chan struct{})
	go func() {
		cmd.Wait() // its exit code doesn't matter
		close(w.exited)
	}()
	slowly(t, "the client to answer", func() bool {
		select {
		case <-w.exited:
			t.Fatalf("the client has ended:\n%s", w.tail())
		default:
		}
		out, err := w.tryBoinccmd("--client_version")
		w.version = strings.TrimPrefix(strings.TrimSpace(out), "Client version: ")
		return err == nil
	})
}

// quit ends the client as a volunteer would.
func (w *world) quit(t *testing.T) {
	w.boinccmd(t, "--quit")
	select {
	case <-w.exited:
	case <-time.After(patienceFor):
		t.Fatal("the client doesn't quit")
	}
}

func (w *world) attach(t *testing.T) {
	w.boinccmd(t, "--project_attach", w.server.URL(), authkey)
	before := len(w.server.Requests())
	eventuallyIn(t, "the client to contact its project", func() bool { return len(w.server.Requests()) > before })
}

// close ends the client and removes its containers and files.
func (w *world) close(t *testing.T) {
	if w.client != nil {
		w.tryBoinccmd("--quit")
		select {
		case <-w.exited:
		case <-time.After(20 * time.Second):
			w.client.Process.Kill()
		}
	}
	if !w.newer {
		removeAll(t, w.dir, "ps", "-aq", "rm")
	}
	if err := os.RemoveAll(w.dir); err != nil {
		t.Error(err)
	}
}

// removeAll removes the host engine's containers or images that have a data directory's label.
func removeAll(t *testing.T, dir, list, option, remove string) {
	ids := strings.Fields(command(t, "docker", list, option, "--filter", "label="+job.LabelDataDir+"="+dir))
	if slices.Sort(ids); len(ids) > 0 {
		command(t, "docker", append([]string{remove, "-f"}, slices.Compact(ids)...)...)
	}
}

// clean asserts that no container and no file in a slot is left.
func (w *world) clean(t *testing.T) {
	t.Helper()
	if got := w.engine(t, "ps", "-a", "--filter", "label="+job.LabelDataDir+"="+w.dir, "--format", "{{.Names}} {{.Status}}"); got != "" {
		t.Errorf("containers left: %s", got)
	}
	var left []string
	look := func() bool {
		left = nil
		err := filepath.WalkDir(filepath.Join(w.dir, "slots"), func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !d.IsDir() {
				left = append(left, name)
			}
			return err
		})
		return err == nil && len(left) == 0
	}
	if !every(100*time.Millisecond, 30*time.Second, look) {
		t.Errorf("left in the slots: %v", left)
	}
}

// explain logs the client's output and more, if the test has failed.
func (w *world) explain(t *testing.T) {
	if t.Failed() {
		t.Logf("the client:\n%s", w.tail())
		out, _ := w.try("docker", "ps", "-a")
		t.Logf("the engine:\n%s", out)
		for _, name := range glob(t, filepath.Join(w.dir, "slots/*/stderr.txt")) {
			data, _ := os.ReadFile(name)
			t.Logf("%s:\n%s", name, data)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (w *world) tail() string {
	b, err := os.ReadFile(filepath.Join(w.dir, clientLog))
	if err != nil {
		return err.Error()
	}
	const most = 6000
	return string(b[max(0, len(b)-most):])
}

// containerName is the name that the design requires. The newer client's clean-up must find its jobs' containers. An older
// one's containers must have a name that no client's clean-up finds.
func (w *world) containerName(result string) string {
	if w.newer {
		return "boinc__" + strings.ToLower(w.server.Dir()+"__"+result)
	}
	asked := "boinc_" + w.server.Dir() + "_" + result
	name := strings.ToLower(asked)
	if name != asked { // results may differ only in case
		name += fmt.Sprintf("_%x", sha256.Sum256([]byte(asked)))[:9]
	}
	return name
}

// try runs a command where the client runs.
func (w *world) try(args ...string) (string, error) {
	args = append(slices.Clone(w.inside), args...)
	ctx, cancel := context.WithTimeout(context.Background(), patienceFor)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (w *world) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w *world) engine(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, append([]string{"docker"}, args...)...)
}

func (w *world) tryBoinccmd(args ...string) (string, error) {
	return w.try(append([]string{"boinccmd", "--host", fmt.Sprintf("127.0.0.1:%d", w.port), "--passwd", rpcPassword}, args...)...)
}

func (w *world) boinccmd(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.tryBoinccmd(args...)
	if err != nil {
		t.Fatalf("boinccmd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// task returns the client's description of a job, "" if it doesn't have the job.
func (w *world) task(t *testing.T, result string) string {
	t.Helper()
	_, rest, ok := strings.Cut(w.boinccmd(t, "--get_tasks"), "name: "+result+"\n")
	if !ok {
		return ""
	}
	one, _, _ := strings.Cut(rest, ") -----------")
	return one
}

// task is a job of a world.
type task struct {
	w      *world
	result string
	sent   time.Time
	id     string // of its container

	mu   sync.Mutex    // guards what follows
	used time.Duration // CPU time
	ran  time.Duration // not paused
}

// send gives the client a job, and watches its container from then on.
func (w *world) send(t *testing.T, name, args string) *task {
	t.Helper()
	j := w.add(name, args)
	w.update(t, j)
	return j
}

func (w *world) add(name, args string) *task {
	w.mu.Lock()
	w.jobs++
	j := &task{w: w, result: fmt.Sprintf("%s_%s_%d_0", name, filepath.Base(w.dir), w.jobs)}
	w.mu.Unlock()
	j.sent = time.Now()
	if args == "" {
		args = "--seconds 1"
	}
	w.server.Add(project.Job{Result: j.result, CommandLine: args, Outputs: []string{"out"},
		Inputs: []project.File{{Physical: j.result + "_in", Logical: "in", Data: []byte(input)}}})
	return j
}

// update makes the client contact the project, and waits until it has got the jobs.
func (w *world) update(t *testing.T, jobs ...*task) {
	t.Helper()
	w.boinccmd(t, "--project", w.server.URL(), "update")
	ctx, cancel := context.WithTimeout(t.Context(), patienceFor)
	defer cancel()
	for _, j := range jobs {
		if err := w.server.Sent(ctx, j.result); err != nil {
			t.Fatal(err)
		}
	}
}

// begun waits for the job's container.
func (j *task) begun(t *testing.T) {
	t.Helper()
	if j.id != "" {
		return
	}
	filters, err := json.Marshal(map[string][]string{"label": {job.LabelResult + "=" + j.result, job.LabelDataDir + "=" + j.w.dir}})
	if err != nil {
		t.Fatal(err)
	}
	eventuallyIn(t, "the container of "+j.result, func() bool {
		var list []struct {
			ID    string `json:"Id"`
			Names []string
		}
		j.w.ask(t, "/containers/json", url.Values{"filters": {string(filters)}}, &list)
		if len(list) == 0 {
			return false
		}
		j.id = list[0].ID
		if got, want := list[0].Names[0], "/"+j.w.containerName(j.result); got != want {
			t.Errorf("container %s, want %s", got, want)
		}
		return true
	})
	go j.watch(j.id)
}

// watch records CPU time and running time of the container's control group until the container ends.
func (j *task) watch(id string) {
	for last := time.Now(); ; {
		used, err := groupCPU(id)
		if err != nil {
			return
		}
		paused, now := groupFrozen(id), time.Now()
		j.mu.Lock()
		j.used = used
		if !paused {
			j.ran += now.Sub(last)
		}
		j.mu.Unlock()
		last = now
		time.Sleep(10 * time.Millisecond)
	}
}

// groupFrozen reports whether a container's control group, v1 or v2, is frozen.
func groupFrozen(id string) bool {
	for _, path := range []string{"docker/" + id, "system.slice/docker-" + id + ".scope"} {
		if data, err := os.ReadFile("/sys/fs/cgroup/freezer/" + path + "/freezer.state"); err == nil {
			return strings.TrimSpace(string(data)) == "FROZEN"
		}
		if data, err := os.ReadFile("/sys/fs/cgroup/" + path + "/cgroup.events"); err == nil {
			return strings.Contains(string(data), "frozen 1")
		}
	}
	return false
}

// groupCPU returns the CPU time of a container's control group, v1 or v2.
func groupCPU(id string) (time.Duration, error) {
	for _, dir := range []string{"/sys/fs/cgroup/cpuacct/docker/" + id, "/sys/fs/cgroup/cpuacct/system.slice/docker-" + id + ".scope"} {
		if data, err := os.ReadFile(dir + "/cpuacct.usage"); err == nil {
			ns, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			return time.Duration(ns), err
		}
	}
	for _, dir := range []string{"/sys/fs/cgroup/docker/" + id, "/sys/fs/cgroup/system.slice/docker-" + id + ".scope"} {
		if data, err := os.ReadFile(dir + "/cpu.stat"); err == nil {
			var us int64
			_, err := fmt.Sscanf(string(data), "usage_usec %d", &us)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fs.ErrNotExist
}

func (j *task) cpu(t *testing.T) time.Duration {
	t.Helper()
	j.begun(t)
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.used
}

// computed waits until the job has used that much CPU time.
func (j *task) computed(t *testing.T, cpu time.Duration) {
	t.Helper()
	j.begun(t)
	eventuallyIn(t, "the job to compute", func() bool { return j.cpu(t) >= cpu })
}

// hasRun waits until the job has run for so long.
func (j *task) hasRun(t *testing.T, d time.Duration) {
	t.Helper()
	j.begun(t)
	eventuallyIn(t, "the job to run", func() bool { return j.running() > d })
}

// running is for how long the container has run, without the time that it was paused.
func (j *task) running() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ran
}

// state is the container's state, "" if there is none.
func (j *task) state(t *testing.T) string {
	t.Helper()
	j.begun(t)
	var c struct{ State struct{ Status string } }
	if !j.w.ask(t, "/containers/"+j.id+"/json", nil, &c) {
		return ""
	}
	return c.State.Status
}

func (j *task) becomes(t *testing.T, state string) {
	t.Helper()
	eventuallyIn(t, "the container to be "+state, func() bool { return j.state(t) == state })
}

func (j *task) report(t *testing.T) project.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceFor)
	defer cancel()
	stop := make(chan struct{})
	asked := make(chan struct{})
	// After an error a client waits minutes before it reports, so make it contact the project. But it would report an
	// aborted job even before the process has ended, without the final CPU time, so wait for "ready to report".
	go func() {
		defer close(asked)
		every(time.Second, patienceFor, func() bool {
			select {
			case <-stop:
				return true
			default:
				out, err := j.w.tryBoinccmd("--get_tasks")
				_, one, _ := strings.Cut(out, "name: "+j.result+"\n")
				one, _, _ = strings.Cut(one, ") -----------")
				if err != nil || !strings.Contains(one, "ready to report: yes") || strings.Contains(one, "ABORT_PENDING") {
					return false
				}
				j.w.tryBoinccmd("--project", j.w.server.URL(), "update")
				return true
			}
		})
	}()
	r, err := j.w.server.Report(ctx, j.result)
	close(stop)
	<-asked
	if err != nil {
		t.Fatal(err)
	}
	if r.ClientVersion != j.w.version {
		t.Errorf("reported by client %s, want %s", r.ClientVersion, j.w.version)
	}
	readable := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r < 0x7f {
			return -1
		}
		return r
	}, r.Stderr)
	if readable != "" {
		t.Errorf("stderr has unreadable characters %q:\n%s", readable, r.Stderr)
	}
	return r
}

// succeeds asserts that the server received the complete report of a successful job.
func (j *task) succeeds(t *testing.T) project.Report {
	t.Helper()
	r := j.report(t)
	if r.State != project.Uploaded || r.ExitStatus != 0 {
		t.Fatalf("state %d, exit status %d, want %d and 0:\n%s", r.State, r.ExitStatus, project.Uploaded, r.Stderr)
	}
	if got := string(r.Outputs["out"]); got != wantOut {
		t.Errorf("output %q, want %q", got, wantOut)
	}
	for _, want := range []string{"docker_wrapper", "worker: begun", "worker: done", "called boinc_finish(0)"} {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, r.Stderr)
		}
	}
	if n := strings.Count(r.Stderr, "worker: begun"); n != 1 {
		t.Errorf("the job began %d times, want once:\n%s", n, r.Stderr)
	}
	j.cpuIsRight(t, r)
	if least, most := r.CPU-1, r.At.Sub(j.sent).Seconds(); r.Elapsed < least || r.Elapsed > most {
		t.Errorf("elapsed %.1f s, want from %.1f to %.1f s", r.Elapsed, least, most)
	}
	return r
}

// cpuIsRight compares the reported CPU time with the control group's.
func (j *task) cpuIsRight(t *testing.T, r project.Report) {
	t.Helper()
	if j.id == "" {
		return // its container was never found
	}
	got, want := r.CPU, j.cpu(t).Seconds()
	t.Logf("CPU time %.3f s, the control group's %.3f s, elapsed %.1f s", got, want, r.Elapsed)
	if tolerance := max(0.03*want, shortJob); math.Abs(got-want) > tolerance {
		t.Errorf("CPU time %.3f s, the control group's is %.3f s", got, want)
	}
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventuallyIn waits for a condition.
func eventuallyIn(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !every(100*time.Millisecond, patienceFor, ok) {
		t.Fatal("timed out waiting for " + what)
	}
}

// slowly is eventuallyIn for a condition that needs another program, at longer intervals.
func slowly(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !every(500*time.Millisecond, patienceFor, ok) {
		t.Fatal("timed out waiting for " + what)
	}
}
