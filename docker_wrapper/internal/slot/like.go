package slot

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"boincdocker/docker_wrapper/internal/job"
)

// maxLike is how many files of one name Like returns.
const maxLike = 3

// Like finds files in the slot by their base names, in any case, at most three for each. It leaves out BOINC's files,
// links, and what lies deeper than a client's files do. It helps a person to find a mistake, so errors don't count.
func Like(s job.Slot, names []string) map[string][]string {
	found := map[string][]string{}
	looked := 0
	filepath.WalkDir(s.Dir, func(full string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(s.Dir, full)
		if looked++; looked > maxLooked {
			return fs.SkipAll
		}
		if err != nil || relErr != nil || rel == "." {
			return nil
		}
		name := filepath.ToSlash(rel)
		if job.Reserved(name) || d.IsDir() && strings.Count(name, "/") >= maxDepth {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || slices.ContainsFunc(s.Links, func(l job.Link) bool { return l.Name == name }) {
			return nil
		}
		for _, n := range names {
			if strings.EqualFold(d.Name(), n) && len(found[n]) < maxLike {
				found[n] = append(found[n], name)
			}
		}
		return nil
	})
	return found
}
