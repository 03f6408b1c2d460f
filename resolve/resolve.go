// Package resolve follows BOINC's link files: small text files in a slot that name the physical
// file in the project directory.
package resolve
