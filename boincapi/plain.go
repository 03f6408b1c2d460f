package boincapi

import (
	"io"
	"strings"
	"sync"
)

// Plain is a text that may stand in a file which the client reads, shows, or sends to the project, whoever it is from. Control
// characters but tab, line feed and carriage return become "?". "</" becomes "< /" and "]]>" becomes "]] >", so
// that the text can't end the element that the client puts it in. All else stays, byte for byte. Plain of a plain
// text is that text.
func Plain(s string) string {
	f := filter{tags: true}
	return string(f.pass([]byte(s)))
}

// PlainWriter writes to w what is written to it, made plain as by Plain. Nothing is held back: what is done to a
// byte depends on those before it alone, so that a tag in two writes is found, too. It may be used from several goroutines when w
// may.
func PlainWriter(w io.Writer) io.Writer {
	if is, ok := w.(*plainWriter); ok {
		return is
	}
	return &plainWriter{w: w, f: filter{tags: true}}
}

type plainWriter struct {
	mu sync.Mutex
	w  io.Writer
	f  filter
}

func (p *plainWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.w.Write(p.f.pass(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// filter makes a stream of bytes plain.
type filter struct {
	tags     bool // spoil the ends of elements, too
	last     byte
	brackets int // how many "]" were the last, up to 2
	more     int // bytes that the UTF-8 character still has
}

// pass returns b itself if nothing in it needs a change.
func (f *filter) pass(b []byte) []byte {
	var out []byte // nil while it would be b
	for i, c := range b {
		spaced := f.tags && (c == '/' && f.last == '<' || c == '>' && f.brackets == 2)
		bad := f.control(c)
		if out == nil && (spaced || bad) {
			out = append(make([]byte, 0, len(b)+len(b)/8+1), b[:i]...)
		}
		if spaced {
			out = append(out, ' ')
		}
		switch {
		case bad:
			out = append(out, '?')
		case out != nil:
			out = append(out, c)
		}
		if f.last = c; c == ']' {
			f.brackets = min(f.brackets+1, 2)
		} else {
			f.brackets = 0
		}
	}
	if out == nil {
		return b
	}
	return out
}

// control takes the next byte, and reports whether it is a control character, or the byte of a two-byte one that makes it one: U+0080 to
// U+009F have the same meaning as ESC and a letter (ECMA-48), also as single bytes where the text is no UTF-8.
func (f *filter) control(c byte) bool {
	switch {
	case c >= 0x80 && c < 0xa0:
		if f.more > 0 && (f.last < 0xc0 || f.last > 0xc2) {
			f.more--
			return false
		}
		f.more = 0
		return true // in 0xc0 it would be ESC for a careless reader
	case c >= 0xa0 && c < 0xc0:
		f.more = max(f.more-1, 0)
	case c >= 0xf0:
		f.more = 3
	case c >= 0xe0:
		f.more = 2
	case c >= 0xc0:
		f.more = 1
	default:
		f.more = 0
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f
	}
	return false
}

// withoutControls is for texts that have tags of their own.
func withoutControls(s string) string {
	var f filter
	return string(f.pass([]byte(s)))
}

// oneLine makes s plain, and fit in one line of at most limit bytes of a file that the client reads by lines. As the client may show it
// as HTML, a tag doesn't begin in it either.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == 0 }), " ")
	s = strings.TrimSpace(Plain(s))
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() <= limit; i++ { // more than has room, for cutText
		b.WriteByte(s[i])
		if s[i] == '<' && i+1 < len(s) && s[i+1] != ' ' {
			b.WriteByte(' ')
		}
	}
	return strings.TrimRight(cutText(b.String(), limit), " \t<") // the client goes on with an end tag
}

// cutText is s, or as many of its whole characters as have room in limit bytes.
func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xc0 == 0x80 {
		limit--
	}
	return s[:limit]
}
