// Package boincapi is the BOINC application runtime API for Go programs: what a program that the
// BOINC client starts in a slot directory needs in order to hear the client, to report to it and
// to end the way it expects.
//
// # Life of an app
//
// The client starts the app with the slot directory as the current one, after it has written
// init_data.xml there and made a segment of shared memory. The app calls [Start], which takes the
// slot's lock and attaches the segment. From then on, [App.Status] says whether the client wants it to
// compute, to be suspended, to quit (and be started again later) or to abort, and [App.Report] tells
// the client how far it is. The app ends in one of four ways:
//
//   - [App.Finish]: the job is done, or has failed for good. Exit code 0 without it is not success.
//   - [App.TemporaryExit]: it can't go on now; the client starts it again after a delay.
//   - [App.Close] and exit code 0, after Status.Quit or Status.ClientLost.
//   - after Status.Abort, any exit will do.
//
// An exit code other than 0 without Finish fails the job, and so does a panic. Without init_data.xml
// the app is standalone: the same calls do nothing but to leave the finish file.
//
// The example of this package is a whole app. By hand, remove boinc_finish_called before the next run.
//
// The package never logs and never exits the process. The wire is that of BOINC 7.20 to 8.3.
package boincapi
