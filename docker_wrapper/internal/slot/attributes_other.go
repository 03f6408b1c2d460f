//go:build !linux

package slot

// stripAttributes does nothing: only on Linux do we remove extended attributes.
func stripAttributes(string) error { return nil }
