package boincapi

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTaskState(t *testing.T) {
	dir := t.TempDir()
	d := InitData{BoincDir: dir, ProjectDir: filepath.Join(dir, "projects", "example.org_test"), ResultName: "wu_0"}
	account := filepath.Join(dir, "account_example.org_test.xml")
	for _, tt := range []struct{ name, account, url string }{
		{name: "no account file"},
		{name: "no URL", account: "<account>\n    <authenticator>secret</authenticator>\n</account>\n"},
		{name: "a URL with tags", account: "<master_url>http://<a>/</master_url>"},
		{name: "as clients write it", account: "<account>\n    <master_url>https://example.org/test/</master_url>\n    <authenticator>secret</authenticator>\n</account>\n",
			url: "https://example.org/test/"},
	} {
		if tt.account != "" {
			if err := os.WriteFile(account, []byte(tt.account), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want := ""
		if tt.url != "" {
			want = "<active_task>\n    <project_master_url>" + tt.url + "</project_master_url>\n    <result_name>wu_0</result_name>\n" +
				"    <checkpoint_cpu_time>1.500000</checkpoint_cpu_time>\n    <checkpoint_elapsed_time>60.000000</checkpoint_elapsed_time>\n</active_task>\n"
		}
		if got, err := d.TaskState(1500*time.Millisecond, time.Minute); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, want)
		}
	}
}
