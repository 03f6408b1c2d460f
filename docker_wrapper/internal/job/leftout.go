package job

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxLeftOut     = 20  // names in a LeftOut
	maxLeftOutName = 200 // bytes of a name
)

// LeftOut lists the job's files that were not copied or moved, for the log. The job chooses the names, so the list is
// bounded: it has the first 20 names, each cut to 200 bytes, and the number of the others. The zero value is empty.
type LeftOut struct {
	names []string
	more  int // number of files beyond names
}

// Add adds a file's name.
func (l *LeftOut) Add(name string) {
	if len(l.names) == maxLeftOut {
		l.more++
		return
	}
	if len(name) > maxLeftOutName {
		name = strings.ToValidUTF8(name[:maxLeftOutName], "") + "..."
	}
	l.names = append(l.names, name)
}

// Names returns the names, and "and N more" if there are others.
func (l *LeftOut) Names() []string {
	if l.more == 0 {
		return l.names
	}
	return append(slices.Clip(l.names), fmt.Sprintf("and %d more", l.more))
}
