package job

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// numbered repeats a text with a number in it.
func numbered(format string, times int) string {
	var b strings.Builder
	for i := range times {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// What a file within its bounds, or beyond, costs to read: a bomb must not take the volunteer's memory. All that is
// allocated is counted, which is more than what is held at once.
func TestCostOfParsing(t *testing.T) {
	const most, longest = 64 << 20, 5 * time.Second
	fill := func(s string) string { return strings.Repeat(s, MaxFile/len(s)) }
	long := strings.Repeat("k", 100)
	for _, tt := range []struct{ name, in, want string }{
		{"one variable of 140,000 bytes", "[env]\nA = \"" + strings.Repeat("x", 140_000) + "\"\n", ""},
		{"a thousand variables", "[env]\n" + numbered("A%d = \"x\"\n", 1000), ""},
		{"100,000 keys", numbered("k%d=1\n", 100_000), "job.toml:10001:1: has more than 10000 keys and values"},
		{"100,000 variables", "[env]\n" + numbered("k%d=''\n", 80_000), "more than 10000"},
		{"100,000 elements", "mount = [" + strings.Repeat("1,", 100_000) + "]", "more than 10000"},
		{"100,000 elements in pieces", "mount = [" + strings.Repeat("[1,1],", 100_000) + "]", "more than 10000"},
		{"an array of 1 MiB", "a=[" + fill("1,")[8:] + "]", "more than 10000"},
		{"a table of 1 MiB", "a={" + fill("a=1,")[8:] + "}", "more than 10000"},
		{"100,000 tables", strings.Repeat("[[a]]\n", 100_000), "more than 10000"},
		{"100,000 dotted keys", numbered("a.b%d.c=1\n", 60_000), "more than 10000"},
		{"100,000 words", "create_args = \"" + strings.Repeat("-x ", 100_000) + "\"", "has more than 2000 words"},
		{"as many keys as may be", numbered("k%d=1\n", 9_000), ""},
		{"long names of tables", "[" + long + "]\n" + numbered(long+"%d=1\n", 6_000), ""},
		{"tables in tables", strings.Repeat(long+"={", 30) + "a=1," + numbered("k%d=1,", 9_000) + "a2=1" + strings.Repeat("}", 30), ""},
		{"a long key", strings.Repeat("k", 1<<19) + "=1\n", "job.toml:1:1: a key is longer than 128 bytes"},
		{"a long key in quotes", "'" + strings.Repeat("k", 1<<19) + "'=1\n", "a key is longer"},
		{"a long header", "[" + strings.Repeat("k", 1<<19) + "]\n" + numbered("k%d=1\n", 10_000), "a key is longer"},
		{"a long key of a table", "a={" + strings.Repeat("k", 1<<19) + "=1}\n", "a key is longer"},
		{"comments", fill("#\n"), ""},
		{"a comment", "#" + fill("#")[1:], ""},
		{"blanks", fill(" "), ""},
		{"a string", "workdir = \"" + strings.Repeat("/", 1<<19) + "\"", "job.toml:1:11: workdir"},
		{"escapes", "workdir = \"" + strings.Repeat(`\u0041`, 1<<17) + "\"", "job.toml:1:11: workdir"},
		{"lines in a string", "workdir = '''" + strings.Repeat("\n", 1<<19) + "'''", "job.toml:1:11: workdir"},
		{"an open string", "a = '''" + fill("x")[1<<11:], "job.toml:1"},
		{"pairs", "copy_to_container = [" + numbered("{src='s%d',dst='/d'},", 3_000) + "]", "more mistakes"},
		{"a number", "pids = " + strings.Repeat("9", 1<<19), "job.toml:1"},
		{"nonsense", fill("= ]] {{ ' \n"), "more than 10000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			_, err := ParseConfig("", []byte(tt.in))
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > most || took > longest {
				t.Errorf("it took %d MiB and %v, want at most %d and %v", got>>20, took, most>>20, longest)
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.200v, want %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > 10_000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}
