package boincapi

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"what is fine", "a\tb\r\nc é 漢 🙂 <b> 1 < 2 / 3 ]] > ] ]> \u00a0", "a\tb\r\nc é 漢 🙂 <b> 1 < 2 / 3 ]] > ] ]> \u00a0"},
		{"control bytes", "\x00\x01\x07\b\v\f\x1b[31m\x1f\x7f", "??????" + "?[31m??"},
		{"a control character of two bytes", "\u009b31m\u0085\u0080\u009f", "\xc2?31m\xc2?\xc2?\xc2?"},
		{"as a single byte", "a\x9b31m \xe9\x85", "a?31m \xe9\x85"},
		{"ESC, too long", "\xc0\x9b[2J\xc1\x9b", "\xc0?[2J\xc1?"},
		{"continued too long", "é\x9b漢\x85", "é?漢?"},
		{"characters that hold such bytes", "\u06db\u269b\U0001f69b", "\u06db\u269b\U0001f69b"},
		{"ends of elements", "</result></stderr_out></message>", "< /result>< /stderr_out>< /message>"},
		{"many of them", "<<</</ </", "<<< /< / < /"},
		{"the end of a CDATA section", "]]>]]]>]] >]>", "]] >]]] >]] >]>"},
		{"a tag behind a control byte", "<\x00/a>", "<?/a>"},
	} {
		if got := Plain(c.text); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		var b bytes.Buffer
		w := PlainWriter(&b)
		for i := range len(c.text) {
			if n, err := w.Write([]byte(c.text[i : i+1])); n != 1 || err != nil {
				t.Errorf("got %d, %v, want 1 and no error", n, err)
			}
		}
		if got := b.String(); got != c.want {
			t.Errorf("%s, byte by byte: got %q, want %q", c.name, got, c.want)
		}
	}
	if w := PlainWriter(new(bytes.Buffer)); PlainWriter(w) != w {
		t.Error("a plain writer is made plain again")
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a</b>]]>\x1b\u009b\r\n\x00é", uint(3))
	f.Add("\xe2\x9b\x9b<", uint(1))
	f.Fuzz(func(t *testing.T, text string, cut uint) {
		got := Plain(text)
		for i, c := range got {
			if (c < ' ' || c >= 0x7f && c < 0xa0) && c != '\n' && c != '\t' && c != '\r' {
				t.Errorf("got %q: control character at %d", got, i)
			}
		}
		if strings.Contains(got, "</") || strings.Contains(got, "]]>") {
			t.Errorf("got %q, want no ends", got)
		}
		if again := Plain(got); again != got {
			t.Errorf("got %q, and of that %q", got, again)
		}
		if utf8.ValidString(text) && !strings.Contains(text, "</") && !strings.Contains(text, "]]>") &&
			!strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) && got != text {
			t.Errorf("got %q, want %q", got, text)
		}
		n := int(cut % uint(len(text)+1))
		var b bytes.Buffer
		w := PlainWriter(&b)
		w.Write([]byte(text[:n]))
		w.Write([]byte(text[n:]))
		if b.String() != got {
			t.Errorf("in two writes: got %q, want %q", b.String(), got)
		}
		line := oneLine(text, 20)
		if len(line) > 20 || strings.ContainsAny(line, "\n\r\x00\x1b") || strings.HasSuffix(line, "<") || strings.Contains(line, "<a") {
			t.Errorf("one line: got %q", line)
		}
	})
}
