// Package job says WHAT is to be done: it reads job.toml and turns it, together with what the BOINC
// client told about the job, into a plan that is never changed again. It is pure: no network, no
// engine, no clock, and no file is opened.
package job
