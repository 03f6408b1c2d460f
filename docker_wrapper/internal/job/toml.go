package job

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// node is one value of a TOML file. Its places are offsets in bytes.
type node struct {
	v    any // string, int64, float64, bool, date, *array or *table
	from int // the beginning of its key, or of the value itself in an array
	at   int // the beginning of the value
	end  int // of the value
}

type (
	date  struct{} // a date or a time; no key has one
	array struct {
		elements []node
		tables   bool // written as [[key]], so that the next [[key]] adds an element
	}
	table struct {
		fields  map[string]*node
		written bool // by [key] or {}, not only named in a dotted key; a second [key] is a mistake
	}
)

func newTable(written bool) *table { return &table{map[string]*node{}, written} }

// builder makes the tables of a file from the expressions that the parser finds. Only this parser tells positions; its API
// may change with a new version. Methods report false after a mistake, and reading ends there.
//
// TOML forbids a dotted key that adds to a table of a [key] or {}. It is accepted here: its meaning is clear.
type builder struct {
	*reader
	unstable.Parser
	nodes int
}

// decode gives nil after a mistake of syntax.
func (r *reader) decode() *table {
	if len(r.text) > MaxFile {
		r.mistake(position{}, "", "", "is larger than %d MiB", MaxFile>>20)
		return nil
	}
	if offset, problem, hint := badText(r.text); problem != "" {
		r.mistake(r.position(offset), "", hint, "%s", problem)
		return nil
	}
	b := &builder{reader: r}
	b.Reset([]byte(r.text))
	root := newTable(true)
	t, path, ok := root, "", true
	for ok && b.NextExpression() {
		if e := b.Expression(); e.Kind == unstable.KeyValue {
			ok = b.pair(t, path, e)
		} else {
			t, path, ok = b.header(root, e)
		}
	}
	if err := b.Error(); err != nil {
		b.syntax(err)
		ok = false
	}
	if !ok {
		return nil
	}
	return root
}

// syntax reports an error of the parser, in our words where that helps more.
func (b *builder) syntax(err error) {
	var pe *unstable.ParserError
	if !errors.As(err, &pe) {
		b.mistake(position{}, "", "", "%s", err)
		return
	}
	offset := int(b.Range(pe.Highlight).Offset)
	char, width := utf8.DecodeRuneInString(b.text[offset:])
	problem, h := pe.Message, ""
	if width > 1 { // of which the parser shows the first byte
		problem = strings.ReplaceAll(problem, fmt.Sprintf("%#U", b.text[offset]), fmt.Sprintf("%#U", char))
	}
	if strings.HasSuffix(problem, "at start of value") || strings.HasPrefix(problem, "expected keyword") {
		word := b.text[offset:]
		if end := strings.IndexFunc(word, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }); end >= 0 {
			word = word[:end]
		}
		problem = "want a value, got " + quote(cmp.Or(word, b.text[offset:offset+width]))
		switch strings.ToLower(word) {
		case "":
		case "true", "yes", "on":
			h = "write true"
		case "false", "no", "off":
			h = "write false"
		default:
			h = "put strings in quotes"
		}
	}
	if strings.ContainsRune(TypographicQuotes, char) {
		h = `write the plain quotes " or '`
	}
	problem = strings.NewReplacer(`"\n"`, "the end of the line", `U+000A`, "the end of the line").Replace(problem)
	b.mistake(b.position(offset), "", h, "%s", problem)
}

// TypographicQuotes are quotes that word processors write.
const TypographicQuotes = "“”„‟«»‘’‚‛"

// room reports whether the file may have one more value.
func (b *builder) room(offset int) bool {
	if b.nodes++; b.nodes > maxValues {
		b.mistake(b.position(offset), "", "", "%s", tooManyValues)
		return false
	}
	return true
}

func (b *builder) twice(path string, first *node, offset int) bool {
	p := b.position(offset)
	b.mistake(p, path, fmt.Sprintf("first on line %d", b.position(first.from).line), "written twice")
	return false
}

// names gives the parts of a dotted key, its beginning and its end.
func (b *builder) names(e *unstable.Node) (names []string, from, end int, ok bool) {
	for k := e.Key(); k.Next(); {
		raw := k.Node().Raw
		if names == nil {
			from = int(raw.Offset)
		}
		names, end = append(names, string(k.Node().Data)), int(raw.Offset+raw.Length)
		if end-from > maxKeyBytes {
			b.mistake(b.position(from), "", "", "a key is longer than %d bytes", maxKeyBytes)
			return nil, from, end, false
		}
	}
	return names, from, end, true
}

// descend gives the table in t that names lead to. Tables that aren't there yet are made.
func (b *builder) descend(t *table, path string, names []string, from int) (*table, string, bool) {
	for _, name := range names {
		path = joinKey(path, name)
		n := t.fields[name]
		if n == nil {
			if !b.room(from) {
				return nil, path, false
			}
			n = &node{newTable(false), from, from, from}
			t.fields[name] = n
		}
		next, ok := n.v.(*table)
		if a, isArray := n.v.(*array); isArray && a.tables {
			next, ok = a.elements[len(a.elements)-1].v.(*table)
		}
		if !ok {
			return nil, path, b.twice(path, n, from)
		}
		t = next
	}
	return t, path, true
}

// header reads [KEY] or [[KEY]] and gives the table that it begins.
func (b *builder) header(root *table, e *unstable.Node) (t *table, path string, ok bool) {
	names, from, _, ok := b.names(e)
	if !ok || !b.room(from) {
		return nil, "", false
	}
	last := len(names) - 1
	parent, path, ok := b.descend(root, "", names[:last], from)
	if !ok {
		return nil, path, false
	}
	path = joinKey(path, names[last])
	many := e.Kind == unstable.ArrayTable
	n := parent.fields[names[last]]
	if n == nil {
		n = &node{newTable(false), from, from, from}
		if many {
			n.v = &array{tables: true}
		}
		parent.fields[names[last]] = n
	}
	switch v := n.v.(type) {
	case *array:
		if many && v.tables {
			t := newTable(true)
			v.elements = append(v.elements, node{t, from, from, from})
			return t, path, true
		}
	case *table:
		if !many && !v.written {
			v.written = true
			*n = node{v, from, from, from}
			return v, path, true
		}
	}
	return nil, path, b.twice(path, n, from)
}

// pair reads KEY = VALUE into t, whose own name is path.
func (b *builder) pair(t *table, path string, e *unstable.Node) bool {
	names, from, keyEnd, ok := b.names(e)
	if !ok || !b.room(from) {
		return false
	}
	last := len(names) - 1
	t, path, ok = b.descend(t, path, names[:last], from)
	if !ok {
		return false
	}
	path = joinKey(path, names[last])
	if n := t.fields[names[last]]; n != nil {
		return b.twice(path, n, from)
	}
	end := int(e.Raw.Offset + e.Raw.Length)
	value := bytes.TrimLeft(b.Data()[keyEnd:end], " \t=")
	n := &node{nil, from, end - len(value), end}
	t.fields[names[last]] = n
	return b.value(n, path, e.Value())
}

// value reads the value e into n.
func (b *builder) value(n *node, path string, e *unstable.Node) (ok bool) {
	var err error
	switch e.Kind {
	case unstable.String:
		n.v = string(e.Data)
	case unstable.Bool:
		n.v = e.Data[0] == 't'
	case unstable.Integer:
		n.v, err = strconv.ParseInt(string(e.Data), 0, 64)
	case unstable.Float:
		n.v, err = parseFloat(string(e.Data))
	case unstable.Array:
		return b.array(n, path, e)
	case unstable.InlineTable:
		t := newTable(true)
		n.v = t
		for c := e.Children(); c.Next(); {
			if !b.pair(t, path, c.Node()) {
				return false
			}
		}
	default:
		n.v = date{}
	}
	if err != nil {
		b.mistake(b.position(n.at), path, "", "%s: is too large", cut(string(e.Data)))
	}
	return err == nil
}

func parseFloat(s string) (float64, error) {
	if strings.HasSuffix(s, "nan") { // with a sign, which strconv refuses
		return math.NaN(), nil
	}
	return strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
}

func (b *builder) array(n *node, path string, e *unstable.Node) bool {
	a := &array{}
	n.v = a
	for c := e.Children(); c.Next(); {
		element := node{nil, n.at, n.at, n.end} // of an array in an array the parser gives no place
		if raw := c.Node().Raw; raw.Length > 0 {
			from := int(raw.Offset)
			element = node{nil, from, from, from + int(raw.Length)}
		}
		if !b.room(element.from) || !b.value(&element, path, c.Node()) {
			return false
		}
		a.elements = append(a.elements, element)
	}
	return true
}

func joinKey(parent, key string) string {
	bare := key != "" && !strings.ContainsFunc(key, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	})
	if !bare {
		key = strconv.Quote(key)
	}
	if parent == "" {
		return key
	}
	return parent + "." + key
}

func unquoteKey(key string) string {
	if s, err := strconv.Unquote(key); err == nil {
		return s
	}
	return key
}

// badText finds bytes that no TOML file may contain. It also finds what only an attack needs: deep nesting, and so many
// values in one array or table that the parser, which keeps all of them at once, would take much memory.
func badText(text string) (offset int, problem, hint string) {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return 0, "is UTF-16", "save it as UTF-8"
	}
	for i, c := range text {
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			return i, fmt.Sprintf("byte 0x%02x is not UTF-8", text[i]), "save it as UTF-8"
		case c == '\t' || c == '\n' || c == '\r' && strings.HasPrefix(text[i:], "\r\n"):
		case c < ' ' || c == 0x7f:
			return i, fmt.Sprintf("control byte 0x%02x", c), ""
		}
	}
	depth, dots, marks := 0, 0, 0
	for i := 0; i < len(text); {
		next := i + 1
		switch text[i] {
		case '#':
			next = i + lineLen(text[i:])
		case '"', '\'':
			next = i + stringLen(text[i:])
		case '[', '{':
			depth, dots, marks = depth+1, 0, marks+1
		case ']', '}':
			depth, dots = max(0, depth-1), 0
		case '.':
			dots++
		case ',', '=':
			dots, marks = 0, marks+1
		case '\n':
			if dots = 0; depth == 0 {
				marks = 0
			}
		}
		if marks > 2*maxValues {
			return i, tooManyValues, ""
		}
		if depth > maxNesting || dots > maxNesting {
			return i, "is nested too deeply", ""
		}
		i = next
	}
	return 0, "", ""
}

func lineLen(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return i
	}
	return len(s)
}

// stringLen is the length of the TOML string that s begins with, quotes included.
func stringLen(s string) int {
	q := s[:1]
	triple := strings.Repeat(q, 3)
	if !strings.HasPrefix(s, triple) {
		for i := 1; i < len(s); i++ {
			switch {
			case s[i] == q[0]:
				return i + 1
			case s[i] == '\n':
				return i
			case s[i] == '\\' && q == `"`:
				i++
			}
		}
		return len(s)
	}
	for i := 3; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], triple):
			i += 3
			for more := 0; more < 2 && i < len(s) && s[i] == q[0]; more++ { // quotes may stand before the end
				i++
			}
			return i
		case s[i] == '\\' && q == `"`:
			i++
		}
	}
	return len(s)
}

// inString gives the offset in the file of byte n of s, the string that is the value. Where the escapes hide it, it gives
// the beginning of the value.
func (v value) inString(s string, n int) int {
	source := v.text[v.at:v.end]
	q := 1
	if strings.HasPrefix(source, `"""`) || strings.HasPrefix(source, "'''") {
		q = 3
	}
	if len(source) < 2*q {
		return v.at
	}
	start, body := v.at+q, source[q:len(source)-q]
	if q == 3 {
		for _, newline := range []string{"\r\n", "\n"} {
			if rest, ok := strings.CutPrefix(body, newline); ok {
				start, body = start+len(newline), rest
				break
			}
		}
	}
	if body == s {
		return start + n
	}
	if q == 3 || source[0] != '"' {
		return v.at
	}
	for i, seen := 0, 0; i < len(body); {
		if seen >= n {
			return start + i
		}
		width, bytes := 1, 1
		if body[i] == '\\' && i+1 < len(body) {
			width = 2
			switch digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[body[i+1]]; {
			case digits > 0 && i+2+digits <= len(body):
				width += digits
				c, err := strconv.ParseUint(body[i+2:i+width], 16, 32)
				if err != nil {
					return v.at
				}
				bytes = max(1, utf8.RuneLen(rune(c)))
			}
		}
		i, seen = i+width, seen+bytes
	}
	return v.at
}
