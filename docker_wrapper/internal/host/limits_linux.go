package host

import "golang.org/x/sys/unix"

// Limits are the hard limits of this process on open files and processes. BOINC's other apps have the same.
func Limits() (list []Limit) {
	for _, r := range []struct {
		name string
		what int
	}{{"nofile", unix.RLIMIT_NOFILE}, {"nproc", unix.RLIMIT_NPROC}} {
		var l unix.Rlimit
		if unix.Getrlimit(r.what, &l) == nil {
			list = append(list, Limit{Name: r.name, Max: int64(l.Max)}) // RLIM_INFINITY becomes -1
		}
	}
	return list
}
