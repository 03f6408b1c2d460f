// Package resolve follows BOINC's link files: small text files in a slot that name the physical
// file in the project directory.
package resolve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// MaxLinkSize is how many bytes of a file, at most, decide whether it is a link. What comes
// later never counts, so reading this much is enough.
//
// Source: the 512-byte buffer that boinc_resolve_filename hands to fgets.
const MaxLinkSize = 511

const (
	tag        = "<soft_link>"
	whitespace = " \t\n\v\f\r"
)

// Path gives the physical name behind a slot file: what the link file says, or name itself if
// it is no link, is missing, may not be read, or is no regular file. Whether the target exists
// is not looked at, and a target that is itself a link is not followed.
//
// A symbolic link comes back as name, since the system follows it. A relative target is
// relative to the slot, which is every BOINC application's working directory; elsewhere use In.
// A FIFO is never waited for. Errors are an empty name and a failing disk.
func Path(name string) (string, error) {
	target, ok, err := read(name)
	if err != nil {
		return "", err
	}
	if !ok {
		return name, nil
	}
	return target, nil
}

// In is Path for names relative to dir, the slot, when that is not the working directory.
// Relative names and relative targets are joined to dir, also when the link lies in a
// sub-directory of it: that is how BOINC means them. dir should have no symbolic link as its
// last element, because joining removes the ".." of the target without looking at the disk.
func In(dir string) func(name string) (string, error) {
	join := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	return func(name string) (string, error) {
		if name == "" {
			return "", errEmpty
		}
		physical, err := Path(join(name))
		if err != nil {
			return "", err
		}
		return join(physical), nil
	}
}

// Target tells what a link file points to, given the bytes it begins with; ok is false if they
// are no link. More than MaxLinkSize bytes may be given, the rest is not looked at.
//
// The first line, which a NUL ends too, has to hold <soft_link>TARGET< somewhere. White space
// around TARGET is dropped, then &amp; &lt; &gt; &quot; &apos; and &#32; to &#255; (bytes, not
// code points) are decoded; any other & stands for itself. An empty target makes no link.
func Target(firstBytes []byte) (target string, ok bool) {
	line := firstBytes[:min(len(firstBytes), MaxLinkSize)]
	if end := bytes.IndexAny(line, "\n\x00"); end >= 0 {
		line = line[:end]
	}
	_, rest, found := strings.Cut(string(line), tag)
	if !found {
		return "", false
	}
	text, _, closed := strings.Cut(rest, "<")
	text = strings.Trim(text, whitespace)
	if !closed || text == "" {
		return "", false
	}
	return unescape(text), true
}

var errEmpty = errors.New("resolve a file name: the name is empty")

func read(name string) (target string, ok bool, err error) {
	if name == "" {
		return "", false, errEmpty
	}
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return "", false, nil
	}
	// Between the look and the opening a job may have put a FIFO there: don't wait for its writer.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", false, nil // whoever opens the file next gets this error, where it matters
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", false, nil
	}
	first := make([]byte, MaxLinkSize)
	n, err := io.ReadFull(f, first)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", false, fmt.Errorf("resolve %s: %w", name, err)
	}
	target, ok = Target(first[:n])
	return target, ok, nil
}

var entities = map[string]byte{"amp": '&', "lt": '<', "gt": '>', "quot": '"', "apos": '\''}

// unescape decodes in one pass: &amp;lt; is the text "&lt;".
func unescape(s string) string {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "&")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, rest, closed := strings.Cut(after, ";")
		if c, known := entity(name); closed && known {
			out.WriteByte(c)
			s = rest
		} else {
			out.WriteByte('&')
			s = after
		}
	}
}

func entity(name string) (byte, bool) {
	if c, known := entities[name]; known {
		return c, true
	}
	digits, numeric := strings.CutPrefix(name, "#")
	n, err := strconv.ParseUint(digits, 10, 8)
	if !numeric || err != nil || n < ' ' || digits[0] == '0' {
		return 0, false
	}
	return byte(n), true
}
