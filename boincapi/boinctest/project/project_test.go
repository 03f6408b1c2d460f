package project

import (
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func newServer(t *testing.T) *Server {
	t.Helper()
	s, err := New("http://example.org/test/")
	if err != nil {
		t.Fatal(err)
	}
	s.AddVersion(Version{App: "app", Number: 100, Platform: "p", PlanClass: "docker", Files: []File{{Physical: "main_1", Data: []byte("main"), Executable: true}}})
	s.Add(Job{Result: "wu_0", CommandLine: `a "b" <c>`, Outputs: []string{"out"}, Inputs: []File{{Physical: "in_1", Logical: "in", Data: []byte("x")}}})
	return s
}

func ask(t *testing.T, s *Server, method, path, body string) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	data, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusOK {
		t.Fatalf("%s %s: status %d\n%s", method, path, w.Code, data)
	}
	return string(data)
}

// unhex reads BOINC's form of binary data.
func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSuffix(text, "."), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesAreSigned(t *testing.T) {
	s := newServer(t)
	reply := ask(t, s, "POST", "/test/scheduler", "<scheduler_request><platform_name>p</platform_name></scheduler_request>")
	bits, text, _ := strings.Cut(element(reply, "code_sign_key"), "\n")
	b := unhex(t, text)
	if bits != "1024" || len(b) != 256 {
		t.Fatalf("key of %s bits, %d bytes, want 1024 and 256", bits, len(b))
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(b[:128]), E: int(new(big.Int).SetBytes(b[128:]).Int64())}
	if err := rsa.VerifyPKCS1v15(key, crypto.Hash(0), []byte(sum([]byte("main"))), unhex(t, element(reply, "file_signature"))); err != nil {
		t.Error(err)
	}
	if got, want := element(reply, "command_line"), "a &#34;b&#34; &lt;c&gt;"; got != want {
		t.Errorf("command line %q, want %q", got, want)
	}
	again := ask(t, s, "POST", "/test/scheduler", "<scheduler_request><platform_name>p</platform_name><code_sign_key>\n1024\n</code_sign_key></scheduler_request>")
	if strings.Contains(again, "<result>") || strings.Contains(again, "code_sign_key") {
		t.Errorf("job or key sent twice:\n%s", again)
	}
}

func TestUploadAndReport(t *testing.T) {
	s := newServer(t)
	if got := ask(t, s, "GET", "/test/", ""); !strings.Contains(got, "<scheduler>http://example.org/test/scheduler</scheduler>") {
		t.Errorf("master page without scheduler:\n%s", got)
	}
	if got := ask(t, s, "GET", "/test/download/in_1", ""); got != "x" {
		t.Errorf("downloaded %q, want x", got)
	}
	const head = "<data_server_request>\n<file_upload>\n<file_info>\n<name>wu_r1_0</name>\n</file_info>\n<nbytes>4</nbytes>\n"
	upload := func(body string) string {
		return ask(t, s, "POST", "/test/upload", strings.ReplaceAll(body, "wu_r1_0", "wu_0_r1_0"))
	}
	for _, c := range []struct{ name, body, status, size string }{
		{"nothing yet", "<get_file_size>wu_r1_0</get_file_size>", "0", "0"},
		{"cut off", head + "<offset>0</offset>\n<data>\nab", "1", ""},
		{"other checksum", head + "<md5_cksum>0</md5_cksum>\n<offset>0</offset>\n<data>\nabcd", "1", ""},
		{"beyond the end", head + "<offset>2</offset>\n<data>\ncd", "1", ""},
		{"whole", head + "<offset>0</offset>\n<data>\na\n\x00b", "0", ""},
		{"all there", "<get_file_size>wu_r1_0</get_file_size>", "0", "4"},
	} {
		got := upload(c.body)
		if element(got, "status") != c.status || element(got, "file_size") != c.size {
			t.Errorf("%s: got %q, want status %s, size %q", c.name, got, c.status, c.size)
		}
	}
	reply := ask(t, s, "POST", "/test/scheduler", `<scheduler_request>
<core_client_major_version>7</core_client_major_version>
<core_client_minor_version>20</core_client_minor_version>
<core_client_release>5</core_client_release>
<result>
    <name>wu_0</name>
    <final_cpu_time>1.500000</final_cpu_time>
    <final_elapsed_time>2.000000</final_elapsed_time>
    <exit_status>7</exit_status>
    <state>3</state>
<stderr_out>
<core_client_version>7.20.5</core_client_version>
<![CDATA[
<stderr_txt>
<exit_status>9</exit_status>
</stderr_txt>
]]>
</stderr_out>
</result>
</scheduler_request>`)
	if got := element(element(reply, "result_ack"), "name"); got != "wu_0" {
		t.Errorf("acknowledged %q, want wu_0", got)
	}
	r, err := s.Report(t.Context(), "wu_0")
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitStatus != 7 || r.State != ComputeError || r.CPU != 1.5 || r.Elapsed != 2 || r.ClientVersion != "7.20.5" ||
		string(r.Outputs["out"]) != "a\n\x00b" || !strings.Contains(r.Stderr, "<exit_status>9") {
		t.Errorf("got %+v", r)
	}
}

func TestDir(t *testing.T) {
	s, err := New("http://127.0.0.1:8080/a~b/c/")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Dir(), "127.0.0.1_8080_a_b_c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := New("http://example.org/test"); err == nil {
		t.Error("a URL without / at its end was taken")
	}
}

func FuzzReports(f *testing.F) {
	f.Add("<result><name>a</name><stderr_out></result></stderr_out></result><result>")
	f.Fuzz(func(t *testing.T, request string) {
		if got := len(reports(request)); got > strings.Count(request, "<result>") {
			t.Errorf("%d reports of %q", got, request)
		}
	})
}
