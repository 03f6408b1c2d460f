package boincapi

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// The shared segment is eight channels of 1024 bytes, each for messages in one direction. Byte 0 of a
// channel is set by the sender when it is full and cleared by the receiver when it has read; after it
// come up to 1022 bytes of text and a NUL.
//
// Format: SHARED_MEM in BOINC's lib/app_ipc.h.
const (
	segmentSize = 8192
	channelSize = 1024
	maxText     = channelSize - 2
)

// Channels in use; 1 (process_control_reply) and 2 (graphics_request) are not.
const (
	controlChannel     = 0 // client → app
	graphicsChannel    = 3 // app → client
	heartbeatChannel   = 4 // client → app
	statusChannel      = 5 // app → client
	trickleUpChannel   = 6 // app → client
	trickleDownChannel = 7 // client → app
)

// A channel is its 1024 bytes of the segment. The client reads and writes it with plain loads and
// stores. We take the flag and the first three bytes of text as one word, so that on processors that
// reorder stores at least our side never shows, or believes, a flag before its text.
type channel []byte

func channelOf(segment []byte, number int) channel {
	return segment[number*channelSize : (number+1)*channelSize : (number+1)*channelSize]
}

func (c channel) word() *uint32 { return (*uint32)(unsafe.Pointer(&c[0])) }

// wordOf is the first word of a channel with this flag and text.
func wordOf(flag byte, text [3]byte) uint32 {
	return binary.NativeEndian.Uint32([]byte{flag, text[0], text[1], text[2]})
}

func parts(word uint32) (flag byte, text [3]byte) {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], word)
	return b[0], [3]byte(b[1:])
}

func (c channel) full() bool {
	flag, _ := parts(atomic.LoadUint32(c.word()))
	return flag != 0
}

// peek returns the message that waits in the channel, if any.
func (c channel) peek() (text string, ok bool) {
	flag, head := parts(atomic.LoadUint32(c.word()))
	if flag == 0 {
		return "", false
	}
	b := append(head[:], c[4:]...)
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b), true
}

// take empties the channel, leaving the text as the client's own receiver does.
func (c channel) take() {
	_, head := parts(atomic.LoadUint32(c.word()))
	atomic.StoreUint32(c.word(), wordOf(0, head))
}

// send puts text, cut to 1022 bytes, in an empty channel. The word that it returns is for recall.
func (c channel) send(text string) (word uint32, ok bool) {
	if c.full() {
		return 0, false
	}
	var b [channelSize]byte
	n := copy(b[1:channelSize-1], text)
	copy(c[4:], b[4:max(n+2, 4)])
	word = wordOf(1, [3]byte(b[1:4]))
	atomic.StoreUint32(c.word(), word)
	return word, true
}

// recall takes back an own message that nobody has read, given the word that send returned. It
// reports false if the receiver was first; the channel is empty in both cases.
func (c channel) recall(word uint32) bool {
	_, head := parts(word)
	return atomic.CompareAndSwapUint32(c.word(), word, wordOf(0, head))
}
