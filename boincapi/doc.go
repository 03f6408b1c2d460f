// Package boincapi is the BOINC application runtime API for Go programs: what a program that the
// BOINC client starts in a slot directory needs in order to hear the client, to report to it and
// to end the way it expects.
package boincapi
