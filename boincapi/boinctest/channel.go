package boinctest

import (
	"bytes"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"
)

// Offsets of the channels in the segment. The code here is the client's side, written independently of
// the app's: a flag byte, then text and a NUL in at most 1023 bytes.
const (
	control       = 0
	graphicsReply = 3072
	heartbeat     = 4096
	appStatus     = 5120
	trickleUp     = 6144
	trickleDown   = 7168

	segmentSize = 8192
	maxText     = 1022
)

// head is the word that has the flag in its lowest byte, on the little-endian machines that BOINC runs
// on. It is changed as a whole, so that the race detector and processors that reorder stores see what
// the app sees.
func head(segment []byte, at int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&segment[at]))
}

func send(segment []byte, at int, text string) bool {
	word := head(segment, at)
	if word.Load()&0xff != 0 {
		return false
	}
	b := make([]byte, 4, maxText+2)
	b = append(b[:1], text[:min(len(text), maxText)]...)
	b = append(b, 0, 0, 0, 0)
	copy(segment[at+4:at+maxText+2], b[4:])
	word.Store(1 | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
	return true
}

func receive(segment []byte, at int) (text string, ok bool) {
	word := head(segment, at)
	w := word.Load()
	if w&0xff == 0 {
		return "", false
	}
	b := append([]byte{byte(w >> 8), byte(w >> 16), byte(w >> 24)}, segment[at+4:at+maxText+2]...)
	word.Store(w &^ 0xff)
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b), true
}

// numberIn reads the number after the first <tag>; it must end at the next tag.
func numberIn(text, tag string) (float64, bool) {
	_, after, found := strings.Cut(text, "<"+tag+">")
	digits, _, _ := strings.Cut(after, "<")
	x, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	return x, found && err == nil
}

func stringIn(text, tag string) (string, bool) {
	_, after, found := strings.Cut(text, "<"+tag+">")
	value, _, _ := strings.Cut(after, "<")
	return strings.TrimSpace(value), found
}
