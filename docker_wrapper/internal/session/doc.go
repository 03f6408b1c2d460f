// Package session is one container of this job, with its output, its payload and its memory of earlier episodes.
//
// A [Keeper] is this job on this computer: it opens sessions, one after the other, and settles what the last one leaves. A
// [Session] is one container that was found or made and started. It is handed over once, and nothing in it changes afterwards.
// No other package holds a container. A [Store] is the only writer of episode.json, which is all that one episode of the job leaves
// to the next and that the engine can't tell.
package session
