package boincapi

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
)

// scanner reads the client's XML dialect, which no XML parser accepts: raw ampersands, references to
// bytes in place of characters, any encoding. Its rules are those of XML_PARSER in BOINC's
// lib/parse.cpp, except that the length of strings is not limited.
type scanner struct {
	rest []byte
}

// token is a tag, without its angle brackets and attributes, or text, not yet unescaped.
type token struct {
	tag  bool
	raw  bool // text of a CDATA section, which has no references
	text string
}

var errTruncated = errors.New("unexpected end of file")

const blanks = " \t\n\v\f\r"

// newScanner reads b up to its first NUL, as C does.
func newScanner(b []byte) *scanner {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return &scanner{rest: b}
}

// next returns errTruncated at the end.
func (s *scanner) next() (token, error) {
	for {
		s.rest = bytes.TrimLeft(s.rest, blanks)
		switch {
		case len(s.rest) == 0:
			return token{}, errTruncated
		case bytes.HasPrefix(s.rest, []byte("<!--")):
			if _, ok := s.cut(4, "-->"); !ok {
				return token{}, errTruncated
			}
		case bytes.HasPrefix(s.rest, []byte("<![CDATA[")):
			text, ok := s.cut(9, "]]>")
			if !ok {
				return token{}, errTruncated
			}
			return token{raw: true, text: text}, nil
		case s.rest[0] == '<':
			tag, ok := s.cut(1, ">")
			if !ok {
				return token{}, errTruncated
			}
			return token{tag: true, text: tagName(tag)}, nil
		default:
			end := bytes.IndexByte(s.rest, '<')
			if end < 0 {
				end = len(s.rest)
			}
			text := strings.TrimRight(string(s.rest[:end]), blanks)
			s.rest = s.rest[end:]
			return token{text: text}, nil
		}
	}
}

// cut drops n bytes and returns what comes before end, which is dropped too.
func (s *scanner) cut(n int, end string) (string, bool) {
	text, rest, ok := bytes.Cut(s.rest[n:], []byte(end))
	s.rest = rest
	return string(text), ok
}

// tagName drops attributes but keeps the slash that ends an empty element: `x a="1" /` is x/.
func tagName(tag string) string {
	name, attributes, spaced := strings.Cut(strings.Map(blankToSpace, tag), " ")
	if spaced && strings.HasSuffix(attributes, "/") {
		name += "/"
	}
	return name
}

func blankToSpace(r rune) rune {
	if r < 0x80 && strings.ContainsRune(blanks, r) {
		return ' '
	}
	return r
}

// value reads the rest of the element whose start tag was just read. An element that has others in
// it has no value; it is skipped.
func (s *scanner) value(tag string) (val token, ok bool, err error) {
	if strings.HasSuffix(tag, "/") {
		return token{}, true, nil
	}
	ok = true
	for texts := 0; ; {
		t, err := s.next()
		switch {
		case err != nil:
			return token{}, false, err
		case t.tag && t.text == "/"+tag:
			return val, ok, nil
		case t.tag:
			ok = false
			if err := s.skip(t.text); err != nil {
				return token{}, false, err
			}
		default:
			val = t
			if texts++; texts > 1 {
				ok = false
			}
		}
	}
}

// skip reads up to the end of the element whose start tag was just read, with all that is in it.
func (s *scanner) skip(tag string) error {
	var open []string
	for {
		switch {
		case len(open) > 0 && tag == "/"+open[len(open)-1]:
			open = open[:len(open)-1]
		case !strings.Contains(tag, "/"):
			open = append(open, tag)
		}
		if len(open) == 0 {
			return nil
		}
		for {
			t, err := s.next()
			if err != nil {
				return err
			}
			if t.tag {
				tag = t.text
				break
			}
		}
	}
}

// rawUntil returns all bytes before the literal end tag, which is dropped.
func (s *scanner) rawUntil(end string) (string, error) {
	text, ok := s.cut(0, end)
	if !ok {
		return "", errTruncated
	}
	return text, nil
}

// string is the token's text with its references resolved.
func (t token) string() string {
	if t.raw {
		return t.text
	}
	return unescape(t.text)
}

// A fields maps the tags of a block's elements to where their values go: *string, *int, *uint64,
// *float64, *bool, or an element function.
type fields map[string]any

// An element reads the rest of an element whose start tag was just read.
type element func(s *scanner, tag string) error

// block reads the elements of a block up to its end tag. What is unknown, or has an impossible value,
// is skipped.
func (s *scanner) block(tag string, f fields) error {
	return s.blockWith(tag, f, s.skip)
}

func (s *scanner) blockWith(tag string, f fields, unknown func(tag string) error) error {
	if strings.HasSuffix(tag, "/") {
		return nil
	}
	for {
		t, err := s.next()
		if err != nil {
			return err
		}
		if !t.tag {
			continue
		}
		if t.text == "/"+tag {
			return nil
		}
		target, known := f[strings.TrimSuffix(t.text, "/")]
		switch {
		case !known:
			err = unknown(t.text)
		default:
			err = s.store(target, t.text)
		}
		if err != nil {
			return err
		}
	}
}

func (s *scanner) store(target any, tag string) error {
	if read, is := target.(element); is {
		return read(s, tag)
	}
	val, ok, err := s.value(tag)
	if err != nil || !ok {
		return err
	}
	text := val.text
	switch target := target.(type) {
	case *string:
		*target = val.string()
	case *int:
		if n, ok := parseInt(text); ok {
			*target = int(n)
		}
	case *DockerType:
		if n, ok := parseInt(text); ok {
			*target = DockerType(n)
		}
	case *uint64:
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			*target = n
		}
	case *float64:
		if x, ok := parseFloat(text); ok {
			*target = x
		}
	case *bool:
		if strings.HasSuffix(tag, "/") {
			*target = true
		} else if n, ok := parseInt(text); ok && text != "" {
			*target = n != 0
		}
	}
	return nil
}

// parseInt reads all of s as strtol does in base 0: 0x10 is 16, 010 is 8, "" is 0.
func parseInt(s string) (n int64, ok bool) {
	if s == "" {
		return 0, true
	}
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return 0, false
	}
	sign := s[:len(s)-len(digits)]
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
		digits, base = digits[2:], 16
	case strings.HasPrefix(digits, "0"):
		base = 8
	}
	if digits == "" || digits[0] == '+' || digits[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(sign+digits, base, 64)
	return n, err == nil
}

// parseFloat reads all of s; "" is 0. What is not finite is not a number to us.
func parseFloat(s string) (x float64, ok bool) {
	if s == "" {
		return 0, true
	}
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil && !math.IsInf(x, 0) && !math.IsNaN(x)
}

var references = [...]struct{ ref, text string }{
	{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", `"`}, {"&apos;", "'"}, {"&amp;", "&"},
	{"&#xD;", "\r"}, {"&#xd;", "\r"}, {"&#xA;", "\n"}, {"&#xa;", "\n"},
}

// unescape resolves the references that the client writes, &#N; being the byte N. All else, such as
// a lone ampersand, stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	var b strings.Builder
next:
	for s != "" {
		amp := strings.IndexByte(s, '&')
		if amp < 0 {
			amp = len(s)
		}
		b.WriteString(s[:amp])
		if s = s[amp:]; s == "" {
			break
		}
		for _, r := range references {
			if strings.HasPrefix(s, r.ref) {
				b.WriteString(r.text)
				s = s[len(r.ref):]
				continue next
			}
		}
		if digits, isNumber := strings.CutPrefix(s[:min(len(s), len("&#255;"))], "&#"); isNumber {
			digits, _, ended := strings.Cut(digits, ";")
			if n, err := strconv.ParseUint(digits, 10, 8); ended && err == nil {
				b.WriteByte(byte(n))
				s = s[len("&#;")+len(digits):]
				continue
			}
		}
		b.WriteByte('&')
		s = s[1:]
	}
	return b.String()
}
