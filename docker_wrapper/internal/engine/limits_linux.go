package engine

import (
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// hostLimits is how many open files and processes this process may have: what any other of BOINC's apps gets.
func hostLimits() (list []*container.Ulimit) {
	for _, r := range []struct {
		name string
		what int
	}{{"nofile", unix.RLIMIT_NOFILE}, {"nproc", unix.RLIMIT_NPROC}} {
		var l unix.Rlimit
		if unix.Getrlimit(r.what, &l) == nil {
			list = append(list, &container.Ulimit{Name: r.name, Soft: int64(l.Max), Hard: int64(l.Max)}) // unlimited becomes -1
		}
	}
	return list
}
