package boincapi

import (
	"math"
	"strings"
	"testing"
)

func TestChannelVector(t *testing.T) {
	segment := append([]byte(nil), readVector(t, "shm_example.bin")...)
	for _, c := range []struct {
		number int
		want   string
	}{
		{controlChannel, "<suspend/>"},
		{graphicsChannel, "<web_graphics_url>http://localhost:12345</web_graphics_url>"},
		{heartbeatChannel, "<heartbeat/><wss>3.500000e+08</wss><max_wss>8.000000e+09</max_wss><network_suspended/>"},
		{trickleUpChannel, trickleUpMsg},
		{trickleDownChannel, trickleDownMsg + "\n"},
		{statusChannel, Report{CPU: 12.5, CheckpointCPU: 12.5, Fraction: .25, RSS: 3.5e8, WantNetwork: true}.message()},
	} {
		ch := channelOf(segment, c.number)
		if got, ok := ch.peek(); !ok || got != c.want {
			t.Errorf("channel %d: got %q, %v, want %q", c.number, got, ok, c.want)
		}
		ch.take()
		if ch.full() || ch[0] != 0 {
			t.Errorf("channel %d is full after take", c.number)
		}
		if got := string(ch[1 : 1+len(c.want)]); got != c.want {
			t.Errorf("channel %d after take: got text %q, want it left behind", c.number, got)
		}
	}
	if channelOf(segment, 1).full() || channelOf(segment, 2).full() {
		t.Error("got a message in an unused channel")
	}
}

func TestChannelSend(t *testing.T) {
	c := channelOf(make([]byte, segmentSize), statusChannel)
	long := strings.Repeat("x", 1100)
	for _, text := range []string{"", "a", "ab", "abc", "abcd", long, "short again"} {
		word, ok := c.send(text)
		if !ok {
			t.Fatalf("send %.10q: got refused, want sent", text)
		}
		if _, ok := c.send("other"); ok {
			t.Fatalf("send to a full channel: got sent, want refused")
		}
		if got, _ := c.peek(); got != text[:min(len(text), 1022)] {
			t.Errorf("got %d bytes %.10q, want %.10q", len(got), got, text)
		}
		if c[channelSize-1] != 0 {
			t.Error("the last byte is not NUL")
		}
		if !c.recall(word) || c.full() {
			t.Errorf("recall of an unread message: got false or a full channel")
		}
		if c.recall(word) {
			t.Error("recall of a message that is gone: got true, want false")
		}
	}
}

func TestControlMessages(t *testing.T) {
	for _, c := range []struct {
		name, text string
		before     Status
		want       Status
		known      bool
	}{
		{"suspend", "<suspend/>", Status{}, Status{Suspended: true}, true},
		{"resume", "<resume/>", Status{Suspended: true}, Status{}, true},
		{"both", "<suspend/><resume/>", Status{}, Status{}, true},
		{"quit while suspended", "<quit/>", Status{Suspended: true}, Status{Suspended: true, Quit: true}, true},
		{"abort", "x<abort/>y", Status{}, Status{Abort: true}, true},
		{"reread", "<reread_app_info/>", Status{Reread: 1}, Status{Reread: 2}, true},
		{"network, old clients", "<network_available/>", Status{}, Status{}, true},
		{"half written", "<susp", Status{}, Status{}, false},
		{"quit stays", "<resume/>", Status{Quit: true}, Status{Quit: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.before
			if known := got.control(c.text); known != c.known || got != c.want {
				t.Errorf("got %+v, %v, want %+v, %v", got, known, c.want, c.known)
			}
		})
	}
}

func TestHeartbeats(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Status
	}{
		{"plain", "<heartbeat/><wss>1.500000e+03</wss><max_wss>2e9</max_wss>", Status{Heartbeats: 1, WSS: 1500, MaxWSS: 2e9}},
		{"no network", "<heartbeat/><network_suspended/>", Status{Heartbeats: 1, NetworkSuspended: true}},
		{"no network, spaced", "<heartbeat/><network_suspended />", Status{Heartbeats: 1, NetworkSuspended: true}},
		{"no network, number", "<heartbeat/><network_suspended>1</network_suspended>", Status{Heartbeats: 1, NetworkSuspended: true}},
		{"network, number", "<heartbeat/><network_suspended>0</network_suspended>", Status{Heartbeats: 1}},
		{"sporadic", "<heartbeat/><sporadic_ca>3</sporadic_ca>", Status{Heartbeats: 1, SporadicCA: 3}},
		{"not finite", "<heartbeat/><wss>inf</wss><max_wss>nan</max_wss>", Status{Heartbeats: 1}},
		{"too big", "<heartbeat/><wss>1e999</wss>", Status{Heartbeats: 1}},
		{"no end tag", "<heartbeat/><wss>5", Status{Heartbeats: 1, WSS: 5}},
		{"something else", "<wss>5</wss>", Status{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Status
			got.heartbeat(c.text)
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestReportMessage(t *testing.T) {
	const cpu = "<current_cpu_time>1.000000e+00</current_cpu_time>\n<checkpoint_cpu_time>0.000000e+00</checkpoint_cpu_time>\n"
	for _, c := range []struct {
		name   string
		report Report
		want   string
	}{
		{"both CPU times always", Report{CPU: 1}, cpu},
		{"unknown fraction", Report{CPU: 1, Fraction: -1}, cpu},
		{"known to be nothing", Report{CPU: 1, RSSKnown: true}, cpu + "<wss>0</wss>\n"},
		{"all", Report{CPU: 1, Fraction: 1, OtherPID: 7, SporadicAC: 2, RSS: 3, WantNetwork: true}, cpu +
			"<fraction_done>1.000000e+00</fraction_done>\n<other_pid>7</other_pid>\n<sporadic_ac>2</sporadic_ac>\n<wss>3.000000</wss>\n<want_network>1</want_network>\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.report.message(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestReportNeverGoesBack(t *testing.T) {
	before := Report{CPU: 10, CheckpointCPU: 8}
	for _, c := range []struct {
		name      string
		got, want Report
	}{
		{"less", Report{CPU: 9, CheckpointCPU: 7}, Report{CPU: 10, CheckpointCPU: 8}},
		{"more", Report{CPU: 11, CheckpointCPU: 9}, Report{CPU: 11, CheckpointCPU: 9}},
		{"not numbers", Report{CPU: math.NaN(), CheckpointCPU: math.Inf(1), Fraction: math.NaN(), RSS: math.NaN(), RSSKnown: true}, before},
		{"too much", Report{CPU: 10, CheckpointCPU: 8, Fraction: 2, RSS: -1}, Report{CPU: 10, CheckpointCPU: 8, Fraction: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.got.after(before); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOneLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"lines", " a\r\nb\nc\r ", "a b c"},
		{"nothing but line ends", "\r\n", ""},
		{"too long", "0123456789ab", "0123456789"},
		{"not within a character", "012345678é", "012345678"},
		{"the end of an element", "a</b>", "a< /b>"},
		{"an end in two lines", "<\r\n/b>", "< /b>"},
		{"an end behind a NUL", "<\x00/b>", "< /b>"},
		{"the beginning of an element", "<img a>", "< img a>"},
		{"many beginnings", "<a<b<c<d<e", "< a< b< c<"[:9]},
		{"half a tag", "abc <", "abc"},
		{"half a tag at the limit", "012345678</b>", "012345678"},
		{"the end of a CDATA section", "a]]>b", "a]] >b"},
		{"control characters", "\x1b[2J\x7f\b\t.", "?[2J??\t."},
	} {
		if got := oneLine(c.text, 10); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add("<heartbeat/><wss>3.500000e+08</wss><network_suspended/>")
	f.Add("<suspend/><quit/><wss>-1e+")
	f.Fuzz(func(t *testing.T, text string) {
		var s Status
		if s.control(text) && !strings.Contains(text, "/>") {
			t.Errorf("understood %q", text)
		}
		s.notices(text)
		s.heartbeat(text)
		if math.IsNaN(s.WSS+s.MaxWSS) || math.IsInf(s.WSS, 0) || math.IsInf(s.MaxWSS, 0) {
			t.Errorf("got %v and %v, want finite numbers", s.WSS, s.MaxWSS)
		}
		c := channelOf(make([]byte, segmentSize), controlChannel)
		c.send(text)
		got, ok := c.peek()
		want, _, _ := strings.Cut(text[:min(len(text), maxText)], "\x00")
		if !ok || got != want {
			t.Errorf("through a channel: got %q, want %q", got, want)
		}
	})
}
