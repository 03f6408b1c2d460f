// Package slot separates the two kinds of files in a slot directory: BOINC's and the job's.
//
// The container never sees the slot. It sees a payload directory inside it. The job's files are moved there before the
// start and back after the end. The payload holds only a redacted copy of init_data.xml, which contains the account
// key. The container can't change any file that the client or the wrapper trusts. Both moves can be interrupted at any
// point and repeated.
package slot
