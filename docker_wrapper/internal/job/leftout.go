package job

import (
	"fmt"
	"strings"
)

const (
	maxLeftOut     = 20  // names in a LeftOut
	maxLeftOutName = 200 // bytes of a name
)

// Left is a file of the job that was not copied, moved or delivered, and the reason.
type Left struct{ Name, Why string }

// LeftOut lists the job's files that were not copied or moved, for the log. The job chooses the names, so the list is
// bounded: it has the first 20 files, their names cut to 200 bytes, and the number of the others. The zero value is
// empty.
type LeftOut struct {
	files []Left
	more  int // number of files beyond
}

// Add adds a file.
func (l *LeftOut) Add(name, why string) {
	if len(l.files) == maxLeftOut {
		l.more++
		return
	}
	l.files = append(l.files, Left{short(name), why})
}

// short cuts a name that the job chose.
func short(name string) string {
	if len(name) > maxLeftOutName {
		return strings.ToValidUTF8(name[:maxLeftOutName], "") + "..."
	}
	return name
}

// Files returns the files, and "and N more" if there are others.
func (l *LeftOut) Files() []Left {
	if l.more == 0 {
		return l.files
	}
	return append(l.files[:len(l.files):len(l.files)], Left{fmt.Sprintf("and %d more", l.more), "as for those"})
}
