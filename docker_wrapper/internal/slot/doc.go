// Package slot keeps the two sides of a slot directory apart: what is BOINC's and what is the job's.
//
// The container never sees the slot. It sees a payload directory inside it, to which the job's files
// are moved before the start and from which they are moved back after the end. init_data.xml, which
// holds the account key, is there only in a redacted form; what the client or the wrapper trusts
// stays out of the container's reach. Both moves can be broken off at any point and done again.
package slot
