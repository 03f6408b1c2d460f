package host

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Shared reports whether the mount that a directory is in shares further mounts below it with its copies in other mount
// namespaces. known is false if this process can't see that.
func Shared(dir string) (shared, known bool) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, false
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, false
	}
	return sharedIn(string(table), real)
}

// sharedIn reads a table of mounts. The last of several mounts at one place is the one that is seen.
//
// Format: proc_pid_mountinfo(5).
func sharedIn(table, dir string) (shared, known bool) {
	longest := 0
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 7 {
			continue
		}
		at := unescaped(f[4])
		if len(at) < longest || dir != at && !strings.HasPrefix(dir, strings.TrimSuffix(at, "/")+"/") {
			continue
		}
		longest, shared, known = len(at), false, true
		for _, tag := range f[6:] {
			if tag == "-" {
				break
			}
			shared = shared || strings.HasPrefix(tag, "shared:")
		}
	}
	return shared, known
}

// unescaped replaces \040 and the like in a path of the table.
func unescaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
