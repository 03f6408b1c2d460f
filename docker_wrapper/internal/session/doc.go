// Package session connects one container of a job with its output, its files and the notes of earlier episodes.
//
// A [Keeper] opens a job's sessions, one after the other, and settles what the last one leaves. A [Session] is one
// container that was found, or made and started. It doesn't change after it is returned. No other package keeps a
// container. A [Store] is the only writer of episode.json. From it, from the slot's files and from the engine the next
// episode continues.
package session
