package project

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// schedule answers a scheduler request: it takes what is reported and hands out what waits.
//
// Format: SCHEDULER_REPLY::parse in BOINC's client/scheduler_op.cpp.
func (s *Server) schedule(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request := string(body)
	var reply strings.Builder
	fmt.Fprintf(&reply, `<scheduler_reply>
<scheduler_version>800</scheduler_version>
<master_url>%s</master_url>
<request_delay>0</request_delay>
<project_name>Test</project_name>
<user_name>Tester</user_name>
<hostid>1</hostid>
`, esc(s.url))
	if element(request, "code_sign_key") == "" { // one that it has already must come signed by the older one
		fmt.Fprintf(&reply, "<code_sign_key>\n%s</code_sign_key>\n", publicText(&s.key.PublicKey))
	}
	s.change(func() {
		s.requests = append(s.requests, request)
		for _, report := range reports(request) {
			fmt.Fprintf(&reply, "<result_ack><name>%s</name></result_ack>\n", report.Result)
			s.take(report)
		}
		err = s.handOut(&reply, request)
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reply.WriteString("</scheduler_reply>\n")
	w.Header().Set("Content-Type", "text/xml")
	io.WriteString(w, reply.String())
}

// take keeps a report; the first one counts.
func (s *Server) take(r Report) {
	if _, again := s.reports[r.Result]; again {
		return
	}
	r.Outputs = map[string][]byte{}
	for i, logical := range s.jobs[r.Result].Outputs {
		if data, ok := s.uploads[outputName(r.Result, i)]; ok {
			r.Outputs[logical] = data
		}
	}
	s.reports[r.Result] = r
}

// reports reads what a client says of the jobs that are over. Clients write the elements in an order
// of their own, and none where a value is 0 or empty.
//
// Format: RESULT::write in BOINC's client/result.cpp.
func reports(request string) []Report {
	version := strings.Join([]string{
		element(request, "core_client_major_version"), element(request, "core_client_minor_version"), element(request, "core_client_release"),
	}, ".")
	// A sleeping client's jobs are listed later on in other elements.
	var list []Report
	for {
		_, rest, ok := strings.Cut(request, "<result>")
		if !ok {
			return list
		}
		one, after, _ := strings.Cut(rest, "</result>")
		request = after
		stderr := element(one, "stderr_out")
		one = strings.Replace(one, stderr, "", 1) // what the job wrote is no element of ours
		list = append(list, Report{
			Result: element(one, "name"), State: int(number(one, "state")), ExitStatus: int(number(one, "exit_status")),
			CPU: number(one, "final_cpu_time"), Elapsed: number(one, "final_elapsed_time"),
			Stderr: stderr, ClientVersion: version, At: time.Now(),
		})
	}
}

// element is the text of the first element of that name, "" without one.
func element(text, name string) string {
	_, rest, ok := strings.Cut(text, "<"+name+">")
	if !ok {
		return ""
	}
	inside, _, _ := strings.Cut(rest, "</"+name+">")
	return strings.TrimSpace(inside)
}

func number(text, name string) float64 {
	x, err := strconv.ParseFloat(element(text, name), 64)
	if err != nil {
		return 0
	}
	return x
}

// handOut writes the jobs that wait, with all that they need.
func (s *Server) handOut(w io.Writer, request string) error {
	platform := element(request, "platform_name")
	v, ok := s.version(platform)
	if !ok || len(s.waiting) == 0 {
		return nil
	}
	fmt.Fprintf(w, "<app><name>%s</name><user_friendly_name>%[1]s</user_friendly_name></app>\n", v.App)
	for _, f := range v.Files {
		signature, err := sign(s.key, f.Data)
		if err != nil {
			return err
		}
		s.describe(w, f, "<file_signature>\n"+signature+"</file_signature>\n")
	}
	fmt.Fprintf(w, `<app_version>
<app_name>%s</app_name>
<version_num>%d</version_num>
<platform>%s</platform>
<plan_class>%s</plan_class>
<avg_ncpus>1</avg_ncpus>
<flops>1e9</flops>
`, v.App, v.Number, v.Platform, v.PlanClass)
	if v.APIVersion != "" {
		fmt.Fprintf(w, "<api_version>%s</api_version>\n", v.APIVersion)
	}
	for i, f := range v.Files {
		reference(w, f.Physical, f, i == 0)
	}
	fmt.Fprintln(w, "</app_version>")
	for _, j := range s.waiting {
		s.describeJob(w, v, j)
	}
	s.waiting = nil
	return nil
}

func (s *Server) version(platform string) (Version, bool) {
	for _, v := range s.versions {
		if v.Platform == platform {
			return v, true
		}
	}
	return Version{}, false
}

// describeJob writes a workunit and its result.
func (s *Server) describeJob(w io.Writer, v Version, j Job) {
	for _, f := range j.Inputs {
		s.describe(w, f, "")
	}
	workunit := strings.TrimSuffix(j.Result, "_0")
	fmt.Fprintf(w, `<workunit>
<name>%s</name>
<app_name>%s</app_name>
<version_num>%d</version_num>
<rsc_fpops_est>1e10</rsc_fpops_est>
<rsc_fpops_bound>1e15</rsc_fpops_bound>
<rsc_memory_bound>2e8</rsc_memory_bound>
<rsc_disk_bound>1e8</rsc_disk_bound>
<command_line>
%s
</command_line>
`, workunit, v.App, v.Number, esc(j.CommandLine))
	for _, f := range j.Inputs {
		reference(w, f.Physical, f, false)
	}
	fmt.Fprintln(w, "</workunit>")
	for i := range j.Outputs {
		fmt.Fprintf(w, `<file_info>
<name>%s</name>
<generated_locally/>
<upload_when_present/>
<max_nbytes>1e6</max_nbytes>
<upload_url>%s</upload_url>
</file_info>
`, outputName(j.Result, i), s.url+uploadPath)
	}
	fmt.Fprintf(w, `<result>
<name>%s</name>
<report_deadline>%d</report_deadline>
<wu_name>%s</wu_name>
<platform>%s</platform>
<version_num>%d</version_num>
<plan_class>%s</plan_class>
`, j.Result, time.Now().Add(7*24*time.Hour).Unix(), workunit, v.Platform, v.Number, v.PlanClass)
	for i, logical := range j.Outputs {
		reference(w, outputName(j.Result, i), File{Logical: logical, Copy: true}, false)
	}
	fmt.Fprintln(w, "</result>")
}

// describe writes what a client must know to download a file.
func (s *Server) describe(w io.Writer, f File, more string) {
	executable := ""
	if f.Executable {
		executable = "<executable/>\n"
	}
	fmt.Fprintf(w, "<file_info>\n<name>%s</name>\n<url>%s</url>\n%s<md5_cksum>%s</md5_cksum>\n<nbytes>%d</nbytes>\n%s</file_info>\n",
		f.Physical, s.url+downloadPath+f.Physical, executable, sum(f.Data), len(f.Data), more)
}

// reference writes how a file appears in the slot.
func reference(w io.Writer, physical string, f File, main bool) {
	fmt.Fprintf(w, "<file_ref>\n<file_name>%s</file_name>\n", physical)
	if f.Logical != "" {
		fmt.Fprintf(w, "<open_name>%s</open_name>\n", f.Logical)
	}
	if main {
		fmt.Fprintln(w, "<main_program/>")
	}
	if f.Copy {
		fmt.Fprintln(w, "<copy_file/>")
	}
	fmt.Fprintln(w, "</file_ref>")
}
