//go:build linux || darwin

package boinctest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"boincdocker/boincapi"
)

// TestMain lets the test binary be an app of the client.
func TestMain(m *testing.M) {
	if role := os.Getenv("BOINCTEST_APP"); role != "" {
		os.Exit(app(role))
	}
	os.Exit(m.Run())
}

func app(role string) int {
	switch role {
	case "exit 0":
		return 0
	case "exit 3":
		return 3
	case "no reason":
		os.WriteFile(boincapi.TemporaryExitFile, []byte("600\n"), 0o644)
		return 0
	case "strange delay":
		os.WriteFile(boincapi.TemporaryExitFile, []byte("-5\nr\n"), 0o644)
		return 0
	case "temporary exit and code":
		os.WriteFile(boincapi.TemporaryExitFile, []byte("7\nr\nnotice\n"), 0o644)
		return 4
	}
	a, err := boincapi.Start(context.Background(), boincapi.Options{LockRetry: -1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cpu := a.InitData().WUCPUTime
	switch role {
	case "finish":
		a.Report(boincapi.Report{CPU: cpu + 5, CheckpointCPU: cpu + 3, RSS: 1e6})
		a.FinishNotice(0, "well done")
		return 0
	case "finish with 5":
		a.Finish(5, "")
		return 5
	case "temporary exit":
		a.TemporaryExit(10*time.Minute, "no engine", false)
		return 0
	}
	// "serve": reports what it hears on stderr, and obeys.
	a.SetWebGraphicsURL("http://localhost:12345")
	a.SendTrickleUp("v", "hello")
	a.UploadFile("out0")
	for st := range a.Status() {
		fmt.Fprintf(os.Stderr, "suspended=%v network_suspended=%v reread=%d trickle=%d upload=%d\n",
			st.Suspended, st.NetworkSuspended, st.Reread, st.TrickleDown, st.UploadStatus)
		cpu++
		a.Report(boincapi.Report{CPU: cpu, Fraction: .5})
		if st.Quit || st.Abort {
			a.Report(boincapi.Report{CPU: 1e6})
			a.Flush(context.Background())
			a.Close()
			return 0
		}
	}
	return 1
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	o.Dir, o.Poll = t.TempDir(), 20*time.Millisecond
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func start(t *testing.T, c *Client, role string) *Process {
	t.Helper()
	t.Setenv("BOINCTEST_APP", role)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	p, err := c.Start(ctx, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// eventually waits until the app has caught up.
func eventually(t *testing.T, c *Client, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(c.Slot(), boincapi.StderrFile))
			t.Fatalf("still waiting for %s; stderr.txt: %s", what, log)
		}
	}
}

func TestSegmentVector(t *testing.T) {
	want, err := os.ReadFile("../testdata/shm_example.bin")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, segmentSize)
	for at, text := range map[int]string{
		control:       "<suspend/>",
		graphicsReply: "<web_graphics_url>http://localhost:12345</web_graphics_url>",
		heartbeat:     "<heartbeat/><wss>3.500000e+08</wss><max_wss>8.000000e+09</max_wss><network_suspended/>",
		appStatus: "<current_cpu_time>1.250000e+01</current_cpu_time>\n<checkpoint_cpu_time>1.250000e+01</checkpoint_cpu_time>\n" +
			"<fraction_done>2.500000e-01</fraction_done>\n<wss>350000000.000000</wss>\n<want_network>1</want_network>\n",
		trickleUp:   "<have_new_trickle_up/>\n",
		trickleDown: "<have_trickle_down/>\n",
	} {
		if !send(got, at, text) {
			t.Fatalf("send at %d: got refused", at)
		}
		if send(got, at, "more") {
			t.Fatalf("send to a full channel at %d: got sent", at)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got a segment that differs from byte %d on", firstDifference(got, want))
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func TestInitDataVector(t *testing.T) {
	want, err := os.ReadFile("../testdata/init_data_example_unix.xml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := boincapi.ParseInitData(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := WriteInitData(&got, d); err != nil {
		t.Fatal(err)
	}
	if at := firstDifference(got.Bytes(), want); !bytes.Equal(got.Bytes(), want) {
		t.Errorf("from byte %d on: got %.80q, want %.80q", at, got.Bytes()[at:], want[at:])
	}
}

// Every field survives writing and reading, so that none is forgotten on either side.
func TestInitDataRoundTrip(t *testing.T) {
	var want boincapi.InitData
	fill(reflect.ValueOf(&want).Elem(), new(int))
	want.ShmKey, want.CommObjName = 0, "boinc_1"
	want.HostInfo.HaveWSL = true
	want.HostInfo.Coprocs = nil
	for _, c := range []boincapi.Coproc{{Tag: "coproc_cuda", Type: "NVIDIA", Name: "a", Major: 9, TotalGlobalMem: 5, HaveCUDA: true},
		{Tag: "coproc_ati", Type: "ATI", CALVersion: "1", AtiRTDetected: true}, {Tag: "coproc_intel_gpu", Type: "intel_gpu", Name: "i"},
		{Tag: "coproc_apple_gpu", Type: "apple_gpu", Name: "m", NCores: 8, HaveMetal: true}, {Tag: "coproc", Type: "odd", Count: 1}} {
		c.PeakFlops = 1e12
		c.OpenCL = &boincapi.OpenCLProp{Name: "cl", GlobalMemSize: 1 << 40}
		c.PCI = []boincapi.PCIInfo{{BusID: 1}, {BusID: 2, DomainID: 3}}
		want.HostInfo.Coprocs = append(want.HostInfo.Coprocs, c)
	}
	want.ProxyInfo.AutodetectPort, want.ProxyInfo.AutodetectProtocol = 0, 0 // clients write these only for a detected proxy
	var b bytes.Buffer
	if err := WriteInitData(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := boincapi.ParseInitData(&b)
	if err != nil {
		t.Fatal(err)
	}
	got.ShmKey = 0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// fill puts another value in each field.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d é", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + .5)
	}
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		app  string
		want Result
	}{
		{"finish", Result{Outcome: Success, FinishCode: 0, Message: "well done", Notice: true}},
		{"finish with 5", Result{Outcome: Error, ExitCode: 5, FinishCode: 5}},
		{"temporary exit", Result{Outcome: TemporaryExit, FinishCode: -1, Delay: 10 * time.Minute, Reason: "no engine"}},
		{"temporary exit and code", Result{Outcome: TemporaryExit, ExitCode: 4, FinishCode: -1, Delay: 7 * time.Second, Reason: "r", Notice: true}},
		{"no reason", Result{Outcome: Premature, FinishCode: -1}},
		{"strange delay", Result{Outcome: TemporaryExit, FinishCode: -1, Delay: 5 * time.Minute, Reason: "r"}},
		{"exit 0", Result{Outcome: Premature, FinishCode: -1}},
		{"exit 3", Result{Outcome: Error, ExitCode: 3, FinishCode: -1}},
	} {
		t.Run(c.app, func(t *testing.T) {
			if got := start(t, newClient(t, Options{}), c.app).Wait(); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestSignalOutcomes(t *testing.T) {
	for signal, want := range map[string]Outcome{"HUP": Restart, "INT": Restart, "QUIT": Restart, "KILL": Restart, "TERM": Restart,
		"USR1": Error, "ALRM": Error} {
		t.Run(signal, func(t *testing.T) {
			got, err := newClient(t, Options{}).Run(t.Context(), "/bin/sh", "-c", "kill -"+signal+" $$")
			if err != nil || got.Outcome != want || got.Signal == "" || got.ExitCode != -1 {
				t.Errorf("got %+v, %v, want %v by a signal", got, err, want)
			}
		})
	}
}

func TestConversation(t *testing.T) {
	for _, c := range []struct {
		name string
		sysV bool
	}{{"mapped file", false}, {"System V segment", true}} {
		t.Run(c.name, func(t *testing.T) {
			client := newClient(t, Options{SysV: c.sysV, Init: func(d *boincapi.InitData) { d.WUCPUTime = 50 }})
			if got := client.InitData().ShmKey == -1; got == c.sysV {
				t.Fatalf("got shm_key %d", client.InitData().ShmKey)
			}
			p := start(t, client, "serve")
			heard := func(text string) func() bool {
				return func() bool {
					b, _ := os.ReadFile(filepath.Join(client.Slot(), boincapi.StderrFile))
					return strings.Contains(string(b), text)
				}
			}
			eventually(t, client, "a status", func() bool { return client.Last().Count > 0 })
			if got := client.Last(); got.CPU < 50 || got.CheckpointCPU != 50 || got.Checkpoints != 0 || got.Fraction != .5 {
				t.Errorf("got %+v, want CPU time of at least 50 and no new checkpoint", got)
			}
			eventually(t, client, "graphics, trickle and upload", func() bool {
				return client.WebGraphicsURL() == "http://localhost:12345" && len(client.Trickles()) == 1 && len(client.Uploads()) == 1
			})
			if got, want := client.Trickles()[0], "<variety>v</variety>\nhello"; got != want {
				t.Errorf("trickle: got %q, want %q", got, want)
			}
			client.Suspend()
			eventually(t, client, "suspend", heard("suspended=true"))
			client.Resume()
			client.RereadAppInfo()
			eventually(t, client, "resume and reread", heard("suspended=false network_suspended=false reread=1"))
			client.SetNetworkSuspended(true)
			if err := client.TrickleDown("news"); err != nil {
				t.Error(err)
			}
			if err := client.UploadDone("out0", 1); err != nil {
				t.Error(err)
			}
			eventually(t, client, "notices", heard("network_suspended=true reread=1 trickle=1 upload=1"))
			client.Quit()
			if got := p.Wait(); got.Outcome != Restart || got.ExitCode != 0 {
				t.Errorf("got %+v, want to be restarted", got)
			}
			if got := client.Last().CPU; got != 1e6 {
				t.Errorf("last CPU time: got %v, want the one of the last moment", got)
			}
			p = start(t, client, "serve")
			client.Abort()
			if got := p.Wait(); got.Outcome != Aborted {
				t.Errorf("got %+v, want aborted", got)
			}
		})
	}
}

func TestControlQueue(t *testing.T) {
	c := newClient(t, Options{})
	var got []string
	take := func() {
		if text, ok := receive(c.segment, control); ok {
			got = append(got, text)
		}
	}
	c.Suspend() // delivered at once
	c.Resume()  // waits
	c.Suspend() // undoes the one that waits
	c.RereadAppInfo()
	c.Quit()
	for range 4 {
		take()
		c.Poll()
	}
	if want := []string{"<suspend/>", "<reread_app_info/>", "<quit/>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFiles(t *testing.T) {
	c := newClient(t, Options{Slot: 3})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.AddAppFile("Dockerfile_1", "Dockerfile", []byte("FROM scratch"), FileOptions{}))
	must(c.AddAppFile("run_1", "run", []byte("#!"), FileOptions{Copy: true, Executable: true, NotSigned: true}))
	must(c.AddInput("in_77", "dir/in", []byte("data"), false))
	must(c.AddInput("in_78", "", []byte("more"), true))
	c.Symlinks(true)
	linked, err := c.AddOutput(0, "out0", false)
	must(err)
	moved, err := c.AddOutput(1, "out1", true)
	must(err)
	must(os.WriteFile(filepath.Join(c.Slot(), "out0"), []byte("0"), 0o644))
	must(os.WriteFile(filepath.Join(c.Slot(), "out1"), []byte("1"), 0o644))
	must(c.CopyOutputs())
	for path, want := range map[string]string{
		filepath.Join(c.Slot(), "Dockerfile"): "<soft_link>../../projects/example.org_proj/Dockerfile_1</soft_link>\n",
		filepath.Join(c.Slot(), "run"):        "#!",
		filepath.Join(c.Slot(), "dir/in"):     "<soft_link>../../projects/example.org_proj/in_77</soft_link>\n",
		filepath.Join(c.Slot(), "in_78"):      "more",
		linked:                                "0",
		moved:                                 "1",
	} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v, want %q", path, b, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(c.Slot(), "run")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("run: got %v, %v, want it executable", info, err)
	}
	d, err := os.ReadFile(filepath.Join(c.Slot(), boincapi.InitDataFile))
	must(err)
	if got := strings.Count(string(d), "<app_file>"); got != 1 || !strings.Contains(string(d), "<app_file>Dockerfile_1</app_file>") {
		t.Errorf("got %d app files in %s, want Dockerfile_1 alone", got, d)
	}
	if want := filepath.Join(c.DataDir(), "slots", "3"); c.Slot() != want {
		t.Errorf("slot: got %s, want %s", c.Slot(), want)
	}
}
