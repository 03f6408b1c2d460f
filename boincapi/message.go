package boincapi

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Messages from the client, found by their text anywhere in the message, in the order in which they
// take effect. Source: handle_process_control_msg in BOINC's api/boinc_api.cpp.
const (
	suspendMsg          = "<suspend/>"
	resumeMsg           = "<resume/>"
	quitMsg             = "<quit/>"
	abortMsg            = "<abort/>"
	rereadMsg           = "<reread_app_info/>"
	networkAvailableMsg = "<network_available/>" // clients up to 8.2.13; nothing follows from it
	heartbeatMsg        = "<heartbeat/>"
	trickleDownMsg      = "<have_trickle_down/>"
	uploadStatusMsg     = "<upload_file_status/>"
)

// Messages to the client.
const (
	trickleUpMsg = "<have_new_trickle_up/>\n"
	uploadMsg    = "<have_new_upload_file/>\n"
)

// control applies a message of the control channel; known is false if it says nothing.
func (s *Status) control(text string) (known bool) {
	has := func(msg string) bool {
		found := strings.Contains(text, msg)
		known = known || found
		return found
	}
	if has(suspendMsg) {
		s.Suspended = true
	}
	if has(resumeMsg) {
		s.Suspended = false
	}
	if has(quitMsg) {
		s.Quit = true
	}
	if has(abortMsg) {
		s.Abort = true
	}
	if has(rereadMsg) {
		s.Reread++
	}
	has(networkAvailableMsg)
	return known
}

// heartbeat applies a message of the heartbeat channel.
func (s *Status) heartbeat(text string) (known bool) {
	if !strings.Contains(text, heartbeatMsg) {
		return false
	}
	s.Heartbeats++
	s.NetworkSuspended = flagIn(text, "network_suspended")
	if x, ok := numberIn(text, "wss"); ok {
		s.WSS = x
	}
	if x, ok := numberIn(text, "max_wss"); ok {
		s.MaxWSS = x
	}
	x, _ := numberIn(text, "sporadic_ca")
	s.SporadicCA = int(x)
	return true
}

// notices applies a message of the trickle-down channel.
func (s *Status) notices(text string) (known bool) {
	if strings.Contains(text, trickleDownMsg) {
		s.TrickleDown++
		known = true
	}
	if strings.Contains(text, uploadStatusMsg) {
		s.UploadStatus++
		known = true
	}
	return known
}

// flagIn looks for <tag/>, <tag /> or <tag>N with N not 0.
func flagIn(text, tag string) bool {
	if strings.Contains(text, "<"+tag+"/>") || strings.Contains(text, "<"+tag+" />") {
		return true
	}
	x, _ := numberIn(text, tag)
	return x != 0
}

var numberPrefix = regexp.MustCompile(`^[ \t\r\n\v\f]*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)`)

// numberIn reads the number after the first <tag>, as strtod does: up to where it ends to be one.
func numberIn(text, tag string) (x float64, ok bool) {
	_, after, found := strings.Cut(text, "<"+tag+">")
	if !found {
		return 0, false
	}
	m := numberPrefix.FindStringSubmatch(after)
	if m == nil {
		return 0, false
	}
	x, err := strconv.ParseFloat(m[1], 64)
	return x, err == nil && !math.IsInf(x, 0)
}

// message is the report as the app_status message. The client takes both CPU times for 0 where they
// are missing, so they are always there.
//
// Format: boinc_report_app_status_aux in BOINC's api/boinc_api.cpp.
func (r Report) message() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<current_cpu_time>%e</current_cpu_time>\n", r.CPU)
	fmt.Fprintf(&b, "<checkpoint_cpu_time>%e</checkpoint_cpu_time>\n", r.CheckpointCPU)
	if r.Fraction > 0 {
		fmt.Fprintf(&b, "<fraction_done>%e</fraction_done>\n", r.Fraction)
	}
	if r.OtherPID != 0 {
		fmt.Fprintf(&b, "<other_pid>%d</other_pid>\n", r.OtherPID)
	}
	if r.SporadicAC != 0 {
		fmt.Fprintf(&b, "<sporadic_ac>%d</sporadic_ac>\n", r.SporadicAC)
	}
	switch {
	case r.RSS > 0:
		fmt.Fprintf(&b, "<wss>%f</wss>\n", r.RSS)
	case r.RSSKnown:
		b.WriteString("<wss>0</wss>\n")
	}
	if r.WantNetwork {
		b.WriteString("<want_network>1</want_network>\n")
	}
	return b.String()
}

// after is r made fit to follow prev in what the client is told: CPU times that are not numbers or
// go back would be taken for a reset by the client, and a changed checkpoint time for a checkpoint.
func (r Report) after(prev Report) Report {
	r.CPU = atLeast(r.CPU, prev.CPU)
	r.CheckpointCPU = atLeast(r.CheckpointCPU, prev.CheckpointCPU)
	if math.IsNaN(r.Fraction) {
		r.Fraction = 0
	}
	r.Fraction = min(r.Fraction, 1)
	if math.IsNaN(r.RSS) || math.IsInf(r.RSS, 0) || r.RSS < 0 {
		r.RSS, r.RSSKnown = 0, false
	}
	return r
}

func atLeast(x, floor float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) || x < floor {
		return floor
	}
	return x
}

// graphicsMessage keeps the value within the client's buffer of 256 bytes.
func graphicsMessage(tag, value string) string {
	value = oneLine(value, 255)
	return "<" + tag + ">" + value + "</" + tag + ">"
}
