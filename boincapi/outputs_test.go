package boincapi

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOutputs(t *testing.T) {
	const state = `<client_state>
<host_info><timezone>0</timezone></host_info>
<project><master_url>https://example.org/?a=1&b=2</master_url></project>
<file><name>wu_0_r1_1</name><status>0</status><uploaded/><signed_xml><name>x</name></signed_xml></file>
<file_info><name>wu_0_r1_2</name></file_info>
<workunit><name>wu</name><file_ref><file_name>in_0</file_name><open_name>in</open_name></file_ref></workunit>
<result>
    <name>other_0</name>
    <file_ref><file_name>other_0_0</file_name><open_name>out</open_name><optional/></file_ref>
</result>
<result>
    <name>wu_0</name>
    <exit_status>0</exit_status>
<stderr_out><![CDATA[
<file_ref><file_name>forged</file_name><optional/></file_ref>
]]></stderr_out>
    <file_ref>
        <file_name>wu_0_r1_0</file_name>
        <open_name>out</open_name>
        <copy_file/>
    </file_ref>
    <file_ref>
        <file_name>wu_0_r1_1</file_name>
        <open_name>sub/log</open_name>
        <optional/>
    </file_ref>
    <file_ref>
        <file_name>wu_0_r1_2</file_name>
    </file_ref>
</result>
</client_state>
`
	want := []Output{{Logical: "out", Physical: "wu_0_r1_0", Copied: true}, {Logical: "sub/log", Physical: "wu_0_r1_1", Optional: true, Uploaded: true}, {Physical: "wu_0_r1_2"}}
	dir := t.TempDir()
	if got, err := Outputs(dir, "wu_0"); err == nil {
		t.Errorf("without a file: got %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, StateFile), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Outputs(dir, "wu_0"); !slices.Equal(got, want) || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for name, text := range map[string]string{"another result": state, "cut off": state[:len(state)-40], "another file": "<html></html>", "empty": ""} {
		result := "wu_0"
		if name == "another result" {
			result = "wu_1"
		}
		if got, err := parseOutputs([]byte(text), result); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
}

func FuzzOutputs(f *testing.F) {
	f.Add([]byte("<client_state><result><name>r</name><file_ref><file_name>f</file_name><optional/></file_ref></result></client_state>"))
	f.Fuzz(func(t *testing.T, data []byte) { parseOutputs(data, "r") })
}
