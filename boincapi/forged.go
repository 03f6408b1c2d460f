package boincapi

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ForgedError says that init_data.xml holds what no client writes: a name that the client has put there as it is, such
// as that of a workunit, brings tags of its own. The file stays as it is when it is read again.
type ForgedError struct {
	Element string // in which, or next to which, it stands, without angle brackets
	Problem string
}

func (e *ForgedError) Error() string {
	return fmt.Sprintf("a name in it brings tags of its own: element %s %s", e.Element, e.Problem)
}

const (
	rootElement  = "app_init_data"
	prefsElement = "project_preferences"
	fileElement  = "app_file" // the one that may come again
)

// blockElements hold other elements.
var blockElements = map[string]bool{prefsElement: true, "host_info": true, "proxy_info": true, "global_preferences": true}

// checkTags refuses a text in which an element of text, or one that holds others, begins or ends more than once. A name can get
// out of its element, or hide what follows, only with an end tag of that element, and the client writes another. So
// where each tag counts, however it is spelled, and wherever it stands, none gets out.
//
// Project preferences may hold any other tags: no name stands between theirs. Numbers can't hold any, so their elements aren't
// counted here.
func (d *InitData) checkTags(text []byte) error {
	counted := map[string]bool{rootElement: true, fileElement: true}
	for name, target := range d.fields() {
		switch target.(type) {
		case *string, element:
			counted[name] = true
		}
	}
	starts, ends := map[string]int{rootElement: 1}, map[string]int{}
	for inPrefs := false; ; {
		i := bytes.IndexByte(text, '<')
		if i < 0 {
			return nil
		}
		text = text[i+1:]
		name, end, whole := spelled(text)
		switch {
		case !whole:
			return nil // the file goes on
		case inPrefs && counted[name] && !(end && name == prefsElement):
			return &ForgedError{name, "stands in " + prefsElement}
		case !inPrefs && strings.HasPrefix(name, "!"):
			return &ForgedError{rootElement, "holds a comment or a CDATA section"}
		case !counted[name] || name == fileElement:
			continue
		case end:
			ends[name]++
		default:
			starts[name]++
		}
		if starts[name] > 1 || ends[name] > starts[name] {
			return &ForgedError{name, "begins or ends more than once"}
		}
		if name == prefsElement {
			inPrefs = !end && !emptyTag(text)
		}
	}
}

// spelled is the name in the tag that text begins with, behind its "<", as the most lenient reader could understand it. It isn't whole when
// the text ends before it does.
func spelled(text []byte) (name string, end, whole bool) {
	rest := bytes.TrimLeft(text, blanks+"/")
	end = bytes.IndexByte(text[:len(text)-len(rest)], '/') >= 0
	n := bytes.IndexAny(rest, blanks+"/<>")
	if n < 0 {
		return "", end, false
	}
	return strings.ToLower(string(rest[:n])), end, true
}

// emptyTag reports whether text begins with the rest of a tag that ends its element, too.
func emptyTag(text []byte) bool {
	tag, _, _ := bytes.Cut(text, []byte(">"))
	return strings.HasSuffix(tagName(string(tag)), "/")
}

// read reads what stands in app_init_data. A file that is whole and yet has an element that doesn't end is forged.
func (d *InitData) read(s *scanner, whole bool) error {
	f, seen := d.fields(), map[string]bool{}
	for {
		t, err := s.next()
		name := strings.TrimSuffix(t.text, "/")
		target, known := f[name]
		switch {
		case err != nil:
			name = rootElement
		case !t.tag:
			return &ForgedError{rootElement, "holds text of its own"}
		case t.text == "/"+rootElement:
			if len(bytes.TrimLeft(s.rest, blanks)) > 0 {
				return &ForgedError{rootElement, "is followed by something"}
			}
			return nil
		case strings.HasPrefix(t.text, "/"):
			return &ForgedError{strings.TrimPrefix(name, "/"), "ends, and hasn't begun"}
		case !known:
			err = s.skip(t.text)
		case seen[name] && name != fileElement:
			return &ForgedError{name, "begins more than once"}
		case !blockElements[name] && s.holdsTags(t.text):
			return &ForgedError{name, "holds tags"}
		default:
			seen[name] = true
			err = s.store(target, t.text)
		}
		if errors.Is(err, errTruncated) && whole {
			return &ForgedError{name, "doesn't end"}
		} else if err != nil {
			return err
		}
	}
}

// holdsTags reports whether another tag than its end tag follows the start tag that was just read. It reads nothing.
func (s *scanner) holdsTags(tag string) bool {
	look := *s
	for !strings.HasSuffix(tag, "/") {
		if t, err := look.next(); err != nil || t.tag {
			return err == nil && t.text != "/"+tag
		}
	}
	return false
}
